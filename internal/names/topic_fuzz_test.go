package names

import "testing"

// FuzzMatch holds Match and both indexes to the rule as it is written.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"#", "a"}, {"+/b", "a/b"}, {"a/#", "a"}, {"$SYS/+", "$SYS/x"}, {"/", "//"}, {"a//b", "a//b"}, {"+", "$a"},
		{"$share/g/a", "a"}, {"a+", "a"}, {"\xff", "\x00"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		group, rest, shared, err := ParseShare(filter)
		if (err != nil || shared && group == "") && CheckFilter(filter) == nil {
			t.Fatalf("CheckFilter takes %q, ParseShare does not: %v", filter, err)
		}
		if CheckFilter(filter) != nil || CheckName(name) != nil {
			return
		}
		want := naive(rest, name)
		if Match(rest, name) != want {
			t.Fatalf("%q, %q: not %v", rest, name, want)
		}
		var trie Trie[int]
		trie.Add(rest, 1)
		found := 0
		trie.Match([]byte(name), func(int) { found++ })
		var names Names[int]
		names.Set([]byte(name), 1)
		names.Match(rest, func(got []byte, _ int) bool {
			if string(got) != name {
				t.Fatalf("%q comes back as %q", name, got)
			}
			found++
			return true
		})
		if want && found != 2 || !want && found != 0 {
			t.Fatalf("%q, %q: want %v, found %d times", rest, name, want, found)
		}
		if !trie.Remove(rest, 1) || !names.Delete([]byte(name)) {
			t.Fatal("not there any more")
		}
	})
}

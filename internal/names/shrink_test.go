package names

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// TestMemoryIsGivenBack is D1: what filters and names took is given back when they are gone, and what is left of them
// is found as before.
func TestMemoryIsGivenBack(t *testing.T) {
	var trie Trie[int]
	var names Names[int]
	const count = 20_000
	filter := func(i int) string { return fmt.Sprintf("a/%d/+/%d/#", i%100, i) }
	name := func(i int) []byte { return fmt.Appendf(nil, "a/%d/x/%d", i%100, i) }
	for i := range count {
		trie.Add(filter(i), i)
		trie.Add("all/+", i)
		names.Set(name(i), i)
	}
	full := [...]int{len(trie.tree.nodes), len(trie.tree.table), cap(trie.tree.text), len(trie.entries),
		len(names.tree.nodes), len(names.tree.table), cap(names.tree.text), len(names.values)}
	left := map[int]bool{}
	for i := range count {
		if i%50 == 7 {
			left[i] = true
			continue
		}
		if !trie.Remove(filter(i), i) || !trie.Remove("all/+", i) || !names.Delete(name(i)) {
			t.Fatalf("%d was not there", i)
		}
	}
	now := [...]int{len(trie.tree.nodes), len(trie.tree.table), cap(trie.tree.text), len(trie.entries),
		len(names.tree.nodes), len(names.tree.table), cap(names.tree.text), len(names.values)}
	for i := range now {
		if now[i] > full[i]/4 {
			t.Errorf("table %d has %d of %d places", i, now[i], full[i])
		}
	}
	for i := range count {
		got := map[int]bool{}
		trie.Match(name(i), func(v int) { got[v] = true })
		want := map[int]bool{}
		if left[i] {
			want[i] = true
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%s matches %v", name(i), got)
		}
		if v, ok := names.Get(name(i)); ok != left[i] || ok && v != i {
			t.Fatalf("%s is %d, %v", name(i), v, ok)
		}
	}
	var all, found []int
	trie.Match([]byte("all/x"), func(v int) { all = append(all, v) })
	names.Match("a/#", func(_ []byte, v int) bool { found = append(found, v); return true })
	slices.Sort(all)
	slices.Sort(found)
	if want := slices.Sorted(maps.Keys(left)); !slices.Equal(all, want) || !slices.Equal(found, want) {
		t.Errorf("%d values and %d names are left, want %d", len(all), len(found), len(want))
	}
	for i := range left { // and all of it can go
		if !trie.Remove(filter(i), i) || !trie.Remove("all/+", i) || !names.Delete(name(i)) {
			t.Fatalf("%d was not there", i)
		}
	}
	if trie.Len() != 0 || names.Len() != 0 {
		t.Error("something is left")
	}
}

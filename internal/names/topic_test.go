package names

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
)

// naive is the rule of section 4.7 as it is written, level by level.
func naive(filter, name string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	if strings.HasPrefix(name, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return len(n) >= i
		}
		if i >= len(n) || level != "+" && level != n[i] {
			return false
		}
	}
	return len(f) == len(n)
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true}, // section 4.7.1.2
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player11", false},
		{"sport/#", "sport", true},
		{"#", "a/b/c", true},
		{"#", "/", true},
		{"sport/tennis/+", "sport/tennis/player1", true}, // section 4.7.1.3
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+/tennis/#", "sport/tennis", true},
		{"#", "$SYS/broker", false}, // [MQTT-4.7.2-1]
		{"+/broker", "$SYS/broker", false},
		{"+/#", "$SYS", false},
		{"$SYS/#", "$SYS/broker", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/broker", true},
		{"a/+", "a/$b", true},
		{"a/#", "a/$b", true},
		{"Accounts", "ACCOUNTS", false}, // section 4.7.3: case, spaces and slashes matter
		{"Accounts payable", "Accounts payable", true},
		{"/finance", "finance", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a/b", "a/b/", false},
		{"a/b/", "a/b", false},
		{"a/b/c", "a/b", false},
		{"+/+/#", "a", false},
		{"+/+/#", "a/b", true},
	} {
		if got := Match(tt.filter, tt.name); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.filter, tt.name, got)
		}
		if got := naive(tt.filter, tt.name); got != tt.want {
			t.Errorf("the naive matcher says %v of %q, %q", got, tt.filter, tt.name)
		}
		if got := Match([]byte(tt.filter), []byte(tt.name)); got != tt.want {
			t.Errorf("Match of bytes %q, %q = %v", tt.filter, tt.name, got)
		}
	}
}

func TestCheck(t *testing.T) {
	deep := strings.Repeat("/", MaxLevels-1)
	for _, tt := range []struct {
		s            string
		name, filter bool
	}{
		{"a", true, true},
		{"/", true, true},
		{"//", true, true},
		{"a b/ü/日本", true, true},
		{"\ufeffa", true, true}, // [MQTT-1.5.4-3] a BOM is a character
		{"$SYS/x", true, true},
		{"", false, false},
		{"a\x00b", false, false},
		{"a\xff", false, false},
		{"a\xed\xa0\x80", false, false}, // a surrogate
		{"\xc0\x80", false, false},      // U+0000, too long a form
		{"a/+", false, true},
		{"+", false, true},
		{"#", false, true},
		{"a/#", false, true},
		{"+/+/#", false, true},
		{"a+", false, false},
		{"+a", false, false},
		{"a/b+/c", false, false},
		{"a#", false, false},
		{"a/#b", false, false},
		{"#/a", false, false},
		{"a/#/b", false, false},
		{"a/#/", false, false},
		{"##", false, false},
		{"++", false, false},
		{deep, true, true},
		{deep + "/", false, false},
		{strings.Repeat("a", MaxLength), true, true},
		{strings.Repeat("a", MaxLength+1), false, false},
		{strings.Repeat("/", MaxLength), false, false},
		{"$share/g/a/+/#", false, true},
		{"$share//a", true, false},
		{"$share/g", true, false},
		{"$share/g/", true, false},
		{"$share/+/a", false, false},
		{"$share/g#/a", false, false},
		{"$share/g/a#", false, false},
		{"$share/g/#/a", false, false},
		{"$shared/g", true, true},
	} {
		err := CheckName([]byte(tt.s))
		if (err == nil) != tt.name || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckName(%.40q): %.150v", tt.s, err)
		}
		err = CheckFilter([]byte(tt.s))
		if (err == nil) != tt.filter || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckFilter(%.40q): %.150v", tt.s, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("CheckFilter(%.40q): an error of %d bytes", tt.s, len(err.Error()))
		}
	}
}

func TestParseShare(t *testing.T) {
	for _, tt := range []struct {
		filter, group, rest string
		shared, ok          bool
	}{
		{"a/b", "", "a/b", false, true},
		{"$share", "", "$share", false, true},
		{"$share/g/a/b", "g", "a/b", true, true},
		{"$share/g//", "g", "/", true, true},
		{"$share/my group/#", "my group", "#", true, true},
		{"$share/g/$SYS/#", "g", "$SYS/#", true, true},
		{"$share/g", "", "", true, false},
		{"$share/g/", "", "", true, false},
		{"$share//x", "", "", true, false},
		{"$share/+/x", "", "", true, false},
		{"$share/g/x#", "", "", true, false},
	} {
		group, rest, shared, err := ParseShare(tt.filter)
		if group != tt.group || rest != tt.rest || shared != tt.shared || (err == nil) != tt.ok {
			t.Errorf("ParseShare(%q) = %q, %q, %v, %v", tt.filter, group, rest, shared, err)
		}
	}
}

// word gives names and filters of few levels from few words, so that they often meet.
type word struct{ rng *rand.Rand }

func (w word) name() string {
	levels := make([]string, 1+w.rng.IntN(5))
	for i := range levels {
		levels[i] = []string{"", "a", "b", "c", "$x", "long level name"}[w.rng.IntN(6)]
	}
	if name := strings.Join(levels, "/"); name != "" {
		return name
	}
	return "a"
}

func (w word) filter() string {
	levels := strings.Split(w.name(), "/")
	for i := range levels {
		if w.rng.IntN(3) == 0 {
			levels[i] = "+"
		}
	}
	switch w.rng.IntN(5) {
	case 0:
		levels = append(levels, "#")
	case 1:
		levels[len(levels)-1] = "#"
	}
	return strings.Join(levels, "/")
}

func TestMatchIsNaive(t *testing.T) {
	w := word{rand.New(rand.NewPCG(1, 2))}
	matched := 0
	for range 50_000 {
		filter, name := w.filter(), w.name()
		want := naive(filter, name)
		if got := Match(filter, name); got != want {
			t.Fatalf("Match(%q, %q) = %v", filter, name, got)
		}
		if want {
			matched++
		}
	}
	if matched < 1000 {
		t.Fatalf("only %d matches: the test says nothing", matched)
	}
}

func TestStem(t *testing.T) {
	w := word{rand.New(rand.NewPCG(3, 4))}
	for range 30_000 {
		filter, name := w.filter(), w.name()
		stem := Stem(filter)
		if below := stem == "" || name == stem || strings.HasPrefix(name, stem+"/"); naive(filter, name) && !below {
			t.Fatalf("%q matches %q, whose stem is %q", filter, name, stem)
		}
	}
	for filter, want := range map[string]string{
		"a/b/+/c": "a/b", "a/#": "a", "#": "", "+/b": "", "a/b": "a/b", "a//#": "a/", "/+": "", "//+": "/",
	} {
		if got := Stem(filter); got != want {
			t.Errorf("Stem(%q) = %q, want %q", filter, got, want)
		}
	}
}

// model is the Trie as a plain set.
type model map[string]map[int]bool

func (m model) match(name string) (values []int) {
	for filter, set := range m {
		if naive(filter, name) {
			for v := range set {
				values = append(values, v)
			}
		}
	}
	slices.Sort(values)
	return values
}

func TestTrieIsNaive(t *testing.T) {
	for seed := range uint64(4) {
		w := word{rand.New(rand.NewPCG(seed, 5))}
		var trie Trie[int]
		m, pairs := model{}, 0
		for step := range 4000 {
			filter, v := w.filter(), w.rng.IntN(3)
			if w.rng.IntN(50) == 0 {
				v = w.rng.IntN(200) // now and then many values to a filter
				filter = "a/+"
			}
			if m[filter] == nil {
				m[filter] = map[int]bool{}
			}
			add := w.rng.IntN(2) == 0
			if step > 3000 {
				add = false // the end empties it
			}
			if add {
				if got := trie.Add(filter, v); got == m[filter][v] {
					t.Fatalf("Add(%q, %d) = %v", filter, v, got)
				} else if got {
					pairs++
				}
				m[filter][v] = true
			} else {
				if got := trie.Remove(filter, v); got != m[filter][v] {
					t.Fatalf("Remove(%q, %d) = %v", filter, v, got)
				} else if got {
					pairs--
				}
				delete(m[filter], v)
			}
			if trie.Len() != pairs {
				t.Fatalf("Len() = %d, want %d", trie.Len(), pairs)
			}
			if step%20 == 0 {
				compare(t, &trie, m, w.name())
			}
		}
		emptyTrie(t, &trie, m)
	}
}

func compare(t *testing.T, trie *Trie[int], m model, name string) {
	t.Helper()
	var got []int
	trie.Match([]byte(name), func(v int) { got = append(got, v) })
	slices.Sort(got)
	if want := m.match(name); !slices.Equal(got, want) {
		t.Fatalf("Match(%q) = %v, want %v", name, got, want)
	}
}

// emptyTrie removes all that is left: nothing but the root may remain in use.
func emptyTrie(t *testing.T, trie *Trie[int], m model) {
	t.Helper()
	for filter, set := range m {
		for v := range set {
			if !trie.Remove(filter, v) {
				t.Fatalf("Remove(%q, %d): not there", filter, v)
			}
		}
	}
	free := 0
	for n := trie.tree.free; n != 0; n = trie.tree.nodes[n].parent {
		free++
	}
	nodes := len(trie.tree.nodes)
	if trie.Len() != 0 || trie.tree.used != 0 || trie.tree.nodes[0].kids != 0 || free != nodes-1 || len(trie.large) != 0 {
		t.Fatalf("%d pairs, %d edges, %d of %d nodes free, %d maps", trie.Len(), trie.tree.used, free, nodes, len(trie.large))
	}
}

func TestTrieDepth(t *testing.T) {
	var trie Trie[int]
	all := strings.Repeat("+/", MaxLevels-1) + "+"
	trie.Add(all, 1)
	trie.Add(strings.Repeat("a/", MaxLevels-1)+"a", 2)
	got := 0
	trie.Match([]byte(strings.Repeat("a/", MaxLevels-1)+"a"), func(int) { got++ })
	if got != 2 {
		t.Fatalf("%d matches", got)
	}
	trie.Match([]byte(strings.Repeat("a/", MaxLength/2)), func(int) { t.Fatal("a match of a deeper name") })
}

func TestTrieText(t *testing.T) {
	var trie Trie[int]
	w := word{rand.New(rand.NewPCG(9, 9))}
	m := model{}
	for i := range 20_000 { // turn over far more text than stays
		filter := fmt.Sprintf("device/%d/%s", i, w.filter())
		trie.Add(filter, i)
		if i%10 == 0 {
			m[filter] = map[int]bool{i: true}
		} else if !trie.Remove(filter, i) {
			t.Fatal(filter)
		}
	}
	if most := 300_000; len(trie.tree.text) > most {
		t.Errorf("%d bytes of text are kept", len(trie.tree.text))
	}
	for i := 0; i < 20_000; i += 10 {
		var got []int
		name := ""
		for filter := range m {
			if m[filter][i] {
				name = strings.NewReplacer("+", "x", "/#", "/y/z").Replace(filter)
			}
		}
		if i%1000 == 0 {
			trie.Match([]byte(name), func(v int) { got = append(got, v) })
			if !slices.Equal(got, []int{i}) {
				t.Fatalf("Match(%q) = %v", name, got)
			}
		}
	}
}

func TestNamesIsNaive(t *testing.T) {
	for seed := range uint64(4) {
		w := word{rand.New(rand.NewPCG(seed, 6))}
		var names Names[int]
		m := map[string]int{}
		for step := range 3000 {
			name := w.name()
			_, was := m[name]
			if w.rng.IntN(3) > 0 {
				if got := names.Set([]byte(name), step); got == was {
					t.Fatalf("Set(%q) = %v", name, got)
				}
				m[name] = step
			} else {
				if got := names.Delete([]byte(name)); got != was {
					t.Fatalf("Delete(%q) = %v", name, got)
				}
				delete(m, name)
			}
			want, is := m[name]
			if v, ok := names.Get([]byte(name)); ok != is || v != want || names.Len() != len(m) {
				t.Fatalf("Get(%q) = %d, %v, want %d; Len %d, want %d", name, v, ok, want, names.Len(), len(m))
			}
			if step%20 == 0 {
				compareNames(t, &names, m, w.filter())
			}
		}
		for name := range m {
			names.Delete([]byte(name))
		}
		if names.Len() != 0 || names.tree.used != 0 || names.tree.nodes[0].kids != 0 || names.tree.nodes[0].x.first != 0 {
			t.Fatal("something is left")
		}
	}
}

func compareNames(t *testing.T, names *Names[int], m map[string]int, filter string) {
	t.Helper()
	got := map[string]int{}
	names.Match(filter, func(b []byte, v int) bool {
		name := string(b)
		if _, twice := got[name]; twice {
			t.Fatalf("Match(%q) visits %q twice", filter, name)
		}
		got[name] = v
		return true
	})
	for name, v := range m {
		if gotV, ok := got[name]; ok != naive(filter, name) || ok && gotV != v {
			t.Fatalf("Match(%q): %q is %d, %v", filter, name, gotV, ok)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Fatalf("Match(%q) finds %v", filter, got)
	}
	visits := 0
	names.Match(filter, func([]byte, int) bool { visits++; return false })
	if visits > 1 {
		t.Fatalf("Match(%q) goes on after false", filter)
	}
}

func TestNamesDepth(t *testing.T) {
	var names Names[int]
	deep := strings.Repeat("/", MaxLength-1)
	names.Set([]byte(deep), 7)
	found := 0
	names.Match("#", func(name []byte, v int) bool {
		if string(name) != deep || v != 7 {
			t.Errorf("%d bytes, %d", len(name), v)
		}
		found++
		return true
	})
	if found != 1 || !names.Delete([]byte(deep)) {
		t.Errorf("found %d times", found)
	}
}

func TestMatchAllocs(t *testing.T) {
	var trie Trie[*int]
	v := new(int)
	for _, filter := range []string{"a/+/c", "a/b/c", "#", "+/+/#", "a/b/+", "x/y"} {
		trie.Add(filter, v)
	}
	name, sum := []byte("a/b/c"), 0
	if n := alloctest.PerRun(100, 0, func() { trie.Match(name, func(p *int) { sum += *p + 1 }) }); n != 0 || sum == 0 {
		t.Errorf("%v allocations in Trie.Match", n)
	}
	filter := []byte("a/+/#")
	if n := alloctest.PerRun(100, 0, func() {
		if !Match(filter, name) || CheckName(name) != nil || CheckFilter(filter) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations in Match, CheckName, CheckFilter", n)
	}
	var names Names[int]
	names.Set(name, 1)
	if n := alloctest.PerRun(100, 0, func() { names.Set(name, 2); names.Get(name) }); n != 0 {
		t.Errorf("%v allocations in Names.Set of a known name and Get", n)
	}
}

// TestRelations holds Covers and Overlaps against every name of few levels.
func TestRelations(t *testing.T) {
	var all, filters []string
	var grow func(list *[]string, words []string, depth int, stem string)
	grow = func(list *[]string, words []string, depth int, stem string) {
		for _, word := range words {
			one := stem + word
			if word == "$" && stem != "" {
				continue
			}
			*list = append(*list, one)
			if depth > 1 && word != "#" {
				grow(list, words, depth-1, one+"/")
			}
		}
	}
	grow(&all, []string{"a", "b", "$", ""}, 4, "")
	grow(&filters, []string{"a", "b", "+", "#", "$"}, 3, "")
	matched := map[string][]bool{}
	for _, f := range filters {
		for _, n := range all {
			matched[f] = append(matched[f], n != "" && Match(f, n))
		}
	}
	for _, f := range filters {
		for _, g := range filters {
			covers, overlaps := true, false
			for i := range all {
				covers = covers && (matched[f][i] || !matched[g][i])
				overlaps = overlaps || matched[f][i] && matched[g][i]
			}
			if got := Overlaps(f, g); got != overlaps {
				t.Errorf("Overlaps(%s, %s) is %v", f, g, got)
			}
			unusual := strings.Contains(f, "+/#") && strings.HasSuffix(g, "#")
			if got := Covers(f, g); got != covers && !(unusual && !got) {
				t.Errorf("Covers(%s, %s) is %v", f, g, got)
			}
		}
	}
}

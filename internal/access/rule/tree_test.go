package rule

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/names"
)

// ownRules are 10,000 rules of one user about names, and as many about topics.
func ownRules() *Rights {
	var rules []Rule
	for i := range 10_000 {
		n := strconv.Itoa(i)
		rules = append(rules, allow("User:u", Of(Read, Write), Topic, Filter, "plants/"+n+"/+/state"),
			allow("User:u", Of(Read, Write), Topic, Literal, "topic-"+n))
	}
	return New(rules, plain{}).Rights(&Subject{User: "u", ClientID: "c"})
}

func BenchmarkManyOfOne(b *testing.B) {
	r := ownRules()
	var names [1000][]byte
	for i := range names {
		names[i] = []byte("plants/" + strconv.Itoa(7*i) + "/new/state")
	}
	n := 0
	for name, ask := range map[string]func() bool{
		"name":      func() bool { n++; return r.Name(Write, names[n%len(names)], "plants") },
		"denied":    func() bool { n++; return !r.Name(Write, names[n%len(names)][1:], "lants") },
		"filter":    func() bool { return r.Filter(Read, "plants/9999/+/state") },
		"wide":      func() bool { return r.Filter(Read, "plants/#") },
		"no-filter": func() bool { return !r.Filter(Read, "elsewhere/+/state") },
		"topic":     func() bool { return r.Topic(Read, "topic-77") },
		"no-topic":  func() bool { return !r.Topic(Read, "plants") },
		"some":      func() bool { return r.Some(Write, Topic) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !ask() {
					b.Fatal("wrong")
				}
			}
		})
	}
}

// TestTreeIsAsRulesOneByOne: what the tree says is what each filter says for itself.
func TestTreeIsAsRulesOneByOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	levels := []string{"a", "b", "$x", "", "+"}
	filter := func(wild bool) string {
		parts := make([]string, 1+rng.IntN(3))
		for i := range parts {
			n := len(levels)
			if !wild {
				n--
			}
			parts[i] = levels[rng.IntN(n)]
		}
		if wild && rng.IntN(3) == 0 {
			parts = append(parts[:rng.IntN(len(parts))], "#")
		}
		return strings.Join(parts, "/")
	}
	for range 20_000 {
		x, all := &tree{}, map[string]grants{}
		for range rng.IntN(8) {
			f, g := filter(true), grants{allow: 1 << rng.IntN(4), deny: 1 << rng.IntN(4) & 5}
			if f == "" {
				continue
			}
			x.add(f, g)
			all[f] = all[f].with(g)
		}
		name, question := filter(false), filter(true)
		if name == "" || question == "" {
			continue
		}
		var matching, covering, touching grants
		for f, g := range all {
			if names.Match(f, name) {
				matching = matching.with(g)
			}
			if names.Covers(f, question) {
				covering = covering.with(g)
			}
			if names.Overlaps(f, question) {
				touching = touching.with(g)
			}
		}
		if got := x.covering([]byte(name)); got != matching {
			t.Fatalf("%v of %q: %v, want %v", all, name, got, matching)
		}
		if got := x.covering([]byte(question)); got != covering {
			t.Fatalf("%v cover %q: %v, want %v", all, question, got, covering)
		}
		if got := x.touching([]byte(question)); got != touching {
			t.Fatalf("%v touch %q: %v, want %v", all, question, got, touching)
		}
	}
}

// TestManyTopicsAreAsFew: what many topics may hold is found as it is one by one.
func TestManyTopicsAreAsFew(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var rules []Rule
		for i := range fewTopics + 1 + rng.IntN(10) {
			r := allow("User:u", 1<<(2+rng.IntN(6)), Topic, Literal, string(rune('a'+i)))
			if rng.IntN(4) == 0 {
				r.Effect = Deny
			}
			rules = append(rules, r)
		}
		r := New(rules, plain{}).Rights(&Subject{User: "u"})
		n := r.indexes[0].kinds[Topic]
		alone := *n
		if alone.held = nil; n.held == nil {
			t.Fatal("they are few")
		}
		filter := []string{"#", "+/x", "$a/#", string(rune('a'+rng.IntN(30))) + "/#", "+/+/x"}[rng.IntN(5)]
		for o := All; o <= lastOperation; o++ {
			if got, want := n.heldBy(r, o, filter), alone.heldBy(r, o, filter); got != want {
				t.Fatalf("%v of %q by %v: %v, want %v", o, filter, rules, got, want)
			}
		}
	}
}

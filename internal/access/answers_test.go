package access_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// TestAnswersAreOfTheName asks about more names than are remembered, again and again, from many goroutines.
func TestAnswersAreOfTheName(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Rules: []rule.Rule{mayRead("User:*", "even/#")}})
	p := h.enter("", "", "c")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 2000 {
				i := n % 100
				name := []string{"even", "odd"}[i%2] + fmt.Sprintf("/%d", i)
				if h.reads(p, name) != (i%2 == 0) || h.MayName(p, rule.Write, []byte(name), "") {
					t.Errorf("%s is judged as another one", name)
				}
				topic := strings.TrimSuffix(name, fmt.Sprintf("/%d", i))
				if h.May(p, rule.Read, rule.Topic, topic) != (i%2 == 0) || h.May(p, rule.Write, rule.Topic, topic) {
					t.Errorf("topic %s is judged as another one", topic)
				}
			}
		})
	}
	all.Wait()
}

// TestAnswersAreOfTheRules: what was answered before a change does not outlive it.
func TestAnswersAreOfTheRules(t *testing.T) {
	h := open(t, access.Options{})
	both := mayRead("User:*", "a/#")
	h.apply(access.Change{Rules: []rule.Rule{both}})
	p := h.enter("", "", "c")
	for i := range 5 {
		if !h.reads(p, "a/1") || !h.May(p, rule.Read, rule.Topic, "a") {
			t.Fatalf("round %d: denied, with a rule that allows it", i)
		}
		h.apply(access.Change{Removed: []string{both.ID()}, Rules: []rule.Rule{mayRead("User:*", "b")}})
		if h.reads(p, "a/1") || h.May(p, rule.Read, rule.Topic, "a") {
			t.Fatalf("round %d: allowed, though the rule is gone", i)
		}
		h.apply(access.Change{Rules: []rule.Rule{both}})
	}
}

// moved maps all names to one topic, another one later.
type moved struct{ topic string }

func (m *moved) TopicOf([]byte) string     { return m.topic }
func (m *moved) FiltersOf(string) []string { return nil }

// TestAnswersAreOfTheMapping: a name that goes to another topic of the log is judged by that.
func TestAnswersAreOfTheMapping(t *testing.T) {
	log, err := store.Open(t.Context(), store.Options{FS: vfs.NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	mapping := &moved{topic: "public"}
	a, err := access.Open(t.Context(), access.Options{Log: log, Mapping: mapping})
	if err != nil {
		t.Fatal(err)
	}
	r := mayRead("User:*", "public")
	r.Resource.Pattern = rule.Literal
	if err := a.Apply(t.Context(), &access.Change{Rules: []rule.Rule{r}}); err != nil {
		t.Fatal(err)
	}
	p, err := a.Enter(t.Context(), rule.Subject{ClientID: "c"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() bool { return a.MayName(p, rule.Read, []byte("x"), "") }
	for range 2 {
		if !ask() {
			t.Fatal("denied")
		}
	}
	if a.MayName(p, rule.Read, []byte("x"), "secret") {
		t.Error("what came from another topic is judged as if it went where such names go")
	}
	mapping.topic = "secret"
	a.Remapped()
	if ask() {
		t.Error("still allowed")
	}
}

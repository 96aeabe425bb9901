package access_test

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
)

// TestTryOut: rules that are tried out deny clients nothing of the log, and tell what they would; who somebody is, the
// cluster, what is for Firth itself and the scope of a token are as ever.
func TestTryOut(t *testing.T) {
	h := open(t, access.Options{TryOut: true})
	off := user(t, "off", "x")
	off.Disabled = true
	deny := mayRead("User:*", "secret/#")
	deny.Effect = rule.Deny
	h.apply(access.Change{Users: []*access.User{user(t, "pump", "p"), off},
		Rules: []rule.Rule{mayRead("User:pump", "a/#"), deny}})
	pump := h.enter("pump", "p", "c1")
	if !h.reads(pump, "a/1") || len(h.Attempts()) != 0 {
		t.Errorf("what is allowed is told: %v", h.Attempts())
	}
	for range 3 {
		if !h.reads(pump, "b") {
			t.Fatal("it is denied")
		}
	}
	if !h.reads(pump, "secret/1") || !h.MayFilter(pump, "#") || !h.MayFilter(pump, "c/+") {
		t.Error("it is denied")
	}
	if !h.May(pump, rule.Write, rule.Topic, "t") || !h.May(pump, rule.Read, rule.Group, "g") ||
		!h.May(pump, rule.Write, rule.TransactionalID, "x") || !h.MaySome(pump, rule.Write, rule.Topic) {
		t.Error("a topic, group or transactional id is denied")
	}
	pump.Tried(rule.Write, rule.Topic, "t")
	for kind, name := range map[rule.Kind]string{rule.Topic: rule.InternalPrefix + "audit", rule.User: "User:off",
		rule.Cluster: rule.ClusterName, rule.DelegationToken: "x"} {
		for o := rule.All; o <= rule.TwoPhaseCommit; o++ {
			if h.May(pump, o, kind, name) {
				t.Errorf("%s on %s is let through", o, name)
			}
		}
	}
	if h.May(pump, rule.Read, rule.Topic, access.TopicName) {
		t.Error("the catalog is read")
	}
	if _, err := h.Enter(t.Context(), rule.Subject{User: "pump"}, []byte("wrong")); err == nil {
		t.Error("a wrong password is let through")
	}
	p := h.Admit(rule.Subject{User: "off"})
	if p.Over() == nil || h.reads(p, "b") || h.May(p, rule.Read, rule.Topic, "t") {
		t.Error("who is disabled is let through")
	}
	if p := h.Admit(rule.Subject{User: rule.Anonymous}); h.reads(p, "b") {
		t.Error("who is not known is let through")
	}

	want := []string{"3 pump read names b: allow User:pump read on names b",
		"1 pump read names c/+: allow User:pump read on names c/+",
		"1 pump read names secret/1: deny User:* read on names secret/#",
		"1 pump write topic t: allow User:pump write on topic t"}
	if got := attempts(h); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	fix := mayRead("User:pump", "b")
	h.apply(access.Change{Rules: []rule.Rule{fix}})
	if got := attempts(h); fmt.Sprint(got) != fmt.Sprint(want[1:]) {
		t.Errorf("after a rule: %q", got)
	}
	for i := range 2000 {
		if !h.reads(pump, fmt.Sprintf("many/%d", i)) {
			t.Fatal("it is denied")
		}
	}
	if n := len(h.Attempts()); n > 1000 || n < 900 {
		t.Errorf("%d are remembered", n)
	}
}

func attempts(h *house) (list []string) {
	for _, a := range h.Attempts() {
		text := fmt.Sprintf("%d %s %s %s:", a.Count, a.User, a.Operation, a.On)
		for i := range a.Deniers {
			text += " " + a.Deniers[i].String()
		}
		if fix, is := a.Fix(); is {
			text += " " + fix.String()
		}
		list = append(list, text)
	}
	return list
}

// TestTryOutEnds: when rules come in force, what a pass was let through is denied from then on; when they are tried out
// again, what was tried before is not told.
func TestTryOutEnds(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "pump", "p")}, Rules: []rule.Rule{mayRead("User:pump", "a/#")}})
	pump := h.enter("pump", "p", "c1")
	for round := range 3 {
		if h.reads(pump, "b") || h.May(pump, rule.Read, rule.Group, "g") || h.MayFilter(pump, "b/+") || h.TriesOut() ||
			len(h.Attempts()) > 0 {
			t.Fatalf("round %d: rules are not in force", round)
		}
		h.TryOut(true)
		if !h.reads(pump, "b") || !h.May(pump, rule.Read, rule.Group, "g") || !h.MayFilter(pump, "b/+") || !h.TriesOut() {
			t.Fatalf("round %d: rules are in force", round)
		}
		if got := h.Attempts(); len(got) != 2 || got[0].Count != 1 {
			t.Errorf("round %d: tried %v", round, got)
		}
		h.TryOut(false)
	}
}

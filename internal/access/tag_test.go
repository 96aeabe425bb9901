package access_test

import (
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestTags: what changes a user changes its tag, also a password alone, and a start with the same catalog does not. Who
// changes only what it means changes nothing else.
func TestTags(t *testing.T) {
	h := open(t, access.Options{})
	secret := []byte("0123456789012345678901")
	if err := h.AddUser(t.Context(), access.UserChange{Name: "alice", Password: secret, Generated: true}); err != nil {
		t.Fatal(err)
	}
	tag := func() string { return h.Catalog().UserTag(h.Catalog().User("alice")) }
	first := tag()
	refused := fault.New(fault.Fenced, "test", "another one")
	is := func(want string) access.Only {
		return func(tag string) error {
			if tag != want {
				return refused
			}
			return nil
		}
	}
	again := access.UserChange{Name: "alice", Password: secret, Generated: true, Only: is(first)}
	if err := h.SetUser(t.Context(), again); err != nil || tag() == first {
		t.Errorf("%v: the same password with another salt has the same tag", err)
	}
	if err := h.SetUser(t.Context(), again); !fault.Is(err, fault.Fenced) {
		t.Errorf("changed what was another one: %v", err)
	}
	if err := h.RemoveUserOnly(t.Context(), "alice", is(first)); !fault.Is(err, fault.Fenced) {
		t.Errorf("removed what was another one: %v", err)
	}
	second := tag()
	if h.restart(access.Options{}); tag() != second {
		t.Error("a start changed the tag")
	}
	a := rule.Rule{Effect: rule.Allow, Operations: rule.Of(rule.Read),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "a"}}
	b := a
	b.Resource.Name = "b"
	for _, tc := range []struct {
		only  string
		rules []rule.Rule
		want  int
	}{{"", []rule.Rule{a, b, a}, 2}, {"wrong", nil, 2}, {"now", []rule.Rule{b}, 1}, {"now", nil, 0}} {
		if tc.only == "now" {
			tc.only = access.RulesTag(h.Catalog().RulesOf("Role:r"))
		}
		err := h.SetRules(t.Context(), "Role:r", tc.rules, is(tc.only))
		if got := len(h.Catalog().RulesOf("Role:r")); got != tc.want || (err != nil) != (tc.only == "wrong") {
			t.Errorf("%+v: %d rules, %v", tc, got, err)
		}
	}
	if err := h.SetRules(t.Context(), "r", nil, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("no principal: %v", err)
	}
}

package access_test

import (
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestImport: users of a Mosquitto log in with the passwords that they had; who is there already is not overwritten
// unasked.
func TestImport(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "hers", "admin")}})
	p, err := credential.ParsePassword("$7$101$mzWbRV1MGq0/OrLr$" +
		"QLEF2eX26DotME/+45Zh+0xmPrVs7ruvqdtSCCKKcWwO6fXTC8WRKexFJdhCGTJej6GeE7BExyrWkE8VCtLUXA==")
	if err != nil {
		t.Fatal(err)
	}
	rules := []rule.Rule{mayRead("User:bob", "b/#")}
	both := map[string]credential.Password{"alice": p, "bob": p}
	if err := h.Import(t.Context(), both, rules, false); !fault.Is(err, fault.Exists) {
		t.Errorf("a user is overwritten: %v", err)
	}
	if len(h.Catalog().Users()) != 1 || len(h.Catalog().Rules()) != 0 {
		t.Error("half of it was imported")
	}
	if err := h.Import(t.Context(), both, rules, true); err != nil {
		t.Fatal(err)
	}
	bob := h.enter("bob", "pässword", "")
	if !h.MayName(bob, rule.Read, []byte("b/1"), "b") || h.MayName(bob, rule.Read, []byte("a"), "a") {
		t.Error("the rules are not those of the file")
	}
	if p := h.enter("alice", "pässword", ""); !h.May(p, rule.Alter, rule.Cluster, rule.ClusterName) {
		t.Error("the roles of a user who was there are lost")
	}
	if err := h.Import(t.Context(), map[string]credential.Password{"*": p}, nil, true); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// TestGeneratedPassword: what nobody can guess is let in without a slow hash, by all ways; what is too short is no such
// password.
func TestGeneratedPassword(t *testing.T) {
	h := open(t, access.Options{})
	made := access.UserChange{Name: "meter", Password: []byte("Tmr3_5pWb0iYc8sQ4nUe-A"), Generated: true}
	if err := h.AddUser(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.enter("meter", string(made.Password), "")
	}
	if n := h.Passwords().Stats().Hashed; n != 0 {
		t.Errorf("%d hashes", n)
	}
	if v, is := h.Lookup("meter"); !is || !v.SCRAM256.Verify(made.Password) || !v.SCRAM512.Verify(made.Password) {
		t.Error("it is no password for SCRAM")
	}
	short := access.UserChange{Name: "short", Password: []byte("pencil"), Generated: true}
	if err := h.AddUser(t.Context(), short); !fault.Is(err, fault.Invalid) {
		t.Errorf("a short password is taken for one of chance: %v", err)
	}
}

package access_test

import (
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestAlterSCRAM: a password that a client of Kafka sets is the only one of the user, and lasts.
func TestAlterSCRAM(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "old", "device"), user(t, "bob", "bobs")}})
	scram := func(m credential.Mechanism, password string) []credential.SCRAM {
		s, err := credential.NewSCRAM(m, []byte(password), []byte("0123456789abcdef"), credential.MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		return []credential.SCRAM{s}
	}
	alter := func(user string, set []credential.SCRAM, remove ...credential.Mechanism) error {
		return h.AlterSCRAM(t.Context(), user, set, remove)
	}
	may := func(name, password string) bool {
		_, err := h.Enter(t.Context(), rule.Subject{User: name}, []byte(password))
		return err == nil
	}
	if err := h.AddUser(t.Context(), access.UserChange{Name: "erin", Password: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	if err := alter("erin", scram(credential.SHA256, "new")); err != nil || may("erin", "old") || !may("erin", "new") {
		t.Error(err, "a verifier of the password before stays")
	}
	if err := h.RemoveUser(t.Context(), "erin"); err != nil {
		t.Fatal(err)
	}
	old := h.enter("alice", "old", "")
	for _, name := range []string{"alice", "carol"} {
		if err := alter(name, scram(credential.SHA256, "new")); err != nil {
			t.Fatal(err)
		}
	}
	if old.Over() == nil {
		t.Error("who came with the old password stays")
	}
	h.restart(access.Options{})
	if may("alice", "old") || !may("alice", "new") || !may("carol", "new") {
		t.Error("the password is not the new one")
	}
	if err := alter("alice", scram(credential.SHA512, "newer")); err != nil || !may("alice", "newer") {
		t.Error(err, "a second mechanism's password is none")
	}
	if err := alter("alice", nil, credential.SHA256); err != nil || may("alice", "new") || !may("alice", "newer") {
		t.Error(err, "a password stays that was removed")
	}
	if err := alter("bob", nil, credential.SHA256); !fault.Is(err, fault.NotFound) || !may("bob", "bobs") {
		t.Error(err, "what is not there is removed")
	}
	if err := alter("dave", nil, credential.SHA256); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := alter("*", scram(credential.SHA256, "x")); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	for _, name := range []string{"alice", "carol"} {
		m := map[string]credential.Mechanism{"alice": credential.SHA512, "carol": credential.SHA256}[name]
		if err := alter(name, nil, m); err != nil || may(name, "new") || may(name, "newer") {
			t.Error(err, name)
		}
	}
	if names := h.Names(); !slices.Equal(names, []string{"alice", "bob"}) { // alice has a role
		t.Errorf("there are %v", names)
	}
}

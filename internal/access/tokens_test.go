package access_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

func (h *house) token(t access.Token) string {
	h.t.Helper()
	text, _, err := h.CreateToken(h.t.Context(), t)
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

// TestTokenEndsRights: from the moment that a token ends nothing is allowed by it, by no question, also where the
// connection is still there; another one gives its rights.
func TestTokenEndsRights(t *testing.T) {
	now := time.Unix(1000, 0)
	h := open(t, access.Options{Clock: func() time.Time { return now }})
	h.apply(access.Change{Users: []*access.User{user(t, "root", "secret", "admin")},
		Rules: []rule.Rule{mayRead("Role:reader", "a")}})
	grant := func(ends time.Time) *access.Grant {
		return &access.Grant{User: "pump", Roles: []string{"reader", "consumer"}, Ends: ends}
	}
	may := func(p *access.Pass) [4]bool {
		return [4]bool{h.reads(p, "a"), h.MayFilter(p, "a"), h.May(p, rule.Read, rule.Topic, "t"),
			h.MaySome(p, rule.Read, rule.Group)}
	}
	all := [4]bool{true, true, true, true}
	p := h.AdmitBy(rule.Subject{ClientID: "c"}, grant(now.Add(time.Minute)))
	if got := may(p); got != all || p.Over() != nil {
		t.Errorf("before its end: %v, %v", got, p.Over())
	}
	for range 2 {
		now = now.Add(time.Minute)
		if got := may(p); got != [4]bool{} || p.Over() == nil {
			t.Errorf("at its end: %v, %v", got, p.Over())
		}
	}
	if err := p.Renew(grant(now.Add(time.Minute))); err != nil || may(p) != all {
		t.Errorf("with another token: %v, %v", may(p), err)
	}
}

// TestTokens: a token may do what its owner may and its scope allows, nothing else, also after a restart.
func TestTokens(t *testing.T) {
	h := open(t, access.Options{})
	deny := mayRead("User:alice", "secret/x")
	deny.Effect = rule.Deny
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret"), user(t, "root", "secret", "admin")},
		Rules: []rule.Rule{mayRead("User:alice", "a/#"), mayRead("User:alice", "secret/#"), deny, mayRead("Role:r", "+/r"),
			mayRead("User:*", "all")}})
	whole := h.token(access.Token{Owner: "alice"})
	byRole := h.token(access.Token{Owner: "alice", Roles: []string{"r"}})
	byRule := h.token(access.Token{Owner: "alice", Rules: []rule.Rule{mayRead("User:bob", "a/${clientid}"),
		mayRead("User:bob", "secret/#"), mayRead("User:bob", "b")}})
	viewer := h.token(access.Token{Owner: "root", Roles: []string{"viewer"}})
	for range 2 {
		for name, want := range map[string][3]bool{
			"a/b": {true}, "a/r": {true, true}, "a/c": {true, false, true}, "secret/y": {true, false, true}, "secret/x": {},
			"b": {}, "b/r": {}, "all": {true},
		} {
			for i, text := range []string{whole, byRole, byRule} {
				p := h.enter("whoever", text, "c")
				if got := h.reads(p, name); got != want[i] || p.Who().User != "alice" || p.Over() != nil {
					t.Errorf("%s by %d: %v, as %s: %v", name, i, got, p.Who().User, p.Over())
				}
				if gone := h.Recall(rule.Subject{User: "alice", ClientID: "c"}, p.From()); h.reads(gone, name) != want[i] {
					t.Errorf("%s by %d, when it is gone: %v", name, i, !want[i])
				}
			}
		}
		p := h.enter("", viewer, "")
		if h.May(p, rule.Alter, rule.Cluster, rule.ClusterName) || !h.May(p, rule.Describe, rule.Cluster, rule.ClusterName) ||
			h.Operations(p, rule.Cluster, rule.ClusterName).Has(rule.Alter) || h.MayFilter(p, "a/#") ||
			h.MaySome(p, rule.Write, rule.Topic) {
			t.Error("the token of a viewer may do more")
		}
		h.restart(access.Options{})
	}
}

// TestTokensEnd: a token that is revoked, has ended, or whose owner is gone or kept out, ends its connections.
func TestTokensEnd(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := open(t, access.Options{Clock: func() time.Time { return now }})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret"), user(t, "bob", "secret")}})
	off := user(t, "alice", "secret")
	off.Disabled = true
	for name, end := range map[string]func(id string){
		"revoked": func(id string) {
			if err := h.RevokeToken(t.Context(), id); err != nil {
				t.Error(err)
			}
			if err := h.RevokeToken(t.Context(), id); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
		},
		"ended":    func(string) { now = now.Add(time.Hour) },
		"disabled": func(string) { h.apply(access.Change{Users: []*access.User{off}}) },
		"removed": func(string) {
			if err := h.RemoveUser(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
			if n := len(h.Catalog().Tokens()); n != 1 { // that of bob
				t.Errorf("%d tokens are left", n)
			}
			h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
		},
	} {
		h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
		text := h.token(access.Token{Owner: "alice", Ends: now.Add(time.Hour)})
		if len(h.Catalog().Tokens()) == 1 {
			h.token(access.Token{Owner: "bob"})
		}
		p := h.enter("", text, "c")
		if ends := p.Ends(); !ends.Equal(now.Add(time.Hour)) || p.Over() != nil {
			t.Errorf("%s: it ends at %v: %v", name, ends, p.Over())
		}
		id, _ := credential.ProgramTokenID(text)
		end(id)
		if p.Over() == nil || h.reads(p, "a") {
			t.Errorf("%s: its connection goes on", name)
		}
		_, err := h.Enter(t.Context(), rule.Subject{}, []byte(text))
		if name != "disabled" && !errors.Is(err, access.ErrCredentials) {
			t.Errorf("%s: it is good: %v", name, err)
		}
	}
}

func TestBadProgramTokens(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
	if _, _, err := h.CreateToken(t.Context(), access.Token{Owner: "nobody"}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, _, err := h.CreateToken(t.Context(), access.Token{Owner: "alice", Ends: time.Unix(1, 0)}); err == nil {
		t.Error("a token that has ended was made")
	}
	good := h.token(access.Token{Owner: "alice"})
	if len(good) != 52 || !strings.HasPrefix(good, "firth_") {
		t.Errorf("a token of %d bytes", len(good))
	}
	chance := make([]byte, credential.ProgramChance)
	other, _ := credential.NewProgramToken(chance)
	id, _ := credential.ProgramTokenID(good)
	for i := range chance {
		chance[i] = byte(strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", good[6+i]))
	}
	chance[39] = (chance[39] + 1) % 62
	guess, _ := credential.NewProgramToken(chance) // the right name and another secret
	if again, _ := credential.ProgramTokenID(guess); again != id {
		t.Fatalf("%s is not %s", again, id)
	}
	for _, text := range []string{other, guess, good[:51], good + "x", good[:51] + "!", "firth_", strings.ToUpper(good)} {
		if _, err := h.Enter(t.Context(), rule.Subject{User: "alice"}, []byte(text)); !errors.Is(err, access.ErrCredentials) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if h.enter("", good, "").Who().User != "alice" {
		t.Error("the good one is of somebody else")
	}
}

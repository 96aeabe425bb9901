package access_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

func (h *house) delegate(said access.Delegation) *access.Delegation {
	h.t.Helper()
	d, err := h.Delegations().Create(h.t.Context(), said, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// verifies tells whether a token lets in who has its HMAC, by every mechanism.
func (h *house) verifies(d *access.Delegation, mac []byte) bool {
	v, is := h.Delegations().Lookup(d.ID)
	password := []byte(base64.StdEncoding.EncodeToString(mac))
	return is && v.SCRAM256.Verify(password) && v.SCRAM512.Verify(password)
}

// passOf is a connection that has shown a token.
func (h *house) passOf(d *access.Delegation) *access.Pass {
	h.t.Helper()
	g, err := h.Delegations().Grant(d.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.AdmitBy(rule.Subject{Address: netip.MustParseAddr("127.0.0.1")}, g)
}

// TestDelegations: a delegation token is its owner with the rights of the owner, also after a restart; its HMAC is made
// of a file, and good no more with another one.
func TestDelegations(t *testing.T) {
	files := vfs.NewMemory()
	opt := access.Options{FS: files}
	h := open(t, opt)
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret", "r"), user(t, "bob", "secret")},
		Rules: []rule.Rule{mayRead("User:alice", "a"), mayRead("Role:r", "r"), mayRead("User:bob", "b")}})
	if _, err := files.Open(access.DelegationFile); !fault.Is(err, fault.NotFound) {
		t.Errorf("the secret is made before it is needed: %v", err)
	}
	d := h.delegate(access.Delegation{Owner: "alice", Requester: "alice", Renewers: []string{"bob", "bob"}})
	mac := h.Delegations().HMAC(d)
	if len(mac) != 64 || d.Last.Sub(d.Issued) != access.DelegationLife ||
		d.Ends.Sub(d.Issued) != access.DelegationRenewal || !slices.Equal(d.Renewers, []string{"bob"}) {
		t.Errorf("made %+v", d)
	}
	for range 2 {
		p := h.passOf(d)
		if p.Over() != nil || !h.reads(p, "a") || !h.reads(p, "r") || h.reads(p, "b") || p.Who().User != "alice" ||
			p.MayDelegate() || p.By().Actor.Token != d.ID || !p.Ends().Equal(d.Ends) {
			t.Errorf("the token is %+v, over: %v", p.By(), p.Over())
		}
		if !h.verifies(d, mac) || !slices.Equal(h.Delegations().HMAC(d), mac) || h.verifies(d, mac[1:]) {
			t.Error("the HMAC is another one")
		}
		h.restart(opt)
	}
	h.restart(access.Options{}) // a command, say
	if h.Delegations() != nil || len(h.Catalog().Delegations()) != 1 {
		t.Error("there are tokens without a folder, or they were not read")
	}
	if err := files.Remove(access.DelegationFile); err != nil {
		t.Fatal(err)
	}
	h.restart(opt)
	if h.verifies(d, mac) || len(h.Delegations().List()) != 0 {
		t.Error("a token of a secret that is gone is good")
	}
	next := h.delegate(access.Delegation{Owner: "bob", Requester: "alice"})
	if h.verifies(d, mac) || !h.verifies(next, h.Delegations().HMAC(next)) || len(h.Catalog().Delegations()) != 1 {
		t.Error("with another secret, the token of before is there, or the next is not")
	}
}

// TestDelegationSecretDamaged: a node whose secret is not whole does not start.
func TestDelegationSecretDamaged(t *testing.T) {
	h := open(t, access.Options{})
	for _, content := range []string{"", "short", string(make([]byte, 65))} {
		files := vfs.NewMemory()
		if err := vfs.WriteWhole(files, access.DelegationFile, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := access.Open(t.Context(), access.Options{Log: h.log, FS: files}); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	}
}

// TestDelegationsEnd: a token that has ended, was ended, or whose owner is gone, is kept out or has another password,
// lets nobody in, and ends who is there.
func TestDelegationsEnd(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := open(t, access.Options{Clock: func() time.Time { return now }, FS: vfs.NewMemory()})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret"), user(t, "bob", "secret")}})
	off := user(t, "alice", "secret")
	off.Disabled = true
	expire := func(span time.Duration) func(*access.Delegation) {
		return func(d *access.Delegation) {
			if _, err := h.Delegations().Expire(t.Context(), h.Delegations().HMAC(d), "alice", span); err != nil {
				t.Error(err)
			}
		}
	}
	for name, end := range map[string]func(*access.Delegation){
		"at once":      expire(-1),
		"now":          expire(0),
		"ended":        func(*access.Delegation) { now = now.Add(access.DelegationRenewal) },
		"sooner":       func(d *access.Delegation) { expire(time.Minute)(d); now = now.Add(time.Minute) },
		"disabled":     func(*access.Delegation) { h.apply(access.Change{Users: []*access.User{off}}) },
		"password":     func(*access.Delegation) { h.apply(access.Change{Users: []*access.User{user(t, "alice", "new")}}) },
		"of who asked": func(*access.Delegation) { h.apply(access.Change{Users: []*access.User{user(t, "bob", "new")}}) },
		"revoked": func(d *access.Delegation) {
			if err := h.RevokeToken(t.Context(), d.ID); err != nil {
				t.Error(err)
			}
			if err := h.RevokeToken(t.Context(), d.ID); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
		},
		"removed": func(*access.Delegation) {
			if err := h.RemoveUser(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
			h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}}) // somebody else
		},
	} {
		h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
		h.apply(access.Change{Users: []*access.User{user(t, "bob", "secret")}})
		d := h.delegate(access.Delegation{Owner: "alice", Requester: "bob"})
		p := h.passOf(d)
		if err := p.Over(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mac := h.Delegations().HMAC(d)
		end(d)
		if p.Over() == nil || h.verifies(d, mac) {
			t.Errorf("%s: over %v, and lets in: %v", name, p.Over(), h.verifies(d, mac))
		}
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret"), user(t, "bob", "secret")}})
	h.delegate(access.Delegation{Owner: "alice", Requester: "bob"})
	now = now.Add(access.DelegationRenewal - time.Second)
	good := h.delegate(access.Delegation{Owner: "alice", Requester: "bob"})
	now = now.Add(time.Second)
	err := h.Delegations().Sweep(t.Context())
	if left := h.Catalog().Delegations(); err != nil || len(left) != 1 || left[0].ID != good.ID {
		t.Errorf("swept: %v, %d are there", err, len(left))
	}
}

// TestDelegationsRenewed: who may renew and end a token, and until when.
func TestDelegationsRenewed(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	now := begin
	h := open(t, access.Options{Clock: func() time.Time { return now }, FS: vfs.NewMemory()})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
	ds := h.Delegations()
	said := access.Delegation{Owner: "alice", Requester: "carol", Renewers: []string{"bob"}}
	d, err := ds.Create(t.Context(), said, 3*time.Hour)
	if err != nil || !d.Ends.Equal(now.Add(3*time.Hour)) || !d.Last.Equal(d.Ends) {
		t.Fatal(d, err)
	}
	mac := ds.HMAC(d)
	for _, test := range []struct {
		by   string
		mac  []byte
		span time.Duration
		ends time.Duration // since the beginning
		err  error
	}{
		{"alice", mac, time.Hour, time.Hour, nil},
		{"bob", mac, 2 * time.Hour, 2 * time.Hour, nil},
		{"bob", mac, 0, 3 * time.Hour, nil},
		{"alice", mac, 100 * time.Hour, 3 * time.Hour, nil},
		{"carol", mac, 0, 0, access.ErrNotRenewer},
		{"dave", mac, 0, 0, access.ErrNotRenewer},
		{"alice", mac[1:], 0, 0, access.ErrNoDelegation},
		{"alice", nil, 0, 0, access.ErrNoDelegation},
	} {
		ends, err := ds.Renew(t.Context(), test.mac, test.by, test.span)
		if !errors.Is(err, test.err) || err == nil && !ends.Equal(begin.Add(test.ends)) {
			t.Errorf("%s renews by %v: until %v, %v", test.by, test.span, ends, err)
		}
	}
	now = now.Add(3 * time.Hour)
	if _, err := ds.Renew(t.Context(), mac, "alice", 0); !errors.Is(err, access.ErrDelegationEnded) {
		t.Error(err)
	}
	if _, err := ds.Expire(t.Context(), mac, "dave", -1); !errors.Is(err, access.ErrDelegationEnded) {
		t.Error(err)
	}
	for _, bad := range []access.Delegation{{}, {Owner: "alice"}, {Owner: "*", Requester: "alice"},
		{Owner: rule.Anonymous, Requester: "alice"}, {Owner: "alice", Requester: "alice", Renewers: []string{""}}} {
		if _, err := ds.Create(t.Context(), bad, 0); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestMayDelegate: who has proven who it is may ask for delegation tokens, but not by a token of ours: it would lose
// its end and its scope.
func TestMayDelegate(t *testing.T) {
	h := open(t, access.Options{FS: vfs.NewMemory()})
	if h.Admit(rule.Subject{User: rule.Anonymous}).MayDelegate() {
		t.Error("nobody may")
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
	if !h.enter("alice", "secret", "").MayDelegate() || !h.Admit(rule.Subject{User: "alice"}).MayDelegate() {
		t.Error("alice may not")
	}
	if h.enter("", h.token(access.Token{Owner: "alice"}), "").MayDelegate() {
		t.Error("a token of a program may")
	}
	if h.Admit(rule.Subject{User: "nobody"}).MayDelegate() {
		t.Error("who is not there may")
	}
	d := h.delegate(access.Delegation{Owner: "alice", Requester: "alice"})
	answer, _, err := h.Passwords().SCRAM(credential.SHA256, h, nil, netip.Addr{}).
		Step(t.Context(), []byte("n,,n="+d.ID+",r=abcdefgh,tokenauth=true"))
	if err != nil || answer == nil {
		t.Errorf("a token where none are taken has to look as one that is not known: %v", err)
	}
}

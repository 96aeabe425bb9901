package access_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// house is a catalog on a log in memory.
type house struct {
	t   testing.TB
	fs  vfs.FS
	log *store.Store
	*access.Access
}

func open(t testing.TB, opt access.Options) *house {
	h := &house{t: t, fs: vfs.NewMemory()}
	h.start(opt)
	return h
}

func (h *house) start(opt access.Options) {
	h.t.Helper()
	var err error
	h.log, err = store.Open(h.t.Context(), store.Options{FS: h.fs, Logger: logtest.New(h.t)})
	if err != nil {
		h.t.Fatal(err)
	}
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	opt.Log, opt.Mapping = h.log, table
	h.t.Cleanup(func() { _ = h.log.Close() })
	if h.Access, err = access.Open(h.t.Context(), opt); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) restart(opt access.Options) {
	h.t.Helper()
	if err := h.log.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start(opt)
}

func (h *house) apply(c access.Change) {
	h.t.Helper()
	if err := h.Apply(h.t.Context(), &c); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) enter(user, password, client string) *access.Pass {
	h.t.Helper()
	p, err := h.Enter(h.t.Context(), rule.Subject{User: user, ClientID: client}, []byte(password))
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func user(t *testing.T, name, password string, roles ...string) *access.User {
	t.Helper()
	cheap := credential.Params{Memory: 8, Time: 1, Threads: 1}
	v, err := credential.HashPassword([]byte(password), []byte("0123456789abcdef"), cheap)
	if err != nil {
		t.Fatal(err)
	}
	return &access.User{Name: name, Roles: roles, Verifiers: credential.Verifiers{Password: v}}
}

func mayRead(principal, filter string) rule.Rule {
	return rule.Rule{Effect: rule.Allow, Principal: principal, Operations: rule.Of(rule.Read),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: filter}}
}

func (h *house) reads(p *access.Pass, name string) bool {
	return h.MayName(p, rule.Read, []byte(name), "")
}

func TestOpenUntilAskedFor(t *testing.T) {
	h := open(t, access.Options{})
	nobody, named := h.enter("", "", "c"), h.enter("alice", "any", "c")
	for _, p := range []*access.Pass{nobody, named} {
		if !h.reads(p, "a/b") || !h.May(p, rule.Alter, rule.Cluster, rule.ClusterName) || p.Over() != nil {
			t.Error("closed before anybody asked for it")
		}
		if h.May(p, rule.Read, rule.Topic, access.TopicName) || h.Operations(p, rule.Topic, access.TopicName) != 0 {
			t.Error("the catalog is open as a topic")
		}
	}
	h.apply(access.Change{Rules: []rule.Rule{mayRead("User:*", "a/#"), mayRead("User:alice", "b/#")}})
	for _, p := range []*access.Pass{nobody, named, h.enter("", "", "d")} {
		administers := h.May(p, rule.Alter, rule.Cluster, rule.ClusterName)
		if !h.reads(p, "a/b") || h.reads(p, "b/b") || administers || p.Over() != nil {
			t.Error("a rule is not in force at once, or is for a name that nobody proved")
		}
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
	if nobody.Over() == nil || named.Over() == nil {
		t.Error("who did not prove who it is stays when there are users")
	}
	if h.reads(nobody, "a/b") || h.reads(named, "b/b") {
		t.Error("a pass that is over opens doors")
	}
	_, err := h.Enter(t.Context(), rule.Subject{}, nil)
	if !fault.Is(err, fault.Denied) || errors.Is(err, access.ErrCredentials) {
		t.Errorf("who does not say who it is: %v", err)
	}
	rules := h.Catalog().Rules()
	h.apply(access.Change{Leave: []string{"alice"}, Removed: []string{rules[0].ID(), rules[1].ID()}})
	if p := h.enter("", "", "c"); !h.reads(p, "x") {
		t.Error("closed, though there are neither users nor rules")
	}
}

func TestEnter(t *testing.T) {
	h := open(t, access.Options{Anonymous: access.Never})
	if _, err := h.Enter(t.Context(), rule.Subject{User: "alice"}, []byte("x")); !errors.Is(err, access.ErrCredentials) {
		t.Errorf("a user of no catalog: %v", err)
	}
	bound, off := user(t, "bound", "secret"), user(t, "off", "secret")
	bound.ClientID, off.Disabled = "${username}-*", true
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret", "device"), bound, off}})
	for name, one := range map[string]struct {
		user, password, client string
		want                   error
	}{
		"proven":               {user: "alice", password: "secret", client: "x"},
		"wrong password":       {user: "alice", password: "Secret", want: access.ErrCredentials},
		"empty password":       {user: "alice", want: access.ErrCredentials},
		"unknown":              {user: "bob", password: "secret", want: access.ErrCredentials},
		"bound":                {user: "bound", password: "secret", client: "bound-7"},
		"another's client":     {user: "bound", password: "secret", client: "alice", want: errors.ErrUnsupported},
		"disabled":             {user: "off", password: "secret", want: errors.ErrUnsupported},
		"disabled and unknown": {user: "off", password: "x", want: access.ErrCredentials},
	} {
		_, err := h.Enter(t.Context(), rule.Subject{User: one.user, ClientID: one.client}, []byte(one.password))
		switch {
		case one.want == nil && err != nil, one.want != nil && err == nil:
			t.Errorf("%s: %v", name, err)
		case errors.Is(one.want, access.ErrCredentials) != errors.Is(err, access.ErrCredentials):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPassFollows has every change of a user be seen by the pass that it has.
func TestPassFollows(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "one")}, Rules: []rule.Rule{mayRead("Role:r", "a/#")}})
	changes := 0
	h.Watch(func() { changes++ })
	p := h.enter("alice", "one", "c")
	if h.reads(p, "a") {
		t.Error("alice has a role that nobody gave her")
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "one", "r")}})
	if !h.reads(p, "a") || p.Over() != nil {
		t.Error("the role is not in force")
	}
	h.apply(access.Change{Removed: []string{h.Catalog().Rules()[0].ID()}})
	if h.reads(p, "a") {
		t.Error("the rule is in force still")
	}
	gone := user(t, "alice", "one")
	gone.Disabled = true
	h.apply(access.Change{Users: []*access.User{gone}})
	if p.Over() == nil {
		t.Error("who is disabled may stay")
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "two")}})
	if p.Over() == nil {
		t.Error("the old password is good enough")
	}
	p = h.enter("alice", "two", "c")
	h.apply(access.Change{Leave: []string{"alice"}, Users: []*access.User{user(t, "bob", "x")}})
	if p.Over() == nil || changes != 5 {
		t.Errorf("who was removed may stay; %d changes", changes)
	}
}

func TestCatalogOutlivesRestart(t *testing.T) {
	h := open(t, access.Options{})
	alice := user(t, "alice", "secret", "b", "a", "b")
	alice.ClientID = "x*"
	h.apply(access.Change{Users: []*access.User{alice, user(t, "bob", "b")}, Rules: []rule.Rule{mayRead("Role:a", "a/#")}})
	h.apply(access.Change{Leave: []string{"bob"}})
	h.restart(access.Options{})
	all := h.Catalog().Users()
	if len(all) != 1 || all[0].Name != "alice" || all[0].ClientID != "x*" ||
		!slices.Equal(all[0].Roles, []string{"a", "b"}) {
		t.Errorf("users are %v", all)
	}
	if p := h.enter("alice", "secret", "x1"); !h.reads(p, "a/b") || h.reads(p, "b") {
		t.Error("alice has other rights than before")
	}
	answer := h.Explain(rule.Subject{User: "alice"}, rule.Question{Operation: rule.Read,
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "a/x"}})
	if !answer.Allowed || len(answer.Rules) != 1 {
		t.Errorf("explained as %v", answer)
	}
}

// TestNobodyLooksTheSame: who is not there has one salt, before and after a restart.
func TestNobodyLooksTheSame(t *testing.T) {
	h := open(t, access.Options{})
	salt := func() string {
		answer, _, err := h.Passwords().SCRAM(credential.SHA256, h, nil, netip.Addr{}).
			Step(t.Context(), []byte("n,,n=nobody,r=abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(answer), ",")[1]
	}
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
	before := salt()
	h.restart(access.Options{})
	if after := salt(); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestChangesThatAreWrong(t *testing.T) {
	h := open(t, access.Options{})
	for name, c := range map[string]access.Change{
		"no name":      {Users: []*access.User{user(t, "", "x")}},
		"anonymous":    {Users: []*access.User{user(t, rule.Anonymous, "x")}},
		"everybody":    {Users: []*access.User{user(t, "*", "x")}},
		"no role":      {Users: []*access.User{user(t, "a", "x", "")}},
		"a wrong rule": {Rules: []rule.Rule{mayRead("alice", "a/#")}, Users: []*access.User{user(t, "a", "x")}},
	} {
		if err := h.Apply(t.Context(), &c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(h.Catalog().Users()) > 0 {
		t.Error("half of a change is in force")
	}
}

// TestDamageKeepsClosed has a record that is not understood keep the node from starting, unless that is accepted.
func TestDamageKeepsClosed(t *testing.T) {
	for name, strange := range map[string]record.Record{
		"no JSON":              {Key: []byte("rule/x"), Value: []byte("{")},
		"another's id":         {Key: []byte("rule/x"), Value: []byte(mustJSON(t))},
		"another kind":         {Key: []byte("what/x"), Value: []byte("{}")},
		"a user that is wrong": {Key: []byte("user/x"), Value: []byte(`{"password":"plain"}`)},
	} {
		h := open(t, access.Options{})
		h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
		if err := stream.StoreState(t.Context(), h.log, access.TopicName, []record.Record{strange}); err != nil {
			t.Fatal(err)
		}
		table, _ := hinge.New(nil, hinge.Options{})
		opt := access.Options{Log: h.log, Mapping: table}
		if _, err := access.Open(context.Background(), opt); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		opt.AcceptDamage = true
		if a, err := access.Open(context.Background(), opt); err != nil || a.AnonymousMay() {
			t.Errorf("%s: %v, or open to all", name, err)
		}
	}
}

// TestDamageOfAllKeepsClosed: what is left of the catalog is nothing, and it is not open to all.
func TestDamageOfAllKeepsClosed(t *testing.T) {
	h := open(t, access.Options{})
	strange := record.Record{Key: []byte("user/x"), Value: []byte("{")}
	if err := stream.StoreState(t.Context(), h.log, access.TopicName, []record.Record{strange}); err != nil {
		t.Fatal(err)
	}
	h.restart(access.Options{AcceptDamage: true})
	if h.AnonymousMay() || !h.Asked() {
		t.Error("it is open to all")
	}
	if _, err := h.Enter(t.Context(), rule.Subject{User: "x"}, []byte("x")); err == nil {
		t.Error("a user who cannot be read gets in")
	}
}

// TestRecall: a will of who was let in before is judged by the rules of now.
func TestRecall(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")},
		Rules: []rule.Rule{mayRead("User:alice", "a"), mayRead("User:pump", "p")}})
	alice, pump := h.Recall(rule.Subject{User: "alice"}, ""), h.Recall(rule.Subject{User: "pump"}, "")
	if !h.reads(alice, "a") || !h.reads(pump, "p") || h.reads(pump, "a") {
		t.Error("it is judged by other rules")
	}
	if nobody := h.Recall(rule.Subject{User: rule.Anonymous}, ""); nobody.Over() == nil {
		t.Error("who never said who it is counts as somebody")
	}
	off := user(t, "alice", "secret")
	off.Disabled = true
	h.apply(access.Change{Users: []*access.User{off}})
	if h.reads(alice, "a") {
		t.Error("who was disabled is heard still")
	}
}

// TestRecallKnowsHowItWas: who is gone is judged by the conditions of rules as it was when it was here. Where nobody
// knows that, what denies holds, and what allows does not.
func TestRecallKnowsHowItWas(t *testing.T) {
	h := open(t, access.Options{})
	if guest := h.enter("alice", "", "c"); guest.From() == "" { // nobody asks for a password yet
		t.Error("it says nothing")
	} else {
		h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret")}})
		h.apply(access.Change{Rules: []rule.Rule{mayRead("User:alice", "a")}})
		if late := h.Recall(rule.Subject{User: "alice"}, guest.From()); late.Over() == nil || h.reads(late, "a") {
			t.Error("who only called itself alice is heard as her")
		}
	}
	limited := func(effect rule.Effect, name string, when rule.Conditions) rule.Rule {
		r := mayRead("User:alice", name)
		r.Effect, r.When = effect, when
		return r
	}
	here, there := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	h.apply(access.Change{Rules: []rule.Rule{
		limited(rule.Allow, "by", rule.Conditions{Listener: "side"}),
		limited(rule.Allow, "from", rule.Conditions{Networks: []netip.Prefix{here}}),
		limited(rule.Allow, "tls", rule.Conditions{Encrypted: true}),
		limited(rule.Allow, "elsewhere", rule.Conditions{Networks: []netip.Prefix{there}}),
		mayRead("User:alice", "open"), limited(rule.Deny, "open", rule.Conditions{Networks: []netip.Prefix{there}}),
		mayRead("User:alice", "shut"), limited(rule.Deny, "shut", rule.Conditions{Networks: []netip.Prefix{here}}),
		mayRead("User:alice", "client"), limited(rule.Deny, "client", rule.Conditions{ClientID: "other"}),
	}})
	who := rule.Subject{User: "alice", ClientID: "c", Listener: "side", Encrypted: true,
		Address: netip.MustParseAddr("192.0.2.7"), CommonName: "alice"}
	from := h.Admit(who).From()
	for name, want := range map[string][2]bool{ // known, not known
		"by": {true}, "from": {true}, "tls": {true}, "elsewhere": {}, "open": {true}, "shut": {}, "client": {true, true},
	} {
		gone := rule.Subject{User: "alice", ClientID: "c"}
		for i, from := range []string{from, ""} {
			if h.reads(h.Recall(gone, from), name) != want[i] {
				t.Errorf("%s, %q: want %v", name, from, want[i])
			}
		}
	}
	for n := range from {
		if h.reads(h.Recall(rule.Subject{User: "alice", ClientID: "c"}, from[:n]), "open") {
			t.Errorf("%d bytes of it allow what is denied to some", n)
		}
	}
}

// TestRecallOfRemoved: a user who was removed is heard no more, though rules name it; one whom a certificate proved
// need not be in the list of users.
func TestRecallOfRemoved(t *testing.T) {
	h := open(t, access.Options{})
	h.apply(access.Change{Users: []*access.User{user(t, "alice", "secret"), user(t, "bob", "secret")},
		Rules: []rule.Rule{mayRead("User:alice", "a"), mayRead("User:pump", "a")}})
	alice := h.enter("alice", "secret", "c").From()
	pump := h.Admit(rule.Subject{User: rule.Anonymous, CommonName: "pump", Encrypted: true}).From()
	recall := func(name, from string) *access.Pass { return h.Recall(rule.Subject{User: name}, from) }
	if !h.reads(recall("alice", alice), "a") || !h.reads(recall("pump", pump), "a") {
		t.Error("who may is not heard")
	}
	if again := recall("alice", alice).From(); again != alice {
		t.Errorf("%q became %q", alice, again)
	}
	h.apply(access.Change{Leave: []string{"alice"}})
	if gone := recall("alice", alice); gone.Over() == nil || h.reads(gone, "a") {
		t.Error("a user who was removed is heard")
	}
	if !h.reads(recall("pump", pump), "a") {
		t.Error("who has a certificate is not heard")
	}
}

// TestRecallOfToken: who came by a token is judged by the roles and groups that it gave when it is gone.
func TestRecallOfToken(t *testing.T) {
	h := open(t, access.Options{})
	denied := mayRead("Group:old", "b")
	denied.Effect = rule.Deny
	h.apply(access.Change{Rules: []rule.Rule{mayRead("Role:reader", "a"), mayRead("User:*", "b"), denied}})
	here := h.AdmitBy(rule.Subject{ClientID: "c"}, &access.Grant{User: "pump", Roles: []string{"reader"},
		Groups: []string{"x", "old"}, Ends: time.Unix(1, 0)})
	if here.Over() == nil {
		t.Error("a token that has ended is good")
	}
	who := rule.Subject{User: "pump", ClientID: "c"}
	if gone := h.Recall(who, here.From()); gone.Over() != nil || !h.reads(gone, "a") || h.reads(gone, "b") {
		t.Error("it is judged as somebody else")
	}
	for n := range here.From() {
		if gone := h.Recall(who, here.From()[:n]); h.reads(gone, "a") {
			t.Errorf("%d bytes of it allow something", n)
		}
	}
	if again := h.Recall(who, here.From()).From(); again != here.From() {
		t.Errorf("%q became %q", here.From(), again)
	}
}

func mustJSON(t *testing.T) string {
	r := mayRead("User:a", "b")
	text, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func BenchmarkMayName(b *testing.B) {
	log, err := store.Open(b.Context(), store.Options{FS: vfs.NewMemory()})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	table, _ := hinge.New(nil, hinge.Options{})
	a, err := access.Open(b.Context(), access.Options{Log: log, Mapping: table})
	if err != nil {
		b.Fatal(err)
	}
	r := mayRead("User:*", "devices/${clientid}/#")
	if err := a.Apply(b.Context(), &access.Change{Rules: []rule.Rule{r}}); err != nil {
		b.Fatal(err)
	}
	p, err := a.Enter(b.Context(), rule.Subject{ClientID: "c1"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	name := []byte("devices/c1/temp")
	for b.Loop() {
		if !a.MayName(p, rule.Read, name, "devices") {
			b.Fatal("denied")
		}
	}
}

// TestCertificates: who shows a certificate and no password is the user of its name.
func TestCertificates(t *testing.T) {
	h := open(t, access.Options{Anonymous: access.Never})
	off := user(t, "off", "x")
	off.Disabled = true
	h.apply(access.Change{Users: []*access.User{user(t, "pump", "secret", "r"), off},
		Rules: []rule.Rule{mayRead("Role:r", "a/#"), mayRead("User:valve", "b/${cert.cn}")}})
	show := func(cn, said string, password []byte) (*access.Pass, error) {
		return h.Enter(t.Context(), rule.Subject{CommonName: cn, User: said, ClientID: "c", Encrypted: true}, password)
	}
	pump, err := show("pump", "", nil)
	if err != nil || pump.Who().User != "pump" || !h.reads(pump, "a/x") {
		t.Errorf("pump: %v", err)
	}
	valve, err := show("valve", "valve", nil)
	if err != nil || valve.Over() != nil || !h.reads(valve, "b/valve") || h.reads(valve, "a/x") {
		t.Errorf("valve: %v", err)
	}
	for _, cn := range []string{"", "*", rule.Anonymous} {
		if _, err := show(cn, "", nil); err == nil {
			t.Errorf("%q is somebody", cn)
		}
	}
	if _, err := show("valve", "pump", nil); err == nil {
		t.Error("a certificate of one proves another")
	}
	if _, err := show("valve", "pump", []byte("wrong")); !errors.Is(err, access.ErrCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if p, err := show("off", "", nil); err == nil && p.Over() == nil {
		t.Error("who is disabled is served by a certificate")
	}
	h.apply(access.Change{Users: []*access.User{user(t, "pump", "another", "r")}})
	if pump.Over() != nil {
		t.Error("another password ends who never had one")
	}
}

package access_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/hook"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// directory is a service that knows users by their passwords.
type directory struct {
	known map[string]hook.Answer // by user and password
	away  error
	asked []hook.Login
}

func (d *directory) Ask(_ context.Context, who hook.Login) (hook.Answer, error) {
	d.asked = append(d.asked, who)
	if d.away != nil {
		return hook.Answer{}, d.away
	}
	for key, answer := range d.known {
		switch {
		case key == who.User+" "+string(who.Password):
			return answer, nil
		case len(key) > len(who.User) && key[:len(who.User)+1] == who.User+" ":
			return hook.Answer{Result: hook.Deny}, nil
		}
	}
	return hook.Answer{Result: hook.Ignore}, nil
}

func mayNotRead(principal, filter string) rule.Rule {
	r := mayRead(principal, filter)
	r.Effect = rule.Deny
	return r
}

// TestServiceAmongOthers: who has a password in the catalog is never asked about, whoever has none is, and what the
// service does not know nobody knows; while it does not answer, only the catalog's users come in.
func TestServiceAmongOthers(t *testing.T) {
	d := &directory{known: map[string]hook.Answer{"hal pod": {Result: hook.Allow}, "local other": {Result: hook.Allow},
		"gone pod": {Result: hook.Allow}, "bare pod": {Result: hook.Allow, Roles: []string{"more"}}}}
	h := open(t, access.Options{Service: d})
	if !h.Asked() || h.AnonymousMay() {
		t.Error("who does not say who it is may do something")
	}
	off := user(t, "gone", "secret")
	off.Disabled = true
	h.apply(access.Change{Users: []*access.User{user(t, "local", "secret"), off, {Name: "bare", Roles: []string{"some"}}}})
	away := fault.New(fault.Unavailable, "test", "away")
	for _, one := range []struct {
		user, password string
		asked          bool
		want, down     string
	}{
		{"local", "secret", false, "in", "in"},
		{"local", "other", false, "wrong", "wrong"},
		{"gone", "secret", false, "refused", "refused"},
		{"gone", "pod", false, "wrong", "wrong"},
		{"hal", "pod", true, "in", "away"},
		{"hal", "x", true, "wrong", "away"},
		{"bare", "pod", true, "in", "away"},
		{"nobody", "x", true, "wrong", "away"},
		{rule.Anonymous, "x", false, "wrong", "wrong"},
		{"*", "x", false, "wrong", "wrong"},
		{"", "x", false, "refused", "refused"},
	} {
		for _, d.away = range []error{nil, away} {
			d.asked = nil
			p, err := h.Enter(t.Context(), rule.Subject{User: one.user, ClientID: "c"}, []byte(one.password))
			got := "refused"
			switch {
			case err == nil && p.Over() == nil:
				got = "in"
			case errors.Is(err, access.ErrCredentials):
				got = "wrong"
			case fault.Is(err, fault.Unavailable):
				got = "away"
			}
			want := one.want
			if d.away != nil {
				want = one.down
			}
			if got != want || one.asked != (len(d.asked) == 1) {
				t.Errorf("%s with %s: %s, want %s; asked %+v: %v", one.user, one.password, got, want, d.asked, err)
			}
		}
	}
	d.away = nil
	p := h.enter("bare", "pod", "c")
	h.apply(access.Change{Rules: []rule.Rule{mayRead("Role:some", "a"), mayRead("Role:more", "b")}})
	if !h.reads(p, "a") || !h.reads(p, "b") || p.Method() != "http" || !p.Proven() || p.MayDelegate() {
		t.Errorf("%s: a %v, b %v", p.Method(), h.reads(p, "a"), h.reads(p, "b"))
	}
}

// TestServiceIsTold: the service hears all that is known of a connection.
func TestServiceIsTold(t *testing.T) {
	d := &directory{}
	h := open(t, access.Options{Service: d})
	who := rule.Subject{User: "hal", ClientID: "c", CommonName: "pump", Address: netip.MustParseAddr("192.0.2.7"),
		Listener: "side", Protocol: "mqtt", Encrypted: true}
	if _, err := h.Enter(t.Context(), who, []byte("pod")); !errors.Is(err, access.ErrCredentials) {
		t.Fatal(err)
	}
	if got := d.asked[0]; got.User != "hal" || string(got.Password) != "pod" || got.ClientID != "c" ||
		got.CommonName != "pump" || got.Address != who.Address || got.Listener != "side" || got.Protocol != "mqtt" ||
		!got.Encrypted {
		t.Errorf("%+v", got)
	}
}

// TestServiceGives: what the service gives is in force for its connection, with the rules of the catalog, until it
// ends or the user is one of the catalog's.
func TestServiceGives(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	hal := hook.Answer{Result: hook.Allow, Roles: []string{"meter"}, Groups: []string{"plant"}, Ends: now.Add(time.Minute),
		Rules: []rule.Rule{mayRead("User:hal", "own/${clientid}/#"), mayNotRead("User:hal", "+/secret")}}
	d := &directory{known: map[string]hook.Answer{"hal pod": hal}}
	h := open(t, access.Options{Service: d, Clock: func() time.Time { return now }})
	h.apply(access.Change{Rules: []rule.Rule{mayRead("Role:meter", "meters/#"), mayRead("Group:plant", "plant/#"),
		mayRead("User:hal", "hal/#"), mayNotRead("Role:meter", "own/c/closed")}})
	want := map[string]bool{"meters/a": true, "plant/a": true, "hal/a": true, "own/c/a": true, "own/d/a": false,
		"meters/secret": false, "own/c/closed": false, "other": false}
	judge := func(what string, p *access.Pass, none bool) {
		t.Helper()
		for name, may := range want {
			if h.reads(p, name) != (may && !none) {
				t.Errorf("%s: %s: %v", what, name, h.reads(p, name))
			}
		}
	}
	p := h.enter("hal", "pod", "c")
	judge("here", p, false)
	late := h.Recall(rule.Subject{User: "hal", ClientID: "c"}, p.From())
	judge("gone", late, false)
	from := p.From()
	for n := range len(from) { // a place that cannot be read gives nothing
		if gone := h.Recall(rule.Subject{User: "hal", ClientID: "c"}, from[:n]); h.reads(gone, "meters/a") ||
			h.reads(gone, "own/c/a") {
			t.Errorf("%d of %d bytes give rights", n, len(from))
		}
	}
	if !p.Ends().Equal(hal.Ends) {
		t.Errorf("it ends at %s", p.Ends())
	}
	now = now.Add(time.Minute)
	if p.Over() == nil {
		t.Error("it goes on")
	}
	judge("gone, and ended", late, false)
	now = now.Add(-time.Minute)
	h.apply(access.Change{Users: []*access.User{user(t, "hal", "secret", "meter")}})
	if p.Over() == nil || late.Over() == nil {
		t.Error("it goes on beside a user of the catalog")
	}
	judge("beside a user of the catalog", p, true)
	judge("gone, beside a user of the catalog", late, true)
	if h.enter("hal", "secret", "c").Method() != "" {
		t.Error("it is still the service that is asked")
	}
}

// TestServiceThatIsWrong: what the service says of roles and groups is looked at as the catalog's is.
func TestServiceThatIsWrong(t *testing.T) {
	d := &directory{known: map[string]hook.Answer{
		"many x":  {Result: hook.Allow, Roles: manyNames(101)},
		"empty x": {Result: hook.Allow, Groups: []string{""}},
	}}
	h := open(t, access.Options{Service: d})
	for _, name := range []string{"many", "empty"} {
		if _, err := h.Enter(t.Context(), rule.Subject{User: name}, []byte("x")); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyNames(n int) (all []string) {
	for i := range n {
		all = append(all, string(rune('0'+i)))
	}
	return all
}

// TestServiceIsSpared: who fails again and again waits longer each time, before the service is asked.
func TestServiceIsSpared(t *testing.T) {
	d := &directory{known: map[string]hook.Answer{"hal pod": {Result: hook.Allow}}}
	h := open(t, access.Options{Service: d})
	for len(d.asked) < 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := h.Enter(ctx, rule.Subject{User: "hal"}, []byte("guess"))
		cancel()
		if fault.Is(err, fault.Timeout) {
			return // it waits
		}
		if !errors.Is(err, access.ErrCredentials) {
			t.Fatal(err)
		}
	}
	t.Errorf("%d guesses were passed on", len(d.asked))
}

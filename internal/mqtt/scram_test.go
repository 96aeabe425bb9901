package mqtt_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// known are users by their names.
type known map[string]*credential.Verifiers

func (k known) Lookup(name string) (*credential.Verifiers, bool) {
	v, is := k[name]
	return v, is
}

// scrams lets a user log in whose name and password are known.
func scrams(t *testing.T) func(*mqtt.Options) {
	t.Helper()
	users := known{"known": {}}
	for _, m := range credential.Mechanisms() {
		s, err := verify.NewSCRAM(m, []byte("pencil"))
		if err != nil {
			t.Fatal(err)
		}
		users["known"].Put(s)
	}
	return func(o *mqtt.Options) {
		o.Mechanisms = mqtt.SCRAM(verify.New(verify.Options{}), users)
		judged(t, o, onlyKnown{})
	}
}

// scramSession is the client's side.
func scramSession(t *testing.T, method, user, password string) (session sasl.Session, first []byte) {
	t.Helper()
	auth := scram.Auth{User: user, Pass: password}
	m := auth.AsSha256Mechanism()
	if method == "SCRAM-SHA-512" {
		m = auth.AsSha512Mechanism()
	}
	session, first, err := m.Authenticate(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return session, first
}

func challenge(t *testing.T, session sasl.Session, data []byte) string {
	t.Helper()
	done, next, err := session.Challenge(data)
	if err != nil || done {
		t.Fatalf("the client: done %v, %v", done, err)
	}
	return string(next)
}

// signed looks at the server's signature.
func signed(t *testing.T, session sasl.Session, data []byte) {
	t.Helper()
	if done, _, err := session.Challenge(data); err != nil || !done {
		t.Errorf("the client does not know the server: done %v, %v", done, err)
	}
}

func (h *house) withSCRAM(t *testing.T, method, name string, first []byte) *raw {
	t.Helper()
	c := h.dial(t)
	c.hello(packet.V5, "me", func(p *packet.Connect) {
		p.Props.SetAuthMethod([]byte(method))
		p.Props.SetAuthData(first)
		p.UserName = []byte(name)
		p.HasUserName = name != ""
	})
	return c
}

// TestSCRAM: a client is known by a password that it does not send, when it connects and later.
func TestSCRAM(t *testing.T) {
	h := open(t, scrams(t))
	for _, method := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		for _, name := range []string{"", "known"} { // in CONNECT
			session, first := scramSession(t, method, "known", "pencil")
			c := h.withSCRAM(t, method, name, first)
			p := want[*packet.Auth](c)
			c.send(authPacket(packet.ContinueAuthentication, method, challenge(t, session, p.Props.AuthData)))
			ack := want[*packet.Connack](c)
			if ack.Reason != packet.Success {
				t.Fatalf("%s: CONNACK %s", method, ack.Reason)
			}
			signed(t, session, ack.Props.AuthData)
			c.published("scram/1", "as someone known", false)

			session, first = scramSession(t, method, "known", "pencil")
			c.send(authPacket(packet.ReAuthenticate, method, string(first)))
			p = want[*packet.Auth](c)
			c.send(authPacket(packet.ContinueAuthentication, method, challenge(t, session, p.Props.AuthData)))
			p = want[*packet.Auth](c)
			if p.Reason != packet.Success {
				t.Fatalf("%s: AUTH %s", method, p.Reason)
			}
			signed(t, session, p.Props.AuthData)
			c.published("scram/1", "as before", false)
			c.send(&packet.Disconnect{})
			c.closed()
		}
	}
}

// TestSCRAMTakesNoSession: who may not have a client identifier does not touch the session of it, whatever it proves.
func TestSCRAMTakesNoSession(t *testing.T) {
	var a *access.Access
	h := open(t, func(o *mqtt.Options) {
		var err error
		if a, err = access.Open(t.Context(), access.Options{Log: o.Log, Mapping: o.Mapping}); err != nil {
			t.Fatal(err)
		}
		all := rule.Rule{Effect: rule.Allow, Principal: rule.Everybody, Operations: rule.Everything,
			Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "#"}}
		if err := a.Apply(t.Context(), &access.Change{Rules: []rule.Rule{all}}); err != nil {
			t.Fatal(err)
		}
		bound := "known-*"
		err = a.AddUser(t.Context(), access.UserChange{Name: "known", Password: []byte("pencil"), ClientID: &bound})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.AddUser(t.Context(), access.UserChange{Name: "me", Password: []byte("mine")}); err != nil {
			t.Fatal(err)
		}
		o.Logins, o.Guard, o.Mechanisms = a, a, mqtt.SCRAM(a.Passwords(), a)
	})
	mine := h.dial(t)
	mine.hello(packet.V5, "me", func(p *packet.Connect) {
		p.HasUserName, p.UserName, p.HasPassword, p.Password = true, []byte("me"), true, []byte("mine")
	})
	want[*packet.Connack](mine)
	mine.subscribe(1, "a/#")
	session, first := scramSession(t, "SCRAM-SHA-256", "known", "pencil")
	c := h.withSCRAM(t, "SCRAM-SHA-256", "", first)
	p := want[*packet.Auth](c)
	c.send(authPacket(packet.ContinueAuthentication, "SCRAM-SHA-256", challenge(t, session, p.Props.AuthData)))
	if ack := want[*packet.Connack](c); ack.Reason != packet.NotAuthorized {
		t.Errorf("CONNACK %s", ack.Reason)
	}
	mine.published("a/1", "still here", true)
	mine.gets("a/1", "still here")
	if _, err := h.door.ClearRetained(t.Context(), "a/1"); err != nil {
		t.Errorf("the operator clears a retained message: %v", err)
	}
}

// TestSCRAMRefuses: a wrong password and a user who is not there are refused in the same step with the same words.
func TestSCRAMRefuses(t *testing.T) {
	h := open(t, scrams(t))
	for _, user := range []string{"known", "nobody"} {
		session, first := scramSession(t, "SCRAM-SHA-256", user, "wrong")
		c := h.withSCRAM(t, "SCRAM-SHA-256", "", first)
		p := want[*packet.Auth](c)
		c.send(authPacket(packet.ContinueAuthentication, "SCRAM-SHA-256", challenge(t, session, p.Props.AuthData)))
		ack := want[*packet.Connack](c)
		if ack.Reason != packet.NotAuthorized || strings.Contains(string(ack.Props.ReasonString), user) {
			t.Errorf("%s: CONNACK %s, %q", user, ack.Reason, ack.Props.ReasonString)
		}
		c.closed()
	}
	for what, test := range map[string]struct {
		name, first string
		reason      packet.ReasonCode
	}{
		"nothing":                    {"", "", packet.NotAuthorized},
		"not SCRAM":                  {"", "hello", packet.NotAuthorized},
		"channel binding":            {"", "p=tls-unique,,n=known,r=abc", packet.BadAuthenticationMethod},
		"another name in CONNECT":    {"root", "n,,n=known,r=abc", packet.NotAuthorized},
		"it wants to act as another": {"", "n,a=root,n=known,r=abc", packet.NotAuthorized},
	} {
		c := h.withSCRAM(t, "SCRAM-SHA-256", test.name, []byte(test.first))
		if ack := want[*packet.Connack](c); ack.Reason != test.reason {
			t.Errorf("%s: CONNACK %s", what, ack.Reason)
		}
		c.closed()
	}
}

// TestSCRAMStaysWhoItIs: who authenticates again is who it was.
func TestSCRAMStaysWhoItIs(t *testing.T) {
	h := open(t, scrams(t))
	session, first := scramSession(t, "SCRAM-SHA-256", "known", "pencil")
	c := h.withSCRAM(t, "SCRAM-SHA-256", "", first)
	p := want[*packet.Auth](c)
	c.send(authPacket(packet.ContinueAuthentication, "SCRAM-SHA-256", challenge(t, session, p.Props.AuthData)))
	want[*packet.Connack](c)
	c.send(authPacket(packet.ReAuthenticate, "SCRAM-SHA-256", "n,,n=other,r=abc"))
	if p := want[*packet.Disconnect](c); p.Reason != packet.NotAuthorized {
		t.Errorf("DISCONNECT %s", p.Reason)
	}
	c.closed()
}

package mqtt_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// riddle is a mechanism: the client says who it is, the server asks, and the client has to answer with its name.
type riddle struct{}

func (riddle) Begin(who *mqtt.Principal, _ netip.Addr) mqtt.Exchange { return &riddled{who: who} }

type riddled struct {
	who   *mqtt.Principal
	asked bool
}

func (r *riddled) Step(_ context.Context, data []byte) (answer []byte, done bool, err error) {
	switch {
	case string(data) == "busy":
		return nil, false, &packet.Error{Reason: packet.ServerBusy, Detail: "not now"}
	case string(data) == "again":
		return []byte("again?"), false, nil
	case !r.asked:
		r.asked = true
		return []byte("your name?"), false, nil
	case string(data) != r.who.ClientID:
		return nil, false, errors.New("that is not your name")
	}
	r.who.UserName = "known"
	return []byte("welcome"), true, nil
}

// onlyKnown lets those publish who have told their name.
type onlyKnown struct{}

func (onlyKnown) may(who *rule.Subject, does doing, _ string) bool {
	return does != publishing || who.User == "known"
}

func riddles(t testing.TB) func(*mqtt.Options) {
	return func(o *mqtt.Options) {
		o.Mechanisms = map[string]mqtt.Mechanism{"RIDDLE": riddle{}}
		judged(t, o, onlyKnown{})
	}
}

func withMethod(method string) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.Props.SetAuthMethod([]byte(method))
		p.Props.SetAuthData([]byte("hello"))
	}
}

func authPacket(reason packet.ReasonCode, method, data string) *packet.Auth {
	p := &packet.Auth{Reason: reason}
	p.Props.SetAuthMethod([]byte(method))
	p.Props.SetAuthData([]byte(data))
	return p
}

// asked says CONNECT and takes the riddle.
func (h *house) asked(t *testing.T, id string) *raw {
	t.Helper()
	c := h.dial(t)
	c.hello(packet.V5, id, withMethod("RIDDLE"))
	asks(c)
	return c
}

func asks(c *raw) {
	c.t.Helper()
	p := want[*packet.Auth](c)
	if p.Reason != packet.ContinueAuthentication || string(p.Props.AuthMethod) != "RIDDLE" ||
		string(p.Props.AuthData) != "your name?" {
		c.t.Fatalf("AUTH %+v", p)
	}
}

// TestAuthentication goes through the exchange of a CONNECT [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.2.0-1]
// [MQTT-3.15.2-1] [MQTT-3.2.0-2], and once more later.
func TestAuthentication(t *testing.T) {
	h := open(t, riddles(t))
	c := h.asked(t, "me")
	c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "again"))
	if p := want[*packet.Auth](c); string(p.Props.AuthData) != "again?" {
		t.Fatalf("AUTH %+v", p)
	}
	c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "me"))
	ack := want[*packet.Connack](c)
	if ack.Reason != packet.Success || string(ack.Props.AuthMethod) != "RIDDLE" ||
		string(ack.Props.AuthData) != "welcome" {
		t.Fatalf("CONNACK %+v", ack)
	}
	c.published("auth/1", "as someone known", false)
	c.send(authPacket(packet.ReAuthenticate, "RIDDLE", "hello"))
	asks(c)
	c.published("auth/1", "meanwhile", false)
	c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "me"))
	p := want[*packet.Auth](c)
	if p.Reason != packet.Success || string(p.Props.AuthMethod) != "RIDDLE" || string(p.Props.AuthData) != "welcome" {
		t.Fatalf("AUTH %+v", p)
	}
	c.quiet()
}

// TestAuthenticationFails: who is refused while CONNECT waits is told by CONNACK, never by DISCONNECT [MQTT-3.14.0-1],
// and its connection ends [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-3.2.2-7] [MQTT-3.1.4-2].
func TestAuthenticationFails(t *testing.T) {
	h := open(t, riddles(t))
	for _, test := range []struct {
		name   string
		say    packet.Packet
		reason packet.ReasonCode
	}{
		{"a wrong answer", authPacket(packet.ContinueAuthentication, "RIDDLE", "you"), packet.NotAuthorized},
		{"a reason of the mechanism", authPacket(packet.ContinueAuthentication, "RIDDLE", "busy"), packet.ServerBusy},
		{"another method", authPacket(packet.ContinueAuthentication, "OTHER", "me"), packet.ProtocolError},
		{"it begins again", authPacket(packet.ReAuthenticate, "RIDDLE", "me"), packet.ProtocolError},
		{"a message", &packet.Publish{Topic: []byte("a")}, packet.ProtocolError},
		{"a second CONNECT", &packet.Connect{ClientID: []byte("me")}, packet.ProtocolError},
		{"a ping", &packet.Pingreq{}, packet.ProtocolError},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := h.asked(t, "me")
			c.send(test.say)
			if ack := want[*packet.Connack](c); ack.Reason != test.reason {
				t.Errorf("CONNACK %s, want %s", ack.Reason, test.reason)
			}
			c.closed()
		})
	}
	t.Run("an unknown method", func(t *testing.T) {
		c := h.dial(t)
		c.hello(packet.V5, "me", withMethod("OTHER"))
		if ack := want[*packet.Connack](c); ack.Reason != packet.BadAuthenticationMethod {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		c.closed()
	})
	t.Run("the client leaves", func(t *testing.T) {
		c := h.asked(t, "me")
		c.send(&packet.Disconnect{})
		c.closed()
	})
	if n := h.door.Stats().Clients; n != 0 {
		t.Errorf("%d sessions of clients that were refused", n)
	}
}

// TestReauthenticationFails ends with DISCONNECT [MQTT-4.12.1-2] [MQTT-4.13.2-1].
func TestReauthenticationFails(t *testing.T) {
	h := open(t, riddles(t))
	for _, test := range []struct {
		name   string
		say    []packet.Packet
		reason packet.ReasonCode
	}{
		{"a wrong answer", []packet.Packet{authPacket(packet.ReAuthenticate, "RIDDLE", "hello"),
			authPacket(packet.ContinueAuthentication, "RIDDLE", "you")}, packet.NotAuthorized},
		{"another method", []packet.Packet{authPacket(packet.ReAuthenticate, "OTHER", "")}, packet.ProtocolError},
		{"it goes on with nothing", []packet.Packet{authPacket(packet.ContinueAuthentication, "RIDDLE", "me")},
			packet.ProtocolError},
		{"twice", []packet.Packet{authPacket(packet.ReAuthenticate, "RIDDLE", "hello"),
			authPacket(packet.ReAuthenticate, "RIDDLE", "hello")}, packet.ProtocolError},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := h.asked(t, "me")
			c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "me"))
			want[*packet.Connack](c)
			c.send(test.say...)
			if len(test.say) > 1 {
				asks(c)
			}
			if p := want[*packet.Disconnect](c); p.Reason != test.reason {
				t.Errorf("DISCONNECT %s, want %s", p.Reason, test.reason)
			}
			c.closed()
		})
	}
}

// TestNoAuthentication: who has no authentication method hears of none [MQTT-4.12.0-6], and AUTH is an error.
func TestNoAuthentication(t *testing.T) {
	h := open(t, riddles(t))
	c := h.dial(t)
	c.hello(packet.V5, "me", nil)
	if ack := want[*packet.Connack](c); ack.Props.Has(packet.PropAuthMethod) || ack.Props.Has(packet.PropAuthData) {
		t.Errorf("CONNACK %+v", ack)
	}
	c.send(authPacket(packet.ReAuthenticate, "RIDDLE", "hello"))
	if p := want[*packet.Disconnect](c); p.Reason != packet.ProtocolError {
		t.Errorf("DISCONNECT %s", p.Reason)
	}
	c.closed()
}

// TestAuthenticationHasItsTime: a client that never answers does not stay, and one that always has something more to
// say does not either.
func TestAuthenticationHasItsTime(t *testing.T) {
	for limit := 200 * time.Millisecond; ; limit *= 4 { // a busy machine may not come as far as the riddle in time
		h := open(t, func(o *mqtt.Options) { riddles(t)(o); o.ConnectTimeout = limit })
		c := h.dial(t)
		c.hello(packet.V5, "me", withMethod("RIDDLE"))
		if p, err := c.next(patience); err == nil {
			if _, ok := p.(*packet.Auth); !ok {
				t.Fatalf("got %#v", p)
			}
			c.closed()
			break
		} else if isTimeout(err) || limit > time.Minute {
			t.Fatal(err)
		}
	}
	h := open(t, riddles(t))
	c := h.asked(t, "me")
	for {
		c.send(authPacket(packet.ContinueAuthentication, "RIDDLE", "again"))
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if ack, ok := p.(*packet.Connack); ok {
			if ack.Reason != packet.NotAuthorized {
				t.Errorf("CONNACK %s", ack.Reason)
			}
			break
		}
	}
	c.closed()
}

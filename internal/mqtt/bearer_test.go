package mqtt_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// fixed are keys that stay.
type fixed struct{ keys *token.Keys }

func (f fixed) Keys() *token.Keys  { return f.keys }
func (fixed) Miss(context.Context) {}

// bearers has the door take the tokens of an issuer. Devices may use the names below their own.
func bearers(t *testing.T, id *tokentest.Issuer, change func(*token.Issuer)) func(*mqtt.Options) {
	return func(o *mqtt.Options) {
		keys, err := token.ParseKeys(id.Keys())
		if err != nil {
			t.Fatal(err)
		}
		i := token.Issuer{Name: tokentest.Name, Audiences: []string{"firth"}, Algorithms: []string{"ES256"}, User: "sub",
			Groups: "groups"}
		if change != nil {
			change(&i)
		}
		tokens := verify.NewTokens([]verify.Issuer{{Issuer: i, From: fixed{keys}}}, 0, time.Now)
		a, err := access.Open(t.Context(), access.Options{Log: o.Log, Mapping: o.Mapping, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		own := rule.Rule{Effect: rule.Allow, Principal: rule.Everybody, Operations: rule.Everything,
			Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "of/${username}/#"}}
		plant := own
		plant.Principal, plant.Resource.Name = rule.GroupPrefix+"plant", "plant/#"
		if err := a.Apply(t.Context(), &access.Change{Rules: []rule.Rule{own, plant}}); err != nil {
			t.Fatal(err)
		}
		o.Logins, o.Guard, o.Mechanisms = a, a, mqtt.Bearer(a)
	}
}

func withPassword(user, password string) func(*packet.Connect) {
	return func(p *packet.Connect) {
		p.HasUserName, p.UserName, p.HasPassword, p.Password = user != "", []byte(user), true, []byte(password)
	}
}

// TestTokenAsPassword: a token says who the client is and to which groups it belongs, whatever the user name.
func TestTokenAsPassword(t *testing.T) {
	id := tokentest.New(t, "ES256")
	h := open(t, bearers(t, id, nil))
	raw := id.Token(map[string]any{"sub": "pump", "groups": []string{"plant"}})
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		c := h.dial(t)
		c.hello(v, "c", withPassword("anybody", raw))
		if ack := want[*packet.Connack](c); ack.Reason != packet.Success {
			t.Fatalf("CONNACK %s %s", ack.Reason, ack.Props.ReasonString)
		}
		c.published("of/pump/1", "mine", false)
		c.published("plant/1", "ours", false)
		if v == packet.V5 {
			c.refused("of/anybody/1")
		}
		c.send(&packet.Disconnect{})
		c.closed()
	}
}

// refused publishes what the client may not.
func (c *raw) refused(topic string) {
	c.t.Helper()
	c.send(&packet.Publish{QoS: 1, PacketID: 77, Topic: []byte(topic), Payload: []byte("no")})
	if ack := want[*packet.Puback](c); ack.Reason != packet.NotAuthorized {
		c.t.Errorf("%s: PUBACK %s", topic, ack.Reason)
	}
}

// TestTokenIsRevoked: a program acts as its owner by a token, whose end is that of the connection, at once.
func TestTokenIsRevoked(t *testing.T) {
	var a *access.Access
	h := open(t, func(o *mqtt.Options) {
		bearers(t, tokentest.New(t, "ES256"), nil)(o)
		a = o.Logins.(*access.Access)
	})
	a.Watch(h.door.Recheck)
	if err := a.AddUser(t.Context(), access.UserChange{Name: "pump", Password: []byte("secret")}); err != nil {
		t.Fatal(err)
	}
	text, made, err := a.CreateToken(t.Context(), access.Token{Owner: "pump"})
	if err != nil {
		t.Fatal(err)
	}
	password, method := h.dial(t), h.dial(t)
	password.hello(packet.V5, "a", withPassword("anybody", text))
	method.hello(packet.V5, "b", func(p *packet.Connect) {
		p.Props.SetAuthMethod([]byte("OAUTHBEARER"))
		p.Props.SetAuthData([]byte(text))
	})
	for _, c := range []*raw{password, method} {
		if ack := want[*packet.Connack](c); ack.Reason != packet.Success {
			t.Fatalf("CONNACK %s %s", ack.Reason, ack.Props.ReasonString)
		}
		c.published("of/pump/1", "mine", false)
	}
	if err := a.RevokeToken(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*raw{password, method} {
		if p := want[*packet.Disconnect](c); p.Reason != packet.NotAuthorized {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
		c.closed()
	}
}

// TestBadTokens: a token that is not good is a bad password, and its user name helps nobody.
func TestBadTokens(t *testing.T) {
	id, stranger := tokentest.New(t, "ES256"), tokentest.New(t, "ES256")
	h := open(t, bearers(t, id, func(i *token.Issuer) { i.SameUser, i.ClientID = true, "${username}-*" }))
	good := id.Token(map[string]any{"sub": "pump"})
	for name, test := range map[string]struct {
		user, client, raw string
		reason            packet.ReasonCode
	}{
		"good":            {"pump", "pump-1", good, packet.Success},
		"no name":         {"", "pump-1", good, packet.Success},
		"ended":           {"pump", "pump-1", id.Token(map[string]any{"exp": 1000}), packet.BadUserNameOrPassword},
		"of a stranger":   {"alice", "alice-1", stranger.Token(nil), packet.BadUserNameOrPassword},
		"of another user": {"alice", "alice-1", good, packet.BadUserNameOrPassword},
		"another client":  {"pump", "alice-1", good, packet.NotAuthorized},
		"nobody":          {"a", "a-1", id.Token(map[string]any{"sub": "ANONYMOUS"}), packet.BadUserNameOrPassword},
		"everybody":       {"a", "a-1", id.Token(map[string]any{"sub": "*"}), packet.BadUserNameOrPassword},
		"another issuer":  {"a", "a-1", id.Token(map[string]any{"iss": "x"}), packet.BadUserNameOrPassword},
		"too many groups": {"alice", "alice-1", id.Token(map[string]any{"groups": strings.Repeat("x", 2000)}),
			packet.BadUserNameOrPassword},
		"just a password":  {"pump", "pump-1", "secret", packet.BadUserNameOrPassword},
		"nothing":          {"pump", "pump-1", "", packet.BadUserNameOrPassword},
		"a broken token":   {"pump", "pump-1", good[:len(good)-2], packet.BadUserNameOrPassword},
		"a wildcard":       {"+", "+-1", id.Token(map[string]any{"sub": "+"}), packet.Success},
		"a level":          {"a/b", "a/b-1", id.Token(map[string]any{"sub": "a/b"}), packet.Success},
		"for another door": {"alice", "alice-1", id.Token(map[string]any{"aud": "x"}), packet.BadUserNameOrPassword},
	} {
		c := h.dial(t)
		c.hello(packet.V5, test.client, withPassword(test.user, test.raw))
		ack := want[*packet.Connack](c)
		if ack.Reason != test.reason {
			t.Errorf("%s: CONNACK %s %s", name, ack.Reason, ack.Props.ReasonString)
		}
		if strings.Contains(string(ack.Props.ReasonString), test.raw) && test.raw != "" {
			t.Errorf("%s: the token is in %s", name, ack.Props.ReasonString)
		}
		if ack.Reason == packet.Success && test.user != "pump" && test.user != "" { // names that would be more than text
			c.refused("of/a/b")
			c.refused("of/x/1")
		}
	}
}

// TestTokenEnds: the connection ends when the token does, unless the client has shown another by AUTH.
func TestTokenEnds(t *testing.T) {
	id := tokentest.New(t, "ES256")
	h := open(t, bearers(t, id, nil))
	short := func(life time.Duration) string {
		return id.Token(map[string]any{"sub": "pump", "exp": float64(time.Now().Add(life).UnixMilli()) / 1000})
	}
	// inTime says hello with a token that ends soon, but not before the machine has come so far.
	inTime := func(version packet.Version, client string, with func(life time.Duration) func(*packet.Connect)) *raw {
		for life := 3 * time.Second; ; life *= 2 {
			c := h.dial(t)
			c.hello(version, client, with(life))
			if ack := want[*packet.Connack](c); ack.Reason == packet.Success {
				return c
			} else if life > time.Minute {
				t.Fatalf("CONNACK %s %s", ack.Reason, ack.Props.ReasonString)
			}
		}
	}
	asPassword := func(life time.Duration) func(*packet.Connect) { return withPassword("", short(life)) }
	old := inTime(packet.V311, "old", func(life time.Duration) func(*packet.Connect) {
		return withPassword("anybody", short(life))
	})
	c := inTime(packet.V5, "new", asPassword)
	var ends time.Time
	again := inTime(packet.V5, "again", func(life time.Duration) func(*packet.Connect) {
		return func(p *packet.Connect) {
			p.Props.SetAuthMethod([]byte("OAUTHBEARER"))
			ends = time.Now().Add(3 * life)
			p.Props.SetAuthData([]byte("n,a=pump,\x01auth=Bearer " + short(3*life) + "\x01\x01"))
		}
	})
	again.send(authPacket(packet.ReAuthenticate, "OAUTHBEARER", id.Token(map[string]any{"sub": "pump"})))
	if p := want[*packet.Auth](again); p.Reason != packet.Success {
		t.Fatalf("AUTH %s", p.Reason)
	}
	if p := want[*packet.Disconnect](c); p.Reason != packet.NotAuthorized {
		t.Errorf("DISCONNECT %s", p.Reason)
	}
	c.closed()
	old.closed()
	for time.Now().Before(ends.Add(time.Second)) {
		again.published("of/pump/1", "still here", false)
		time.Sleep(100 * time.Millisecond)
	}
	again.published("of/pump/1", "and when the first has ended", false)
	again.send(authPacket(packet.ReAuthenticate, "OAUTHBEARER", id.Token(map[string]any{"sub": "other"})))
	if p := want[*packet.Disconnect](again); p.Reason != packet.NotAuthorized {
		t.Errorf("as somebody else: DISCONNECT %s", p.Reason)
	}
	again.closed()
}

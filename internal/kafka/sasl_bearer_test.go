package kafka

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// fixedKeys are keys that stay.
type fixedKeys struct{ keys *token.Keys }

func (f fixedKeys) Keys() *token.Keys  { return f.keys }
func (fixedKeys) Miss(context.Context) {}

// bearerHouse is a house that takes tokens of an issuer, and the users of knownUsers.
func bearerHouse(t *testing.T, id *tokentest.Issuer, change func(*SASL)) *house {
	t.Helper()
	keys, err := token.ParseKeys(id.Keys())
	if err != nil {
		t.Fatal(err)
	}
	tokens := verify.NewTokens([]verify.Issuer{{From: fixedKeys{keys}, Issuer: token.Issuer{Name: tokentest.Name,
		Audiences: []string{"firth"}, Algorithms: []string{"ES256"}, User: "sub"}}}, 0, time.Now)
	kept := openStore(t, store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	t.Cleanup(func() { _ = kept.Close() })
	a, err := access.Open(t.Context(), access.Options{Log: kept, Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	all := SASL{
		Mechanisms: append(PasswordMechanisms(verify.New(verify.Options{}), knownUsers(t), a, a.Delegations()), Bearer(a)),
	}
	if change != nil {
		change(&all)
	}
	return saslHouse(t, all, make(askedGuard, 100))
}

// Tokens are taken by OAUTHBEARER, and as the password of PLAIN; what is wrong with one is told as RFC 7628 says.
//
// [Kafka-SaslAuthenticate].
func TestBearer(t *testing.T) {
	id := tokentest.New(t, "ES256")
	h := bearerHouse(t, id, nil)
	by := func(m sasl.Mechanism) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr), kgo.SASL(m), kgo.RetryTimeout(0), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		return cl.Ping(t.Context())
	}
	good, ended := id.Token(nil), id.Token(map[string]any{"exp": 1000})
	for name, test := range map[string]struct {
		by   sasl.Mechanism
		good bool
	}{
		"token":          {oauth.Auth{Token: good}.AsMechanism(), true},
		"extensions":     {oauth.Auth{Token: good, Extensions: map[string]string{"traceId": "1"}}.AsMechanism(), true},
		"as itself":      {oauth.Auth{Token: good, Zid: "alice"}.AsMechanism(), true},
		"as another":     {oauth.Auth{Token: good, Zid: "bob"}.AsMechanism(), false},
		"ended":          {oauth.Auth{Token: ended}.AsMechanism(), false},
		"no token":       {oauth.Auth{Token: "x"}.AsMechanism(), false},
		"plain":          {plain.Auth{User: "token", Pass: good}.AsMechanism(), true},
		"plain, ended":   {plain.Auth{User: "alice", Pass: ended}.AsMechanism(), false},
		"plain password": {plain.Auth{User: "alice", Pass: "pencil"}.AsMechanism(), true},
	} {
		err := by(test.by)
		if (err == nil) != test.good || !test.good && name[0] == 'p' && !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}

	c := h.dial()
	wantCode(t, "handshake", c.handshake(1, "OAUTHBEARER").ErrorCode, wire.None)
	told := c.authenticate(2, "n,,\x01auth=Bearer "+ended+"\x01\x01")
	wantCode(t, "a bad token", told.ErrorCode, wire.None)
	if string(told.SASLAuthBytes) != credential.InvalidToken {
		t.Errorf("the client is told %q", told.SASLAuthBytes)
	}
	failed := c.authenticate(2, credential.BearerAgain)
	wantCode(t, "the end", failed.ErrorCode, wire.SaslAuthenticationFailed)
	if strings.Contains(*failed.ErrorMessage, ended) {
		t.Error("the token is in the message")
	}
	c.closed("a bad token")
}

// A session lasts as long as its token, and as long as the operator allows; who authenticates again in time, as who it
// is, goes on (KIP-368).
//
// [Kafka-SaslAuthenticate].
func TestBearerEnds(t *testing.T) {
	id := tokentest.New(t, "ES256")
	h := bearerHouse(t, id, func(s *SASL) { s.MaxLifetime = 10 * time.Minute })
	bearer := func(c *client, user string, life time.Duration) (code int16, lifetime int64) {
		t.Helper()
		wantCode(t, "handshake", c.handshake(1, "OAUTHBEARER").ErrorCode, wire.None)
		raw := id.Token(map[string]any{"sub": user, "exp": float64(time.Now().Add(life).UnixMilli()) / 1000})
		resp := c.authenticate(2, "n,,\x01auth=Bearer "+raw+"\x01\x01")
		return resp.ErrorCode, resp.SessionLifetimeMillis
	}
	c := h.dial()
	code, lifetime := bearer(c, "alice", 5*time.Minute)
	if code != 0 || lifetime > 5*60_000 || lifetime < 60_000 {
		t.Errorf("a token of 5 minutes: %d, %d ms", code, lifetime)
	}
	c.metadata()
	if code, lifetime = bearer(c, "alice", time.Hour); code != 0 || lifetime > 10*60_000 || lifetime < 6*60_000 {
		t.Errorf("a token of an hour: %d, %d ms", code, lifetime)
	}
	c.metadata()
	c = h.dial()
	if code, _ = bearer(c, "alice", time.Hour); code != 0 {
		t.Fatalf("code %d", code)
	}
	if code, _ = bearer(c, "bob", time.Hour); code == 0 {
		if resp := c.authenticate(2, credential.BearerAgain); resp.ErrorCode == 0 {
			t.Error("alice became bob")
		}
	}
	c.closed("another principal")

	for life := 2 * time.Second; ; life *= 2 { // it ends soon, but not before the machine has come so far
		c = h.dial()
		if code, lifetime = bearer(c, "alice", life); code == 0 && lifetime > 0 {
			break
		}
	}
	time.Sleep(time.Duration(lifetime+1) * time.Millisecond)
	c.raw(be32(100), headOf(wire.Metadata, 12))
	c.closed("a session that ended")
}

// boundConn is a connection of an address of ours.
type boundConn struct {
	net.Conn
	local net.Addr
}

func (c boundConn) LocalAddr() net.Addr { return c.local }

// What shows a secret to whoever listens is not offered without TLS to other machines.
//
// [Kafka-SaslHandshake].
func TestBareMechanisms(t *testing.T) {
	all := append(PasswordMechanisms(verify.New(verify.Options{}), knownUsers(t), nil, nil), Bearer(nil))
	for _, test := range []struct {
		local    string
		anywhere bool
		want     string
	}{
		{"127.0.0.1:9092", false, "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN OAUTHBEARER"},
		{"[::1]:9092", false, "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN OAUTHBEARER"},
		{"192.0.2.1:9092", false, "SCRAM-SHA-512 SCRAM-SHA-256"},
		{"[2001:db8::1]:9092", false, "SCRAM-SHA-512 SCRAM-SHA-256"},
		{"192.0.2.1:9092", true, "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN OAUTHBEARER"},
	} {
		d := &Door{opt: Options{SASL: SASL{Mechanisms: all, BareAnywhere: test.anywhere}}}
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.local))
		c := &conn{nc: boundConn{local: at}, door: d}
		var names []string
		for _, m := range c.mechanisms() {
			names = append(names, m.Name())
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s, %v: %s", test.local, test.anywhere, got)
		}
	}
}

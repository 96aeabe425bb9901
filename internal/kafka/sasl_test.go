package kafka

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// anyoneMechanism is PLAIN (RFC 4616) with one user, whose session may end.
type anyoneMechanism struct{ lifetime time.Duration }

func (anyoneMechanism) Name() string               { return "PLAIN" }
func (anyoneMechanism) Bare() bool                 { return true }
func (m anyoneMechanism) Begin(from Peer) Exchange { return anyoneExchange{m, from} }

type anyoneExchange struct {
	anyoneMechanism
	from Peer
}

func (e anyoneExchange) Step(_ context.Context, token []byte) ([]byte, *Identity, error) {
	parts := bytes.Split(token, []byte{0})
	if e.from.Host != "127.0.0.1" || len(parts) != 3 || string(parts[2]) != "secret of "+string(parts[1]) {
		return nil, nil, errors.New("the password is wrong")
	}
	return nil, &Identity{Principal: "User:" + string(parts[1]), Lifetime: e.lifetime}, nil
}

// endlessMechanism asks for one message more as long as it is answered.
type endlessMechanism struct{}

func (endlessMechanism) Name() string        { return "X-ENDLESS" }
func (endlessMechanism) Bare() bool          { return false }
func (endlessMechanism) Begin(Peer) Exchange { return endlessMechanism{} }
func (endlessMechanism) Step(_ context.Context, token []byte) ([]byte, *Identity, error) {
	return append([]byte("and "), token...), nil, nil
}

// saslHouse is a house with a second listener, whose clients have to authenticate.
func saslHouse(t *testing.T, sasl SASL, guard judge) *house {
	t.Helper()
	logger := logtest.New(t)
	h := openHouse(t, Options{SASL: sasl, Guard: judges{guard}, Logger: logger})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.door.ServeSASL(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	h.addr = l.Addr().String()
	return h
}

func (c *client) handshake(version int16, mechanism string) *kmsg.SASLHandshakeResponse {
	c.t.Helper()
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Mechanism = mechanism
	return askFor[*kmsg.SASLHandshakeResponse](c, version, req)
}

func (c *client) authenticate(version int16, token string) *kmsg.SASLAuthenticateResponse {
	c.t.Helper()
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.SASLAuthBytes = []byte(token)
	return askFor[*kmsg.SASLAuthenticateResponse](c, version, req)
}

// login authenticates as alice and gives for how long.
func (c *client) login() int64 {
	c.t.Helper()
	wantCode(c.t, "handshake", c.handshake(1, "PLAIN").ErrorCode, wire.None)
	resp := c.authenticate(2, "\x00alice\x00secret of alice")
	wantCode(c.t, "authenticate", resp.ErrorCode, wire.None)
	return resp.SessionLifetimeMillis
}

func (c *client) metadata() {
	c.t.Helper()
	askFor[*kmsg.MetadataResponse](c, 12, kmsg.NewPtrMetadataRequest())
}

// Nothing but ApiVersions, SaslHandshake and SaslAuthenticate is served before a client has authenticated, where its
// listener demands it; then the guard is asked about who it is.
//
// [Kafka-SaslHandshake] [Kafka-SaslAuthenticate].
func TestSASL(t *testing.T) {
	asked := make(askedGuard, 100)
	h := saslHouse(t, SASL{Mechanisms: []Mechanism{anyoneMechanism{}, endlessMechanism{}}}, asked)
	topic := h.topic("t", 1)

	for key, api := range h.door.apis {
		switch key {
		case wire.ApiVersions, wire.SaslHandshake, wire.SaslAuthenticate:
			continue
		}
		c := h.dial()
		c.raw(be32(100<<10), headOf(key, api.Max))
		c.closed(api.Name + " before authentication")
	}
	for version := range int16(3) {
		c := h.dial()
		askFor[*kmsg.ApiVersionsResponse](c, 3, softwareOf("raw"))
		resp := c.handshake(min(1, version), "PLAIN")
		wantCode(t, "handshake", resp.ErrorCode, wire.None)
		if !slices.Equal(resp.SupportedMechanisms, []string{"PLAIN", "X-ENDLESS"}) {
			t.Fatalf("mechanisms: %q", resp.SupportedMechanisms)
		}
		if version == 0 {
			c.raw(be32(22), []byte("\x00alice\x00secret of alice"))
			var answer [4]byte
			if _, err := io.ReadFull(c.nc, answer[:]); err != nil || answer != [4]byte{} {
				t.Fatalf("%v, %v", answer, err)
			}
		} else if resp := c.authenticate(version, "\x00alice\x00secret of alice"); resp.ErrorCode != 0 {
			t.Fatalf("v%d: %d", version, resp.ErrorCode)
		}
		c.metadata()
		wantCode(t, "handshake again", c.handshake(1, "PLAIN").ErrorCode, wire.IllegalSaslState)
		wantCode(t, "token again", c.authenticate(1, "").ErrorCode, wire.IllegalSaslState)
		for len(asked) > 0 {
			<-asked
		}
		produce := produceTo(topic, 0, 1, batchOf(1, 1))
		wantCode(t, "produce", produced(askFor[*kmsg.ProduceResponse](c, 12, produce)).ErrorCode, wire.None)
		if who := <-asked; who != "User:alice" {
			t.Fatalf("the guard was asked about %s", who)
		}
	}
	kgoAs(t, h, "alice", "secret of alice")
}

// askedGuard allows everything and tells about whom it was asked.
type askedGuard chan string

func (g askedGuard) may(principal string, _ Operation, _ Resource, _ string) bool {
	select {
	case g <- principal:
	default:
	}
	return true
}

func softwareOf(name string) *kmsg.ApiVersionsRequest {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = name, "1"
	return req
}

// kgoAs logs a real client in.
func kgoAs(t *testing.T, h *house, user, password string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr),
		kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What does not authenticate ends the connection, and is told in Kafka's codes where there is a place for one.
func TestSASLRefusals(t *testing.T) {
	h := saslHouse(t, SASL{Mechanisms: []Mechanism{anyoneMechanism{}, endlessMechanism{}}}, nil)

	c := h.dial()
	resp := c.handshake(1, "SCRAM-SHA-256")
	wantCode(t, "mechanism", resp.ErrorCode, wire.UnsupportedSaslMechanism)
	if len(resp.SupportedMechanisms) != 2 {
		t.Fatalf("mechanisms: %q", resp.SupportedMechanisms)
	}
	c.closed("a mechanism that is not offered")

	c = h.dial()
	wantCode(t, "no handshake", c.authenticate(2, "").ErrorCode, wire.IllegalSaslState)
	c.closed("a token without a handshake")

	c = h.dial()
	c.handshake(1, "PLAIN")
	refused := c.authenticate(2, "\x00alice\x00guess")
	wantCode(t, "password", refused.ErrorCode, wire.SaslAuthenticationFailed)
	if refused.ErrorMessage == nil || bytes.Contains([]byte(*refused.ErrorMessage), []byte("password")) {
		t.Fatalf("told %v", refused.ErrorMessage)
	}
	c.closed("a wrong password")

	c = h.dial()
	c.handshake(0, "PLAIN")
	c.raw(be32(12), []byte("\x00alice\x00guess"))
	c.closed("a wrong password, not framed")

	c = h.dial()
	c.handshake(0, "PLAIN")
	c.raw(be32(maxToken + 1))
	c.closed("a message that is too long")

	c = h.dial()
	c.raw(be32(maxToken+1), headOf(wire.SaslAuthenticate, 2))
	c.closed("a request that is too long")

	c = h.dial()
	c.handshake(1, "PLAIN")
	c.raw(be32(10), headOf(wire.ApiVersions, 0), []byte{0xff, 0xff})
	c.closed("something else in the middle")

	c = h.dial()
	c.handshake(1, "X-ENDLESS")
	for range maxSteps - 1 {
		if resp := c.authenticate(1, "on"); resp.ErrorCode != 0 || string(resp.SASLAuthBytes) != "and on" {
			t.Fatalf("%+v", resp)
		}
	}
	wantCode(t, "no end", c.authenticate(1, "on").ErrorCode, wire.SaslAuthenticationFailed)
	c.closed("an exchange without an end")
}

// Where nobody can authenticate, clients are told so and served as they are.
func TestSASLWithoutMechanisms(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	for version := range int16(2) {
		resp := c.handshake(version, "PLAIN")
		wantCode(t, "handshake", resp.ErrorCode, wire.UnsupportedSaslMechanism)
		if len(resp.SupportedMechanisms) > 0 {
			t.Fatalf("mechanisms: %q", resp.SupportedMechanisms)
		}
	}
	for version := range int16(3) {
		wantCode(t, "authenticate", c.authenticate(version, "").ErrorCode, wire.IllegalSaslState)
	}
	c.metadata()
}

// A session that ends has to be renewed in time, by the same user and mechanism (KIP-368).
func TestSASLSessionEnds(t *testing.T) {
	h := saslHouse(t, SASL{
		Mechanisms:  []Mechanism{anyoneMechanism{lifetime: 2 * time.Hour}, endlessMechanism{}},
		MaxLifetime: time.Hour,
	}, nil)
	hour := time.Hour.Milliseconds()
	c, other, third := h.dial(), h.dial(), h.dial()
	for _, c := range []*client{c, other, third, c} {
		if left := c.login(); left < hour-60_000 || left > hour {
			t.Fatalf("%d ms", left)
		}
	}
	c.metadata()
	wantCode(t, "at once again", c.handshake(1, "PLAIN").ErrorCode, wire.IllegalSaslState)
	c.metadata()

	wantCode(t, "handshake", other.handshake(1, "PLAIN").ErrorCode, wire.None)
	wantCode(t, "as bob", other.authenticate(1, "\x00bob\x00secret of bob").ErrorCode, wire.SaslAuthenticationFailed)
	other.closed("another user")

	wantCode(t, "other mechanism", third.handshake(1, "X-ENDLESS").ErrorCode, wire.IllegalSaslState)
	third.closed("another mechanism")

	h = saslHouse(t, SASL{Mechanisms: []Mechanism{anyoneMechanism{lifetime: time.Nanosecond}}}, nil)
	c, other = h.dial(), h.dial()
	c.login()
	if left := c.login(); left != 1 { // it is over, and renewed
		t.Fatalf("%d ms", left)
	}
	other.login()
	other.send(kmsg.NewPtrMetadataRequest())
	other.closed("a session that ended")
}

// Who has to authenticate has a minute for it.
func TestSASLTakesAMinuteAtMost(t *testing.T) {
	h := saslHouse(t, SASL{Mechanisms: []Mechanism{anyoneMechanism{}}}, nil)
	slow, quick := h.dial(), h.dial()
	quick.login()
	askFor[*kmsg.ApiVersionsResponse](slow, 3, softwareOf("raw"))
	slow.raw(be32(1000), headOf(wire.SaslAuthenticate, 1))
	h.door.clock.Add(knockingTicks + 2)
	h.door.closeLate()
	slow.closed("no authentication")
	quick.metadata()
}

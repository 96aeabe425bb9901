package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// known are users by their names.
type known map[string]*credential.Verifiers

func (k known) Lookup(name string) (*credential.Verifiers, bool) {
	v, is := k[name]
	return v, is
}

// knownUsers are alice, who has all verifiers of the password "pencil", and bob, who has one of SCRAM-SHA-256 only.
func knownUsers(t *testing.T) known {
	t.Helper()
	k := known{"alice": {}, "bob": {}}
	var err error
	if k["alice"].Password, err = verify.NewPassword([]byte("pencil")); err != nil {
		t.Fatal(err)
	}
	for _, m := range credential.Mechanisms() {
		s, err := verify.NewSCRAM(m, []byte("pencil"))
		if err != nil {
			t.Fatal(err)
		}
		k["alice"].Put(s)
	}
	k["bob"].SCRAM256 = k["alice"].SCRAM256
	return k
}

// Users log in with their passwords by each mechanism; nobody else does, and all who do not are told the same.
//
// [Kafka-SaslAuthenticate].
func TestPasswordMechanisms(t *testing.T) {
	asked := make(askedGuard, 100)
	h := saslHouse(t, SASL{Mechanisms: PasswordMechanisms(verify.New(verify.Options{}), knownUsers(t), nil, nil)}, asked)
	by := map[string]func(user, password string) sasl.Mechanism{
		"PLAIN": func(user, password string) sasl.Mechanism {
			return plain.Auth{User: user, Pass: password}.AsMechanism()
		},
		"SCRAM-SHA-256": func(user, password string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
		},
		"SCRAM-SHA-512": func(user, password string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
		},
		"token": func(user, password string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: password, IsToken: true}.AsSha256Mechanism()
		},
	}
	refusals := map[string][]string{}
	for _, c := range []struct {
		mechanism, user, password string
		ok                        bool
	}{
		{"PLAIN", "alice", "pencil", true},
		{"PLAIN", "bob", "pencil", true},
		{"SCRAM-SHA-256", "alice", "pencil", true},
		{"SCRAM-SHA-256", "bob", "pencil", true},
		{"SCRAM-SHA-512", "alice", "pencil", true},
		{"PLAIN", "alice", "pen", false},
		{"SCRAM-SHA-512", "bob", "pencil", false},
		{"SCRAM-SHA-256", "alice", "pen", false},
		{"PLAIN", "carol", "pencil", false},
		{"SCRAM-SHA-256", "carol", "pencil", false},
		{"SCRAM-SHA-512", "carol", "pencil", false},
		{"token", "alice", "pencil", false},
	} {
		err := enterBy(t, h, by[c.mechanism](c.user, c.password))
		if (err == nil) != c.ok || err != nil && !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("%s, %s with %s: %v", c.mechanism, c.user, c.password, err)
		}
		if err != nil {
			mechanism := strings.Replace(c.mechanism, "token", "SCRAM-SHA-256", 1)
			refusals[mechanism] = append(refusals[mechanism], err.Error())
		}
	}
	for mechanism, texts := range refusals {
		for _, text := range texts[1:] {
			if text != texts[0] {
				t.Errorf("by %s some are told %q, others %q", mechanism, texts[0], text)
			}
		}
	}
	c := h.dial()
	if resp := c.handshake(1, "?"); fmt.Sprint(resp.SupportedMechanisms) != "[SCRAM-SHA-512 SCRAM-SHA-256 PLAIN]" {
		t.Errorf("offered are %v", resp.SupportedMechanisms)
	}
	c = h.dial()
	wantCode(t, "handshake", c.handshake(1, "PLAIN").ErrorCode, wire.None)
	wantCode(t, "as another", c.authenticate(2, "root\x00alice\x00pencil").ErrorCode, wire.SaslAuthenticationFailed)
}

// enterBy logs a real client in.
func enterBy(t *testing.T, h *house, mechanism sasl.Mechanism) error {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr), kgo.SASL(mechanism), kgo.RequestRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	return cl.Ping(context.WithoutCancel(t.Context()))
}

package bench

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/node"
)

// encryptedNode serves MQTT and Kafka over TLS, and gives who may come in.
func encryptedNode(t *testing.T) (node.Addresses, Entry) {
	t.Helper()
	ca := securetest.NewCA(t, "servers")
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", ""
	c.Listen.MQTTS, c.Listen.Kafkas = "127.0.0.1:0", "127.0.0.1:0"
	c.Access.Anonymous = "allow" // also when there are users
	c.TLS.Certificate, c.TLS.Key = ca.Server("localhost").Write(t, t.TempDir(), "server")
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n.Addresses(), Entry{TLS: &tls.Config{RootCAs: ca.Pool()}}
}

func TestLoadsOverTLS(t *testing.T) {
	a, in := encryptedNode(t)
	m := MQTT{
		Entry: in, Address: a.MQTTS, Publishers: 2, InFlight: 8, PayloadSize: 64, Duration: short200, Topic: "m",
	}
	blind, kept, paced, twice := m, m, m, m
	kept.QoS, kept.Subscribers, kept.Persistent = 1, 1, true
	paced.QoS, paced.Rate = 1, 500
	twice.QoS = 2
	k := Kafka{
		Entry: in, Brokers: []string{a.Kafkas}, Mode: Produce, Topic: "k", Partitions: 2, RecordSize: 100, BatchSize: 4096,
		Acks: -1, Connections: 1, InFlight: 2, Duration: short200,
	}
	encoded := k
	encoded.Encoded = true
	for name, load := range map[string]func(d time.Duration) (*Result, error){
		"qos0":    func(d time.Duration) (*Result, error) { blind.Duration = d; return blind.Run(t.Context()) },
		"qos1":    func(d time.Duration) (*Result, error) { kept.Duration = d; return kept.Run(t.Context()) },
		"rate":    func(d time.Duration) (*Result, error) { paced.Duration = d; return paced.Run(t.Context()) },
		"qos2":    func(d time.Duration) (*Result, error) { twice.Duration = d; return twice.Run(t.Context()) },
		"client":  func(d time.Duration) (*Result, error) { k.Duration = d; return k.Run(t.Context()) },
		"encoded": func(d time.Duration) (*Result, error) { encoded.Duration = d; return encoded.Run(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			d := short200
			longer(t, &d, func() string {
				res, err := load(d)
				if err != nil {
					t.Fatal(err)
				}
				if res.Messages == 0 {
					return fmt.Sprintf("%+v", res)
				}
				return ""
			})
		})
	}
	nobody := m
	nobody.TLS = &tls.Config{}
	if _, err := nobody.Run(t.Context()); !fault.Is(err, fault.Denied) {
		t.Errorf("by an authority that nobody trusts: %v", err)
	}
}

// TestArrivals: devices come and go, with a session of TLS taken up and without, or come once and stay; those that
// only begin to come are shown out.
func TestArrivals(t *testing.T) {
	a, in := encryptedNode(t)
	goes := Arriving{Entry: in, Address: a.MQTTS, Together: 3, Duration: short200}
	plain, resumes := goes, goes
	plain.TLS, plain.Address, plain.Sources = nil, a.MQTT, 20
	resumes.Resume = true
	for name, load := range map[string]Arriving{"plain": plain, "full": goes, "resumed": resumes} {
		t.Run(name, func(t *testing.T) {
			longer(t, &load.Duration, func() string {
				res, err := load.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if res.Messages == 0 || int64(res.Latency.Count) != res.Messages {
					return fmt.Sprintf("%+v", res)
				}
				return ""
			})
		})
	}
	stays := Arriving{Entry: in, Address: a.MQTTS, Together: 5, Devices: 23}
	if res, err := stays.Run(t.Context()); err != nil || res.Messages != 23 || res.Latency.Count != 23 {
		t.Errorf("come and stay: %+v, %v", res, err)
	}
	half := HalfOpen{Address: a.MQTTS, Connections: 10, Rate: 1000, Sources: 10, Duration: short200}
	longer(t, &half.Duration, func() string {
		res, err := half.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Messages < 10 || res.Delivered != 10 {
			return fmt.Sprintf("%+v", res)
		}
		return ""
	})
}

// TestLogins: with the password of each device, and with none that is theirs.
func TestLogins(t *testing.T) {
	a, in := encryptedNode(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var users []kadm.UpsertSCRAM
	for i := range 4 {
		users = append(users, kadm.UpsertSCRAM{
			User: fmt.Sprintf("device-%d", i), Mechanism: kadm.ScramSha256, Iterations: 4096,
			Password: fmt.Sprintf("secret-%d", i),
		})
	}
	made, err := kadm.NewClient(cl).AlterUserSCRAMs(t.Context(), nil, users)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	in.User = "device-%d"
	for password, kind := range map[string]fault.Kind{"secret-%d": 0, "secret": fault.Denied} {
		in.Password = password
		res, err := Arriving{Entry: in, Address: a.MQTTS, Together: 2, Devices: 4}.Run(t.Context())
		if kind == 0 && (err != nil || res.Messages != 4) || kind != 0 && !fault.Is(err, kind) {
			t.Errorf("MQTT with the password %s: %+v, %v", password, res, err)
		}
		s, err := Kafka{Entry: in.of(2), Brokers: []string{a.Kafkas}}.socket(t.Context())
		if kind == 0 && err != nil || kind != 0 && !fault.Is(err, kind) {
			t.Errorf("Kafka with the password %s: %v", password, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
}

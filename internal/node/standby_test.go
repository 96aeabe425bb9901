package node

import (
	"crypto/tls"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// among is a configuration for a gateway among others.
func among(t *testing.T, f *kfake.Cluster) *Config {
	t.Helper()
	c := gateway(t, f)
	c.Log.Kafka.Gateways, c.Log.Kafka.Peers.Listen = manyGateways, "127.0.0.1:0"
	return c
}

// standby is a gateway that starts beside another one that serves.
type standby struct {
	*Node             // while it stands by
	serves chan *Node // gets it once it serves
	failed chan error
}

// standingBy starts a gateway, and returns when it stands by. It is closed at the end of the test if it served.
func standingBy(t *testing.T, c *Config) *standby {
	t.Helper()
	s := &standby{serves: make(chan *Node, 1), failed: make(chan error, 1)}
	stands, done := make(chan *Node, 1), make(chan struct{})
	c.StandsBy = func(n *Node) { stands <- n }
	var served *Node
	go func() {
		defer close(done)
		n, err := Start(t.Context(), c)
		if err != nil {
			s.failed <- err
			return
		}
		served = n
		s.serves <- n
	}()
	t.Cleanup(func() { // the context of the test is done by now
		if <-done; served != nil {
			if err := served.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case s.Node = <-stands:
	case err := <-s.failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("it does not stand by")
	}
	return s
}

// awaitServing waits until it serves.
func (s *standby) awaitServing(t *testing.T) *Node {
	t.Helper()
	select {
	case n := <-s.serves:
		return n
	case err := <-s.failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("it does not serve")
	}
	return nil
}

// each gives so many messages that are not the same: one whose acknowledgement was under way when its connection ended
// comes again.
func each(t *testing.T, got chan string, seen map[string]bool, n int) (all []string) {
	t.Helper()
	for len(all) < n {
		if one := received(t, got, 1)[0]; !seen[one] {
			seen[one] = true
			all = append(all, one)
		}
	}
	slices.Sort(all)
	return all
}

// TestTwoGateways: a device finds its session whichever gateway it connects to, one connection takes the session over
// from another on another node, and when the gateway that serves ends the other one goes on where it was.
func TestTwoGateways(t *testing.T) {
	f := brokers(t)
	a, err := Start(t.Context(), among(t, f))
	if err != nil {
		t.Fatal(err)
	}
	b := standingBy(t, among(t, f))
	at := b.Addresses()
	status, body := request(t, at.HTTP, get("/readyz", at.HTTP))
	if status != 200 || !strings.Contains(body, "passed on") {
		t.Errorf("%d: %s", status, body)
	}
	got, seen := make(chan string, 100), map[string]bool{}
	c := b.visit(t, lasting("device", false, got))
	sub := packet.Subscription{Filter: []byte("plant/#"), QoS: 2}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	a.stores(t, message("plant/a", "1", 1, false))
	b.stores(t, message("plant/a", "2", 2, false), message("plant/b", "3", 1, true))
	want := []string{"plant/a 1 1", "plant/a 2 2", "plant/b 3 1"}
	if all := each(t, got, seen, 3); !slices.Equal(all, want) {
		t.Errorf("got %q", all)
	}
	over := a.visit(t, lasting("device", true, got))
	if !over.Server().SessionPresent {
		t.Error("the session is not on the other gateway")
	}
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatal("the connection by the other gateway is still there")
	}
	if err := over.Close(); err != nil {
		t.Fatal(err)
	}
	b.stores(t, message("plant/a", "4", 1, false), message("plant/c", "5", 2, false))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitServing(t)
	c = b.visit(t, lasting("device", true, got))
	if !c.Server().SessionPresent {
		t.Error("the session is gone")
	}
	if all := each(t, got, seen, 2); !slices.Equal(all, []string{"plant/a 4 1", "plant/c 5 2"}) {
		t.Errorf("back, it got %q", all)
	}
	if now := b.Addresses(); now != at {
		t.Errorf("it serves at %+v, and stood by at %+v", now, at)
	}
	status, body = request(t, at.HTTP, get("/readyz?verbose", at.HTTP))
	if status != 200 || !strings.Contains(body, "log: ok") {
		t.Errorf("%d: %s", status, body)
	}
	want = []string{"plant/a 1", "plant/a 2", "plant/a 4", "plant/b 3", "plant/c 5"}
	if all := readAll(t, f, "plant", 5); !slices.Equal(all, want) {
		t.Errorf("from the brokers: %q", all)
	}
}

// TestGatewayAmongOthersIsForgotten: when the cluster has not heard of the one that serves it ends, and another one
// serves; the will of a device that came by that one is published once.
func TestGatewayAmongOthersIsForgotten(t *testing.T) {
	f := brokers(t)
	cfg := among(t, f)
	cfg.Logger = logtest.New(t, "closed routes")
	a, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := standingBy(t, among(t, f))
	dies := lasting("dies", false, nil)
	dies.Will = &packet.Will{Topic: []byte("wills/dies"), Payload: []byte("gone"), QoS: 1}
	b.visit(t, dies)
	name, err := a.instance()
	if err != nil {
		t.Fatal(err)
	}
	forget(t, f, name)
	select {
	case err = <-a.Failed():
	case <-time.After(time.Minute):
	}
	if !fault.Is(err, fault.Fenced) {
		t.Errorf("it ended with %v", err)
	}
	if err := a.keeper.Refused(); !fault.Is(err, fault.Fenced) {
		t.Errorf("its log says %v", err)
	}
	n := b.awaitServing(t)
	if err := a.Close(); !fault.Is(err, fault.Fenced) {
		t.Errorf("closed with %v", err)
	}
	n.stores(t, message("wills/end", "", 1, false))
	if all := readAll(t, f, "wills", 2); !slices.Equal(all, []string{"wills/dies gone", "wills/end "}) {
		t.Errorf("wills: %q", all)
	}
}

// forget has the cluster take a gateway out of the group.
func forget(t *testing.T, f *kfake.Cluster, name string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	leave := kadm.LeaveGroup("firth-gateways").InstanceIDs(name)
	if left, err := kadm.NewClient(cl).LeaveGroup(t.Context(), leave); err != nil || left.Error() != nil {
		t.Fatal(err, left.Error())
	}
}

// TestEncryptedByAnotherGateway: what a device encrypts is decrypted by the gateway that serves, which sees its
// certificate; by MQTT and by WebSocket.
func TestEncryptedByAnotherGateway(t *testing.T) {
	f, dir := brokers(t), t.TempDir()
	ca, devices := securetest.NewCA(t, "servers"), securetest.NewCA(t, "devices")
	certificate, key := ca.Server("broker.example", "localhost").Write(t, dir, "server")
	clients := securetest.Write(t, dir, "devices.pem", devices.PEM)
	with := func() *Config {
		c := among(t, f)
		c.Listen.MQTTS, c.Listen.WSS = "127.0.0.1:0", "127.0.0.1:0"
		c.TLS.Certificate, c.TLS.Key, c.TLS.ClientCA, c.TLS.ClientAuth = certificate, key, clients, "require"
		return c
	}
	start(t, with())
	b := standingBy(t, with())
	pump := devices.Client("pump")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MaxVersion: version,
			Certificates: []tls.Certificate{pump.TLS(t)}}
		c, err := tls.Dial("tcp", b.Addresses().MQTTS, config)
		if err != nil {
			t.Fatal(err)
		}
		hello(t, c, "")
		webHello(t, b.Addresses().WSS, config)
	}
	if _, err := tls.Dial("tcp", b.Addresses().MQTTS, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost",
		MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("a device without a certificate is let in")
	}
}

// TestPeersKeys: what several gateways need, and what means nothing for one.
func TestPeersKeys(t *testing.T) {
	for _, c := range []struct{ settings, want string }{
		{"log.kafka.gateways=many", "needs log.kafka.peers.listen"},
		{"log.kafka.gateways=many log.kafka.peers.listen=0.0.0.0:7883", "one to listen on"},
		{"log.kafka.gateways=many log.kafka.peers.listen=0.0.0.0:7883 log.kafka.peers.advertise=a.example.org:7883", ""},
		{"log.kafka.gateways=many log.kafka.peers.listen=127.0.0.1:7883", ""},
		{"log.kafka.peers.listen=127.0.0.1:7883", "means nothing"},
		{"log.kafka.peers.advertise=a.example.org:7883", "means nothing"},
		{"log.kafka.gateways=many log.kafka.peers.listen=127.0.0.1:7883 log.kafka.ack=spool", "cannot be with"},
		{"log.kafka.gateways=two", "not one of one, many"},
	} {
		judgeGateway(t, c.settings, c.want)
	}
}

// judgeGateway loads the settings of a gateway, and wants them to be refused with some words; "": to be good.
func judgeGateway(t *testing.T, settings, want string) {
	t.Helper()
	flags := []Assignment{{"--set", "log.kafka.brokers=localhost:9092"}}
	for one := range strings.FieldsSeq(settings) {
		flags = append(flags, Assignment{"--set", one})
	}
	_, err := Load(Sources{Flags: flags})
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v", settings, err)
	}
}

// TestNotAmongOthers: a gateway that wants the cluster for itself does not start beside others, and one whose addresses
// are taken does not stand by.
func TestNotAmongOthers(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	a := start(t, among(t, f))
	only := gateway(t, f)
	only.Log.Kafka.Takeover = time.Second
	if n, err := Start(t.Context(), only); !fault.Is(err, fault.Exists) {
		t.Errorf("the only one beside others: %v, %v", n, err)
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.Log.Kafka.Peers.Listen = a.Addresses().MQTT },
		func(c *Config) { c.Listen.MQTT = a.Addresses().MQTT },
	} {
		c := among(t, f)
		change(c)
		if n, err := Start(t.Context(), c); !fault.Is(err, fault.Exists) {
			t.Errorf("beside others at an address that is taken: %v, %v", n, err)
		}
	}
}

// TestProcessStandsBy: it says so, with its addresses, and again when it serves; asked to end before that, it has not
// failed.
func TestProcessStandsBy(t *testing.T) {
	f := brokers(t)
	with := func() func() (*Config, error) {
		c := among(t, f)
		return func() (*Config, error) { return c, nil }
	}
	serving := run(t, with())
	if r := serving.ready(t); r.StandsBy {
		t.Errorf("alone it stands by: %+v", r)
	}
	waiting, leaving := run(t, with()), run(t, with())
	for _, p := range []*process{waiting, leaving} {
		if r := p.ready(t); !r.StandsBy || r.Addresses.MQTT == "" || r.Addresses.HTTP == "" || r.Cluster != "" {
			t.Errorf("beside another it says %+v", r)
		}
	}
	leaving.signals <- syscall.SIGHUP
	leaving.log.await(t, "when it is restarted")
	leaving.end(t)
	serving.end(t)
	waiting.out.await(t, `\n\{.*"cluster":"[^"]+".*\n`)
	waiting.end(t)
}

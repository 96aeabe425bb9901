package node

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// brokers is a cluster in memory.
func brokers(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second)}, opts...)
	f, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// gateway is a configuration for a node whose log is in a cluster.
func gateway(t *testing.T, f *kfake.Cluster) *Config {
	t.Helper()
	c := local(t)
	c.Log.Kafka.Addresses = strings.Join(f.ListenAddrs(), ",")
	c.Log.Kafka.Takeover = time.Minute // a busy machine is no dead node
	return c
}

// visit is one connection of a device that stays as long as a test wants.
func (n *Node) visit(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), n.Addresses().MQTT, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

// stores publishes messages and waits until they are acknowledged.
func (n *Node) stores(t *testing.T, all ...*packet.Publish) {
	t.Helper()
	acked := make(chan error, len(all))
	c := n.visit(t, client.Options{OnAck: func(_ uint64, reason packet.ReasonCode, err error) {
		if err == nil && reason.Failed() {
			err = fmt.Errorf("refused: %v", reason)
		}
		acked <- err
	}})
	for _, m := range all {
		if err := c.Publish(m, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		if m.QoS == 0 {
			continue
		}
		if err := <-acked; err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func message(topic, payload string, qos byte, retain bool) *packet.Publish {
	return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Retain: retain}
}

// lasting are the options of a device whose session lasts, and which says what it got.
func lasting(id string, resume bool, got chan string) client.Options {
	var p packet.Properties
	p.SetSessionExpiry(3600)
	return client.Options{ClientID: id, Resume: resume, Props: p, OnMessage: func(m *packet.Publish) {
		got <- fmt.Sprintf("%s %s %d", m.Topic, m.Payload, m.QoS)
	}}
}

func received(t *testing.T, got chan string, n int) (all []string) {
	t.Helper()
	for range n {
		select {
		case one := <-got:
			all = append(all, one)
		case <-time.After(time.Minute):
			t.Fatalf("only %q", all)
		}
	}
	slices.Sort(all)
	return all
}

// TestGateway: what devices know of a node with a disk, they have of one before a cluster, also after a restart: their
// sessions, what they missed, retained messages; and a Kafka client reads from the brokers what they sent.
func TestGateway(t *testing.T) {
	f := brokers(t)
	cfg := gateway(t, f)
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a := n.Addresses(); a.Kafka != "" || a.MQTT == "" || a.HTTP == "" {
		t.Errorf("it listens at %+v", a)
	}
	got := make(chan string, 100)
	c := n.visit(t, lasting("device", false, got))
	sub := packet.Subscription{Filter: []byte("plant/#"), QoS: 2}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "0", 0, false), message("plant/a", "1", 1, false), message("plant/b", "2", 2, true))
	want := []string{"plant/a 0 0", "plant/a 1 1", "plant/b 2 2"}
	if all := received(t, got, 3); !slices.Equal(all, want) {
		t.Errorf("got %q", all)
	}
	until(t, "the device's acknowledgements", func() bool { // or it rightly gets messages again
		s, err := n.mqtt.Session("device")
		return err == nil && s.InFlight == 0
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "3", 1, false), message("plant/c", "4", 2, false))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	n = start(t, cfg)
	c = n.visit(t, lasting("device", true, got))
	if !c.Server().SessionPresent {
		t.Error("the session is gone")
	}
	if all := received(t, got, 2); !slices.Equal(all, []string{"plant/a 3 1", "plant/c 4 2"}) {
		t.Errorf("back, it got %q", all)
	}
	late := n.visit(t, lasting("late", false, got))
	if _, err := late.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	if all := received(t, got, 1); all[0] != "plant/b 2 2" {
		t.Errorf("retained: %q", all)
	}
	if all := readAll(t, f, "plant", 5); !slices.Equal(all, []string{"plant/a 0", "plant/a 1", "plant/a 3", "plant/b 2",
		"plant/c 4"}) {
		t.Errorf("from the brokers: %q", all)
	}
	if status, body := request(t, n.Addresses().HTTP, get("/readyz?verbose", n.Addresses().HTTP)); status != 200 {
		t.Errorf("%d: %s", status, body)
	}
}

// readAll reads so many records of a topic from the brokers.
func readAll(t *testing.T, f *kfake.Cluster, topic string, n int) (all []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(all) < n {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, fmt.Sprintf("%s %s", r.Key, r.Value)) })
	}
	slices.Sort(all)
	return all
}

// TestGatewayKeepsUsers: users, rules, bans and the audit lie in the cluster, and are there again after a restart in
// another folder.
func TestGatewayKeepsUsers(t *testing.T) {
	f := brokers(t)
	cfg := gateway(t, f)
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.access.EnsureUser(t.Context(), "ann", nil, ""); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	other := gateway(t, f)
	n = start(t, other)
	if n.access.Catalog().User("ann") == nil {
		t.Error("the user is gone")
	}
	topic := n.keeper.Topics().ByName("__firth_access")
	if topic == nil || topic.Config["min.insync.replicas"] != "2" {
		t.Errorf("the users are in %+v", topic)
	}
}

// TestSecondGateway is refused while the first is there.
func TestSecondGateway(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	start(t, gateway(t, f))
	second := gateway(t, f)
	second.Log.Kafka.Takeover = time.Second
	_, err := Start(t.Context(), second)
	if !fault.Is(err, fault.Exists) || !strings.Contains(err.Error(), "another node") {
		t.Errorf("a second gateway: %v", err)
	}
}

// TestGatewayWhosePlaceIsTaken ends.
func TestGatewayWhosePlaceIsTaken(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	cfg := gateway(t, f)
	// A sign of life each 4 s; a busy machine is no dead node.
	cfg.Log.Kafka.Takeover, cfg.Logger = 20*time.Second, logtest.New(t, "closed lease")
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	name, err := n.instance()
	if err != nil {
		t.Fatal(err)
	}
	leave := kadm.LeaveGroup("firth-gateways").InstanceIDs(name)
	if left, err := kadm.NewClient(cl).LeaveGroup(t.Context(), leave); err != nil || left.Error() != nil {
		t.Fatal(err, left.Error())
	}
	select {
	case err = <-n.Failed():
	case <-time.After(time.Minute):
	}
	if !fault.Is(err, fault.Fenced) {
		t.Errorf("it ended with %v", err)
	}
	if status, body := request(t, n.Addresses().HTTP, get("/readyz", n.Addresses().HTTP)); status != 503 {
		t.Errorf("%d: %s", status, body)
	}
	if err := n.Close(); !fault.Is(err, fault.Fenced) {
		t.Errorf("closed with %v", err)
	}
}

// TestGatewayFolder: a folder with a log in it is no folder of a gateway, and the other way round.
func TestGatewayFolder(t *testing.T) {
	f := brokers(t)
	alone, cfg := local(t), gateway(t, f)
	n, err := Start(t.Context(), alone)
	if err == nil {
		err = n.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	own := cfg.Data
	cfg.Data = alone.Data
	if _, err = Start(t.Context(), cfg); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "of its own") {
		t.Errorf("a gateway in the folder of a log: %v", err)
	}
	cfg.Data = own
	n, err = Start(t.Context(), cfg)
	if err == nil {
		_, second := Start(t.Context(), cfg)
		if !fault.Is(second, fault.Exists) {
			t.Errorf("two in one folder: %v", second)
		}
		err = n.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	alone.Data = own
	if _, err := Start(t.Context(), alone); !fault.Is(err, fault.Invalid) {
		t.Errorf("a log in the folder of a gateway: %v", err)
	}
}

// TestGatewayLogsIn: by TLS with a certificate of its own, and by SASL with a password from a file.
func TestGatewayLogsIn(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		method := strings.ToUpper(mechanism)
		f := brokers(t, kfake.EnableSASL(), kfake.Superuser(method, "firth", "secret"))
		cfg := gateway(t, f)
		cfg.Log.Kafka.SASL = BrokerSASL{Mechanism: mechanism, User: "firth", PasswordFile: secret}
		start(t, cfg)
		wrong := gateway(t, f)
		wrong.Log.Kafka.RequestTimeout = time.Second
		wrong.Log.Kafka.SASL = BrokerSASL{Mechanism: mechanism, User: "nobody", PasswordFile: secret}
		if n, err := Start(t.Context(), wrong); err == nil {
			t.Errorf("%s: a wrong user is let in: %v", mechanism, n.Close())
		}
	}
	missing := BrokerSASL{Mechanism: "plain", User: "u", PasswordFile: secret + ".not"}
	if _, err := missing.login(); !fault.Is(err, fault.NotFound) {
		t.Errorf("without its file: %v", err)
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	missing.PasswordFile = secret
	if _, err := missing.login(); !fault.Is(err, fault.Denied) {
		t.Errorf("with a file that others read: %v", err)
	}
}

// TestGatewayByTLS: with a certificate of its own, to brokers that it knows.
func TestGatewayByTLS(t *testing.T) {
	ca, folder := securetest.NewCA(t, "brokers"), t.TempDir()
	f := brokers(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.Server("127.0.0.1", "localhost").TLS(t)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}))
	cfg := gateway(t, f)
	of := &cfg.Log.Kafka.TLS
	of.Enabled, of.CA = true, securetest.Write(t, folder, "ca.pem", ca.PEM)
	cfg.Log.Kafka.RequestTimeout = time.Second
	if n, err := Start(t.Context(), cfg); err == nil {
		t.Fatalf("without a certificate the brokers let it in: %v", n.Close())
	}
	of.Certificate, of.Key = ca.Client("gateway").Write(t, folder, "gateway")
	cfg.Log.Kafka.RequestTimeout = time.Minute
	n := start(t, cfg)
	n.stores(t, message("plant/a", "1", 1, false))
	of.CA = of.Key
	if _, err := of.client(); !fault.Is(err, fault.Invalid) {
		t.Errorf("with a key for a certificate: %v", err)
	}
}

// TestGatewayKeys: what a gateway refuses is there to be refused.
func TestGatewayKeys(t *testing.T) {
	for key := range notOfGateways {
		if !slices.ContainsFunc(Options(), func(o Option) bool {
			return o.Key == key || strings.HasSuffix(key, ".") && strings.HasPrefix(o.Key, key)
		}) {
			t.Errorf("there is no key %q", key)
		}
	}
}

package node

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestMigrate: a node is copied ahead while it runs, and moved when it has stopped; a device that was away finds, at
// the gateway, what it missed, once, and retained messages; a consumer group goes on where it was.
func TestMigrate(t *testing.T) {
	f, from := brokers(t), local(t)
	n, err := Start(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	c := n.visit(t, lasting("device", false, got))
	sub := packet.Subscription{Filter: []byte("plant/#"), QoS: 2}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "1", 1, false))
	received(t, got, 1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "2", 1, false), message("plant/b", "3", 2, true))
	commitGroup(t, n.Addresses().Kafka, "readers", 2)

	to := gateway(t, f)
	live := Migration{
		From: from, To: to, Log: logtest.New(t),
		Live: &Brokers{Addresses: n.Addresses().Kafka, ClientID: "test", SASL: BrokerSASL{Mechanism: "none"}},
	}
	if r, err := Migrate(t.Context(), live); err != nil || r.Finished || len(r.Topics) == 0 {
		t.Fatalf("ahead: %+v, %v", r, err)
	}
	n.stores(t, message("plant/c", "4", 2, false))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Migrate(t.Context(), Migration{From: from, To: to, Log: logtest.New(t)})
	if err != nil || !r.Finished {
		t.Fatalf("%+v, %v", r, err)
	}

	g := start(t, to)
	g.visit(t, lasting("device", true, got))
	g.stores(t, message("plant/z", "end", 1, false))
	want := []string{"plant/a 2 1", "plant/b 3 2", "plant/c 4 2", "plant/z end 1"}
	if all := received(t, got, len(want)); !slices.Equal(all, want) {
		t.Errorf("the device got %q", all)
	}
	late := make(chan string, 10)
	other := g.visit(t, client.Options{ClientID: "other", OnMessage: func(m *packet.Publish) {
		late <- string(m.Topic) + " " + string(m.Payload)
	}})
	if _, err := other.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	if all := received(t, late, 1); all[0] != "plant/b 3" {
		t.Errorf("retained: %q", all)
	}
	if at := committedBy(t, f.ListenAddrs()[0], "readers"); at != 2 {
		t.Errorf("the group goes on at %d", at)
	}
}

func kafkaAdmin(t *testing.T, address string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// commitGroup has a group commit an offset for the topic of the plant.
func commitGroup(t *testing.T, address, group string, at int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "plant", Partition: 0, At: at, LeaderEpoch: -1})
	if err := kafkaAdmin(t, address).CommitAllOffsets(t.Context(), group, offsets); err != nil {
		t.Fatal(err)
	}
}

func committedBy(t *testing.T, address, group string) int64 {
	t.Helper()
	all, err := kafkaAdmin(t, address).FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := all.Lookup("plant", 0)
	return one.At
}

package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// takesNothing has a cluster give no answer to what is to be written, when it is set.
func takesNothing(f *kfake.Cluster) *atomic.Bool {
	var away atomic.Bool
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.InitProducerID, kmsg.AddPartitionsToTxn} {
		f.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			f.KeepControl()
			return nil, errors.New("the cluster is away"), away.Load()
		})
	}
	return &away
}

// TestGatewayWithSpool: while the cluster takes nothing, what devices publish is acknowledged with every QoS, sessions
// begin, and the node is ready and says what waits; a start after that sends all of it, once and in order, and a
// session knows the packet ids of QoS 2 that it had received.
func TestGatewayWithSpool(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	cfg := gateway(t, f)
	cfg.Log.Kafka.Ack = ackSpool
	cfg.Log.Kafka.RequestTimeout = 15 * time.Second // a node that ends waits so long, a busy cluster may take as long
	cfg.Logger = logtest.New(t, "closed log")
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	c := n.visit(t, lasting("device", false, got))
	sub := packet.Subscription{Filter: []byte("plant/#"), QoS: 1}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "before", 1, false))
	received(t, got, 1)

	away := takesNothing(f)
	away.Store(true)
	var all []*packet.Publish
	want := make([]string, 0, 30)
	for i := range 30 {
		m := message("plant/a", fmt.Sprintf("%02d", i), byte(1+i%2), false)
		all = append(all, m)
		want = append(want, fmt.Sprintf("plant/a %s 1", m.Payload))
	}
	n.stores(t, all...)
	if status, body := request(t, n.Addresses().HTTP, get("/readyz?verbose", n.Addresses().HTTP)); status != 200 ||
		!strings.Contains(body, "wait in the spool") {
		t.Errorf("%d: %s", status, body)
	}
	other := n.visit(t, lasting("other", false, nil))
	if _, err := other.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
		t.Fatal(err)
	}
	c.Abort()
	other.Abort()
	if len(got) > 0 {
		t.Errorf("%s came before Kafka had it", <-got)
	}
	_ = n.Close() // the cluster takes nothing from it

	away.Store(false)
	if n, err = Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n.visit(t, lasting("device", true, got))
	for _, want := range want {
		if one := <-got; one != want {
			t.Fatalf("%s came, not %s", one, want)
		}
	}
	again := make(chan string, 100)
	n.visit(t, lasting("other", true, again))
	n.stores(t, message("plant/a", "after", 1, false))
	if one := received(t, got, 1)[0]; one != "plant/a after 1" {
		t.Errorf("%s came after the outage", one)
	}
	if one := received(t, again, 1)[0]; one != "plant/a after 1" && !slices.Contains(want, one) {
		t.Errorf("%s came to who subscribed meanwhile", one)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

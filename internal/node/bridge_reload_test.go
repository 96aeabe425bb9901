package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/apps/bridge"
)

// reloads reloads the configuration of n with other bridges, and wants the key to be told as changed or not.
func (n *Node) reloads(t *testing.T, changed bool, bridges ...string) {
	t.Helper()
	next := *n.cfg
	if next.Bridges = nil; len(bridges) > 0 {
		next.Bridges = bridged(t, bridges...).Bridges
	}
	keys, waiting, err := n.Reload(&next)
	if err != nil || len(waiting) > 0 || slices.Contains(keys, "bridges") != changed {
		t.Fatalf("changed %q, waiting %q, %v", keys, waiting, err)
	}
}

// TestBridgeReload: bridges come, go and change while the node runs and messages pass. One of which nothing has changed
// keeps its connection; nothing of the others is lost or comes twice.
func TestBridgeReload(t *testing.T) {
	f := start(t, local(t))
	n := start(t, local(t))
	one := func(name, more string) string {
		return fmt.Sprintf(`name: %s, addresses: %q, topics: [ { filter: "%s/#", direction: both, qos: 2 } ]%s`, name,
			f.Addresses().MQTT, name, more)
	}
	n.reloads(t, false)
	n.reloads(t, true, one("kept", ""), one("changed", ""), one("gone", ""))
	n.awaitBridges(t)
	since := n.bridges.List()[0].Since
	here, there := newPublisher(t, n), newPublisher(t, f)
	const rounds, each = 12, 20
	for i := range rounds {
		some := count("m", i*each, (i+1)*each)
		here.publish(t, "kept/out", some...)
		here.publish(t, "changed/out", some...)
		there.publish(t, "changed/in", some...)
		more := fmt.Sprintf(", max_inflight: %d", 5+i)
		n.reloads(t, true, one("new", ""), one("changed", more), one("kept", ""))
		n.reloads(t, false, one("new", ""), one("changed", more), one("kept", ""))
	}
	all := count("m", 0, rounds*each)
	f.want(t, "kept", all...)
	for _, side := range []*Node{n, f} {
		becomes(t, "all messages", func() bool { return len(side.stored(t, "changed")) >= 2*len(all) })
		for _, way := range []string{"changed/out", "changed/in"} {
			if got := side.keyed(t, "changed", way); !slices.Equal(got, all) {
				t.Errorf("%s has %d messages for %d: %.200q", way, len(got), len(all), got)
			}
		}
	}
	list := n.bridges.List()
	if s := list[2]; s.Name != "kept" || s.State != bridge.StateConnected || !s.Since.Equal(since) {
		t.Errorf("the bridge that has not changed: %+v, it was connected at %v", s, since)
	}
	here.publish(t, "new/x", "new")
	f.want(t, "new", "new")
	here.publish(t, "gone/x", "waits")
	n.reloads(t, true)
	if got := f.stored(t, "gone"); len(got) > 0 || len(n.bridges.List()) > 0 {
		t.Errorf("%q went out, and there are %+v", got, n.bridges.List())
	}
	if _, text := request(t, n.Addresses().HTTP, get("/metrics", n.Addresses().HTTP)); strings.Contains(text,
		"firth_bridge_connected{") {
		t.Error("a bridge that is gone is measured")
	}
	n.reloads(t, true, one("gone", "")) // its session is still there
	f.want(t, "gone", "waits")
}

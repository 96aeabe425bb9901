package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/apps/bridge"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// TestBridgeTLS: a bridge shows its certificate to a server of an authority of its own, and connects to no other, nor
// without a certificate that is asked for.
func TestBridgeTLS(t *testing.T) {
	far := startEncrypted(t, "require")
	certificate, key := far.devices.Client("bridge").Write(t, far.dir, "bridge")
	ca := securetest.Write(t, far.dir, "ca.pem", far.ca.PEM)
	strange := securetest.Write(t, far.dir, "strange.pem", securetest.NewCA(t, "strangers").PEM)
	const topics = `, topics: [ { filter: "a/#", direction: both, qos: 2 } ]`
	to := `, addresses: "` + far.a.MQTTS + `", tls: true, server_name: `
	shows := `, certificate: "` + certificate + `", key: "` + key + `"`
	n := start(t, bridged(t,
		"name: good"+to+`broker.example, ca: "`+ca+`"`+shows+topics,
		"name: stranger"+to+`broker.example, ca: "`+strange+`"`+shows+topics,
		"name: another"+to+`elsewhere.example, ca: "`+ca+`"`+shows+topics,
		"name: nobody"+to+`broker.example, ca: "`+ca+`"`+topics,
	))
	for i, want := range []string{"", "authority", "elsewhere.example", "certificate"} {
		becomes(t, "a bridge is connected, or knows why not", func() bool {
			s := n.bridges.List()[i]
			return want == "" && s.State == bridge.StateConnected || want != "" && strings.Contains(s.Problem, want)
		})
	}
	newPublisher(t, n).publish(t, "a/x", "out")
	far.want(t, "a", "out")
	newPublisher(t, far.Node).publish(t, "a/x", "in")
	n.want(t, "a", "out", "in")
}

// TestBridgeLazy: a bridge connects when enough waits, and leaves when nothing passes any more.
func TestBridgeLazy(t *testing.T) {
	far := start(t, local(t))
	n := start(t, bridged(t, `name: far, addresses: "`+far.Addresses().MQTT+`", start: lazy, threshold: 5,
		idle_timeout: 1s, topics: [ { filter: "a/#", direction: out, qos: 1 } ]`))
	idle := func() bool { return n.bridges.List()[0].State == bridge.StateIdle }
	becomes(t, "idle", idle)
	newPublisher(t, n).publish(t, "a/x", count("m", 0, 4)...)
	becomes(t, "a backlog of 4 records", func() bool { return n.bridges.List()[0].Backlog == 4 })
	if got := far.stored(t, "a"); len(got) > 0 {
		t.Fatalf("4 records, less than the threshold, went out: %q", got)
	}
	newPublisher(t, n).publish(t, "a/x", count("m", 4, 10)...)
	far.want(t, "a", count("m", 0, 10)...)
	becomes(t, "idle again", idle)
}

// TestBridgeOnce: a bridge that has lost its connection connects again only when it is told to.
func TestBridgeOnce(t *testing.T) {
	there := local(t)
	there.Listen.MQTT = keptAddresses(t, 1)[0]
	far := start(t, there)
	n := start(t, bridged(t, `name: far, addresses: "`+there.Listen.MQTT+`", start: once,
		topics: [ { filter: "a/#", direction: out, qos: 2 } ]`))
	n.awaitBridges(t)
	newPublisher(t, n).publish(t, "a/x", "before")
	far.want(t, "a", "before")
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	becomes(t, "ended", func() bool { return n.bridges.List()[0].State == bridge.StateEnded })
	there.Logger = n.log
	far = start(t, there)
	newPublisher(t, n).publish(t, "a/x", "meanwhile")
	got, state := far.stored(t, "a"), n.bridges.List()[0].State
	if !slices.Equal(got, []string{"before"}) || state != bridge.StateEnded {
		t.Fatalf("a bridge came back by itself: %q", got)
	}
	b, err := n.bridges.Named("far")
	if err != nil {
		t.Fatal(err)
	}
	b.Resume()
	far.want(t, "a", "before", "meanwhile")
}

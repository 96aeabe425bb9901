package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/apps/bridge"
	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// bridged is a configuration with bridges: each is its keys as YAML.
func bridged(t *testing.T, bridges ...string) *Config {
	t.Helper()
	c := local(t)
	text := "bridges:\n"
	for _, b := range bridges {
		text += "  - { restart_min: 10ms, restart_max: 100ms, " + b + " }\n"
	}
	read, err := Load(Sources{File: "firth.yaml", Text: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	c.Bridges = read.Bridges
	return c
}

// becomes waits until something is so; it is generous, for the machine may be busy.
func becomes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// keptAddresses are free ones with ports that the system gives to nobody by itself: any other may be somebody's when a
// node that was down comes back to it, even that of a client which has knocked there meanwhile.
func keptAddresses(t *testing.T, n int) (all []string) {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer l.Close() // not before all are found
		if all = append(all, l.Addr().String()); len(all) == n {
			return all
		}
	}
	t.Fatalf("no %d free ports", n)
	return nil
}

func (n *Node) awaitBridges(t *testing.T) {
	t.Helper()
	for i := range n.cfg.Bridges {
		becomes(t, "a bridge is connected", func() bool { return n.bridges.List()[i].State == bridge.StateConnected })
	}
}

// publisher publishes with QoS 2, each message once.
type publisher struct {
	c    *client.Client
	mu   sync.Mutex
	errs []error
}

func newPublisher(t *testing.T, n *Node) *publisher {
	t.Helper()
	p := &publisher{}
	c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{
		OnAck: func(_ uint64, reason packet.ReasonCode, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil || reason.Failed() {
				p.errs = append(p.errs, fmt.Errorf("%s %w", reason, err))
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	p.c = c
	t.Cleanup(func() { _ = c.Close() }) // the node may have ended
	return p
}

func (p *publisher) publish(t *testing.T, topic string, payloads ...string) {
	t.Helper()
	for _, payload := range payloads {
		if err := p.c.Publish(&packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 2}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) > 0 {
		t.Fatal(p.errs)
	}
}

// stored are the payloads of a topic of the log, in order.
func (n *Node) stored(t *testing.T, topic string) []string {
	t.Helper()
	return n.keyed(t, topic, "")
}

// keyed are those of the records with a key; "": of all.
func (n *Node) keyed(t *testing.T, topic, key string) (all []string) {
	t.Helper()
	topics := n.store.Topics()
	found := topics.ByName(topic)
	if found == nil {
		return nil
	}
	for _, p := range found.Partitions {
		bounds, err := n.store.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		for at := bounds.Start; at < bounds.Stable; {
			if at, err = n.store.Scan(p, at, stream.ScanOptions{}, func(v *record.View) bool {
				if key == "" || string(v.Key) == key {
					all = append(all, string(v.Value))
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func count(what string, from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%s %d", what, i))
	}
	return all
}

// want waits until a topic of the log has exactly some payloads.
func (n *Node) want(t *testing.T, topic string, payloads ...string) {
	t.Helper()
	becomes(t, fmt.Sprintf("%d messages in %s", len(payloads), topic),
		func() bool { return len(n.stored(t, topic)) >= len(payloads) })
	if got := n.stored(t, topic); !slices.Equal(got, payloads) {
		t.Fatalf("%s has %d messages for %d: %.200q", topic, len(got), len(payloads), got)
	}
}

// TestBridge: in, out and both, by both versions, with names of their own, while both nodes stop and start again.
func TestBridge(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			far := local(t)
			far.Listen.MQTT = keptAddresses(t, 1)[0]
			f := start(t, far)
			near := bridged(t, `name: far, addresses: "`+far.Listen.MQTT+`", protocol: "`+version+`", topics: [
				{ filter: "#", direction: out, qos: 2, local_prefix: up/, remote_prefix: high/ },
				{ filter: "#", direction: in, qos: 2, local_prefix: down/, remote_prefix: low/ },
				{ filter: both/#, direction: both, qos: 2 } ]`)
			n := start(t, near)
			n.awaitBridges(t)
			newPublisher(t, n).publish(t, "up/a", count("up", 0, 50)...)
			newPublisher(t, f).publish(t, "low/a", count("down", 0, 50)...)
			newPublisher(t, n).publish(t, "both/a", "here")
			f.want(t, "both", "here")
			newPublisher(t, f).publish(t, "both/a", "there")

			if err := f.Close(); err != nil { // what goes out waits
				t.Fatal(err)
			}
			newPublisher(t, n).publish(t, "up/a", count("up", 50, 100)...)
			far.Logger, near.Logger = n.log, n.log
			f = start(t, far)
			f.want(t, "high", count("up", 0, 100)...)

			if err := n.Close(); err != nil { // what comes in waits
				t.Fatal(err)
			}
			newPublisher(t, f).publish(t, "low/a", count("down", 50, 100)...)
			n = start(t, near)
			n.want(t, "down", count("down", 0, 100)...)
			newPublisher(t, n).publish(t, "both/a", "end") // behind any echo
			f.want(t, "both", "here", "there", "end")
			n.want(t, "both", "here", "there", "end")
		})
	}
}

// TestBridgeCircle: a message passes each of three nodes once, whether they push, pull, or both.
func TestBridgeCircle(t *testing.T) {
	for _, direction := range []string{"in", "out", "both"} {
		t.Run(direction, func(t *testing.T) {
			const size = 3
			var nodes [size]*Node
			addresses := keptAddresses(t, size)
			for i := range size {
				c := bridged(t, `name: next, addresses: "`+addresses[(i+1)%size]+
					`", topics: [ { filter: "x/#", direction: `+direction+`, qos: 1 } ]`)
				c.Listen.MQTT = addresses[i]
				nodes[i] = start(t, c)
			}
			for i := range size {
				nodes[i].awaitBridges(t)
			}
			newPublisher(t, nodes[0]).publish(t, "x/a", count("m", 0, 10)...)
			for i := range size {
				becomes(t, "all messages", func() bool { return len(nodes[i].stored(t, "x")) >= 10 })
			}
			becomes(t, "the end of the circle", func() bool { return dropped(nodes[:], relay.Looped) >= 10 })
			for i, n := range nodes {
				got := n.stored(t, "x")
				once := map[string]bool{}
				for _, m := range got {
					once[m] = true
				}
				if most := 20; len(once) != 10 || direction != "both" && len(got) != 10 || len(got) > most {
					t.Errorf("node %d has %d messages, %d of them different", i, len(got), len(once))
				}
			}
		})
	}
}

// dropped is how many messages bridges of some nodes left out for a reason.
func dropped(nodes []*Node, why relay.Reason) (sum int) {
	for _, n := range nodes {
		for _, s := range n.bridges.List() {
			sum += int(s.Dropped[why.String()])
		}
	}
	return sum
}

// TestBridgeRights: a bridge may do here what its user may.
func TestBridgeRights(t *testing.T) {
	f := start(t, local(t))
	c := bridged(t, `name: far, user: bridge, addresses: "`+f.Addresses().MQTT+`", topics: [
		{ filter: "a/#", direction: both, qos: 2 }, { filter: "b/#", direction: both, qos: 2 } ]`)
	bridges := c.Bridges
	c.Bridges = nil
	n := start(t, c)
	err := n.access.AddUser(t.Context(), access.UserChange{Name: "bridge", Password: []byte("secret")})
	if err == nil {
		err = n.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{{Effect: rule.Allow, Principal: "User:bridge",
			Operations: rule.Of(rule.Write),
			Resource:   rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "a/#"}}}})
	}
	if err == nil {
		err = n.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Bridges = bridges
	n = start(t, c)
	n.awaitBridges(t)
	newPublisher(t, f).publish(t, "b/x", "denied")
	newPublisher(t, f).publish(t, "a/x", "allowed")
	n.want(t, "a", "allowed")
	if got := n.stored(t, "b"); len(got) > 0 {
		t.Fatalf("a bridge wrote what it may not: %q", got)
	}
	becomes(t, "one message refused", func() bool { return dropped([]*Node{n}, relay.Refused) == 1 })
}

// TestBridgePause: a bridge that is paused disconnects, and what came meanwhile passes when it is resumed.
func TestBridgePause(t *testing.T) {
	f := start(t, local(t))
	n := start(t, bridged(t, `name: far, addresses: "`+f.Addresses().MQTT+`", out_rate: 1000000, topics: [
		{ filter: "a/#", direction: both, qos: 1 } ]`))
	n.awaitBridges(t)
	b, err := n.bridges.Named("far")
	if err != nil {
		t.Fatal(err)
	}
	for _, tested := range b.Test(t.Context()) {
		if tested.Problem != "" || len(tested.Refused) > 0 {
			t.Errorf("%+v", tested)
		}
	}
	b.Pause()
	becomes(t, "paused", func() bool { return b.Status().State == bridge.StatePaused })
	newPublisher(t, n).publish(t, "a/x", count("m", 0, 10)...)
	becomes(t, "a backlog of 10 records", func() bool { return b.Status().Backlog == 10 })
	b.Resume()
	f.want(t, "a", count("m", 0, 10)...)
	becomes(t, "no backlog", func() bool { return b.Status().Backlog == 0 })
	if _, err := n.bridges.Named("near"); err == nil {
		t.Error("there is a bridge that is not there")
	}
}

// TestBridgeTries: a bridge takes the first address that answers.
func TestBridgeTries(t *testing.T) {
	f := start(t, local(t))
	n := start(t, bridged(t, `name: far, addresses: "127.0.0.1:1,`+f.Addresses().MQTT+`", topics: [ { filter: x } ]`))
	n.awaitBridges(t)
	if s := n.bridges.List()[0]; s.Address != f.Addresses().MQTT {
		t.Errorf("it is connected to %s", s.Address)
	}
}

// TestBridgeProblems: what a configuration may not say of a bridge, and where it does.
func TestBridgeProblems(t *testing.T) {
	const good = "name: a, addresses: 'h:1', topics: [ { filter: x } ]"
	for text, want := range map[string]string{
		"name: a, addresses: 'h:1'":                              `3:5: bridges: bridge 1: has no key "topics"`,
		"name: a, addresses: h, topics: [ { filter: x } ]":       `addresses: "h" is not host:port`,
		"name: a/b, addresses: 'h:1', topics: [ { filter: x } ]": `name: "a/b" is no level`,
		"name: a, addresses: 'h:1', topics: x":                   `topics: want a list, each a topic, found text`,
		"name: a, addresses: 'h:1', topics: [ { filter: a/#/b } ]": `topics: topic 1: filter: "a/#/b" is no topic ` +
			`filter`,
		"name: a, addresses: 'h:1', topics: [ { fliter: x } ]": `unknown key "fliter" (did you mean "filter"?)`,
		good + ", ca: /x":            "tls: is not true",
		good + ", password_file: /x": "username: a password needs one",
	} {
		_, err := Load(Sources{File: "f", Text: []byte("\nbridges:\n  - { " + text + " }")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", text, err, want)
		}
	}
	const twice = "{ " + good + " }"
	_, err := Load(Sources{File: "f", Text: []byte("bridges: [" + twice + "," + twice + "]")})
	if err == nil || !strings.Contains(err.Error(), "another one called a") {
		t.Error(err)
	}
	one, err := Load(Sources{File: "f", Text: []byte("bridges: [" + twice + "]")})
	if err != nil {
		t.Fatal(err)
	}
	o := one.Bridges[0].options("0123456789")
	if o.ClientID != "a-01234567" || o.LocalClientID != "bridge.a" || o.Version != packet.V5 || o.MaxInflight != 20 {
		t.Errorf("%+v", o)
	}
	if want := (relay.Topic{Filter: "x", Direction: relay.Out}); o.Topics[0] != want {
		t.Errorf("%+v", o.Topics)
	}
}

package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge"
	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The bridges of the access matrix: each has the rights of a user here, which change while it runs, both ways. At the
// other server everybody may do everything.

// bridgeUsers are whose the bridges are, by their numbers among the people, and what each bridge is called here.
var bridgeUsers = []struct {
	of     int
	client string
}{{0, "c1-bridge"}, {1, "+/bridge"}, {2, "x"}, {4, "#/bridge"}}

// span is a bridge as the matrix has it.
type span struct {
	who  *person
	name string
	far  *visitor // who is at the other server
}

// bridgesTo are the bridges to another server.
func (m *matrix) bridgesTo(address string) (all []Bridge) {
	for i, b := range bridgeUsers {
		if b.of >= len(m.people) {
			continue
		}
		who := *m.people[b.of]
		who.client, who.listener, who.address = b.client, "bridges", ""
		s := span{who: &who, name: fmt.Sprint("b", i)}
		m.spans = append(m.spans, &s)
		all = append(all, Bridge{Name: s.name, Addresses: address, User: who.user, LocalClientID: b.client, Protocol: "5",
			SessionExpiry: forever, KeepAlive: time.Minute, Start: "automatic", Threshold: 10, Idle: time.Minute,
			RestartMin: 10 * time.Millisecond, RestartMax: 100 * time.Millisecond, MaxInflight: 20, OutRate: unlimited,
			OutRetain: true, Notify: "off", MaxHops: 8, Topics: []relay.Topic{
				{Filter: "+/bout/#", Direction: relay.Out, QoS: 1, RemotePrefix: "out/" + s.name + "/"},
				{Filter: "+/bfence/out", Direction: relay.Out, QoS: 1, RemotePrefix: "out/" + s.name + "/"},
				{Filter: "+/bin/#", Direction: relay.In, QoS: 1, RemotePrefix: "in/" + s.name + "/"},
				{Filter: "+/bfence/in", Direction: relay.In, QoS: 1, RemotePrefix: "in/" + s.name + "/"},
			}})
	}
	return all
}

// farNode starts the other server.
func (m *matrix) farNode() {
	c := Default()
	c.FS = vfs.NewMemory()
	c.Listen = Listen{MQTT: "127.0.0.1:0"}
	n, err := Start(m.t.Context(), c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			m.t.Error(err)
		}
	})
	m.far = n
}

// atFar connects who looks at the other server what a bridge brings there.
func (m *matrix) atFar(s *span) {
	d := &visitor{m: m, who: s.who, got: map[string]string{}, secrets: map[string]int{}, refused: map[uint64]bool{},
		acked: map[uint64]bool{}, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, m.far.Addresses().MQTT, client.Options{ClientID: s.name + "-far", KeepAlive: -1,
		ManualAck: true, OnMessage: d.message, OnAck: d.ack})
	if err != nil {
		m.t.Fatal(err)
	}
	d.mu.Lock()
	d.c = c
	d.mu.Unlock()
	m.t.Cleanup(c.Abort)
	d.subscribe(packet.Properties{}, 1, "out/"+s.name+"/#")
	s.far = d
}

// cross has messages go by each bridge, both ways, and judges which arrive.
func (m *matrix) cross() {
	for _, s := range m.spans {
		if s.far == nil { // it came before there were rules, and what it asked for was refused
			m.atFar(s)
			m.admin(http.MethodPost, "/bridge/pause?name="+s.name, nil)
			m.awaitState(s, bridge.StatePaused)
			m.admin(http.MethodPost, "/bridge/resume?name="+s.name, nil)
			m.awaitState(s, bridge.StateConnected)
		}
		m.awaitSpan(s)
	}
	out := m.send("bout", nil)
	ways := map[*span][]attempt{}
	for _, s := range m.spans {
		for _, name := range m.names("bin") {
			one := attempt{"bin", name, m.next("bin"), s.who, m.oracle.name(s.who, "write", name)}
			s.far.publish(&packet.Publish{Topic: []byte("in/" + s.name + "/" + name), Payload: []byte(one.payload), QoS: 1}, 0)
			ways[s] = append(ways[s], one)
		}
		if !m.oracle.out[s.who.user] {
			s.far.drain()
			m.fenceOut(s)
			m.fenceIn(s)
		}
	}
	for _, s := range m.spans {
		s.far.await(readable(&m.oracle, s.who, out))
		for name, payload := range out {
			may := m.oracle.name(s.who, "read", name)
			m.judge("bout", s.who, name, may, s.far.has(payload))
			if !may {
				m.after("bout", s.who, name, func() bool { return s.far.has(payload) })
			}
			m.judgeMasks("bout", s.far, name, payload)
		}
		m.stored(ways[s])
	}
}

// awaitSpan waits until a bridge is connected, or is not any more, as it may.
func (m *matrix) awaitSpan(s *span) {
	m.t.Helper()
	if m.oracle.out[s.who.user] {
		m.awaitState(s, bridge.StateWaiting)
		return
	}
	m.awaitState(s, bridge.StateConnected)
}

func (m *matrix) awaitState(s *span, state string) {
	m.t.Helper()
	b, err := m.node.bridges.Named(s.name)
	if err != nil {
		m.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); b.Status().State != state; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("phase %d: %s is not %s: %+v", m.phase, s.name, state, b.Status())
		}
	}
}

// fenceOut and fenceIn wait until what was sent before by a bridge has arrived, if it arrives, of what goes to the
// topic of the log that most names go to.
func (m *matrix) fenceOut(s *span) {
	m.t.Helper()
	payload := m.next("fence")
	m.root.publish(&packet.Publish{Topic: []byte(mxRoot + "/bfence/out"), Payload: []byte(payload), QoS: 1}, 0)
	if s.far.await(map[string]string{payload: "fence"}) != nil {
		m.t.Fatalf("phase %d: %s passes nothing on: %+v", m.phase, s.name, m.node.bridges.List())
	}
}

func (m *matrix) fenceIn(s *span) {
	m.t.Helper()
	payload := m.next("fence")
	s.far.publish(&packet.Publish{Topic: []byte("in/" + s.name + "/" + mxRoot + "/bfence/in"), Payload: []byte(payload),
		QoS: 1}, 0)
	if m.root.await(map[string]string{payload: "fence"}) != nil {
		m.t.Fatalf("phase %d: nothing comes by %s", m.phase, s.name)
	}
}

// lastBridge removes the user of a bridge that runs, and has messages go by it.
func (m *matrix) lastBridge() {
	user := m.spans[0].who.user
	m.admin(http.MethodDelete, "/user?"+url.Values{"name": {user}}.Encode(), nil)
	m.oracle.out[user] = true
	m.cross()
}

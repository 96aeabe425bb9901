package session_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// TestPlays plays testdata: each file is a session, each command an event, the output its effects.
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := &play{t: t, limits: session.Limits{
			ReceiveMaximum: 4, MaxInflight: 10, TopicAliasMaximum: 2, MaxPacketBytes: 1 << 20, MaxSubscriptions: 3,
		}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.event(d) })
	})
}

type play struct {
	t      *testing.T
	s      *session.State
	link   *session.Link
	limits session.Limits
	offset int64
}

func (p *play) event(d *datadriven.TestData) string {
	switch d.Cmd {
	case "connect":
		return p.connect(d)
	case "publish":
		return p.publish(d)
	case "receive":
		return p.receive(d)
	case "settle":
		return p.acks(p.link.Acks.Settle(p.number(d, "n"), p.reason(d), nil))
	case "answer":
		return p.acks(p.link.Acks.Answer(p.number(d, "n"), p.reason(d), nil))
	case "withdraw":
		p.link.Acks.Withdraw(p.number(d, "n"))
		return fmt.Sprintf("waiting %d\n", p.link.Acks.Waiting())
	case "send":
		return p.send(p.number(d, "n"))
	case "puback":
		return p.puback(d)
	case "subscribe":
		return p.subscribe(d)
	case "unsubscribe":
		return fmt.Sprintf("existed %v, %d left\n", p.s.Unsubscribe([]byte(p.text(d, "filter"))) != nil, p.s.Subscriptions())
	case "disconnect":
		return p.disconnect(d)
	case "will":
		if w := p.s.TakeWill(); w != nil {
			return fmt.Sprintf("%s = %s, QoS %d, retain %v\n", w.Topic, w.Payload, w.QoS, w.Retain)
		}
		return "none\n"
	}
	p.t.Fatalf("%s: unknown event %s", d.Pos, d.Cmd)
	return ""
}

func (p *play) text(d *datadriven.TestData, key string) string {
	var s string
	if d.HasArg(key) {
		d.ScanArgs(p.t, key, &s)
	}
	return s
}

func (p *play) number(d *datadriven.TestData, key string) int {
	n := 0
	if d.HasArg(key) {
		d.ScanArgs(p.t, key, &n)
	}
	return n
}

func (p *play) reason(d *datadriven.TestData) packet.ReasonCode {
	if !d.HasArg("reason") {
		return packet.Success
	}
	n, err := strconv.ParseUint(p.text(d, "reason"), 0, 8)
	if err != nil {
		p.t.Fatal(err)
	}
	return packet.ReasonCode(n)
}

func (p *play) connect(d *datadriven.TestData) string {
	c := &packet.Connect{
		Version: packet.Version(p.number(d, "v")), ClientID: []byte(p.text(d, "id")),
		KeepAlive: uint16(p.number(d, "keep-alive")),
	}
	if n := p.number(d, "receive-max"); n > 0 {
		c.Props.SetReceiveMaximum(uint16(n))
	}
	if n := p.number(d, "expiry"); n > 0 {
		c.Props.SetSessionExpiry(uint32(n))
	}
	if will := p.text(d, "will"); will != "" {
		c.Will = &packet.Will{Topic: []byte(will), Payload: []byte("bye"), QoS: 1, Retain: true}
	}
	p.limits.MaxKeepAlive = uint16(p.number(d, "max-keep-alive"))
	s, link, ack := session.Open(c, &p.limits, "assigned-1")
	p.s, p.link = s, link
	return fmt.Sprintf("%x\nclient %s, keep alive %d, window %d\n",
		ack.AppendTo(nil, c.Version), s.ClientID(), link.KeepAlive(), s.Out.Window())
}

func (p *play) publish(d *datadriven.TestData) string {
	m := &packet.Publish{Topic: []byte(p.text(d, "topic")), QoS: byte(p.number(d, "qos"))}
	if d.HasArg("alias") {
		m.Props.SetTopicAlias(uint16(p.number(d, "alias")))
	}
	topic, err := p.link.Publish(m)
	if err != nil {
		return failure(err)
	}
	return string(topic) + "\n"
}

func failure(err error) string { return fmt.Sprintf("0x%02x %v\n", uint8(packet.ReasonOf(err)), err) }

func (p *play) receive(d *datadriven.TestData) string {
	kind := packet.PUBACK
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "pubrec":
			kind = packet.PUBREC
			continue
		case "pubcomp":
			kind = packet.PUBCOMP
			continue
		}
		id, err := strconv.ParseUint(arg.Key, 10, 16)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := p.link.Acks.Expect(kind, uint16(id)); err != nil {
			return failure(err)
		}
	}
	return fmt.Sprintf("waiting %d\n", p.link.Acks.Waiting())
}

// acks decodes acknowledgements.
func (p *play) acks(b []byte) string {
	var out strings.Builder
	dec := packet.Decoder{Version: p.link.Version(), Client: true}
	for len(b) > 0 {
		n, err := packet.Frame(b, packet.MaxSize)
		if err != nil || n == 0 {
			p.t.Fatalf("%x: %v", b, err)
		}
		decoded, err := dec.Decode(b[:n])
		if err != nil {
			p.t.Fatal(err)
		}
		switch ack := decoded.(type) {
		case *packet.Puback:
			fmt.Fprintf(&out, "PUBACK %d 0x%02x\n", ack.PacketID, uint8(ack.Reason))
		case *packet.Pubrec:
			fmt.Fprintf(&out, "PUBREC %d 0x%02x\n", ack.PacketID, uint8(ack.Reason))
		case *packet.Pubcomp:
			fmt.Fprintf(&out, "PUBCOMP %d 0x%02x\n", ack.PacketID, uint8(ack.Reason))
		default:
			p.t.Fatalf("%T", decoded)
		}
		b = b[n:]
	}
	if p.link.Acks.Lost() {
		out.WriteString("lost, ")
	}
	fmt.Fprintf(&out, "waiting %d\n", p.link.Acks.Waiting())
	return out.String()
}

func (p *play) send(n int) string {
	var ids []uint16
	for range n {
		id, ok := p.s.Out.Send(session.Place{Partition: 1, Offset: p.offset})
		if !ok {
			break
		}
		p.offset++
		ids = append(ids, id)
	}
	return fmt.Sprintf("sent %v; %s", ids, p.flight())
}

func (p *play) flight() string {
	var offsets []int64
	for place := range p.s.Out.Unacknowledged {
		offsets = append(offsets, place.Offset)
	}
	return fmt.Sprintf("in flight %v, full %v, roomy %v\n", offsets, p.s.Out.Full(), p.s.Out.Roomy())
}

func (p *play) puback(d *datadriven.TestData) string {
	id := uint16(p.number(d, "id"))
	before := p.s.Out.Has(id)
	place, ok := p.s.Out.Ack(id)
	if ok != before {
		p.t.Errorf("%s: Has said %v, Ack %v", d.Pos, before, ok)
	}
	if !ok {
		return "unknown; " + p.flight()
	}
	return fmt.Sprintf("offset %d; %s", place.Offset, p.flight())
}

func (p *play) subscribe(d *datadriven.TestData) string {
	m := &packet.Subscribe{PacketID: 1}
	if id := p.number(d, "id"); id > 0 {
		m.Props.AddSubscriptionID(uint32(id))
	}
	for line := range strings.Lines(d.Input) {
		fields := strings.Fields(line)
		one := packet.Subscription{Filter: []byte(fields[0]), QoS: fields[1][0] - '0'}
		for _, option := range fields[2:] {
			switch option {
			case "bad":
				one.Reason = packet.TopicFilterInvalid
			case "handling=1":
				one.RetainHandling = 1
			case "handling=2":
				one.RetainHandling = 2
			case "no-local":
				one.NoLocal = true
			}
		}
		m.Subscriptions = append(m.Subscriptions, one)
	}
	var out strings.Builder
	for _, g := range p.s.Subscribe(m, p.room(d), nil) {
		fmt.Fprintf(&out, "0x%02x", uint8(g.Reason))
		if g.Sub != nil {
			fmt.Fprintf(&out, " %s id=%d no-local=%v replaces=%v retained=%v",
				g.Sub.Filter, g.Sub.ID, g.Sub.NoLocal, g.Old != nil, g.Retained)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// room is how much the filters of an event may make us hold; without a bound for most.
func (p *play) room(d *datadriven.TestData) int {
	if d.HasArg("room") {
		return p.number(d, "room")
	}
	return 1 << 20
}

func (p *play) disconnect(d *datadriven.TestData) string {
	m := &packet.Disconnect{Reason: p.reason(d)}
	if n := p.number(d, "expiry"); n > 0 {
		m.Props.SetSessionExpiry(uint32(n))
	}
	if err := p.s.Disconnect(m); err != nil {
		return failure(err)
	}
	return fmt.Sprintf("will stays %v\n", p.s.Will() != nil)
}

// TestOutboundAgainstModel sends and acknowledges at random, over the wrap of packet ids, beside a map.
func TestOutboundAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	limits := session.Limits{MaxInflight: 50, ReceiveMaximum: 1}
	s, _, _ := session.Open(&packet.Connect{Version: packet.V5, ClientID: []byte("x")}, &limits, "")
	o := &s.Out
	model := map[uint16]int64{}
	var order []uint16
	for step := range int64(400_000) {
		if rng.IntN(2) == 0 {
			id, ok := o.Send(session.Place{Offset: step})
			if !ok {
				if len(model) < 50 && len(model) > 0 && order[0] == 0 {
					t.Fatalf("step %d: full with %d in flight", step, len(model))
				}
				continue
			}
			if _, taken := model[id]; taken || id == 0 {
				t.Fatalf("step %d: id %d is in use", step, id)
			}
			model[id] = step
			order = append(order, id)
		} else if len(order) > 0 {
			at := rng.IntN(min(len(order), 8))
			id := order[at]
			order = slices.Delete(order, at, at+1)
			place, ok := o.Ack(id)
			if !ok || place.Offset != model[id] {
				t.Fatalf("step %d: ack of %d gave %v %v, want %d", step, id, place, ok, model[id])
			}
			delete(model, id)
			if _, again := o.Ack(id); again {
				t.Fatalf("step %d: id %d acknowledged twice", step, id)
			}
		}
		if o.InFlight() != len(model) {
			t.Fatalf("step %d: %d in flight, want %d", step, o.InFlight(), len(model))
		}
	}
	last := int64(-1)
	for place := range o.Unacknowledged {
		if place.Offset <= last {
			t.Fatalf("offset %d after %d", place.Offset, last)
		}
		last = place.Offset
	}
}

func TestSettleAllocatesNothing(t *testing.T) {
	limits := session.Limits{MaxInflight: 100, ReceiveMaximum: 1000}
	s, link, _ := session.Open(&packet.Connect{Version: packet.V5, ClientID: []byte("x")}, &limits, "")
	out := make([]byte, 0, 1024)
	allocs := testing.AllocsPerRun(100, func() {
		for id := range uint16(64) {
			if err := link.Acks.Expect(packet.PUBACK, id+1); err != nil {
				t.Fatal(err)
			}
			if sent, ok := s.Out.Send(session.Place{}); ok {
				s.Out.Ack(sent)
			}
		}
		link.Acks.Settle(64, packet.Success, out)
	})
	if allocs > 0 {
		t.Errorf("%.1f allocations", allocs)
	}
}

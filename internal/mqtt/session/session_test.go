package session_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// TestPlays plays testdata: each file is a session, each command an event, the output its effects.
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := &play{t: t, limits: session.Limits{
			ReceiveMaximum: 4, MaxInflight: 10, TopicAliasMaximum: 2, MaxPacketBytes: 1 << 20, MaxSubscriptions: 3,
			MaxExpiry: session.Never,
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
		return p.send(d)
	case "puback", "pubrec", "pubcomp":
		return p.acknowledge(d)
	case "forget":
		return fmt.Sprintf("%v; %s", p.s.Out.Forget(uint16(p.number(d, "id"))), p.flight())
	case "restore":
		return p.restore(d)
	case "window":
		p.s.Out.SetWindow(uint16(p.number(d, "n")))
		return p.flight()
	case "resend":
		return p.resend(p.number(d, "n"))
	case "in":
		return fmt.Sprintf("%+v\n", p.s.Out.FlightsIn(uint32(p.number(d, "partition")), nil))
	case "subscribe":
		return p.subscribe(d)
	case "unsubscribe":
		return fmt.Sprintf("existed %v, %d left\n", p.s.Unsubscribe([]byte(p.text(d, "filter"))) != nil, p.s.Subscriptions())
	case "disconnect":
		return p.disconnect(d)
	case "will":
		if w := p.s.TakeWill(); w != nil {
			w := &w.Message
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
	o := session.Open(c, &p.limits, "assigned-1")
	p.s, p.link = session.New(o), o.Link
	return fmt.Sprintf("%x\nclient %s, keep alive %d, window %d\n",
		o.Connack.AppendTo(nil, c.Version), p.s.ClientID(), p.link.KeepAlive(), p.s.Out.Window())
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

func (p *play) send(d *datadriven.TestData) string {
	from := session.Place{Partition: 1}
	if d.HasArg("partition") {
		from.Partition = uint32(p.number(d, "partition"))
	}
	var ids []uint16
	for range p.number(d, "n") {
		from.Offset = p.offset
		id, ok := p.s.Out.Send(from, byte(max(1, p.number(d, "qos"))))
		if !ok {
			break
		}
		p.offset++
		ids = append(ids, id)
	}
	return fmt.Sprintf("sent %v; %s", ids, p.flight())
}

// flight shows offsets in flight; behind those of QoS 2 a colon, behind those that are Released a point.
func (p *play) flight() string {
	var offsets []string
	for f := range p.s.Out.Flights {
		text := strconv.FormatInt(f.From.Offset, 10)
		switch {
		case f.Released:
			text += "."
		case f.QoS == 2:
			text += ":"
		}
		offsets = append(offsets, text)
	}
	out := &p.s.Out
	return fmt.Sprintf("in flight %v, full %v, roomy %v, behind %v\n", offsets, out.Full(), out.Roomy(), out.Behind())
}

func (p *play) acknowledge(d *datadriven.TestData) string {
	id := uint16(p.number(d, "id"))
	var place session.Place
	var verdict session.Verdict
	switch d.Cmd {
	case "puback":
		place, verdict = p.s.Out.Ack(id)
	case "pubrec":
		place, verdict = p.s.Out.Received(id, p.reason(d).Failed())
	case "pubcomp":
		place, verdict = p.s.Out.Complete(id)
	}
	switch verdict {
	case session.Taken:
		return fmt.Sprintf("offset %d; %s", place.Offset, p.flight())
	case session.WrongKind:
		return "wrong kind; " + p.flight()
	default:
		return "unknown; " + p.flight()
	}
}

func (p *play) restore(d *datadriven.TestData) string {
	var flights []session.Flight
	for line := range strings.Lines(d.Input) {
		var f session.Flight
		var released string
		n, err := fmt.Sscan(line, &f.Position, &f.From.Partition, &f.From.Offset, &f.QoS, &released)
		if n < 4 {
			p.t.Fatalf("%s: %v", d.Pos, err)
		}
		f.Released = released == "released"
		flights = append(flights, f)
	}
	return fmt.Sprintf("dropped %d; %s", p.s.Out.Restore(flights), p.flight())
}

func (p *play) resend(n int) string {
	var ids []uint16
	for range n {
		f, ok := p.s.Out.ToResend()
		if !ok {
			break
		}
		p.s.Out.Resent()
		ids = append(ids, f.ID())
	}
	return fmt.Sprintf("again %v; %s", ids, p.flight())
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
	for _, g := range p.s.Subscribe(m, 0, p.room(d), nil) {
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

func TestSettleAllocatesNothing(t *testing.T) {
	limits := session.Limits{MaxInflight: 100, ReceiveMaximum: 1000}
	o := session.Open(&packet.Connect{Version: packet.V5, ClientID: []byte("x")}, &limits, "")
	s, link := session.New(o), o.Link
	out := make([]byte, 0, 1024)
	allocs := alloctest.PerRun(100, 0, func() {
		for id := range uint16(64) {
			if err := link.Acks.Expect(packet.PUBACK, id+1); err != nil {
				t.Fatal(err)
			}
			if sent, ok := s.Out.Send(session.Place{}, 1+byte(id&1)); ok {
				s.Out.Ack(sent)
				s.Out.Received(sent, false)
				s.Out.Complete(sent)
			}
		}
		link.Acks.Settle(64, packet.Success, out)
	})
	if allocs > 0 {
		t.Errorf("%.1f allocations", allocs)
	}
}

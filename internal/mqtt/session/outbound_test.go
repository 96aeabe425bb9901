package session

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// BenchmarkOutbound sends a window of messages and takes their acknowledgements, again and again.
func BenchmarkOutbound(b *testing.B) {
	o := Outbound{window: 2000}
	for b.Loop() {
		var first uint16
		for i := range 2000 {
			id, ok := o.Send(Place{Offset: int64(i)}, 1)
			if !ok {
				b.Fatal("full")
			}
			if i == 0 {
				first = id
			}
		}
		for id := first; o.InFlight() > 0; id++ {
			if id == 0 {
				id = 1
			}
			o.Ack(id)
		}
	}
}

// TestOutboundGivesItsMemoryBack: a session that nothing is in flight to holds little, and one that is less busy than
// it was comes to hold less.
func TestOutboundGivesItsMemoryBack(t *testing.T) {
	o := Outbound{window: 5000}
	flight := func(n int) (ring int) {
		var ids []uint16
		for i := range n {
			id, ok := o.Send(Place{Offset: int64(i)}, 1)
			if !ok {
				t.Fatal("full")
			}
			ids = append(ids, id)
		}
		ring = len(o.ring)
		for _, id := range ids {
			if _, v := o.Ack(id); v != Taken {
				t.Fatalf("%d is not in flight", id)
			}
		}
		if len(o.ring) > keptRing {
			t.Fatalf("%d places with nothing in flight", len(o.ring))
		}
		return ring
	}
	if n := flight(5000); n != 8192 {
		t.Fatalf("%d places for 5000 messages", n)
	}
	for want := 4096; want >= keptRing; want /= 2 {
		if n := flight(1); n != want {
			t.Fatalf("%d places for one message, want %d", n, want)
		}
	}
	o.Compact()
	if o.ring != nil {
		t.Fatalf("%d places when nothing is in flight and the client is away", len(o.ring))
	}
	if n := unsafe.Sizeof(sent{}); n != 16 {
		t.Errorf("%d bytes a message", n)
	}
}

// TestOutboundCompact: what is in flight stays when the rest of the ring goes, and the ring grows again.
func TestOutboundCompact(t *testing.T) {
	o := Outbound{window: 1000}
	for i := range int64(1000) {
		o.Send(Place{Offset: i}, 1)
	}
	for id := range uint16(997) {
		o.Ack(id + 1)
	}
	o.Compact()
	if len(o.ring) != 4 {
		t.Fatalf("%d places for 3 messages", len(o.ring))
	}
	for i := int64(1000); i < 1100; i++ {
		o.Send(Place{Offset: i}, 1)
	}
	want := int64(997)
	for f := range o.Flights {
		if f.From.Offset != want || f.ID() != uint16(want+1) {
			t.Fatalf("offset %d with id %d, want %d", f.From.Offset, f.ID(), want)
		}
		want++
	}
	if want != 1100 {
		t.Fatalf("in flight up to %d", want)
	}
}

// outboundModel is what Outbound has to say, the slow way.
type outboundModel struct {
	t     *testing.T
	o     *Outbound
	rng   *rand.Rand
	all   []Flight        // in flight, in order
	sent  map[uint64]bool // by position: its PUBLISH was sent on this connection
	again map[uint64]bool // by position: has to be sent again
	next  uint64
}

func (m *outboundModel) send(step int) {
	qos := byte(1 + m.rng.IntN(2))
	from := Place{Partition: uint32(m.rng.IntN(3)), Offset: int64(step)}
	id, ok := m.o.Send(from, qos)
	if !ok {
		stretch := uint64(0)
		if len(m.all) > 0 {
			stretch = m.next - m.all[0].Position
		}
		if len(m.sent) < m.o.Window() && len(m.again) == 0 && stretch < uint64(m.o.reach()) {
			m.t.Fatalf("step %d: full with %d in flight", step, len(m.all))
		}
		return
	}
	f := Flight{Position: m.next, From: from, QoS: qos}
	if id != f.ID() || id == 0 || len(m.again) > 0 || len(m.sent) >= m.o.Window() {
		m.t.Fatalf("step %d: id %d for position %d, %d behind, %d sent", step, id, m.next, len(m.again), len(m.sent))
	}
	for i := range m.all {
		if m.all[i].ID() == id {
			m.t.Fatalf("step %d: id %d is in use", step, id)
		}
	}
	m.all, m.sent[m.next] = append(m.all, f), true
	m.next++
}

// acknowledge takes any of the three acknowledgements for one of the oldest, or for an id that is not in flight.
func (m *outboundModel) acknowledge(step int) {
	if len(m.all) == 0 {
		return
	}
	at := m.rng.IntN(min(len(m.all), 8))
	f := &m.all[at]
	kind, failed := m.rng.IntN(4), m.rng.IntN(4) == 0
	want, ends := Taken, true
	var from Place
	var got Verdict
	switch kind {
	case 0:
		from, got = m.o.Ack(f.ID())
		if f.QoS == 2 {
			want = WrongKind
		}
	case 1:
		from, got = m.o.Received(f.ID(), failed)
		if ends = failed; f.QoS == 1 {
			want = WrongKind
		} else if !failed {
			f.Released = true
		}
	case 2:
		from, got = m.o.Complete(f.ID())
		if f.QoS == 1 {
			want = WrongKind
		} else if !f.Released {
			want = Unknown
		}
	default:
		gone := packetID(m.next + uint64(m.rng.IntN(100)))
		if _, got := m.o.Ack(gone); got != Unknown {
			m.t.Fatalf("step %d: id %d, which nothing has, gave %v", step, gone, got)
		}
		return
	}
	if got != want || got == Taken && from != f.From {
		m.t.Fatalf("step %d: acknowledgement %d of %+v gave %+v %v, want %v", step, kind, f, from, got, want)
	}
	if got == Taken && ends {
		delete(m.sent, f.Position)
		delete(m.again, f.Position)
		m.all = slices.Delete(m.all, at, at+1)
	}
}

func (m *outboundModel) resend(step int) {
	f, ok := m.o.ToResend()
	i := slices.IndexFunc(m.all, func(f Flight) bool { return m.again[f.Position] })
	if i < 0 || !m.all[i].Released && len(m.sent) >= m.o.Window() {
		if ok {
			m.t.Fatalf("step %d: %+v is to be sent again", step, f)
		}
		return
	}
	if !ok || f != m.all[i] {
		m.t.Fatalf("step %d: to be sent again is %+v %v, not %+v", step, f, ok, m.all[i])
	}
	m.o.Resent()
	delete(m.again, f.Position)
	if !f.Released {
		m.sent[f.Position] = true
	}
}

// reconnect begins a connection, now and then after a restart, from records in any order.
func (m *outboundModel) reconnect() {
	if m.rng.IntN(2) == 0 {
		shuffled := slices.Clone(m.all)
		m.rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if n := m.o.Restore(shuffled); n != 0 {
			m.t.Fatalf("%d dropped", n)
		}
		if m.next = 0; len(m.all) > 0 {
			m.next = m.all[len(m.all)-1].Position + 1
		}
	}
	m.o.SetWindow(uint16(1 + m.rng.IntN(80)))
	clear(m.sent)
	for i := range m.all {
		m.again[m.all[i].Position] = true
	}
}

func (m *outboundModel) check(step int) {
	at := 0
	for f := range m.o.Flights {
		if at == len(m.all) || f != m.all[at] {
			m.t.Fatalf("step %d: in flight %+v in place %d of %+v", step, f, at, m.all)
		}
		at++
	}
	if at != len(m.all) || m.o.InFlight() != at || m.o.Behind() != (len(m.again) > 0) {
		m.t.Fatalf("step %d: %d of %d in flight, %d said, behind %v", step, at, len(m.all), m.o.InFlight(), m.o.Behind())
	}
}

// TestOutboundAgainstModel sends, acknowledges, connects and restores at random beside a model, over the wrap of packet
// ids.
func TestOutboundAgainstModel(t *testing.T) {
	m := &outboundModel{
		t: t, o: &Outbound{}, rng: rand.New(rand.NewPCG(1, 2)), sent: map[uint64]bool{}, again: map[uint64]bool{},
		next: 65_000,
	}
	m.all = []Flight{{Position: 64_999, From: Place{Partition: 1, Offset: -1}, QoS: 1}}
	m.o.Restore(m.all)
	m.reconnect()
	wrapped := false
	for step := range 400_000 {
		switch n := m.rng.IntN(1000); {
		case n == 0:
			m.reconnect()
		case n < 450:
			m.send(step)
		case n < 600:
			m.resend(step)
		default:
			m.acknowledge(step)
		}
		if step%64 == 0 {
			m.check(step)
		}
		wrapped = wrapped || m.next > lastID+1000
	}
	if m.check(-1); !wrapped {
		t.Error("packet ids did not begin again")
	}
}

// TestOutboundSpan: with one message that is never acknowledged, ids are given up to the bound of the ring and none is
// given twice.
func TestOutboundSpan(t *testing.T) {
	o := Outbound{window: 0xffff}
	first, _ := o.Send(Place{Offset: -1}, 1)
	n := 1
	for ; ; n++ {
		id, ok := o.Send(Place{}, 2)
		if !ok {
			break
		}
		if id == first {
			t.Fatalf("id %d again after %d", id, n)
		}
		if _, v := o.Received(id, true); v != Taken {
			t.Fatalf("id %d is not in flight", id)
		}
	}
	if n != longest {
		t.Errorf("%d messages, want %d", n, longest)
	}
	if from, v := o.Ack(first); v != Taken || from.Offset != -1 || o.InFlight() != 0 || o.Full() {
		t.Errorf("the first: %+v %v, %d in flight, full %v", from, v, o.InFlight(), o.Full())
	}
}

// TestOutboundRestoreRefuses: what damaged records say does no harm.
func TestOutboundRestoreRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		flights []Flight
		dropped int
		want    []uint64
	}{
		{"nothing", nil, 0, nil},
		{"one position twice", []Flight{{Position: 7, QoS: 1}, {Position: 7, QoS: 2}}, 1, []uint64{7}},
		{"as far apart as ids reach", []Flight{{Position: 65_533, QoS: 1}, {Position: 0, QoS: 2}}, 0, []uint64{0, 65_533}},
		{"further", []Flight{{Position: 0, QoS: 1}, {Position: 65_534, QoS: 1}, {Position: 9, QoS: 1}}, 1,
			[]uint64{9, 65_534}},
		{"the end of all positions", []Flight{{Position: maxPosition, QoS: 1}, {Position: 1, QoS: 1}}, 1,
			[]uint64{maxPosition}},
	} {
		o := Outbound{}
		o.SetWindow(10)
		o.Send(Place{Offset: 5}, 1)
		if n := o.Restore(c.flights); n != c.dropped {
			t.Errorf("%s: dropped %d, want %d", c.name, n, c.dropped)
		}
		var got []uint64
		for f := range o.Flights {
			got = append(got, f.Position)
		}
		if !slices.Equal(got, c.want) || o.InFlight() != len(got) {
			t.Errorf("%s: positions %d, %d in flight, want %d", c.name, got, o.InFlight(), c.want)
		}
	}
}

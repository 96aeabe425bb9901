package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The stage is small, so that what happens there meets.
var (
	topics  = []string{"t/1", "t/2", "u/1"}
	filters = []string{"t/1", "t/+", "#", "u/1", "$share/g/t/#", "$share/g/u/1"}
)

// message is one that a player published.
type message struct {
	from         *player
	n            int // of those of its publisher
	topic        string
	payload      string // like no other
	qos          byte
	retain       bool
	clears       bool // it had no payload
	sends        int
	sent         int // when it was sent last
	crashes      int // that there had been when it was sent first
	acknowledged bool
	shared       bool // a group is owed it
	taken        bool // somebody has it
}

// flight is a message of QoS 1 or 2 that was sent and is not done with.
type flight struct {
	message  *message
	id       uint16
	recorded bool // PUBREC came
	released bool // PUBREL was sent on this connection
}

// life is what a session holds, from its beginning to its end.
type life struct {
	lasted  bool            // it was to outlive a connection, once
	filters map[string]byte // subscriptions, and their QoS
	ever    map[string]byte // those that there were, and the highest QoS of each
	changes int             // of subscriptions
	due     map[*message]*due
	last    map[string]int // by publisher, topic and QoS: the message that came last
}

// due is what one message is to one session.
type due struct {
	owed    bool // it must come once it is acknowledged
	qos     byte
	changes int // of subscriptions, when it was published
	seen    bool
	times   int // it came
	fresh   int // and without DUP
}

// player is a client that goes by the script, and what is known of it.
type player struct {
	theatre *theatre
	id      string
	v       packet.Version
	conn    *raw  // nil: it is not connected
	life    *life // nil: it has no session
	expires bool  // the session ends with its connection
	ended   bool  // a session that lasted ended, and no CONNACK says so
	unsure  bool  // and then the power was cut

	received  map[uint16]string // payloads of QoS 2 that were not released, by packet id
	answers   []packet.Packet   // that are withheld
	withholds bool
	holds     bool // PUBREL

	flights []*flight
	sent    int
}

// Bits of the byte behind the op connect.
const (
	connectV5 = 1 << iota
	connectClean
	connectLasts
)

// connect connects, or takes the connection of the player over.
func (c *player) connect(how byte) {
	s := c.theatre
	clean, lasts := how&connectClean != 0 || c.unsure, how&connectLasts != 0
	v := packet.V311
	if how&connectV5 != 0 {
		v = packet.V5
	} else {
		lasts = !clean
	}
	old := c.conn
	s.t.Logf("%s: connect %s, clean %v, lasts %v, takeover %v", c.id, v, clean, lasts, old != nil)
	either := old != nil && c.expires && !clean
	c.conn = s.h.dial(s.t)
	c.conn.hello(v, c.id, func(p *packet.Connect) {
		if p.CleanStart = clean; v == packet.V5 && lasts {
			p.Props.SetSessionExpiry(3600)
		}
	})
	ack := want[*packet.Connack](c.conn)
	if ack.Reason != packet.Success {
		s.t.Fatalf("%s: CONNACK %s", c.id, ack.Reason)
	}
	present := ack.SessionPresent
	if want := c.life != nil && !clean; present != want && !either {
		s.t.Fatalf("%s: session present is %v, want %v", c.id, present, want)
	}
	if old != nil {
		old.net.Close()
		s.settled()
		s.nothingUnderWay(c)
	}
	c.v, c.answers, c.withholds, c.holds, c.ended, c.unsure = v, nil, false, false, false, false
	if !present {
		c.endLife()
		c.ended, c.flights = false, nil
		c.life = &life{filters: map[string]byte{}, ever: map[string]byte{}, due: map[*message]*due{}, last: map[string]int{}}
		clear(c.received)
	}
	c.expires = !lasts
	c.life.lasted = c.life.lasted || lasts
	c.sendAgain()
}

// sendAgain sends what was not acknowledged on the connection before.
func (c *player) sendAgain() {
	for _, f := range c.flights {
		if f.released = f.recorded; f.recorded {
			c.conn.send(&packet.Pubrel{PacketID: f.id})
		} else {
			c.send(f)
		}
	}
}

// lose loses the connection, and what was on it.
func (c *player) lose() {
	if c.conn != nil {
		c.conn.net.Close()
	}
	c.conn, c.answers = nil, nil
	c.theatre.nothingUnderWay(c)
}

// endLife ends the session: nobody is owed anything by it.
func (c *player) endLife() {
	if c.life == nil {
		return
	}
	for filter := range c.life.filters {
		c.theatre.leaveGroup(filter)
	}
	c.ended = c.ended || c.life.lasted
	c.life = nil
}

func (c *player) drop() {
	if c.conn == nil {
		return
	}
	c.theatre.t.Logf("%s: drop", c.id)
	c.conn.net.Close()
	c.gone()
}

func (c *player) disconnect() {
	if c.conn == nil {
		return
	}
	c.theatre.t.Logf("%s: disconnect", c.id)
	c.conn.send(&packet.Disconnect{})
	for err := error(nil); err == nil; {
		if _, err = c.conn.next(patience); isTimeout(err) {
			c.theatre.t.Fatalf("%s: the connection does not end", c.id)
		}
	}
	c.gone()
}

func (c *player) gone() {
	c.lose()
	c.theatre.settled()
	c.theatre.nothingUnderWay(c)
	if c.expires {
		c.endLife()
	}
}

func (c *player) subscribe(which, how byte) {
	if c.conn == nil {
		return
	}
	sub := packet.Subscription{Filter: []byte(filters[int(which)%len(filters)]), QoS: how % 3}
	filter, shared := string(sub.Filter), isShare(string(sub.Filter))
	if c.v == packet.V5 {
		sub.RetainHandling = how >> 2 % 3
		sub.RetainAsPublished = how&0x80 != 0
	}
	c.theatre.t.Logf("%s: subscribe %s, QoS %d, handling %d", c.id, filter, sub.QoS, sub.RetainHandling)
	l := c.life
	l.ever[filter] = max(l.ever[filter], sub.QoS) // retained messages may come before SUBACK
	l.changes++
	for m, d := range l.due {
		if matches(filter, m.topic) && min(sub.QoS, m.qos) == 0 {
			d.owed = false
		}
	}
	if _, had := l.filters[filter]; shared && (had || sub.QoS == 0) {
		c.theatre.leaveGroup(filter)
	}
	c.conn.send(&packet.Subscribe{PacketID: 60_000, Subscriptions: []packet.Subscription{sub}})
	c.until("SUBACK", func(p packet.Packet) bool {
		ack, ok := p.(*packet.Suback)
		if ok && ack.Reasons[0] != packet.ReasonCode(sub.QoS) {
			c.theatre.t.Fatalf("%s: SUBACK %v", c.id, ack.Reasons)
		}
		return ok
	})
	l.filters[filter] = sub.QoS
}

func (c *player) unsubscribe(which byte) {
	if c.conn == nil {
		return
	}
	filter := filters[int(which)%len(filters)]
	c.theatre.t.Logf("%s: unsubscribe %s", c.id, filter)
	l := c.life
	if _, had := l.filters[filter]; had {
		c.theatre.leaveGroup(filter)
	}
	delete(l.filters, filter)
	l.changes++
	for m, d := range l.due {
		d.owed = d.owed && !matches(filter, m.topic)
	}
	c.conn.send(&packet.Unsubscribe{PacketID: 60_000, Filters: [][]byte{[]byte(filter)}})
	c.until("UNSUBACK", func(p packet.Packet) bool { _, ok := p.(*packet.Unsuback); return ok })
}

// leaveGroup notes that a group may lose what it was given, if the filter is one of a shared subscription.
func (s *theatre) leaveGroup(filter string) {
	if !isShare(filter) {
		return
	}
	for _, m := range s.all {
		m.shared = m.shared && !matches(filter, m.topic)
	}
}

// publish publishes a message, and waits until it is acknowledged, or does not.
func (c *player) publish(how byte, wait bool) {
	if c.conn == nil {
		return
	}
	s := c.theatre
	m := &message{
		from: c, n: c.sent, topic: topics[how>>4%3], qos: how % 3, retain: how&0x04 != 0, crashes: s.crashes,
		payload: fmt.Sprintf("%s-%d", c.id, c.sent),
	}
	m.clears = m.retain && how&0x08 != 0
	c.sent++
	s.all, s.messages[m.payload] = append(s.all, m), m
	s.owe(m)
	f := &flight{message: m, id: c.freeID()}
	c.send(f)
	if m.qos > 0 {
		c.flights = append(c.flights, f)
	}
	s.t.Logf("%s: publish %s to %s, QoS %d, id %d, retain %v, clears %v, wait %v",
		c.id, m.payload, m.topic, m.qos, f.id, m.retain, m.clears, wait)
	if wait && m.qos > 0 {
		c.until("the acknowledgement", func(packet.Packet) bool { return m.acknowledged })
	}
}

// owe notes who must get a message.
func (s *theatre) owe(m *message) {
	members, lax := 0, 0
	for _, c := range s.players {
		if c.life == nil {
			continue
		}
		matched, qos := false, byte(0)
		for filter, granted := range c.life.filters {
			switch {
			case !matches(filter, m.topic):
			case !isShare(filter):
				matched, qos = true, max(qos, min(granted, m.qos))
			case granted == 0:
				lax++
			default:
				members++
			}
		}
		if matched {
			c.life.due[m] = &due{owed: qos > 0 && !m.clears, qos: qos, changes: c.life.changes}
		}
	}
	m.shared = members > 0 && lax == 0 && m.qos > 0 && !m.clears
}

func (c *player) send(f *flight) {
	m, s := f.message, c.theatre
	s.clock++
	m.sent = s.clock
	if m.sends++; m.retain {
		s.sentRetained(m)
	}
	p := &packet.Publish{Topic: []byte(m.topic), QoS: m.qos, Retain: m.retain, Dup: m.sends > 1}
	if !m.clears {
		p.Payload = []byte(m.payload)
	}
	if m.qos > 0 {
		p.PacketID = f.id
	}
	c.conn.send(p)
}

func (c *player) freeID() uint16 {
	id := uint16(1)
	for slices.ContainsFunc(c.flights, func(f *flight) bool { return f.id == id }) {
		id++
	}
	return id
}

// withhold keeps acknowledgements back from now on, or not, and gives some.
func (c *player) withhold(how byte) {
	if c.conn == nil {
		return
	}
	c.withholds = how&1 != 0
	n := len(c.answers)
	if c.withholds {
		n = min(n, int(how>>1))
	}
	for _, p := range c.answers[:n] {
		c.conn.send(p)
	}
	c.answers = c.answers[n:]
}

// holdReleases keeps PUBREL back from now on, or not, and then sends those that wait, in either order.
func (c *player) holdReleases(how byte) {
	if c.conn == nil {
		return
	}
	if c.holds = how&1 != 0; c.holds {
		return
	}
	waiting := slices.Clone(c.flights)
	if how&2 != 0 {
		slices.Reverse(waiting)
	}
	for _, f := range waiting {
		c.release(f)
	}
}

func (c *player) release(f *flight) {
	if f.recorded && !f.released && !c.holds {
		f.released = true
		c.conn.send(&packet.Pubrel{PacketID: f.id})
	}
}

// listen handles all that was sent before now.
func (c *player) listen() {
	if c.conn == nil {
		return
	}
	c.conn.send(&packet.Pingreq{})
	c.until("PINGRESP", func(p packet.Packet) bool { _, ok := p.(*packet.Pingresp); return ok })
}

// until handles what comes until something has come.
func (c *player) until(what string, ok func(packet.Packet) bool) {
	for done := false; !done; {
		p, err := c.conn.next(patience)
		if err != nil {
			c.theatre.t.Fatalf("%s: waiting for %s: %v", c.id, what, err)
		}
		c.handle(p)
		done = ok(p)
	}
}

// takeSome handles what comes in a moment.
func (c *player) takeSome() {
	if c.conn == nil {
		return
	}
	for {
		p, err := c.conn.next(5 * time.Millisecond)
		switch {
		case isTimeout(err):
			return
		case err != nil:
			c.theatre.t.Fatalf("%s: %v", c.id, err)
		}
		c.handle(p)
	}
}

func (c *player) handle(p packet.Packet) {
	switch p := p.(type) {
	case *packet.Publish:
		c.take(p)
	case *packet.Pubrel:
		delete(c.received, p.PacketID)
		c.answer(&packet.Pubcomp{PacketID: p.PacketID})
	case *packet.Puback:
		c.acknowledged(p.PacketID, p.Reason, packet.PUBACK)
	case *packet.Pubrec:
		c.acknowledged(p.PacketID, p.Reason, packet.PUBREC)
	case *packet.Pubcomp:
		c.acknowledged(p.PacketID, packet.Success, packet.PUBCOMP)
	case *packet.Suback, *packet.Unsuback, *packet.Pingresp:
	default:
		c.theatre.t.Fatalf("%s: got %#v", c.id, p)
	}
}

func (c *player) answer(p packet.Packet) {
	if c.answers = append(c.answers, p); !c.withholds {
		c.withhold(0)
	}
}

func (c *player) acknowledged(id uint16, reason packet.ReasonCode, kind packet.Type) {
	i := slices.IndexFunc(c.flights, func(f *flight) bool { return f.id == id })
	if i < 0 {
		c.theatre.t.Fatalf("%s: %s for %d, which is not in flight", c.id, kind, id)
	}
	f := c.flights[i]
	m := f.message
	if reason.Failed() || (kind == packet.PUBACK) != (m.qos == 1) || (kind == packet.PUBCOMP) != f.recorded {
		c.theatre.t.Fatalf("%s: %s %s for %s", c.id, kind, reason, m.payload)
	}
	if kind != packet.PUBCOMP {
		m.acknowledged = true
		c.theatre.storedRetained(m)
	}
	switch kind {
	case packet.PUBREC:
		f.recorded = true
		c.release(f)
	default:
		c.flights = slices.Delete(c.flights, i, i+1)
	}
}

// take takes a PUBLISH, and holds it to what was published and to what the session is owed.
func (c *player) take(p *packet.Publish) {
	fail := func(what string) {
		c.theatre.t.Helper()
		c.theatre.t.Fatalf("%s: %s: %s = %q, id %d, QoS %d, DUP %v, retain %v",
			c.id, what, p.Topic, p.Payload, p.PacketID, p.QoS, p.Dup, p.Retain)
	}
	topic, payload := string(p.Topic), string(p.Payload)
	switch p.QoS {
	case 1:
		c.answer(&packet.Puback{PacketID: p.PacketID})
	case 2:
		c.answer(&packet.Pubrec{PacketID: p.PacketID})
		if had, again := c.received[p.PacketID]; again {
			if had != payload || !p.Dup {
				fail("a packet id that is in use, of " + had)
			}
			return
		}
		c.received[p.PacketID] = payload
	}
	if payload == "" { // it clears: which of those it is nobody can tell
		return
	}
	m := c.theatre.messages[payload]
	if m == nil || m.topic != topic || m.clears || p.Retain && !m.retain {
		fail("was not published so")
	}
	matched, most, shared := false, byte(0), false
	for filter, qos := range c.life.ever {
		if matches(filter, topic) {
			matched, most, shared = true, max(most, qos), shared || isShare(filter)
		}
	}
	if !matched || p.QoS > min(most, m.qos) {
		fail("was not subscribed to so")
	}
	m.taken = true
	d := c.life.due[m]
	if d == nil { // published before the subscription
		d = &due{changes: -1}
		c.life.due[m] = d
	}
	first := !d.seen
	d.seen = true
	if p.Retain || shared || d.changes != c.life.changes {
		return
	}
	if d.times++; !p.Dup {
		d.fresh++
	}
	allowed := 1
	if m.qos == 1 {
		allowed = m.sends
	}
	switch {
	case d.qos == 2 && d.times > 1:
		fail("came twice with QoS 2")
	case d.fresh > allowed+c.theatre.crashes-m.crashes:
		fail("came too often")
	}
	key := fmt.Sprint(m.from.id, topic, m.qos, d.qos)
	if last, ok := c.life.last[key]; first && ok && m.n < last {
		fail(fmt.Sprintf("came behind message %d", last))
	}
	c.life.last[key] = max(c.life.last[key], m.n)
}

func isShare(filter string) bool { return strings.HasPrefix(filter, "$share/") }

// matches tells whether a filter of the stage matches a topic (section 4.7.1).
func matches(filter, topic string) bool {
	if isShare(filter) {
		filter = strings.SplitN(filter, "/", 3)[2]
	}
	f, name := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(name) || level != "+" && level != name[i]:
			return false
		}
	}
	return len(f) == len(name)
}

package groups

import (
	"slices"

	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// scratch is the memory of one offer.
type scratch struct {
	run    fanout.Run
	forms  []fanout.Delivery
	list   []*fanout.Delivery
	memory []byte
}

// keptScratch is the largest memory of messages that is kept.
const keptScratch = 256 << 10

func (g *Groups) giveScratch(s *scratch) {
	if cap(s.memory) > keptScratch {
		s.memory = nil
	}
	clear(s.forms)
	clear(s.list)
	g.scratch.Put(s)
}

var _ fanout.Sink = (*presence)(nil)

// Deliver implements fanout.Sink: it hands the messages to members in turn, to each as many as make it fair, and passes
// over those who have no room. When nobody has, the group falls behind like any slow session.
func (p *presence) Deliver(r *fanout.Run) fanout.Verdict {
	s, _ := p.group.groups.scratch.Get().(*scratch)
	defer p.group.groups.giveScratch(s)
	for r.Next() != nil {
		if verdict := p.group.deliver(p, r, s); verdict != fanout.Taken {
			return verdict
		}
	}
	return fanout.Taken
}

// deliver takes at least one message off the run, or says why it cannot; but it may also find out only that it has to
// be asked again.
func (g *Group) deliver(p *presence, r *fanout.Run, s *scratch) fanout.Verdict {
	d := r.Next()
	takers, known, verdict := g.admit(p, d)
	switch {
	case verdict != fanout.Taken:
		return verdict
	case known:
		r.Take()
		return fanout.Taken
	}
	m, waits := g.pick(takers, d)
	switch {
	case m == nil && waits && (d.QoS > 0 || d.CatchUp):
		return fanout.Later
	case m == nil:
		g.drop(d, waits)
		r.Take()
		return fanout.Taken
	}
	some := g.fair(takers, m, r.Rest())
	if count := g.acquire(p, m, some, s); count > 0 {
		for range g.offer(p, m, some[:count], s) {
			r.Take()
		}
	}
	return fanout.Taken
}

// admit judges whether a message may be given out now. Known tells that it was, and takers are those to choose from,
// the next one first.
func (g *Group) admit(p *presence, d *fanout.Delivery) (takers []*Member, known bool, verdict fanout.Verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	part := g.part(d.From.Partition)
	switch {
	case g.presence != p:
		return nil, false, fanout.Gone
	case d.From.Offset < part.Next():
		return nil, true, fanout.Taken
	case g.free > 0: // that is first
		part.Pass(d.From.Offset)
		return nil, false, fanout.Later
	case d.QoS > 0 && part.Full():
		part.Pass(d.From.Offset)
		g.clogged = true
		return nil, false, fanout.Later
	}
	part.Pass(d.From.Offset) // what is below was taken, whatever becomes of this one
	return g.inTurn(), false, fanout.Taken
}

// inTurn is the takers with room, the next one first. It needs the lock.
func (g *Group) inTurn() []*Member {
	n := len(g.takers)
	if n == 0 {
		return nil
	}
	at := g.turn % n
	if at == 0 {
		return g.takers
	}
	return slices.Concat(g.takers[at:], g.takers[:at])
}

// pick chooses the member for a message: the next in turn that has room and may have it, or the one that its key
// chooses. nil: none; waits tells that one could have it that has no room now.
func (g *Group) pick(takers []*Member, d *fanout.Delivery) (m *Member, waits bool) {
	if g.groups.opt.ByKey {
		return g.byKey(takers, d)
	}
	for _, m := range takers {
		if !m.link.May(d.Topic, len(d.Frame)) {
			continue
		}
		if m.roomy() {
			return m, false
		}
		waits = true
	}
	return nil, waits
}

// byKey chooses by the key: who has messages of it in hand, or else always the same of those who are there.
func (g *Group) byKey(takers []*Member, d *fanout.Delivery) (m *Member, waits bool) {
	m = g.holder(d.Key)
	if m == nil || !m.link.May(d.Topic, len(d.Frame)) { // its rights are not what they were
		m = nil
		var most uint64
		for _, one := range takers {
			weight := mix(one.hash ^ d.Key)
			if (m == nil || weight > most) && one.link.May(d.Topic, len(d.Frame)) {
				m, most = one, weight
			}
		}
	}
	switch {
	case m == nil:
		return nil, false
	case !m.roomy():
		return nil, true
	}
	return m, false
}

// mix spreads a number over all bits, so that who has the highest of several is by chance, and always the same
// (rendezvous hashing; the constants are those of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// holder is who has messages of a key in hand, or nil.
func (g *Group) holder(key uint64) *Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held[key]; h.by != nil && !h.by.left {
		return h.by
	}
	return nil
}

// take notes that a member has a message of a key in hand. It needs the lock, as letGo does.
func (g *Group) take(place session.Place, key uint64, m *Member) {
	if !g.groups.opt.ByKey {
		return
	}
	if g.keys == nil {
		g.keys, g.held = make(map[session.Place]uint64), make(map[uint64]hold)
	}
	place.Share = 0
	g.keys[place] = key
	g.held[key] = hold{by: m, count: g.held[key].count + 1}
}

// letGo notes that nobody has a message in hand any more.
func (g *Group) letGo(place session.Place) {
	place.Share = 0
	key, ok := g.keys[place]
	if !ok {
		return
	}
	delete(g.keys, place)
	h := g.held[key]
	if h.count--; h.count > 0 {
		g.held[key] = h
	} else {
		delete(g.held, key)
	}
}

// fair is how much of the rest of a run, from its first message on, is for the member that was picked for that.
func (g *Group) fair(takers []*Member, m *Member, rest []*fanout.Delivery) []*fanout.Delivery {
	if g.groups.opt.ByKey {
		n := 1
		for n < len(rest) && rest[n].Key == rest[0].Key && m.link.May(rest[n].Topic, len(rest[n].Frame)) {
			n++
		}
		return rest[:n]
	}
	most := (len(rest) + len(takers) - 1) / len(takers)
	n := 1
	for n < most && m.link.May(rest[n].Topic, len(rest[n].Frame)) {
		n++
	}
	return rest[:n]
}

// acquire gives messages to a member, before it is offered them, and puts them into the form in which it gets them. It
// tells how many there are: fewer, or none, if that is not possible any more.
func (g *Group) acquire(p *presence, m *Member, some []*fanout.Delivery, s *scratch) (count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.presence != p || m.left || g.free > 0 {
		return 0
	}
	part := g.part(some[0].From.Partition)
	s.begin(len(some))
	for _, d := range some {
		f := m.form(d)
		if f.QoS == 0 {
			part.Pass(d.From.Offset + 1)
		} else if !part.Acquire(d.From.Offset, m.number) {
			break
		} else {
			g.take(d.From, d.Key, m)
		}
		s.add(d, f, m)
		count++
	}
	part.changed = true
	g.note()
	g.offering(m)
	if n := len(g.takers); n > 0 {
		g.turn = (1 + max(slices.Index(g.takers, m), 0)) % n
	}
	return count
}

// offering notes that a member is about to be offered something. It needs the lock.
func (g *Group) offering(m *Member) {
	m.busy++
	if !m.touched {
		m.touched = true
		g.touched = append(g.touched, m)
	}
}

func (s *scratch) begin(n int) {
	s.memory, s.list, s.forms = s.memory[:0], s.list[:0], s.forms[:0]
	if cap(s.forms) < n {
		s.forms = make([]fanout.Delivery, 0, max(n, 64))
	}
}

// add puts a message into the form in which a member gets it.
func (s *scratch) add(d *fanout.Delivery, f fanout.Form, m *Member) {
	s.forms = append(s.forms, *d)
	into := &s.forms[len(s.forms)-1]
	if f.Version != packet.V5 || f.QoS != d.QoS || f.Retain != d.Retain() || len(f.IDs) > 0 {
		s.memory = d.Reform(into, f, s.memory)
	}
	into.CatchUp, into.From.Share = true, m.share // it waits for room, and goes to another if there is none
	s.list = append(s.list, into)
}

// form is how a member gets a message [MQTT-4.8.2-3].
func (m *Member) form(d *fanout.Delivery) fanout.Form {
	f := fanout.Form{Version: m.version, QoS: min(d.QoS, m.sub.QoS), Retain: d.Retain() && m.sub.RetainAsPublished}
	if m.sub.ID > 0 && m.version == packet.V5 {
		f.IDs = []uint32{m.sub.ID}
	}
	return f
}

// offer offers a member what it has acquired, and tells how many of them it took, from the first on.
func (g *Group) offer(p *presence, m *Member, some []*fanout.Delivery, s *scratch) (taken int) {
	g.mu.Lock()
	wakes := m.wakes
	g.mu.Unlock()
	verdict := m.link.Deliver(s.run.Offer(s.list...))
	taken = len(s.list) - len(s.run.Rest())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offered(m, verdict, wakes)
	if rest := some[taken:]; len(rest) > 0 {
		part := g.part(rest[0].From.Partition)
		for i, d := range rest {
			g.letGo(d.From)
			if g.presence != p && s.list[taken+i].QoS > 0 && part.Release(d.From.Offset, m.number) {
				g.free++ // whoever comes back stands behind it already
			}
		}
		if g.presence == p {
			part.Retract(rest[0].From.Offset)
		}
	}
	for i, d := range some[:taken] {
		g.takenOver(m, d.From, s.list[i].QoS)
	}
	if m.left && m.busy == 0 {
		g.release(m)
	}
	return taken
}

// takenOver has a message be done with that a member took with QoS 2, whose session ends with its connection: whatever
// becomes of it, it goes to nobody else [MQTT-4.8.2-5]. It needs the lock.
func (g *Group) takenOver(m *Member, from session.Place, qos byte) {
	if qos < 2 || m.lasts {
		return
	}
	if p := g.parts[from.Partition]; p != nil && p.Acknowledge(from.Offset, m.number) {
		p.changed = true
		g.letGo(from)
	}
}

// offered notes what a member said. It needs the lock.
func (g *Group) offered(m *Member, verdict fanout.Verdict, wakes uint64) {
	m.busy--
	if verdict == fanout.Gone || verdict == fanout.Later && m.wakes == wakes {
		m.full = true
	}
}

// drop gives a message up that nobody may have, or for which nobody has room.
func (g *Group) drop(d *fanout.Delivery, waits bool) {
	if waits {
		g.groups.metrics.overflow.Inc()
	} else {
		g.groups.metrics.nobody.Inc()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	part := g.part(d.From.Partition)
	part.Pass(d.From.Offset + 1)
	part.changed = true
	g.note()
}

// roomy tells whether the member takes messages, as far as is known.
func (m *Member) roomy() bool {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return !m.full && !m.left
}

// Flush implements fanout.Sink.
func (p *presence) Flush() { p.group.flush() }

func (g *Group) flush() {
	g.mu.Lock()
	touched := g.touched
	g.touched = nil
	for _, m := range touched {
		m.touched = false
	}
	g.mu.Unlock()
	for _, m := range touched {
		m.link.Flush()
	}
}

// Behind implements fanout.Sink.
func (p *presence) Behind(by int) {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.presence != p {
		return
	}
	if g.behind += by; g.behind > 0 && g.mark == 0 {
		g.mark, g.told = g.groups.marks.Last(), false
	}
	g.note()
}

package fanout

import (
	"github.com/firthmq/firth/internal/log/record"
)

// match finds who gets a record: one hit for each member, whatever the number of its subscriptions
// that match, at the highest QoS of them and with all their identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3].
type match struct {
	worker   *worker
	hits     []hit
	used     int
	seq      uint64
	epoch    uint64
	part     *part
	offset   record.Offset
	live     bool // at the head of the partition, not at the cursor of a member
	visit    func(*subscription)
	delivery Delivery
}

// hit is one member that gets the message.
type hit struct {
	member      *Member
	ids         []uint32
	qos         byte
	asPublished bool
	hold        bool // whether the message is its own, its receipt will tell
}

// find fills hits for a live record.
func (m *match) find(name []byte, p *part, offset record.Offset) {
	m.begin(p, offset, p.epochAt(offset))
	m.live = true
	subs := &m.worker.f.subs
	subs.RLock()
	subs.trie.Match(name, m.visit)
	subs.RUnlock()
}

// among fills hits for a live record whose subscriptions are known.
func (m *match) among(subs []*subscription, p *part, offset record.Offset) {
	m.begin(p, offset, p.epochAt(offset))
	m.live = true
	for _, sub := range subs {
		m.add(sub)
	}
}

func (m *match) begin(p *part, offset record.Offset, epoch uint64) {
	m.seq++
	m.used, m.part, m.offset, m.epoch, m.live = 0, p, offset, epoch, false
}

// add notes a subscription that matches.
func (m *match) add(sub *subscription) {
	if sub.epoch > m.epoch {
		return // made after the news of the record
	}
	st := &sub.member.at[m.worker.index]
	if m.live && st.lags > 0 && m.part.lags[sub.member] != nil {
		return // it reads this partition by itself; its own records below the head are still needed there
	}
	hold := false
	if sub.NoLocal {
		switch sub.member.own.origin(m.part.id, m.offset) {
		case mine:
			return
		case unsure:
			hold = true
		case foreign:
		}
	}
	if st.seen != m.seq {
		st.seen, st.hit = m.seq, int32(m.used)
		m.grow(sub.member)
	}
	h := &m.hits[st.hit]
	h.qos = max(h.qos, sub.QoS)
	h.asPublished = h.asPublished || sub.RetainAsPublished
	h.hold = h.hold || hold
	if sub.ID > 0 {
		h.ids = append(h.ids, sub.ID)
	}
}

func (m *match) grow(member *Member) {
	if m.used == len(m.hits) {
		m.hits = append(m.hits, hit{})
	}
	h := &m.hits[m.used]
	*h = hit{member: member, ids: h.ids[:0]}
	m.used++
}

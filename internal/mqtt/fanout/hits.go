package fanout

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// hits gathers who gets one record: one hit for each member, whatever the number of its subscriptions that match, at
// the highest QoS of them and with all their identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3].
type hits struct {
	list []hit // its first used ones
	used int

	// What the record is that they are for.
	message *hinge.Message
	offset  record.Offset
	epoch   uint64 // in which it became news
	seq     uint64 // a number of its own
}

// hit is one member that gets the record.
type hit struct {
	member      *Member
	ids         []uint32
	qos         byte
	asPublished bool
	where       bool
}

// identified tells whether the member gets it with subscription identifiers or where it is, in a form of its own.
func (h *hit) identified() bool { return (len(h.ids) > 0 || h.where) && h.member.version == packet.V5 }

func (h *hits) begin(m *hinge.Message, offset record.Offset, epoch uint64) {
	h.seq++
	h.used, h.message, h.offset, h.epoch = 0, m, offset, epoch
}

// add notes a subscription that matches and is old enough. st is its member's standing with whoever gathers.
func (h *hits) add(sub *subscription, st *standing) {
	if sub.NoLocal && h.message.PublishedBy(sub.member.client) { // [MQTT-3.8.3-3]
		return
	}
	if st.seen != h.seq {
		st.seen, st.hit = h.seq, int32(h.used)
		h.grow(sub.member)
	}
	one := &h.list[st.hit]
	one.qos = max(one.qos, sub.QoS)
	one.asPublished = one.asPublished || sub.RetainAsPublished
	one.where = one.where || sub.Where
	if sub.ID > 0 {
		one.ids = append(one.ids, sub.ID) // [MQTT-3.3.4-4] [MQTT-3.3.4-5]
	}
}

func (h *hits) grow(member *Member) {
	if h.used == len(h.list) {
		h.list = append(h.list, hit{})
	}
	one := &h.list[h.used]
	*one = hit{member: member, ids: one.ids[:0]}
	h.used++
}

package mqtt

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// turn is the scratch memory of one consume. Turns are lent, so that idle connections hold none.
type turn struct {
	dec packet.Decoder
	at  int // where the packet in hand begins in what is consumed
	// where the first message begins that waits for room in the log, once something gave errCrowded
	crowdedAt int
	slots     []*slot // memory of the messages gathered
	used      int
	unit      stream.Unit // what goes to the log together
	acks      int         // messages gathered that will be acknowledged
	size      int         // bytes of payload gathered
	inPoller  bool        // nothing may block: errBlocks instead
	// exact tells that some of what was gathered is about QoS 2, arrived and released which packet ids of it.
	exact             bool
	arrived, released []uint16
	freed             idSet // by the PUBREL packets gathered
	// acknowledged is what the client acknowledged and the session was not told of yet.
	acknowledged []acknowledged
	shared       []session.Place // of that, what came by shared subscriptions and is over
	starved      bool            // deliveries wait for more acknowledgements
	unixMs       int64
	grants       []session.Grant
	received     [session.QoSLevels]int // messages by QoS
	payload      int                    // bytes of their payloads
	others       int                    // packets besides PUBLISH
}

// slot is one PUBLISH on its way into the log.
type slot struct {
	message  hinge.Message
	record   record.Record // for the log topic
	retained record.Record // for the retained messages, where it is one
	// certificate is what a birth of Sparkplug leaves.
	certificate record.Record
	writes      int
	// partition is where the record goes.
	partition stream.PartitionID
	at        int // where its packet begins
	qos       byte
	id        uint16 // 0: QoS 0
	// kind is the acknowledgement that it gets: PUBACK, PUBREC or, for a PUBREL, which has no message, PUBCOMP.
	kind packet.Type
}

// acknowledged is a PUBACK, PUBREC or PUBCOMP of the client.
type acknowledged struct {
	kind   packet.Type
	id     uint16
	failed bool
}

const (
	// turnSlots and turnBytes bound what one Append takes, and turnSlots the PUBACKs that are taken together.
	turnSlots = 128
	turnBytes = 256 << 10
)

func (d *Door) takeTurn() *turn {
	t, ok := d.turns.Get().(*turn)
	if !ok {
		t = &turn{unit: stream.Unit{Early: true}}
	}
	t.unixMs, t.inPoller, t.starved, t.at = d.opt.Clock().UnixMilli(), false, false, 0
	return t
}

// giveTurn takes a turn back. Nothing that was read through it may be used any more.
func (d *Door) giveTurn(t *turn) {
	for qos, n := range t.received {
		if n > 0 {
			d.metrics.received[qos].Add(float64(n))
			t.received[qos] = 0
		}
	}
	if t.others > 0 {
		d.metrics.othersIn.Add(float64(t.others))
	}
	if t.payload > 0 {
		d.metrics.payloadIn.Add(float64(t.payload))
	}
	t.others, t.payload = 0, 0
	t.reset()
	d.turns.Put(t)
}

// count counts what went to the log: a PUBLISH or a PUBREL.
func (t *turn) count(s *slot) {
	if s.writes == 0 {
		t.others++
		return
	}
	t.received[s.qos]++
	t.payload += len(s.message.Payload)
}

func (t *turn) reset() {
	if t.exact {
		t.freed = idSet{}
	}
	t.used, t.acks, t.exact, t.size = 0, 0, false, 0
	t.unit.Writes, t.unit.Turn = t.unit.Writes[:0], nil
}

// next is the slot for another message.
func (t *turn) next() *slot {
	if t.used == len(t.slots) {
		t.slots = append(t.slots, &slot{})
	}
	s := t.slots[t.used]
	t.used++
	s.writes, s.id, s.at = 0, 0, t.at
	return s
}

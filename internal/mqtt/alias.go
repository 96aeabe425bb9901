package mqtt

import (
	"hash/maphash"

	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// aliases are the topic aliases that we set for a subscriber: its own numbers for the topics that it gets often
// (section 3.3.2.3.4). They are under the lock of the wire, like the outbox: an alias is set by the PUBLISH that goes
// in first, and what is in the outbox is neither dropped nor overtaken. Frames belong to many sessions, so they are
// changed where they are copied.
type aliases struct {
	of    map[string]uint16 // alias by topic
	slots []aliasSlot       // by alias-1
	hand  int               // next slot to be looked at for one that is not used
	most  int               // slots
	held  int               // bytes of topics
	seen  [aliasMemory]uint32
}

type aliasSlot struct {
	topic string
	used  bool // since the hand was here
}

const (
	// aliasMemory is how many topics that have no alias are remembered, to see which come again.
	aliasMemory = 64
	// minAliasTopic is the shortest topic that has an alias: the alias takes three bytes.
	minAliasTopic = 5
	// maxAliasTopic bounds what an alias makes us hold.
	maxAliasTopic = 1 << 10
	// maxAliasFrame is the largest PUBLISH that is worth while: its bytes are moved.
	maxAliasFrame = 8 << 10
	// aliasBytes is about what an alias makes us hold beside its topic.
	aliasBytes = 100
)

var aliasSeed = maphash.MakeSeed()

// newAliases is nil for a client that takes none [MQTT-3.1.2-27].
func newAliases(most int) *aliases {
	if most == 0 {
		return nil
	}
	return &aliases{most: most}
}

// setting is what goes into the outbox in place of a delivery: the delivery, or one of its own that sets an alias, if
// its topic has none and comes often enough to get one. Commit has to follow when it is in.
func (a *aliases) setting(d *fanout.Delivery, takes int, fits func(int64) bool) (out *fanout.Delivery, alias uint16) {
	n := len(d.Topic)
	if n < minAliasTopic || n > maxAliasTopic || len(d.Frame) > maxAliasFrame {
		return d, 0
	}
	if _, ok := a.of[string(d.Topic)]; ok || !a.comesAgain(d.Topic) {
		return d, 0
	}
	if alias = a.free(); alias == 0 || !fits(int64(n+aliasBytes)) {
		return d, 0
	}
	own := *d
	own.Frame, own.ID = packet.WithAlias(nil, d.Frame, alias)
	if len(own.Frame) > takes {
		return d, 0
	}
	return &own, alias
}

// comesAgain tells whether a topic was seen lately.
func (a *aliases) comesAgain(topic []byte) bool {
	sum := maphash.Bytes(aliasSeed, topic)
	at, mark := &a.seen[sum%aliasMemory], uint32(sum>>32)|1
	again := *at == mark
	*at = mark
	return again
}

// free is an alias that may be set, at most the client's Topic Alias Maximum [MQTT-3.1.2-26] [MQTT-3.3.2-11]; 0: all
// are in use. A topic that was not used since the hand came by last gives its alias up.
func (a *aliases) free() uint16 {
	if len(a.slots) < a.most {
		return uint16(len(a.slots) + 1)
	}
	at := a.hand
	a.hand = (at + 1) % a.most
	if a.slots[at].used {
		a.slots[at].used = false
		return 0
	}
	return uint16(at + 1)
}

// commit notes that the PUBLISH that sets an alias is in the outbox, and how many bytes more are held for it.
func (a *aliases) commit(alias uint16, topic []byte) (more int) {
	if a.of == nil {
		a.of = make(map[string]uint16)
	}
	before := a.held
	if int(alias) > len(a.slots) {
		a.slots = append(a.slots, aliasSlot{})
		a.held += aliasBytes
	}
	s := &a.slots[alias-1]
	delete(a.of, s.topic)
	a.held += len(topic) - len(s.topic)
	*s = aliasSlot{topic: string(topic), used: true}
	a.of[s.topic] = alias
	return a.held - before
}

// replace takes the topic name out of a PUBLISH that lies in the outbox, if it has an alias, and tells how long it is
// then.
func (a *aliases) replace(b []byte, d *fanout.Delivery) (length int) {
	alias, ok := a.of[string(d.Topic)]
	if !ok || len(b) > maxAliasFrame {
		return len(b)
	}
	a.slots[alias-1].used = true
	return packet.ReplaceTopic(b, alias)
}

package group

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// The records of a consumer group, in Kafka's own format; docs/format/internal-topics.md has it. All values are of
// version 0.

// Change is one record of a group that is to be written: of its key, the value; nil: its end.
type Change struct {
	Key   Key
	Value []byte
}

func (k *Key) compare(o *Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), strings.Compare(k.Name, o.Name))
}

// value is what a record of the group says now; nil: there is nothing to say.
func (g *Consumer) value(k Key) []byte {
	b := appendVersion(nil, 0)
	switch k.Kind {
	case KindConsumer:
		b = appendInt32(b, g.epoch)
		b = append(b, 1, 0, 8) // one tagged field, the hash
		return binary.BigEndian.AppendUint64(b, uint64(g.hash))
	case KindTargetEpoch:
		return append(appendInt32(b, g.targetEpoch), 0)
	case KindRegex:
		r := g.regexes[k.Name]
		if r == nil {
			return nil
		}
		b = appendStrings(b, r.topics)
		return append(b, make([]byte, 8+8+1)...) // which version of the metadata, and when: nobody asks
	}
	m := g.byID[k.Name]
	if m == nil {
		return nil
	}
	switch k.Kind {
	case KindMember:
		return m.appendMember(b)
	case KindTarget:
		return append(appendPartitions(b, m.target, nil), 0)
	case KindCurrent:
		b = appendInt32(appendInt32(b, m.epoch), m.previous)
		b = append(b, byte(m.state))
		b = appendPartitions(b, m.assigned, m.since)
		return append(appendPartitions(b, m.revoked, m.since), 0)
	}
	return nil // of a classic group: this one is none
}

func (m *consumer) appendMember(b []byte) []byte {
	b = appendOptional(b, m.instance)
	b = appendOptional(b, m.rack)
	b = appendCompact(b, m.clientID)
	b = appendCompact(b, m.clientHost)
	b = appendStrings(b, m.topics)
	b = appendOptional(b, m.regex)
	b = appendInt32(b, int32(m.rebalance))
	b = appendOptional(b, m.assignor)
	if m.classic == nil {
		return append(b, 0)
	}
	said := []byte{1} // it is there
	said = appendInt32(said, int32(m.classic.session))
	said = appendCount(said, len(m.classic.protocols))
	for i := range m.classic.protocols {
		said = appendCompact(said, m.classic.protocols[i].Name)
		said = appendCompact(said, m.classic.protocols[i].Metadata)
		said = append(said, 0)
	}
	said = append(said, 0)
	b = append(b, 1, 0)
	b = binary.AppendUvarint(b, uint64(len(said)))
	return append(b, said...)
}

func (m *consumer) readMember(r *reader) {
	m.instance, m.rack = string(r.compact()), string(r.compact())
	m.clientID, m.clientHost = string(r.compact()), string(r.compact())
	m.topics, m.regex = r.strings(), string(r.compact())
	m.rebalance, m.assignor = int64(r.int32()), string(r.compact())
	r.tags(func(tag uint64, field *reader) {
		if tag == 0 && field.int8() == 1 {
			m.classic = readClassic(field)
		}
	})
}

func readClassic(r *reader) *classicMember {
	c := &classicMember{session: int64(r.int32())}
	for n := r.length(3); n > 0 && !r.bad; n-- {
		c.protocols = append(c.protocols, Protocol{string(r.compact()), bytes.Clone(r.compact())})
		r.tags(nil)
	}
	if len(c.protocols) == 0 {
		return nil
	}
	return c
}

// readEpoch reads the epoch of a group.
func (g *Consumer) readEpoch(r *reader) {
	g.epoch = r.int32()
	r.tags(func(tag uint64, field *reader) {
		if tag == 0 {
			g.hash = field.int64()
		}
	})
}

// LoadConsumer makes the group of its records, the last of each key. Its members go on where they were: each has its
// session from now on to be heard of. since is when its epoch was written. strange is how many records could not be
// understood: what they say is taken as not said. Errors: Corrupt, without a record of the group itself.
func LoadConsumer(id string, opts Options, now, since int64, records map[Key][]byte) (*Consumer, int, error) {
	g := NewConsumer(id, opts, since)
	if _, is := records[Key{Kind: KindConsumer, Group: id}]; !is {
		return nil, 0, fault.New(fault.Corrupt, "group.LoadConsumer", "records of a group without its epoch")
	}
	strange := 0
	keys := slices.SortedFunc(maps.Keys(records), func(a, b Key) int { return a.compare(&b) })
	for _, key := range keys { // members come before what they have
		r := reader{b: records[key]}
		if r.int16() != 0 || !g.load(&key, &r) || r.bad {
			strange++
		}
	}
	for _, m := range g.members {
		g.useRegex(m.regex)
	}
	for text, r := range g.regexes {
		if r.users == 0 {
			delete(g.regexes, text)
		}
	}
	g.claim()
	for _, m := range g.members {
		m.alive(now, &g.opts)
		if m.state == revoking {
			m.revokeBy = now + max(m.rebalance, minWaitMillis)
		}
		g.recount(m)
	}
	g.targetEpoch = min(g.targetEpoch, g.epoch)
	clear(g.dirty)
	return g, strange, nil
}

// load takes one record in, and tells whether it could be understood.
func (g *Consumer) load(key *Key, r *reader) bool {
	switch key.Kind {
	case KindConsumer:
		g.readEpoch(r)
		return true
	case KindTargetEpoch:
		g.targetEpoch = r.int32()
		return true
	case KindRegex:
		g.regexes[key.Name] = &regex{topics: r.strings()}
		return true
	case KindMember:
		said := consumer{id: key.Name, since: map[Partition]int32{}}
		said.readMember(r)
		if r.bad || said.instance != "" && g.static[said.instance] != "" {
			return false
		}
		m := g.add(said.id, said.instance)
		*m = said
		return true
	}
	m := g.byID[key.Name]
	if m == nil {
		return false
	}
	switch key.Kind {
	case KindTarget:
		m.target = r.partitions(nil)
	case KindCurrent:
		m.epoch, m.previous, m.state = r.int32(), r.int32(), reconciliation(r.int8())
		m.assigned, m.revoked = r.partitions(m.since), r.partitions(m.since)
	default:
		return false
	}
	return true
}

// claim finds who holds what. Two never do, unless a write between was lost: then the one with the later epoch does.
func (g *Consumer) claim() {
	for _, m := range slices.SortedStableFunc(slices.Values(g.members), func(a, b *consumer) int {
		return cmp.Compare(b.epoch, a.epoch)
	}) {
		unclaimed := func(p Partition) bool { return g.holders[p] == nil }
		assigned, revoked := m.assigned.where(unclaimed), m.revoked.without(m.assigned).where(unclaimed)
		m.assigned, m.revoked = nil, nil
		for _, p := range slices.Concat(assigned, revoked) { // of a record without epochs
			if _, said := m.since[p]; !said {
				m.since[p] = m.epoch
			}
		}
		g.hold(m, assigned, revoked)
	}
}

// ConsumerDescription is a consumer group as tools see it.
type ConsumerDescription struct {
	State       ConsumerState
	Epoch       int32
	TargetEpoch int32 // of the target assignment
	Assignor    string
	Members     []ConsumerInfo
}

// ConsumerInfo is a member as tools see it.
type ConsumerInfo struct {
	ID, InstanceID, Rack, ClientID, ClientHost string
	Epoch                                      int32
	Topics                                     []string
	Regex                                      string
	Assigned, Target                           Partitions
	Classic                                    bool // it uses the classic protocol
}

// Describe is the group as tools see it.
func (g *Consumer) Describe() ConsumerDescription {
	d := ConsumerDescription{State: g.State(), Epoch: g.epoch, TargetEpoch: g.targetEpoch, Assignor: g.assignor()}
	for _, m := range g.members {
		d.Members = append(d.Members, ConsumerInfo{
			ID: m.id, InstanceID: m.instance, Rack: m.rack, ClientID: m.clientID, ClientHost: m.clientHost,
			Epoch: m.epoch, Topics: m.topics, Regex: m.regex, Assigned: m.assigned, Target: m.target,
			Classic: m.classic != nil,
		})
	}
	return d
}

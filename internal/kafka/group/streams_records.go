package group

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
)

// The records of a streams group, in Kafka's own format (4.3); docs/format/internal-topics.md has it. All values are of
// version 0.

// standbyReplicas is the name by which the number of standby tasks is kept with the epoch.
const standbyReplicas = "num.standby.replicas"

// The states of a member in its record.
var streamerStates = map[reconciliation]byte{settled: 1, revoking: 2, unsettled: 3}

// value is what a record of the group says now; nil: there is nothing to say.
func (g *Streams) value(k Key) []byte {
	b := appendVersion(nil, 0)
	switch k.Kind {
	case KindStreams:
		return g.appendEpoch(b)
	case KindStreamsTargetEpoch:
		return append(appendInt32(b, g.targetEpoch), 0)
	case KindTopology:
		if g.topology == nil {
			return nil
		}
		return appendTopology(b, g.topology)
	}
	m := g.byID[k.Name]
	if m == nil {
		return nil
	}
	switch k.Kind {
	case KindStreamsMember:
		return m.appendMember(b)
	case KindStreamsTarget:
		return append(appendTaskSet(b, m.target, nil), 0)
	case KindStreamsCurrent:
		b = appendInt32(appendInt32(b, m.epoch), m.previous)
		b = append(b, streamerStates[m.state])
		b = appendTaskSet(b, m.assigned, m.since)
		return append(appendTaskSet(b, m.revoked, m.since), 0)
	}
	return nil // of a group of another kind: this one is none
}

func (g *Streams) appendEpoch(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendInt32(b, g.epoch), uint64(g.hash))
	configs := appendSettings(nil, []Setting{{standbyReplicas, strconv.Itoa(int(g.replicas))}})
	if g.validated != noTopology {
		b = append(b, 2, 0, 4)
		b = appendInt32(b, g.validated)
	} else {
		b = append(b, 1)
	}
	b = append(b, 1)
	return append(binary.AppendUvarint(b, uint64(len(configs))), configs...)
}

func appendSettings(b []byte, all []Setting) []byte {
	b = appendCount(b, len(all))
	for _, s := range all {
		b = append(appendCompact(appendCompact(b, s.Name), s.Value), 0)
	}
	return b
}

// appendTaskSet appends the tasks of the three roles; where since is given, with the epochs of active tasks.
func appendTaskSet(b []byte, s TaskSet, since map[Task]int32) []byte {
	for i, tasks := range []Tasks{s.Active, s.Standby, s.Warmup} {
		n := 0
		tasks.BySubtopology(func(string, []int32) { n++ })
		b = appendCount(b, n)
		tasks.BySubtopology(func(id string, partitions []int32) {
			b = appendInts(appendCompact(b, id), partitions)
			if i > 0 || since == nil {
				b = append(b, 0)
				return
			}
			epochs := make([]int32, len(partitions))
			for j, p := range partitions {
				epochs[j] = since[Task{id, p}]
			}
			b = appendTagged(b, appendInts(nil, epochs))
		})
	}
	return b
}

func appendShorts(b []byte, all []int16) []byte {
	b = appendCount(b, len(all))
	for _, n := range all {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func (m *streamer) appendMember(b []byte) []byte {
	b = appendOptional(b, "") // instance id
	b = appendOptional(b, m.rack)
	b = appendCompact(appendCompact(b, m.clientID), m.clientHost)
	b = appendInt32(appendInt32(b, int32(m.rebalance)), m.topology)
	b = appendCompact(b, m.process)
	if m.endpoint == nil {
		b = append(b, 0xff)
	} else {
		b = appendCompact(append(b, 1), m.endpoint.Host)
		b = append(binary.BigEndian.AppendUint16(b, m.endpoint.Port), 0)
	}
	return append(appendSettings(b, m.tags), 0)
}

func appendTopology(b []byte, t *Topology) []byte {
	b = appendCount(appendInt32(b, t.Epoch), len(t.Subtopologies))
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		b = appendStrings(appendCompact(b, s.ID), s.Sources)
		b = appendStrings(b, s.Regexes)
		b = appendInternal(b, s.Changelogs)
		b = appendStrings(b, s.Sinks)
		b = appendInternal(b, s.Repartitions)
		b = appendCount(b, len(s.Together))
		for _, c := range s.Together {
			b = appendShorts(appendShorts(b, c.Sources), nil)
			b = append(appendShorts(b, c.Repartitions), 0)
		}
		b = append(b, 0)
	}
	return append(b, 0)
}

func appendInternal(b []byte, all []InternalTopic) []byte {
	b = appendCount(b, len(all))
	for i := range all {
		t := &all[i]
		b = appendInt32(appendCompact(b, t.Name), t.Partitions)
		b = binary.BigEndian.AppendUint16(b, uint16(t.Replication))
		b = append(appendSettings(b, t.Configs), 0)
	}
	return b
}

func (r *reader) settings() (all []Setting) {
	for n := r.length(3); n > 0 && !r.bad; n-- {
		all = append(all, Setting{string(r.compact()), string(r.compact())})
		r.tags(nil)
	}
	return all
}

func (r *reader) shorts() (all []int16) {
	for n := r.length(2); n > 0 && !r.bad; n-- {
		all = append(all, r.int16())
	}
	return all
}

// taskSet reads the tasks of the three roles, and the epochs of active ones into since.
func (r *reader) taskSet(since map[Task]int32) TaskSet {
	var roles [3]Tasks
	for i := range roles {
		for n := r.length(3); n > 0 && !r.bad; n-- {
			id, partitions := string(r.compact()), r.ints()
			for _, p := range partitions {
				roles[i] = append(roles[i], Task{id, p})
			}
			r.tags(func(tag uint64, field *reader) {
				if tag != 0 || since == nil || i > 0 {
					return
				}
				for j, epoch := range field.ints() {
					if j < len(partitions) {
						since[Task{id, partitions[j]}] = epoch
					}
				}
			})
		}
		roles[i] = NewTasks(roles[i])
	}
	return TaskSet{roles[0], roles[1], roles[2]}
}

func (r *reader) topology() *Topology {
	t := &Topology{Epoch: r.int32()}
	for n := r.length(8); n > 0 && !r.bad; n-- {
		s := Subtopology{ID: string(r.compact()), Sources: r.strings(), Regexes: r.strings()}
		s.Changelogs, s.Sinks, s.Repartitions = r.internal(), r.strings(), r.internal()
		for n := r.length(4); n > 0 && !r.bad; n-- {
			c := Copartition{Sources: r.shorts()}
			r.shorts()
			c.Repartitions = r.shorts()
			r.tags(nil)
			s.Together = append(s.Together, c)
		}
		r.tags(nil)
		t.Subtopologies = append(t.Subtopologies, s)
	}
	return t
}

func (r *reader) internal() (all []InternalTopic) {
	for n := r.length(9); n > 0 && !r.bad; n-- {
		all = append(all, InternalTopic{string(r.compact()), r.int32(), r.int16(), r.settings()})
		r.tags(nil)
	}
	return all
}

func (m *streamer) readMember(r *reader) {
	r.compact() // instance id
	m.rack, m.clientID, m.clientHost = string(r.compact()), string(r.compact()), string(r.compact())
	m.rebalance, m.topology, m.process = int64(r.int32()), r.int32(), string(r.compact())
	if r.int8() == 1 {
		m.endpoint = &Endpoint{string(r.compact()), uint16(r.int16())}
		r.tags(nil)
	}
	m.tags = r.settings()
}

// LoadStreams makes the group of its records, the last of each key. Its members go on where they were: each has its
// session from now on to be heard of. since is when its epoch was written. strange is how many records could not be
// understood: what they say is taken as not said. Errors: Corrupt, without a record of the group itself.
func LoadStreams(id string, opts Options, now, since int64, records map[Key][]byte) (*Streams, int, error) {
	g := NewStreams(id, opts, since)
	if _, is := records[Key{Kind: KindStreams, Group: id}]; !is {
		return nil, 0, fault.New(fault.Corrupt, "group.LoadStreams", "records of a group without its epoch")
	}
	strange := 0
	keys := slices.SortedFunc(maps.Keys(records), func(a, b Key) int { return a.compare(&b) })
	for _, key := range keys { // members come before what they have
		r := reader{b: records[key]}
		if r.int16() != 0 || !g.load(&key, &r) || r.bad {
			strange++
		}
	}
	g.claim()
	for _, m := range g.members {
		m.expires = now + g.opts.StreamsSessionMillis
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
func (g *Streams) load(key *Key, r *reader) bool {
	switch key.Kind {
	case KindStreams:
		g.epoch, g.hash = r.int32(), r.int64()
		r.tags(g.readTag)
		return true
	case KindStreamsTargetEpoch:
		g.targetEpoch = r.int32()
		return true
	case KindTopology:
		t := r.topology()
		if r.bad || t.Flaw() != "" {
			return false
		}
		g.topology = t
		g.bytes += t.size()
		return true
	case KindStreamsMember:
		said := streamer{id: key.Name, since: map[Task]int32{}}
		said.readMember(r)
		if r.bad {
			return false
		}
		m := g.add(key.Name)
		said.counted = m.counted
		*m = said
		return true
	}
	m := g.byID[key.Name]
	if m == nil {
		return false
	}
	switch key.Kind {
	case KindStreamsTarget:
		m.target = r.taskSet(nil)
	case KindStreamsCurrent:
		m.epoch, m.previous = r.int32(), r.int32()
		m.state = reconciliation(r.int8() - 1)
		m.assigned = r.taskSet(m.since)
		m.revoked = r.taskSet(m.since)
		return m.state >= settled && m.state <= unsettled
	default:
		return false
	}
	return true
}

func (g *Streams) readTag(tag uint64, field *reader) {
	switch tag {
	case 0:
		g.validated = field.int32()
	case 1:
		for _, s := range field.settings() {
			if n, err := strconv.ParseInt(s.Value, 10, 32); s.Name == standbyReplicas && err == nil {
				g.replicas = int32(n)
			}
		}
	}
}

// claim finds who has which task. Two never have one as active, nor two of a process, unless a write between was lost:
// then the one with the later epoch has it.
func (g *Streams) claim() {
	for _, m := range slices.SortedStableFunc(slices.Values(g.members), func(a, b *streamer) int {
		return cmp.Compare(b.epoch, a.epoch)
	}) {
		apart := func(t Task) bool { return g.processes[processTask{m.process, t}] == 0 }
		mine := func(s TaskSet) TaskSet {
			return TaskSet{
				Active:  where(s.Active, func(t Task) bool { return g.active[t] == nil && apart(t) }),
				Standby: where(s.Standby, apart), Warmup: where(s.Warmup, apart),
			}
		}
		assigned, revoked := m.assigned, m.revoked
		m.assigned, m.revoked = TaskSet{}, TaskSet{}
		g.hold(m, mine(assigned), mine(revoked.without(assigned)))
	}
}

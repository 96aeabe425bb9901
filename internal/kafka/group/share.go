package group

import (
	"encoding/binary"
	"slices"
	"strings"
)

// shareType is the protocol type of share groups.
const shareType = "share"

// AssignorSimple is the name of the assignor of share groups (KIP-932).
const AssignorSimple = "simple"

// Share holds one share group of KIP-932 as a state machine: who is in it, and which partitions each member is to
// fetch from. Members share partitions; what each of them gets is decided where they fetch (package log/share).
//
// It is pure, as Group and Consumer are. The epoch of the group grows whenever members or topics change, and with it
// the assignment is made anew; a member comes to it with its next heartbeat. There is nothing to give up before: nobody
// waits for anybody. Only the epoch is stored: who the broker has forgotten joins again.
//
//	effects := g.Beat(now, beat)      // the answer comes out when what it tells is durable
//	effects = g.Stored(now, seq, nil)
//	effects = g.Tick(now)             // at Next(): sessions time out
//
// Who is gone comes out as an Effect: what it had acquired is to be given to others.
type Share struct {
	gathering[*sharer]

	epoch int32
	hash  int64 // of the topics that are subscribed to, as they were when the epoch last grew
	byID  map[string]*sharer
}

// sharer is one member of a share group.
type sharer struct {
	id, rack, clientID, clientHost string
	topics                         []string // that it subscribes to, in order
	epoch, previous                int32    // previous: the answer that told it the present one may have been lost
	assigned                       Partitions
	target                         Partitions
	expires                        int64
	counted                        int64 // its size in Share.bytes
}

// NewShare makes an empty share group.
func NewShare(id string, opts Options, now int64) *Share {
	return &Share{gathering: gather[*sharer](id, opts, now), byID: map[string]*sharer{}}
}

// Has tells whether somebody is a member.
func (g *Share) Has(memberID string) bool { return g.byID[memberID] != nil }

// ProtocolType is "share".
func (g *Share) ProtocolType() string { return shareType }

// StateName is the name of the state: a share group is Empty, Stable or, deleted, Dead.
func (g *Share) StateName() string {
	switch {
	case g.deleted:
		return "Dead"
	case len(g.members) == 0:
		return "Empty"
	}
	return "Stable"
}

// Vacant tells whether nothing would be lost with the group: one that had a member once has offsets.
func (g *Share) Vacant() bool { return g.IsEmpty() && g.epoch == 0 && len(g.held) == 0 }

// Keys are those of all records that the log may have of the group.
func (g *Share) Keys() []Key { return []Key{g.key()} }

func (g *Share) key() Key { return Key{Kind: KindShare, Group: g.id} }

// Found has the group be there without a member: its offsets are to be set. Codes: NonEmptyGroup, GroupIDNotFound.
func (g *Share) Found(now int64) (Code, []Effect) {
	switch {
	case g.deleted:
		return GroupIDNotFound, nil
	case len(g.members) > 0:
		return NonEmptyGroup, nil
	}
	if g.epoch == 0 {
		g.bump()
	}
	return None, g.take()
}

// bump makes the epoch of the group grow, and with it the assignment anew.
func (g *Share) bump() {
	g.epoch++
	g.dirty[g.key()] = struct{}{}
	g.assign()
}

// take hands the gathered effects out.
func (g *Share) take() []Effect { return g.emit(g.deleted, g.value) }

// value is the one record of the group, in Kafka's own format.
func (g *Share) value(Key) []byte {
	b := appendInt32(appendVersion(nil, 0), g.epoch)
	return append(binary.BigEndian.AppendUint64(b, uint64(g.hash)), 0)
}

// LoadShare makes the group of its record. Its members have to join again. ok: the record could be understood.
func LoadShare(id string, opts Options, now int64, record []byte) (g *Share, ok bool) {
	g = NewShare(id, opts, now)
	r := reader{b: record}
	if r.int16() != 0 {
		return nil, false
	}
	g.epoch, g.hash = r.int32(), r.int64()
	return g, !r.bad && g.epoch > 0
}

// Next is when Tick must be called, in milliseconds; 0: not at all.
func (g *Share) Next() (next int64) {
	for _, m := range g.members {
		if next == 0 || m.expires < next {
			next = m.expires
		}
	}
	return next
}

// Tick lets time pass: who was not heard of in its session is out.
func (g *Share) Tick(now int64) []Effect {
	late := slices.DeleteFunc(slices.Clone(g.members), func(m *sharer) bool { return m.expires > now })
	for _, m := range late {
		g.remove(now, m)
	}
	if len(late) > 0 {
		g.bump()
	}
	return g.take()
}

// remove takes a member out. The caller bumps.
func (g *Share) remove(now int64, m *sharer) {
	delete(g.byID, m.id)
	g.bytes -= m.counted
	g.members = slices.DeleteFunc(g.members, func(o *sharer) bool { return o == m })
	if len(g.members) == 0 {
		g.since = now
	}
	g.out = append(g.out, Effect{Left: m.id})
}

// Beat takes a heartbeat. The answer comes out now or, once what it tells is durable, later. Codes: InvalidRequest (too
// much), UnknownMemberID, FencedMemberEpoch (join again), GroupMaxSizeReached, GroupIDNotFound (deleted),
// CoordinatorNotAvailable (not stored, being deleted, or there is no room: come again).
func (g *Share) Beat(now int64, b Beat) []Effect {
	code, why := g.admits(&b)
	switch {
	case code != None:
	case b.Epoch == LeaveEpoch:
		code = g.quit(now, &b)
	default:
		code = g.hear(now, &b)
	}
	if code != None {
		if why == "" {
			why = reasons[code]
		}
		g.answerBeat(b.Ticket, &BeatAnswer{Code: code, Message: why})
	}
	return g.take()
}

func (g *Share) answerBeat(to Ticket, a *BeatAnswer) { g.out = append(g.out, Effect{To: to, Beat: a}) }

// admits judges what can be judged before the member is looked at.
func (g *Share) admits(b *Beat) (Code, string) {
	m := g.byID[b.Who.MemberID]
	switch {
	case g.deleted && b.Epoch == 0:
		return CoordinatorNotAvailable, "The group is being deleted."
	case g.deleted:
		return GroupIDNotFound, "The group was deleted."
	case len(b.Topics) > maxTopics || b.size() > g.opts.MaxMetadata || b.Rack != nil && len(*b.Rack) > maxName:
		return InvalidRequest, "The request says more than a group keeps of a member."
	case b.Epoch == 0 && m == nil && len(g.members) >= g.opts.MaxMembers:
		return GroupMaxSizeReached, "The group has as many members as it may have."
	case b.Full && b.Epoch >= 0 && (m == nil || b.size() > namesSize(m.topics)):
		return CoordinatorNotAvailable, "There is no memory for it at the moment."
	}
	return None, ""
}

func namesSize(names []string) (n int) {
	for _, name := range names {
		n += len(name)
	}
	return n
}

// hear is a heartbeat of a member that joins or stays.
func (g *Share) hear(now int64, b *Beat) Code {
	m := g.byID[b.Who.MemberID]
	switch {
	case m == nil && b.Epoch != 0:
		return UnknownMemberID
	case m == nil:
		m = &sharer{id: strings.Clone(b.Who.MemberID)}
		g.members = append(g.members, m)
		g.byID[m.id] = m
		g.describe(m, b)
		g.refresh(true)
	default:
		if b.Epoch != 0 && b.Epoch != m.epoch && b.Epoch != m.previous {
			return FencedMemberEpoch
		}
		g.refresh(g.describe(m, b))
	}
	m.expires = now + g.opts.ShareSessionMillis
	changed := !m.assigned.equal(m.target)
	if m.epoch != g.epoch {
		m.previous, m.epoch = m.epoch, g.epoch
	}
	m.assigned = m.target
	g.recount(m)
	a := &BeatAnswer{MemberID: m.id, Epoch: m.epoch, Members: len(g.members)}
	if changed || b.Epoch == 0 || b.Topics != nil || b.Epoch != m.epoch {
		a.Assigned, a.Assignment = true, m.assigned
	}
	g.answerBeat(b.Ticket, a)
	return None
}

// describe takes over what a heartbeat says of its member, and tells whether that changes what it subscribes to.
func (g *Share) describe(m *sharer, b *Beat) (changed bool) {
	m.clientID, m.clientHost = b.ClientID, b.ClientHost
	if b.Rack != nil {
		m.rack = strings.Clone(*b.Rack)
	}
	if b.Topics == nil {
		return false
	}
	names := ownedNames(b.Topics)
	changed = !slices.Equal(names, m.topics)
	m.topics = names
	return changed
}

func (g *Share) recount(m *sharer) {
	g.bytes -= m.counted
	m.counted = int64(memberOverhead + len(m.id) + len(m.rack) + len(m.clientID) + len(m.clientHost) +
		16*len(m.topics) + namesSize(m.topics) + 20*len(m.assigned) + 20*len(m.target))
	g.bytes += m.counted
}

// quit is a heartbeat of a member that leaves.
func (g *Share) quit(now int64, b *Beat) Code {
	m := g.byID[b.Who.MemberID]
	if m == nil {
		return UnknownMemberID
	}
	g.remove(now, m)
	g.bump()
	g.answerBeat(b.Ticket, &BeatAnswer{MemberID: m.id, Epoch: LeaveEpoch})
	return None
}

// refresh bumps the epoch if members or subscriptions have changed, or topics that are subscribed to have.
func (g *Share) refresh(changed bool) {
	if !changed && g.topics == g.seen {
		return
	}
	g.seen = g.topics
	if hash := g.hashTopics(); changed || hash != g.hash {
		g.hash = hash
		g.bump()
	}
}

// subscribed lists the topics that are subscribed to, by name, and who subscribes to each.
func (g *Share) subscribed() map[Topic][]*sharer {
	all := map[Topic][]*sharer{}
	for _, m := range g.members {
		for _, name := range m.topics {
			if t, is := g.topics.ByName(name); is {
				all[t] = append(all[t], m)
			}
		}
	}
	return all
}

// hashTopics is the hash of the subscribed topics.
func (g *Share) hashTopics() int64 {
	var names []string
	for t := range g.subscribed() {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return hashOf(g.topics, names)
}

// assign makes the target assignment: each topic for itself.
func (g *Share) assign() {
	had := make(map[*sharer]Partitions, len(g.members))
	for _, m := range g.members {
		had[m], m.target = m.target, nil
	}
	for t, members := range g.subscribed() {
		slices.SortFunc(members, func(a, b *sharer) int { return strings.Compare(a.id, b.id) })
		for i, indexes := range shareOut(t, members, had) {
			for _, index := range indexes {
				members[i].target = append(members[i].target, Partition{Topic: t.ID, Index: index})
			}
		}
	}
	for _, m := range g.members {
		m.target = NewPartitions(m.target)
	}
}

// shareOut gives the partitions of a topic to its subscribers: every partition to as many of them as the others, give
// or take, and to one at least; every subscriber about as many partitions. Who had a partition keeps it where that
// leaves it even.
func shareOut(t Topic, members []*sharer, had map[*sharer]Partitions) [][]int32 {
	partitions := int(t.Partitions)
	if partitions == 0 {
		return nil
	}
	s := seating{
		each: (len(members) + partitions - 1) / partitions, users: make([]int, partitions),
		given: make([][]int32, len(members)),
	}
	seats := s.each * partitions
	quota := func(i int) int { return (i+1)*seats/len(members) - i*seats/len(members) }
	for i, m := range members {
		for _, p := range had[m] {
			if p.Topic == t.ID && int(p.Index) < partitions && s.users[p.Index] < s.each && len(s.given[i]) < quota(i) {
				s.give(i, p.Index)
			}
		}
	}
	for i := range members {
		for left := quota(i) - len(s.given[i]); left > 0 && s.seat(i); left-- {
			continue
		}
	}
	return s.given
}

// seating is which members of a topic get which of its partitions.
type seating struct {
	each  int       // members that a partition is to have
	users []int     // that it has
	given [][]int32 // partitions of each member
}

func (s *seating) give(member int, index int32) {
	s.given[member] = append(s.given[member], index)
	s.users[index]++
}

// seat gives a member one more partition: one that has the fewest members. It is false if it has all.
func (s *seating) seat(member int) bool {
	least := -1
	for index := range s.users {
		if (least < 0 || s.users[index] < s.users[least]) && !slices.Contains(s.given[member], int32(index)) {
			least = index
		}
	}
	if least < 0 {
		return false
	}
	if s.users[least] < s.each || !s.exchange(member) {
		s.give(member, int32(least))
	}
	return true
}

// exchange gives a member a partition of another one, and that one in its place a partition that lacks members: the
// first has all of these. It is false if there is nobody to do so with.
func (s *seating) exchange(member int) bool {
	for index, n := range s.users {
		if n >= s.each {
			continue
		}
		for _, theirs := range s.given {
			if slices.Contains(theirs, int32(index)) {
				continue
			}
			for at, one := range theirs {
				if !slices.Contains(s.given[member], one) {
					theirs[at] = int32(index)
					s.users[index]++
					s.given[member] = append(s.given[member], one)
					return true
				}
			}
		}
	}
	return false
}

// ShareDescription is a share group as tools see it.
type ShareDescription struct {
	State   string
	Epoch   int32
	Members []ShareInfo
}

// ShareInfo is a member as tools see it.
type ShareInfo struct {
	ID, Rack, ClientID, ClientHost string
	Epoch                          int32
	Topics                         []string
	Assigned                       Partitions
}

// Describe is the group as tools see it.
func (g *Share) Describe() ShareDescription {
	d := ShareDescription{State: g.StateName(), Epoch: g.epoch}
	for _, m := range g.members {
		d.Members = append(d.Members, ShareInfo{
			ID: m.id, Rack: m.rack, ClientID: m.clientID, ClientHost: m.clientHost, Epoch: m.epoch, Topics: m.topics,
			Assigned: m.assigned,
		})
	}
	return d
}

// Subscribes is a predicate: whether some member subscribes to a topic. It is known in every state.
func (g *Share) Subscribes() (to func(topic string) bool, known bool) {
	topics := map[string]bool{}
	for _, m := range g.members {
		for _, name := range m.topics {
			topics[name] = true
		}
	}
	return func(topic string) bool { return topics[topic] }, true
}

// What a share group answers to requests of the classic protocol, and of offsets: it has none of them.

// CheckCommit refuses offsets: GroupIDNotFound.
func (g *Share) CheckCommit(int64, Who, int32) Code { return GroupIDNotFound }

// CheckFetch refuses who asks for offsets: GroupIDNotFound.
func (g *Share) CheckFetch(string, int32) Code { return GroupIDNotFound }

// Modern tells whether a member uses the consumer protocol: none does here.
func (g *Share) Modern(string) bool { return false }

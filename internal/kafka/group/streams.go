package group

import (
	"iter"
	"slices"
)

// streamsType is the protocol type of streams groups.
const streamsType = "streams"

// Streams holds one streams group of KIP-1071 as a state machine: the instances of one application of Kafka Streams.
// Their members bring the topology of the application; the group says which internal topics it needs, cuts it into
// tasks, one for each partition of what a subtopology reads, and assigns these to its members: each as an active task
// to one, and those with state also as standby tasks to members of other processes. Members come to their targets as
// those of Consumer do: they give up first, and get what others have given up.
//
// It is pure, as Group is. The epoch of the group grows whenever members, the topology, or topics of it change, and a
// member's own epoch fences what it commits. As long as topics of the topology are missing, or have partitions that do
// not fit together, nobody has a task, and the answers say why.
//
//	effects := g.Beat(now, beat)      // the answer comes out when what it tells is durable
//	effects = g.Stored(now, seq, nil)
//	effects = g.Tick(now)             // at Next(): sessions and revocations time out, and the first delay ends
//
// Invariants: a task is active with one member at most; no two members of a process have the same task; targetEpoch is
// never above epoch.
type Streams struct {
	gathering[*streamer]

	bumped      int64 // when its epoch grew last; 0: before it was loaded
	epoch       int32
	targetEpoch int32 // of the target assignment
	hash        int64 // of the topics of the topology, as they were when the epoch last grew
	validated   int32 // epoch of the topology that the topics were last seen to fit; -1: they do not fit it
	replicas    int32 // standby tasks for each task, when the epoch last grew

	topology *Topology // nil: no member has brought one
	plan     plan      // what it comes to with the topics as they were seen

	byID      map[string]*streamer
	active    map[Task]*streamer // who has a task as active, or has not said yet that it gave it up
	processes map[processTask]int

	delayed   int64  // until when an assignment waits for more members; 0: it does not
	shutdown  string // the member that wants all of the application to end; "": none
	endpoints int32  // counts the changes of where which partitions can be asked for
}

// processTask is a task in a process, in whatever role.
type processTask struct {
	process string
	task    Task
}

// NewStreams makes an empty streams group.
func NewStreams(id string, opts Options, now int64) *Streams {
	return &Streams{
		gathering: gather[*streamer](id, opts, now), validated: noTopology, byID: map[string]*streamer{},
		active: map[Task]*streamer{}, processes: map[processTask]int{},
	}
}

// noTopology is the epoch of a topology that is not validated.
const noTopology = -1

// firstEpoch is the first epoch of a group with members, as in Kafka: 1 is that of members who wait for the first
// assignment.
const firstEpoch = 2

// ProtocolType is "streams".
func (g *Streams) ProtocolType() string { return streamsType }

// StateName is the name of the state it is in: Empty, NotReady (its topics are missing or do not fit), Assigning,
// Reconciling, Stable, Dead.
func (g *Streams) StateName() string {
	switch {
	case g.deleted:
		return Deleted.String()
	case len(g.members) == 0:
		return NoMembers.String()
	case g.topology == nil || g.validated != g.topology.Epoch:
		return "NotReady"
	case g.epoch > g.targetEpoch:
		return Assigning.String()
	case slices.ContainsFunc(g.members, func(m *streamer) bool { return m.state != settled || m.epoch != g.targetEpoch }):
		return Reconciling.String()
	}
	return Reconciled.String()
}

// Keys are those of all records that the log may have of the group.
func (g *Streams) Keys() []Key {
	keys := []Key{
		{Kind: KindStreams, Group: g.id}, {Kind: KindTopology, Group: g.id}, {Kind: KindStreamsTargetEpoch, Group: g.id},
	}
	for _, m := range g.members {
		keys = append(keys, g.keysOf(m.id)...)
	}
	for key := range g.dirty {
		keys = append(keys, key)
	}
	for _, written := range g.written {
		keys = append(keys, written...)
	}
	return distinct(keys)
}

func (g *Streams) keysOf(memberID string) []Key {
	return []Key{
		{Kind: KindStreamsMember, Group: g.id, Name: memberID}, {Kind: KindStreamsTarget, Group: g.id, Name: memberID},
		{Kind: KindStreamsCurrent, Group: g.id, Name: memberID},
	}
}

// touch has a record written.
func (g *Streams) touch(kind Kind, name string) {
	g.dirty[Key{Kind: kind, Group: g.id, Name: name}] = struct{}{}
}

// bump makes the epoch of the group grow: a target assignment is to be made for it.
func (g *Streams) bump(now int64) {
	g.epoch = max(g.epoch+1, firstEpoch)
	g.bumped = now
	g.touch(KindStreams, "")
}

// take hands the gathered effects out.
func (g *Streams) take() []Effect { return g.emit(g.deleted, g.value) }

// Next is when Tick must be called, in milliseconds; 0: not at all.
func (g *Streams) Next() int64 {
	next := g.delayed
	for _, m := range g.members {
		if t := m.deadline(); next == 0 || t < next {
			next = t
		}
	}
	return next
}

// Tick lets time pass: who was not heard of in its session, or did not give up in its rebalance timeout, is out; and
// the first assignment is made once its delay is over.
func (g *Streams) Tick(now int64) []Effect {
	late := slices.DeleteFunc(slices.Clone(g.members), func(m *streamer) bool { return m.deadline() > now })
	for _, m := range late {
		g.remove(now, m)
	}
	if len(late) > 0 {
		g.bump(now)
	}
	if g.delayed != 0 && now >= g.delayed {
		g.aim(now)
	}
	return g.take()
}

// remove takes a member out. The caller bumps.
func (g *Streams) remove(now int64, m *streamer) {
	g.hold(m, TaskSet{}, TaskSet{})
	delete(g.byID, m.id)
	g.bytes -= m.counted
	g.members = slices.DeleteFunc(g.members, func(o *streamer) bool { return o == m })
	for _, key := range g.keysOf(m.id) {
		g.dirty[key] = struct{}{}
	}
	if m.endpoint != nil {
		g.endpoints++
	}
	if len(g.members) == 0 {
		g.since, g.shutdown, g.delayed = now, "", 0
	}
}

// review makes the plan again if topics have changed since.
func (g *Streams) review() {
	if g.topology != nil && g.topics != g.seen {
		g.seen = g.topics
		g.plan = g.topology.plan(g.topics)
	}
}

// refresh bumps the epoch if there is a reason for another assignment: what a member said, the topics of the topology,
// whether it fits them, or how many standby tasks there are to be.
func (g *Streams) refresh(now int64, changed bool) {
	validated := int32(noTopology)
	if g.plan.fits() {
		validated = g.topology.Epoch
	}
	if !changed && g.plan.hash == g.hash && validated == g.validated && g.opts.StandbyReplicas == g.replicas {
		return
	}
	g.hash, g.validated, g.replicas = g.plan.hash, validated, g.opts.StandbyReplicas
	g.bump(now)
}

// aim makes the target assignment of the epoch, if there is none and it need not wait for more members.
func (g *Streams) aim(now int64) {
	if g.epoch == g.targetEpoch {
		return
	}
	if now < g.delayed {
		if g.targetEpoch == 0 {
			g.targetEpoch = firstEpoch - 1
			g.touch(KindStreamsTargetEpoch, "")
		}
		return
	}
	g.delayed = 0
	for m, target := range g.targets() {
		if !m.target.equal(target) {
			m.target = target
			g.touch(KindStreamsTarget, m.id)
			g.recount(m)
		}
	}
	g.targetEpoch = g.epoch
	g.touch(KindStreamsTargetEpoch, "")
}

// CheckCommit tells whether a member, or a client outside the group, may commit offsets now. Codes: UnknownMemberID,
// StaleMemberEpoch, CoordinatorNotAvailable.
func (g *Streams) CheckCommit(_ int64, who Who, epoch int32) Code {
	switch {
	case g.deleted:
		return CoordinatorNotAvailable
	case epoch < 0 && len(g.members) == 0:
		return None
	}
	return g.CheckFetch(who.MemberID, epoch)
}

// CheckFetch tells whether a member that says who it is may ask for offsets now. Codes: UnknownMemberID,
// StaleMemberEpoch.
func (g *Streams) CheckFetch(memberID string, epoch int32) Code {
	m := g.byID[memberID]
	switch {
	case m == nil:
		return UnknownMemberID
	case m.epoch != epoch:
		return StaleMemberEpoch
	}
	return None
}

// Had tells whether a member has the task of each of parts since an epoch before its present one, or an earlier one:
// nobody else can have committed for it since, and what it commits in that epoch counts (KIP-1251).
func (g *Streams) Had(memberID string, epoch int32, parts iter.Seq[TopicPartition]) bool {
	m := g.byID[memberID]
	if m == nil || epoch > m.epoch || g.topology == nil {
		return false
	}
	reads := map[string]string{} // the subtopology of each topic
	for i := range g.topology.Subtopologies {
		for _, name := range g.topology.Subtopologies[i].reads() {
			reads[name] = g.topology.Subtopologies[i].ID
		}
	}
	for p := range parts {
		if since, has := m.since[Task{reads[p.Name], p.Index}]; !has || epoch < since {
			return false
		}
	}
	return true
}

// Modern tells whether a member's requests must be of versions that have its epoch: all must.
func (g *Streams) Modern(memberID string) bool { return g.byID[memberID] != nil }

// Subscribes is a predicate: whether the topology reads a topic. It is known in every state.
func (g *Streams) Subscribes() (to func(topic string) bool, known bool) {
	topics := map[string]bool{}
	if g.topology != nil && len(g.members) > 0 {
		for i := range g.topology.Subtopologies {
			for _, name := range g.topology.Subtopologies[i].reads() {
				topics[name] = true
			}
		}
	}
	return func(topic string) bool { return topics[topic] }, true
}

// ToStreams makes the streams group that an empty classic group becomes by the first member of one. What waits to be
// durable goes with it. Nil: the member is refused, and nothing has changed.
func (g *Group) ToStreams(now int64, topics Topics, b StreamsBeat) (*Streams, []Effect) {
	if !g.Vacant() || b.Epoch != 0 {
		a := &StreamsAnswer{Code: GroupIDNotFound, Message: "Group " + g.id + " is not a streams group."}
		return nil, []Effect{{To: b.Ticket, Streams: a}}
	}
	s := NewStreams(g.id, g.opts, g.since)
	s.outbox, s.topics = g.outbox, topics
	if !s.beat(now, &b) {
		return nil, s.out
	}
	for _, key := range g.Keys() {
		s.dirty[key] = struct{}{}
	}
	return s, s.take()
}

// ToClassic makes the empty classic group that an empty streams group becomes when a member of another protocol comes.
// Nil: it has members, or was deleted.
func (g *Streams) ToClassic() *Group {
	if !g.IsEmpty() {
		return nil
	}
	c := New(g.id, g.opts, g.since)
	c.outbox, c.former = g.outbox, g.Keys()
	return c
}

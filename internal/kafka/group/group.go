// Package group holds one group of consumers as a state machine. There are two kinds: a classic group (Group), whose
// members gather for a generation and whose leader assigns, and a consumer group (Consumer, KIP-848), which assigns by
// itself and brings each member to its assignment alone. Committed offsets are the business of the owner.
//
// Both are pure: no goroutine, lock, clock or socket. Time comes in as milliseconds, a blocked request
// is named by a Ticket, and what must be done comes out as Effects: answer a ticket, store the
// group. One owner at a time calls it (the coordinator of the door). The metadata of members and
// their assignments are opaque, so that Kafka Connect and Kafka Streams work as consumers do.
//
//	effects := g.Join(now, join)      // answers come out when all members have joined
//	effects = g.Sync(now, sync)       // the leader's assignment comes out as a Store ...
//	effects = g.Stored(now, seq, nil) // ... and goes to the members when it is durable
//	effects = g.Tick(now)             // at Next(): sessions and rebalances time out
//
// The rules are those of Apache Kafka 4.x (KIP-62, KIP-345, KIP-394, KIP-814).
package group

import (
	"slices"
)

// State is the state of a group.
type State uint8

// The states of a classic group.
const (
	Empty               State = iota // no members; offsets may live on
	PreparingRebalance               // waits for its members to join
	CompletingRebalance              // waits for the leader's assignment
	Stable                           // every member has its assignment, or may fetch it
	Dead                             // deleted; every request is refused
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}

// String is the name of the state in DescribeGroups and ListGroups.
func (s State) String() string { return stateNames[s] }

// Ticket names one blocked request of the owner. 0 names none.
type Ticket uint64

// Options bound a group. The zero value means the defaults.
type Options struct {
	MinSessionMillis   int64 // shortest session timeout; default 6,000
	MaxSessionMillis   int64 // longest session timeout; default 1,800,000
	InitialDelayMillis int64 // how long an empty group gathers members before its first generation; default 0
	NewMemberMillis    int64 // how long a new member may wait in its first join; default 300,000
	MaxMembers         int   // members of one group; default 10,000
	MaxMetadata        int   // bytes of metadata of one member, all its protocols together; default 1 MiB
	MaxAssignment      int   // bytes of one generation's assignments together; default 4 MiB

	ConsumerSessionMillis int64 // session timeout of members of the consumer protocol; default 45,000
	ShareSessionMillis    int64 // session timeout of members of share groups; default 45,000

	StreamsSessionMillis int64 // session timeout of members of streams groups; default 45,000
	StreamsDelayMillis   int64 // how long a streams group without members gathers some before it assigns; default 0
	StandbyReplicas      int32 // standby tasks for each task with state; default 0
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *int64
		value int64
	}{
		{&o.MinSessionMillis, 6_000}, {&o.MaxSessionMillis, 1_800_000}, {&o.NewMemberMillis, 300_000},
		{&o.ConsumerSessionMillis, 45_000}, {&o.ShareSessionMillis, 45_000}, {&o.StreamsSessionMillis, 45_000},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxMembers, 10_000}, {&o.MaxMetadata, 1 << 20}, {&o.MaxAssignment, 4 << 20}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return o
}

// maxProtocols bounds the protocols of one member: clients offer one to five.
const maxProtocols = 128

// maxName bounds an instance id, a protocol type and the name of a protocol, in bytes: they are stored.
const maxName = 1024

// Group is one classic group. The zero value is not ready: use New or Load.
//
// Invariants: leader names a member whenever there are members; static maps each instance id to a
// member that is there; supports counts, for each protocol name, the members that offer it; bytes is the
// size of all members and ids that were handed out; sync tickets exist only in CompletingRebalance; join tickets exist
// in PreparingRebalance, or in held.
type Group struct {
	id   string
	opts Options

	state        State
	since        int64 // when it came into its state
	generation   int32
	protocolType string
	protocol     string
	leader       string
	reason       string // why the last rebalance began

	members  []*member // in the order they came
	byID     map[string]*member
	static   map[string]string // instance id to member id
	pending  map[string]int64  // handed-out ids that have not joined yet, and when they lapse
	supports map[string]int
	bytes    int64 // what members and pending take

	initial   bool  // PreparingRebalance out of Empty: gathers until joinBy
	newcomer  bool  // somebody joined since the initial delay was last set
	remaining int64 // what is left of the initial delay's bound
	joinBy    int64 // PreparingRebalance: when the rebalance goes on without the absent
	syncBy    int64 // when members that joined and never synced are removed; 0: nobody is late

	outbox
	assigning uint64 // the Store that carries the assignment of this generation; 0: none
	former    []Key  // records of the consumer group that it was, until the log has their ends
	ending    uint64 // the last Store that carries those ends
}

// New makes an empty group.
func New(id string, opts Options, now int64) *Group {
	return &Group{
		id: id, opts: opts.withDefaults(), since: now,
		byID: map[string]*member{}, static: map[string]string{}, pending: map[string]int64{},
		supports: map[string]int{}, outbox: newOutbox(),
	}
}

// SetOptions puts other options in force. Members keep the session timeouts that they were given.
func (g *Group) SetOptions(opts Options) { g.opts = opts.withDefaults() }

// ID is the group's name.
func (g *Group) ID() string { return g.id }

// State is the state it is in.
func (g *Group) State() State { return g.state }

// Since is when it came into its state, in milliseconds.
func (g *Group) Since() int64 { return g.since }

// Generation counts the completed rebalances.
func (g *Group) Generation() int32 { return g.generation }

// ProtocolType is what kind of group it is: "consumer", "connect", or "" for a group that only
// holds offsets.
func (g *Group) ProtocolType() string { return g.protocolType }

// Len is the number of members.
func (g *Group) Len() int { return len(g.members) }

// StateName is the name of the state.
func (g *Group) StateName() string { return g.state.String() }

// IsDead tells whether the group was deleted.
func (g *Group) IsDead() bool { return g.state == Dead }

// IsEmpty tells whether the group is there and has no members.
func (g *Group) IsEmpty() bool { return g.state == Empty }

// Vacant tells whether nothing would be lost with the group except its offsets: it is empty and
// nobody is about to join.
func (g *Group) Vacant() bool {
	return g.state == Empty && len(g.pending) == 0 && len(g.held) == 0
}

// Delete ends the group if it is empty; its owner removes what is stored of it.
// Codes: NonEmptyGroup, GroupIDNotFound.
func (g *Group) Delete(now int64) Code {
	switch g.state {
	case Dead:
		return GroupIDNotFound
	case Empty:
		g.become(now, Dead)
		for id := range g.pending {
			g.forget(id)
		}
		return None
	}
	return NonEmptyGroup
}

// Revive takes a Delete back that could not be stored.
func (g *Group) Revive(now int64) { g.become(now, Empty) }

// Keys are those of all records that the log may have of the group.
func (g *Group) Keys() []Key { return append([]Key{{Kind: KindClassic, Group: g.id}}, g.former...) }

// See tells a group which topics there are. They are nothing to a classic one: its leader assigns.
func (g *Group) See(Topics) {}

// CheckFetch allows who says who it is to ask for offsets: in a classic group that says nothing.
func (g *Group) CheckFetch(string, int32) Code { return None }

// Modern tells whether a member uses the consumer protocol: none does here.
func (g *Group) Modern(string) bool { return false }

// CheckCommit tells whether a member, or a client outside the group, may commit offsets now.
// A commit keeps the member's session alive. Codes: UnknownMemberID, IllegalGeneration,
// FencedInstanceID, RebalanceInProgress, CoordinatorNotAvailable.
func (g *Group) CheckCommit(now int64, who Who, generation int32) Code {
	if g.state == Dead {
		return CoordinatorNotAvailable
	}
	if generation < 0 && g.state == Empty {
		return None // whoever asks: nobody is there whose work it could undo
	}
	m, code := g.find(who)
	switch {
	case code != None:
		return code
	case generation != g.generation:
		return IllegalGeneration
	case g.state == CompletingRebalance:
		return RebalanceInProgress
	}
	m.alive(now)
	return None
}

// Heartbeat keeps a member's session alive and tells it what its group is about. Codes:
// UnknownMemberID, IllegalGeneration, FencedInstanceID, RebalanceInProgress (join again).
func (g *Group) Heartbeat(now int64, who Who, generation int32) Code {
	if g.state == Dead {
		return CoordinatorNotAvailable
	}
	m, code := g.find(who)
	switch {
	case code != None:
		return code
	case generation != g.generation:
		return IllegalGeneration
	}
	m.alive(now)
	if g.state == PreparingRebalance {
		return RebalanceInProgress
	}
	return None
}

// find finds the member of a request and fences a static member that was replaced.
func (g *Group) find(who Who) (*member, Code) {
	if who.InstanceID != "" {
		current, known := g.static[who.InstanceID]
		if !known {
			return nil, UnknownMemberID
		}
		if current != who.MemberID {
			return nil, FencedInstanceID
		}
	}
	m := g.byID[who.MemberID]
	if m == nil {
		return nil, UnknownMemberID
	}
	return m, None
}

func (g *Group) become(now int64, s State) {
	g.state, g.since = s, now
}

// take hands the gathered effects out.
func (g *Group) take() []Effect {
	out := g.out
	g.out = nil
	return out
}

// remove takes a member out and refuses what it waits for. The caller goes on with settle.
func (g *Group) remove(m *member, code Code) {
	g.refuseJoin(m, code)
	g.refuseSync(m, code)
	delete(g.byID, m.id)
	if m.instance != "" {
		delete(g.static, m.instance)
	}
	g.count(m.protocols, -1)
	g.bytes -= m.counted
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// settle goes on after members were removed.
func (g *Group) settle(now int64, reason string) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.rebalance(now, reason)
	case PreparingRebalance:
		g.tryCompleteJoin(now)
	}
}

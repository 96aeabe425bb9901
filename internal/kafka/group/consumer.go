package group

import (
	"maps"
	"slices"
	"strings"
)

// ConsumerState is the state of a consumer group, by what its members have to do.
type ConsumerState uint8

// The states of a consumer group.
const (
	NoMembers   ConsumerState = iota // Empty; offsets may live on
	Assigning                        // members or topics have changed and nobody has been heard of since
	Reconciling                      // members are on their way to the target assignment
	Reconciled                       // Stable: every member has what it is to have
	Deleted                          // Dead: every request is refused
)

var consumerStateNames = [...]string{"Empty", "Assigning", "Reconciling", "Stable", "Dead"}

// String is the name of the state in ConsumerGroupDescribe and ListGroups.
func (s ConsumerState) String() string { return consumerStateNames[s] }

// Consumer holds one consumer group of KIP-848 as a state machine. Its members say what they subscribe to in
// heartbeats; the group decides who is to have which partition, the target assignment, and brings each member there in
// two steps: it gives up what is not its own any more, and gets what others have given up. There is no barrier: nobody
// waits for anybody who does not hold a partition that he is to get.
//
// It is pure, as Group is. The epoch of the group grows whenever members or topics change; a member's own epoch is the
// one whose target it has been brought to, and fences what it commits. Members of the classic protocol may be in it:
// their JoinGroup and Heartbeat stand for heartbeats, and their epoch is the generation that they are told. That is how
// a group goes from one protocol to the other while it works (Upgrade, Downgrade).
//
//	effects := g.Beat(now, beat)      // the answer comes out when what it tells is durable
//	effects = g.Stored(now, seq, nil)
//	effects = g.Tick(now)             // at Next(): sessions and revocations time out
//
// Each record is of one member, so that a change costs what has changed. What a record is to say is told by the state
// when the record is written; a record that was lost is written again with the next.
//
// Invariants: nobody holds a partition that another one does; static maps each instance id to a member that is there;
// targetEpoch is never above epoch.
type Consumer struct {
	gathering[*consumer]

	bumped      int64 // when its epoch grew last; 0: before it was loaded
	epoch       int32
	targetEpoch int32 // of the target assignment
	hash        int64 // of the topics that are subscribed to, as they were when the epoch last grew

	byID    map[string]*consumer
	static  map[string]string       // instance id to member id
	holders map[Partition]*consumer // who has it, or has not said yet that it gave it up
	regexes map[string]*regex       // those of members, by their text
}

// NewConsumer makes an empty consumer group.
func NewConsumer(id string, opts Options, now int64) *Consumer {
	return &Consumer{
		gathering: gather[*consumer](id, opts, now), byID: map[string]*consumer{}, static: map[string]string{},
		holders: map[Partition]*consumer{}, regexes: map[string]*regex{},
	}
}

// ProtocolType is "consumer".
func (g *Consumer) ProtocolType() string { return consumerType }

// State is the state it is in.
func (g *Consumer) State() ConsumerState {
	switch {
	case g.deleted:
		return Deleted
	case len(g.members) == 0:
		return NoMembers
	case g.epoch > g.targetEpoch:
		return Assigning
	case slices.ContainsFunc(g.members, func(m *consumer) bool {
		return m.state != settled || m.epoch != g.targetEpoch
	}):
		return Reconciling
	}
	return Reconciled
}

// StateName is the name of the state.
func (g *Consumer) StateName() string { return g.State().String() }

// Keys are those of all records that the log may have of the group.
func (g *Consumer) Keys() []Key {
	keys := []Key{{Kind: KindConsumer, Group: g.id}, {Kind: KindTargetEpoch, Group: g.id}}
	for _, m := range g.members {
		keys = append(keys, g.keysOf(m.id)...)
	}
	for text := range g.regexes {
		keys = append(keys, Key{Kind: KindRegex, Group: g.id, Name: text})
	}
	for key := range g.dirty {
		keys = append(keys, key)
	}
	return distinct(keys)
}

// distinct puts keys in order, each once.
func distinct(keys []Key) []Key {
	slices.SortFunc(keys, func(a, b Key) int { return a.compare(&b) })
	return slices.Compact(keys)
}

func (g *Consumer) keysOf(memberID string) []Key {
	return []Key{
		{Kind: KindMember, Group: g.id, Name: memberID}, {Kind: KindTarget, Group: g.id, Name: memberID},
		{Kind: KindCurrent, Group: g.id, Name: memberID},
	}
}

// touch has a record written.
func (g *Consumer) touch(kind Kind, name string) {
	g.dirty[Key{Kind: kind, Group: g.id, Name: name}] = struct{}{}
}

// bump makes the epoch of the group grow: a target assignment is to be made for it.
func (g *Consumer) bump(now int64) {
	g.epoch++
	g.bumped = now
	g.touch(KindConsumer, "")
}

// take hands the gathered effects out.
func (g *Consumer) take() []Effect { return g.emit(g.deleted, g.value) }

// Next is when Tick must be called, in milliseconds; 0: not at all.
func (g *Consumer) Next() int64 {
	next := int64(0)
	for _, m := range g.members {
		if t := m.deadline(); next == 0 || t < next {
			next = t
		}
	}
	return next
}

// Tick lets time pass: who was not heard of in its session, or did not give up, join again or sync in its rebalance
// timeout, is out.
func (g *Consumer) Tick(now int64) []Effect {
	late := slices.DeleteFunc(slices.Clone(g.members), func(m *consumer) bool { return m.deadline() > now })
	for _, m := range late {
		g.remove(now, m)
	}
	if len(late) > 0 {
		g.bump(now)
	}
	return g.take()
}

// remove takes a member out. The caller bumps.
func (g *Consumer) remove(now int64, m *consumer) {
	g.hold(m, nil, nil)
	delete(g.byID, m.id)
	if m.instance != "" && g.static[m.instance] == m.id {
		delete(g.static, m.instance)
	}
	g.bytes -= m.counted
	g.members = slices.DeleteFunc(g.members, func(o *consumer) bool { return o == m })
	for _, key := range g.keysOf(m.id) {
		g.dirty[key] = struct{}{}
	}
	g.forgetRegex(m.regex)
	if len(g.members) == 0 {
		g.since = now
	}
}

// refresh bumps the epoch if a subscription has changed, or topics that are subscribed to have.
func (g *Consumer) refresh(now int64, changed bool) {
	if !changed && g.topics == g.seen {
		return
	}
	g.seen = g.topics
	if hash := g.hashTopics(); changed || hash != g.hash {
		g.hash = hash
		g.bump(now)
	}
}

// subscribed are the names of the topics that a member subscribes to, each once.
func (g *Consumer) subscribed(m *consumer) []string {
	r := g.regexes[m.regex]
	if r == nil || len(r.topics) == 0 {
		return m.topics
	}
	all := slices.Concat(m.topics, r.topics)
	slices.Sort(all)
	return slices.Compact(all)
}

// subscribedTopics are those of them that there are, in the order of their names.
func (g *Consumer) subscribedTopics(m *consumer) []Topic {
	var all []Topic
	for _, name := range g.subscribed(m) {
		if t, is := g.topics.ByName(name); is {
			all = append(all, t)
		}
	}
	return all
}

// hashTopics is the hash of the subscribed topics.
func (g *Consumer) hashTopics() int64 {
	names := map[string]struct{}{}
	for _, m := range g.members {
		for _, name := range g.subscribed(m) {
			names[name] = struct{}{}
		}
	}
	return hashOf(g.topics, slices.Sorted(maps.Keys(names)))
}

// aim makes the target assignment of the epoch, if there is none.
func (g *Consumer) aim() {
	if g.epoch == g.targetEpoch {
		return
	}
	all := make([]subscriber, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, subscriber{member: m, place: m.place(), topics: g.subscribedTopics(m), target: m.target})
	}
	slices.SortFunc(all, func(a, b subscriber) int { return strings.Compare(a.place, b.place) })
	assignments(g.assignor(), all)
	for i := range all {
		if m := all[i].member; !m.target.equal(all[i].target) {
			m.target = all[i].target
			g.touch(KindTarget, m.id)
			g.recount(m)
		}
	}
	g.targetEpoch = g.epoch
	g.touch(KindTargetEpoch, "")
}

// assignor is the one that most members ask for; most members ask for none and leave it to us.
func (g *Consumer) assignor() string {
	votes := map[string]int{}
	for _, m := range g.members {
		if m.assignor != "" {
			votes[m.assignor]++
		}
	}
	best := AssignorUniform
	for _, name := range Assignors() {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// CheckCommit tells whether a member, or a client outside the group, may commit offsets now. Codes: UnknownMemberID,
// StaleMemberEpoch, of a member of the classic protocol IllegalGeneration, CoordinatorNotAvailable.
func (g *Consumer) CheckCommit(_ int64, who Who, epoch int32) Code {
	switch {
	case g.deleted:
		return CoordinatorNotAvailable
	case epoch < 0 && len(g.members) == 0:
		return None
	}
	return g.checkEpoch(who.MemberID, epoch)
}

// CheckFetch tells whether a member that says who it is may ask for offsets now. Codes: UnknownMemberID,
// StaleMemberEpoch, of a member of the classic protocol IllegalGeneration.
func (g *Consumer) CheckFetch(memberID string, epoch int32) Code {
	return g.checkEpoch(memberID, epoch)
}

func (g *Consumer) checkEpoch(memberID string, epoch int32) Code {
	m := g.byID[memberID]
	switch {
	case m == nil:
		return UnknownMemberID
	case m.epoch == epoch:
		return None
	case m.classic != nil:
		return IllegalGeneration
	}
	return StaleMemberEpoch
}

// Modern tells whether a member uses the consumer protocol: its requests must be of versions that have its epoch.
func (g *Consumer) Modern(memberID string) bool {
	m := g.byID[memberID]
	return m != nil && m.classic == nil
}

// Subscribes is a predicate: whether some member subscribes to a topic. It is known in every state.
func (g *Consumer) Subscribes() (to func(topic string) bool, known bool) {
	topics := map[string]bool{}
	for _, m := range g.members {
		for _, name := range g.subscribed(m) {
			topics[name] = true
		}
	}
	return func(topic string) bool { return topics[topic] }, true
}

package group

import (
	"slices"
	"strings"
)

// Beat is a ConsumerGroupHeartbeat request. Nil means: as before.
type Beat struct {
	Ticket     Ticket
	Who        Who
	Epoch      int32 // 0 joins, LeaveEpoch and StaticLeaveEpoch leave
	Rack       *string
	ClientID   string
	ClientHost string
	Rebalance  int64    // rebalance timeout in milliseconds; -1: as before
	Topics     []string // that it subscribes to by name
	Regex      *string  // of names that it subscribes to; "": none
	Assignor   *string
	Owned      *Partitions             // what it holds
	Sees       func(topic string) bool // whether its client may know of a topic
	Full       bool                    // there is no room for what makes the group larger
}

// whole tells whether the member says everything of itself: it wants to be told everything.
func (b *Beat) whole() bool {
	return b.Epoch == 0 || b.Rebalance >= 0 && (b.Topics != nil || b.Regex != nil) && b.Owned != nil
}

// size is about what the names take.
func (b *Beat) size() (n int) {
	for _, name := range b.Topics {
		n += len(name)
	}
	return n
}

// Bytes is about how much larger the group may become by the heartbeat.
func (b *Beat) Bytes() (n int64) {
	if b.Epoch == 0 {
		own := len(b.Who.MemberID) + len(b.Who.InstanceID) + len(b.ClientID) + len(b.ClientHost)
		n = memberOverhead + int64(own)
	}
	if b.Regex != nil {
		n += int64(len(*b.Regex))
	}
	return n + int64(16*len(b.Topics)+b.size())
}

// grows tells whether the heartbeat makes its member larger.
func (m *consumer) grows(b *Beat) bool {
	names := 0
	for _, name := range m.topics {
		names += len(name)
	}
	return b.size() > names || len(b.Topics) > len(m.topics) || b.Regex != nil && len(*b.Regex) > len(m.regex)
}

// Beat takes a heartbeat. The answer comes out now or, once what it tells is durable, later. Codes: InvalidRequest
// (too much), UnknownMemberID, FencedInstanceID, FencedMemberEpoch (join again), UnreleasedInstanceID,
// GroupMaxSizeReached, InvalidRegularExpression, GroupIDNotFound (deleted), CoordinatorNotAvailable (not stored, being
// deleted, or there is no room: come again).
func (g *Consumer) Beat(now int64, b Beat) []Effect {
	g.beat(now, &b)
	return g.take()
}

// beat takes a heartbeat, and tells whether it was one that the group could take.
func (g *Consumer) beat(now int64, b *Beat) bool {
	code, why := g.admitsBeat(b)
	if code == None && b.Epoch < 0 {
		code = g.quit(now, b)
	} else if code == None {
		code = g.hear(now, b)
	}
	if why == "" {
		why = reasons[code]
	}
	if code != None {
		g.answerBeat(b.Ticket, &BeatAnswer{Code: code, Message: why})
	}
	return code == None
}

// hear is a heartbeat of a member that joins or stays.
func (g *Consumer) hear(now int64, b *Beat) Code {
	m, fresh, code := g.seat(b.Who, b.Epoch == 0, false)
	if code == None && b.Epoch != 0 {
		code = m.fences(b.Epoch, b.Owned)
	}
	if code != None {
		return code
	}
	had := m.assigned
	changed := g.describe(m, b)
	changed = g.resolve(m.regex, b.Sees) || changed
	g.refresh(now, changed || fresh)
	g.aim()
	m.alive(now, &g.opts)
	g.reconcile(now, m, b.Owned, changed)
	a := &BeatAnswer{
		MemberID: m.id, Epoch: m.epoch, Waits: m.state == unsettled, Quiet: now - g.bumped, Members: len(g.members),
	}
	if b.whole() || !m.assigned.equal(had) || b.Owned != nil && !m.assigned.equal(*b.Owned) {
		a.Assigned, a.Assignment = true, m.assigned
	}
	g.answerBeat(b.Ticket, a)
	return None
}

func (g *Consumer) answerBeat(to Ticket, a *BeatAnswer) {
	g.out = append(g.out, Effect{To: to, Beat: a})
}

// reasons are what a client is told with a code.
var reasons = map[Code]string{
	UnknownMemberID:      "The member is not in the group.",
	FencedInstanceID:     "Another member has the instance id.",
	FencedMemberEpoch:    "The member has another epoch: it must abandon its partitions and join again.",
	UnreleasedInstanceID: "A member that has not left has the instance id.",
}

// admitsBeat judges what can be judged before the member is looked at.
func (g *Consumer) admitsBeat(b *Beat) (Code, string) {
	m := g.byID[b.Who.MemberID]
	known := m != nil || g.static[b.Who.InstanceID] != ""
	switch {
	case g.deleted && b.Epoch == 0:
		return CoordinatorNotAvailable, "The group is being deleted."
	case g.deleted:
		return GroupIDNotFound, "The group was deleted."
	case len(b.Topics) > maxTopics || b.size() > g.opts.MaxMetadata || len(b.Who.InstanceID) > maxName ||
		len(b.Who.MemberID) > maxName || b.Rack != nil && len(*b.Rack) > maxName:
		return InvalidRequest, "The request says more than a group keeps of a member."
	case b.Epoch == 0 && !known && len(g.members) >= g.opts.MaxMembers:
		return GroupMaxSizeReached, "The group has as many members as it may have."
	case b.Full && b.Epoch >= 0 && (m == nil || m.grows(b)):
		return CoordinatorNotAvailable, "There is no memory for it at the moment."
	}
	if b.Regex != nil {
		if err := checkRegex(*b.Regex); err != nil {
			return InvalidRegularExpression, "SubscribedTopicRegex is not a regular expression of RE2: " + err.Error() + "."
		}
	}
	return None, ""
}

// maxTopics bounds the names that a member subscribes to.
const maxTopics = 100_000

// fences holds the epoch that a member says against the one that it was told. The one before counts too, as long as it
// has nothing but what it was given: it may never have heard of the present one.
func (m *consumer) fences(epoch int32, has holding) Code {
	switch {
	case epoch == m.epoch:
		return None
	case epoch < m.epoch && epoch == m.previous && has != nil && (*has).Within(m.assigned):
		return None
	}
	return FencedMemberEpoch
}

// describe takes over what a heartbeat says of its member, and tells whether that changes what it subscribes to.
func (g *Consumer) describe(m *consumer, b *Beat) (changed bool) {
	was := *m
	m.clientID, m.clientHost, m.classic = b.ClientID, b.ClientHost, nil
	if b.Rack != nil {
		m.rack = strings.Clone(*b.Rack)
	}
	if b.Rebalance >= 0 {
		m.rebalance = b.Rebalance
	}
	if b.Assignor != nil {
		m.assignor = strings.Clone(*b.Assignor)
	}
	if b.Topics != nil {
		m.topics = ownedNames(b.Topics)
	}
	if b.Regex != nil && *b.Regex != m.regex {
		g.forgetRegex(m.regex)
		m.regex = strings.Clone(*b.Regex)
		g.useRegex(m.regex)
	}
	changed = m.regex != was.regex || !slices.Equal(m.topics, was.topics)
	if changed || m.rack != was.rack || m.clientID != was.clientID || m.clientHost != was.clientHost ||
		m.rebalance != was.rebalance || m.assignor != was.assignor || was.classic != nil {
		g.touch(KindMember, m.id)
		g.recount(m)
	}
	return changed
}

// ownedNames is a copy of names, in order and each once: a few bytes that live long must not keep the whole request.
func ownedNames(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = strings.Clone(name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// quit is a heartbeat of a member that leaves. A static one that will come back keeps its place and its partitions
// until its session ends.
func (g *Consumer) quit(now int64, b *Beat) Code {
	m, _, code := g.seat(b.Who, false, false)
	if code != None {
		return code
	}
	a := &BeatAnswer{MemberID: m.id, Epoch: b.Epoch}
	if b.Epoch == StaticLeaveEpoch && m.instance != "" {
		m.epoch, m.previous, m.state, m.revokeBy = StaticLeaveEpoch, StaticLeaveEpoch, settled, 0
		g.hold(m, m.assigned, nil)
		m.alive(now, &g.opts)
		g.touch(KindCurrent, m.id)
	} else {
		g.remove(now, m)
		g.bump(now)
	}
	g.answerBeat(b.Ticket, a)
	return None
}

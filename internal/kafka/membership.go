package kafka

import (
	"iter"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/log/stream"
)

// membership is who is in a group: a classic one (*group.Group), a consumer group (*group.Consumer), a streams group
// (*group.Streams) or a share group (*group.Share). All take the requests of the classic protocol, if only to refuse
// them; offsets are the same in all but the last, and belong to the owner.
type membership interface {
	See(topics group.Topics)
	SetOptions(opts group.Options)

	Join(now int64, j group.Join) []group.Effect
	Sync(now int64, s group.Sync) []group.Effect
	Heartbeat(now int64, who group.Who, generation int32) group.Code
	Leave(now int64, whos []group.Who, reason string) ([]group.Code, []group.Effect)
	Seat(who group.Who) (s group.Seat, is bool)
	Gone(now int64, t group.Ticket) []group.Effect
	CheckCommit(now int64, who group.Who, epoch int32) group.Code
	CheckFetch(memberID string, epoch int32) group.Code
	Modern(memberID string) bool

	Stored(now int64, seq uint64, lost error) []group.Effect
	Next() int64
	Tick(now int64) []group.Effect
	Delete(now int64) group.Code
	Revive(now int64)

	StateName() string
	ProtocolType() string
	IsEmpty() bool
	IsDead() bool
	Vacant() bool
	Since() int64
	Len() int
	Bytes() int64
	Keys() []group.Key
	Subscribes() (to func(topic string) bool, known bool)
}

// groupType is what kind of group it is, by Kafka's names.
func groupType(g membership) string {
	switch g.(type) {
	case *group.Consumer:
		return "consumer"
	case *group.Share:
		return "share"
	case *group.Streams:
		return "streams"
	}
	return "classic"
}

// mayCommit is CheckCommit for what a request commits. A member whose request was on its way when its epoch grew
// commits for what it has had since then (KIP-1251).
func mayCommit(
	g membership, now int64, who group.Who, epoch int32, parts iter.Seq[group.TopicPartition],
) group.Code {
	code := g.CheckCommit(now, who, epoch)
	keeps, is := g.(interface {
		Had(memberID string, epoch int32, parts iter.Seq[group.TopicPartition]) bool
	})
	if code == group.StaleMemberEpoch && is && keeps.Had(who.MemberID, epoch, parts) {
		return group.None
	}
	return code
}

// groupTopics is the topics as groups see them.
type groupTopics struct{ all *stream.Topics }

func (co *coordinator) topics() group.Topics { return groupTopics{co.log.Topics()} }

func groupTopic(t *stream.Topic) (group.Topic, bool) {
	if t == nil {
		return group.Topic{}, false
	}
	return group.Topic{ID: t.ID, Name: t.Name, Partitions: int32(len(t.Partitions))}, true
}

// ByName implements group.Topics.
func (v groupTopics) ByName(name string) (group.Topic, bool) { return groupTopic(v.all.ByName(name)) }

// ByID implements group.Topics.
func (v groupTopics) ByID(id group.TopicID) (group.Topic, bool) { return groupTopic(v.all.ByID(id)) }

// Each implements group.Topics: all, internal topics too, as at Kafka.
func (v groupTopics) Each(f func(group.Topic) bool) {
	for _, t := range v.all.All() {
		if one, _ := groupTopic(t); !f(one) {
			return
		}
	}
}

// joinLocked is a JoinGroup in a locked group. A group of another kind without members becomes a classic one by it.
func (co *coordinator) joinLocked(og *ownedGroup, j *group.Join) []group.Effect {
	now := co.now()
	g := co.emptied(og.mu.g)
	if g == nil {
		return og.mu.g.Join(now, *j)
	}
	effects := g.Join(now, *j)
	if !g.Vacant() {
		og.mu.g = g
	}
	return effects
}

// emptied is the classic group that a group of another kind becomes if it has no members; else nil.
func (co *coordinator) emptied(g membership) *group.Group {
	switch g := g.(type) {
	case *group.Consumer:
		if g.IsEmpty() {
			return g.Downgrade(co.now())
		}
	case *group.Streams:
		return g.ToClassic()
	}
	return nil
}

// beatLocked is a ConsumerGroupHeartbeat in a locked group. A classic group becomes a consumer group by the first
// member that joins so, if its members are consumers.
func (co *coordinator) beatLocked(og *ownedGroup, b *group.Beat) []group.Effect {
	if g, is := og.mu.g.(*group.Consumer); is {
		return g.Beat(co.now(), *b)
	}
	g, is := og.mu.g.(*group.Group)
	if !is && b.Epoch == 0 {
		g = co.emptied(og.mu.g)
	}
	if g == nil {
		why := "Group " + og.id + " is not a consumer group."
		return []group.Effect{{To: b.Ticket, Beat: &group.BeatAnswer{Code: group.GroupIDNotFound, Message: why}}}
	}
	upgraded, effects := g.Upgrade(co.now(), co.topics(), *b)
	if upgraded != nil {
		og.mu.g = upgraded
	}
	return effects
}

// streamsLocked is a StreamsGroupHeartbeat in a locked group. A group of another kind without members becomes a streams
// group by the first member that joins so.
func (co *coordinator) streamsLocked(og *ownedGroup, b *group.StreamsBeat) []group.Effect {
	if g, is := og.mu.g.(*group.Streams); is {
		return g.Beat(co.now(), *b)
	}
	g, is := og.mu.g.(*group.Group)
	if !is && b.Epoch == 0 {
		g = co.emptied(og.mu.g)
	}
	if g == nil {
		why := "Group " + og.id + " is not a streams group."
		return []group.Effect{{To: b.Ticket, Streams: &group.StreamsAnswer{Code: group.GroupIDNotFound, Message: why}}}
	}
	made, effects := g.ToStreams(co.now(), co.topics(), *b)
	if made != nil {
		og.mu.g = made
	}
	return effects
}

// downgradeLocked makes a consumer group a classic one when all its members are of the classic protocol.
func (co *coordinator) downgradeLocked(og *ownedGroup) []group.Effect {
	left, is := og.mu.g.(*group.Consumer)
	if !is || left.Len() == 0 {
		return nil
	}
	g := left.Downgrade(co.now())
	if g == nil {
		return nil
	}
	og.mu.g = g
	return g.Effects()
}

package kafka

import (
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/log/stream"
)

// membership is who is in a group: a classic one (*group.Group), a consumer group (*group.Consumer) or a share group
// (*group.Share). The first two take the requests of the classic protocol; offsets are the same in both and belong to
// the owner.
type membership interface {
	See(topics group.Topics)
	SetOptions(opts group.Options)

	Join(now int64, j group.Join) []group.Effect
	Sync(now int64, s group.Sync) []group.Effect
	Heartbeat(now int64, who group.Who, generation int32) group.Code
	Leave(now int64, whos []group.Who, reason string) ([]group.Code, []group.Effect)
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
	}
	return "classic"
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

// joinLocked is a JoinGroup in a locked group. A consumer group without members becomes a classic one by it.
func (co *coordinator) joinLocked(og *ownedGroup, j *group.Join) []group.Effect {
	now := co.now()
	if empty, is := og.mu.g.(*group.Consumer); is && empty.IsEmpty() {
		if g := empty.Downgrade(now); g != nil {
			effects := g.Join(now, *j)
			if !g.Vacant() {
				og.mu.g = g
			}
			return effects
		}
	}
	return og.mu.g.Join(now, *j)
}

// beatLocked is a ConsumerGroupHeartbeat in a locked group. A classic group becomes a consumer group by the first
// member that joins so, if its members are consumers.
func (co *coordinator) beatLocked(og *ownedGroup, b *group.Beat) []group.Effect {
	switch g := og.mu.g.(type) {
	case *group.Consumer:
		return g.Beat(co.now(), *b)
	case *group.Group:
		upgraded, effects := g.Upgrade(co.now(), co.topics(), *b)
		if upgraded != nil {
			og.mu.g = upgraded
		}
		return effects
	}
	refusal := &group.BeatAnswer{Code: group.GroupIDNotFound, Message: "Group " + og.id + " is not a consumer group."}
	return []group.Effect{{To: b.Ticket, Beat: refusal}}
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

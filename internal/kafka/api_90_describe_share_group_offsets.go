package kafka

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeShareGroupOffsets, versions 0 and 1.
//
// The start offset of each partition that a share group shares: all below it is done with. A partition that it has not
// begun has -1. Without topics, all that the group has and the client may know of. A group that is not there, or is of
// another kind, is GROUP_ID_NOT_FOUND.
//
// Versions: 1 lag (KIP-1226): records that are not done with, up to the high watermark.
func (s *shares) describeShareGroupOffsets(
	_ context.Context, c *conn, req *kmsg.DescribeShareGroupOffsetsRequest,
) (*kmsg.DescribeShareGroupOffsetsResponse, error) {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	for i := range req.Groups {
		rg := &req.Groups[i]
		one := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		one.GroupID = rg.GroupID
		switch {
		case !s.groups.may(c, OpDescribe, OnGroup, rg.GroupID):
			one.ErrorCode = wire.GroupAuthorizationFailed
		case s.available() != wire.None:
			one.ErrorCode = s.available()
		case !s.groups.shareGroup(rg.GroupID):
			one.ErrorCode, one.ErrorMessage = wire.GroupIDNotFound, new("Group "+rg.GroupID+" not found.")
		case rg.Topics == nil:
			s.describeAllShared(c, &one)
		default:
			for j := range rg.Topics {
				one.Topics = append(one.Topics, s.describeShared(c, rg.GroupID, &rg.Topics[j]))
			}
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

// describeAllShared describes all partitions that a group has begun.
func (s *shares) describeAllShared(c *conn, to *kmsg.DescribeShareGroupOffsetsResponseGroup) {
	indexes := map[string][]int32{}
	for _, p := range s.all(func(p *sharePart) bool { return p.group == to.GroupID }) {
		if t := s.log.Topics().ByID(p.topic); t != nil && s.groups.sees(c, OpDescribe, OnTopic, t.Name) {
			indexes[t.Name] = append(indexes[t.Name], p.index)
		}
	}
	for _, name := range sortedNames(indexes) {
		slices.SortFunc(indexes[name], cmp.Compare[int32])
		asked := kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: name, Partitions: indexes[name]}
		to.Topics = append(to.Topics, s.describeShared(c, to.GroupID, &asked))
	}
}

// describeShared describes partitions of a topic.
func (s *shares) describeShared(
	c *conn, group string, asked *kmsg.DescribeShareGroupOffsetsRequestGroupTopic,
) kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
	to := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
	to.Topic = strings.Clone(asked.Topic)
	may := s.groups.may(c, OpDescribe, OnTopic, asked.Topic)
	t := s.log.Topics().ByName(asked.Topic)
	if t != nil && may {
		to.TopicID = t.ID
	}
	for _, index := range asked.Partitions {
		one := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
		one.Partition, one.StartOffset, one.Lag = index, -1, -1
		switch {
		case !may:
			one.ErrorCode = wire.TopicAuthorizationFailed
		case t == nil || index < 0 || int(index) >= len(t.Partitions): // there is nothing, which is no fault
		default:
			one.LeaderEpoch = s.log.Epoch()
			one.StartOffset, one.Lag = s.standing(shareKey{group, t.ID, index}, t)
		}
		to.Partitions = append(to.Partitions, one)
	}
	return to
}

// standing is the start offset of a share partition, and how many records are not done with; -1: it has not begun.
func (s *shares) standing(key shareKey, t *stream.Topic) (start, lag int64) {
	p := s.find(key)
	bounds, err := s.log.Bounds(t.Partitions[key.index])
	if p == nil || err != nil {
		return -1, -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.gone {
		return -1, -1
	}
	start = max(p.mu.q.Start(), int64(bounds.Start))
	next := max(p.mu.q.Next(), int64(bounds.Start))
	return start, max(int64(bounds.High-record.Offset(next)), 0) + int64(p.mu.q.Open())
}

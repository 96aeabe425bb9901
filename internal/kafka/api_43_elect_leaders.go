package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (43): v0-2.
//
// Behaviour
//   - This broker leads every partition and is the preferred replica of each: ELECTION_NOT_NEEDED. Null
//     topics ask for all, and are answered with those for which there was an election: none.
//   - Elections are of the preferred replica or unclean (KIP-460); another kind is INVALID_REQUEST.
//
// Versions: 1 kind of election, error of the whole, 2 flexible.

// electLeaders answers ElectLeaders.
func (d *Door) electLeaders(
	_ context.Context, c *conn, req *kmsg.ElectLeadersRequest,
) (*kmsg.ElectLeadersResponse, error) {
	const preferred, unclean = 0, 1
	resp := kmsg.NewPtrElectLeadersResponse()
	switch {
	case !d.may(c, OpAlter, OnCluster, ClusterResource):
		resp.ErrorCode = wire.ClusterAuthorizationFailed
	case req.Version >= 1 && req.ElectionType != preferred && req.ElectionType != unclean:
		resp.ErrorCode = wire.InvalidRequest
	}
	topics := d.log.Topics()
	for _, rt := range req.Topics {
		answer := kmsg.NewElectLeadersResponseTopic()
		answer.Topic = rt.Topic
		for _, index := range rt.Partitions {
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition, p.ErrorCode = index, resp.ErrorCode
			if p.ErrorCode == wire.None {
				p.ErrorCode = existing(topics, rt.Topic, index)
			}
			if p.ErrorCode == wire.None {
				p.ErrorCode, p.ErrorMessage = wire.ElectionNotNeeded, new("this broker leads the partition")
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

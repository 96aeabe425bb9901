package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (45): v0-1. kmsg calls it AlterPartitionAssignments.
//
// Behaviour
//   - There is one broker, and each partition has its one replica there. That is taken, and done; other
//     replicas are INVALID_REPLICA_ASSIGNMENT.
//   - Null replicas cancel a reassignment, of which there is none: NO_REASSIGNMENT_IN_PROGRESS.
//
// Versions: 1 whether the number of replicas may change (KIP-860).

// alterPartitionReassignments answers AlterPartitionReassignments.
func (d *Door) alterPartitionReassignments(
	_ context.Context, c *conn, req *kmsg.AlterPartitionAssignmentsRequest,
) (*kmsg.AlterPartitionAssignmentsResponse, error) {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	if !d.may(c, OpAlter, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
		return resp, nil
	}
	topics := d.log.Topics()
	for _, rt := range req.Topics {
		answer := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		answer.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition, p.ErrorCode = rp.Partition, existing(topics, rt.Topic, rp.Partition)
			switch {
			case p.ErrorCode != wire.None:
			case rp.Replicas == nil:
				p.ErrorCode, p.ErrorMessage = wire.NoReassignmentInProgress, new("there is nothing to cancel")
			case !slices.Equal(rp.Replicas, []int32{d.opt.NodeID}):
				p.ErrorCode, p.ErrorMessage = wire.InvalidReplicaAssignment, new("there is one broker")
			}
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

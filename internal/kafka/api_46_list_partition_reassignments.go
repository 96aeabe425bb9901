package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (46): v0.
//
// Behaviour
//   - On one broker a reassignment is done when it is taken: there never is one to list.

// listPartitionReassignments answers ListPartitionReassignments.
func (d *Door) listPartitionReassignments(
	_ context.Context, c *conn, _ *kmsg.ListPartitionReassignmentsRequest,
) (*kmsg.ListPartitionReassignmentsResponse, error) {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	if !d.may(c, OpDescribe, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
	}
	return resp, nil
}

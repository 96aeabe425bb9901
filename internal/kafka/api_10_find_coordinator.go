package kafka

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The kinds of coordinator that a client looks for.
const (
	groupCoordinator = 0
	txnCoordinator   = 1
	shareCoordinator = 2
)

// FindCoordinator, versions 0 to 6.
//
// One node coordinates everything: the answer is the address that Metadata gives on this connection.
// Who looks for that of a group has __consumer_offsets made, as at Kafka, if the log can.
// That of a share partition is asked for by group:topic id:partition (KIP-932); another key is INVALID_REQUEST.
//
// Versions: 1 kind of coordinator; 3 flexible; 4 several keys (KIP-699); 6 share groups (KIP-932).
func (co *coordinator) findCoordinator(
	ctx context.Context, c *conn, req *kmsg.FindCoordinatorRequest,
) (*kmsg.FindCoordinatorResponse, error) {
	if req.CoordinatorType == groupCoordinator && co.damaged == nil {
		if _, err := co.writer.partition(ctx); err != nil {
			co.opt.Logger.Debug("kafka: the topic of the groups cannot be made now", "error", err)
		}
	}
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if req.Version >= 4 {
		for _, key := range req.CoordinatorKeys {
			resp.Coordinators = append(resp.Coordinators, co.coordinatorOf(c, req.CoordinatorType, key))
		}
		return resp, nil
	}
	one := co.coordinatorOf(c, req.CoordinatorType, req.CoordinatorKey)
	resp.NodeID, resp.Host, resp.Port = one.NodeID, one.Host, one.Port
	resp.ErrorCode, resp.ErrorMessage = one.ErrorCode, one.ErrorMessage
	return resp, nil
}

func (co *coordinator) coordinatorOf(c *conn, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	one := kmsg.NewFindCoordinatorResponseCoordinator()
	one.Key, one.NodeID = key, -1
	one.Port = -1
	switch {
	case kind == groupCoordinator && !co.may(c, OpDescribe, OnGroup, key):
		one.ErrorCode = wire.GroupAuthorizationFailed
	case kind == txnCoordinator && !co.may(c, OpDescribe, OnTransactional, key):
		one.ErrorCode = wire.TransactionalIDAuthorizationFailed
	case kind == shareCoordinator && !isShareKey(key):
		one.ErrorCode = wire.InvalidRequest
		one.ErrorMessage = new("the key of a share partition is group:topic id:partition")
	case kind == shareCoordinator && !co.may(c, OpClusterAction, OnCluster, ClusterResource):
		one.ErrorCode = wire.ClusterAuthorizationFailed
	case kind != groupCoordinator && kind != txnCoordinator && kind != shareCoordinator:
		one.ErrorCode = wire.InvalidRequest
		one.ErrorMessage = new("there is no coordinator of this kind")
	case co.damaged != nil:
		one.ErrorCode = wire.CoordinatorNotAvailable
		one.ErrorMessage = new("the state of the consumer groups is damaged: see the log of the server")
	default:
		one.NodeID = co.opt.NodeID
		one.Host, one.Port = c.told.host, c.told.port
	}
	return one
}

// isShareKey tells whether a key names a share partition. A topic id is 16 bytes in base64, as Kafka writes it.
func isShareKey(key string) bool {
	parts := strings.Split(key, ":")
	if len(parts) < 3 {
		return false
	}
	id, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-2])
	index, wrong := strconv.ParseInt(parts[len(parts)-1], 10, 32)
	return err == nil && len(id) == 16 && wrong == nil && index >= 0 && len(parts[0]) > 0
}

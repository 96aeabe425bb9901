package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (22): v0-5.
//
// Behaviour
//   - An idempotent producer gets an id that nobody had before, with epoch 0, also if it comes back with
//     one of its own (KIP-360): as in Kafka, only transactional producers keep their id.
//   - Transactions are not served: a transactional id is UNSUPPORTED_VERSION, which every client takes as
//     the end of the attempt and shows as "not supported", where an error of the coordinator would have
//     it try for ever. An empty one is INVALID_REQUEST.
//
// Versions: 2 flexible, 3 id and epoch of a producer that comes back, 5 KIP-890.

// initProducerID answers InitProducerId.
func (d *Door) initProducerID(
	ctx context.Context, c *conn, req *kmsg.InitProducerIDRequest,
) (*kmsg.InitProducerIDResponse, error) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = wire.InvalidRequest
	case req.TransactionalID != nil:
		resp.ErrorCode = wire.UnsupportedVersion
	case !d.may(c, OpIdempotentWrite, OnCluster, ClusterResource):
		resp.ErrorCode = wire.ClusterAuthorizationFailed
	default:
		id, err := d.log.NewProducerID(ctx)
		if err != nil {
			resp.ErrorCode = code(err)
			break
		}
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	return resp, nil
}

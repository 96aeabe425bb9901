package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddOffsetsToTxn (25): v0-4.
//
// Behaviour
//   - Producers from before KIP-890 say of which group they will commit offsets. It is answered when that is on
//     stable storage.
//
// Versions: 2 PRODUCER_FENCED, 3 flexible, 4 TRANSACTION_ABORTABLE.

// addOffsetsToTxn answers AddOffsetsToTxn.
func (ts *transactions) addOffsetsToTxn(
	ctx context.Context, c *conn, req *kmsg.AddOffsetsToTxnRequest,
) (*kmsg.AddOffsetsToTxnResponse, error) {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.ErrorCode = ts.mayTxn(c, OpWrite, req.TransactionalID)
	if resp.ErrorCode == wire.None {
		resp.ErrorCode = ts.groups.mayGroup(c, OpRead, req.Group)
	}
	if resp.ErrorCode != wire.None {
		return resp, nil
	}
	resp.ErrorCode = wire.InvalidProducerIDMapping
	ot, err := ts.enter(ctx, req.TransactionalID, false)
	if ot == nil || err != nil {
		return resp, err
	}
	who := txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
	next, changed, code := ot.value.Load().AddOffsets(who, req.Group, ts.now())
	if resp.ErrorCode = fencedCode(code, req.Version, 2); code != wire.None || !changed {
		ts.leave(ot)
		return resp, nil
	}
	resp.ErrorCode = fate(ts.commit(ctx, &txnChange{ot: ot, next: next}))
	return resp, nil
}

package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitionsToTxn (24): v0-5.
//
// Behaviour
//   - Producers from before KIP-890 say which partitions they will write to. It is answered when that is on stable
//     storage: until the transaction ends, also after a restart, the log takes their batches for these partitions
//     and for no others.
//   - All or none: if one partition cannot be added, the others are OPERATION_NOT_ATTEMPTED.
//   - From version 4 on it is what brokers ask of one another, for several transactional ids, or whether a partition
//     was added, without adding it. That needs the right to act as the cluster.
//
// Versions: 2 PRODUCER_FENCED, 3 flexible, 4 several (KIP-890), 5 TRANSACTION_ABORTABLE.

// addPartitionsToTxn answers AddPartitionsToTxn.
func (ts *transactions) addPartitionsToTxn(
	ctx context.Context, c *conn, req *kmsg.AddPartitionsToTxnRequest,
) (*kmsg.AddPartitionsToTxnResponse, error) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if req.Version < 4 {
		who := txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
		var topics []addedTopic
		for i := range req.Topics {
			topics = append(topics, addedTopic{req.Topics[i].Topic, req.Topics[i].Partitions})
		}
		codes := ts.addPartitions(ctx, c, &additions{id: req.TransactionalID, who: who, topics: topics})
		for i, t := range topics {
			answer := kmsg.NewAddPartitionsToTxnResponseTopic()
			answer.Topic = t.name
			for j, index := range t.partitions {
				p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				p.Partition, p.ErrorCode = index, fencedCode(codes[i][j], req.Version, 2)
				answer.Partitions = append(answer.Partitions, p)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil
	}
	if !ts.groups.may(c, OpClusterAction, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
		return resp, nil
	}
	for i := range req.Transactions {
		resp.Transactions = append(resp.Transactions, ts.addForBroker(ctx, c, &req.Transactions[i]))
	}
	return resp, nil
}

// addForBroker answers for one transactional id of several.
func (ts *transactions) addForBroker(
	ctx context.Context, c *conn, req *kmsg.AddPartitionsToTxnRequestTransaction,
) kmsg.AddPartitionsToTxnResponseTransaction {
	resp := kmsg.NewAddPartitionsToTxnResponseTransaction()
	resp.TransactionalID = req.TransactionalID
	who := txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
	var topics []addedTopic
	for i := range req.Topics {
		topics = append(topics, addedTopic{req.Topics[i].Topic, req.Topics[i].Partitions})
	}
	add := &additions{id: req.TransactionalID, who: who, topics: topics, verify: req.VerifyOnly}
	codes := ts.addPartitions(ctx, c, add)
	for i, t := range topics {
		answer := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		answer.Topic = t.name
		for j, index := range t.partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			p.Partition, p.ErrorCode = index, codes[i][j]
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp
}

// additions is what is to be added to the transaction of an id.
type additions struct {
	id     string
	who    txn.Who
	topics []addedTopic
	verify bool // only to tell whether they were added

	partitions []txn.Partition // those that there are
	ids        []stream.PartitionID
}

// addedTopic is a topic of the request.
type addedTopic struct {
	name       string
	partitions []int32
}

// addPartitions adds partitions to the transaction of an id, or tells whether they were added, and gives the code of
// each.
func (ts *transactions) addPartitions(ctx context.Context, c *conn, add *additions) [][]wire.Code {
	codes := make([][]wire.Code, len(add.topics))
	whole := ts.mayTxn(c, OpWrite, add.id)
	failed := false
	for i, t := range add.topics {
		topic := ts.log.Topics().ByName(t.name)
		for _, index := range t.partitions {
			code := whole
			switch {
			case code != wire.None:
			case !ts.groups.may(c, OpWrite, OnTopic, t.name):
				code = wire.TopicAuthorizationFailed
			case topic == nil || topic.Internal() || index < 0 || int(index) >= len(topic.Partitions):
				code = wire.UnknownTopicOrPartition
			default:
				add.partitions = append(add.partitions, txn.Partition{Topic: t.name, Index: index})
				add.ids = append(add.ids, topic.Partitions[index])
			}
			failed = failed || code != wire.None
			codes[i] = append(codes[i], code)
		}
	}
	rest := wire.OperationNotAttempted
	if !failed {
		rest = ts.addAll(ctx, add)
	}
	for i := range codes {
		for j := range codes[i] {
			if codes[i][j] == wire.None {
				codes[i][j] = rest
			}
		}
	}
	return codes
}

// addAll adds partitions that there are.
func (ts *transactions) addAll(ctx context.Context, add *additions) wire.Code {
	ot, err := ts.enter(ctx, add.id, false)
	if ot == nil || err != nil {
		return wire.InvalidProducerIDMapping
	}
	at := ot.value.Load()
	next, changed, code := at.AddPartitions(add.who, add.partitions, ts.now())
	if code == wire.None && changed && add.verify {
		code = wire.TransactionAbortable
	}
	if code != wire.None || add.verify {
		ts.leave(ot)
		return code
	}
	// The log may as well take their batches before this is on the disk: it is answered when it is. What was added is
	// added again: its topic may have been deleted and made anew since.
	err = ts.log.AddToTxn(add.who.ProducerID, add.who.Epoch, add.ids...)
	if err != nil || !changed {
		ts.leave(ot)
		return fate(err)
	}
	return fate(ts.commit(ctx, &txnChange{ot: ot, next: next}))
}

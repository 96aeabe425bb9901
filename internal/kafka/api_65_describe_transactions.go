package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTransactions (65): v0.
//
// What transactional ids have under way (KIP-664): in which partitions, since when. Partitions that a client may not
// describe are left out, as in Kafka.

// describeTransactions answers DescribeTransactions.
func (ts *transactions) describeTransactions(
	_ context.Context, c *conn, req *kmsg.DescribeTransactionsRequest,
) (*kmsg.DescribeTransactionsResponse, error) {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range req.TransactionalIDs {
		one := kmsg.NewDescribeTransactionsResponseTransactionState()
		one.TransactionalID = id
		one.ProducerID, one.ProducerEpoch, one.StartTimestamp = txn.NoProducer, txn.NoEpoch, -1
		if one.ErrorCode = ts.mayTxn(c, OpDescribe, id); one.ErrorCode == wire.None {
			ts.describe(c, id, &one)
		}
		resp.TransactionStates = append(resp.TransactionStates, one)
	}
	return resp, nil
}

func (ts *transactions) describe(c *conn, id string, one *kmsg.DescribeTransactionsResponseTransactionState) {
	ot := ts.find(id)
	if ot == nil || ot.value.Load().ProducerID == txn.NoProducer {
		one.ErrorCode = wire.TransactionalIDNotFound
		return
	}
	value := ot.value.Load()
	open, is := ts.log.Transaction(value.ProducerID)
	one.State, one.TimeoutMillis = stateName(value, is), value.TimeoutMillis
	one.ProducerID, one.ProducerEpoch = value.ProducerID, value.Epoch
	if !value.Underway(is) {
		return
	}
	since := map[int64]int64{}
	if is {
		since[value.ProducerID] = open.Began
	}
	one.StartTimestamp = beganOf(value, since)
	for topic, indexes := range ts.partitionsOf(value, &open) {
		if !ts.groups.sees(c, OpDescribe, OnTopic, topic) {
			continue
		}
		t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
		t.Topic, t.Partitions = topic, indexes
		one.Topics = append(one.Topics, t)
	}
}

// partitionsOf is where a transaction is under way: where it wrote to, and what it announced.
func (ts *transactions) partitionsOf(value *txn.Txn, open *store.Transaction) map[string][]int32 {
	all := map[string][]int32{}
	add := func(topic string, index int32) {
		if !slices.Contains(all[topic], index) {
			all[topic] = append(all[topic], index)
		}
	}
	for _, p := range value.Announced.Partitions {
		add(p.Topic, p.Index)
	}
	topics := ts.log.Topics()
	for _, id := range open.Partitions {
		if place := topics.Place(id); place.Topic != nil {
			add(place.Topic.Name, place.Index)
		}
	}
	if len(value.Announced.Groups)+len(value.Announced.Offsets) > 0 {
		add(offsetsTopic, 0)
	}
	return all
}

// stateName is the state of a transactional id as Kafka calls it.
func stateName(value *txn.Txn, open bool) string {
	switch {
	case value.Underway(open):
		return "Ongoing"
	case value.State == txn.Committed:
		return "CompleteCommit"
	case value.State == txn.Aborted:
		return "CompleteAbort"
	}
	return "Empty"
}

package kafka

import (
	"context"
	"regexp"
	"slices"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListTransactions (66): v0-2.
//
// The transactional ids that a client may describe (KIP-664), by state, producer id, for how long a transaction is
// under way (version 1) and a pattern of their names (version 2, KIP-1152: RE2, the whole name;
// INVALID_REGULAR_EXPRESSION).

// The states that there are in Kafka; those that a client asks for and Kafka does not know are told back.
var txnStates = []string{
	"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
}

// listTransactions answers ListTransactions.
func (ts *transactions) listTransactions(
	_ context.Context, c *conn, req *kmsg.ListTransactionsRequest,
) (*kmsg.ListTransactionsResponse, error) {
	resp := kmsg.NewPtrListTransactionsResponse()
	if resp.ErrorCode = ts.available(); resp.ErrorCode != wire.None {
		return resp, nil
	}
	for _, s := range req.StateFilters {
		if !slices.Contains(txnStates, s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	pattern, ok := wholeName(wire.Plain(req.TransactionalIDPattern))
	if !ok {
		resp.ErrorCode = wire.InvalidRegularExpression
		return resp, nil
	}
	open := map[int64]store.Transaction{}
	for _, t := range ts.log.Transactions() {
		open[t.ProducerID] = t
	}
	now := ts.now()
	for _, ot := range ts.all() {
		value := ot.value.Load()
		t, is := open[value.ProducerID]
		state := stateName(value, is)
		switch {
		case value.ProducerID == txn.NoProducer, !ts.groups.sees(c, OpDescribe, OnTransactional, ot.id):
		case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, state):
		case len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, value.ProducerID):
		case req.Version >= 1 && req.DurationFilterMillis >= 0 && !longer(value, t, is, now-req.DurationFilterMillis):
		case pattern != nil && !pattern.MatchString(ot.id):
		default:
			one := kmsg.NewListTransactionsResponseTransactionState()
			one.TransactionalID, one.ProducerID, one.TransactionState = ot.id, value.ProducerID, state
			resp.TransactionStates = append(resp.TransactionStates, one)
		}
	}
	return resp, nil
}

// wholeName is a pattern that a name has to match as a whole; nil: every name does. ok is false for what is none.
func wholeName(text string) (pattern *regexp.Regexp, ok bool) {
	if text == "" {
		return nil, true
	}
	pattern, err := regexp.Compile("^(?:" + text + ")$")
	return pattern, err == nil
}

// longer tells whether a transaction is under way since before a time.
func longer(value *txn.Txn, open store.Transaction, is bool, before int64) bool {
	since := map[int64]int64{}
	if is {
		since[value.ProducerID] = open.Began
	}
	began := beganOf(value, since)
	return began > 0 && began < before
}

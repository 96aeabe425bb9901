package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

// transact produces in transactions through a client, one behind the other: each of so many records, or of what goes
// in so much time. A latency is that of a whole transaction, from its first record until its commit is acknowledged.
func (l *kafkaLoad) transact(ctx context.Context, worker int) error {
	id := fmt.Sprintf("firth-bench-%s-%d-%d", l.Topic, worker, time.Now().UnixNano())
	cl, err := l.client(kgo.TransactionalID(id), kgo.TransactionTimeout(time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	var took samples
	defer func() { l.acked(took) }()
	value := make([]byte, l.RecordSize)
	for time.Now().Before(l.end) && ctx.Err() == nil {
		began := time.Now()
		n, err := l.transaction(ctx, cl, value)
		if err != nil {
			return err
		}
		now := time.Now()
		l.total.Add(n)
		if l.within(now) {
			l.messages.Add(n)
			took.add(now.Sub(began))
		}
	}
	return nil
}

// transaction is one, of n records.
func (l *kafkaLoad) transaction(ctx context.Context, cl *kgo.Client, value []byte) (n int64, err error) {
	if err := cl.BeginTransaction(); err != nil {
		return 0, fault.Wrap(fault.IO, "bench.Transact", err)
	}
	var failed firstError
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.set(err)
		}
	}
	until := time.Now().Add(l.TxnEvery)
	for more := true; more && failed.get() == nil; {
		size := slab
		if l.TxnRecords > 0 {
			size = l.TxnRecords
		}
		records := make([]kgo.Record, size)
		for i := range records {
			records[i].Value = value
			cl.Produce(ctx, &records[i], done)
		}
		n += int64(size)
		more = l.TxnRecords == 0 && time.Now().Before(until)
	}
	if err := l.flush(ctx, cl, &failed); err != nil {
		return n, err
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return n, fault.Wrap(fault.IO, "bench.Transact", err)
	}
	return n, nil
}

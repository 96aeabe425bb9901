package torture

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topic that is written to in transactions only.
const (
	transacted      = "transacted"
	transactedParts = 3
	transactors     = 2
)

// What a producer knows of a transaction of its own.
const (
	fateUnknown int32 = iota // it was told of an error, or nothing
	fateCommitted
	fateAborted
)

// transaction is one, with the values that it was to hold.
type transaction struct {
	actor  string
	n      int
	values []string     // in the order of sending, of all partitions
	asked  atomic.Int64 // when its producer asked to commit it, of history.now; 0: never
	fate   atomic.Int32
}

// transactor is a transactional producer. Behind an error it begins anew, as the next instance of itself.
type transactor struct {
	name  string
	words words
	h     *history
	n     int
	seq   int
	c     *kgo.Client
}

// run makes transactions until ctx is done.
func (p *transactor) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		err := p.begin(address)
		for err == nil && ctx.Err() == nil {
			err = p.transact(ctx)
			pauseFor(ctx, pace)
		}
	}
	p.end()
}

func (p *transactor) begin(address string) (err error) {
	p.end()
	p.c, err = dialKafka(address, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.TransactionalID(p.name), kgo.TransactionTimeout(time.Minute))
	return err
}

func (p *transactor) end() {
	if p.c != nil {
		p.c.Close()
		p.c = nil
	}
}

// transact is one transaction, of a few records for some partitions. One in four it aborts.
func (p *transactor) transact(ctx context.Context) error {
	if err := p.c.BeginTransaction(); err != nil {
		return err
	}
	t := &transaction{actor: p.name, n: p.n}
	p.n++
	var records []*kgo.Record
	for range 1 + p.words.IntN(6) {
		value := p.words.next(p.name, p.seq)
		r := &kgo.Record{Topic: transacted, Partition: int32(p.words.IntN(transactedParts)), Value: []byte(value)}
		t.values, records = append(t.values, value), append(records, r)
		p.seq++
	}
	p.h.transact(t)
	acked := make(chan error, len(records))
	for _, r := range records {
		p.c.Produce(context.Background(), r, func(_ *kgo.Record, err error) { acked <- err })
	}
	for range records {
		select {
		case err := <-acked:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err() // the next instance aborts it
		}
	}
	commit := p.words.IntN(4) > 0
	if commit {
		t.asked.Store(int64(p.h.now()))
	}
	if err := p.c.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return err
	}
	if t.fate.Store(fateAborted); commit {
		t.fate.Store(fateCommitted)
	}
	return nil
}

// takeOver ends what the last instance has left, as the next one does.
func (p *transactor) takeOver(ctx context.Context, address string) error {
	if err := p.begin(address); err != nil {
		return err
	}
	defer p.end()
	_, _, err := p.c.ProducerID(ctx)
	return err
}

func (h *history) transact(t *transaction) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.transactions = append(h.transactions, t)
}

// inTransactions tells whether a topic is written to in transactions only: who reads it looks at committed records, and
// markers leave holes in its offsets.
func inTransactions(topic string) bool {
	return topic == transacted || topic == etlTo || topic == etlSide
}

// readTransacted reads what was committed to topics that are written to in transactions.
func readTransacted(ctx context.Context, address string, topics ...string) (snapshot, error) {
	c, err := dialKafka(address, kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	left := map[place]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	found := snapshot{}
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := errors.Join(fetches.Err0(), fetchError(fetches)); err != nil {
			return nil, fmt.Errorf("%s, left are %v: %w", topics, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			if !r.Attrs.IsControl() {
				found[at] = append(found[at], rec{r.Offset, string(r.Key), string(r.Value)})
			}
			if r.Offset+1 >= left[at] { // the last one is a marker
				delete(left, at)
			}
		})
	}
	return found, nil
}

// valuesOf are the values of the records of one topic, by partition.
func valuesOf(log snapshot, topic string) map[place][]string {
	values := map[place][]string{}
	for at, rs := range log {
		for _, r := range rs {
			if at.topic == topic {
				values[at] = append(values[at], r.value)
			}
		}
	}
	return values
}

// checkTransactions wants of every transaction all or nothing, by what its producer was told, each record once and in
// the order of sending, and what was seen once to stay.
func checkTransactions(v *verdict, h *history, now finds) {
	counts, of := map[string]int{}, map[string]*transaction{}
	order := map[string]int{}
	for _, t := range h.transactions {
		for _, value := range t.values {
			of[value], order[value] = t, len(order)
		}
	}
	for at, values := range now.transacted {
		last := map[string]int{}
		for _, value := range values {
			t := of[value]
			if t == nil {
				v.add("foreign", "%s: nobody sent %q in a transaction", at, value)
				continue
			}
			if counts[value]++; counts[value] > 1 {
				v.add("doubled", "%s: %s transaction %d: %q", at, t.actor, t.n, value)
			}
			if before, ok := last[t.actor]; ok && order[value] < before {
				v.add("order", "%s: %s transaction %d: %q", at, t.actor, t.n, value)
			}
			last[t.actor] = order[value]
		}
	}
	for _, t := range h.transactions {
		there := 0
		for _, value := range t.values {
			there += min(counts[value], 1)
		}
		switch fate := t.fate.Load(); {
		case fate == fateCommitted && there < len(t.values):
			v.add("lost", "%s transaction %d was committed, %d of %d records are there", t.actor, t.n, there, len(t.values))
		case fate == fateAborted && there > 0:
			v.add("aborted", "%s transaction %d was aborted, %d records are seen", t.actor, t.n, there)
		case there > 0 && there < len(t.values):
			v.add("torn", "%s transaction %d: %d of %d records are there", t.actor, t.n, there, len(t.values))
		case now.seenTxns[t] && there == 0:
			v.add("gone", "%s transaction %d was seen before", t.actor, t.n)
		}
		if there == len(t.values) && now.seenTxns != nil {
			now.seenTxns[t] = true
		}
	}
}

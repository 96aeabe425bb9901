package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

// copiesOf names the topic that what is read of a topic is written to.
func copiesOf(topic string) string { return topic + "-copies" }

// copySessions joins the members of a group that consumes, transforms and produces exactly once, one a connection.
func (l *kafkaLoad) copySessions(ctx context.Context) error {
	group, held := l.unique("copy"), newHolders()
	for i := range l.Connections {
		s, err := kgo.NewGroupTransactSession(l.options(append(held.watch(l.Topic),
			kgo.TransactionalID(fmt.Sprint(group, "-", i)), kgo.TransactionTimeout(time.Minute),
			kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(copiesOf(l.Topic)))...)...)
		if err != nil {
			return fault.Wrap(fault.Invalid, "bench.Copy", err)
		}
		l.sessions = append(l.sessions, s)
		l.closers = append(l.closers, s.Close)
	}
	if err := l.countLeft(); err != nil {
		return err
	}
	return held.await(ctx, l.Connections, len(l.ends))
}

// countLeft counts the records of the topic. Errors: NotFound if there is none.
func (l *kafkaLoad) countLeft() error {
	for i := range l.ends {
		l.left.Add(l.ends[i] - l.starts[i])
	}
	if l.left.Load() == 0 {
		return fault.New(fault.NotFound, "bench.Kafka", "the topic is empty: produce first")
	}
	return nil
}

// copy is one member: it reads for a while, writes what it has read and commits how far it came, in one transaction. A
// latency is that of a whole transaction. It ends when everything is copied, if that is before the time is over.
func (l *kafkaLoad) copy(ctx context.Context, s *kgo.GroupTransactSession) error {
	ctx, enough := context.WithDeadline(ctx, l.end)
	defer enough()
	var took samples
	defer func() { l.acked(took) }()
	for ctx.Err() == nil && l.left.Load() > 0 {
		fetches := s.PollRecords(ctx, copyPoll)
		if fetches.NumRecords() == 0 {
			continue
		}
		began := time.Now()
		n, err := l.copyTransaction(ctx, s, fetches)
		if err != nil {
			return err
		}
		now := time.Now()
		l.total.Add(n)
		if l.left.Add(-n) <= 0 {
			l.done() // nobody waits for more
		}
		if l.within(now) {
			l.messages.Add(n)
			took.add(now.Sub(began))
		}
	}
	return nil
}

// copyPoll is how many records are read at a time.
const copyPoll = 10_000

// copyTransaction copies what was read and what else comes within TxnEvery, and gives how many records those were. Of a
// transaction that does not commit, because partitions went to another member, that is none.
func (l *kafkaLoad) copyTransaction(
	ctx context.Context, s *kgo.GroupTransactSession, fetches kgo.Fetches,
) (int64, error) {
	if err := s.Begin(); err != nil {
		return 0, fault.Wrap(fault.IO, "bench.Copy", err)
	}
	var failed firstError
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.set(err)
		}
	}
	whole := context.WithoutCancel(ctx) // what has begun is ended
	until := time.Now().Add(l.TxnEvery)
	n := int64(0)
	for failed.get() == nil {
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			return n, fault.Wrap(fault.IO, "bench.Copy", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			s.Produce(whole, &kgo.Record{Key: r.Key, Value: r.Value}, done)
			n++
		})
		rest := time.Until(until)
		if rest <= 0 || ctx.Err() != nil || l.left.Load() <= n {
			break
		}
		short, cancel := context.WithTimeout(ctx, rest)
		fetches = s.PollRecords(short, copyPoll)
		timeIsOver := short.Err() != nil
		cancel()
		if timeIsOver && fetches.NumRecords() == 0 {
			break
		}
	}
	committed, err := s.End(whole, kgo.TryCommit)
	if err == nil {
		err = failed.get()
	}
	if err != nil {
		return 0, fault.Wrap(fault.IO, "bench.Copy", err)
	}
	if !committed {
		return 0, nil
	}
	return n, nil
}

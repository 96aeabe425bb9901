package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

// options make a franz-go client as fast as it can be: no compression, deep buffers.
func (k Kafka) options(more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(k.Brokers...), kgo.ClientID("firth-bench"), kgo.DefaultProduceTopic(k.Topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(k.Linger),
		kgo.ProducerBatchMaxBytes(int32(k.BatchSize)), kgo.MaxBufferedRecords(100_000),
		kgo.FetchMaxWait(500 * time.Millisecond), kgo.FetchMinBytes(1), kgo.DisableClientMetrics(),
	}
	if k.Acks == 1 {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	return append(append(opts, k.Entry.options()...), more...)
}

// client makes one.
func (k Kafka) client(more ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(k.options(more...)...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "bench.Kafka", err)
	}
	return cl, nil
}

// firstError keeps the first error of many callbacks.
type firstError struct{ err atomic.Pointer[error] }

func (f *firstError) set(err error) { f.err.CompareAndSwap(nil, &err) }

func (f *firstError) get() error {
	if p := f.err.Load(); p != nil {
		return fault.Wrap(fault.IO, "bench.Produce", *p)
	}
	return nil
}

// slab is how many records are made at a time.
const slab = 1024

// produceClient produces through a client as fast as it goes. All records have the same value; the client
// chooses the partition, by the key if there is one.
func (l *kafkaLoad) produceClient(ctx context.Context) error {
	cl, err := l.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed firstError
	var measuring atomic.Bool // asking the clock for every record would cost as much as the record
	for at, v := range map[time.Time]bool{l.begin: true, l.end: false} {
		timer := time.AfterFunc(time.Until(at), func() { measuring.Store(v) })
		defer timer.Stop()
	}
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.set(err)
			return
		}
		l.total.Add(1)
		if measuring.Load() {
			l.messages.Add(1)
		}
	}
	value, keys := make([]byte, l.RecordSize), l.keys()
	var n int
	for time.Now().Before(l.end) && ctx.Err() == nil && failed.get() == nil && l.claim(slab) {
		records := make([]kgo.Record, slab)
		for i := range records {
			records[i].Key, records[i].Value = keys[n%len(keys)], value
			n++
			cl.Produce(ctx, &records[i], done)
		}
	}
	return l.flush(ctx, cl, &failed)
}

// keys are made beforehand; the only one is nil if records have none.
func (k Kafka) keys() [][]byte {
	keys := make([][]byte, max(k.Keys, 1))
	for i := range k.Keys {
		keys[i] = fmt.Appendf(nil, "device-%05d", i)
	}
	return keys
}

func (l *kafkaLoad) flush(ctx context.Context, cl *kgo.Client, failed *firstError) error {
	ctx, cancel := context.WithTimeout(ctx, 6*patience) // a deep buffer on a slow broker
	defer cancel()
	err := cl.Flush(ctx)
	if first := failed.get(); first != nil {
		return first
	}
	if err != nil {
		return fault.Wrap(fault.Timeout, "bench.Produce", err)
	}
	return nil
}

// producePaced produces records when they are due; each carries that time.
func (l *kafkaLoad) producePaced(ctx context.Context) error {
	cl, err := l.client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed firstError
	p := newPace(time.Now(), l.Rate)
	var n int64
	for due := p.due(0); due.Before(l.end) && ctx.Err() == nil && failed.get() == nil; due = p.due(n) {
		value := make([]byte, l.RecordSize)
		stamp(value, due)
		sleepUntil(due)
		within := l.within(due)
		cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.set(err)
				return
			}
			l.total.Add(1)
			if within {
				l.messages.Add(1)
			}
		})
		n++
	}
	return l.flush(ctx, cl, &failed)
}

// fetchClient reads some partitions through clients: at the tail, or the whole topic with one client after
// the other.
func (l *kafkaLoad) fetchClient(ctx context.Context, mine []int32, s *sink) error {
	for {
		from := make(map[int32]kgo.Offset)
		var left int64
		for _, p := range mine {
			from[p] = kgo.NewOffset().At(l.ends[p])
			if l.Mode == Consume {
				from[p] = kgo.NewOffset().At(l.starts[p])
				left += l.ends[p] - l.starts[p]
			}
		}
		if l.Mode != Consume {
			left = -1
		} else if left == 0 {
			return fault.New(fault.NotFound, "bench.Consume", "the topic is empty: produce first")
		}
		err := l.pass(ctx, from, left, s)
		if err != nil || ctx.Err() != nil || l.Once {
			return err
		}
	}
}

// pass polls until left records are read (negative: until ctx ends).
func (l *kafkaLoad) pass(ctx context.Context, from map[int32]kgo.Offset, left int64, s *sink) error {
	cl, err := l.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for left != 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fault.Wrap(fault.IO, "bench.Consume", err)
		}
		now, n := time.Now(), int64(fetches.NumRecords())
		s.took(n, now)
		if s.timed {
			fetches.EachRecord(func(r *kgo.Record) { s.value(r.Value, now) })
		}
		if left > 0 {
			left = max(left-n, 0)
		}
	}
	return nil
}

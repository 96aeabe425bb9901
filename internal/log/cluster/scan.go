package cluster

import (
	"context"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Bounds implements stream.Log. Of what is followed they are known, for the rest the cluster is asked.
func (c *Cluster) Bounds(id stream.PartitionID) (stream.Bounds, error) {
	const op = "log.Bounds"
	p := c.parts.Load().find(id)
	if p == nil {
		return stream.Bounds{}, noPartition(op, id)
	}
	if b, fresh := p.now(); fresh {
		return b, nil
	}
	return c.askBounds(p)
}

func (c *Cluster) askBounds(p *part) (stream.Bounds, error) {
	const op = "log.Bounds"
	asked := [...]struct {
		at        int64
		isolation int8
		offset    record.Offset
		err       error
	}{{at: earliest}, {at: latest, isolation: readCommitted}, {at: latest}}
	var wg sync.WaitGroup
	for i := range asked {
		one := &asked[i]
		wg.Go(func() { one.offset, _, one.err = c.listOffset(c.ctx, op, p, one.at, one.isolation) })
	}
	wg.Wait()
	for i := range asked {
		if asked[i].err != nil {
			return stream.Bounds{}, asked[i].err
		}
	}
	b := stream.Bounds{Start: asked[0].offset, Stable: asked[1].offset, High: asked[2].offset}
	b.High = max(b.High, b.Stable) // the answers are not of one moment
	b.Start = min(b.Start, b.Stable)
	return b, nil
}

// OffsetForTime implements stream.History.
func (c *Cluster) OffsetForTime(
	ctx context.Context, id stream.PartitionID, unixMillis int64,
) (record.Offset, int64, error) {
	const op = "log.OffsetForTime"
	p := c.parts.Load().find(id)
	if p == nil {
		return -1, -1, noPartition(op, id)
	}
	return c.listOffset(ctx, op, p, max(unixMillis, 0), readCommitted)
}

// scan is the memory of one Scan. Scans are lent, so that readers hold none between two of them.
type scan struct {
	aborted map[int64][]record.Offset // by producer: where its aborted transactions begin, first first
	records stream.BatchScan
}

var scans = sync.Pool{New: func() any { return new(scan) }}

// Scan implements stream.Log. The hint of o.Names is of no use here: a cluster has no index of names.
func (c *Cluster) Scan(
	id stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (next record.Offset, err error) {
	const op = "log.Scan"
	p := c.parts.Load().find(id)
	if p == nil {
		return from, noPartition(op, id)
	}
	if from < 0 {
		return from, fault.New(fault.OutOfRange, op, "offset %d", from)
	}
	maxBytes := o.MaxBytes
	if maxBytes <= 0 {
		maxBytes = stream.ScanBytes
	}
	var found *kmsg.FetchResponseTopicPartition
	err = c.retry(c.ctx, op, p, func(leader int32) (int16, error) {
		got, err := fetch(c.ctx, c.client, leader, []position{{p, from}}, fetching{maxBytes: maxBytes})
		if err != nil {
			return 0, err
		}
		code := throttled
		for _, one := range got {
			found, code = one, one.ErrorCode
		}
		return code, nil
	})
	if err != nil {
		return from, unreadable(err, from)
	}
	p.see(record.Offset(found.LogStartOffset), record.Offset(found.LastStableOffset), record.Offset(found.HighWatermark))
	end := record.Offset(found.LastStableOffset)
	if o.End > 0 {
		end = min(end, o.End)
	}
	if from >= end {
		return from, nil
	}
	sc, _ := scans.Get().(*scan) // the pool holds nothing else
	defer func() { sc.records.Release(); scans.Put(sc) }()
	sc.abort(found.AbortedTransactions)
	return sc.walk(found.RecordBatches, from, end, visit)
}

// throttled is for an answer that leaves out what was asked: the cluster does so to who is over a quota, and wants to
// be asked again.
const throttled int16 = 5 // LEADER_NOT_AVAILABLE, which passes too

// unreadable is the error of a Scan: where the broker itself finds damage, it does not say how far it reaches.
func unreadable(err error, from record.Offset) error {
	if fault.Is(err, fault.Corrupt) {
		return &stream.Damage{From: from, Next: from + 1, Err: err}
	}
	return err
}

// abort takes in which transactions were aborted (KIP-98).
func (sc *scan) abort(aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	clear(sc.aborted)
	if sc.aborted == nil {
		sc.aborted = make(map[int64][]record.Offset)
	}
	for i := range aborted {
		id := aborted[i].ProducerID
		sc.aborted[id] = append(sc.aborted[id], record.Offset(aborted[i].FirstOffset))
	}
	for _, firsts := range sc.aborted {
		slices.Sort(firsts)
	}
}

// hides tells whether a batch is not for those who read committed records, and lets go of a transaction that ends.
func (sc *scan) hides(b record.Batch) bool {
	firsts := sc.aborted[b.ProducerID()]
	within := len(firsts) > 0 && firsts[0] <= b.BaseOffset()
	if b.Attributes().Control() {
		if within {
			sc.aborted[b.ProducerID()] = firsts[1:]
		}
		return true
	}
	return within && b.Attributes().Transactional()
}

// walk visits the records of [from, end) in what a broker sent: whole batches, and perhaps a piece of one more.
func (sc *scan) walk(
	bytes []byte, from, end record.Offset, visit func(*record.View) bool,
) (next record.Offset, err error) {
	if len(bytes) == 0 {
		return end, nil // all there was is compacted away
	}
	next = from
	for len(bytes) > 0 && next < end {
		b, rest, err := record.Next(bytes)
		if err == nil {
			err = b.Check()
		} else if next > from && whole(bytes) {
			return next, nil // the piece
		}
		if err != nil {
			return next, damage(b, rest, next, end, err)
		}
		if bytes = rest; b.BaseOffset() >= end {
			return end, nil
		}
		if b.LastOffset() < next {
			continue // a broker may begin before the offset
		}
		if !sc.hides(b) {
			var done bool
			if next, done, err = sc.records.Visit(b, next, end, visit); done {
				return next, err
			}
		}
		next = b.LastOffset() + 1
	}
	return min(next, end), nil
}

// whole tells whether what a batch says of its length may be right although its bytes are not all here.
func whole(bytes []byte) bool {
	return len(bytes) < record.BatchOverhead || record.Batch(bytes).Size() > len(bytes)
}

// damage says how far a batch that fails its checksum reaches: up to the one behind it, if there is one that does
// not, or as far as it says itself, if that can be.
func damage(b record.Batch, rest []byte, from, end record.Offset, err error) error {
	d := &stream.Damage{From: from, Next: from + 1, Err: err}
	if after, _, e := record.Next(rest); e == nil && after != nil && after.Check() == nil {
		d.Next = max(d.Next, min(after.BaseOffset(), end))
	} else if b != nil && b.LastOffset() >= from && b.LastOffset() < end {
		d.Next = b.LastOffset() + 1
	}
	return d
}

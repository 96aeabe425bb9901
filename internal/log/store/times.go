package store

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// searchBytes is how much is read at once while looking for a timestamp.
const searchBytes = 256 << 10

// OffsetForTime implements stream.History.
func (s *Store) OffsetForTime(
	ctx context.Context, id stream.PartitionID, unixMillis int64,
) (record.Offset, int64, error) {
	off, at, err := s.FirstSince(ctx, id, unixMillis)
	if err != nil || off < 0 {
		return -1, -1, err
	}
	if bounds, err := s.Bounds(id); err != nil || off >= bounds.Stable {
		return -1, -1, err
	}
	return off, at, nil
}

// FirstSince is the offset and timestamp of the first record, committed or not, that is not older than a time in unix
// milliseconds; (-1, -1) when there is none. Errors: NotFound, Corrupt, IO, Timeout when ctx ends.
func (s *Store) FirstSince(
	ctx context.Context, id stream.PartitionID, unixMillis int64,
) (record.Offset, int64, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, -1, err
	}
	return firstAt(ctx, p, 0, unixMillis)
}

// MaxTime is the offset and timestamp of the first of the records with the largest timestamp; (-1, -1) when
// there is none. Errors: those of OffsetForTime.
//
// What the index says of an extent is true but for two: the first one, which may have been trimmed, is read, and one
// whose records were compacted away shows when it is.
func (s *Store) MaxTime(ctx context.Context, id stream.PartitionID) (record.Offset, int64, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, -1, err
	}
	bounds, err := p.Bounds()
	if err != nil || bounds.Start >= bounds.High {
		return -1, -1, err
	}
	whole := p.Behind(bounds.Start)
	largest, _, err := largestTime(p, bounds.Start, whole)
	if err != nil {
		return -1, -1, err
	}
	if largest, err = newestFrom(ctx, p, whole, largest); err != nil {
		return -1, -1, err
	}
	if largest < 0 {
		return -1, -1, nil
	}
	return firstAt(ctx, p, bounds.Start, largest)
}

// newestFrom is the largest timestamp of the records from an offset on, or largest if they have no larger one.
func newestFrom(
	ctx context.Context, p *partition.Partition, from record.Offset, largest int64,
) (int64, error) {
	bounds, err := p.Bounds()
	if err != nil || from >= bounds.High {
		return largest, err
	}
	at, err := p.Newest(from)
	if err != nil || at >= bounds.High {
		return largest, err
	}
	found, claim, err := largestTime(p, at, p.Behind(at))
	if largest = max(largest, found); err != nil || largest >= claim {
		return largest, err
	}
	return newestLeft(ctx, p, from, largest)
}

// largestTime reads the records of [from, to) for the largest timestamp, -1 if there is none. The headers of their
// batches claim one that is at least as large.
func largestTime(p *partition.Partition, from, to record.Offset) (largest, claim int64, err error) {
	largest, claim = -1, -1
	var batches []record.Batch
	for from < to {
		if batches, err = p.Read(from, searchBytes, batches[:0]); err != nil || len(batches) == 0 {
			return largest, claim, err
		}
		if _, err = eachRecord(batches, from, func(v *record.View) bool {
			if v.Offset < to {
				largest = max(largest, v.Timestamp)
			}
			return v.Offset >= to
		}); err != nil {
			return -1, -1, err
		}
		for _, b := range batches {
			if from = b.LastOffset() + 1; b.BaseOffset() < to {
				claim = max(claim, b.MaxTimestamp())
			}
		}
	}
	return largest, claim, nil
}

// newestLeft reads all that claims a larger timestamp than largest, of a partition where records were compacted away.
func newestLeft(
	ctx context.Context, p *partition.Partition, from record.Offset, largest int64,
) (int64, error) {
	bounds, err := p.Bounds()
	for err == nil && from < bounds.High {
		if err := ctx.Err(); err != nil {
			return -1, fault.Wrap(fault.Timeout, "log.MaxTime", err)
		}
		var at record.Offset
		if at, err = p.AtTime(from, largest+1); err != nil || at >= bounds.High {
			break
		}
		from = p.Behind(at)
		var found int64
		if found, _, err = largestTime(p, at, from); err == nil {
			largest = max(largest, found)
		}
	}
	return largest, err
}

// firstAt is the first record from an offset on that is not older than a time. Errors: Timeout when ctx ends, those of
// Read.
func firstAt(
	ctx context.Context, p *partition.Partition, from record.Offset, unixMillis int64,
) (record.Offset, int64, error) {
	var batches []record.Batch
	for {
		if err := ctx.Err(); err != nil {
			return -1, -1, fault.Wrap(fault.Timeout, "log.OffsetForTime", err)
		}
		at, err := p.AtTime(from, unixMillis)
		if err != nil {
			return -1, -1, err
		}
		if batches, err = p.Read(at, searchBytes, batches[:0]); err != nil || len(batches) == 0 {
			return -1, -1, err
		}
		v, err := eachRecord(batches, at, func(v *record.View) bool { return v.Timestamp >= unixMillis })
		if err != nil {
			return -1, -1, err
		}
		if v != nil {
			return v.Offset, v.Timestamp, nil
		}
		from = batches[len(batches)-1].LastOffset() + 1
	}
}

// eachRecord visits records from an offset on, until one is wanted.
func eachRecord(batches []record.Batch, from record.Offset, wanted func(*record.View) bool) (*record.View, error) {
	var it record.Iter
	var scratch record.Scratch
	for _, b := range batches {
		if err := it.Reset(b, &scratch); err != nil {
			return nil, err
		}
		for v := new(record.View); it.Next(v); {
			if v.Offset >= from && wanted(v) {
				return v, nil
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// producerIDs is how many producer ids are reserved at once.
const producerIDs = 1000

// NewProducerID gives a producer id that was never given before, also not before a crash.
func (s *Store) NewProducerID(ctx context.Context) (int64, error) {
	for {
		s.mu.Lock()
		if s.mu.nextPID < s.mu.maxPID {
			id := s.mu.nextPID
			s.mu.nextPID++
			s.mu.Unlock()
			return id, nil
		}
		s.mu.Unlock()
		if err := s.reservePIDs(ctx); err != nil {
			return -1, err
		}
	}
}

// reservePIDs puts a larger bound of producer ids on stable storage.
func (s *Store) reservePIDs(ctx context.Context) error {
	err := s.await(ctx, func(to stream.Receipt) error {
		g, err := s.openGroup(nil, stream.Owner{}, 0, false)
		if err != nil {
			return err
		}
		g.reserve, g.disk = s.mu.maxPID+producerIDs, true
		r := g.receipt(to, 0)
		s.closeUnit(g, &r)
		return nil
	})
	return err
}

// TrimTo moves the log start offset of a partition up to an offset (DeleteRecords) and returns the new one
// once that is on stable storage: an open transaction keeps what it wrote, and all behind it. -1 means the high
// watermark. Errors: NotFound, OutOfRange.
func (s *Store) TrimTo(ctx context.Context, id stream.PartitionID, to record.Offset) (record.Offset, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, err
	}
	bounds, err := p.Bounds()
	if err != nil {
		return -1, err
	}
	if to == -1 {
		to = bounds.High
	}
	if to < bounds.Start || to > bounds.High {
		return -1, fault.New(fault.OutOfRange, "log.Trim", "offset %d is not in [%d, %d]", to, bounds.Start, bounds.High)
	}
	err = s.await(ctx, func(receiver stream.Receipt) error {
		return s.Commit(&Unit{Trims: []TrimWrite{{Partition: id, Start: to}}}, receiver, 0)
	})
	if err != nil {
		return -1, err
	}
	if bounds, err = p.Bounds(); err != nil {
		return -1, err
	}
	return bounds.Start, nil
}

// expireProducers forgets idempotent producers that have been idle for long.
func (s *Store) expireProducers() {
	before := s.opt.Clock().Add(-s.opt.ProducerExpiry).UnixMilli()
	for _, p := range *s.parts.Load() {
		if p != nil {
			s.mu.Lock()
			p.Producers.Expire(before)
			s.mu.Unlock()
		}
	}
}

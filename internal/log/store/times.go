package store

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// searchBytes is how much is read at once while looking for a timestamp.
const searchBytes = 256 << 10

// OffsetForTime is the offset and timestamp of the first record that is not older than a time in unix
// milliseconds; (-1, -1) when there is none.
func (s *Store) OffsetForTime(
	_ context.Context, id stream.PartitionID, unixMillis int64,
) (record.Offset, int64, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, -1, err
	}
	from, err := p.AtTime(unixMillis)
	if err != nil {
		return -1, -1, err
	}
	return s.scanTimes(id, from, func(v *record.View) bool { return v.Timestamp >= unixMillis })
}

// MaxTime is the offset and timestamp of the first of the records with the largest timestamp; (-1, -1) when
// there is none.
func (s *Store) MaxTime(id stream.PartitionID) (record.Offset, int64, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, -1, err
	}
	from, err := p.Newest()
	if err != nil {
		return -1, -1, err
	}
	batches, err := s.Read(id, from, 1, nil)
	if err != nil || len(batches) == 0 {
		return -1, -1, err
	}
	largest, hollow, err := largestTime(batches, from)
	if err == nil && hollow {
		from, largest, err = s.newestLeft(id)
	}
	if err != nil || largest < 0 && hollow {
		return -1, -1, err
	}
	return s.scanTimes(id, from, func(v *record.View) bool { return v.Timestamp >= largest })
}

// largestTime is the largest timestamp of the records from an offset on. hollow tells that a batch whose records
// were all compacted away claims a larger one.
func largestTime(batches []record.Batch, from record.Offset) (largest int64, hollow bool, err error) {
	largest = -1
	_, err = eachRecord(batches, from, func(v *record.View) bool {
		largest = max(largest, v.Timestamp)
		return false
	})
	for _, b := range batches {
		hollow = hollow || b.Count() == 0 && b.MaxTimestamp() > largest
	}
	return largest, hollow, err
}

// newestLeft reads a compacted partition for the largest timestamp that is left in it: the index still knows that
// of a batch without records.
func (s *Store) newestLeft(id stream.PartitionID) (from record.Offset, largest int64, err error) {
	bounds, err := s.Bounds(id)
	if err != nil {
		return -1, -1, err
	}
	largest = -1
	var batches []record.Batch
	for next := bounds.Start; next < bounds.High; next = batches[len(batches)-1].LastOffset() + 1 {
		if batches, err = s.Read(id, next, searchBytes, batches[:0]); err != nil || len(batches) == 0 {
			break
		}
		found, _, err := largestTime(batches, next)
		if err != nil {
			return -1, -1, err
		}
		if found > largest {
			from, largest = next, found
		}
	}
	return from, largest, err
}

// scanTimes reads on from an offset to the first record that is wanted.
func (s *Store) scanTimes(
	id stream.PartitionID, from record.Offset, wanted func(*record.View) bool,
) (record.Offset, int64, error) {
	var batches []record.Batch
	for {
		var err error
		if batches, err = s.Read(id, from, searchBytes, batches[:0]); err != nil || len(batches) == 0 {
			return -1, -1, err
		}
		v, err := eachRecord(batches, from, wanted)
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
// once that is on stable storage. -1 means the high watermark. Errors: NotFound, OutOfRange.
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

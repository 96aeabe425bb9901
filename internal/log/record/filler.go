package record

import "encoding/binary"

// NewFiller makes a batch without records that takes the offsets first to last: what stood there is gone, and readers
// pass over it. Kafka's consumers know such batches from compacted topics.
func NewFiller(first, last Offset, epoch int32, unixMillis int64) Batch {
	var bu Builder
	bu.Reset(make([]byte, 0, BatchOverhead), unixMillis)
	b := bu.seal(bu.buf, first, epoch, None)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(last-first))
	binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC())
	return b
}

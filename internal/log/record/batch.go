package record

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
)

// BatchOverhead is the size of a batch's header in bytes: what a batch takes besides its records.
const BatchOverhead = 61

// Where the fields of the header lie. All numbers are big-endian, as in Kafka's protocol; the page
// docs/format/batch.md shows them.
const (
	atBaseOffset      = 0
	atLength          = 8 // of all that follows this field
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17 // over everything from atAttributes on
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57

	lengthEnd = atLength + 4
	magic2    = 2

	// minRecordBytes is the smallest record: seven fields of one byte.
	minRecordBytes = 7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum goes on with a CRC-32C over b: that of batches, and of every format of the log. It begins with 0.
func Checksum(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Batch is the bytes of one record batch v2. It is shared by cache, readers and wire: never change it
// after it was appended.
//
// The methods that read a field check nothing: ask them only of bytes that Next or Check approved.
type Batch []byte

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() Offset { return Offset(binary.BigEndian.Uint64(b[atBaseOffset:])) }

// LastOffset is the offset of the last record. In a compacted batch that record may be gone.
func (b Batch) LastOffset() Offset { return b.BaseOffset() + Offset(b.LastOffsetDelta()) }

// Size is the size of the whole batch in bytes, as its header states it.
func (b Batch) Size() int {
	return lengthEnd + int(int32(binary.BigEndian.Uint32(b[atLength:])))
}

// LeaderEpoch is the epoch in which the batch was appended; a producer's batch may say anything.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])) }

// Magic is the format version; every batch here has 2.
func (b Batch) Magic() int8 { return int8(b[atMagic]) }

// CRC is the checksum in the header. It covers all but base offset, length, leader epoch and magic.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// Attributes are the flags of the batch.
func (b Batch) Attributes() Attributes { return Attributes(binary.BigEndian.Uint16(b[atAttributes:])) }

// LastOffsetDelta is the distance from the first offset to the last.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// BaseTimestamp is what the timestamps of the records count from, in milliseconds since 1970; with the
// attribute DeleteHorizon it is also the time after which tombstones may go.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])) }

// MaxTimestamp is the largest timestamp of the records, in milliseconds since 1970; -1: they have none. A
// producer's batch may say anything.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])) }

// ProducerID is the idempotent producer that made the batch, or -1.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[atProducerID:])) }

// ProducerEpoch is the epoch of that producer; it means nothing without a producer id.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[atProducerEpoch:])) }

// BaseSequence is the producer's number of the first record; it means nothing without a producer id.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[atBaseSequence:])) }

// LastSequence is the producer's number of the last record. Numbers go from 2^31-1 on to 0.
func (b Batch) LastSequence() int32 {
	base := b.BaseSequence()
	if base < 0 {
		return base
	}
	return int32((int64(base) + int64(b.LastOffsetDelta())) & math.MaxInt32)
}

// Count is the number of records in the batch.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[atCount:])) }

// SetBaseOffset gives the batch its place. It lies outside the checksum.
func (b Batch) SetBaseOffset(o Offset) { binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(o)) }

// SetLeaderEpoch notes the epoch in which the batch is appended. It lies outside the checksum.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// SetLogAppendTime gives all records the log's own time, as message.timestamp.type=LogAppendTime asks,
// and makes the checksum anew.
func (b Batch) SetLogAppendTime(unixMillis int64) {
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(b.Attributes()|logAppendTime))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(unixMillis))
	binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC())
}

// SetMaxTimestamp makes the header tell the largest timestamp of the records, as Validate found it, and makes the
// checksum anew if it did not.
func (b Batch) SetMaxTimestamp(unixMillis int64) {
	if b.MaxTimestamp() == unixMillis {
		return
	}
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(unixMillis))
	binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC())
}

// ComputeCRC is the CRC32C that the header should hold.
func (b Batch) ComputeCRC() uint32 { return Checksum(0, b[atAttributes:]) }

// Next splits the first batch off a run of batches. At the end of the run, when buf is empty, b is nil
// and err is nil. It looks at the length only; the bytes may still be bad: ask Check or Validate.
// Errors: Corrupt, when the stated length cannot be or goes beyond buf.
func Next(buf []byte) (b Batch, rest []byte, err error) {
	const op = "record.Next"
	if len(buf) == 0 {
		return nil, nil, nil
	}
	if len(buf) < BatchOverhead {
		return nil, nil, fault.New(fault.Corrupt, op, "%d bytes are less than a batch header", len(buf))
	}
	size := Batch(buf).Size()
	if size < BatchOverhead || size > len(buf) {
		return nil, nil, fault.New(fault.Corrupt, op, "batch says it has %d bytes, %d are there", size, len(buf))
	}
	return buf[:size:size], buf[size:], nil
}

// Check tells whether b is one whole and unharmed batch: its length, magic 2 and its checksum. It does
// not look into the records. Errors: Corrupt.
func (b Batch) Check() error {
	const op = "record.Check"
	if err := b.checkFrame(op); err != nil {
		return err
	}
	if want := b.ComputeCRC(); b.CRC() != want {
		return fault.New(fault.Corrupt, op, "checksum %08x, the bytes give %08x", b.CRC(), want)
	}
	return nil
}

// CheckFrame is Check without the checksum, for bytes that are known to be those that were written. Errors: Corrupt.
func (b Batch) CheckFrame() error { return b.checkFrame("record.CheckFrame") }

func (b Batch) checkFrame(op string) error {
	if len(b) < BatchOverhead {
		return fault.New(fault.Corrupt, op, "%d bytes are less than a batch header", len(b))
	}
	if b.Size() != len(b) {
		return fault.New(fault.Corrupt, op, "batch says it has %d bytes and has %d", b.Size(), len(b))
	}
	if b.Magic() != magic2 {
		return fault.New(fault.Corrupt, op, "magic %d, only 2 is known", b.Magic()).
			WithHint("message formats 0 and 1 ended with Kafka 4.0; use a client of Kafka 0.11 or newer")
	}
	return nil
}

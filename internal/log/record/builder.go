package record

import (
	"encoding/binary"
)

// Builder makes one batch out of records, straight into the buffer that it is given. The zero Builder
// needs a Reset. It may be used again after each Reset.
type Builder struct {
	buf           []byte
	baseTimestamp int64
	maxTimestamp  int64
	count         int
	producerID    int64
	producerEpoch int16
	baseSequence  int32
	attributes    Attributes // but for the codec
	lastDelta     int32      // what the batch stands for, if that is more than its records; else -1
}

// Reset begins a new batch in dst's memory, whose content is lost; beyond dst's capacity the batch
// moves on as append does. The timestamps of the records count from baseTimestamp (milliseconds
// since 1970): one near to them keeps the records small.
func (bu *Builder) Reset(dst []byte, baseTimestamp int64) {
	*bu = Builder{
		buf:           append(dst[:0], blankHeader[:]...),
		baseTimestamp: baseTimestamp, maxTimestamp: baseTimestamp,
		producerID: -1, producerEpoch: -1, baseSequence: -1, lastDelta: -1,
	}
}

var blankHeader [BatchOverhead]byte

// SetProducer makes it the batch of an idempotent producer. Reset takes it back.
func (bu *Builder) SetProducer(id int64, epoch int16, baseSequence int32) {
	bu.producerID, bu.producerEpoch, bu.baseSequence = id, epoch, baseSequence
}

// SetTransactional makes it a batch of the open transaction of its producer. Reset takes it back.
func (bu *Builder) SetTransactional() { bu.attributes |= transactional }

// Append encodes r behind the records that are there. Its bytes are copied, once.
func (bu *Builder) Append(r *Record) {
	timeDelta, offsetDelta := r.Timestamp-bu.baseTimestamp, int64(bu.count)
	body := 1 + varintLen(timeDelta) + varintLen(offsetDelta) + blockLen(r.Key) + blockLen(r.Value) + r.headersLen()

	buf := appendVarint(bu.buf, int64(body))
	buf = append(buf, 0) // attributes of a record: none are defined
	buf = appendVarint(buf, timeDelta)
	buf = appendVarint(buf, offsetDelta)
	buf = appendBlock(buf, r.Key)
	buf = appendBlock(buf, r.Value)
	buf = appendVarint(buf, int64(len(r.Headers)))
	bu.buf = appendHeaders(buf, r.Headers)
	if bu.count == 0 || r.Timestamp > bu.maxTimestamp {
		bu.maxTimestamp = r.Timestamp
	}
	bu.count++
}

func appendHeaders(buf []byte, headers []Header) []byte {
	for i := range headers {
		h := &headers[i]
		buf = appendVarint(buf, int64(len(h.Key)))
		buf = append(buf, h.Key...)
		buf = appendBlock(buf, h.Value)
	}
	return buf
}

// Bytes is the batch so far, its header not filled in. It is valid until the next Append.
func (bu *Builder) Bytes() []byte { return bu.buf }

// Extend gives the batch more room: dst begins with the very memory of Bytes.
func (bu *Builder) Extend(dst []byte) { bu.buf = dst[:len(bu.buf)] }

// Len is the size of the batch so far in bytes, header included.
func (bu *Builder) Len() int { return len(bu.buf) }

// Count is the number of records so far.
func (bu *Builder) Count() int { return bu.count }

// MaxTimestamp is the largest timestamp so far, or the base timestamp while there is no record.
func (bu *Builder) MaxTimestamp() int64 { return bu.maxTimestamp }

// Seal fills in the header and returns the batch: the buffer itself, nothing is copied. The Builder
// must be Reset, with another buffer, before it is used again, but for another Seal: that writes another
// header over the first. A batch without records is nil.
func (bu *Builder) Seal(base Offset, epoch int32) Batch {
	if bu.count == 0 {
		return nil
	}
	return bu.seal(bu.buf, base, epoch, None)
}

// SealCompressed is Seal with the records compressed into a new buffer.
// Errors: Invalid, for an unknown codec.
func (bu *Builder) SealCompressed(base Offset, epoch int32, c Codec) (Batch, error) {
	if bu.count == 0 {
		return nil, nil
	}
	return bu.sealCompressed(base, epoch, c, new(Scratch))
}

func (bu *Builder) sealCompressed(base Offset, epoch int32, c Codec, s *Scratch) (Batch, error) {
	dst := append(make([]byte, 0, len(bu.buf)), blankHeader[:]...)
	dst, err := s.Compress(dst, c, bu.buf[BatchOverhead:])
	if err != nil {
		return nil, err
	}
	return bu.seal(dst, base, epoch, c), nil
}

func (bu *Builder) seal(b Batch, base Offset, epoch int32, c Codec) Batch {
	be := binary.BigEndian
	be.PutUint64(b[atBaseOffset:], uint64(base))
	be.PutUint32(b[atLength:], uint32(len(b)-lengthEnd))
	be.PutUint32(b[atLeaderEpoch:], uint32(epoch))
	b[atMagic] = magic2
	be.PutUint16(b[atAttributes:], uint16(bu.attributes|Attributes(c)))
	be.PutUint32(b[atLastOffsetDelta:], uint32(max(bu.lastDelta, int32(bu.count-1))))
	be.PutUint64(b[atBaseTimestamp:], uint64(bu.baseTimestamp))
	be.PutUint64(b[atMaxTimestamp:], uint64(bu.maxTimestamp))
	be.PutUint64(b[atProducerID:], uint64(bu.producerID))
	be.PutUint16(b[atProducerEpoch:], uint16(bu.producerEpoch))
	be.PutUint32(b[atBaseSequence:], uint32(bu.baseSequence))
	be.PutUint32(b[atCount:], uint32(bu.count))
	be.PutUint32(b[atCRC:], b.ComputeCRC())
	return b
}

// headersLen is how many bytes the headers take, their count included.
func (r *Record) headersLen() int {
	n := varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + blockLen(h.Value)
	}
	return n
}

// EncodedSize is an upper bound of the bytes that the record takes inside a batch, BatchOverhead not
// included: exact but for the place and time deltas.
func (r *Record) EncodedSize() int {
	const maxLength, attributes, maxTimeDelta, maxOffsetDelta = 5, 1, 10, 5
	n := maxLength + attributes + maxTimeDelta + maxOffsetDelta + blockLen(r.Key) + blockLen(r.Value) + r.headersLen()
	return n
}

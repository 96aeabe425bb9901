package record

import (
	"encoding/binary"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Recompress gives a batch with the same records that is compressed by another codec, in memory of its own; b itself
// where it is so compressed already. Errors: TooLarge, where it takes more than limit bytes; Corrupt; Invalid, for an
// unknown codec.
func (s *Scratch) Recompress(b Batch, c Codec, limit int) (Batch, error) {
	if b.Attributes().Codec() == c {
		return b, nil
	}
	plain, err := s.records(b)
	if err != nil {
		return nil, err
	}
	tooLarge := func(size int) error {
		return fault.New(fault.TooLarge, "record.Recompress", "batch of %d bytes compressed by %s, %d are allowed", size, c,
			limit)
	}
	if size := BatchOverhead + len(plain); c == None && size > limit { // it is not even made
		return nil, tooLarge(size)
	}
	var out Batch = append(make([]byte, 0, BatchOverhead+min(len(plain), limit)), b[:BatchOverhead]...)
	if out, err = s.Compress(out, c, plain); err != nil {
		return nil, err
	}
	if len(out) > limit {
		return nil, tooLarge(len(out))
	}
	be := binary.BigEndian
	be.PutUint32(out[atLength:], uint32(len(out)-lengthEnd))
	be.PutUint16(out[atAttributes:], uint16(b.Attributes()&^codecMask|Attributes(c)))
	be.PutUint32(out[atCRC:], out.ComputeCRC())
	return out, nil
}

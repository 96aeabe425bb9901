package record

import (
	"github.com/firthmq/firth/internal/kit/fault"
)

// View is one record of a batch. Its slices point into the batch or, for a compressed one, into the
// Scratch: they hold until that is used again. A nil Key or Value is null, an empty one is not.
type View struct {
	Offset      Offset
	Timestamp   int64 // milliseconds since 1970
	Key         []byte
	Value       []byte
	HeaderCount int

	offsetDelta int64
	headers     []byte // encoded, without their count; decode has checked them
}

// EncodedHeaders are the headers as they lie in the record, without their count.
func (v *View) EncodedHeaders() []byte { return v.headers }

// MapHeaders puts in the place of the value of each header what f makes of it, or leaves the header out. They are
// encoded behind memory, which is returned longer.
func (v *View) MapHeaders(memory []byte, f func(key, value []byte) (mapped []byte, stays bool)) []byte {
	from, count := len(memory), 0
	for key, value := range v.Headers {
		mapped, stays := f(key, value)
		if !stays {
			continue
		}
		memory = appendBlock(append(appendVarint(memory, int64(len(key))), key...), mapped)
		count++
	}
	v.HeaderCount, v.headers = count, memory[from:]
	return memory
}

// Header finds a header. Of several with the same key the last one wins. A null value is nil.
func (v *View) Header(key string) (value []byte, ok bool) {
	for at, i := 0, 0; i < v.HeaderCount && at >= 0; i++ {
		var k, val []byte
		k, at = block(v.headers, at)
		val, at = block(v.headers, at)
		if at >= 0 && string(k) == key {
			value, ok = val, true
		}
	}
	return value, ok
}

// Headers goes through the headers in their order; use it with range. A null value is nil.
func (v *View) Headers(yield func(key, value []byte) bool) {
	for at, i := 0, 0; i < v.HeaderCount; i++ {
		var key, value []byte
		key, at = block(v.headers, at)
		value, at = block(v.headers, at)
		if at < 0 || !yield(key, value) {
			return
		}
	}
}

// decode reads the record at the front of b. The timestamp comes out as a distance. It returns what is
// behind the record or, if the record is malformed, says how.
func (v *View) decode(b []byte) (rest []byte, flaw string) {
	if rest, ok := v.quick(b); ok {
		return rest, ""
	}
	return v.careful(b)
}

// careful reads any record.
func (v *View) careful(b []byte) (rest []byte, flaw string) {
	size, at := varint(b, 0)
	if at < 0 || size < minRecordBytes-1 || size > int64(len(b)-at) {
		return nil, "length of a record is wrong"
	}
	b, rest = b[at:at+int(size)], b[at+int(size):]

	// b[0] is the record's attributes: none are defined and Kafka ignores them too.
	v.Timestamp, at = varint(b, 1)
	v.offsetDelta, at = varint(b, at)
	v.Key, at = block(b, at)
	v.Value, at = block(b, at)
	count, at := varint(b, at)
	if at < 0 {
		return nil, "fields of a record go beyond it"
	}
	const minHeaderBytes = 2
	if count < 0 || count > int64(len(b)-at)/minHeaderBytes {
		return nil, "number of headers cannot be"
	}
	v.HeaderCount, v.headers = int(count), b[at:]
	if at = skipHeaders(b, at, v.HeaderCount); at < 0 {
		return nil, "header without a key"
	}
	if at != len(b) {
		return nil, "headers do not end where the record ends"
	}
	return rest, ""
}

// skipHeaders is what is behind so many headers, or broken.
func skipHeaders(b []byte, at, count int) int {
	for range count {
		var n int64
		if n, at = varint(b, at); at < 0 || n < 0 || n > int64(len(b)-at) {
			return broken
		}
		if _, at = block(b, at+int(n)); at < 0 {
			return broken
		}
	}
	return at
}

// quick reads a record whose numbers take at most two bytes each, as nearly all do: it makes no calls but for
// headers. It is false for any other record, for one without a flaw that it cannot be sure of, and for one
// with a flaw.
func (v *View) quick(b []byte) (rest []byte, ok bool) {
	const numbers = 10 // what is read before the key takes fewer bytes
	if len(b) < numbers {
		return nil, false
	}
	size, at := pair(b, 0)
	end := at + size>>1
	if size&1 != 0 || end < numbers || end > len(b) {
		return nil, false
	}
	b, rest = b[:end:end], b[end:]
	stamp, at := pair(b, at+1) // behind the attributes
	offset, at := pair(b, at)
	keyLen, at := pair(b, at)
	const behindKey, behindValue = 3, 1 // length of the value and number of headers, at least
	keyEnd := at + keyLen>>1
	if keyEnd+behindKey > end || keyLen&1 != 0 && keyLen != null {
		return nil, false
	}
	valueLen, from := pair(b, keyEnd)
	valueEnd := from + valueLen>>1
	if valueEnd+behindValue > end || valueLen&1 != 0 && valueLen != null {
		return nil, false
	}
	count := int(b[valueEnd])
	if (size|stamp|offset|keyLen|valueLen) >= tooLong || count&(1|0x80) != 0 {
		return nil, false
	}
	v.Timestamp, v.offsetDelta = int64(stamp>>1)^-int64(stamp&1), int64(offset>>1)^-int64(offset&1)
	v.Key, v.Value = nil, nil
	if keyLen != null {
		v.Key = b[at:keyEnd:keyEnd]
	}
	if valueLen != null {
		v.Value = b[from:valueEnd:valueEnd]
	}
	v.HeaderCount, v.headers = count>>1, b[valueEnd+1:]
	return rest, skipHeaders(b, valueEnd+1, v.HeaderCount) == end
}

// null is the length of a null block in the zigzag form, tooLong the first number that pair cannot give.
const (
	null    = 1
	tooLong = 1 << 14
)

// pair reads a number of one or two bytes, without undoing the zigzag; a longer one gives tooLong or more.
func pair(b []byte, at int) (u, next int) {
	c := int(b[at])
	if c < 0x80 {
		return c, at + 1
	}
	return c&0x7f | int(b[at+1])<<7, at + 2
}

// Iter walks the records of a batch without allocating. The zero Iter needs a Reset.
//
//	var it record.Iter
//	var v record.View
//	if err := it.Reset(b, &scratch); err != nil { ... }
//	for it.Next(&v) { ... }
//	if err := it.Err(); err != nil { ... }
type Iter struct {
	rest      []byte
	batch     Batch
	left      int32
	lastDelta int64
	err       error
}

// Reset begins with the first record of b, which Check or Validate has approved. The records of a
// compressed batch are put into s, at most s.MaxDecompressed bytes; s may be nil for one that is not.
// Errors: Corrupt, TooLarge (decompressed).
func (it *Iter) Reset(b Batch, s *Scratch) error {
	*it = Iter{lastDelta: -1}
	if err := b.checkFrame("record.Iter"); err != nil {
		it.err = err
		return err
	}
	records, err := s.records(b)
	if err != nil {
		it.err = err
		return err
	}
	it.batch, it.rest, it.left = b, records, b.Count()
	return nil
}

// Next puts the next record into v. It is false at the end, and at a flaw, which Err tells.
func (it *Iter) Next(v *View) bool {
	if it.left <= 0 {
		if len(it.rest) > 0 && it.err == nil {
			it.fail("more bytes than records")
		}
		return false
	}
	rest, flaw := v.decode(it.rest)
	if flaw == "" && (v.offsetDelta <= it.lastDelta || v.offsetDelta > int64(it.batch.LastOffsetDelta())) {
		flaw = "offsets of the records do not rise within the batch"
	}
	if flaw != "" {
		it.fail(flaw)
		return false
	}
	it.rest, it.lastDelta = rest, v.offsetDelta
	it.left--
	v.Offset = it.batch.BaseOffset() + Offset(v.offsetDelta)
	if it.batch.Attributes().LogAppendTime() {
		v.Timestamp = it.batch.MaxTimestamp()
	} else {
		v.Timestamp += it.batch.BaseTimestamp()
	}
	return true
}

func (it *Iter) fail(flaw string) {
	it.err = fault.New(fault.Corrupt, "record.Iter", "batch at offset %d, %d records from its end: %s",
		it.batch.BaseOffset(), it.left, flaw)
	it.left, it.rest = 0, nil
}

// Err is why Next stopped before the last record. Errors: Corrupt.
func (it *Iter) Err() error { return it.err }

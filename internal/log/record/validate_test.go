package record

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// valid is the batch that the tables below spoil: three records, one with headers.
func valid() Batch {
	var bu Builder
	bu.Reset(nil, 1000)
	bu.Append(&Record{Timestamp: 1000, Key: []byte("k"), Value: []byte("v")})
	bu.Append(&Record{Timestamp: 999, Value: []byte("w"), Headers: []Header{{"h", []byte("1")}}})
	bu.Append(&Record{Timestamp: 1001})
	return bu.Seal(0, -1)
}

// reseal makes the length and the checksum right again after the bytes were changed.
func reseal(b Batch) Batch {
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthEnd))
	binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC())
	return b
}

// withRecords is a batch of count records that are the given bytes.
func withRecords(codec Codec, count int32, records []byte) Batch {
	b := append(valid()[:BatchOverhead:BatchOverhead], records...)
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(codec))
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(count-1))
	binary.BigEndian.PutUint32(b[atCount:], uint32(count))
	return reseal(b)
}

func put16(at int, v int16) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint16(b[at:], uint16(v)); return reseal(b) }
}

func put32(at int, v int32) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint32(b[at:], uint32(v)); return reseal(b) }
}

func put64(at int, v int64) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint64(b[at:], uint64(v)); return reseal(b) }
}

// raw changes bytes and leaves the checksum as it was.
func raw(at int, v byte) func(Batch) Batch {
	return func(b Batch) Batch { b[at] = v; return b }
}

// length changes the length of the batch and nothing else.
func length(v uint32) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint32(b[atLength:], v); return b }
}

// records puts other records into the batch.
func records(count int32, bytes ...byte) func(Batch) Batch {
	return func(Batch) Batch { return withRecords(None, count, bytes) }
}

func both(fs ...func(Batch) Batch) func(Batch) Batch {
	return func(b Batch) Batch {
		for _, f := range fs {
			b = f(b)
		}
		return b
	}
}

// spoiled are ways to spoil a batch, and what kind of error each is.
var spoiled = []struct {
	name  string
	spoil func(Batch) Batch
	want  fault.Kind
}{
	{"empty", func(Batch) Batch { return Batch{} }, fault.Corrupt},
	{"shorter than a header", func(b Batch) Batch { return b[:BatchOverhead-1] }, fault.Corrupt},
	{"cut", func(b Batch) Batch { return b[:len(b)-1] }, fault.Corrupt},
	{"followed by a byte", func(b Batch) Batch { return append(b, 0) }, fault.Corrupt},
	{"length 0", length(0), fault.Corrupt},
	{"length -1", length(math.MaxUint32), fault.Corrupt},
	{"length 2^31-1", length(math.MaxInt32), fault.Corrupt},
	{"magic 0", raw(atMagic, 0), fault.Corrupt},
	{"magic 1", raw(atMagic, 1), fault.Corrupt},
	{"magic 3", raw(atMagic, 3), fault.Corrupt},
	{"checksum", raw(atCRC, 0), fault.Corrupt},
	{"a record's byte", func(b Batch) Batch { b[len(b)-1] ^= 1; return b }, fault.Corrupt},
	{"too large", func(b Batch) Batch { return append(b, make([]byte, 2000)...) }, fault.TooLarge},

	{"reserved bit 7", put16(atAttributes, 1<<7), fault.Invalid},
	{"reserved bit 15", put16(atAttributes, -1<<15), fault.Invalid},
	{"codec 5", put16(atAttributes, 5), fault.Invalid},
	{"codec 7", put16(atAttributes, 7), fault.Invalid},
	{"control batch", put16(atAttributes, 1<<5), fault.Invalid},
	{"log append time", put16(atAttributes, 1<<3), fault.Invalid},
	{"delete horizon", put16(atAttributes, 1<<6), fault.Invalid},
	{"transactional without producer", put16(atAttributes, 1<<4), fault.Invalid},
	{"producer id -2", put64(atProducerID, -2), fault.Invalid},
	{"producer without epoch", both(put64(atProducerID, 7), put32(atBaseSequence, 0)), fault.Invalid},
	{"producer without sequence", both(put64(atProducerID, 7), put16(atProducerEpoch, 0)), fault.Invalid},
	{"base timestamp -2", put64(atBaseTimestamp, -2), fault.Invalid},
	{"max timestamp -2^63", put64(atMaxTimestamp, math.MinInt64), fault.Invalid},

	{"count 0", records(0), fault.Invalid},
	{"count -1", put32(atCount, -1), fault.Invalid},
	{"count 2^31-1", both(put32(atCount, math.MaxInt32), put32(atLastOffsetDelta, math.MaxInt32-1)), fault.Invalid},
	{"count above the records", both(put32(atCount, 4), put32(atLastOffsetDelta, 3)), fault.Invalid},
	{"count below the records", both(put32(atCount, 2), put32(atLastOffsetDelta, 1)), fault.Invalid},
	{"last delta above", put32(atLastOffsetDelta, 3), fault.Invalid},
	{"last delta negative", put32(atLastOffsetDelta, -1), fault.Invalid},

	// length, attributes, time delta, offset delta, key length, value length, headers; 1 is -1
	{"no bytes for records", records(1), fault.Invalid},
	{"record length beyond", records(1, 14, 0, 0, 0, 1, 1, 0), fault.Invalid},
	{"record length below", records(1, 10, 0, 0, 0, 1, 1, 0), fault.Invalid},
	{"record length negative", records(1, 1, 0, 0, 0, 1, 1, 0), fault.Invalid},
	{"record length huge", records(1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0), fault.Invalid},
	{"record length never ends", records(1, bytes.Repeat([]byte{0xff}, 12)...), fault.Invalid},
	{"offset delta 1 first", records(1, 12, 0, 0, 2, 1, 1, 0), fault.Invalid},
	{"offset delta negative", records(1, 12, 0, 0, 1, 1, 1, 0), fault.Invalid},
	{"offset delta repeated", records(2, 12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0), fault.Invalid},
	{"key length -2", records(1, 12, 0, 0, 0, 3, 1, 0), fault.Invalid},
	{"key beyond", records(1, 12, 0, 0, 0, 8, 1, 0), fault.Invalid},
	{"value length -2", records(1, 12, 0, 0, 0, 1, 3, 0), fault.Invalid},
	{"value beyond", records(1, 12, 0, 0, 0, 1, 4, 0), fault.Invalid},
	{"headers -1", records(1, 12, 0, 0, 0, 1, 1, 1), fault.Invalid},
	{"headers 2^31-1", records(1, 20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f), fault.Invalid},
	{"header key null", records(1, 16, 0, 0, 0, 1, 1, 2, 1, 1), fault.Invalid},
	{"header key beyond", records(1, 16, 0, 0, 0, 1, 1, 2, 4, 1), fault.Invalid},
	{"header value -2", records(1, 16, 0, 0, 0, 1, 1, 2, 0, 3), fault.Invalid},
	{"header value beyond", records(1, 16, 0, 0, 0, 1, 1, 2, 0, 2), fault.Invalid},
	{"bytes behind the headers", records(1, 14, 0, 0, 0, 1, 1, 0, 0), fault.Invalid},
	{"bytes behind the records", records(1, 12, 0, 0, 0, 1, 1, 0, 0), fault.Invalid},
}

func TestValidateMalformed(t *testing.T) {
	for _, tt := range spoiled {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.spoil(valid())
			err := b.Validate(1000, true, new(Scratch))
			if !fault.Is(err, tt.want) {
				t.Fatalf("Validate: %v, want kind %v", err, tt.want)
			}
			drain(b) // must not panic, whatever it says
		})
	}
}

// drain walks a batch that may be bad.
func drain(b Batch) (n int, err error) { return drainWith(b, &Scratch{MaxDecompressed: 1 << 20}) }

func drainWith(b Batch, s *Scratch) (n int, err error) {
	var it Iter
	if err := it.Reset(b, s); err != nil {
		return 0, err
	}
	for v := (View{}); it.Next(&v); n++ {
		v.Header("h")
		for range v.Headers {
			continue
		}
	}
	return n, it.Err()
}

func TestValidateGood(t *testing.T) {
	tests := []struct {
		name   string
		change func(Batch) Batch
	}{
		{"as it is", func(b Batch) Batch { return b }},
		{"any base offset", func(b Batch) Batch { b.SetBaseOffset(-77); return b }},
		{"any leader epoch", func(b Batch) Batch { b.SetLeaderEpoch(12345); return b }},
		{"epoch and sequence 0 without producer, as kafkajs", both(put16(atProducerEpoch, 0), put32(atBaseSequence, 0))},
		{"idempotent", both(put64(atProducerID, 7), put16(atProducerEpoch, 0), put32(atBaseSequence, math.MaxInt32))},
		{"transactional", both(put64(atProducerID, 7), put16(atProducerEpoch, 0), put32(atBaseSequence, 0),
			put16(atAttributes, 1<<4))},
		{"no timestamp", both(put64(atBaseTimestamp, -1), put64(atMaxTimestamp, -1))},
		{"smallest record", records(1, 12, 0, 0, 0, 1, 1, 0)},
		{"record attributes", records(1, 12, 0xff, 0, 0, 1, 1, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.change(valid())
			if err := b.Validate(len(b), false, nil); err != nil {
				t.Fatal(err)
			}
			if n, err := drain(b); err != nil || n != int(b.Count()) {
				t.Fatalf("%d records, %v", n, err)
			}
		})
	}
}

// TestValidateDeep looks into compressed batches only when asked.
func TestValidateDeep(t *testing.T) {
	inner := []byte{12, 0, 0, 2, 1, 1, 0} // offset delta 1 where 0 is due
	for codec := Gzip; codec <= Zstd; codec++ {
		packed, err := Compress(nil, codec, inner)
		if err != nil {
			t.Fatal(err)
		}
		b := withRecords(codec, 1, packed)
		if err := b.Validate(1000, false, nil); err != nil {
			t.Errorf("%s, not deep: %v", codec, err)
		}
		if err := b.Validate(1000, true, new(Scratch)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s, deep: %v, want Invalid", codec, err)
		}
	}
}

// TestEveryFlip turns each bit of a batch: all but base offset and leader epoch are covered.
func TestEveryFlip(t *testing.T) {
	for bit := range len(valid()) * 8 {
		b := valid()
		b[bit/8] ^= 1 << (bit % 8)
		outside := bit/8 < atLength || bit/8 >= atLeaderEpoch && bit/8 < atMagic
		if err := b.Check(); (err == nil) != outside {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
}

func TestNext(t *testing.T) {
	one, two := valid(), withRecords(None, 1, []byte{12, 0, 0, 0, 1, 1, 0})
	run := slices.Concat(one, two)
	b, rest, err := Next(run)
	if err != nil || !bytes.Equal(b, one) || cap(b) != len(b) {
		t.Fatalf("first: %d bytes, %v", len(b), err)
	}
	if b, rest, err = Next(rest); err != nil || !bytes.Equal(b, two) {
		t.Fatalf("second: %d bytes, %v", len(b), err)
	}
	if b, rest, err = Next(rest); b != nil || rest != nil || err != nil {
		t.Fatalf("end: %v %v %v", b, rest, err)
	}
	for n := 1; n < len(one); n++ {
		if _, _, err := Next(one[:n]); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("first %d bytes: %v, want Corrupt", n, err)
		}
	}
	for _, length := range []uint32{0, 1, BatchOverhead - lengthEnd - 1, math.MaxInt32, 1 << 31, math.MaxUint32} {
		b := valid()
		binary.BigEndian.PutUint32(b[atLength:], length)
		if _, _, err := Next(b); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("length %d: %v, want Corrupt", length, err)
		}
	}
}

func TestLastSequence(t *testing.T) {
	tests := []struct{ base, delta, want int32 }{
		{0, 0, 0}, {5, 2, 7}, {-1, 4, -1},
		{math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1},
	}
	for _, tt := range tests {
		b := both(put32(atBaseSequence, tt.base), put32(atLastOffsetDelta, tt.delta))(valid())
		if got := b.LastSequence(); got != tt.want {
			t.Errorf("base %d delta %d: %d, want %d", tt.base, tt.delta, got, tt.want)
		}
	}
}

func TestSetLogAppendTime(t *testing.T) {
	b := valid()
	b.SetBaseOffset(10)
	b.SetLogAppendTime(5555)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	var it Iter
	if err := it.Reset(b, nil); err != nil {
		t.Fatal(err)
	}
	n := Offset(0)
	for v := (View{}); it.Next(&v); n++ {
		if v.Timestamp != 5555 || v.Offset != 10+n {
			t.Fatalf("offset %d timestamp %d", v.Offset, v.Timestamp)
		}
	}
	if n != 3 || it.Err() != nil {
		t.Fatalf("%d records, %v", n, it.Err())
	}
}

// TestIterCompacted walks a batch that compaction has taken records from.
func TestIterCompacted(t *testing.T) {
	b := withRecords(None, 2, []byte{12, 0, 0, 2, 1, 1, 0, 12, 0, 0, 8, 1, 1, 0})
	put32(atLastOffsetDelta, 6)(b)
	var it Iter
	if err := it.Reset(b, nil); err != nil {
		t.Fatal(err)
	}
	var got []Offset
	for v := (View{}); it.Next(&v); {
		got = append(got, v.Offset)
	}
	if want := []Offset{1, 4}; it.Err() != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %v, want %v", got, it.Err(), want)
	}
	if err := it.Reset(reseal(both(put32(atLastOffsetDelta, 3))(b)), nil); err != nil {
		t.Fatal(err)
	}
	for v := (View{}); it.Next(&v); {
		continue
	}
	if !fault.Is(it.Err(), fault.Corrupt) {
		t.Fatalf("offset beyond the last: %v, want Corrupt", it.Err())
	}
}

func TestHeader(t *testing.T) {
	var bu Builder
	bu.Reset(nil, 0)
	bu.Append(&Record{Headers: []Header{
		{"a", []byte("1")}, {"", []byte("e")}, {"n", nil}, {"a", []byte("2")}, {"\xff", []byte{}},
	}})
	b := bu.Seal(0, 0)
	var it Iter
	var v View
	if err := it.Reset(b, nil); err != nil || !it.Next(&v) {
		t.Fatal(err, it.Err())
	}
	tests := []struct {
		key   string
		value []byte
		ok    bool
	}{{"a", []byte("2"), true}, {"", []byte("e"), true}, {"n", nil, true}, {"\xff", []byte{}, true}, {"b", nil, false}}
	for _, tt := range tests {
		if value, ok := v.Header(tt.key); ok != tt.ok || !sameBytes(value, tt.value) {
			t.Errorf("%q: %q %v, want %q %v", tt.key, value, ok, tt.value, tt.ok)
		}
	}
}

func TestUUID(t *testing.T) {
	u := UUID{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xff}
	if got, err := ParseUUID(u.String()); err != nil || got != u {
		t.Fatalf("%v %v", got, err)
	}
	for _, s := range []string{
		"", "123e4567", "123e4567-e89b-12d3-a456-42661417400g", "123e4567-e89b-12d3-a456-4266141740000",
		"123e4567ae89b-12d3-a456-426614174000",
	} {
		if _, err := ParseUUID(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, want Invalid", s, err)
		}
	}
}

// TestQuick damages records of all shapes: what quick accepts, careful accepts too and reads the same, and
// quick accepts what devices make.
func TestQuick(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{-1, 0, 1, 2, 5, 10, 20, 30, 63, 64, 100, 200, 8000, 8191, 8192}
	blob := func() []byte {
		n := sizes[rng.IntN(len(sizes))]
		if n < 0 {
			return nil
		}
		return make([]byte, n)
	}
	quick := 0
	for i := range 50_000 {
		r := Record{Timestamp: 1000 + rng.Int64N(40_000) - 20_000, Key: blob(), Value: blob()}
		for range rng.IntN(3) {
			r.Headers = append(r.Headers, Header{Key: string(blob()), Value: blob()})
		}
		var bu Builder
		bu.Reset(nil, 1000)
		bu.count = rng.IntN(10_000)
		bu.Append(&r)
		b := append(bu.buf[BatchOverhead:], 1, 2, 3)[:len(bu.buf)-BatchOverhead+rng.IntN(4)]
		for range max(rng.IntN(6)-2, 0) {
			b[rng.IntN(min(len(b), 24))] = byte(rng.Uint32())
		}
		if rng.IntN(4) == 0 {
			b = b[:rng.IntN(len(b)+1)]
		}
		var v, w View
		rest, ok := v.quick(b)
		if !ok {
			continue
		}
		quick++
		other, flaw := w.careful(b)
		if flaw != "" || !reflect.DeepEqual(v, w) || len(rest) != len(other) {
			t.Fatalf("record %d: %x\nquick    %+v\ncareful  %+v, %s", i, b, v, w, flaw)
		}
	}
	if quick < 3_000 {
		t.Errorf("quick took only %d of 50,000", quick)
	}
	var v View
	if _, ok := v.quick(build([]Record{device}).buf[BatchOverhead:]); !ok || string(v.Value) != string(device.Value) {
		t.Errorf("a plain record is not quick: %+v", v)
	}
}

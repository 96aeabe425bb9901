package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/pierrec/lz4/v4"
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
	{"too plain", func(b Batch) Batch { return append(b, make([]byte, 2000)...) }, fault.TooLarge},

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
			err := judge(b, 1000, new(Scratch))
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
		{"before 1970, as Kafka takes it", put64(atBaseTimestamp, -2)},
		{"any largest timestamp: that of the records counts", put64(atMaxTimestamp, math.MinInt64)},
		{"no timestamp", both(put64(atBaseTimestamp, -1), put64(atMaxTimestamp, -1))},
		{"smallest record", records(1, 12, 0, 0, 0, 1, 1, 0)},
		{"record attributes", records(1, 12, 0xff, 0, 0, 1, 1, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.change(valid())
			if err := judge(b, len(b), nil); err != nil {
				t.Fatal(err)
			}
			if n, err := drain(b); err != nil || n != int(b.Count()) {
				t.Fatalf("%d records, %v", n, err)
			}
		})
	}
}

// TestValidateCompressed looks into compressed batches.
func TestValidateCompressed(t *testing.T) {
	inner := []byte{12, 0, 0, 2, 1, 1, 0} // offset delta 1 where 0 is due
	for codec := Gzip; codec <= Zstd; codec++ {
		packed, err := new(Scratch).Compress(nil, codec, inner)
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(withRecords(codec, 1, packed), 1000, new(Scratch)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want Invalid", codec, err)
		}
	}
}

// judge is Validate by no other rule than the size.
func judge(b Batch, maxBytes int, s *Scratch) error {
	_, err := b.Validate(&Rules{MaxBytes: maxBytes}, s)
	return err
}

// timesOf builds a batch with records of such timestamps.
func timesOf(codec Codec, times ...int64) Batch {
	var bu Builder
	bu.Reset(nil, times[0])
	for _, at := range times {
		bu.Append(&Record{Timestamp: at, Key: []byte("k"), Value: []byte("v")})
	}
	b, err := bu.SealCompressed(0, -1, codec)
	if err != nil {
		panic(err) // a codec that there is not
	}
	return b
}

// K4, F01: the largest timestamp is that of the records, whatever the header says, and the header is corrected so that
// the batch stays whole.
func TestLargestTimestampIsThatOfTheRecords(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		for _, tt := range []struct {
			times []int64
			want  int64
		}{
			{[]int64{5, 900, 7}, 900}, {[]int64{-1, -1}, -1}, {[]int64{-7, -9}, -1}, {[]int64{1, 1 << 50}, 1 << 50},
		} {
			for _, header := range []int64{-1, 0, 6, math.MinInt64, math.MaxInt64, tt.want} {
				b := put64(atMaxTimestamp, header)(timesOf(codec, tt.times...))
				was := b.CRC()
				got, err := b.Validate(&Rules{MaxBytes: len(b)}, new(Scratch))
				if err != nil || got != tt.want {
					t.Fatalf("%s %v under %d: %d %v, want %d", codec, tt.times, header, got, err, tt.want)
				}
				b.SetMaxTimestamp(got)
				if err := b.Check(); err != nil || b.MaxTimestamp() != tt.want || (header == got) != (b.CRC() == was) {
					t.Errorf("%s %v under %d: corrected to %d, %v", codec, tt.times, header, b.MaxTimestamp(), err)
				}
			}
		}
	}
}

// K5, F11: the rules hold for each record, and those that break one are named.
func TestRecordsThatBreakRulesAreNamed(t *testing.T) {
	keyless := func(times ...int64) Batch {
		var bu Builder
		bu.Reset(nil, times[0])
		for i, at := range times {
			r := Record{Timestamp: at, Value: []byte("v")}
			if i%2 == 0 {
				r.Key = []byte{}
			}
			bu.Append(&r)
		}
		return bu.Seal(0, -1)
	}
	short := timesOf(None, 1, 2, 3)
	short = reseal(short[:len(short)-1])
	many := make([]int64, MaxFlaws+5)
	timed := Rules{Timed: true, Earliest: 50, Latest: 100}
	for _, tt := range []struct {
		name     string
		b        Batch
		rules    Rules
		want     []int32
		count    int
		untimely bool
	}{
		{"in the future and the past", timesOf(None, 50, 101, 49, -1, 100), timed, []int32{1, 2}, 2, true},
		{"compressed", timesOf(Zstd, 50, 101, 100), timed, []int32{1}, 1, true},
		{"without keys", keyless(1, 1, 1, 1), Rules{Keyed: true}, []int32{1, 3}, 2, false},
		{"without keys, one untimely", keyless(1, 1, 9), Rules{Keyed: true, Timed: true, Latest: 5}, []int32{1, 2}, 2, true},
		{"torn", short, Rules{}, []int32{2}, 1, false},
		{"more than are named", keyless(many...), Rules{Timed: true, Earliest: 1, Latest: 2}, nil, MaxFlaws + 5, true},
	} {
		tt.rules.MaxBytes = len(tt.b)
		_, err := tt.b.Validate(&tt.rules, new(Scratch))
		var refused *Refused
		if !fault.Is(err, fault.Invalid) || !errors.As(err, &refused) {
			t.Errorf("%s: %v, want a Refused", tt.name, err)
			continue
		}
		var got []int32
		for _, f := range refused.Flaws {
			got = append(got, f.Index)
		}
		if tt.want != nil && !slices.Equal(got, tt.want) || refused.Count != tt.count || len(got) > MaxFlaws ||
			refused.Untimely != tt.untimely {
			t.Errorf("%s: %v of %d, untimely %v: %v", tt.name, got, refused.Count, refused.Untimely, err)
		}
	}
}

// F23: what the LZ4 decoder of Java clients cannot read is refused, and what it can is taken.
func TestValidateLZ4(t *testing.T) {
	plain := timesOf(None, 1, 2, 3)[BatchOverhead:]
	frame := func(b []byte, options ...lz4.Option) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		applied := w.Apply(options...)
		_, written := w.Write(b)
		if err := errors.Join(applied, written, w.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	linked := frame(plain)
	linked[4] &^= lz4Independent
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 's', 'k', 'i', 'p'}, frame(plain)...)
	sums, size := lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(plain)))
	for _, tt := range []struct {
		name   string
		packed []byte
		ok     bool
	}{
		{"independent blocks", frame(plain), true},
		{"with sums of blocks, and a size", frame(plain, sums, size), true},
		{"without a sum", frame(plain, lz4.ChecksumOption(false)), true},
		{"linked blocks", linked, false},
		{"two frames", append(frame(plain[:10]), frame(plain[10:])...), false},
		{"a skippable frame in front", skippable, false},
		{"bytes behind", append(frame(plain), 0), false},
		{"cut", frame(plain)[:20], false},
		{"nothing", nil, false},
	} {
		b := withRecords(LZ4, 3, tt.packed)
		if err := judge(b, len(b), new(Scratch)); (err == nil) != tt.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", tt.name, err)
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

package record

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func seeds(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(valid()))
	f.Add([]byte(append(valid(), valid()...)))
	for codec := Gzip; codec <= Zstd; codec++ {
		b, err := build(sample(20)).SealCompressed(5, 1, codec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b))
	}
	plain := build(sample(20)).Seal(0, 0)[BatchOverhead:]
	f.Add([]byte(withRecords(Snappy, 20, xerial(plain, 50))))
}

// FuzzBatch takes any bytes through Next, Check, Validate and Iter: as they are, and with a length and
// a checksum made right, so that what is behind them is reached.
func FuzzBatch(f *testing.F) {
	seeds(f)
	s := &Scratch{MaxDecompressed: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		for rest := data; ; {
			b, behind, err := Next(rest)
			if err != nil && !fault.Is(err, fault.Corrupt) {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			total += len(b)
			try(t, b, s)
			rest = behind
		}
		if total > len(data) {
			t.Fatalf("%d bytes split into %d", len(data), total)
		}
		try(t, data, s)
		if len(data) >= BatchOverhead {
			b := Batch(bytes.Clone(data))
			b[atMagic] = magic2
			try(t, reseal(b), s)
		}
	})
}

// try asks everything of b that may be asked of bytes from outside.
func try(t *testing.T, b Batch, s *Scratch) {
	t.Helper()
	checked := b.Check()
	if checked != nil && !fault.Is(checked, fault.Corrupt) {
		t.Fatal(checked)
	}
	err := judge(b, 1<<20, s)
	if err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
		t.Fatal(err)
	}
	if checked != nil && err == nil {
		t.Fatalf("valid, but %v", checked)
	}
	var it Iter
	if fail := it.Reset(b, s); fail != nil {
		if err == nil {
			t.Fatalf("valid, but %v", fail)
		}
		return
	}
	n, most := 0, 64<<10
	for v := (View{}); it.Next(&v); n++ {
		headers := 0
		for range v.Headers {
			headers++
		}
		if headers != v.HeaderCount {
			t.Fatalf("%d headers of %d", headers, v.HeaderCount)
		}
		v.Header("h")
		if v.Offset < b.BaseOffset() || v.Offset > b.LastOffset() {
			t.Fatalf("offset %d outside %d to %d", v.Offset, b.BaseOffset(), b.LastOffset())
		}
		if most--; most == 0 {
			return
		}
	}
	if err == nil && (it.Err() != nil || n != int(b.Count())) {
		t.Fatalf("valid, but %d records of %d: %v", n, b.Count(), it.Err())
	}
	if cap(s.buf) > 3<<20 {
		t.Fatalf("scratch holds %d bytes for a limit of 1 MiB", cap(s.buf))
	}
}

// FuzzRoundTrip builds batches from any fields and reads them back.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(0), int64(1), []byte("key"), []byte("value"), "header", uint8(3), uint8(0))
	f.Add(int64(-1<<63), int64(1<<63-1), []byte{}, []byte{}, "", uint8(0xff), uint8(4))
	var s Scratch
	f.Fuzz(func(t *testing.T, base, at int64, key, value []byte, header string, flags, codec uint8) {
		rs := []Record{
			{Timestamp: at, Key: key, Value: value},
			{Timestamp: base, Headers: []Header{{header, value}, {header, nil}}},
			{Timestamp: at - 1, Key: value, Value: nil, Headers: []Header{{"", key}}},
		}
		if flags&1 != 0 {
			rs[0].Key = nil
		}
		if flags&2 != 0 {
			rs[0].Value = nil
		}
		var bu Builder
		bu.Reset(make([]byte, 10), base)
		bound := BatchOverhead
		for i := range rs {
			before := bu.Len()
			bu.Append(&rs[i])
			if bu.Len()-before > rs[i].EncodedSize() {
				t.Fatalf("record takes %d bytes, the bound is %d", bu.Len()-before, rs[i].EncodedSize())
			}
			bound += rs[i].EncodedSize()
		}
		b, err := bu.SealCompressed(Offset(at), 1, Codec(codec%5))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(); err != nil || bu.Len() > bound {
			t.Fatalf("%v, %d bytes, bound %d", err, bu.Len(), bound)
		}
		wantRecords(t, b, &s, Offset(at), rs)
	})
}

// FuzzVarint reads what it wrote, and agrees with the standard library on any bytes.
func FuzzVarint(f *testing.F) {
	f.Add(int64(0), []byte{})
	f.Add(int64(-1<<63), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, v int64, data []byte) {
		enc := appendVarint(nil, v)
		if got, at := varint(enc, 0); got != v || at != len(enc) || varintLen(v) != len(enc) {
			t.Fatalf("%d: read %d, %d bytes of %d, length %d", v, got, at, len(enc), varintLen(v))
		}
		want, n := binary.Varint(data)
		got, at := varint(data, 0)
		if n <= 0 {
			want, n = 0, broken
		}
		if got != want || at != n {
			t.Fatalf("%x: %d %d, want %d %d", data, got, at, want, n)
		}
	})
}

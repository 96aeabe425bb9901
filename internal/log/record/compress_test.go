package record

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/firthmq/firth/internal/kit/fault"
)

// xerial frames src as Java's SnappyOutputStream does, in blocks of size bytes.
func xerial(src []byte, size int) []byte {
	out := append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(size, len(src))
		block := s2.EncodeSnappy(nil, src[:n])
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...)
		src = src[n:]
	}
	return out
}

func TestXerial(t *testing.T) {
	rs := sample(200)
	plain := build(rs).Seal(0, 0)[BatchOverhead:]
	var s Scratch
	for _, size := range []int{1, 100, 32 << 10} {
		wantRecords(t, withRecords(Snappy, 200, xerial(plain, size)), &s, 0, shifted(rs))
	}
	half := len(plain) / 2
	joined := append(xerial(plain[:half], 1000), xerial(plain[half:], 1000)...)
	wantRecords(t, withRecords(Snappy, 200, joined), &s, 0, shifted(rs))

	framed := xerial(plain, 100)
	for n := range framed {
		if got, err := drainWith(withRecords(Snappy, 200, framed[:n]), &s); err == nil {
			t.Fatalf("cut at %d of %d: %d records and no error", n, len(framed), got)
		}
	}
}

// shifted is rs with the times they get when withRecords puts them on another base timestamp.
func shifted(rs []Record) []Record {
	moved := make([]Record, len(rs))
	for i, r := range rs {
		r.Timestamp += valid().BaseTimestamp() - rs[0].Timestamp
		moved[i] = r
	}
	return moved
}

// TestTruncatedStreams cuts compressed records at every byte: an error, never fewer records.
func TestTruncatedStreams(t *testing.T) {
	plain := build(sample(50)).Seal(0, 0)[BatchOverhead:]
	var s Scratch
	for codec := Gzip; codec <= Zstd; codec++ {
		packed, err := new(Scratch).Compress(nil, codec, plain)
		if err != nil {
			t.Fatal(err)
		}
		for n := range packed {
			if got, err := drainWith(withRecords(codec, 50, packed[:n]), &s); err == nil && got != 50 {
				t.Fatalf("%s cut at %d of %d: %d records and no error", codec, n, len(packed), got)
			}
		}
	}
}

// TestBombs unpacks 8 MiB of zeros with a limit of 1 MiB.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 8<<20)
	for codec := Gzip; codec <= Zstd; codec++ {
		packed, err := new(Scratch).Compress(nil, codec, zeros)
		if err != nil {
			t.Fatal(err)
		}
		bombs := map[string][]byte{codec.String(): packed}
		switch codec {
		case Snappy:
			bombs["xerial"] = xerial(zeros, 32<<10)
		case Zstd:
			bombs["zstd without a stated size"] = zstdStream(t, zeros)
		}
		for name, bomb := range bombs {
			b := withRecords(codec, 1, bomb)
			s := &Scratch{MaxDecompressed: 1 << 20}
			taken := allocated(func() { err = judge(b, len(b), s) })
			if !fault.Is(err, fault.TooLarge) {
				t.Errorf("%s: %v, want TooLarge", name, err)
			}
			if taken > 24<<20 {
				t.Errorf("%s: %d bytes of memory for a limit of 1 MiB", name, taken)
			}
		}
	}
}

// zstdStream compresses without saying how much will come.
func zstdStream(t *testing.T, src []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(src); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLies has headers that promise much and deliver nothing: no memory is taken on their word.
func TestLies(t *testing.T) {
	lies := []struct {
		name  string
		codec Codec
		data  []byte
	}{
		{"snappy length", Snappy, []byte{0x80, 0x80, 0x80, 0x1f, 0, 0}},
		{"snappy length 4 GiB", Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}},
		{"xerial block", Snappy, append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff)},
		{"xerial block negative", Snappy, append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)},
		{"zstd size 60 MiB", Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0xc0, 3, 1, 0, 0}},
		{"zstd size 2^63", Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0}},
		{"zstd window 2 GiB", Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 1, 0, 0}},
		{"lz4 block 4 MiB", LZ4, []byte{4, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 5, 0, 0, 0, 1}},
		{"lz4 block 2 GiB", LZ4, []byte{4, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0xff, 0x7f, 1}},
		{"lz4 legacy", LZ4, []byte{2, 0x21, 0x4c, 0x18, 0xff, 0xff, 0xff, 0x7f, 1}},
		{"not gzip", Gzip, []byte("not gzip")},
		{"not lz4", LZ4, []byte("not lz4")},
		{"not zstd", Zstd, []byte("not zstd")},
		{"nothing", Gzip, nil},
		{"nothing", Snappy, nil},
		{"nothing", LZ4, nil},
		{"nothing", Zstd, nil},
	}
	for _, lie := range lies {
		b := withRecords(lie.codec, 1, lie.data)
		var s Scratch
		var err error
		taken := allocated(func() { err = judge(b, len(b), &s) })
		if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s %s: %v", lie.codec, lie.name, err)
		}
		most := uint64(1 << 20)
		if lie.codec == LZ4 {
			most = 24 << 20 // the frame's largest blocks are of 4 MiB (8 in the legacy form)
		}
		if taken > most {
			t.Errorf("%s %s: took %d bytes of memory", lie.codec, lie.name, taken)
		}
	}
}

// TestScratchReuse goes from codec to codec, over damaged batches too, with one Scratch.
func TestScratchReuse(t *testing.T) {
	var s Scratch
	rs := sample(100)
	for range 3 {
		for codec := Zstd; codec >= Gzip; codec-- {
			b, err := build(rs).SealCompressed(0, 0, codec)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(b)
			bad[len(bad)-10] ^= 0xff
			_, _ = drainWith(bad, &s) // an error or not: it must not spoil the scratch
			wantRecords(t, b, &s, 0, rs)
		}
	}
}

// allocated is how many bytes f takes from the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestCompressUnknown(t *testing.T) {
	if _, err := new(Scratch).Compress(nil, 5, nil); !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v, want Invalid", err)
	}
	if _, err := build(sample(1)).SealCompressed(0, 0, 9); !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v, want Invalid", err)
	}
}

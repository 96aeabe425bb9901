package journal

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/log/record"
)

// sealing is one commit group that touched so many partitions, from sealed batches to the pieces to write.
func sealing(partitions int) func() [][]byte {
	batches := make([]record.Batch, partitions)
	for i := range batches {
		var bu record.Builder
		bu.Reset(nil, 1_700_000_000_000)
		for range 10 {
			bu.Append(&record.Record{Timestamp: 1_700_000_000_123, Key: []byte("sensors/room1/temp"), Value: make([]byte, 100)})
		}
		batches[i] = bu.Seal(record.Offset(i), 1)
	}
	var f Frame
	return func() [][]byte {
		f.Reset()
		for i, b := range batches {
			f.AddBatch(uint32(i), b)
		}
		return f.layout(head{nonce: 1, pos: HeaderBytes, synced: 0, seq: 1, size: f.Size()})
	}
}

// TestFrameAllocs holds the framing of a commit group to no allocation and no copy of a batch.
func TestFrameAllocs(t *testing.T) {
	for _, partitions := range []int{1, 2, 3, 16, 1000} {
		frame := sealing(partitions)
		frame()
		if n := alloctest.PerRun(100, 0, func() { frame() }); n != 0 {
			t.Errorf("%d partitions: %v allocations", partitions, n)
		}
	}
}

// BenchmarkFrame frames a commit group of batches of 10 records; the checksums of the batches are part of Seal.
func BenchmarkFrame(b *testing.B) {
	for _, partitions := range []int{1, 100} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			frame := sealing(partitions)
			b.ReportAllocs()
			for b.Loop() {
				frame()
			}
		})
	}
}

// BenchmarkWriteSealed lays out a commit group of 16 batches of 10 KiB, plain and encrypted, as it is written past the
// system's cache.
func BenchmarkWriteSealed(b *testing.B) {
	secret := make([]byte, 32)
	wrapper, err := atrest.NewLocal(secret)
	if err != nil {
		b.Fatal(err)
	}
	ring, err := atrest.NewRing([]atrest.Wrapper{wrapper})
	if err != nil {
		b.Fatal(err)
	}
	sealing, err := ring.NewKey(atrest.Pieces, Name(1))
	if err != nil {
		b.Fatal(err)
	}
	var bu record.Builder
	bu.Reset(nil, 1_700_000_000_000)
	bu.Append(&record.Record{Timestamp: 1_700_000_000_123, Value: make([]byte, 10<<10)})
	batch := bu.Seal(0, 1)
	for name, key := range map[string]*atrest.Key{"plain": nil, "encrypted": sealing} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := &Writer{header: Header{Key: key}, end: HeaderBytes, stage: NewStage(1)}
			staged := make([]byte, stageBytes)
			var f Frame
			for b.Loop() {
				f.Reset()
				for i := range 16 {
					f.AddBatch(uint32(i), batch)
				}
				size := w.size(&f)
				b.SetBytes(size)
				l := w.lay(&f, size)
				for i := range l.pieces {
					copy(staged, l.next(i))
				}
			}
		})
	}
}

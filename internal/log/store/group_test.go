package store

import (
	"bytes"
	"testing"

	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// TestSlabHoldsBatchesAlone builds batches of changing sizes in one partition and in several at once: what was
// reserved for the newest and not needed goes to the next, and no batch touches another.
func TestSlabHoldsBatchesAlone(t *testing.T) {
	for _, partitions := range []int{1, 7} {
		g := &group{}
		var kept, copies [][]byte
		taken := 0
		parts := make([]*partition.Partition, partitions)
		for i := range parts {
			parts[i] = partition.New(stream.PartitionID(i), stream.Settings{MaxMessageBytes: 1 << 20})
			parts[i].Reserve.Store(12 << 10) // for the largest batch below
		}
		for round := range 20 {
			g.reset(uint64(round + 1))
			for n := range 1 + (19-round)*5 {
				for i, p := range parts {
					r := record.Record{Value: bytes.Repeat([]byte{byte(round), byte(i)}, 20+n%9)}
					g.add(p, &stream.Write{Record: &r}, r.EncodedSize())
				}
			}
			g.seal(0, 0)
			for i := range g.slots[:g.used] {
				b := g.slots[i].batches[0].bytes
				if cap(b) != len(b) {
					t.Fatalf("a batch of %d bytes could grow over its neighbour, up to %d", len(b), cap(b))
				}
				kept, copies = append(kept, b), append(copies, bytes.Clone(b))
				taken += len(b)
			}
		}
		if partitions == 1 && len(g.arena) != taken {
			t.Errorf("batches of %d bytes took %d of the slab", taken, len(g.arena))
		}
		for i := range kept {
			if !bytes.Equal(kept[i], copies[i]) {
				t.Fatalf("%d partitions: batch %d has changed", partitions, i)
			}
		}
	}
}

// TestBatchGrowsInTheSlab lets a batch outgrow what was reserved for it where nothing lies behind it: it grows where it
// is. Between two that are open at once it moves.
func TestBatchGrowsInTheSlab(t *testing.T) {
	for _, partitions := range []int{1, 2} {
		g := &group{}
		g.reset(1)
		w := stream.Write{Record: &record.Record{Value: make([]byte, 100)}}
		parts := make([]*partition.Partition, partitions)
		for i := range parts {
			parts[i] = partition.New(stream.PartitionID(i), stream.Settings{MaxMessageBytes: 1 << 20})
			g.add(parts[i], &w, w.Record.EncodedSize())
		}
		first := &g.slots[0].builder.Bytes()[0]
		for range 50 {
			for _, p := range parts {
				g.add(p, &w, w.Record.EncodedSize())
			}
		}
		g.seal(0, 0)
		b := g.slots[0].batches[0].bytes
		if here := &b[0] == first; here != (partitions == 1) {
			t.Errorf("%d partitions: the batch lies where it was: %v", partitions, here)
		}
		if err := b.Check(); err != nil || b.Count() != 51 {
			t.Errorf("%d partitions: %d records, %v", partitions, b.Count(), err)
		}
		if partitions == 1 && len(g.arena) != len(b) {
			t.Errorf("a batch of %d bytes takes %d of the slab", len(b), len(g.arena))
		}
	}
}

// TestLargeBatchesAreNotMoved lets a partition get ten times what was reserved for it: batches of 16 KiB and more are
// closed where their memory ends, and the next group reserves for all of it.
func TestLargeBatchesAreNotMoved(t *testing.T) {
	const reserved, total = 20 << 10, 200 << 10
	p := partition.New(0, stream.Settings{MaxMessageBytes: 1 << 20})
	p.Reserve.Store(reserved)
	g := &group{}
	for round, most := range []int{total / reserved, 1} {
		g.reset(uint64(round + 1))
		before := len(g.arena)
		w := stream.Write{Record: &record.Record{Value: make([]byte, 1000)}}
		for range total / 1000 {
			g.add(p, &w, w.Record.EncodedSize())
		}
		g.seal(0, 0)
		taken := 0
		for _, b := range g.slots[0].batches {
			taken += len(b.bytes)
		}
		if in := len(g.arena) - before; in != taken {
			t.Errorf("round %d: %d bytes of %d are in the slab", round, in, taken)
		}
		if n := len(g.slots[0].batches); n > most {
			t.Errorf("round %d: %d batches, at most %d", round, n, most)
		}
	}
}

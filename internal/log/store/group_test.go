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

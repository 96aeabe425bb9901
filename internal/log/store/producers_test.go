package store

import (
	"math/rand/v2"
	"testing"

	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/stream"
)

// TestBusyProducers runs random transactions of many producers: those that are looked at for what is under way are the
// ones that have something, and no others.
func TestBusyProducers(t *testing.T) {
	const many = 10_000
	var ps producers
	for id := range int64(many) {
		ps.know(id, 0)
	}
	parts := make([]*partition.Partition, 4)
	for i := range parts {
		parts[i] = partition.New(stream.PartitionID(i), stream.Settings{})
	}
	rng := rand.New(rand.NewPCG(1, 6))
	for group := uint64(1); group < 500; group++ {
		id := rng.Int64N(20)
		switch rng.IntN(6) {
		case 0:
			ps.end(&EndTxn{ProducerID: id}, group, func(*partition.Partition) {})
		case 1:
			ps.settle(id, group)
		case 2:
			ps.rollback(group - uint64(rng.IntN(3)))
		default:
			ps.join(id, parts[rng.IntN(len(parts))], group, 0)
		}
		want := 0
		for id, one := range ps.byID {
			if len(one.joined) > 0 {
				want++
				if ps.busy[id] != one {
					t.Fatalf("group %d: producer %d has something under way and is not busy", group, id)
				}
			}
		}
		if len(ps.busy) != want {
			t.Fatalf("group %d: %d are busy, want %d", group, len(ps.busy), want)
		}
	}
}

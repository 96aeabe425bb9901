package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
)

// TestTopicsWith changes a set over and over, now many topics and now one, and holds every snapshot, old ones
// included, to one made anew of the same topics.
func TestTopicsWith(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	now, model := NewTopics(nil), map[string]*Topic{}
	next := PartitionID(0)
	var ids []record.UUID
	type moment struct {
		ts   *Topics
		want []*Topic
	}
	var past []moment
	for step := range 3000 {
		changed := map[string]*Topic{}
		for range 1 + rng.IntN(3)*rng.IntN(40) {
			name := fmt.Sprintf("topic-%d", rng.IntN(400))
			old := model[name]
			switch rng.IntN(3) {
			case 0:
				changed[name] = nil
				delete(model, name)
			case 1: // another one of the same name, or a first
				made := &Topic{Name: name, ID: record.UUID{byte(step >> 8), byte(step), byte(len(ids) >> 8), byte(len(ids))}}
				for range 1 + rng.IntN(4) {
					made.Partitions = append(made.Partitions, next)
					next++
				}
				ids = append(ids, made.ID)
				changed[name], model[name] = made, made
			case 2: // the same with one partition more
				if old != nil {
					grown := *old
					grown.Partitions = append(slices.Clone(old.Partitions), next)
					next++
					changed[name], model[name] = &grown, &grown
				}
			}
		}
		now = now.With(changed)
		if step%300 == 7 {
			all := make([]*Topic, 0, len(model))
			for _, one := range model {
				all = append(all, one)
			}
			past = append(past, moment{now, all})
		}
	}
	for i, m := range past {
		want := NewTopics(m.want)
		if m.ts.Len() != want.Len() || !slices.Equal(m.ts.All(), want.All()) {
			t.Fatalf("snapshot %d: %d topics, not %d", i, m.ts.Len(), want.Len())
		}
		for n := range 400 {
			if name := fmt.Sprintf("topic-%d", n); m.ts.ByName(name) != want.ByName(name) {
				t.Fatalf("snapshot %d: %s", i, name)
			}
		}
		for p := range next {
			if m.ts.Place(p) != want.Place(p) {
				t.Fatalf("snapshot %d: partition %d: %+v, not %+v", i, p, m.ts.Place(p), want.Place(p))
			}
		}
		for _, id := range ids {
			if m.ts.ByID(id) != want.ByID(id) {
				t.Fatalf("snapshot %d: %v", i, id)
			}
		}
	}
}

// BenchmarkTopicsWith adds a topic to many: it must cost little more than adding it to few.
func BenchmarkTopicsWith(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", n), func(b *testing.B) {
			var all []*Topic
			for i := range n {
				id := record.UUID{byte(i >> 16), byte(i >> 8), byte(i)}
				all = append(all, &Topic{Name: fmt.Sprintf("topic-%d", i), ID: id, Partitions: []PartitionID{PartitionID(i)}})
			}
			first := NewTopics(all)
			now, i := first, 0
			for b.Loop() {
				if i++; i%1000 == 0 {
					now = first
				}
				made := &Topic{Name: fmt.Sprintf("more-%d", i), ID: record.UUID{1: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}}
				made.Partitions = []PartitionID{PartitionID(n + i)}
				now = now.With(map[string]*Topic{made.Name: made})
			}
		})
	}
}

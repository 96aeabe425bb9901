package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

func TestAppendAndReadAgainAfterReopening(t *testing.T) {
	fs := vfs.NewMemory()
	ctx := context.Background()
	for round := range 3 {
		s, err := store.Open(ctx, store.Options{FS: fs, JournalBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		topic := s.Topics().ByName("a")
		if topic == nil {
			if topic, err = s.CreateTopic(ctx, stream.TopicSpec{Name: "a", Partitions: 3}); err != nil {
				t.Fatal(err)
			}
		}
		done := make(receipt, 1)
		for i := range 1000 {
			r := record.Record{Key: []byte("k"), Value: fmt.Appendf(nil, "value %d of round %d", i, round)}
			if err := streamtest.Append(s, done, stream.Write{Partition: topic.Partitions[i%3], Record: &r}); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range topic.Partitions {
			b, err := s.Bounds(p)
			if err != nil {
				t.Fatal(err)
			}
			next := record.Offset(0)
			var it record.Iter
			var v record.View
			for next < b.High {
				batches, err := s.Read(p, next, 1000, nil)
				if err != nil || len(batches) == 0 {
					t.Fatalf("partition %d at %d: %d batches, %v", i, next, len(batches), err)
				}
				for _, b := range batches {
					if err := it.Reset(b, &record.Scratch{}); err != nil {
						t.Fatal(err)
					}
					for it.Next(&v) {
						if v.Offset != next {
							t.Fatalf("offset %d, want %d", v.Offset, next)
						}
						next++
					}
				}
			}
			if want := record.Offset((round + 1) * 333); next < want {
				t.Fatalf("round %d partition %d: %d records, want at least %d", round, i, next, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

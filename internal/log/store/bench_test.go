package store_test

import (
	"context"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// window lets a publisher have a bounded number of appends in flight.
type window struct{ free chan struct{} }

func (w *window) Appended(uint64, record.Offset, error) { w.free <- struct{}{} }

// BenchmarkAppend is 16 publishers with 64 messages of 100 bytes in flight each, on the real disk.
func BenchmarkAppend(b *testing.B) {
	fs, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "sensors"})
	if err != nil {
		b.Fatal(err)
	}
	const publishers, inFlight = 16, 64
	b.ReportAllocs()
	b.SetBytes(100)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			w := &window{free: make(chan struct{}, inFlight)}
			for range inFlight {
				w.free <- struct{}{}
			}
			r := record.Record{Key: []byte("sensors/room1/temp"), Value: make([]byte, 100)}
			ws := []stream.Write{{Partition: topic.Partitions[0], Record: &r}}
			for range b.N / publishers {
				<-w.free
				if err := s.Append(ws, w, 0); err != nil {
					b.Error(err)
					return
				}
			}
			for range inFlight {
				<-w.free
			}
		})
	}
	wg.Wait()
}

package spool_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/spool"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// slots are a receipt that lets so many units be under way.
type slots chan struct{}

// Appended implements stream.Receipt.
func (s slots) Appended(uint64, stream.Placed, error) { <-s }

// BenchmarkOutage acknowledges units of 100 bytes by a real disk while the cluster is away, 16 callers with so many
// under way each, and drains them to a cluster in memory. Without a spool it appends to that cluster only.
func BenchmarkOutage(b *testing.B) {
	for name, window := range map[string]int{"one": 1, "many": 64} {
		b.Run(name, func(b *testing.B) { outage(b, window) })
	}
}

// BenchmarkWell appends the same to a cluster in memory that takes it, with a spool before it and without: the
// price of a spool that is not needed.
func BenchmarkWell(b *testing.B) {
	for name, window := range map[string]int{"one": 1, "many": 64} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/spool=%t", name, with), func(b *testing.B) { well(b, window, with) })
		}
	}
}

func well(b *testing.B, window int, with bool) {
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var log stream.Keeper
	c, err := cluster.Open(context.Background(), cluster.Options{Seeds: f.ListenAddrs(), Hold: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	log = c
	if with {
		disk, err := vfs.NewDisk(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		s, err := spool.Open(context.Background(), c, spool.Options{FS: disk, Instance: "a", Patience: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		log = s
	}
	topic, err := log.CreateTopic(context.Background(), stream.TopicSpec{Name: "a", Partitions: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	load(b, log, topic.Partitions[0], window)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
}

func outage(b *testing.B, window int) {
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var way streamtest.Road
	c, err := cluster.Open(context.Background(), cluster.Options{
		Seeds: f.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(way.Dial)}, Hold: time.Hour, Patience: 5 * time.Second,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	disk, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := spool.Open(context.Background(), c, spool.Options{
		FS: disk, Instance: "a", Bytes: 8 << 30, Patience: 50 * time.Millisecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	topic, err := s.CreateTopic(context.Background(), stream.TopicSpec{Name: "a", Partitions: 1})
	if err != nil {
		b.Fatal(err)
	}
	way.Close(true)
	b.ResetTimer()
	load(b, s, topic.Partitions[0], window)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
	way.Close(false)
	units, began := s.Status().Units, time.Now()
	for s.Status().Units > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	b.ReportMetric(float64(units)/time.Since(began).Seconds(), "drained/s")
}

// load appends units by 16 callers with so many under way each.
func load(b *testing.B, log stream.Log, p stream.PartitionID, window int) {
	const callers = 16
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, callers)
	for range callers {
		go func() {
			mine := make(slots, window)
			u := early(string(make([]byte, 100)), p)
			for left.Add(-1) >= 0 {
				mine <- struct{}{}
				if err := stream.AppendWait(context.Background(), log, u, mine, 0); err != nil {
					done <- err
					return
				}
			}
			for range window {
				mine <- struct{}{}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

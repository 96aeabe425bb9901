package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// window is a caller with a bound on what it has under way.
type window chan struct{}

// Appended implements stream.Receipt.
func (w window) Appended(_ uint64, _ stream.Placed, err error) {
	if err != nil {
		panic(err)
	}
	<-w
}

// BenchmarkOnKafka appends units of 100 bytes from 16 callers with 64 under way each, and one at a time, and produces
// as many records with franz-go alone.
func BenchmarkOnKafka(b *testing.B) {
	seed := apache(b).seed
	c := open(b, cluster.Options{Seeds: []string{seed}})
	topic := create(b, c, "bench", 8, nil)
	b.Cleanup(func() { empty(b, c) })
	value := make([]byte, 100)
	const callers, underWay = 16, 64
	run := func(b *testing.B, unit func(w, i int) *stream.Unit) {
		b.ReportAllocs()
		var wg sync.WaitGroup
		for w := range callers {
			wg.Go(func() {
				told := make(window, underWay)
				for i := range b.N / callers {
					told <- struct{}{}
					if err := stream.AppendWait(context.Background(), c, unit(w, i), told, 0); err != nil {
						b.Error(err)
						return
					}
				}
				for range underWay {
					told <- struct{}{}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
	}
	write := func(w, i int) stream.Write {
		return stream.Write{Partition: topic.Partitions[(w+i)%8], Record: &record.Record{Value: value}}
	}
	b.Run("one partition", func(b *testing.B) {
		run(b, func(w, _ int) *stream.Unit { return &stream.Unit{Writes: []stream.Write{write(w, 0)}} })
	})
	b.Run("two partitions", func(b *testing.B) {
		run(b, func(w, _ int) *stream.Unit { return &stream.Unit{Writes: []stream.Write{write(w, 0), write(w, 1)}} })
	})
	owners := make([]stream.Owner, 8)
	for i := range owners {
		var err error
		if owners[i], err = c.Own(context.Background(), topic.Partitions[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("eight owners", func(b *testing.B) {
		run(b, func(w, _ int) *stream.Unit {
			return &stream.Unit{Writes: []stream.Write{write(w, 0)}, Owner: owners[w%8]}
		})
	})
	for name, lone := range map[string]*stream.Unit{
		"alone, one partition":  {Writes: []stream.Write{write(0, 0)}},
		"alone, two partitions": {Writes: []stream.Write{write(0, 0), write(0, 1)}},
		"alone, an owner":       {Writes: []stream.Write{write(0, 0)}, Owner: owners[0]},
	} {
		b.Run(name, func(b *testing.B) { oneByOne(b, c, lone) })
	}
	b.Run("franz-go", func(b *testing.B) { alone(b, seed, value, callers*underWay) })
}

// oneByOne appends a unit when the one before is there.
func oneByOne(b *testing.B, c stream.Keeper, u *stream.Unit) {
	took := make([]time.Duration, b.N)
	told := make(window, 1)
	for i := range took {
		began := time.Now()
		told <- struct{}{}
		if err := c.Append(u, told, 0); err != nil {
			b.Fatal(err)
		}
		told <- struct{}{} // there is room when it was told
		<-told
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// alone produces with franz-go, with so many records under way.
func alone(b *testing.B, seed string, value []byte, underWay int) {
	b.ReportAllocs()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(underWay))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	for i := range b.N {
		r := &kgo.Record{Topic: "bench", Partition: int32(i % 8), Value: value}
		cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				panic(fmt.Sprint(err))
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
}

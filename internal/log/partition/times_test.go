package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// shelves is a partition of spans with timestamps in any order, and all its extents.
func shelves(rng *rand.Rand, spans int) (*Partition, []segment.Extent) {
	p := New(1, stream.Settings{})
	var all []segment.Extent
	next := record.Offset(0)
	for range spans {
		f := &paper{name: "f"}
		for range 1 + rng.IntN(3) {
			e := segment.Extent{Base: next, Last: next + record.Offset(rng.IntN(4)), MaxTime: rng.Int64N(1000), Len: 100}
			f.extents, all, next = append(f.extents, e), append(all, e), e.Last+1
			p.Add(f, e)
		}
		if rng.IntN(2) == 0 { // sealed: the file knows its extents
			s := p.mu.spans[len(p.mu.spans)-1]
			p.Replace(f, f, &Summary{Base: s.Base, Last: s.Last, MaxTime: s.MaxTime, Bytes: s.Bytes})
		}
	}
	p.Restore(State{High: next})
	return p, all
}

// Whatever order the timestamps have and wherever the log begins, the place found is that of looking at
// everything from the start.
func TestTimesAreFoundAsByLookingAtAll(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p, all := shelves(rng, 1+rng.IntN(12))
		for start := record.Offset(0); start <= p.mu.high; start += record.Offset(1 + rng.IntN(5)) {
			p.Trim(start)
			largest, newest := int64(-1), p.mu.high
			for _, e := range all {
				if e.Last >= start && e.MaxTime > largest {
					largest, newest = e.MaxTime, max(e.Base, start)
				}
			}
			if got, err := p.Newest(0); err != nil || got != newest {
				t.Fatalf("seed %d from %d: newest at %d, %v; want %d", seed, start, got, err, newest)
			}
			for at := int64(0); at <= 1000; at += 37 {
				want := p.mu.high
				for _, e := range all {
					if e.Last >= start && e.MaxTime >= at {
						want = max(e.Base, start)
						break
					}
				}
				if got, err := p.AtTime(0, at); err != nil || got != want {
					t.Fatalf("seed %d from %d, time %d: %d, %v; want %d", seed, start, at, got, err, want)
				}
			}
		}
	}
}

// BenchmarkAtTime shows that a time is found in a long log about as fast as in a short one.
func BenchmarkAtTime(b *testing.B) {
	for _, spans := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(spans, " files"), func(b *testing.B) {
			p := New(1, stream.Settings{})
			for i := range spans {
				f := &paper{}
				p.Add(f, segment.Extent{Base: record.Offset(i), Last: record.Offset(i), MaxTime: int64(i), Len: 100})
			}
			p.Restore(State{High: record.Offset(spans)})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.AtTime(0, int64(spans/2)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

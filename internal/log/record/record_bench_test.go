package record

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

// device is a record as a device makes them: short key, small value.
var device = Record{
	Timestamp: 1_700_000_000_123,
	Key:       []byte("sensors/room1/temp"),
	Value:     []byte(`{"temperature":21.5,"humidity":40}`),
}

// deviceBatch holds n of them, one header each.
func deviceBatch(n int) *Builder {
	r := device
	r.Headers = []Header{{"content-type", []byte("application/json")}}
	var bu Builder
	bu.Reset(nil, r.Timestamp-100)
	for range n {
		bu.Append(&r)
	}
	return &bu
}

// TestAllocs holds the hot path to no allocation per record: neither building, sealing, splitting,
// judging nor walking takes any, and unpacking none either once the Scratch is warm.
func TestAllocs(t *testing.T) {
	const n = 100
	buf := make([]byte, 0, 64<<10)
	r := device
	r.Headers = []Header{{"a", []byte("1")}, {"b", nil}}
	guard(t, "build", 0, func() {
		var bu Builder
		bu.Reset(buf, device.Timestamp)
		for range n {
			bu.Append(&r)
		}
		bu.Seal(1, 2)
	})
	var s Scratch
	for codec := None; codec <= Zstd; codec++ {
		b, err := deviceBatch(n).SealCompressed(0, 0, codec)
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		if codec == LZ4 {
			want = 5 // its reader takes a few a batch
		}
		guard(t, "walk "+codec.String(), want, func() {
			var it Iter
			if err := it.Reset(b, &s); err != nil {
				t.Fatal(err)
			}
			seen := 0
			for v := (View{}); it.Next(&v); seen++ {
				if _, ok := v.Header("content-type"); !ok {
					t.Fatal("no header")
				}
				for key := range v.Headers {
					_ = key
				}
			}
			if seen != n {
				t.Fatalf("%d records", seen)
			}
		})
		guard(t, "validate "+codec.String(), want, func() {
			if _, _, err := Next(b); err != nil {
				t.Fatal(err)
			}
			if err := judge(b, 1<<20, &s); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func guard(t *testing.T, name string, most float64, f func()) {
	t.Helper()
	f()
	if got := alloctest.PerRun(100, most, f); got > most {
		t.Errorf("%s: %.0f allocations, at most %.0f allowed", name, got, most)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{34, 1024} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			r := device
			r.Value = make([]byte, size)
			buf := make([]byte, 0, 1<<20)
			var bu Builder
			bu.Reset(buf, r.Timestamp)
			b.SetBytes(int64(r.EncodedSize()))
			b.ReportAllocs()
			for b.Loop() {
				if bu.Len()+r.EncodedSize() > cap(buf) {
					bu.Reset(buf, r.Timestamp)
				}
				bu.Append(&r)
			}
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	bu := deviceBatch(100)
	b.SetBytes(int64(bu.Len()))
	b.ReportAllocs()
	for b.Loop() {
		bu.Seal(1, 1)
	}
}

// BenchmarkIter is per batch of 100 records: compressed ones of a header each, and as devices make them with
// payloads whose length takes two bytes.
func BenchmarkIter(b *testing.B) {
	for codec := None; codec <= Zstd; codec++ {
		b.Run(codec.String(), func(b *testing.B) { benchmarkIter(b, deviceBatch(100), codec) })
	}
	for _, headers := range []int{0, 1} {
		b.Run(fmt.Sprintf("value=100,headers=%d", headers), func(b *testing.B) {
			r := device
			r.Value = make([]byte, 100)
			r.Headers = []Header{{"mqtt.flags", []byte("1")}}[:headers]
			var bu Builder
			bu.Reset(nil, r.Timestamp-100)
			for range 100 {
				bu.Append(&r)
			}
			benchmarkIter(b, &bu, None)
		})
	}
}

func benchmarkIter(b *testing.B, bu *Builder, codec Codec) {
	b.SetBytes(int64(bu.Len()))
	batch, err := bu.SealCompressed(0, 0, codec)
	if err != nil {
		b.Fatal(err)
	}
	var s Scratch
	var it Iter
	var v View
	b.ReportAllocs()
	for b.Loop() {
		if err := it.Reset(batch, &s); err != nil {
			b.Fatal(err)
		}
		for it.Next(&v) {
			continue
		}
	}
}

// BenchmarkValidate is per batch: one small record, 100 small ones, one of 1 MiB.
func BenchmarkValidate(b *testing.B) {
	large := device
	large.Value = make([]byte, 1<<20)
	for name, batch := range map[string]Batch{
		"1 small": deviceBatch(1).Seal(0, 0), "100 small": deviceBatch(100).Seal(0, 0),
		"1 MiB": build([]Record{large}).Seal(0, 0),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := judge(batch, 2<<20, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

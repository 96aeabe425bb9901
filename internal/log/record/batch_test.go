package record

import (
	"bytes"
	"fmt"
	"testing"
)

// sample is n records with all that a record can have: nulls, empties, headers, times that go back.
func sample(n int) []Record {
	rs := make([]Record, n)
	for i := range rs {
		r := &rs[i]
		r.Timestamp = 1_700_000_000_000 + int64(i*i%7) - 3
		switch i % 4 {
		case 0:
			r.Key, r.Value = fmt.Appendf(nil, "sensors/room%d/temp", i), []byte("21.5")
		case 1:
			r.Key, r.Value = nil, bytes.Repeat([]byte{byte(i)}, i%300)
			if r.Value == nil {
				r.Value = []byte{}
			}
		case 2:
			r.Key, r.Value = []byte{}, nil
		case 3:
			r.Value = []byte{}
			r.Headers = []Header{{"a", []byte("1")}, {"", nil}, {"a", []byte("2")}, {"b", []byte{}}}
		}
	}
	return rs
}

func build(rs []Record) *Builder {
	bu := new(Builder)
	bu.Reset(nil, rs[0].Timestamp)
	for i := range rs {
		bu.Append(&rs[i])
	}
	return bu
}

// sameBytes keeps null and empty apart.
func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// wantRecords fails unless b holds rs from base on.
func wantRecords(t *testing.T, b Batch, s *Scratch, base Offset, rs []Record) {
	t.Helper()
	var it Iter
	if err := it.Reset(b, s); err != nil {
		t.Fatal(err)
	}
	var v View
	i := 0
	for ; it.Next(&v); i++ {
		if i >= len(rs) {
			t.Fatalf("more than %d records", len(rs))
		}
		r := &rs[i]
		if v.Offset != base+Offset(i) || v.Timestamp != r.Timestamp ||
			!sameBytes(v.Key, r.Key) || !sameBytes(v.Value, r.Value) {
			t.Fatalf("record %d is %+v, want %+v", i, v, r)
		}
		if v.HeaderCount != len(r.Headers) {
			t.Fatalf("record %d has %d headers, want %d", i, v.HeaderCount, len(r.Headers))
		}
		j := 0
		for key, value := range v.Headers {
			if h := r.Headers[j]; string(key) != h.Key || !sameBytes(value, h.Value) {
				t.Fatalf("record %d header %d is %q=%q, want %q=%q", i, j, key, value, h.Key, h.Value)
			}
			j++
		}
		if j != len(r.Headers) {
			t.Fatalf("record %d: range gave %d headers of %d", i, j, len(r.Headers))
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if i != len(rs) {
		t.Fatalf("%d records, want %d", i, len(rs))
	}
}

func TestRoundTrip(t *testing.T) {
	var s Scratch
	for _, n := range []int{1, 2, 63, 64, 65, 1000} {
		for codec := None; codec <= Zstd; codec++ {
			t.Run(fmt.Sprintf("%d/%s", n, codec), func(t *testing.T) {
				rs := sample(n)
				b, err := build(rs).SealCompressed(1<<40, 7, codec)
				if err != nil {
					t.Fatal(err)
				}
				if codec == None {
					b = build(rs).Seal(1<<40, 7)
				}
				if err := judge(b, 1<<20, &s); err != nil {
					t.Fatal(err)
				}
				if b.Attributes().Codec() != codec || b.LeaderEpoch() != 7 || int(b.Count()) != n ||
					b.LastOffset() != 1<<40+Offset(n)-1 {
					t.Fatalf("header: %v %d %d %d", b.Attributes().Codec(), b.LeaderEpoch(), b.Count(), b.LastOffset())
				}
				wantRecords(t, b, &s, 1<<40, rs)
			})
		}
	}
}

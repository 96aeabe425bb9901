package record

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// filtered is what Kafka's own cleaner made of the golden batches: see testdata/golden/Filter.java.
func filtered(t *testing.T) map[string]Batch {
	t.Helper()
	text, err := os.ReadFile("testdata/golden/kafka-clients-4.1.0-filtered.txt")
	if err != nil {
		t.Fatal(err)
	}
	batches := map[string]Batch{}
	for line := range strings.Lines(string(text)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		if batches[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
	}
	return batches
}

// filter keeps some records of a batch, and gives it a delete horizon if there are tombstones among them.
func filter(t *testing.T, b Batch, keep func(v *View) bool) Batch {
	t.Helper()
	const horizon = 1700000100000 + 5000 // as in Filter.java
	var it Iter
	tombstones := false
	var bu Builder
	for _, look := range []bool{true, false} {
		if !look {
			bu.ResetLike(nil, b)
			if tombstones && !b.Attributes().DeleteHorizon() {
				bu.SetDeleteHorizon(horizon)
			}
		}
		if err := it.Reset(b, &Scratch{}); err != nil {
			t.Fatal(err)
		}
		for v := (View{}); it.Next(&v); {
			switch {
			case !keep(&v):
			case look:
				tombstones = tombstones || v.Value == nil
			default:
				bu.AppendView(&v)
			}
		}
	}
	made, err := bu.SealLike(b, &Scratch{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestFilterAsKafka keeps some records of what Kafka's library wrote, and gets what its cleaner gets, byte for byte.
// What is compressed has the same header and the same records.
func TestFilterAsKafka(t *testing.T) {
	batches, want := golden(t), filtered(t)
	odd := func(v *View) bool { return v.Offset%2 == 1 }
	third := func(v *View) bool { return v.Offset%3 == 0 }
	values := func(v *View) bool { return v.Value != nil }
	nothing := func(*View) bool { return false }
	compared := 0
	for name, b := range batches {
		if b.Attributes().Control() {
			continue
		}
		made := map[string]Batch{
			"/odd": filter(t, b, odd), "/values": filter(t, b, values), "/nothing": filter(t, b, nothing),
			"/odd/third":   filter(t, want[name+"/odd"], third),
			"/odd/nothing": filter(t, want[name+"/odd"], nothing),
		}
		for how, got := range made {
			compared++
			if err := got.Check(); err != nil {
				t.Errorf("%s%s: %v", name, how, err)
			}
			w := want[name+how]
			if got.Attributes().Codec() != None {
				sameInside(t, name+how, got, w)
			} else if !bytes.Equal(got, w) {
				t.Errorf("%s%s:\n%x\nwant\n%x", name, how, got, w)
			}
		}
	}
	if compared != len(want) {
		t.Errorf("%d of %d batches were compared", compared, len(want))
	}
}

// sameInside holds two batches to the same header, but for length and checksum, and to the same records.
func sameInside(t *testing.T, name string, got, want Batch) {
	t.Helper()
	if !bytes.Equal(got[:atLength], want[:atLength]) || !bytes.Equal(got[atAttributes:BatchOverhead],
		want[atAttributes:BatchOverhead]) {
		t.Errorf("%s: header\n%x\nwant\n%x", name, got[:BatchOverhead], want[:BatchOverhead])
	}
	mine, err := (&Scratch{}).records(got)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := (&Scratch{}).records(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, theirs) {
		t.Errorf("%s: records\n%x\nwant\n%x", name, mine, theirs)
	}
}

package shred

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
)

// about has every record whose key is a go.
func about(v *record.View, r *record.Record) bool {
	if string(v.Key) != "a" {
		return false
	}
	*r = record.Record{Key: []byte("x"), Value: []byte{}, Headers: []record.Header{{Key: "gone", Value: []byte("1")}}}
	return true
}

func show(t *testing.T, b record.Batch) (text string) {
	t.Helper()
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	var it record.Iter
	if err := it.Reset(b, &record.Scratch{}); err != nil {
		t.Fatal(err)
	}
	for v := (record.View{}); it.Next(&v); {
		text += fmt.Sprintf(" %d@%d %s=%s", v.Offset, v.Timestamp, v.Key, v.Value)
		for key, value := range v.Headers {
			text += fmt.Sprintf(" %s:%s", key, value)
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBatch(t *testing.T) {
	for codec := record.None; codec.Known(); codec++ {
		var bu record.Builder
		bu.Reset(nil, 100)
		bu.SetProducer(7, 2, 40)
		bu.SetTransactional()
		for i, key := range []string{"a", "b", "a", "a"} {
			bu.Append(&record.Record{Timestamp: 100 + int64(i), Key: []byte(key), Value: []byte("v"),
				Headers: []record.Header{{Key: "h", Value: []byte("secret")}}})
		}
		b, err := bu.SealCompressed(10, 3, codec)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(b)
		run := Run{End: 13, Replace: about, Scratch: &record.Scratch{}}
		got, err := run.Batch(b)
		if err != nil {
			t.Fatal(err)
		}
		if want := " 10@100 x= gone:1 11@101 b=v h:secret 12@102 x= gone:1 13@103 a=v h:secret"; show(t, got) != want {
			t.Errorf("%v:%s, want%s", codec, show(t, got), want)
		}
		if !bytes.Equal(b, before) || run.Records != 2 {
			t.Errorf("%v: the batch was changed in place, or %d records went", codec, run.Records)
		}
		if got.ProducerID() != 7 || got.ProducerEpoch() != 2 || got.BaseSequence() != 40 || got.LeaderEpoch() != 3 ||
			got.Attributes() != b.Attributes() || got.MaxTimestamp() != 103 || got.LastOffset() != 13 {
			t.Errorf("%v: another header: %x", codec, got[:record.BatchOverhead])
		}
		again, err := run.Batch(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%v: it is not done at once: %v", codec, err)
		}
	}
}

// TestMarkers leaves control batches, and those without records, as they are.
func TestMarkers(t *testing.T) {
	run := Run{End: 100, Replace: func(*record.View, *record.Record) bool { return true }}
	marker := record.NewMarker(7, 0, 1, true, 100)
	if got, err := run.Batch(marker); err != nil || !bytes.Equal(got, marker) {
		t.Fatal(got, err)
	}
}

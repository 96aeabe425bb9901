package streamtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// compacted writes few keys over and over until most of the records are gone: offsets and stamps stay as they were, the
// last of each key is there, and a scan goes on from every offset.
func compacted(t *testing.T, k *Kept) {
	k.needs(t, "Compact", k.Compact != nil)
	config := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "retention.ms": "-1"}
	maps.Copy(config, k.Compact.Config)
	spec := stream.TopicSpec{Name: "a", Partitions: 1, Config: config}
	topic, err := k.CreateTopic(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p := topic.Partitions[0]
	const records, keys = 300, 10
	began := time.Now().UnixMilli() - records
	written := map[record.Offset]string{} // key and value
	last := map[string]record.Offset{}
	var batch []record.Record
	for i := range records {
		key, value := fmt.Sprint(i%keys), fmt.Sprintf("%0200d", i)
		batch = append(batch, record.Record{Timestamp: began + int64(i), Key: []byte(key), Value: []byte(value)})
		written[record.Offset(i)], last[key] = key+" "+value, record.Offset(i)
	}
	if at := put(t, k, p, batch...); at != 0 {
		t.Fatalf("the first record is at %d", at)
	}
	left := shrink(t, k, p, records/2)
	for at, kv := range left {
		if at < records && kv != written[at] {
			t.Errorf("offset %d: %.20q, it was %.20q", at, kv, written[at])
		}
	}
	for key, at := range last {
		if left[at] != written[at] {
			t.Errorf("the last record of key %s, at %d, is gone", key, at)
		}
	}
	checkGaps(t, k, p, records)
	for i := int64(0); i < records; i += 7 {
		at, stamp, err := k.OffsetForTime(context.Background(), p, began+i)
		if err != nil || left[at] == "" || stamp < began+i || at < record.Offset(i) {
			t.Errorf("by time %d: offset %d, stamp %d, %v", i, at, stamp-began, err)
		}
	}
	f, err := stream.Fold(context.Background(), k, p, 0, func(*record.View) error { return nil })
	if err != nil || !f.Complete() || f.Records < int64(keys) {
		t.Errorf("folded %+v, %v", f, err)
	}
}

// shrink writes a little and looks, over and over, until few of the records below an offset are left, and gives all
// that there are by offset.
func shrink(t *testing.T, k *Kept, p stream.PartitionID, few int) map[record.Offset]string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(3 * patience); time.Now().Before(limit); <-tick.C {
		put(t, k, p, record.Record{
			Timestamp: time.Now().UnixMilli(), Key: []byte("tick"), Value: []byte(strings.Repeat("x", k.Compact.Bytes)),
		})
		left := map[record.Offset]string{}
		each(t, k, p, 0, func(v *record.View) { left[v.Offset] = string(v.Key) + " " + string(v.Value) })
		if len(left) < few {
			return left
		}
	}
	t.Fatal("nothing was compacted")
	return nil
}

// checkGaps begins a scan at every offset: it visits one at or behind it, or goes on.
func checkGaps(t *testing.T, k *Kept, p stream.PartitionID, end record.Offset) {
	t.Helper()
	bounds, err := k.Bounds(p)
	if err != nil || bounds.Start != 0 {
		t.Fatalf("bounds %+v, %v", bounds, err)
	}
	for from := range end {
		behind := record.Offset(-1)
		next, err := k.Scan(p, from, stream.ScanOptions{MaxBytes: 1}, func(v *record.View) bool {
			if v.Offset < from || v.Offset <= behind {
				t.Errorf("from %d: visited %d behind %d", from, v.Offset, behind)
			}
			behind = v.Offset
			return true
		})
		if err != nil || next <= from || next <= behind {
			t.Fatalf("from %d: visited up to %d, goes on at %d, %v", from, behind, next, err)
		}
	}
}

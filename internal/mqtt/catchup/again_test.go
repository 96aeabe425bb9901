package catchup_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

func sent(p stream.PartitionID, offsets ...int64) (all []fanout.Sent) {
	for _, o := range offsets {
		all = append(all, fanout.Sent{From: session.Place{Partition: uint32(p), Offset: o}, QoS: 1})
	}
	return all
}

func nobody(*hinge.Message) fanout.Wants { return fanout.Wants{} }

// again reads messages again: their numbers, -1 for those that are gone.
func again(t *testing.T, a *fanout.Again) (numbers []int) {
	t.Helper()
	var d fanout.Delivery
	for a.Next(&d) {
		if d.Frame == nil {
			numbers = append(numbers, -1)
			continue
		}
		if d.QoS != 1 || d.ID == 0 || !d.CatchUp {
			t.Errorf("%+v", d)
		}
		numbers = append(numbers, int(binary.BigEndian.Uint32(d.Frame[len(d.Frame)-104:])))
	}
	return numbers
}

// TestAgain reads again what was sent, in the order in which it was, and reads what lies side by side once.
func TestAgain(t *testing.T) {
	c := &counted{}
	h := open(t, store.Options{}, func(o *fanout.Options) { c.Log = o.Log; o.Log = c })
	topic := h.topic("sent", 2, nil)
	h.produce(topic.Partitions[0], "sent/0", 0, 1000)
	h.produce(topic.Partitions[1], "sent/1", 5000, 1000)
	var all []fanout.Sent
	var want []int
	for i := range 300 {
		all = append(all, sent(topic.Partitions[0], int64(2*i))...)
		all = append(all, sent(topic.Partitions[1], int64(999-i))...)
		want = append(want, 2*i, 5999-i)
	}
	all, want = append(all, sent(topic.Partitions[0], 7, 7, 5000)...), append(want, 7, 7, -1)
	c.records.Store(0)
	a := h.f.Again(all, packet.V5, nobody)
	if got := again(t, a); !slices.Equal(got, want) || a.Err() != nil {
		t.Errorf("got %v, %v", got, a.Err())
	}
	if n := c.records.Load(); n > 3000 {
		t.Errorf("%d records were read for %d", n, len(all))
	}
}

// TestAgainAsItIsNow gives a message the subscription identifiers and the RETAIN flag of what matches now, also one
// that has expired since it was sent [MQTT-4.3.3-7].
func TestAgainAsItIsNow(t *testing.T) {
	h := open(t, store.Options{}, nil)
	p := h.topic("form", 1, nil).Partitions[0]
	add := func(p stream.PartitionID, at int64, key, value string, headers ...record.Header) {
		t.Helper()
		done := make(receipt, 1)
		r := record.Record{Timestamp: at, Key: []byte(key), Value: []byte(value), Headers: headers}
		if err := streamtest.Append(h.log, done, stream.Write{Partition: p, Record: &r}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UnixMilli()
	retained := record.Header{Key: hinge.HeaderFlags, Value: []byte("5")}
	short := record.Header{Key: hinge.HeaderExpiry, Value: []byte("1")}
	add(p, now, "form/a", "v", retained)
	add(p, now-5000, "form/a", "v", short)
	r := h.topic("__firth_retained", 1, map[string]string{"cleanup.policy": "compact"}).Partitions[0]
	add(r, now, "form/r", "v", retained)
	add(r, now, "form/r", "")
	all := append(sent(p, 0, 1), sent(r, 0, 1)...)
	for _, asPublished := range []bool{true, false} {
		a := h.f.Again(all, packet.V5, func(*hinge.Message) fanout.Wants {
			return fanout.Wants{IDs: []uint32{7, 8}, AsPublished: asPublished}
		})
		for i, want := range []string{"form/a", "form/a", "form/r", ""} {
			var d fanout.Delivery
			if !a.Next(&d) || d.From != all[i].From || (d.Frame == nil) != (want == "") {
				t.Fatalf("%d: %+v, %v", i, d, a.Err())
			}
			if want == "" {
				continue
			}
			frame := slices.Clone(d.Frame)
			frame[d.ID+1] = 9
			got, err := (&packet.Decoder{Version: packet.V5, Client: true}).Decode(frame)
			p, is := got.(*packet.Publish)
			if err != nil || !is || string(p.Topic) != want || p.Retain != (asPublished && i == 0 || i == 2) ||
				!slices.Equal(p.Props.SubscriptionIDs, []uint32{7, 8}) || p.QoS != 1 {
				t.Errorf("%d: %+v, %v", i, got, err)
			}
		}
		if a.Next(&fanout.Delivery{}) || a.Err() != nil {
			t.Errorf("there is more, or %v", a.Err())
		}
	}
}

// TestAgainWhatIsGone passes over what a damaged disk and deleted topics have taken away, and tries again what it could
// not read for now.
func TestAgainWhatIsGone(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	damaged := logtest.New(t, "damaged records cannot be read", "a message cannot be read")
	h := open(t, store.Options{FS: faulty, CacheBytes: 1, Logger: damaged}, nil)
	p := h.topic("lost", 1, nil).Partitions[0]
	deleted := h.topic("deleted", 1, nil).Partitions[0]
	h.produce(deleted, "deleted/x", 0, 10)
	for i := range 20 {
		h.produce(p, fmt.Sprintf("lost/%d", i), i*50, 50)
	}
	if err := h.log.DeleteTopic(context.Background(), "deleted"); err != nil {
		t.Fatal(err)
	}
	all := append(append(sent(p, 10), sent(deleted, 3)...), sent(p, 990)...)
	a := h.f.Again(all, packet.V5, nobody)
	faulty.Inject(vfs.Fault{On: vfs.OpRead, Times: 2, Kind: fault.IO})
	failed := 0
	var got []int
	for len(got) < len(all) {
		got = append(got, again(t, a)...)
		if a.Err() != nil {
			failed++
		}
	}
	if want := []int{10, -1, 990}; !slices.Equal(got, want) || failed == 0 {
		t.Errorf("got %v, not %v, after %d failures", got, want, failed)
	}
	vfstest.Flip(t, disk, "log", []byte("lost/7"), 0)
	got = again(t, h.f.Again(sent(p, 10, 350, 351, 990), packet.V5, nobody))
	if want := []int{10, -1}; len(got) != 4 || !slices.Equal(got[:2], want) || got[3] != 990 {
		t.Errorf("got %v, the damaged one lies at 350", got)
	}
}

package cluster_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

func exactly(t *testing.T, c *cluster.Cluster, id int64) *cluster.Exact {
	t.Helper()
	e, err := c.Exact(t.Context(), "test", id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func copiedTo(t *testing.T, e *cluster.Exact, p stream.PartitionID) *cluster.Copied {
	t.Helper()
	d, err := e.Partition(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func counted(from, n int) (all []record.Record) {
	for i := from; i < from+n; i++ {
		all = append(all, record.Record{Timestamp: 1, Value: fmt.Append(nil, i)})
	}
	return all
}

func testExact(t *testing.T, c *cluster.Cluster, fences bool) {
	p := create(t, c, "exact", 1, nil).Partitions[0]
	e := exactly(t, c, -1)
	d := copiedTo(t, e, p)
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(d.Pad(t.Context(), 5, 1))
	step(d.Append(t.Context(), counted(5, 3)))
	step(d.Pad(t.Context(), 9, 1)) // one offset: the marker alone
	step(d.Append(t.Context(), counted(9, 1)))
	step(d.Pad(t.Context(), 12, 1))
	next := copiedTo(t, exactly(t, c, e.ID()), p) // of who comes after one that was killed
	if next.End() != 12 {
		t.Errorf("the copy ends at %d", next.End())
	}
	step(d.Append(t.Context(), counted(12, 2))) // what the one before had under way comes late
	if err := next.Append(t.Context(), counted(12, 3)); err == nil {
		t.Error("the same records were taken in twice")
	}
	if fences { // kfake takes the epoch of before for the present one
		if err := d.Pad(t.Context(), 20, 1); err == nil {
			t.Error("who was there before still fills offsets")
		}
	}
	next = copiedTo(t, exactly(t, c, e.ID()), p)
	if next.End() != 14 {
		t.Errorf("the copy ends at %d", next.End())
	}
	step(next.Append(t.Context(), counted(14, 2)))
	step(c.Trim(t.Context(), p, 5))
	var at []string
	b, err := c.Bounds(p)
	step(err)
	for from := b.Start; from < b.Stable; {
		from, err = c.Scan(p, from, stream.ScanOptions{}, func(v *record.View) bool {
			at = append(at, fmt.Sprintf("%d=%s", v.Offset, v.Value))
			return true
		})
		step(err)
	}
	want := []string{"5=5", "6=6", "7=7", "9=9", "12=12", "13=13", "14=14", "15=15"}
	if !slices.Equal(at, want) || b.Start != 5 || b.High != 16 {
		t.Errorf("%q in %+v", at, b)
	}
}

// TestExact: records get the offsets they had, and nothing is there twice, however late it comes.
func TestExact(t *testing.T) {
	testExact(t, open(t, cluster.Options{Seeds: fake(t).ListenAddrs()}), false)
}

func TestExactOnKafka(t *testing.T) {
	c := open(t, cluster.Options{Seeds: []string{apache(t).seed}})
	testExact(t, c, true)
	empty(t, c)
}

// TestExactUnreplicated: a copier was killed, and not all replicas have its last batch yet. The next begins behind it.
func TestExactUnreplicated(t *testing.T) {
	f := fake(t)
	c := open(t, cluster.Options{Seeds: f.ListenAddrs()})
	p := create(t, c, "exact", 1, nil).Partitions[0]
	e := exactly(t, c, -1)
	if err := copiedTo(t, e, p).Append(t.Context(), counted(0, 3)); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32 // for what the leader has, and then for what all replicas have
	f.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.ListOffsetsRequest)
		switch n := asked.Load(); {
		case r.ReplicaID >= 0: // a replica sees all
			asked.Store(max(n, 1))
			return nil, nil, false
		case n > 3:
			return nil, nil, false
		case n > 0:
			asked.Store(n + 1)
		}
		resp := r.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, t := range r.Topics {
			topic := kmsg.NewListOffsetsResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				one := kmsg.NewListOffsetsResponseTopicPartition()
				one.Partition, one.Offset = p.Partition, 0
				topic.Partitions = append(topic.Partitions, one)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	next := copiedTo(t, exactly(t, c, e.ID()), p)
	if next.End() != 3 {
		t.Errorf("the copy ends at %d", next.End())
	}
	// kfake does not tell of producers: the last number is looked for in what can be read.
	if err := next.Append(t.Context(), counted(3, 2)); fault.KindOf(err) != fault.IO {
		t.Errorf("a batch with the numbers of the first one: %v", err)
	}
	next = copiedTo(t, exactly(t, c, e.ID()), p)
	if err := next.Append(t.Context(), counted(3, 2)); err != nil || next.End() != 5 {
		t.Errorf("the copy ends at %d: %v", next.End(), err)
	}
}

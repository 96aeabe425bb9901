package torture

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	thousandStart = time.Second // bound of a start with 1,000 partitions
	idleBound     = 100 << 20   // bound of resident memory in bytes with 1,000 idle partitions
	settleLimit   = 15 * time.Second
	starts        = 3 // the quickest counts, without the time that the machine gave to others
)

// TestThousandPartitions makes 100 topics of 10 partitions, writes to all of them, and starts again: in less
// than a second, and idle in less than 100 MiB.
func TestThousandPartitions(t *testing.T) {
	f := measureScale(t, 100, 10)
	if f.afterStop > thousandStart || f.afterKill > thousandStart {
		t.Errorf("start: %v after SIGTERM, %v after SIGKILL; at most %v", f.afterStop, f.afterKill, thousandStart)
	}
	if f.idle > idleBound {
		t.Errorf("idle with %d MiB, at most %d", f.idle>>20, idleBound>>20)
	}
}

// TestTenThousandPartitions measures ten times as many; only what is absurd fails it.
func TestTenThousandPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	f := measureScale(t, 100, 100)
	if f.afterKill > 10*time.Second || f.idle > 1<<30 {
		t.Errorf("start %v, idle with %d MiB", f.afterKill, f.idle>>20)
	}
}

// figures are what is measured of a number of partitions.
type figures struct {
	empty, afterStop, afterKill time.Duration // start to ready
	create, produce             time.Duration
	emptyIdle, loaded, idle     int64 // resident bytes: empty, after producing, started again and idle
}

func measureScale(t *testing.T, topics, parts int) (f figures) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := newServer(t)
	var err error
	f.empty, err = s.start()
	must(err)
	f.emptyIdle = settled(t, s)
	begin := time.Now()
	must(makeTopics(ctx, s.kafka, topics, parts))
	f.create = time.Since(begin)
	begin = time.Now()
	must(produceToAll(ctx, s.kafka, topics, parts))
	f.produce = time.Since(begin)
	f.loaded = settled(t, s)
	again := func(end func() error) time.Duration {
		t.Helper()
		best := time.Hour
		for range starts {
			must(end())
			took, err := s.start()
			must(err)
			best = min(best, max(took-s.waited(), 0))
		}
		return best
	}
	f.afterStop = again(s.stop)
	f.afterKill = again(func() error { s.kill(); return nil })
	f.idle = settled(t, s)

	var now finds
	must(readAll(ctx, s.kafka, &now))
	if len(now.log) != topics*parts {
		t.Fatalf("%d partitions have records, want %d", len(now.log), topics*parts)
	}
	for at, rs := range now.log {
		if len(rs) != 1 || rs[0].value != at.String() {
			t.Fatalf("%s holds %v", at, rs)
		}
	}
	must(s.stop())
	t.Logf("%d topics, %d partitions: created in %v, one record to each in %v; start %v empty, %v after SIGTERM, "+
		"%v after SIGKILL; resident %.1f MiB empty, %.1f MiB after producing, %.1f MiB started again and idle",
		topics, topics*parts, f.create.Round(time.Millisecond), f.produce.Round(time.Millisecond),
		f.empty.Round(time.Millisecond), f.afterStop.Round(time.Millisecond), f.afterKill.Round(time.Millisecond),
		mib(f.emptyIdle), mib(f.loaded), mib(f.idle))
	return f
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// settled is the resident memory once it stays the same for a second.
func settled(t *testing.T, s *server) int64 {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := int64(-1)
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); <-tick.C {
		now, err := s.resident()
		if err != nil {
			t.Fatal(err)
		}
		if diff := now - last; diff < 1<<18 && diff > -(1<<18) {
			return now
		}
		last = now
	}
	return last
}

func scaleTopic(n int) string { return "topic" + strconv.Itoa(n) }

func makeTopics(ctx context.Context, address string, topics, parts int) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	names := make([]string, topics)
	for n := range names {
		names[n] = scaleTopic(n)
	}
	answer, err := kadm.NewClient(c).CreateTopics(ctx, int32(parts), 1, nil, names...)
	if err != nil {
		return err
	}
	return answer.Error()
}

// produceToAll writes one record to every partition: its own name.
func produceToAll(ctx context.Context, address string, topics, parts int) error {
	c, err := dialKafka(address, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	var records []*kgo.Record
	for n := range topics {
		for p := range parts {
			at := place{scaleTopic(n), int32(p)}
			records = append(records, &kgo.Record{Topic: at.topic, Partition: at.index, Value: []byte(at.String())})
		}
	}
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("producing: %w", err)
	}
	return nil
}

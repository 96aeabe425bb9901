package catchup_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
)

// dropped is the counter of messages that nobody got for a reason.
func dropped(set *telemetry.Set, reason string) int {
	rec := httptest.NewRecorder()
	set.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if value, is := strings.CutPrefix(line, fmt.Sprintf("firth_mqtt_fanout_dropped_total{reason=%q} ", reason)); is {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return -1
}

// TestFailedReadLosesNothing is E1: a member that is behind reads from a disk that fails now and then. It gets every
// message, once and in order, and a member that is behind in a partition that can be read is not held up.
func TestFailedReadLosesNothing(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	set := telemetry.New()
	h := open(t, store.Options{FS: disk, CacheBytes: 1}, func(o *fanout.Options) {
		o.Metrics, o.Logger = set, logtest.New(t, "cannot read for delivery, trying again")
	})
	p := h.topic("fail", 1, nil).Partitions[0]
	s := newSink(0)
	m := h.join(s, "fail/#", 1)
	const count = 5000
	h.produce(p, "fail/1", 0, count)
	<-s.full
	disk.Inject(vfs.Fault{On: vfs.OpRead, Times: 5, Kind: fault.IO})
	s.give(-1)
	m.Wake()
	eventually(t, "all messages", func() bool { return s.count() >= count })
	s.whole(t, "fail/1", 0, count-1)
	for _, reason := range []string{"corrupt", "retention"} {
		if n := dropped(set, reason); n != 0 {
			t.Errorf("%d dropped: %s", n, reason)
		}
	}
}

// TestDamageCostsWhatIsDamaged is E1: of what lies in a damaged batch nothing comes, and all the rest does.
func TestDamageCostsWhatIsDamaged(t *testing.T) {
	disk := vfs.NewMemory()
	set := telemetry.New()
	damaged := logtest.New(t, "damaged records cannot be read", "records cannot be read")
	h := open(t, store.Options{FS: disk, CacheBytes: 1, Logger: damaged}, func(o *fanout.Options) {
		o.Metrics, o.Logger = set, damaged
	})
	p := h.topic("harm", 1, nil).Partitions[0]
	s := newSink(0)
	m := h.join(s, "harm/#", 1)
	const rounds, each, bad = 20, 50, 7
	for i := range rounds {
		h.produce(p, fmt.Sprintf("harm/%d", i), i*each, each)
	}
	<-s.full
	vfstest.Flip(t, disk, "log", fmt.Appendf(nil, "harm/%d", bad), 0)
	s.give(-1)
	m.Wake()
	eventually(t, "the last message", func() bool { return len(s.numbers("harm/19")) == each })
	lost := dropped(set, "corrupt")
	if lost < 1 || lost > each {
		t.Errorf("%d counted as damaged", lost)
	}
	if n := s.count(); n != rounds*each-lost {
		t.Errorf("%d messages came of %d, %d are counted as damaged", n, rounds*each, lost)
	}
	for i := range rounds {
		if i != bad {
			s.whole(t, fmt.Sprintf("harm/%d", i), i*each, i*each+each-1)
		}
	}
}

// TestPoison is E13: a message over which a session panics costs that message, live and behind.
func TestPoison(t *testing.T) {
	set := telemetry.New()
	h := open(t, store.Options{}, func(o *fanout.Options) {
		o.Metrics, o.Logger = set, logtest.New(t, "a record cannot be delivered")
	})
	p := h.topic("poison", 1, nil).Partitions[0]
	live, behind := newSink(-1), newSink(0)
	live.poison, behind.poison = 7, 8
	h.join(live, "poison/#", 1)
	m := h.join(behind, "poison/#", 1)
	h.produce(p, "poison/1", 0, 20)
	<-behind.full
	behind.give(-1)
	m.Wake()
	for s, bad := range map[*sink]int{live: 7, behind: 8} {
		eventually(t, "the other messages", func() bool { return s.count() == 19 })
		for i, n := range s.numbers("poison/1") {
			if want := i; n != want && (i < bad || n != want+1) {
				t.Fatalf("message %d is number %d", i, n)
			}
		}
	}
	if n := dropped(set, "panic"); n != 2 {
		t.Errorf("%d records counted, not 2", n)
	}
}

// gated is a log whose old records nobody can read while the gate is closed, as if the disk stood still.
type gated struct {
	stream.Log
	part    stream.PartitionID
	old     atomic.Int64 // offsets of it below this; 0: none
	waiting atomic.Int32
	gate    chan struct{}
}

// Scan implements stream.Log.
func (g *gated) Scan(
	p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (record.Offset, error) {
	if p == g.part && int64(from) < g.old.Load() {
		g.waiting.Add(1)
		<-g.gate
	}
	return g.Log.Scan(p, from, o, visit)
}

// TestLaggardHoldsNobodyUp is E18: while a member that is behind waits for the disk, live delivery goes on in its
// partition and in all others, and those that fall behind later are served too.
func TestLaggardHoldsNobodyUp(t *testing.T) {
	g := &gated{gate: make(chan struct{})}
	h := open(t, store.Options{}, func(o *fanout.Options) {
		g.Log = o.Log
		o.Log, o.Workers = g, 1
	})
	topic := h.topic("gate", 2, nil)
	g.part = topic.Partitions[0]
	live, slow := newSink(-1), newSink(0)
	h.join(live, "gate/#", 1)
	m := h.join(slow, "gate/0", 1)
	h.produce(topic.Partitions[0], "gate/0", 0, 1000)
	<-slow.full
	eventually(t, "live is at the head", func() bool { return live.count() == 1000 })
	g.old.Store(1000)
	slow.give(-1)
	m.Wake()
	eventually(t, "the one behind waits for the disk", func() bool { return g.waiting.Load() == 1 })
	for i := range 20 {
		h.produce(topic.Partitions[0], "gate/0", 1000+i*10, 10)
		h.produce(topic.Partitions[1], "gate/1", i*10, 10)
	}
	eventually(t, "live delivery goes on", func() bool { return live.count() == 1400 })
	live.whole(t, "gate/0", 0, 1199)
	live.whole(t, "gate/1", 0, 199)
	if n := slow.count(); n != 0 {
		t.Errorf("the one behind got %d messages without a disk", n)
	}
	close(g.gate)
	eventually(t, "the one behind catches up", func() bool { return slow.count() == 1200 })
	slow.whole(t, "gate/0", 0, 1199)
	eventually(t, "it is live again", func() bool { return h.behind.Len() == 0 })
}

// TestOnePassForMany lets many members return at once: they read the log together.
func TestOnePassForMany(t *testing.T) {
	c := &counted{}
	h := open(t, store.Options{}, func(o *fanout.Options) {
		c.Log = o.Log
		o.Log, o.TurnBytes = c, 256<<10
	})
	p := h.topic("many", 1, nil).Partitions[0]
	const members, count = 200, 3000
	sinks := make([]*sink, members)
	joined := make([]*fanout.Member, members)
	for i := range sinks {
		sinks[i] = newSink(0)
		joined[i] = h.join(sinks[i], "many/#", 1)
	}
	h.produce(p, "many/1", 0, count)
	for _, s := range sinks {
		<-s.full
	}
	c.records.Store(0)
	for i, s := range sinks {
		s.give(-1)
		joined[i].Wake()
	}
	for _, s := range sinks {
		eventually(t, "all messages", func() bool { return s.count() == count })
		s.whole(t, "many/1", 0, count-1)
	}
	if n := c.records.Load(); n > 20*count {
		t.Errorf("%d records were read for %d members, who share %d", n, members, count)
	}
}

// counted is a log that counts what is read.
type counted struct {
	stream.Log
	records atomic.Int64
}

// Scan implements stream.Log.
func (c *counted) Scan(
	p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (record.Offset, error) {
	return c.Log.Scan(p, from, o, func(v *record.View) bool {
		c.records.Add(1)
		return visit(v)
	})
}

// TestLeaveBehind: a member that leaves while it is behind, also while its partition cannot be read, is forgotten.
func TestLeaveBehind(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := open(t, store.Options{FS: disk, CacheBytes: 1}, func(o *fanout.Options) {
		o.Logger = logtest.New(t, "cannot read for delivery, trying again")
	})
	topic := h.topic("left", 3, nil)
	var wg sync.WaitGroup
	members := make([]*fanout.Member, 50)
	sinks := make([]*sink, len(members))
	for i := range members {
		sinks[i] = newSink(i % 3)
		members[i] = h.join(sinks[i], "left/#", 1)
	}
	for i, p := range topic.Partitions {
		h.produce(p, fmt.Sprintf("left/%d", i), 0, 300)
	}
	eventually(t, "all are behind", func() bool { return h.behind.Len() >= len(members) })
	disk.Inject(vfs.Fault{On: vfs.OpRead, Times: -1, Kind: fault.IO})
	for i, m := range members {
		wg.Go(func() {
			sinks[i].give(5)
			m.Wake()
			time.Sleep(time.Duration(i%5) * time.Millisecond)
			h.f.Leave(m)
		})
	}
	wg.Wait()
	disk.Heal()
	eventually(t, "all are forgotten", func() bool { return h.behind.Len() == 0 })
}

package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/spool"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(patient{m}, goleak.Cleanup(os.Exit))
}

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

// world is a cluster and a node before it.
type world struct {
	t    *testing.T
	f    *kfake.Cluster
	way  *streamtest.Road
	fs   *vfs.Memory
	opt  spool.Options
	log  *cluster.Cluster
	node *spool.Spool

	expected []string       // what may be logged as an error
	dead     sync.WaitGroup // nodes that were killed end on their own
}

func newWorld(t *testing.T) *world {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, f: f, fs: vfs.NewMemory()}
	w.opt = spool.Options{Instance: "a", Patience: 50 * time.Millisecond}
	t.Cleanup(func() {
		w.stop()
		w.dead.Wait()
		f.Close()
	})
	return w
}

// start starts the node, with what its disk has.
func (w *world) start() {
	w.t.Helper()
	w.way = new(streamtest.Road)
	logger := logtest.New(w.t, w.expected...)
	var err error
	w.log, err = cluster.Open(context.Background(), cluster.Options{
		Seeds: w.f.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(w.way.Dial)}, Hold: time.Hour, Patience: 5 * time.Second,
		OwnerTimeout: time.Minute, Logger: logger,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.opt.FS, w.opt.Logger = w.fs, logger
	if w.node, err = spool.Open(context.Background(), w.log, w.opt); err != nil {
		w.t.Fatal(err)
	}
}

// stop ends the node.
func (w *world) stop() {
	if w.node == nil {
		return
	}
	if err := w.node.Close(); err != nil {
		w.t.Error(err)
	}
	_ = w.log.Close() // with the road closed it cannot send what it has
	w.node = nil
}

// kill ends the node without a word: its disk is as a crash leaves it, and the cluster hears nothing more.
func (w *world) kill(rng *rand.Rand) {
	w.way.Close(true)
	w.fs = w.fs.CrashClone(rng)
	node, log := w.node, w.log
	w.dead.Go(func() { _ = errors.Join(node.Close(), log.Close()) }) // it has what the crash has not
	w.node = nil
}

func (w *world) topic(name string, partitions int) *stream.Topic {
	w.t.Helper()
	if topic := w.node.Topics().ByName(name); topic != nil {
		return topic
	}
	topic, err := w.node.CreateTopic(context.Background(), stream.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		w.t.Fatal(err)
	}
	return topic
}

// sender publishes numbers one after the other, and keeps which were acknowledged.
type sender struct {
	mu    sync.Mutex
	acked []uint64
	lost  map[uint64]error
}

// Appended implements stream.Receipt.
func (s *sender) Appended(ticket uint64, _ stream.Placed, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.lost == nil {
			s.lost = map[uint64]error{}
		}
		s.lost[ticket] = err
		return
	}
	s.acked = append(s.acked, ticket)
}

func (s *sender) n() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

func early(value string, ps ...stream.PartitionID) *stream.Unit {
	u := &stream.Unit{Early: true}
	for _, p := range ps {
		u.Writes = append(u.Writes, stream.Write{Partition: p, Record: &record.Record{
			Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte(value),
			Headers: []record.Header{{Key: "h", Value: []byte("v")}, {Key: "null"}},
		}})
	}
	return u
}

func (s *sender) send(t *testing.T, log stream.Log, from, to int, ps ...stream.PartitionID) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := stream.AppendWait(t.Context(), log, early(fmt.Sprint(i), ps...), s, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits for a condition for as long as a busy machine may need.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// values are what a partition holds.
func values(t *testing.T, log stream.Log, p stream.PartitionID) (all []string) {
	t.Helper()
	_, err := stream.Fold(t.Context(), log, p, 0, func(v *record.View) error {
		all = append(all, string(v.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func holds(t *testing.T, log stream.Log, p stream.PartitionID, want []string) {
	t.Helper()
	if got := values(t, log, p); !slices.Equal(got, want) {
		t.Errorf("%d records, not %d: %q", len(got), len(want), got)
	}
}

// TestContract: the contract holds before a spool as it does behind it; units of the suite are not early.
func TestContract(t *testing.T) {
	streamtest.Run(t, func(t *testing.T) *streamtest.Kept {
		w := newWorld(t)
		w.start()
		k := &streamtest.Kept{Keeper: w.node, Cannot: map[string]string{}}
		for _, what := range []string{"Hide", "Compact", "Trim", "Damage", "FailRead", "Rival"} {
			k.Cannot[what] = "it is tried on the cluster itself"
		}
		return k
	})
}

// TestThrough: while the cluster takes units, receipts say where they are, and nothing goes to the disk.
func TestThrough(t *testing.T) {
	w := newWorld(t)
	w.opt.Patience = time.Hour
	w.start()
	p := w.topic("a", 2).Partitions
	got := make(placed, 1)
	if err := w.node.Append(early("x", p...), got, 7); err != nil {
		t.Fatal(err)
	}
	if one := <-got; one.err != nil || one.at != 0 || one.ticket != 7 {
		t.Errorf("%+v", one)
	}
	s := new(sender)
	s.send(t, w.node, 0, 100, p[0])
	eventually(t, "all are taken", func() bool { return s.n() == 100 })
	holds(t, w.node, p[0], append([]string{"x"}, numbers(0, 100)...))
	if st := w.node.Status(); st.Holding || st.Bytes != 0 || st.Units != 0 {
		t.Errorf("%+v", st)
	}
}

type placed chan struct {
	ticket uint64
	at     record.Offset
	err    error
}

// Appended implements stream.Receipt.
func (c placed) Appended(ticket uint64, at stream.Placed, err error) {
	one := struct {
		ticket uint64
		at     record.Offset
		err    error
	}{ticket, -1, err}
	if at != nil {
		one.at = at.Offset(0)
	}
	c <- one
}

// TestOutage: what is appended while the cluster is away is acknowledged by the disk, and comes in order and once,
// ahead of what is appended after; plain and encrypted.
func TestOutage(t *testing.T) {
	for name, keys := range map[string]*atrest.Ring{"plain": nil, "encrypted": ring(t)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.opt.Keys = keys
			w.start()
			p := w.topic("a", 2).Partitions
			s := new(sender)
			s.send(t, w.node, 0, 50, p[0])
			w.way.Close(true)
			s.send(t, w.node, 50, 300, p...)
			eventually(t, "the disk acknowledges", func() bool { return s.n() == 300 })
			st := w.node.Status()
			if !st.Holding || st.Bytes == 0 || st.Units < 250 || w.node.Refused() != nil {
				t.Errorf("%+v, refused %v", st, w.node.Refused())
			}
			if inClear := onDisk(t, w.fs, ".", []byte("firth-spool")); inClear != (keys == nil) {
				t.Errorf("it is in the clear: %v", inClear)
			}
			w.way.Close(false)
			s.send(t, w.node, 300, 400, p...)
			eventually(t, "all are taken", func() bool { return s.n() == 400 && w.node.Status().Units == 0 })
			eventually(t, "it holds no more", func() bool { return !w.node.Status().Holding })
			holds(t, w.node, p[0], numbers(0, 400))
			holds(t, w.node, p[1], numbers(50, 400))
			if !slices.IsSorted(s.acked) || len(s.lost) > 0 {
				t.Errorf("acknowledged %v, lost %v", s.acked, s.lost)
			}
			s.send(t, w.node, 400, 410, p[0])
			eventually(t, "it goes on", func() bool { return s.n() == 410 })
		})
	}
}

func ring(t *testing.T) *atrest.Ring {
	t.Helper()
	one, err := atrest.NewLocal(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	r, err := atrest.NewRing([]atrest.Wrapper{one})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onDisk tells whether some file below a folder holds these bytes.
func onDisk(t *testing.T, fs vfs.FS, dir string, want []byte) bool {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		name = dir + "/" + name
		if _, err := fs.List(name); err == nil {
			return onDisk(t, fs, name, want)
		}
		f, err := fs.Open(name)
		if err != nil {
			return false // it is gone
		}
		defer f.Close()
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, size)
		if _, err = f.ReadAt(content, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return bytes.Contains(content, want)
	})
}

// TestKilled: whenever a node is killed, in the outage or while the spool drains, and again while it starts: what was
// acknowledged is there after the next start, once and in order.
func TestKilled(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // it waits
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			w.start()
			var want []string
			for round, at := 0, 0; round < 4; round++ {
				p := w.topic("a", 1).Partitions[0]
				s := new(sender)
				if round%2 == 0 {
					w.way.Close(true)
				}
				s.send(t, w.node, at, at+100, p)
				eventually(t, "the first are acknowledged", func() bool { return s.n() >= 100 })
				if round%2 == 0 && rng.IntN(2) == 0 { // it is killed while it drains, or still waits
					w.way.Close(false)
					if rng.IntN(2) == 0 {
						eventually(t, "some are taken", func() bool { return w.node.Status().Units < 100 })
					}
				}
				want = append(want, numbers(at, at+100)...)
				at += 100
				w.kill(rng)
				w.start()
				holds(t, w.node, w.topic("a", 1).Partitions[0], want)
				if st := w.node.Status(); st.Units != 0 {
					t.Errorf("after the start %+v", st)
				}
			}
		})
	}
}

// TestFull: when nothing more fits, appends wait, as they do without a spool, and go on when the cluster is back.
func TestFull(t *testing.T) {
	w := newWorld(t)
	w.opt.Bytes, w.opt.MemoryBytes = 40<<10, 8<<10
	w.start()
	p := w.topic("a", 1).Partitions[0]
	w.way.Close(true)
	s := new(sender)
	sent, crowded := 0, false
	eventually(t, "it is full", func() bool {
		err := w.node.Append(early(fmt.Sprint(sent), p), s, uint64(sent))
		switch {
		case err == nil:
			sent++
		case !errors.Is(err, stream.ErrCrowded):
			t.Fatal(err)
		}
		crowded = err != nil && w.node.Status().Bytes > 30<<10 && s.n() == sent
		return crowded
	})
	if st := w.node.Status(); st.Bytes > 41<<10 || !w.node.Crowded() {
		t.Errorf("%+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { waits <- stream.AppendWait(ctx, w.node, early(fmt.Sprint(sent), p), s, uint64(sent)) }()
	defer cancel()
	eventually(t, "it says so", func() bool { return fault.Is(w.node.Refused(), fault.Limited) })
	w.way.Close(false)
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are taken", func() bool { return w.node.Status().Units == 0 && s.n() == sent+1 })
	holds(t, w.node, p, numbers(0, sent+1))
	if err := w.node.Refused(); err != nil {
		t.Error(err)
	}
}

// TestAnotherServed: what a spool holds of the state of sessions is left out after another node has served the
// cluster, the messages of the same units are not.
func TestAnotherServed(t *testing.T) {
	t.Parallel() // it waits
	w := newWorld(t)
	w.start()
	p, shard := w.topic("a", 1).Partitions[0], w.topic("state", 1).Partitions[0]
	owner, err := w.node.Own(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	w.way.Close(true)
	s := new(sender)
	u := early("message", p, shard)
	u.Owner = owner
	if err := w.node.Append(u, s, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the disk has it", func() bool { return s.n() == 1 })
	w.kill(rand.New(rand.NewPCG(1, 1)))

	other, err := cluster.Open(t.Context(), cluster.Options{Seeds: w.f.ListenAddrs(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(spool.Serve(t.Context(), other, "b"), other.Close()); err != nil {
		t.Fatal(err)
	}
	w.start()
	holds(t, w.node, w.topic("a", 1).Partitions[0], []string{"message"})
	holds(t, w.node, w.topic("state", 1).Partitions[0], nil)
}

// TestDiskFails: units that the disk does not take wait for the cluster, in order.
func TestDiskFails(t *testing.T) {
	w := newWorld(t)
	w.expected = []string{"the spool takes nothing", "commit failed", "housekeeping of the log failed"}
	w.start()
	p := w.topic("a", 1).Partitions[0]
	w.way.Close(true)
	s := new(sender)
	s.send(t, w.node, 0, 20, p)
	eventually(t, "the disk acknowledges", func() bool { return s.n() == 20 })
	w.fs.SetCapacity(1)
	large := string(bytes.Repeat([]byte("x"), 900<<10))
	for i := 20; i < 24; i++ { // more than the file of the journal has room for
		if err := stream.AppendWait(t.Context(), w.node, early(large, p), s, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	s.send(t, w.node, 24, 40, p)
	eventually(t, "it says so", func() bool { return w.node.Refused() != nil })
	if n := s.n(); n >= 24 {
		t.Errorf("%d are acknowledged", n)
	}
	w.fs.SetCapacity(1 << 40)
	w.way.Close(false)
	eventually(t, "all are taken", func() bool { return s.n() == 40 })
	got := values(t, w.node, p)
	if len(got) != 40 || !slices.Equal(got[24:], numbers(24, 40)) || !slices.Equal(got[:20], numbers(0, 20)) {
		t.Errorf("%d records", len(got))
	}
	eventually(t, "it takes again", func() bool { return w.node.Refused() == nil })
}

// TestTopicGoes: what was held for a topic that is gone is left out, and told; the rest arrives.
func TestTopicGoes(t *testing.T) {
	t.Parallel() // it waits
	w := newWorld(t)
	w.expected = []string{"a topic is gone"}
	w.start()
	p, gone := w.topic("a", 1).Partitions[0], w.topic("gone", 1).Partitions[0]
	w.way.Close(true)
	s := new(sender)
	s.send(t, w.node, 0, 10, p)
	s.send(t, w.node, 10, 20, gone)
	s.send(t, w.node, 20, 30, p)
	eventually(t, "the disk acknowledges", func() bool { return s.n() == 30 })
	w.kill(rand.New(rand.NewPCG(1, 1)))
	other, err := cluster.Open(t.Context(), cluster.Options{Seeds: w.f.ListenAddrs(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.DeleteTopic(t.Context(), "gone"), other.Close()); err != nil {
		t.Fatal(err)
	}
	w.start()
	holds(t, w.node, w.topic("a", 1).Partitions[0], append(numbers(0, 10), numbers(20, 30)...))
}

package retain_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
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
	"github.com/firthmq/firth/internal/mqtt/retain"
)

const patience = time.Minute

type house struct {
	t     *testing.T
	fs    vfs.FS
	log   *store.Store
	table *hinge.Table
	store *retain.Store
	stop  func()
}

func open(t *testing.T, fs vfs.FS, maxTopics int) *house {
	t.Helper()
	return openWith(t, fs, retain.Options{MaxTopics: maxTopics, Logger: logtest.New(t)})
}

// openLogging opens a house in which something goes wrong.
func openLogging(t *testing.T, fs vfs.FS, logger *slog.Logger) *house {
	t.Helper()
	return openWith(t, fs, retain.Options{Logger: logger})
}

func openWith(t *testing.T, fs vfs.FS, opt retain.Options) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log, err := store.Open(ctx, store.Options{FS: fs, JournalBytes: 1 << 20, Logger: opt.Logger})
	if err != nil {
		t.Fatal(err)
	}
	table, err := hinge.New(nil, hinge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opt.Log, opt.Mapping = log, func() *hinge.Table { return table }
	s, err := retain.Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	h := &house{t: t, fs: fs, log: log, table: table, store: s}
	h.stop = func() {
		h.stop = func() {}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { h.stop() })
	return h
}

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// set appends a retained message as the door does, and waits until it is acknowledged.
func (h *house) set(m *hinge.Message) {
	h.t.Helper()
	var to hinge.Target
	h.table.CatchAllTarget(m.Topic, &to)
	r := record.Record{Timestamp: time.Now().UnixMilli()}
	to.Record(m, &r)
	if len(m.Payload) == 0 {
		r.Value = nil
	}
	done := make(receipt, 1)
	if err := streamtest.Append(h.log, done, stream.Write{Partition: h.store.Partition(), Record: &r}); err != nil {
		h.t.Fatal(err)
	}
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) text(topic, payload string) {
	h.t.Helper()
	h.set(&hinge.Message{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true})
}

// receiver takes credit messages, then says Later. It is the test's when a turn has ended, until the next Resume; so
// a test has fewer than 256 messages sent at a time, or asks taken, which it may at any time.
type receiver struct {
	mu      sync.Mutex // of Retained, and of taken
	credit  int        // -1: all
	got     map[string]string
	request *retain.Request
	turns   chan struct{} // that have ended
	through int           // how often the request was
	deaf    bool          // it is not ready
	full    bool          // it has no room for names
	held    int64         // bytes of names
	most    int64         // of them at a time
	twice   []string      // names that came again
	check   func(m *hinge.Message)
}

func newReceiver(credit int) *receiver {
	return &receiver{credit: credit, got: map[string]string{}, turns: make(chan struct{}, 1)}
}

func (r *receiver) Retained(q *retain.Request, m *hinge.Message, _ record.Offset) retain.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock() // check may panic
	r.request = q
	if r.credit == 0 {
		return retain.Later
	}
	if r.credit > 0 {
		r.credit--
	}
	if _, again := r.got[string(m.Topic)]; again {
		r.twice = append(r.twice, string(m.Topic))
	}
	r.got[string(m.Topic)] = string(m.Payload)
	if r.check != nil {
		r.check(m)
	}
	return retain.Sent
}

func (r *receiver) RetainedFlush() {
	select {
	case r.turns <- struct{}{}:
	default: // nobody has waited for the last one
	}
}

func (r *receiver) RetainedReady(q *retain.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.request = q
	return !r.deaf
}

func (r *receiver) RetainedRoom(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > 0 && r.full {
		return false
	}
	r.held += n
	r.most = max(r.most, r.held)
	return true
}

func (r *receiver) RetainedThrough() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.through++
}

func (r *receiver) isThrough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.through > 0
}

// wantThrough holds a request to being through once, or not at all.
func (r *receiver) wantThrough(t *testing.T, times int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.through != times {
		t.Errorf("the request was through %d times, not %d", r.through, times)
	}
}

// taken is what has come until now.
func (r *receiver) taken() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.got)
}

// turn waits until a turn has ended: a request that is small enough is all sent then.
func (r *receiver) turn(t *testing.T) {
	t.Helper()
	select {
	case <-r.turns:
	case <-time.After(patience):
		t.Fatal("the request had no turn in time")
	}
}

// find is what a subscription with a filter gets.
func (h *house) find(filter string) map[string]string {
	h.t.Helper()
	r := newReceiver(-1)
	h.send(filter, r)
	if !r.isThrough() { // else there was nothing, and no turn
		r.turn(h.t)
	}
	if r.through != 1 {
		h.t.Errorf("the request was through %d times", r.through)
	}
	return r.got
}

// send asks for what a subscription with a filter gets, which hears nothing live.
func (h *house) send(filter string, r *receiver) {
	ask := h.store.Begin()
	ask.Send(filter, "", r, 1)
	ask.End()
}

func same(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	wanted := map[string]string{}
	for i := 0; i < len(want); i += 2 {
		wanted[want[i]] = want[i+1]
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("got %v, want %v", got, wanted)
	}
}

func TestFold(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, 0)
	h.text("a/1", "one")
	same(t, h.find("a/#"), "a/1", "one")
	h.text("a/1", "two")
	h.text("a/2", "x")
	h.text("b", "y")
	same(t, h.find("a/+"), "a/1", "two", "a/2", "x")
	h.text("a/2", "")
	same(t, h.find("#"), "a/1", "two", "b", "y")
	h.text("b", "")
	h.text("never set", "")
	if err := h.store.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.store.Len(); n != 1 {
		t.Errorf("%d names, want 1", n)
	}
	h.stop()
	h = open(t, fs, 0)
	same(t, h.find("#"), "a/1", "two")
}

func TestProperties(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, 0)
	user := []byte{0x26, 0, 1, 'k', 0, 1, 'v'}
	h.set(&hinge.Message{
		Topic: []byte("p"), Payload: []byte("x"), QoS: 1, Retain: true, HasExpiry: true, Expiry: 100, HasPayloadFormat: true,
		PayloadFormat: 1, ContentType: []byte("c"), ResponseTopic: []byte("r"), Correlation: []byte{0}, UserProperties: user,
	})
	check := func(m *hinge.Message) {
		if !m.HasExpiry || m.Expiry != 100 || !m.HasPayloadFormat || m.PayloadFormat != 1 || string(m.ContentType) != "c" ||
			string(m.ResponseTopic) != "r" || string(m.Correlation) != "\x00" || string(m.UserProperties) != string(user) ||
			m.QoS != 1 || !m.Retain {
			t.Errorf("%+v", m)
		}
	}
	for range 2 {
		r := newReceiver(-1)
		r.check = check
		h.send("p", r)
		r.turn(t)
		if len(r.got) != 1 {
			t.Errorf("got %v", r.got)
		}
		h.stop()
		h = open(t, fs, 0)
	}
}

// TestSlowReceiver takes a few at a time; what is set in between is newer than its subscription, and comes live.
func TestSlowReceiver(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	const count = 1000
	for i := range count {
		h.text(fmt.Sprintf("s/%d", i), "old")
	}
	r := newReceiver(10)
	h.send("s/#", r)
	r.turn(t)
	early := maps.Clone(r.got)
	if len(early) != 10 {
		t.Fatalf("%d messages where 10 are taken", len(early))
	}
	r.wantThrough(t, 0)
	for i := range count {
		if name := fmt.Sprintf("s/%d", i); i%2 == 0 {
			h.text(name, "new")
		}
	}
	for range count / 100 {
		r.credit = 100
		h.store.Resume(r.request)
		r.turn(t)
	}
	r.wantThrough(t, 1)
	for i := range count {
		name := fmt.Sprintf("s/%d", i)
		_, got := r.got[name]
		if _, first := early[name]; got != (first || i%2 == 1) || got && r.got[name] != "old" {
			t.Errorf("%s is %q", name, r.got[name])
		}
	}
}

// atOne is where the writes of a unit are.
type atOne []record.Offset

func (a atOne) Offset(write int) record.Offset { return a[write] }

// retainedUnit is the unit of a retained message whose live record goes to a partition.
func (h *house) retainedUnit(live stream.PartitionID) *stream.Unit {
	return &stream.Unit{Writes: []stream.Write{
		{Partition: live}, {Partition: h.store.Partition(), Record: &record.Record{}},
	}}
}

// live hears of the records of one partition, each in the epoch of its offset.
type live struct {
	t        *testing.T
	part     stream.PartitionID
	follows  bool // the partition is, once Follow was called
	followed bool
}

func (l *live) Heard(p stream.PartitionID, offset record.Offset) uint64 {
	if p != l.part {
		l.t.Errorf("asked for partition %d", p)
	}
	if !l.followed {
		return 0
	}
	return uint64(offset)
}

func (l *live) Follow() { l.followed = l.followed || l.follows }

// TestUnderWayToNewTopic: the topic of the live record was made a moment ago, and is followed after it was appended,
// from its start if there was a subscription: then it comes live, and not as a retained message besides.
func TestUnderWayToNewTopic(t *testing.T) {
	const data stream.PartitionID = 900
	for _, tt := range []struct {
		what    string
		follows bool
		epoch   uint64
		want    []string
	}{
		{"who subscribed before gets it live", true, 7, nil},
		{"who subscribed after it does not", true, 8, []string{"u", "u"}},
		{"nobody listens", false, 7, []string{"u", "u"}},
	} {
		h := open(t, vfs.NewMemory(), 0)
		h.store.HeardBy(&live{t: t, part: data, follows: tt.follows})
		ask := h.store.Begin()
		flight := h.store.Track(h.retainedUnit(data), nil)
		h.text("u", "u")
		flight.Appended(0, atOne{7, 0}, nil)
		r := newReceiver(-1)
		ask.Send("#", "", r, tt.epoch)
		ask.End()
		r.turn(t)
		t.Log(tt.what)
		same(t, r.got, tt.want...)
		h.stop()
	}
}

// TestUnderWay lets a unit with a retained message be under way while somebody subscribes, on a log that tells its two
// partitions one by one: the live record decides, and one of the two comes.
func TestUnderWay(t *testing.T) {
	const data stream.PartitionID = 900
	for _, tt := range []struct {
		what  string
		epoch uint64 // of the subscription; the live record, at 7, became news in epoch 7
		want  []string
	}{
		{"news of the live record came before the subscription", 8, []string{"u", "new"}},
		{"it came after it", 7, nil},
		{"it came long after it", 5, nil},
	} {
		for _, heard := range []string{"before", "after"} {
			h := open(t, vfs.NewMemory(), 0)
			h.store.HeardBy(&live{t: t, part: data, followed: true})
			h.text("u", "old")
			h.find("#")
			unit := h.retainedUnit(data)
			flight := h.store.Track(unit, nil)
			if heard == "before" { // the retained record can be read before the subscription is in force
				h.text("u", "new")
			}
			r := newReceiver(-1)
			ask := h.store.Begin()
			ask.Send("#", "", r, tt.epoch)
			ask.End()
			if heard == "after" {
				h.text("u", "new")
			}
			later := h.store.Track(unit, nil) // begun after the subscription: no matter
			select {
			case <-r.turns:
				t.Errorf("%s, retained heard %s: answered while the unit was under way", tt.what, heard)
			case <-time.After(20 * time.Millisecond):
			}
			flight.Appended(0, atOne{7, 1}, nil)
			r.turn(t)
			same(t, r.got, tt.want...)
			later.Drop()
			h.stop()
		}
	}
}

// TestSettled waits for what is under way, and for nothing else.
func TestSettled(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	unit := h.retainedUnit(900)
	if h.store.Settled() != nil || h.store.Track(&stream.Unit{Writes: unit.Writes[:1]}, nil) != nil {
		t.Error("there is something under way")
	}
	first, second := h.store.Track(unit, nil), h.store.Track(unit, nil)
	settled := h.store.Settled()
	third := h.store.Track(unit, nil)
	first.Appended(0, atOne{0, 0}, nil)
	select {
	case <-settled:
		t.Error("settled with one under way")
	default:
	}
	second.Drop()
	<-settled
	third.Drop()
	if h.store.Settled() != nil {
		t.Error("there is something under way")
	}
}

func TestFull(t *testing.T) {
	h := open(t, vfs.NewMemory(), 2)
	for _, name := range []string{"1", "2"} {
		if h.store.Full([]byte(name)) {
			t.Errorf("full before %s", name)
		}
		h.text(name, "x")
		h.find("#") // folded
	}
	if !h.store.Full([]byte("3")) || h.store.Full([]byte("1")) {
		t.Error("the bound does not hold, or holds for names that are there")
	}
}

// TestDamage is E2: of retained messages on a disk that is damaged only those in the damaged batch are gone.
func TestDamage(t *testing.T) {
	disk := vfs.NewMemory()
	h := open(t, disk, 0)
	const count = 100
	for i := range count {
		h.text(fmt.Sprintf("d/%d", i), fmt.Sprintf("payload of %d.", i))
	}
	h.stop()
	vfstest.Flip(t, disk, "log", []byte("payload of 3."), 0)
	h = openLogging(t, disk, logtest.New(t, "some retained messages could not be read",
		"damaged records cannot be read", "the log is damaged"))
	got := h.find("d/+")
	if _, is := got["d/3"]; is || len(got) != count-1 {
		t.Errorf("%d messages, want %d", len(got), count-1)
	}
	h.text("d/3", "new")
	if got := h.find("d/3"); got["d/3"] != "new" {
		t.Errorf("got %v", got)
	}
}

// TestLargeOnesStayInTheLog has 600 retained messages of 64 KiB, in place of 20,000 of 1 MiB. What
// they take in memory does not depend on their size, so that 20,000 take what 20,000 small ones do.
func TestLargeOnesStayInTheLog(t *testing.T) {
	const count, size = 600, 64 << 10
	fs, err := vfs.NewDisk(t.TempDir()) // files in memory would be counted
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, fs, 0)
	payload := strings.Repeat("x", size)
	for i := range count {
		h.text(fmt.Sprintf("large/%d", i), fmt.Sprint(i, " ", payload))
	}
	h.stop()
	before := heap()
	h = open(t, fs, 0)
	grown := heap() - before
	for tries := 0; grown > 8<<20 && tries < 600; tries++ { // the housekeeper may have a file in hand just now
		time.Sleep(100 * time.Millisecond)
		grown = min(grown, heap()-before)
	}
	if grown > 8<<20 {
		t.Errorf("the heap grew by %d MiB over %d MiB of retained messages", grown>>20, count*size>>20)
	}
	if n := h.store.Bytes(); n > 400*count {
		t.Errorf("%d bytes are counted", n)
	}
	r := newReceiver(-1)
	h.send("large/+", r)
	for len(r.taken()) < count {
		r.turn(t)
	}
	all := r.taken()
	for i := range count {
		if got := all[fmt.Sprintf("large/%d", i)]; got != fmt.Sprint(i, " ", payload) {
			t.Errorf("message %d is %.20q of %d bytes", i, got, len(got))
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestReadFails is E1 for retained messages: one that could not be read is asked for again.
func TestReadFails(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := open(t, disk, 0)
	for i := range 20 {
		h.text(fmt.Sprintf("r/%d", i), strings.Repeat("x", 1000))
	}
	h.stop()
	h = openLogging(t, disk, logtest.New(t, "cannot read a retained message, trying again",
		"housekeeping of the log failed"))
	h.find("none")
	disk.Inject(vfs.Fault{On: vfs.OpRead, Times: 3, Kind: fault.IO})
	r := newReceiver(-1)
	h.send("r/+", r)
	for len(r.taken()) < 20 {
		r.turn(t)
	}
}

// TestPoison is E13: a receiver that panics over one message gets the others.
func TestPoison(t *testing.T) {
	h := openLogging(t, vfs.NewMemory(), logtest.New(t, "a retained message cannot be sent"))
	for i := range 10 {
		h.text(fmt.Sprintf("p/%d", i), strings.Repeat("x", 100*i))
	}
	r := newReceiver(-1)
	r.check = func(m *hinge.Message) {
		if n := len(m.Payload); n == 300 || n == 800 { // one in memory, one in the log
			delete(r.got, string(m.Topic))
			panic("poison")
		}
	}
	h.send("p/+", r)
	r.turn(t)
	if len(r.got) != 7 { // p/0 has no payload, and so is not kept
		t.Errorf("got %d", len(r.got))
	}
}

// TestBytes counts what is kept, and lets go of all of it.
func TestBytes(t *testing.T) {
	h := open(t, vfs.NewMemory(), 0)
	for round := range 3 {
		for i := range 50 {
			h.text(fmt.Sprintf("b/%d", i), strings.Repeat("x", (i*37+round*400)%900+1))
		}
	}
	h.find("#")
	if h.store.Bytes() < 50*100 {
		t.Errorf("%d bytes", h.store.Bytes())
	}
	for i := range 50 {
		h.text(fmt.Sprintf("b/%d", i), "")
	}
	h.find("#")
	if n := h.store.Bytes(); n != 0 {
		t.Errorf("%d bytes are left of nothing", n)
	}
}

package roster_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

var limits = session.Limits{MaxInflight: 10, ReceiveMaximum: 10, MaxSubscriptions: 10, MaxExpiry: session.Never}

// holder is a connection that notes what it is told.
type holder struct {
	mu        sync.Mutex
	settled   []uint32
	displaced int
	moved     int
	aside     int
	saved     []int
}

func (h *holder) Settled(ticket uint32, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, ticket)
}

func (h *holder) Arrived(uint16, bool)     {}
func (h *holder) Aside() int               { return h.aside }
func (h *holder) LetGo(session.Place) bool { return true }

func (h *holder) Saved(bytes int, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = append(h.saved, bytes)
}

func (h *holder) toldSaved() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.saved)
}

func (h *holder) Displaced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.displaced++
}

func (h *holder) Moved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved++
}

func (h *holder) isMoved() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moved > 0
}

// appends notes the receipts that it is given.
type appends struct {
	stream.Log
	to      []stream.Receipt
	tickets []uint64
}

func (l *appends) Append(_ *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.to, l.tickets = append(l.to, to), append(l.tickets, ticket)
	return nil
}

func (l *appends) tell(i int) { l.to[i].Appended(l.tickets[i], nil, nil) }

// wills notes what is published.
type wills struct {
	mu   sync.Mutex
	from []string
	log  stream.Log
}

func (w *wills) publish(
	ctx context.Context, s *session.State, _ *session.Will, with *stream.Unit, to stream.Receipt,
) error {
	if len(with.Writes) == 0 {
		w.note(s.ClientID())
		return nil
	}
	return stream.AppendWait(ctx, w.log, with, &published{w, s.ClientID(), to}, 1)
}

func (w *wills) note(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from = append(w.from, id)
}

// published is a will that counts once it is stored.
type published struct {
	wills *wills
	id    string
	to    stream.Receipt
}

func (p *published) Appended(ticket uint64, at stream.Placed, err error) {
	if err == nil {
		p.wills.note(p.id)
	}
	if p.to != nil {
		p.to.Appended(ticket, at, err)
	}
}

// open opens a roster on a log in memory.
func open(t *testing.T, fs vfs.FS, change func(*roster.Options)) (*roster.Roster, *wills) {
	t.Helper()
	log, err := store.Open(context.Background(), store.Options{FS: fs, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &wills{log: log}
	opt := roster.Options{Log: log, Limits: &limits, PublishWill: w.publish, Logger: logtest.New(t)}
	if change != nil {
		change(&opt)
	}
	r, err := roster.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// opening is a CONNECT with an expiry interval.
func opening(id string, expiry uint32, clean bool) *session.Opening {
	c := &packet.Connect{Version: packet.V5, ClientID: []byte(id), CleanStart: clean}
	c.Props.SetSessionExpiry(expiry)
	return session.Open(c, &limits, "")
}

func take(t *testing.T, r *roster.Roster, o *session.Opening, h roster.Holder) (roster.Term, roster.Taken) {
	t.Helper()
	var term roster.Term
	got, err := tryTake(r, o, h, &term)
	if err != nil {
		t.Fatal(err)
	}
	return term, got
}

// tryTake takes a seat and has that stored.
func tryTake(r *roster.Roster, o *session.Opening, h roster.Holder, term *roster.Term) (roster.Taken, error) {
	got, err := r.Take(o, h, term)
	if err == nil {
		err = got.Settle(context.Background())
	}
	if err == nil {
		err = term.Store(context.Background())
	}
	return got, err
}

func leave(t *testing.T, term *roster.Term) {
	t.Helper()
	if left := term.Leave(); left != nil {
		if err := left.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTakeover: whoever takes a seat fences the one before at once: it appends nothing, is told nothing of what it had
// appended, sees no session, and ends nothing.
func TestTakeover(t *testing.T) {
	seats, _ := open(t, vfs.NewMemory(), nil)
	var l appends
	var unit stream.Unit
	first, second := &holder{}, &holder{}
	old, got := take(t, seats, opening("a", 0, true), first)
	if got.Before != nil || got.Present || old.Over() || seats.Len() != 1 {
		t.Fatal("the seat was not free")
	}
	for ticket := range uint32(2) {
		if err := old.Append(&l, &unit, 7+ticket); err != nil {
			t.Fatal(err)
		}
	}
	l.tell(0)
	fresh, got := take(t, seats, opening("a", 0, true), second)
	if got.Before != first || got.Present {
		t.Fatalf("before: %+v", got)
	}
	l.tell(1)
	if err := old.Append(&l, &unit, 9); !fault.Is(err, fault.Fenced) {
		t.Errorf("the old one appends: %v", err)
	}
	if old.Lock() != nil || old.Leave() != nil {
		t.Error("the old one still has the session")
	}
	if len(first.settled) != 1 || first.settled[0] != 7 {
		t.Errorf("the old one was told %v", first.settled)
	}
	if err := fresh.Append(&l, &unit, 1); err != nil {
		t.Fatal(err)
	}
	l.tell(2)
	if len(second.settled) != 1 || fresh.Lock() != got.State {
		t.Error("the new one has not got the session")
	}
	fresh.Unlock()
	leave(t, &fresh)
	if !fresh.Over() || seats.Len() != 0 || seats.Present() != 0 {
		t.Error("the session did not end")
	}
	if err := fresh.Append(&l, &unit, 1); !fault.Is(err, fault.Fenced) {
		t.Errorf("after the end: %v", err)
	}
	l.tell(2)
	if len(second.settled) != 1 {
		t.Error("told after the end")
	}
}

// TestStorm: however many take a seat at a time, one has it, and no seat is left of those that do not last; of those
// that do, one is away.
func TestStorm(t *testing.T) {
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprint(expiry), func(t *testing.T) {
			fs := vfs.NewMemory()
			seats, _ := open(t, fs, nil)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 200 {
						var term roster.Term
						got, err := seats.Take(opening("storm", expiry, false), &holder{}, &term)
						if err != nil {
							t.Error(err)
							return
						}
						if got.Before != nil {
							got.Before.Displaced()
						}
						if err := term.Store(context.Background()); err != nil {
							t.Error(err)
						}
						leave(t, &term)
					}
				})
			}
			wg.Wait()
			if away := min(int(expiry), 1); seats.Len() != away || seats.Present() != 0 {
				t.Errorf("%d seats are left, %d with a connection", seats.Len(), seats.Present())
			}
		})
	}
}

// TestWhoIsKept: what a roster has after a restart is what it had before, whatever changed in between.
func TestWhoIsKept(t *testing.T) {
	fs := vfs.NewMemory()
	seats, _ := open(t, fs, nil)
	for _, id := range []string{"kept", "clean", "short", "ended"} {
		term, _ := take(t, seats, opening(id, 1000, false), &holder{})
		leave(t, &term)
	}
	clean, _ := take(t, seats, opening("clean", 0, true), &holder{})
	leave(t, &clean)
	short, _ := take(t, seats, opening("short", 0, false), &holder{})
	leave(t, &short)
	ended, _ := take(t, seats, opening("ended", 1000, false), &holder{})
	state := ended.Lock()
	d := &packet.Disconnect{}
	d.Props.SetSessionExpiry(0)
	if err := state.Disconnect(d); err != nil {
		t.Fatal(err)
	}
	ended.Unlock()
	leave(t, &ended)
	take(t, seats, opening("kept", 1000, false), &holder{}) // what came before is durable, too
	if seats.Len() != 1 {
		t.Errorf("%d sessions", seats.Len())
	}
	again, _ := open(t, clone(t, fs), nil)
	if again.Len() != 1 {
		t.Errorf("%d sessions after a restart", again.Len())
	}
	if _, got := take(t, again, opening("kept", 1000, false), &holder{}); !got.Present {
		t.Error("the session is not there")
	}
}

// clone is what another process would find.
func clone(t *testing.T, fs *vfs.Memory) *vfs.Memory {
	t.Helper()
	return fs.CrashClone(nil)
}

// TestWillsAreDueOnce: each will is published once, by whichever of the clock, a clean start or an expired session
// comes first, and none of a session that somebody came back to.
func TestWillsAreDueOnce(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	fs := vfs.NewMemory()
	seats, published := open(t, fs, func(o *roster.Options) { o.Clock = clock })
	for _, id := range []string{"delayed", "expires", "clean", "back"} {
		c := &packet.Connect{Version: packet.V5, ClientID: []byte(id), Will: &packet.Will{Topic: []byte("w")}}
		c.Props.SetSessionExpiry(100)
		c.Will.Props.SetWillDelay(50)
		if id == "expires" {
			c.Will.Props.SetWillDelay(500)
		}
		term, _ := take(t, seats, session.Open(c, &limits, ""), &holder{})
		leave(t, &term)
	}
	back, _ := take(t, seats, opening("back", 100, false), &holder{})
	leave(t, &back)
	fresh, _ := take(t, seats, opening("clean", 0, true), &holder{})
	leave(t, &fresh)
	if len(published.from) != 1 || published.from[0] != "clean" {
		t.Fatalf("published %v", published.from)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	run := make(chan error, 1)
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	go func() { run <- seats.Run(ctx) }()
	until(t, "the delay is over", func() bool { return published.count() == 2 })
	cancel()
	if err := <-run; err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	again, more := open(t, clone(t, fs), func(o *roster.Options) { o.Clock = clock })
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	go func() { run <- again.Run(ctx) }()
	until(t, "all have expired", func() bool { return again.Len() == 0 })
	cancel()
	if err := <-run; err != nil {
		t.Fatal(err)
	}
	if more.count() != 1 || more.from[0] != "expires" {
		t.Errorf("after a restart: %v", more.from)
	}
}

// TestWillOfUnknownFate: a will whose unit is under way for longer than the leaver waits is told by that unit, if it is
// stored, and again, if it is lost.
func TestWillOfUnknownFate(t *testing.T) {
	for _, lost := range []bool{false, true} {
		fs := vfs.NewMemory()
		var log *holding
		seats, published := open(t, fs, func(o *roster.Options) {
			log = &holding{Keeper: o.Log}
			o.Log = log
		})
		run, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- seats.Run(run) }()
		published.log = log
		term, _ := take(t, seats, willing("a"), &holder{})
		log.set(true)
		short, over := context.WithCancel(context.Background())
		over()
		if err := term.Leave().Settle(short); !fault.Is(err, fault.Timeout) {
			t.Errorf("the log says nothing, and Settle gives %v", err)
		}
		log.set(false)
		second, _ := take(t, seats, willing("b"), &holder{})
		leave(t, &second)
		until(t, "the will of another", func() bool { return published.count() >= 1 })
		log.release(lost)
		until(t, "the will", func() bool { return published.count() >= 2 })
		seats.Checkpoint(context.Background())
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := published.count(); n != 2 {
			t.Errorf("lost %v: %d wills", lost, n)
		}
		again, _ := open(t, clone(t, fs), nil)
		if left := willsOf(again); left != "" {
			t.Errorf("lost %v: the log has the wills of %s yet", lost, left)
		}
	}
}

// release has what was held back stored now, or lost.
func (l *holding) release(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, to := range l.to {
		if lost {
			to.Appended(l.tickets[i], nil, fault.New(fault.IO, "test", "lost"))
		} else if err := l.Keeper.Append(l.units[i], to, l.tickets[i]); err != nil {
			to.Appended(l.tickets[i], nil, err)
		}
	}
	l.to, l.tickets, l.units = nil, nil, nil
}

func (w *wills) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.from)
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestMaxSessions bounds how many sessions last; those that do not are not counted.
func TestMaxSessions(t *testing.T) {
	seats, _ := open(t, vfs.NewMemory(), func(o *roster.Options) { o.MaxSessions = 2 })
	for i := range 2 {
		term, _ := take(t, seats, opening(fmt.Sprint(i), 1000, false), &holder{})
		leave(t, &term)
	}
	var none roster.Term
	if _, err := seats.Take(opening("third", 1000, false), &holder{}, &none); !fault.Is(err, fault.Limited) {
		t.Errorf("a third session: %v", err)
	}
	take(t, seats, opening("short", 0, false), &holder{})
	take(t, seats, opening("1", 1000, false), &holder{})
}

func TestZeroTermIsOver(t *testing.T) {
	var term roster.Term
	if !term.Over() || term.Leave() != nil {
		t.Error("the zero term is not over")
	}
}

// holding is a log that keeps units back while it is told to: each is lost when the test says so.
type holding struct {
	stream.Keeper
	mu      sync.Mutex
	hold    bool
	to      []stream.Receipt
	tickets []uint64
	units   []*stream.Unit
}

// Append implements stream.Log.
func (l *holding) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hold {
		return l.Keeper.Append(u, to, ticket)
	}
	kept := *u
	kept.Writes = slices.Clone(u.Writes)
	l.to, l.tickets, l.units = append(l.to, to), append(l.tickets, ticket), append(l.units, &kept)
	return nil
}

func (l *holding) set(hold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = hold
}

func (l *holding) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.to)
}

// TestEndUnderWay: who takes a seat while another connection waits until the end of the session before is stored waits
// for that, too, though it has nothing to store; and makes up for it where it was lost.
func TestEndUnderWay(t *testing.T) {
	fs := vfs.NewMemory()
	var log *holding
	seats, _ := open(t, fs, func(o *roster.Options) {
		log = &holding{Keeper: o.Log}
		o.Log = log
	})
	kept, _ := take(t, seats, opening("a", 1000, false), &holder{})
	leave(t, &kept)
	var first, second roster.Term
	if _, err := seats.Take(opening("a", 0, true), &holder{}, &first); err != nil {
		t.Fatal(err)
	}
	log.set(true)
	stored := make(chan error, 1)
	go func() { stored <- first.Store(context.Background()) }()
	until(t, "the removal is under way", func() bool { return log.held() == 1 })
	log.set(false)
	if _, err := seats.Take(opening("a", 0, true), &holder{}, &second); err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := second.Store(now); !fault.Is(err, fault.Timeout) {
		t.Errorf("the end of the session before is under way, and Store gives %v", err)
	}
	log.to[0].Appended(log.tickets[0], nil, fault.New(fault.IO, "test", "lost"))
	if err := <-stored; !fault.Is(err, fault.IO) {
		t.Errorf("the removal was lost, and Store gives %v", err)
	}
	if err := second.Store(context.Background()); err != nil {
		t.Fatal(err)
	}
	if again, _ := open(t, clone(t, fs), nil); again.Len() != 0 {
		t.Error("the session that has ended is there again")
	}
	leave(t, &second)
	if seats.Len() != 0 {
		t.Errorf("%d sessions", seats.Len())
	}
}

// lossy is a log that loses units, and says so, while it is told to.
type lossy struct {
	stream.Keeper
	mu   sync.Mutex
	lose bool
}

func (l *lossy) set(lose bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = lose
}

// Append implements stream.Log.
func (l *lossy) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lose {
		return l.Keeper.Append(u, to, ticket)
	}
	if to != nil {
		go to.Appended(ticket, nil, fault.New(fault.IO, "test", "lost"))
	}
	return nil
}

// TestLostLeave: that a session left is stored before a mark which rests on it, though the unit that said so was lost.
func TestLostLeave(t *testing.T) {
	fs := vfs.NewMemory()
	var log *lossy
	at := record.Offset(10)
	change := func(o *roster.Options) {
		log = &lossy{Keeper: o.Log}
		o.Log = log
		o.Reached = func(_ uint64, visit func(stream.PartitionID, record.Offset)) uint64 {
			visit(0, at)
			return 0
		}
	}
	seats, _ := open(t, fs, change)
	ctx := context.Background()
	term, _ := take(t, seats, opening("a", 1000, false), &holder{})
	seats.Checkpoint(ctx)
	log.set(true)
	leave(t, &term)
	log.set(false)
	at = 20
	seats.Checkpoint(ctx)
	again, _ := open(t, clone(t, fs), nil)
	fresh, _ := take(t, again, opening("a", 1000, false), &holder{})
	if stands := fresh.Stands(0); stands > 10 {
		t.Errorf("it stands at %d, and left at 10", stands)
	}
}

// onTopic opens a roster on a log that has a topic of one partition, which is given.
func onTopic(t *testing.T, fs vfs.FS, reached *record.Offset) (*roster.Roster, stream.PartitionID) {
	t.Helper()
	var p stream.PartitionID
	seats, _ := open(t, fs, func(o *roster.Options) {
		topic := o.Log.Topics().ByName("t")
		if topic == nil {
			var err error
			if topic, err = o.Log.CreateTopic(t.Context(), stream.TopicSpec{Name: "t", Partitions: 1}); err != nil {
				t.Fatal(err)
			}
		}
		p = topic.Partitions[0]
		o.Reached = func(_ uint64, visit func(stream.PartitionID, record.Offset)) uint64 {
			visit(p, *reached)
			return 0
		}
	})
	return seats, p
}

// subscribe makes a subscription when live delivery has reached an offset.
func subscribe(t *testing.T, term *roster.Term, p stream.PartitionID, reached record.Offset) {
	t.Helper()
	sub := &session.Subscription{Filter: "t", QoS: 1}
	state := term.Lock()
	state.Resubscribe(sub)
	term.Unlock()
	err := term.StoreFilters(t.Context(), []*session.Subscription{sub}, nil,
		func(visit func(stream.PartitionID, record.Offset)) { visit(p, reached) })
	if err != nil {
		t.Fatal(err)
	}
}

// TestInFlightSinceTheSubscription: what a session is sent after it has subscribed is in flight after a crash, though
// nothing else of it changed since the checkpoint before.
func TestInFlightSinceTheSubscription(t *testing.T) {
	fs, reached := vfs.NewMemory(), record.Offset(0)
	seats, p := onTopic(t, fs, &reached)
	term, _ := take(t, seats, opening("a", 1000, false), &holder{})
	seats.Checkpoint(t.Context())
	subscribe(t, &term, p, 0)
	from := session.Place{Partition: uint32(p), Offset: 4}
	state := term.Lock()
	if _, ok := state.Out.Send(from, 1); !ok {
		t.Fatal("there is no room")
	}
	changed := state.Took(from)
	term.Unlock()
	if changed {
		term.Changed()
	}
	reached = 5
	seats.Checkpoint(t.Context())
	again, _ := open(t, clone(t, fs), nil)
	_, got := take(t, again, opening("a", 1000, false), &holder{})
	if n := got.State.Out.InFlight(); n != 1 {
		t.Errorf("%d messages are in flight, want 1", n)
	}
}

// TestCrashesBeforeTheFirstCheckpoint: a session stands where it has subscribed, though the server crashed twice before
// it ever made a checkpoint and others have subscribed in between.
func TestCrashesBeforeTheFirstCheckpoint(t *testing.T) {
	fs, reached := vfs.NewMemory(), record.Offset(10)
	seats, p := onTopic(t, fs, &reached)
	term, _ := take(t, seats, opening("a", 1000, false), &holder{})
	subscribe(t, &term, p, 10)
	for _, reached = range []record.Offset{20, 30} {
		fs = clone(t, fs)
		seats, _ = onTopic(t, fs, &reached)
		other, _ := take(t, seats, opening("b", 1000, false), &holder{})
		subscribe(t, &other, p, reached)
	}
	seats, _ = onTopic(t, clone(t, fs), &reached)
	term, _ = take(t, seats, opening("a", 1000, false), &holder{})
	if at := term.Stands(p); at != 10 {
		t.Errorf("it stands at %d, and was offered nothing since 10", at)
	}
}

// TestSaveOfTheOneBefore: who takes a seat while it is to be saved for another is not told of a save of nothing.
func TestSaveOfTheOneBefore(t *testing.T) {
	seats, _ := open(t, vfs.NewMemory(), nil)
	save := func(id string, h *holder) {
		term, _ := take(t, seats, opening(id, 1000, false), h)
		term.Lock()
		term.Save()
		term.Unlock()
	}
	before, after, last := &holder{aside: 3}, &holder{}, &holder{aside: 5}
	save("a", before)
	take(t, seats, opening("a", 1000, false), after)
	save("b", last)
	ctx, cancel := context.WithCancel(t.Context())
	var ran sync.WaitGroup
	ran.Go(func() { _ = seats.Run(ctx) })
	until(t, "the last is saved", func() bool { return len(last.toldSaved()) > 0 })
	cancel()
	ran.Wait()
	if got := append(before.toldSaved(), after.toldSaved()...); len(got) > 0 {
		t.Errorf("told of %v bytes", got)
	}
	if got := last.toldSaved(); got[0] != 5 {
		t.Errorf("told of %v bytes, want 5", got)
	}
}

// group is a Beside with one record.
type group struct {
	marks roster.Marks
	dirty bool
	told  []bool
	read  []string // values of its record that were read
}

func (g *group) Restored(*session.State) {}
func (g *group) Ended(*session.State)    {}
func (g *group) Serve()                  {}
func (g *group) End()                    {}
func (g *group) Dirty() bool             { return g.dirty }

// made notes the marks by which it goes.
func (g *group) made(m roster.Marks) roster.Beside {
	g.marks = m
	return g
}

func (g *group) Fold(_ *session.Key, _ uint32, value []byte) error {
	g.read = append(g.read, string(value))
	return nil
}

func (g *group) Collect(w roster.Writing) (told func(stored bool), ok bool) {
	if !g.dirty {
		return nil, false
	}
	g.dirty = false
	w.Put(session.Key{Kind: session.KindGroup, Client: "g", Filter: "a"}, []byte("value"))
	return func(stored bool) {
		g.told = append(g.told, stored)
		g.dirty = g.dirty || !stored
	}, true
}

func (g *group) CollectLetGo(roster.Writing) (told func(stored bool), ok bool) { return nil, false }

// TestLostBeside: what is beside the sessions is stored before a mark which rests on it, though the unit that said so
// first was lost.
func TestLostBeside(t *testing.T) {
	fs := vfs.NewMemory()
	var log *lossy
	g := &group{dirty: true}
	seats, _ := open(t, fs, func(o *roster.Options) {
		log = &lossy{Keeper: o.Log}
		o.Log, o.Beside = log, g.made
	})
	ctx := context.Background()
	log.set(true)
	if err := g.marks.StoreBeside(ctx); err != nil {
		t.Fatal(err)
	}
	log.set(false)
	seats.Checkpoint(ctx)
	if !slices.Equal(g.told, []bool{false, true}) {
		t.Errorf("it was told %v", g.told)
	}
	after := &group{}
	open(t, clone(t, fs), func(o *roster.Options) { o.Beside = after.made })
	if !slices.Equal(after.read, []string{"value"}) {
		t.Errorf("%q were read", after.read)
	}
}

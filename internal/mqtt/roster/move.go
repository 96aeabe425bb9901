package roster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

// How shards come and go. A shard that comes is a new one: what still holds on to it as it was before, a connection
// that ends late or a receipt, finds it gone.

// ErrElsewhere is of a client whose session is another node's.
var ErrElsewhere = errors.New("the session is on another node")

func errGone() error { return fault.Wrap(fault.Fenced, "mqtt.Store", ErrElsewhere) }

// lastWords is how long the log may take for what is stored when a shard is let go of. What is not, the next node knows
// by what was stored before: some messages come twice.
const lastWords = 10 * time.Second

// slot is the place of a shard.
type slot struct {
	number    int
	partition stream.PartitionID
	serving   atomic.Pointer[shard] // nil: its sessions are not here; written under Roster.mu

	mu struct { // a leaf
		sync.Mutex
		tenure  tenure.Tenure
		shard   *shard             // from when it is owned until it is let go of
		stop    context.CancelFunc // ends what is under way; nil: nothing is
		stopped bool               // it is to end
		why     error              // it was lost
	}
}

// moving is the goroutines of shards that come or go, one each.
type moving struct {
	ctx context.Context //nolint:containedctx // of goroutines that have no caller
	end context.CancelFunc

	sync.Mutex
	ended bool
	work  sync.WaitGroup
}

// Gain has a shard be this node's: who had it before is fenced, its sessions are read, and then they are here, with
// what is due by the clock. Options.Moved tells when, or why not; then it may be called again. It does not wait. Run
// must not have ended, and the roster be Sharded.
func (r *Roster) Gain(shard int) { r.happen(shard, tenure.Given) }

// Lose has a shard be this node's no more. Connections of its sessions end, no will is published for that, and behind
// what they have done until then nothing of them is written. Options.Moved tells when it is gone. It does not wait.
func (r *Roster) Lose(shard int) { r.happen(shard, tenure.Taken) }

// State is how far this node is with a shard.
func (r *Roster) State(shard int) tenure.State {
	at := r.slots[shard]
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.mu.tenure.State()
}

func (r *Roster) happen(shard int, e tenure.Event) {
	if r.opt.Sharded && shard >= 0 && shard < len(r.slots) {
		r.goTend(r.slots[shard], r.slots[shard].on(e))
	}
}

// on takes in an event, and gives the step to be done. To stop what is under way is done here.
func (at *slot) on(e tenure.Event) tenure.Step {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.onLocked(e)
}

func (at *slot) onLocked(e tenure.Event) tenure.Step {
	step := at.mu.tenure.On(e)
	if e == tenure.Folded || e == tenure.Failed || e == tenure.Left { // nothing is under way
		at.stopLocked()
		at.mu.stop = nil
	}
	switch step {
	case tenure.Own:
		at.mu.stopped, at.mu.why = false, nil
	case tenure.Stop:
		at.mu.stopped = true
		at.stopLocked()
		return tenure.Rest
	}
	return step
}

func (at *slot) stopLocked() {
	if at.mu.stop != nil {
		at.mu.stop()
	}
}

// isLost tells whether the log has refused a write because another node has the shard.
func (s *shard) isLost(err error) bool { return s.roster.opt.Sharded && fault.Is(err, fault.Fenced) }

// heed looks whether the log has refused a write because another node has the shard. It does not block.
func (s *shard) heed(err error) {
	if err != nil && s.isLost(err) {
		s.roster.goTend(s.at, s.at.fenced(s, err))
	}
}

// fenced takes in that a shard is another node's, unless it is gone from here, and maybe here again, already.
func (at *slot) fenced(s *shard, err error) tenure.Step {
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.mu.shard != s {
		return tenure.Rest
	}
	at.mu.why = err
	return at.onLocked(tenure.Fenced)
}

// goTend does the steps from this one on in a goroutine, if it is one.
func (r *Roster) goTend(at *slot, step tenure.Step) {
	if step == tenure.Rest {
		return
	}
	m := &r.moving
	m.Lock()
	defer m.Unlock()
	if m.ended {
		return
	}
	m.work.Go(func() {
		switch err := r.tend(m.ctx, at, step); {
		case err == nil || m.ctx.Err() != nil:
		case fault.Is(err, fault.Fenced):
			r.complain("fenced", "sessions are another node's now", "shard", at.number, "error", err)
		default:
			r.complain("move", "sessions could not be taken over", "shard", at.number, "error", err)
		}
	})
}

// endMoves ends all that is under way, and returns when it has.
func (r *Roster) endMoves() {
	m := &r.moving
	m.Lock()
	m.ended = true
	m.Unlock()
	m.end()
	m.work.Wait()
}

// tend does the steps of a shard, one after the other, until there is none. Errors: why it is not here.
func (r *Roster) tend(ctx context.Context, at *slot, step tenure.Step) (err error) {
	var work context.Context // of Own and Fold
	for {
		switch step {
		case tenure.Own:
			work = at.begin(ctx)
			step = at.on(outcome(tenure.Owned, r.claim(work, at, &err)))
		case tenure.Fold:
			if err = at.owned().fold(work); err == nil {
				r.serve(at)
				r.opt.Moved(at.number, true, nil)
			}
			step = at.on(outcome(tenure.Folded, err))
		case tenure.Leave, tenure.Drop:
			r.letGo(ctx, at, step == tenure.Leave)
			err = at.forget(err)
			if r.opt.Sharing != nil {
				r.opt.Sharing.Gone(at.number)
			}
			r.opt.Moved(at.number, false, err)
			step = at.on(tenure.Left)
		default:
			return err
		}
	}
}

func outcome(well tenure.Event, err error) tenure.Event {
	if err != nil {
		return tenure.Failed
	}
	return well
}

// begin gives the context of what is under way, which Stop ends.
func (at *slot) begin(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.mu.stop = stop; at.mu.stopped {
		stop()
	}
	return ctx
}

// claim takes a shard over. Why is the error too.
func (r *Roster) claim(ctx context.Context, at *slot, why *error) error {
	owner, err := r.opt.Log.Own(ctx, at.partition)
	if err == nil {
		at.mu.Lock()
		at.mu.shard = newShard(r, at, owner)
		at.mu.Unlock()
	}
	*why = err
	return err
}

// owned is the shard that is owned; nil: none is.
func (at *slot) owned() *shard {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.mu.shard
}

// forget gives the shard up, and tells why it is not here; nil: by Lose. Err is why a step failed.
func (at *slot) forget(err error) (why error) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.mu.shard = nil
	switch {
	case at.mu.why != nil:
		return at.mu.why
	case at.mu.stopped:
		return nil
	}
	return err
}

// serve has the sessions that were read be here.
func (r *Roster) serve(at *slot) {
	s := at.owned()
	read := slices.Collect(maps.Values(s.seats))
	r.mu.Lock()
	at.serving.Store(s)
	r.mu.Unlock()
	for _, seat := range read {
		seat.appear()
	}
	if s.beside != nil && r.opt.Sharded { // else it has to wait for the sessions of all shards
		s.beside.Serve()
	}
	if r.opt.Sharing != nil {
		r.opt.Sharing.Serves(at.number, s.Highest())
	}
}

// served visits the shards whose sessions are here.
func (r *Roster) served(visit func(*shard) bool) {
	for _, at := range r.slots {
		if s := at.serving.Load(); s != nil && !visit(s) {
			return
		}
	}
}

// appear counts a session that was read and has its clock run, unless its client was here faster.
func (s *Seat) appear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state != nil && s.mu.holder == nil && !s.mu.counted {
		s.count()
		s.arm()
	}
}

// letGo ends the connections of the sessions of a shard, and all that is due by the clock; writing stores what is to be
// stored. When it returns nothing of the shard is written any more.
func (r *Roster) letGo(ctx context.Context, at *slot, writing bool) {
	s := at.owned()
	if s == nil {
		return
	}
	s.leaving.Store(true)
	r.mu.Lock()
	at.serving.Store(nil)
	seats := s.seats
	s.seats = nil // who gives a seat up finds nothing to do
	r.mu.Unlock()
	for _, seat := range seats {
		if h := seat.move(); h != nil {
			h.Moved()
		}
	}
	if s.beside != nil {
		s.beside.End()
	}
	if writing {
		ctx, cancel := context.WithTimeout(ctx, lastWords)
		defer cancel()
		if _, err := s.makeCheckpoint(ctx); err != nil && !s.isLost(err) {
			r.complain("leave", "where sessions stand was not stored as their shard left: some messages will come twice",
				"shard", at.number, "error", err)
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.gone = true
}

// move takes the session from its connection, and gives that; nil: it has none. The log goes on to say that the client
// is connected: the next node waits for it with the will. Where it stands is stored as of now.
func (s *Seat) move() (h Holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.alarms.Cancel(s)
	s.uncount()
	h = s.mu.holder
	s.mu.epoch++
	s.mu.holder, s.mu.awaited = nil, nil
	if h != nil {
		s.roster.present.Add(-1)
		if s.mu.state.Cut(s.shard.last()) {
			s.shard.note(s)
		}
	}
	return h
}

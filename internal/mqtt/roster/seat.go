package roster

import (
	"context"
	"errors"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Holder is the connection that has a seat.
type Holder interface {
	// Settled tells what became of a unit that the holder appended, in the order of its Appends. It comes from the
	// log's goroutine and must not block. A holder that has lost the seat is told nothing any more.
	Settled(ticket uint32, err error)
	// Arrived tells that it is known now what became of the message of QoS 2 of a packet id that the holder awaits,
	// stored or not. It comes as Settled does.
	Arrived(id uint16, stored bool)
	// Aside is how many bytes the holder keeps until the session is saved. The seat is locked.
	Aside() int
	// LetGo has the group of a shared subscription let a message go that the holder keeps aside: it is the session's from
	// here on, in the unit that is put together. It is false when the group has given it to another. The seat is locked.
	LetGo(from session.Place) bool
	// Saved tells that the first bytes kept aside may go, or that they must not, because the log did not take what they
	// rest on.
	Saved(bytes int, err error)
	// Displaced tells that another has the seat now. It comes once, from the goroutine of the new holder, and must not
	// wait for the old one's.
	Displaced()
	// Moved tells that the session is another node's from here on, so the connection ends without a word to it. It comes
	// once, from the goroutine of the shard, and must not wait.
	Moved()
}

// Seat is where a session is, with or without a connection.
type Seat struct {
	roster *Roster
	shard  *shard
	id     string
	mu     struct {
		sync.Mutex
		state   *session.State // nil: no session
		holder  Holder         // nil: no connection
		epoch   uint32         // of the holder; raised whenever the seat changes hands
		bytes   int32          // counted in Roster.bytes
		counted bool           // in Roster.sessions
		lasting bool           // counted in Roster.lasting
		// remains are sessions that have ended whose records are still in the log.
		remains []*session.State
		writes  int   // units under way with what collect gave: remains may be among it
		under   *fate // of that of them which write appended; nil: there is none
		exacts  exacts
		awaited []uint16 // packet ids of QoS 2 that the holder awaits
		saving  bool     // it is among shard.saves
		unsure  bool     // the log may have chunks of packet ids that are not so
		kept    bool     // the log has records of state
		will    bool     // and its will
	}
}

// isOthers tells whether there is a session that is not for who connects.
func (s *Seat) isOthers(o *session.Opening, now int64) bool {
	was := s.mu.state
	return was != nil && !was.IsFor(o) && (s.mu.holder != nil || was.Lasts() && was.Ends() > now)
}

// take gives the seat to a holder. It needs the lock of the seat and that of the roster.
func (s *Seat) take(o *session.Opening, h Holder, now int64) (got Taken) {
	was := s.mu.state
	got.seat, got.was, got.Before = s, was, s.mu.holder
	// [MQTT-3.1.2-5] [MQTT-3.1.4-4]
	if got.Present = was != nil && !o.Clean && was.Lasts() && was.Ends() > now; got.Present {
		if got.Before != nil { // its connection ends now, and the session is away for a moment
			was.Leave(now, s.shard.last())
		}
		if w := was.Will(); w != nil && w.Due <= now {
			got.will = was.TakeWill()
		}
		was.In.Abandon() // what the connection before has not appended, it never will
		was.Connect(o)
		got.State = was
		if !was.Lasts() { // it goes on in memory only, and ends with this connection
			s.ended(was)
		}
	} else {
		if was != nil {
			got.will = was.TakeWill()
			s.ended(was)
		}
		got.State = session.New(o) // [MQTT-3.1.2-6]
	}
	s.uncount()
	s.mu.epoch++
	s.mu.state, s.mu.holder, s.mu.awaited = got.State, h, nil
	s.count()
	if got.Before == nil {
		s.roster.present.Add(1)
	}
	return got
}

// ended notes that the records of a session are to be removed, if there are any.
func (s *Seat) ended(state *session.State) {
	s.mu.unsure = false // of that which is removed
	if s.mu.kept {
		s.mu.remains = append(s.mu.remains, state)
		s.mu.kept = false
	}
}

// count counts the session in: among those that last, and its memory if it has no connection.
func (s *Seat) count() {
	state := s.mu.state
	s.mu.counted = true
	s.roster.sessions.Add(1)
	if s.mu.lasting = state.Lasts(); s.mu.lasting {
		s.roster.lasting.Add(1)
	}
	if s.mu.holder == nil {
		s.weigh()
	}
}

// weigh counts the memory of a session without a connection, as it is now. It needs the lock of the seat.
func (s *Seat) weigh() {
	if !s.mu.counted || s.mu.holder != nil {
		return
	}
	n := int32(seatBytes + s.mu.state.Kept())
	s.roster.bytes.Add(int64(n - s.mu.bytes))
	s.mu.bytes = n
}

// uncount counts it out again.
func (s *Seat) uncount() {
	if !s.mu.counted {
		return
	}
	s.roster.sessions.Add(-1)
	if s.mu.lasting {
		s.roster.lasting.Add(-1)
	}
	s.roster.bytes.Add(-int64(s.mu.bytes))
	s.mu.counted, s.mu.lasting, s.mu.bytes = false, false, 0
}

// fits tells whether there is room for a session that lasts. Who has one has its place, and that of its will: only a
// larger one needs room, unless it is small. It needs the locks of the seat and of the roster.
func (s *Seat) fits(o *session.Opening) bool {
	r, will, was := s.roster, o.KeepsWill(), s.mu.state
	roomy := r.bytes.Load()+int64(will) < r.opt.MaxBytes
	if was != nil && was.Lasts() {
		return roomy || will <= max(was.Will().Size(), smallWill)
	}
	return roomy && r.lasting.Load() < int64(r.opt.MaxSessions)
}

const (
	// seatBytes is about what a session takes without subscriptions and will.
	seatBytes = 500
	// smallWill is what the will of a session that has its place may take where there is no room: about 400 bytes of it.
	smallWill = 1000
)

// Term is the time in which a holder has a seat: until another takes it, or the holder leaves it. The zero Term is
// over.
type Term struct {
	seat  *Seat
	epoch uint32
}

// Lock gives the session, locked, until Unlock; nil, and not locked, when the term is over.
func (t *Term) Lock() *session.State {
	if t.seat == nil {
		return nil
	}
	t.seat.mu.Lock()
	if t.seat.mu.epoch != t.epoch || t.seat.mu.holder == nil {
		t.seat.mu.Unlock()
		return nil
	}
	return t.seat.mu.state
}

// Unlock ends what Lock began.
func (t *Term) Unlock() { t.seat.mu.Unlock() }

// Over tells whether another has the seat.
func (t *Term) Over() bool {
	if t.Lock() == nil {
		return true
	}
	t.Unlock()
	return false
}

// Append appends a unit for the session; with a ticket above 0 the holder's Settled follows.
// Errors: Fenced when the term is over; those of Log.Append.
func (t *Term) Append(log stream.Log, u *stream.Unit, ticket uint32) error {
	if t.Over() {
		return errFenced()
	}
	if ticket == 0 {
		return log.Append(u, nil, 0)
	}
	return log.Append(u, t.seat, uint64(t.epoch)<<epochShift|uint64(ticket))
}

func errFenced() error {
	return fault.New(fault.Fenced, "mqtt.Append", "another connection has the session")
}

// Appended implements stream.Receipt.
func (s *Seat) Appended(ticket uint64, _ stream.Placed, err error) {
	if ticket&exactBit != 0 {
		s.shard.heed(err)
		if h, awaited := s.settleExact(err); h != nil {
			for _, id := range awaited {
				h.Arrived(id, err == nil)
			}
		}
	}
	if h := s.holding(uint32(ticket >> epochShift)); h != nil {
		h.Settled(uint32(ticket), err)
	}
}

// holding is the holder of an epoch, or nil.
func (s *Seat) holding(epoch uint32) Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.epoch != epoch {
		return nil
	}
	return s.mu.holder
}

// Cut notes that the holder takes no more, before it leaves: what it refuses from here on is not taken.
func (t *Term) Cut() {
	if state := t.Lock(); state != nil {
		t.CutLocked(state)
		t.Unlock()
	}
}

// CutLocked is Cut for who has the session locked.
func (t *Term) CutLocked(state *session.State) {
	if state.Cut(t.Last()) {
		t.Changed()
	}
}

// Changed has a checkpoint look at the session. The session may be locked or not.
func (t *Term) Changed() { t.seat.shard.note(t.seat) }

// Last is the last mark of the session's shard.
func (t *Term) Last() uint64 { return t.seat.shard.last() }

// Left is a session whose connection ended. Settle has to follow.
type Left struct {
	seat  *Seat
	state *session.State
	will  *session.Will // to be published now; nil: none
	taken bool          // the session has the will no more
	over  bool          // it has ended
}

// Settle publishes the will, if it is due, and stores that the session is away, or that it has ended. It may wait for
// room in the log. Errors: those of the log.
func (l *Left) Settle(ctx context.Context) error {
	var err error
	if l.will != nil {
		err = l.seat.publishWill(ctx, l.state, l.will, l.taken)
	}
	if l.seat.hasRecords() {
		err = errors.Join(err, l.seat.storeLater(ctx))
	}
	if l.over {
		l.seat.roster.ended(l.state)
	}
	return err
}

// Leave ends the term, and the session with it unless it lasts [MQTT-3.1.2-23], not before [MQTT-4.1.0-1]
// [MQTT-4.1.0-2 of 3.1.1]; nil: another has the seat.
func (t *Term) Leave() *Left {
	if t.seat == nil {
		return nil
	}
	r, seat := t.seat.roster, t.seat
	now := r.opt.Clock().UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	state := t.Lock()
	if state == nil {
		return nil
	}
	defer t.Unlock()
	left := &Left{seat: seat, state: state}
	seat.uncount()
	seat.mu.epoch++
	seat.mu.holder = nil
	r.present.Add(-1)
	if !state.Lasts() {
		left.will, left.taken, left.over = state.TakeWill(), true, true
		seat.mu.state = nil
		seat.ended(state)
		if !seat.remains() {
			delete(seat.shard.seats, seat.id)
		}
		return left
	}
	state.Leave(now, seat.shard.last())
	state.Out.Compact()
	if w := state.Will(); w != nil && w.Due <= now {
		left.will = w
	}
	seat.count()
	seat.arm()
	return left
}

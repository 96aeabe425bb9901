package retain

import (
	"slices"
	"strings"
	"sync"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// flights are the units of this node that hold retained messages and have no receipt yet.
//
// A retained message is two records, one for who listens and one for who comes later, and the log tells of partitions
// one by one: whoever subscribes while such a unit is under way could get both of them, or neither. So a request knows
// all units that were under way between before and after its subscription came into force. Their receipts say where
// both records are, and the epoch in which the live one became news decides: if it is not older than the subscription,
// the message comes live, else it is in the answer.
type flights struct {
	sync.Mutex
	last uint64 // number of the newest
	open map[*Flight]struct{}
	asks []*Ask // that are being put together
	free []*Flight

	live Live
}

// Live is what delivers live records.
type Live interface {
	// Heard tells in which epoch a record became news for who listens; 0: nobody gets it live, as far as is known. It
	// does not wait.
	Heard(p stream.PartitionID, offset record.Offset) uint64
	// Follow has all be followed that a subscription wants, also of topics that have just been made: from then on what
	// Heard says is so.
	Follow()
}

// Flight is a unit under way. It is the unit's receipt in place of the one that it was made with.
type Flight struct {
	s      *Store
	to     stream.Receipt
	number uint64
	pairs  []pair
	asks   []*Ask // that wait for it

	landings []landing
}

// pair is a retained message in a unit: the write of the live record, and its partition, and the write for the
// retained messages. Of a certificate both are one record.
type pair struct {
	write, retained int
	live            stream.PartitionID
}

// landing is what became of a pair.
type landing struct {
	number   uint64 // of the flight
	epoch    uint64 // in which the live record became news; 0: not yet, or nobody gets it
	part     stream.PartitionID
	at       record.Offset // where the live record is
	retained record.Offset // where the other one is
}

// HeardBy says who knows in which epoch a record became news. It is to be called before anything is appended.
func (s *Store) HeardBy(live Live) { s.flights.live = live }

// nobody gets anything live.
type nobody struct{}

// Heard implements Live.
func (nobody) Heard(stream.PartitionID, record.Offset) uint64 { return 0 }

// Follow implements Live.
func (nobody) Follow() {}

// Track notes that a unit is about to be appended. If it holds retained messages, each behind the write of its live
// record unless it is a certificate, the Flight has to be its receipt, and Drop has to follow if the log does not take
// it; otherwise it is nil.
func (s *Store) Track(u *stream.Unit, to stream.Receipt) *Flight {
	first := slices.IndexFunc(u.Writes, func(w stream.Write) bool { return w.Partition == s.partition })
	if first < 0 {
		return nil
	}
	f := s.takeFlight(to)
	for i := first; i < len(u.Writes); i++ {
		if u.Writes[i].Partition == s.partition {
			live := i - 1
			if hinge.IsCertificate(u.Writes[i].Record.Key) {
				live = i
			}
			f.pairs = append(f.pairs, pair{live, i, u.Writes[live].Partition})
		}
	}
	s.flights.Lock()
	defer s.flights.Unlock()
	s.flights.last++
	f.number = s.flights.last
	s.flights.open[f] = struct{}{}
	for _, a := range s.flights.asks {
		a.awaits(f)
	}
	return f
}

// Log is the log for who appends retained messages: it tracks the units that hold some.
func (s *Store) Log() stream.Log { return tracked{Log: s.opt.Log, s: s} }

type tracked struct {
	stream.Log
	s *Store
}

// Append implements stream.Log.
func (t tracked) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	f := t.s.Track(u, to)
	if f == nil {
		return t.Log.Append(u, to, ticket)
	}
	err := t.Log.Append(u, f, ticket)
	if err != nil {
		f.Drop()
	}
	return err
}

func (s *Store) takeFlight(to stream.Receipt) *Flight {
	s.flights.Lock()
	defer s.flights.Unlock()
	n := len(s.flights.free)
	if n == 0 {
		return &Flight{s: s, to: to}
	}
	f := s.flights.free[n-1]
	s.flights.free = s.flights.free[:n-1]
	f.to = to
	return f
}

// Appended implements stream.Receipt.
func (f *Flight) Appended(ticket uint64, at stream.Placed, err error) {
	to := f.to
	f.land(at)
	if to != nil {
		to.Appended(ticket, at, err)
	}
}

// Drop says that the log did not take the unit.
func (f *Flight) Drop() { f.land(nil) }

// land ends a flight, and lets those go on who waited for it.
func (f *Flight) land(at stream.Placed) {
	s := f.s
	f.landings = f.landings[:0]
	for _, p := range f.pairs {
		if at != nil {
			live := at.Offset(p.write)
			f.landings = append(f.landings,
				landing{f.number, s.flights.live.Heard(p.live, live), p.live, live, at.Offset(p.retained)})
		}
	}
	for _, q := range s.landed(f) {
		s.Resume(q)
	}
}

// landed gives the requests that can be answered now.
func (s *Store) landed(f *Flight) (due []*Request) {
	s.flights.Lock()
	defer s.flights.Unlock()
	delete(s.flights.open, f)
	for _, a := range f.asks {
		a.landed = append(a.landed, f.landings...)
		due = append(due, a.release()...)
	}
	clear(f.asks)
	f.to, f.pairs, f.asks = nil, f.pairs[:0], f.asks[:0]
	if len(s.flights.free) < keptFlights {
		s.flights.free = append(s.flights.free, f)
	}
	return due
}

// keptFlights bounds the memory that is kept for flights.
const keptFlights = 256

// Ask is what one SUBSCRIBE asks for. Begin it before the subscriptions are in force, Send what each of them asks for,
// and then End it.
type Ask struct {
	s        *Store
	requests []*Request
	landed   []landing
	reheard  bool          // landed has what is to be known
	open     int           // flights that it waits for, and 1 until End
	settled  chan struct{} // closed when there are none
}

// Begin begins an Ask.
func (s *Store) Begin() *Ask {
	a := &Ask{s: s, open: 1}
	s.flights.Lock()
	defer s.flights.Unlock()
	for f := range s.flights.open {
		a.awaits(f)
	}
	s.flights.asks = append(s.flights.asks, a)
	return a
}

// Settled gives a channel that is closed when the units with retained messages that are under way now have their
// receipts; nil: there are none. Who waits for it before he subscribes finds all of them older than the subscription.
func (s *Store) Settled() <-chan struct{} {
	s.flights.Lock()
	defer s.flights.Unlock()
	if len(s.flights.open) == 0 {
		return nil
	}
	a := &Ask{s: s, settled: make(chan struct{})}
	for f := range s.flights.open {
		a.awaits(f)
	}
	return a.settled
}

// awaits needs the lock of flights, as does release.
func (a *Ask) awaits(f *Flight) {
	f.asks = append(f.asks, a)
	a.open++
}

func (a *Ask) release() (due []*Request) {
	if a.open--; a.open > 0 {
		return nil
	}
	if a.settled != nil {
		close(a.settled)
	}
	return a.requests
}

// Send asks for all retained messages that the filter of a subscription matches and that do not come live by it, for
// they became news before its epoch; but not those that the client notBy published, unless that is empty.
func (a *Ask) Send(filter, notBy string, to Receiver, epoch uint64) {
	s := a.s
	q := &Request{filter: filter, notBy: notBy, to: to, ask: a, epoch: epoch}
	if bounds, err := s.opt.Log.Bounds(s.partition); err == nil {
		q.high = bounds.Stable
	}
	if a.add(q) && s.hasNone(q) {
		q.isThrough()
	}
}

// rehear asks again for what nobody was known to get when it landed. Its topic may have been made a moment before, and
// be followed from its start later; or the subscription has it followed, and was not in force then.
func (a *Ask) rehear() {
	f := &a.s.flights
	unheard := func(l landing) bool { return l.epoch == 0 }
	f.Lock()
	again := slices.ContainsFunc(a.landed, unheard) && !a.reheard
	a.reheard = true
	f.Unlock()
	if !again {
		return
	}
	f.live.Follow() // which may ask the log
	f.Lock()
	defer f.Unlock()
	for i := range a.landed {
		if l := &a.landed[i]; unheard(*l) {
			l.epoch = f.live.Heard(l.part, l.at)
		}
	}
}

// add takes a request in, and tells whether no unit was under way since Begin. The request is not to be answered then
// if it is through.
func (a *Ask) add(q *Request) (calm bool) {
	f := &a.s.flights
	f.Lock()
	defer f.Unlock()
	q.last = f.last
	a.requests = append(a.requests, q)
	return a.open == 1 && len(a.landed) == 0
}

// hasNone tells that no retained message belongs to the answer, where that can be told at once, as it mostly can: then
// the request needs no turn. All that is older than the subscription has to be in the index, and looking for names has
// to be quick.
func (s *Store) hasNone(q *Request) bool {
	if s.folded.Load() < int64(q.high) || s.Len() > 0 && strings.Contains(q.filter, "+") {
		return false
	}
	none := true
	s.index.RLock()
	defer s.index.RUnlock()
	s.index.names.Match(q.filter, func([]byte, entry) bool {
		none = false
		return false
	})
	return none
}

// End ends an Ask: its requests are answered when all that was under way has landed.
func (a *Ask) End() {
	f := &a.s.flights
	f.Lock()
	f.asks = slices.DeleteFunc(f.asks, func(other *Ask) bool { return other == a })
	a.requests = slices.DeleteFunc(a.requests, func(q *Request) bool { return q.through })
	due := a.release()
	f.Unlock()
	for _, q := range due {
		a.s.Resume(q)
	}
}

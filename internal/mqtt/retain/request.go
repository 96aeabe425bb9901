package retain

import (
	"hash/maphash"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Outcome is what a receiver says to one retained message.
type Outcome uint8

const (
	// Sent is a message that is on its way, or that the receiver does not want.
	Sent Outcome = iota
	// Later is a message that the receiver cannot take now: it calls Resume when it can.
	Later
	// Stop ends the request.
	Stop
)

// Receiver gets the messages of a request, from the goroutine of Run. Its methods must not block.
type Receiver interface {
	// Retained offers one message of a request. The message is valid only during the call; at is its place in
	// Partition.
	Retained(q *Request, m *hinge.Message, at record.Offset) Outcome
	// RetainedFlush follows the last of a run of Retained.
	RetainedFlush()
	// RetainedThrough comes once: when the request is through or, before that, when the log cannot be read for a while,
	// so that what waits for older messages goes on.
	RetainedThrough()
	// RetainedReady tells whether the receiver takes messages now. If not, it calls Resume when it does.
	RetainedReady(q *Request) bool
	// RetainedRoom asks for room for n bytes more that the request has in memory, or gives them back when n is below 0.
	// False: there is none now; the request asks again.
	RetainedRoom(n int64) bool
}

// Request sends the retained messages that a filter matches to one receiver, as fast as that takes
// them. However many they are, all arrive; one that is replaced meanwhile by what is not newer than the subscription is
// sent in its newest form, and what is newer comes live.
type Request struct {
	filter string
	notBy  string // client identifier; empty: whoever published it
	to     Receiver
	ask    *Ask
	high   record.Offset // of Partition, when the subscription was in force
	last   uint64        // number of the newest flight then
	epoch  uint64        // of the subscription

	queued bool // guarded by Store.mu

	// Belongs to the goroutine of Run, before the End of its Ask to that.
	names   []string // of the page in hand that are left; nil: it has to be listed
	page    uint64   // the one in hand
	pages   uint64   // of how many; 0: nobody has counted
	held    int64    // bytes of names
	started bool
	through bool
	older   map[record.Offset]bool // retained records of units that were under way: whether they belong to the answer
	need    record.Offset          // how far the fold has to be
	pause   time.Duration
}

// Resume says that the receiver, which had answered Later, can take messages again.
func (s *Store) Resume(q *Request) {
	s.mu.Lock()
	if !q.queued {
		q.queued = true
		s.mu.queue = append(s.mu.queue, q)
	}
	s.mu.Unlock()
	s.wake()
}

// take takes the queued requests.
func (s *Store) take() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.mu.queue
	s.mu.queue = nil
	for _, q := range queue {
		q.queued = false
	}
	return queue
}

// serve gives every request a turn.
func (s *Store) serve(queue []*Request) {
	for _, q := range queue {
		if !q.started {
			s.start(q)
		}
		if s.cursor < q.need { // the fold could not be read so far
			s.later(q)
			continue
		}
		if s.turn(q) {
			s.Resume(q)
		}
	}
}

// isThrough tells the receiver, once.
func (q *Request) isThrough() {
	if !q.through {
		q.through = true
		q.to.RetainedThrough()
	}
}

// start judges what was under way when the request was made.
func (s *Store) start(q *Request) {
	q.started, q.need = true, q.high
	q.ask.rehear()
	s.flights.Lock()
	defer s.flights.Unlock()
	q.older = make(map[record.Offset]bool, len(q.ask.landed))
	for _, l := range q.ask.landed {
		if l.number > q.last {
			continue
		}
		q.older[l.retained] = l.epoch < q.epoch
		q.need = max(q.need, l.retained+1)
	}
}

// answers tells whether the retained message at an offset is older than the subscription.
func (q *Request) answers(offset record.Offset) bool {
	if older, underWay := q.older[offset]; underWay {
		return older
	}
	return offset < q.high
}

const (
	// turnMessages and turnBytes are what a request may send before others have their turn.
	turnMessages = 256
	turnBytes    = 256 << 10
)

// turn goes on with a request. It is true when there is more and the receiver takes it.
func (s *Store) turn(q *Request) (more bool) {
	if q.names == nil {
		if !q.to.RetainedReady(q) {
			return false
		}
		if !s.list(q) {
			s.later(q)
			return false
		}
	}
	defer q.to.RetainedFlush()
	bytes := 0
	for n := 0; n < turnMessages && bytes < turnBytes && len(q.names) > 0; n++ {
		outcome, size, err := s.offer(q, q.names[0])
		if err != nil {
			s.later(q)
			return false
		}
		bytes += size
		switch outcome {
		case Later:
			return false
		case Stop:
			q.names, q.page = q.names[:0], q.pages
		default:
			q.names = q.names[1:]
		}
	}
	if len(q.names) > 0 {
		return true
	}
	q.to.RetainedRoom(-q.held)
	q.names, q.held = nil, 0
	if q.page++; q.page < q.pages {
		return true
	}
	q.isThrough()
	return false
}

// listedBytes is about what a name in a list takes besides its text.
const listedBytes = 32

// list lists the names of the page in hand. A filter may match all names there are, and many requests may wait for
// their receivers: so they are listed page by page, each name in the page that its hash says. It is false where the
// receiver has no room for a page.
func (s *Store) list(q *Request) bool {
	pages := max(q.pages, 1)
	names, bytes := s.match(q, pages)
	if q.pages == 0 && bytes > s.opt.PageBytes {
		pages = uint64(bytes/s.opt.PageBytes) + uint64(bytes/s.opt.PageBytes)/4 + 1
		names, bytes = s.match(q, pages)
	}
	if !q.to.RetainedRoom(bytes) {
		return false
	}
	q.names, q.pages, q.held = names, pages, bytes
	return true
}

// match gives the names of a page of so many that the filter matches and that belong to the answer. Where one page is
// to hold them all and cannot, only their size counts.
func (s *Store) match(q *Request, pages uint64) (names []string, bytes int64) {
	names = []string{}
	s.index.RLock()
	defer s.index.RUnlock()
	s.index.names.Match(q.filter, func(name []byte, e entry) bool {
		if !q.answers(e.offset) || pages > 1 && maphash.Bytes(s.seed, name)%pages != q.page {
			return true
		}
		if bytes += listedBytes + int64(len(name)); pages > 1 || bytes <= s.opt.PageBytes {
			names = append(names, string(name))
		}
		return true
	})
	return names, bytes
}

// later has a request wait, because the log could not be read.
func (s *Store) later(q *Request) {
	q.isThrough()
	q.pause = min(max(2*q.pause, firstPause), lastPause)
	time.AfterFunc(q.pause, func() { s.Resume(q) })
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// offer offers the message of a name, of which it says the size. An error says that the log may yet give it. A fault of
// ours over one message costs that message only.
func (s *Store) offer(q *Request, name string) (outcome Outcome, size int, err error) {
	key := []byte(name)
	s.index.RLock()
	e, ok := s.index.names.Get(key)
	s.index.RUnlock()
	if !ok || !q.answers(e.offset) {
		return Sent, 0, nil // cleared meanwhile, or it comes live
	}
	defer func() {
		if cause := recover(); cause != nil {
			s.metrics.poisoned.Inc()
			s.complain("panic", "a retained message cannot be sent: please report this", "offset", e.offset, "panic", cause)
			outcome, err = Sent, nil
		}
	}()
	if e.small != nil && !s.mayBeBy(q.notBy, key, e.small) {
		e.small.fill(key, &s.message)
		return q.to.Retained(q, &s.message, e.offset), len(s.message.Payload), nil
	}
	return s.offerStored(q, e.offset)
}

// mayBeBy tells whether a client may have published a small message, to be sure of which it has to be read.
func (s *Store) mayBeBy(client string, name []byte, sm *small) bool {
	if client == "" || sm.publisher == 0 {
		return false
	}
	s.message.Topic = name
	s.message.SetPublisher(client)
	return s.message.PublisherSum() == sm.publisher
}

// offerStored offers a message as it is in the log.
func (s *Store) offerStored(q *Request, at record.Offset) (outcome Outcome, size int, err error) {
	table := s.opt.Mapping()
	_, err = s.opt.Log.Scan(s.partition, at, stream.ScanOptions{End: at + 1, MaxBytes: 1}, func(v *record.View) bool {
		if table.Message(table.CatchAll(), v, &s.message) {
			s.message.Topic, s.message.Retain = v.Key, true
			if q.notBy != "" && s.message.PublishedBy(q.notBy) {
				return true
			}
			outcome, size = q.to.Retained(q, &s.message, at), len(s.message.Payload)
		}
		return true
	})
	switch {
	case err == nil:
		q.pause = 0
		return outcome, size, nil
	case fault.Is(err, fault.Corrupt):
		s.metrics.corrupt.Inc()
		s.complain("damage", "a retained message cannot be read: it is not sent", "offset", at, "error", err)
		return Sent, 0, nil
	case fault.Is(err, fault.OutOfRange), fault.Is(err, fault.NotFound), fault.Is(err, fault.Closed):
		return Sent, 0, nil
	}
	s.complain("read", "cannot read a retained message, trying again", "offset", at, "error", err)
	return Later, 0, err
}

// complain logs a line, unless one about the same was just logged.
func (s *Store) complain(about, line string, args ...any) {
	if held, ok := s.lines.Pass(about); ok {
		s.opt.Logger.Error(line, append(args, "more", held)...)
	}
}

package kafka

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// Fetch sessions (KIP-227): the door remembers which partitions a client reads and from where, and what it was told of
// them. The client says only what changes, and is told only that: records, an error, another high watermark or log
// start.
//
// A session is one of the door, not of a connection. Partitions that gave records go behind the others, so that each
// has its turn where the bounds of an answer let only some in (KIP-74). Which sessions stay where there is no room for
// all is as in Kafka: one that was not used for two minutes goes first, then the smallest of those that are older than
// that, if it is smaller than the one to come. Who gets none fetches in full.

const (
	sessionAge   = 2 * time.Minute // min.incremental.fetch.session.eviction.ms of a Kafka broker
	sessionShare = 16              // the part of the budget that fetch sessions may have

	sessionBytes      = 512 // what a session takes without its partitions, about
	sessionTopicBytes = 192 // one of its topics, without the name
	sessionPartBytes  = 160
)

// fetchSessions are the sessions of a door.
type fetchSessions struct {
	budget  *budget
	most    int64 // bytes
	slots   int   // sessions
	now     func() time.Duration
	evicted telemetry.Counter

	mu    sync.Mutex
	byID  map[int32]*fetchSession
	used  fetchSession // head of a ring: used.next was not used for the longest time
	bytes int64
	parts int
}

// fetchSession is one of them. The lock of fetchSessions is for its place among the others, its own for the rest.
type fetchSession struct {
	id         int32
	byTopicID  bool // its requests are of v13 and later
	made, last time.Duration
	prev, next *fetchSession // of the ring; nil: it is gone
	bytes      int64         // counted
	size       int           // partitions counted

	mu     sync.Mutex
	epoch  int32 // of the next request
	topics map[string]*sessionTopic
	parts  map[sessionKey]*sessionPart
	order  []*sessionPart
	weight int64 // bytes that topics and partitions take
}

// sessionTopic is a topic of which a session has partitions.
type sessionTopic struct {
	name  []byte // up to v12
	id    wire.UUID
	parts int
}

type sessionKey struct {
	topic     *sessionTopic
	partition int32
}

// sessionPart is one partition of a session: what is asked, and what the client was told last.
type sessionPart struct {
	topic     *sessionTopic
	asked     wire.FetchPartition
	high      int64 // -1: nothing, or an error
	start     int64
	moves     bool // behind the others
	forgotten bool
}

// sessionUse is what a fetch has to do with a session.
type sessionUse struct {
	session *fetchSession // nil: none
	opens   bool          // one is to be made of it
	epoch   int32         // that the session has as long as no other request came
	parts   []*sessionPart
}

func newFetchSessions(b *budget, slots int, now func() time.Duration) *fetchSessions {
	s := &fetchSessions{budget: b, most: b.limit / sessionShare, slots: slots, now: now, byID: map[int32]*fetchSession{}}
	s.used.prev, s.used.next = &s.used, &s.used
	return s
}

// begin takes a request into its session and makes it one of all partitions of it.
func (s *fetchSessions) begin(r *wire.FetchRequest, u *sessionUse) wire.Code {
	if r.SessionID == 0 && r.SessionEpoch == -1 {
		return wire.None
	}
	if r.SessionEpoch == 0 || r.SessionEpoch == -1 {
		if r.SessionID != 0 {
			s.drop(s.find(r.SessionID))
		}
		u.opens = r.SessionEpoch == 0
		return wire.None
	}
	session := s.find(r.SessionID)
	if session == nil {
		return wire.FetchSessionIDNotFound
	}
	code := session.join(r, u)
	if code == wire.None && !s.counted(session) {
		code = wire.FetchSessionIDNotFound // it grew beyond what there is room for
	}
	if code != wire.None {
		*u = sessionUse{parts: u.parts[:0]}
	}
	return code
}

// kept is how many sessions there are, and how many partitions they have.
func (s *fetchSessions) kept() (sessions, parts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID), s.parts
}

// find is the session of an id, which is used now, or nil.
func (s *fetchSessions) find(id int32) *fetchSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.byID[id]
	if session != nil {
		session.last = s.now()
		session.unlink()
		session.linkBefore(&s.used)
	}
	return session
}

func (f *fetchSession) linkBefore(at *fetchSession) {
	f.prev, f.next = at.prev, at
	f.prev.next, at.prev = f, f
}

func (f *fetchSession) unlink() {
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = nil, nil
}

// drop ends a session; nil is none.
func (s *fetchSessions) drop(session *fetchSession) {
	if session == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(session)
}

func (s *fetchSessions) dropLocked(session *fetchSession) {
	if session.next == nil { // it is gone
		return
	}
	session.unlink()
	delete(s.byID, session.id)
	s.countLocked(session, 0, 0)
}

func (s *fetchSessions) countLocked(session *fetchSession, bytes int64, size int) {
	s.bytes += bytes - session.bytes
	s.parts += size - session.size
	s.budget.keepSessions(bytes - session.bytes)
	session.bytes, session.size = bytes, size
}

// counted counts what a session takes now. It is false, and the session at an end, if there is no room for that; one
// without partitions ends too.
func (s *fetchSessions) counted(session *fetchSession) bool {
	session.mu.Lock()
	bytes, size := session.weight+sessionBytes, len(session.parts)
	session.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if session.next == nil { // ended meanwhile: this request is its last
		return true
	}
	room := bytes <= session.bytes || s.roomLocked(bytes-session.bytes, 0, size, session)
	if !room || size == 0 {
		s.dropLocked(session)
		return room
	}
	s.countLocked(session, bytes, size)
	return true
}

// roomLocked makes room for so many bytes and sessions by ending others, where that is allowed for a session of size
// partitions.
func (s *fetchSessions) roomLocked(bytes int64, sessions, size int, except *fetchSession) bool {
	for s.bytes+bytes > s.most || len(s.byID)+sessions > s.slots {
		victim := s.victimLocked(size, except)
		if victim == nil {
			return false
		}
		s.dropLocked(victim)
		s.evicted.Inc()
	}
	return true
}

// victimLocked is the session that goes first for one of size partitions, or nil.
func (s *fetchSessions) victimLocked(size int, except *fetchSession) *fetchSession {
	now := s.now()
	var least *fetchSession
	for session := s.used.next; session != &s.used; session = session.next {
		switch {
		case session == except:
		case now-session.last > sessionAge:
			return session
		case now-session.made > sessionAge && session.size < size && (least == nil || session.size < least.size):
			least = session
		}
	}
	return least
}

// open makes a session of a full fetch, if there is room for one.
func (s *fetchSessions) open(r *wire.FetchRequest, u *sessionUse) {
	session := &fetchSession{
		byTopicID: r.Version >= 13, epoch: 1,
		topics: map[string]*sessionTopic{}, parts: map[sessionKey]*sessionPart{},
	}
	session.takeLocked(r, func(p *sessionPart) { u.parts = append(u.parts, p) }) // nobody else has it
	bytes, size := session.weight+sessionBytes, len(session.parts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if size == 0 || !s.roomLocked(bytes, 1, size, nil) {
		u.parts = u.parts[:0]
		return
	}
	for session.id == 0 || s.byID[session.id] != nil {
		session.id = 1 + rand.Int32N(math.MaxInt32)
	}
	session.made = s.now()
	session.last = session.made
	session.linkBefore(&s.used)
	s.byID[session.id] = session
	s.countLocked(session, bytes, size)
	u.session, u.epoch = session, session.epoch
}

// join takes a request into the session, and makes it one of all its partitions.
func (f *fetchSession) join(r *wire.FetchRequest, u *sessionUse) wire.Code {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.SessionEpoch != f.epoch:
		return wire.InvalidFetchSessionEpoch
	case f.byTopicID != (r.Version >= 13):
		return wire.FetchSessionTopicIDError
	}
	f.takeLocked(r, func(*sessionPart) {})
	f.forgetLocked(r)
	if f.epoch++; f.epoch < 0 { // it wraps around to 1
		f.epoch = 1
	}
	if len(f.parts) > 0 {
		u.session, u.epoch = f, f.epoch
	}
	r.Topics, r.Partitions, u.parts = r.Topics[:0], r.Partitions[:0], u.parts[:0]
	var last *sessionTopic
	for i, p := range f.order {
		if p.topic != last {
			last = p.topic
			r.Topics = append(r.Topics, wire.FetchTopic{Name: last.name, ID: last.id, First: i})
		}
		r.Topics[len(r.Topics)-1].Last = i + 1
		r.Partitions = append(r.Partitions, p.asked)
		u.parts = append(u.parts, p)
	}
	return wire.None
}

// takeLocked takes over what a request asks, and visits its partitions in the order of the request.
func (f *fetchSession) takeLocked(r *wire.FetchRequest, visit func(*sessionPart)) {
	for i := range r.Topics {
		rt := &r.Topics[i]
		t := f.topics[string(keyOf(rt, f.byTopicID))] // does not allocate
		if t == nil {
			t = &sessionTopic{name: append([]byte(nil), rt.Name...), id: rt.ID}
			f.topics[string(keyOf(rt, f.byTopicID))] = t
			f.weight += sessionTopicBytes + 2*int64(len(rt.Name))
		}
		for j := rt.First; j < rt.Last; j++ {
			asked := &r.Partitions[j]
			key := sessionKey{topic: t, partition: asked.Index}
			p := f.parts[key]
			if p == nil {
				p = &sessionPart{topic: t, high: -1, start: -1}
				f.parts[key] = p
				f.order = append(f.order, p)
				t.parts++
				f.weight += sessionPartBytes
			}
			p.asked = *asked
			visit(p)
		}
	}
}

// forgetLocked lets go of what a request says is not read any more.
func (f *fetchSession) forgetLocked(r *wire.FetchRequest) {
	forgotten := 0
	r.Forgotten(func(rt *wire.FetchTopic, partition int32) {
		t := f.topics[string(keyOf(rt, f.byTopicID))]
		if t == nil {
			return
		}
		key := sessionKey{topic: t, partition: partition}
		p := f.parts[key]
		if p == nil {
			return
		}
		delete(f.parts, key)
		p.forgotten = true
		forgotten++
		f.weight -= sessionPartBytes
		if t.parts--; t.parts == 0 {
			delete(f.topics, string(keyOf(rt, f.byTopicID)))
			f.weight -= sessionTopicBytes + 2*int64(len(t.name))
		}
	})
	if forgotten == 0 {
		return
	}
	kept := f.order[:0]
	for _, p := range f.order {
		if !p.forgotten {
			kept = append(kept, p)
		}
	}
	clear(f.order[len(kept):])
	f.order = kept
}

// keyOf is what tells a topic from others in a session.
func keyOf(t *wire.FetchTopic, byID bool) []byte {
	if byID {
		return t.ID[:]
	}
	return t.Name
}

// tell marks which parts of a fetch have nothing that the client has not been told, and gives how many others there
// are.
func (f *fetchSession) tell(u *sessionUse, parts []fetchPart) (told int, code wire.Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != u.epoch {
		return 0, wire.InvalidFetchSessionEpoch // another connection went on with it
	}
	for i := range parts {
		p, was := &parts[i], u.parts[i]
		p.silent = !u.opens && p.bytes == 0 && p.result.Code == wire.None &&
			p.result.High == was.high && p.result.LogStart == was.start
		if !p.silent {
			told++
		}
	}
	return told, wire.None
}

// toldAll remembers what a client was told by an answer that was sent, and has the partitions that gave records go
// behind the others.
func (f *fetchSession) toldAll(u *sessionUse, parts []fetchPart) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != u.epoch {
		return
	}
	moved := 0
	for i := range parts {
		p, was := &parts[i], u.parts[i]
		was.high, was.start = p.result.High, p.result.LogStart
		if p.result.Code != wire.None {
			was.high = -1 // so that it is told when the error is over
		}
		if was.moves = p.bytes > 0; was.moves {
			moved++
		}
	}
	if moved == 0 || moved == len(f.order) {
		return
	}
	stay, move := f.order[:0], u.parts[:0] // which is as long as order
	for _, p := range f.order {
		if p.moves {
			move = append(move, p)
		} else {
			stay = append(stay, p)
		}
	}
	f.order = append(stay, move...)
}

// choose picks the parts that the answer tells of, all without a session, and gives how many topics they have.
func (f *fetch) choose() (topics int, code wire.Code) {
	f.resp.Session = 0
	if f.use.opens && f.use.session == nil {
		f.c.door.sessions.open(&f.req, &f.use)
	}
	if f.use.session == nil {
		return len(f.req.Topics), wire.None
	}
	f.resp.Session = f.use.session.id
	told, code := f.use.session.tell(&f.use, f.parts)
	if told == 0 || code != wire.None {
		return 0, code
	}
	for i := range f.req.Topics {
		if f.told(&f.req.Topics[i]) > 0 {
			topics++
		}
	}
	return topics, wire.None
}

// told is how many partitions of a topic the answer tells of.
func (f *fetch) told(rt *wire.FetchTopic) int {
	if f.use.session == nil {
		return rt.Last - rt.First
	}
	n := 0
	for j := rt.First; j < rt.Last; j++ {
		if !f.parts[j].silent {
			n++
		}
	}
	return n
}

// leave ends what a fetch has to do with its session, and gives back what is counted.
func (f *fetch) leave() {
	f.c.holding.give(f.counted)
	f.counted = 0
	clear(f.use.parts)
	f.use = sessionUse{parts: f.use.parts[:0]}
}

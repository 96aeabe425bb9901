package kafka

import (
	"context"
	"sync"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
)

// Share sessions: the door remembers which partitions a member of a share group fetches from. It opens a session with
// epoch 0, says what changes with the epochs that follow, and closes it with -1. What it has acquired is given to
// others when the session ends: with -1, with its connection, and when it leaves the group.

// The epochs with a meaning of their own.
const (
	shareOpens  = 0
	shareCloses = -1
)

// shareMember names a session.
type shareMember struct{ group, member string }

// shareSession is one of them. It belongs to the requests of its member, one at a time.
type shareSession struct {
	shareMember
	c *conn // that it ends with

	mu    sync.Mutex
	epoch int32 // of the next request
	parts []sharedPlace
	turn  int // the part that is first in the next answer
}

// sharedPlace is one partition of a session.
type sharedPlace struct {
	topic record.UUID
	index int32
	told  bool // it need not be in an answer that has nothing for it
}

// sharedTopic is what a request says of a topic: of ShareFetch and ShareAcknowledge alike.
type sharedTopic struct {
	id         record.UUID
	partitions []sharedPartition
}

type sharedPartition struct {
	index int32
	acks  []shareAcks
}

type shareAcks struct {
	first, last int64
	kinds       []int8
}

// session finds the session of a request that goes on with one, and moves its epoch. Codes: ShareSessionNotFound,
// InvalidShareSessionEpoch.
func (s *shares) session(who shareMember, epoch int32) (*shareSession, wire.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.mu.sessions[who]
	switch {
	case session == nil:
		return nil, wire.ShareSessionNotFound
	case epoch == shareCloses:
		return session, wire.None
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	if epoch != session.epoch {
		return nil, wire.InvalidShareSessionEpoch
	}
	if session.epoch++; session.epoch < 0 { // it wraps around to 1
		session.epoch = 1
	}
	return session, wire.None
}

// open opens a session, in the place of one that the member has. Codes: ShareSessionLimitReached.
func (s *shares) open(c *conn, who shareMember) (*shareSession, wire.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.sessions[who] == nil && len(s.mu.sessions) >= s.limits.MaxSessions {
		return nil, wire.ShareSessionLimitReached
	}
	session := &shareSession{shareMember: who, c: c, epoch: 1}
	s.mu.sessions[who] = session
	if c.sharing == nil {
		c.sharing = map[shareMember]*shareSession{}
	}
	c.sharing[who] = session
	return session, wire.None
}

// update takes in what a request says of the partitions of its session.
func (f *shareSession) update(topics []sharedTopic, forgotten func(topic record.UUID, index int32) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	had := make(map[sharedPlace]struct{}, len(f.parts))
	for _, p := range f.parts {
		had[sharedPlace{topic: p.topic, index: p.index}] = struct{}{}
	}
	for i := range topics {
		for j := range topics[i].partitions {
			one := sharedPlace{topic: topics[i].id, index: topics[i].partitions[j].index}
			if _, is := had[one]; !is && len(f.parts) < maxSessionShares {
				had[one] = struct{}{}
				f.parts = append(f.parts, one)
			}
		}
	}
	kept := f.parts[:0]
	for _, p := range f.parts {
		if !forgotten(p.topic, p.index) {
			kept = append(kept, p)
		}
	}
	f.parts = kept
}

// maxSessionShares is how many partitions a session may have.
const maxSessionShares = 10_000

// next lists the partitions of the session, each time another one first, so that each has its turn.
func (f *shareSession) next() []sharedPlace {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.parts) == 0 {
		return nil
	}
	f.turn = (f.turn + 1) % len(f.parts)
	all := make([]sharedPlace, 0, len(f.parts))
	return append(append(all, f.parts[f.turn:]...), f.parts[:f.turn]...)
}

// tell remembers what an answer told of the partitions: with an error the next is to tell of them too.
func (f *shareSession) tell(answered []sharedPlace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := make(map[sharedPlace]bool, len(answered))
	for _, p := range answered {
		told[sharedPlace{topic: p.topic, index: p.index}] = p.told
	}
	for i := range f.parts {
		p := &f.parts[i]
		if now, is := told[sharedPlace{topic: p.topic, index: p.index}]; is {
			p.told = now
		}
	}
}

// close ends a session, if it is that of the member still, and gives back what the member has.
func (s *shares) close(f *shareSession) {
	s.mu.Lock()
	is := s.mu.sessions[f.shareMember] == f
	if is {
		delete(s.mu.sessions, f.shareMember)
	}
	s.mu.Unlock()
	if !is {
		return
	}
	for _, one := range f.next() {
		if p := s.find(shareKey{f.group, one.topic, one.index}); p != nil {
			s.giveBack(p, f.member)
		}
	}
}

// stands tells whether a session has not ended.
func (s *shares) stands(f *shareSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sessions[f.shareMember] == f
}

// disconnected ends the sessions of a connection.
func (s *shares) disconnected(c *conn) {
	for _, session := range c.sharing {
		s.close(session)
	}
	c.sharing = nil
}

// shareWait is a fetch that waits for something to acquire.
type shareWait struct{ awake chan struct{} } // holds one

func newShareWait() *shareWait { return &shareWait{awake: make(chan struct{}, 1)} }

// wake has the fetch look again. It does not block.
func (w *shareWait) wake() {
	select {
	case w.awake <- struct{}{}:
	default:
	}
}

// park has a wait be told of what comes to share partitions: new records, released ones, and room.
func (s *shares) park(w *shareWait, parts []*sharePart) (leave func()) {
	waiters := make([]waiter, len(parts))
	for i, p := range parts {
		waiters[i].sleeper, waiters[i].id = w, p.id
		s.news.add(&waiters[i])
		p.mu.Lock()
		p.mu.parked[w] = struct{}{}
		p.mu.Unlock()
	}
	return func() {
		for i, p := range parts {
			s.news.remove(&waiters[i])
			p.mu.Lock()
			delete(p.mu.parked, w)
			p.mu.Unlock()
		}
	}
}

// hurry has a share fetch of a connection that waits answer now, with what there is.
func (c *conn) hurry() {
	if w := c.waits.Load(); w != nil {
		w.wake()
	}
}

// sleep waits until something came, or for as long as it is given; draining connections do not wait. Errors: Closed.
func (c *conn) sleep(ctx context.Context, w *shareWait, over <-chan struct{}) (late bool, err error) {
	if c.draining.Load() {
		return true, nil
	}
	select {
	case <-w.awake:
		return c.draining.Load(), nil
	case <-over:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

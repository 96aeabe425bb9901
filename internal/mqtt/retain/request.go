package retain

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
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
}

// Request sends the retained messages that a filter matches to one receiver, as fast as that takes
// them. However many they are, all arrive; one that is replaced meanwhile is sent in its newest form.
type Request struct {
	filter string
	to     Receiver

	queued bool // guarded by Store.mu

	// Belongs to the goroutine of Run.
	names   []string
	started bool
}

// Send queues a request for all retained messages that the filter matches, as they are when
// everything is folded that was acknowledged before this call.
//
// Whoever subscribes gets a message live or retained, never neither: a message that the fanout has seen
// as older than the subscription must be in the answer. Its two records are of one unit, so
// that both can be read by then, and the fold asks the log how far it can be read after it took the request.
func (s *Store) Send(filter string, to Receiver) {
	s.Resume(&Request{filter: filter, to: to})
}

// Resume says that the receiver, which had answered Later, can take messages again.
func (s *Store) Resume(q *Request) {
	s.mu.Lock()
	if !q.queued {
		q.queued = true
		s.mu.queue = append(s.mu.queue, q)
	}
	s.mu.Unlock()
	s.rouse()
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
		if s.turn(q) {
			s.Resume(q)
		}
	}
}

// turnMessages is how many messages a request may send before others have their turn.
const turnMessages = 256

// turn goes on with a request. It is true when there is more and the receiver takes it.
func (s *Store) turn(q *Request) (more bool) {
	if !q.started {
		s.index.RLock()
		s.index.names.Match(q.filter, func(name string, _ *entry) bool {
			q.names = append(q.names, name)
			return true
		})
		s.index.RUnlock()
		q.started = true
	}
	defer q.to.RetainedFlush()
	for range turnMessages {
		if len(q.names) == 0 {
			return false
		}
		switch s.offer(q, q.names[0]) {
		case Later:
			return false
		case Stop:
			q.names = nil
		default:
			q.names = q.names[1:]
		}
	}
	return len(q.names) > 0
}

func (s *Store) offer(q *Request, name string) Outcome {
	key := []byte(name)
	s.index.RLock()
	e, ok := s.index.names.Get(key)
	s.index.RUnlock()
	if !ok {
		return Sent // cleared meanwhile
	}
	e.fill(key, &s.message)
	return q.to.Retained(q, &s.message, e.offset)
}

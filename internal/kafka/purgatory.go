package kafka

import (
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// purgatory is where fetches with nothing to say wait for the news of the log. A parked fetch costs a
// node for each partition it asks for: no goroutine and no polling.
type purgatory struct {
	parked atomic.Int64 // nodes in all shards
	shards [64]struct {
		sync.Mutex
		heads map[stream.PartitionID]*waiter
	}
}

// waiter is one partition that a parked fetch waits for: a node of the list of that partition. The lock
// of the shard guards its links.
type waiter struct {
	sleeper    sleeper
	id         stream.PartitionID
	news       atomic.Bool // there was some since whoever looks took it back
	prev, next *waiter
}

var _ stream.Watcher = (*purgatory)(nil)

// Advanced implements stream.Watcher: it wakes the fetches that wait for p. It never blocks for long:
// waking is an atomic step and, for a parked fetch, the start of a goroutine.
func (q *purgatory) Advanced(p stream.PartitionID, _ record.Offset) {
	if q.parked.Load() == 0 {
		return
	}
	s := &q.shards[int(p)%len(q.shards)]
	s.Lock()
	defer s.Unlock()
	for w := s.heads[p]; w != nil; w = w.next {
		w.news.Store(true)
		w.sleeper.wake()
	}
}

// sleeper is a fetch that waits for news. Its wake is called by the log's goroutine, and does not block.
type sleeper interface{ wake() }

// add puts a node on the list of its partition.
func (q *purgatory) add(w *waiter) {
	q.parked.Add(1)
	s := &q.shards[int(w.id)%len(q.shards)]
	s.Lock()
	if s.heads == nil {
		s.heads = make(map[stream.PartitionID]*waiter)
	}
	w.prev, w.next = nil, s.heads[w.id]
	if w.next != nil {
		w.next.prev = w
	}
	s.heads[w.id] = w
	s.Unlock()
}

// remove takes it off again: after remove returns, its fetch is not woken for it.
func (q *purgatory) remove(w *waiter) {
	s := &q.shards[int(w.id)%len(q.shards)]
	s.Lock()
	switch {
	case w.prev != nil:
		w.prev.next = w.next
	case w.next != nil:
		s.heads[w.id] = w.next
	default:
		delete(s.heads, w.id)
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	s.Unlock()
	q.parked.Add(-1)
}

// Package alarm keeps many deadlines in one heap, for one goroutine that lets time pass: a sleeper for each would cost
// a timer.
package alarm

import (
	"container/heap"
	"sync"
)

// Alarms is when each of many sleepers wants to be told the time. A sleeper that puts its deadline off need not say so:
// it is told the time too early, and sets the next one. Times are numbers that rise, e.g. milliseconds of a clock that
// does not step. It may be used from any goroutine.
type Alarms[K comparable] struct {
	sooner chan struct{} // holds one

	mu    sync.Mutex
	queue queue[K]
	armed map[K]int64 // the alarm that counts; others of the sleeper in queue are stale
}

type entry[K comparable] struct {
	at  int64
	who K
}

type queue[K comparable] []entry[K]

func (q queue[K]) Len() int           { return len(q) }
func (q queue[K]) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue[K]) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

func (q *queue[K]) Push(x any) {
	if e, ok := x.(entry[K]); ok { // heap.Push is given nothing else
		*q = append(*q, e)
	}
}

func (q *queue[K]) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = entry[K]{}
	*q = (*q)[:last]
	return e
}

// New makes an empty set of alarms.
func New[K comparable]() *Alarms[K] {
	return &Alarms[K]{sooner: make(chan struct{}, 1), armed: map[K]int64{}}
}

// Sooner gets something when the first alarm has moved forward: who sleeps until the first one asks Due again.
func (a *Alarms[K]) Sooner() <-chan struct{} { return a.sooner }

// Set makes sure that who is told the time at at, or before.
func (a *Alarms[K]) Set(who K, at int64) {
	a.mu.Lock()
	armed, is := a.armed[who]
	if is && armed <= at {
		a.mu.Unlock()
		return
	}
	a.armed[who] = at
	heap.Push(&a.queue, entry[K]{at, who})
	if len(a.queue) > 2*len(a.armed)+64 {
		a.compact()
	}
	first := a.queue[0].at == at
	a.mu.Unlock()
	if first {
		select {
		case a.sooner <- struct{}{}:
		default:
		}
	}
}

// Cancel forgets the alarm of who.
func (a *Alarms[K]) Cancel(who K) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.armed, who)
	if len(a.queue) > 2*len(a.armed)+64 {
		a.compact()
	}
}

// Due takes out the next sleeper whose time has come. If there is none, it says when there will be: at next, if waits,
// and else never before the next Set.
func (a *Alarms[K]) Due(now int64) (who K, due bool, next int64, waits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) > 0 {
		first := a.queue[0]
		armed, is := a.armed[first.who]
		stale := !is || armed != first.at
		if !stale && first.at > now {
			return who, false, first.at, true
		}
		heap.Pop(&a.queue)
		if !stale {
			delete(a.armed, first.who)
			return first.who, true, 0, false
		}
	}
	return who, false, 0, false
}

// Len is how many sleepers have an alarm.
func (a *Alarms[K]) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.armed)
}

// compact drops what is stale, so that the heap is never much larger than what it is for.
func (a *Alarms[K]) compact() {
	kept := make(queue[K], 0, len(a.armed))
	for _, e := range a.queue {
		if at, is := a.armed[e.who]; is && at == e.at {
			kept = append(kept, e)
		}
	}
	a.queue = kept
	heap.Init(&a.queue)
}

package kafka

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/log/stream"
)

// alarms is when each group wants to be told the time: one heap for all of them. A heartbeat only puts
// a session off, so it does not come here; the group is told the time too early and asks again.
type alarms struct {
	sooner chan struct{} // holds one: the first alarm has moved forward

	mu struct {
		sync.Mutex
		queue alarmQueue
		armed map[*ownedGroup]int64 // the alarm that counts; others of the group in queue are stale
	}
}

type alarm struct {
	at int64 // milliseconds since 1970
	og *ownedGroup
}

type alarmQueue []alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q alarmQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *alarmQueue) Push(x any) {
	if a, ok := x.(alarm); ok { // heap.Push is given nothing else
		*q = append(*q, a)
	}
}
func (q *alarmQueue) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last] = alarm{}
	*q = (*q)[:last]
	return a
}

func newAlarms() *alarms {
	a := &alarms{sooner: make(chan struct{}, 1)}
	a.mu.armed = map[*ownedGroup]int64{}
	return a
}

// set makes sure that the group is told the time at at, or before.
func (a *alarms) set(og *ownedGroup, at int64) {
	a.mu.Lock()
	armed, is := a.mu.armed[og]
	if is && armed <= at {
		a.mu.Unlock()
		return
	}
	a.mu.armed[og] = at
	heap.Push(&a.mu.queue, alarm{at, og})
	first := a.mu.queue[0].at == at
	a.mu.Unlock()
	if first {
		select {
		case a.sooner <- struct{}{}:
		default:
		}
	}
}

// due takes out the next group whose time has come, or says when that will be; 0: nobody waits.
func (a *alarms) due(now int64) (og *ownedGroup, next int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.mu.queue) > 0 {
		first := a.mu.queue[0]
		stale := a.mu.armed[first.og] != first.at
		if !stale && first.at > now {
			return nil, first.at
		}
		heap.Pop(&a.mu.queue)
		if !stale {
			delete(a.mu.armed, first.og)
			return first.og, 0
		}
	}
	return nil, 0
}

// clock tells groups the time, expires offsets and measures lag, until ctx ends.
func (co *coordinator) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(co.look)
	defer look.Stop()
	var seen *stream.Topics
	sweepAt := co.now() + co.limits.SweepInterval.Milliseconds()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-co.alarms.sooner:
		case <-look.C:
			topics, now := co.log.Topics(), co.now()
			if topics != seen || now >= sweepAt {
				seen, sweepAt = topics, now+co.limits.SweepInterval.Milliseconds()
				co.sweep(now, topics)
			}
			co.lag.measure(co)
		}
		if next := co.tick(); next != 0 {
			timer.Reset(time.Duration(next-co.now()) * time.Millisecond)
		}
	}
}

// tick tells every group that waits for it the time, and returns when the next one wants to know.
func (co *coordinator) tick() (next int64) {
	for {
		og, next := co.alarms.due(co.now())
		if og == nil {
			return next
		}
		og.mu.Lock()
		var effects []group.Effect
		if !og.mu.forgotten {
			effects = og.mu.g.Tick(co.now())
		}
		co.exit(og, effects)
	}
}

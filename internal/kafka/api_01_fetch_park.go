package kafka

import "time"

// park puts the fetch into the purgatory. Whoever runs it must look again afterwards: what came before
// it was there woke nobody.
func (f *fetch) park(wait time.Duration) {
	q := &f.c.door.purgatory
	for i := range f.parts {
		p := &f.parts[i]
		p.waiter.sleeper, p.waiter.id = f, p.id
		q.add(&p.waiter)
	}
	f.parked = len(f.parts)
	if f.timer == nil {
		f.timer = time.AfterFunc(wait, f.expire)
	} else {
		f.timer.Reset(wait)
	}
}

// expire is the timer's: a fetch whose deadline is over answers what it has. The timer of an earlier
// fetch finds a later deadline and does nothing.
func (f *fetch) expire() {
	if f.expired() {
		f.wake()
	}
}

func (f *fetch) expired() bool {
	deadline := f.deadline.Load()
	return deadline != 0 && int64(f.c.door.now()) >= deadline
}

// end makes a fetch that is under way answer now. It may be called from any goroutine.
func (f *fetch) end() {
	for {
		deadline := f.deadline.Load()
		if deadline == 0 {
			return
		}
		if f.deadline.CompareAndSwap(deadline, 1) {
			f.wake()
			return
		}
	}
}

// wake has a parked fetch looked at by a goroutine of its own. It does not block. A panic, which would be one of the
// log's goroutine, costs the connection.
func (f *fetch) wake() {
	defer f.c.survive()
	for {
		switch f.state.Load() {
		case fetchParked:
			if f.state.CompareAndSwap(fetchParked, fetchRunning) {
				go f.run(false)
				return
			}
		case fetchRunning:
			if f.state.CompareAndSwap(fetchRunning, fetchRunningNews) {
				return
			}
		default:
			return
		}
	}
}

// run looks at a fetch that is running until it has been answered or is parked again: at all its partitions, for what
// came before it was parked woke nobody, or at those with news.
func (f *fetch) run(all bool) {
	ended := false
	defer f.c.survive() // whatever breaks, over included
	defer func() {
		if !ended {
			f.over(true)
		}
	}()
	for ; ; all = false {
		f.freshen(all)
		if f.gather() || f.expired() {
			f.unpark()
			err := f.respond()
			ended = true
			f.over(err != nil)
			return
		}
		if f.state.CompareAndSwap(fetchRunning, fetchParked) {
			ended = true // for this goroutine
			return
		}
		f.state.Store(fetchRunning)
	}
}

// freshen notes which partitions are worth another look: those with news, of many that are waited for.
func (f *fetch) freshen(all bool) {
	for i := range f.parts {
		p := &f.parts[i]
		p.stale = !p.waiter.news.Swap(false) && !all
	}
}

// unpark takes the fetch out of the purgatory.
func (f *fetch) unpark() {
	for i := range f.parts[:f.parked] {
		f.c.door.purgatory.remove(&f.parts[i].waiter)
	}
	f.parked = 0
}

// over gives the connection back to its reader, whatever breaks in it.
func (f *fetch) over(failed bool) {
	defer func() {
		f.c.mu.Lock()
		f.c.mu.fetching = false
		f.c.mu.failed = f.c.mu.failed || failed
		f.c.calm.Broadcast()
		f.c.mu.Unlock()
	}()
	f.unpark()
	f.timer.Stop()
	f.deadline.Store(0)
	f.state.Store(noFetch)
	if failed {
		f.c.fail()
	}
}

package ban

import "time"

// Flapping finds out whose connections come and go too often. It is not safe for concurrent use.
type Flapping struct {
	most    int
	window  int64 // milliseconds
	clients map[string]*tally
	swept   int64
}

// tally is how often a client left since a time.
type tally struct {
	since int64
	times int
}

// maxTallies bounds the clients that are counted at a time.
const maxTallies = 100_000

// NewFlapping finds out who leaves more than so many times within a window of time; 0: nobody does.
func NewFlapping(most int, window time.Duration) *Flapping {
	return &Flapping{most: most, window: window.Milliseconds(), clients: map[string]*tally{}}
}

// Left counts that a client left, and tells whether that was once too often: then it begins anew.
func (f *Flapping) Left(client string, now int64) (flaps bool) {
	if f.most == 0 {
		return false
	}
	t := f.clients[client]
	if t == nil {
		if f.sweep(now); len(f.clients) >= maxTallies {
			return false
		}
		t = &tally{since: now}
		f.clients[client] = t
	}
	if now-t.since > f.window || now < t.since {
		*t = tally{since: now}
	}
	if t.times++; t.times > f.most {
		delete(f.clients, client)
		return true
	}
	return false
}

// sweep forgets those whose window is over: once a window, or a quarter of one when there are many.
func (f *Flapping) sweep(now int64) {
	every := f.window
	if len(f.clients) >= maxTallies/2 {
		every /= 4
	}
	if passed := now - f.swept; passed >= 0 && passed < every {
		return
	}
	f.swept = now
	for client, t := range f.clients {
		if now-t.since > f.window || now < t.since {
			delete(f.clients, client)
		}
	}
}

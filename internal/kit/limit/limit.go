// Package limit keeps few what a client could cause many of: log lines, and bytes that it makes us hold.
package limit

import (
	"sync"
	"time"
)

// Lines lets one log line pass for each key and period, and counts those it holds back. A key says who and why, e.g.
// the client id and the reason, so that one client's fault does not hide another's. It may be used from any goroutine.
type Lines struct {
	every time.Duration
	most  int
	now   func() time.Time

	mu    sync.Mutex
	since map[string]*line
}

type line struct {
	passed time.Time
	held   int
}

// maxKeyBytes is how much of a key counts: it comes from a client.
const maxKeyBytes = 256

// NewLines lets a line pass each period for each of at most so many keys; all keys beyond them share one place.
func NewLines(every time.Duration, keys int) *Lines {
	return &Lines{every: every, most: keys, now: time.Now, since: map[string]*line{}}
}

// Pass tells whether a line about key may be written now and, if so, how many were held back since the last one.
func (l *Lines) Pass(key string) (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	key = key[:min(len(key), maxKeyBytes)]
	one := l.since[key]
	if one == nil && len(l.since) >= l.most {
		l.forget(now)
		if len(l.since) >= l.most {
			key = ""
			one = l.since[key]
		}
	}
	switch {
	case one == nil:
		l.since[key] = &line{passed: now}
		return 0, true
	case now.Sub(one.passed) < l.every:
		one.held++
		return 0, false
	}
	held = one.held
	*one = line{passed: now}
	return held, true
}

// forget makes room: it drops the keys whose next line would pass anyway.
func (l *Lines) forget(now time.Time) {
	for key, one := range l.since {
		if now.Sub(one.passed) >= l.every {
			delete(l.since, key)
		}
	}
}

package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// events writes server-sent events (HTML Living Standard, section 9.2).
type events struct {
	w   http.ResponseWriter
	out *http.ResponseController
}

const (
	// heartbeat is how long nothing is sent at most: proxies end what is silent.
	heartbeat = 15 * time.Second
	// writePatience is how long a write may take: who reads nothing for so long is gone.
	writePatience = 30 * time.Second
	// flushEvents is how many events are written at once at most.
	flushEvents = 64
)

// newEvents begins an answer of events. Errors: Internal, where the connection cannot have one.
func newEvents(w http.ResponseWriter) (*events, error) {
	s := &events{w: w, out: http.NewResponseController(w)}
	if err := s.out.SetReadDeadline(time.Time{}); err != nil { // that of a request is over soon
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	h := w.Header()
	h.Set("Content-Type", eventType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would gather them
	w.WriteHeader(http.StatusOK)
	return s, s.write("retry: 1000\n\n", true)
}

// send sends what a follower gets until that or the connection ends; messages only as many as a share lets.
func (s *events) send(ctx context.Context, f Follower, share *share) {
	for unsent := 0; ; {
		within := heartbeat
		if share.left > 0 {
			within = time.Second
		}
		if unsent > 0 {
			within = 0
		}
		e, err := f.Next(ctx, within)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				s.end(err)
			}
			return
		case e == nil && unsent > 0:
			err, unsent = s.write("", true), 0
		case e == nil && share.left > 0:
			err = s.skipped(share, true)
		case e == nil:
			err = s.write(":\n\n", true)
		case e.Missed == 0 && !share.lets(time.Now()):
		default:
			unsent = (unsent + 1) % flushEvents
			err = cmp.Or(s.skipped(share, false), s.event(e, unsent == 0))
		}
		if err != nil {
			return
		}
	}
}

// share is how many messages a second who follows gets at most, and how many it was not sent.
type share struct {
	most   int // a second; 0: all
	second int64
	used   int
	left   int64 // out, since who follows was told
}

// lets tells whether one more may be sent.
func (s *share) lets(now time.Time) bool {
	if s.most == 0 {
		return true
	}
	if second := now.Unix(); second != s.second {
		s.second, s.used = second, 0
	}
	if s.used == s.most {
		s.left++
		return false
	}
	s.used++
	return true
}

// skipped tells how many messages were left out.
func (s *events) skipped(share *share, flush bool) error {
	n := share.left
	if share.left = 0; n == 0 {
		return nil
	}
	return s.named("skipped", "", SkippedEvent{n}, flush)
}

// event writes one event.
func (s *events) event(e *Event, flush bool) error {
	if e.Missed > 0 {
		return s.named("missed", "", MissedEvent{e.Missed}, flush)
	}
	return s.named("message", e.ID, e, flush)
}

// end tells why there are no more.
func (s *events) end(err error) {
	_ = s.named("end", "", problemOf(err), true) // a client that has gone needs no reason
}

func (s *events) named(name, id string, data any, flush bool) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	line := "event: " + name + "\n"
	if id != "" {
		line += "id: " + id + "\n"
	}
	return s.write(line+"data: "+string(text)+"\n\n", flush)
}

// write writes some of the answer.
func (s *events) write(text string, flush bool) error {
	if err := s.out.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil || !flush {
		return err
	}
	return s.out.Flush()
}

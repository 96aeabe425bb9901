package spool

import (
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// hold is the holder: it hands units to the disk in the order of their numbers, while they are held.
func (s *Spool) hold() {
	for {
		it := s.nextToHold()
		if it == nil {
			return
		}
		u := shelved(it, s.Topics(), s.shelf)
		if err := stream.AppendWait(s.ctx, s.disk, u, toDisk{s}, it.number); err != nil && s.ctx.Err() == nil {
			s.failed(it.number, err)
		}
	}
}

// nextToHold waits for a unit that is to be handed to the disk; nil: the spool ends.
func (s *Spool) nextToHold() *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := &s.books; ; s.changed.Wait() {
		switch {
		case s.ctx.Err() != nil:
			return nil
		case !b.holding || len(b.queue) == 0:
			continue
		}
		if b.kept = max(b.kept, b.queue[0].number-1); b.kept < b.queue[len(b.queue)-1].number {
			b.kept++
			return b.in(b.kept)
		}
	}
}

// toDisk is the receipt of units that were handed to the disk; their tickets are their numbers.
type toDisk struct{ s *Spool }

// Appended implements stream.Receipt.
func (r toDisk) Appended(number uint64, _ stream.Placed, err error) {
	if err != nil {
		r.s.failed(number, err)
		return
	}
	r.s.held(number)
}

// held takes in that the disk has a unit, and tells who waits for it.
func (s *Spool) held(number uint64) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	b := &s.books
	var told []*item
	if len(b.queue) == 0 || b.queue[0].number > number { // the log was faster
		b.store(number, 0)
	} else if b.store(number, b.in(number).bytes) {
		told = b.pop(number)
	}
	s.crowded.Store(false)
	turns := b.line.Next(b.room(&s.opt), nil)
	s.changed.Broadcast()
	s.mu.Unlock()
	for _, it := range told {
		s.metrics.held.Add(float64(it.bytes))
		tell(it, nil, nil)
	}
	clear(told)
	call(turns)
}

// failed takes in that the disk did not take a unit: it waits for the log, as those behind it do.
func (s *Spool) failed(number uint64, err error) {
	s.mu.Lock()
	s.books.fail(number, err)
	s.changed.Broadcast()
	closed := s.books.closing
	s.mu.Unlock()
	if held, ok := s.lines.Pass("disk"); ok && !closed {
		s.log.Error("the spool takes nothing: messages wait for Kafka", "error", err, "more", held)
	}
}

// watch has units held that the log has not taken for long, gives room away that nobody came for, and trims the disk.
func (s *Spool) watch() {
	for clock.Pause(s.ctx, s.opt.Patience/4) == nil {
		s.look()
		s.trim()
	}
}

func (s *Spool) look() {
	s.mu.Lock()
	b := &s.books
	late := !b.holding && b.broken == nil && b.lost == nil && len(b.queue) > 0 &&
		time.Since(b.queue[0].came) >= s.opt.Patience
	if late {
		b.begin()
		s.changed.Broadcast()
	}
	b.line.Forget()
	turns := b.line.Next(b.room(&s.opt), nil)
	s.mu.Unlock()
	if late {
		s.log.Warn("Kafka does not take messages: they are held in the spool")
	}
	call(turns)
}

// trim gives back the space of what the log has taken.
func (s *Spool) trim() {
	bounds, err := s.disk.Bounds(s.shelf)
	if err != nil {
		return
	}
	s.mu.Lock()
	b, to := &s.books, s.trimmed
	for len(s.marks) > 0 && s.marks[0].number <= b.taken {
		to = max(to, s.marks[0].offset)
		s.marks = s.marks[1:]
	}
	if !b.holding && b.taken >= b.kept && b.stored >= b.kept && b.broken == nil {
		to = max(to, bounds.Stable)
		s.at = to
	}
	s.mu.Unlock()
	if to == s.trimmed {
		return
	}
	if _, err := s.disk.TrimTo(s.ctx, s.shelf, to); err != nil {
		if s.ctx.Err() == nil {
			s.log.Warn("the spool cannot be trimmed now", "error", err)
		}
		return
	}
	s.trimmed = to // the watch's own
}

// Status is what a spool holds.
type Status struct {
	Holding bool          // units go to the disk
	Bytes   int64         // on the disk that the log has not taken
	Limit   int64         // of Bytes
	Units   uint64        // that the log has not taken, on the disk or not
	Oldest  time.Duration // how long the oldest of them waits
}

// Status tells what the spool holds.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.books
	st := Status{Holding: b.holding, Bytes: b.held, Limit: s.opt.Bytes, Units: b.last - b.taken}
	if since := b.oldest(); !since.IsZero() {
		st.Oldest = max(time.Since(since), 0)
	}
	return st
}

// Refused tells why the spool takes nothing now; nil: it does. Errors: Limited, it is full; what is wrong with the
// disk; Fenced, another node serves the cluster.
func (s *Spool) Refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.books
	switch {
	case b.lost != nil:
		return b.lost
	case b.closing:
		return fault.New(fault.Closed, "spool", "the spool is closed")
	case b.broken != nil:
		return b.broken
	case b.full:
		return fault.New(fault.Limited, "spool", "%d bytes are held, and no more fit", b.held)
	}
	return nil
}

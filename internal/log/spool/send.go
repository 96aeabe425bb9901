package spool

import (
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// window is how many bytes from the disk are on their way to the log at a time, and tail how few may be left there for
// units to go by memory again.
const (
	window = 4 << 20
	tail   = 1 << 20
)

// send is the sender: it hands units to the log in the order of their numbers, those on the disk first.
func (s *Spool) send() {
	var r reader
	pace := limit.NewBucket(s.opt.Rate)
	for {
		it, kept, ends := s.next()
		switch {
		case ends:
			return
		case kept:
			s.sendKept(&r, &pace)
		default:
			s.hand(&it.unit, it.number)
		}
	}
}

// next waits for what is to be sent next: the unit of an item, or what the disk keeps.
func (s *Spool) next() (it *item, kept, ends bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.books
	for {
		switch {
		case s.ctx.Err() != nil || b.lost != nil:
			return nil, false, true
		case b.sent < b.kept:
			if b.stored > b.sent && b.flying < window {
				return nil, true, false
			}
		case !b.holding && b.sent < b.last && len(b.queue) > 0 && b.queue[len(b.queue)-1].number > b.sent:
			it = b.in(b.sent + 1)
			b.hand(it.number, it.bytes, it.came)
			return it, false, false
		}
		s.changed.Wait()
	}
}

// hand hands a unit to the log, in its turn. The books have it as sent.
func (s *Spool) hand(u *stream.Unit, number uint64) {
	err := stream.AppendWait(s.ctx, s.Keeper, u, toLog{s}, number)
	if err == nil || s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	for len(s.books.flight) > 1 && s.books.lost == nil && s.ctx.Err() == nil {
		s.changed.Wait() // those before it are answered first
	}
	s.mu.Unlock()
	s.answered(number, nil, err)
}

// sendKept hands the next units on the disk to the log.
func (s *Spool) sendKept(r *reader, pace *limit.Bucket) {
	s.mu.Lock()
	at, hurried := s.at, s.hurried
	s.mu.Unlock()
	next, err := s.scan(r, at)
	if err != nil {
		s.log.Error("the spool cannot be read now", "error", err)
		_ = clock.Pause(s.ctx, time.Second)
		return
	}
	for _, u := range r.take() {
		if !s.sendOne(&u) {
			return
		}
		if !hurried {
			if wait := pace.Take(u.bytes, time.Since(s.came)); wait > 0 {
				_ = clock.Pause(s.ctx, wait)
			}
		}
	}
	s.read(next, next == at)
}

// sendOne hands a unit from the disk to the log, unless it was before. False: the spool ends.
func (s *Spool) sendOne(u *shelvedUnit) bool {
	s.mu.Lock()
	b := &s.books
	for b.flying >= window && s.ctx.Err() == nil && b.lost == nil {
		s.changed.Wait()
	}
	ends := s.ctx.Err() != nil || b.lost != nil
	skip := u.number <= b.sent || u.number > b.kept
	foreign := u.number <= s.foreign
	if !ends && !skip {
		var came time.Time
		if came = time.Now(); len(u.writes) > 0 {
			came = time.UnixMilli(u.writes[0].record.Timestamp)
		}
		b.hand(u.number, u.bytes, came)
	}
	s.mu.Unlock()
	if ends || skip {
		return !ends
	}
	writes := u.unit(s.Topics(), foreign)
	if len(writes) < len(u.writes) && !foreign {
		s.lose("a topic is gone for which messages were held", nil)
	}
	s.metrics.drained.Add(float64(u.bytes))
	s.hand(&stream.Unit{Writes: append(writes, s.positions.write(u.number)), Owner: s.positions.owner}, u.number)
	return true
}

// read notes how far the disk was read. At the end of it what is not there is lost, and was told.
func (s *Spool) read(next record.Offset, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.books
	s.at = next
	s.marks = append(s.marks, mark{b.sent, next})
	if end && b.sent < b.kept && b.stored == b.kept {
		b.sent = b.kept
		if len(b.flight) == 0 {
			b.take(b.kept)
		}
	}
	s.changed.Broadcast()
}

// toLog is the receipt of units that were handed to the log; their tickets are their numbers.
type toLog struct{ s *Spool }

// Appended implements stream.Receipt.
func (r toLog) Appended(number uint64, at stream.Placed, err error) { r.s.answered(number, at, err) }

// answered takes in the answer of the log to a unit.
func (s *Spool) answered(number uint64, at stream.Placed, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	b := &s.books
	lasting := err == nil || refused(err)
	if !lasting && b.lost == nil && !fault.Is(err, fault.Closed) {
		b.lost = err
	}
	wasHeld := number <= b.stored
	var told []*item
	if lasting {
		b.take(number)
		if told = b.pop(number); err == nil && b.holding && !b.closing && b.held <= tail {
			b.holding = false
			s.log.Info("Kafka takes messages again, and the spool is empty")
		}
	}
	s.crowded.Store(false)
	turns := b.line.Next(b.room(&s.opt), nil)
	s.changed.Broadcast()
	s.mu.Unlock()
	for _, it := range told {
		if it.number != number {
			at = nil
		}
		tell(it, at, err)
	}
	clear(told)
	call(turns)
	switch {
	case err == nil:
	case !lasting:
		s.giveUpLocked(err)
	case wasHeld:
		s.lose("Kafka refuses what was held", err)
	}
}

// refused tells whether the log will never take a unit that it did not take.
func refused(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotFound, fault.TooLarge, fault.Invalid, fault.Denied, fault.Corrupt:
		return true
	}
	return false
}

func tell(it *item, at stream.Placed, err error) {
	switch {
	case it.to == nil:
	case err != nil:
		it.to.Appended(it.ticket, nil, err)
	default:
		it.to.Appended(it.ticket, at, nil)
	}
}

// giveUp tells those who wait that their units are not taken, and gives their number.
func (s *Spool) giveUp(err error) int {
	s.telling.Lock()
	defer s.telling.Unlock()
	return s.giveUpLocked(err)
}

func (s *Spool) giveUpLocked(err error) int {
	s.mu.Lock()
	told := s.books.pop(s.books.last)
	turns := s.books.line.Next(1<<62, nil)
	s.mu.Unlock()
	for _, it := range told {
		tell(it, nil, err)
	}
	call(turns)
	return len(told)
}

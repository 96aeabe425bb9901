package roster

import (
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// idle is how many intervals pass between checkpoints while no session changes: those that nothing is for are not to
// stay behind for ever, or they would read for nothing when they come back.
const idle = 10

// Run makes checkpoints, watches the clocks and saves until ctx ends.
func (r *Roster) Run(ctx context.Context) error {
	clock, next := time.NewTimer(0), time.NewTimer(r.opt.Interval) // next: the checkpoint
	defer clock.Stop()
	defer next.Stop()
	var saver sync.WaitGroup
	saver.Go(func() { r.runSaver(ctx) })
	defer saver.Wait()
	defer r.endMoves()
	soon := true
	for ctx.Err() == nil {
		clock.Reset(r.ring(ctx))
		select {
		case <-r.changed:
			if !soon {
				next.Reset(r.opt.Interval)
			}
			soon = true
		case <-next.C:
			if soon = r.Checkpoint(ctx); soon {
				next.Reset(r.opt.Interval)
			} else {
				next.Reset(idle * r.opt.Interval)
			}
		case <-r.alarms.Sooner():
		case <-clock.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// Changed has the next checkpoint come soon, and the clocks be looked at now.
func (r *Roster) Changed() {
	select {
	case r.changed <- struct{}{}:
	default: // a token is there
	}
}

// Checkpoint makes one for each shard now. Moving tells that sessions changed, so that another should follow soon.
func (r *Roster) Checkpoint(ctx context.Context) (moving bool) {
	for s := range r.served {
		moved, err := s.makeCheckpoint(ctx)
		moving = moving || moved || err != nil
		if err != nil && ctx.Err() == nil && !fault.Is(err, fault.Closed) && !s.isLost(err) {
			r.complain("checkpoint", "the places of sessions could not be stored, trying again", "error", err)
		}
	}
	return moving
}

func (r *Roster) complain(kind, what string, args ...any) {
	if held, ok := r.lines.Pass(kind); ok {
		r.opt.Logger.Warn(what, append(args, "more", held)...)
	}
}

// makeCheckpoint takes the next mark, stores what changed of the sessions, and then the mark: that is the order that
// makes the mark true for whoever follows it.
func (s *shard) makeCheckpoint(ctx context.Context) (moved bool, err error) {
	isDirty := func() bool { return s.beside != nil && s.beside.Dirty() }
	if s.roster.lasting.Load() == 0 && !isDirty() && s.calm() {
		return false, nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.settle(ctx); err != nil {
		return true, err
	}
	changed := isDirty() // with what was not stored of before
	var reached []reach
	s.looked = s.roster.opt.Reached(s.looked, func(p stream.PartitionID, at record.Offset) {
		reached = append(reached, reach{uint32(p), int64(at)})
	})
	mark, partitions := s.mark(reached)
	s.checkpoint.Store(mark)
	partitions = append(partitions, s.takeUnstored()...)
	dirty := s.takeDirty()
	moved = len(dirty) > 0 || changed
	if len(partitions) == 0 && !moved {
		return false, nil
	}
	if err = s.storeAll(ctx, dirty); err == nil {
		err = s.storeBeside(ctx, func(f *fate) error { return waitFor(ctx, f) })
	}
	if err == nil {
		err = s.storeMark(ctx, mark, partitions)
	}
	if err != nil {
		s.again(partitions)
		return true, err
	}
	s.roster.metrics.checkpoints.Inc()
	return moved, nil
}

// calm tells that there is nothing to store.
func (s *shard) calm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.dirty) == 0 && len(s.mu.fates) == 0
}

// storeAll stores what changed of seats. It needs the writing lock, as storeMark does.
func (s *shard) storeAll(ctx context.Context, seats []*Seat) error {
	for len(seats) > 0 {
		u := s.unit()
		var undo []func()
		n := 0
		for n < len(seats) && u.size < maxUnit {
			undo = append(undo, seats[n].collect(u))
			n++
		}
		if err := s.appendAndWait(ctx, u); err != nil {
			for _, u := range undo {
				u()
			}
			for _, seat := range seats {
				s.note(seat)
			}
			return err
		}
		for _, seat := range seats[:n] {
			s.roster.release(seat)
		}
		seats = seats[n:]
	}
	return nil
}

// storeMark stores the offsets of partitions at marks, and that the last checkpoint is that of a mark.
func (s *shard) storeMark(ctx context.Context, mark uint64, partitions []uint32) error {
	u := s.unit()
	u.putMarks(partitions)
	r := session.MarkRecord{{Mark: mark}}
	u.put(session.Key{Kind: session.KindMark}, r.AppendTo(nil))
	return s.appendAndWait(ctx, u)
}

func (s *shard) appendAndWait(ctx context.Context, u *unit) error {
	done, err := s.append(ctx, u)
	if err == nil {
		_, err = done.wait(ctx)
	}
	return err
}

// again has the marks of partitions stored with the next checkpoint, though they may not move.
func (s *shard) again(partitions []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.unstored = append(s.mu.unstored, partitions...)
}

func (s *shard) takeUnstored() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	partitions := s.mu.unstored
	s.mu.unstored = nil
	return partitions
}

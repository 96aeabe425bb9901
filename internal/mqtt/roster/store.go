package roster

import (
	"context"
	"sync"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// What is stored of a seat, and when.

// collect puts what is to be stored of a seat into a unit: what has ended is removed, what changed is written. Undo is
// for a unit that was not stored, Roster.release for one that was.
func (s *Seat) collect(u *unit) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.writes++
	state, remains := s.mu.state, s.mu.remains
	for _, old := range remains {
		s.remove(u, old)
	}
	s.mu.remains = nil
	hadWill := s.mu.will
	if state != nil && state.Lasts() {
		s.update(u, state)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.writes--
		s.mu.remains = append(remains, s.mu.remains...)
		s.mu.will = s.mu.will || hadWill
		if s.mu.state == state && state != nil {
			state.Unstored()
		}
	}
}

// update writes what changed of a session.
func (s *Seat) update(u *unit, state *session.State) {
	id := state.ClientID()
	record := state.Checkpoint(func(p uint32, r *session.PlaceRecord) bool { return s.putPlace(u, p, r) })
	state.SaveReplays(replaysOf{s, u})
	if s.mu.unsure {
		s.restate(state)
	}
	if !record {
		return
	}
	r := state.Record()
	u.put(session.Key{Kind: session.KindSession, Client: id}, r.AppendTo(nil))
	s.mu.kept = true
	switch w := state.Will(); {
	case w != nil:
		r := session.WillRecord{Due: w.Due, Delay: w.Delay, Will: w.Message, User: w.User, From: w.From}
		u.put(session.Key{Kind: session.KindWill, Client: id}, r.AppendTo(nil))
		s.mu.will = true
	case s.mu.will:
		u.put(session.Key{Kind: session.KindWill, Client: id}, nil)
		s.mu.will = false
	}
}

// putPlace writes a place, or removes it. False: its topic is gone.
func (s *Seat) putPlace(u *unit, partition uint32, r *session.PlaceRecord) (there bool) {
	key, ok := s.shard.place(session.KindPlace, partition)
	if !ok {
		return false
	}
	key.Client = s.id
	var value []byte
	if r != nil {
		value = r.AppendTo(nil)
	}
	u.put(key, value)
	return true
}

// replaysOf stores what is to be stored of the replays of a seat.
type replaysOf struct {
	seat *Seat
	unit *unit
}

// Filter implements session.Storing.
func (s replaysOf) Filter(sub *session.Subscription) {
	r := sub.Record()
	s.unit.put(session.Key{Kind: session.KindFilter, Client: s.seat.id, Filter: sub.Filter}, r.AppendTo(nil))
}

// Replay implements session.Storing.
func (s replaysOf) Replay(filter string, partition uint32, r *session.ReplayRecord) (there bool) {
	key, ok := s.seat.shard.place(session.KindReplay, partition)
	if !ok {
		return false
	}
	key.Client, key.Filter = s.seat.id, filter
	var value []byte
	if r != nil {
		value = r.AppendTo(nil)
	}
	s.unit.put(key, value)
	return true
}

// ReplayStands is where the replay of a subscription stands in a partition; see session.Replay.
func (t *Term) ReplayStands(r *session.Replay, p stream.PartitionID) (at record.Offset, fresh bool) {
	if t.Lock() == nil {
		return 0, false
	}
	defer t.Unlock()
	offset, fresh := r.Stands(uint32(p), t.seat.shard)
	return record.Offset(offset), fresh
}

// remove removes all records of a session that has ended.
func (s *Seat) remove(u *unit, state *session.State) {
	id := state.ClientID()
	u.put(session.Key{Kind: session.KindSession, Client: id}, nil)
	if s.mu.will {
		u.put(session.Key{Kind: session.KindWill, Client: id}, nil)
		s.mu.will = false
	}
	state.All(func(sub *session.Subscription) bool {
		u.put(session.Key{Kind: session.KindFilter, Client: id, Filter: sub.Filter}, nil)
		return true
	})
	state.Stored(func(p uint32) { s.putPlace(u, p, nil) })
	state.StoredReplays(func(filter string, p uint32) { replaysOf{s, u}.Replay(filter, p, nil) })
	for number := range state.In.Written {
		u.put(session.Key{Kind: session.KindReceived, Client: id, Chunk: number}, nil)
	}
	s.mu.kept = false
}

// write has what is to be stored of a seat appended, when it is known what became of what was appended of it before:
// nothing that takes the place of a session that has ended comes before its removal is stored, and if that was lost, it
// is made up for. Errors: those of the log; Timeout when ctx ends.
func (s *Seat) write(ctx context.Context) (*fate, error) {
	for {
		f, before, err := s.writeNext(ctx)
		if before == nil {
			return f, err
		}
		if known, err := before.settle(ctx); !known {
			return nil, err
		}
	}
}

// writeNext is write, unless something is under way: that is before.
func (s *Seat) writeNext(ctx context.Context) (f, before *fate, err error) {
	s.shard.writing.Lock()
	defer s.shard.writing.Unlock()
	if before = s.underWay(); before != nil {
		return nil, before, nil
	}
	u := s.shard.unit()
	f = &fate{seat: s, undo: s.collect(u)}
	if f.done, err = s.shard.append(ctx, u); err != nil {
		f.conclude(err)
		return nil, nil, err
	}
	s.setUnderWay(f)
	return f, nil, nil
}

func (s *Seat) underWay() *fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.under
}

func (s *Seat) setUnderWay(f *fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.under = f
}

// store stores what is to be stored of a seat, and returns when that is durable.
func (s *Seat) store(ctx context.Context) error {
	f, err := s.write(ctx)
	if err != nil {
		return err
	}
	known, err := f.settle(ctx)
	if !known {
		s.shard.await(f)
	}
	return err
}

// storeLater is store for who does not wait: the next settle of the shard does.
func (s *Seat) storeLater(ctx context.Context) error {
	f, err := s.write(ctx)
	if err == nil {
		s.shard.await(f)
	}
	return err
}

// fate is a unit on its way, and what is to be undone if it is not stored. Several may wait for it.
type fate struct {
	seat *Seat    // nil: it is of none
	done *receipt // nil: nothing had to be stored
	undo func()   // of the seat
	told tellings
	once sync.Once
}

// settle waits for the unit. Not known: ctx ended before.
func (f *fate) settle(ctx context.Context) (known bool, err error) {
	if known, err = f.done.wait(ctx); known {
		f.conclude(err)
	}
	return known, err
}

// conclude does what follows from the fate of the unit; when it returns, that is done, by whomever.
func (f *fate) conclude(err error) {
	f.once.Do(func() {
		f.told.tell(err == nil)
		switch {
		case f.seat == nil:
			return
		case err != nil:
			f.undo()
			f.seat.shard.note(f.seat)
		default:
			f.seat.roster.release(f.seat)
		}
		f.seat.setUnderWay(nil) // it was this one, or none
	})
}

// await has the next settle wait for a unit.
func (s *shard) await(f *fate) {
	s.mu.Lock()
	s.mu.fates = append(s.mu.fates, f)
	s.mu.Unlock()
	s.wake()
}

// settle waits for the units on their way that nobody else waits for. No mark, which rests on them, is written before.
// Errors: that of ctx; then the others are still on
// their way.
func (s *shard) settle(ctx context.Context) error {
	s.settling.Lock()
	defer s.settling.Unlock()
	fates := s.takeFates()
	for i, f := range fates {
		known, err := f.settle(ctx)
		if !known {
			s.giveFates(fates[i:])
			return err
		}
		if err != nil {
			s.roster.complain("settle", "what a session left was not stored, trying again", "error", err)
		}
	}
	return nil
}

func (s *shard) takeFates() []*fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	fates := s.mu.fates
	s.mu.fates = nil
	return fates
}

// giveFates puts back those whose fate is not known yet, before those that came since.
func (s *shard) giveFates(fates []*fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.fates = append(fates, s.mu.fates...)
}

// release notes that what collect gave is stored, and gives up a seat without a session, once no records of one are
// left.
func (r *Roster) release(seat *Seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seat.mu.Lock()
	defer seat.mu.Unlock()
	seat.mu.writes--
	if seats := seat.shard.seats; seat.mu.state == nil && !seat.remains() && seats[seat.id] == seat {
		delete(seats, seat.id)
	}
}

// hasRecords tells whether there is something to store, or to remove, or that is being removed.
func (s *Seat) hasRecords() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remains() || s.mu.state != nil && s.mu.state.Lasts()
}

// remains tells whether the log may have records of a session that has ended. It needs the lock of the seat.
func (s *Seat) remains() bool { return len(s.mu.remains) > 0 || s.mu.writes > 0 }

// Store stores a session that was taken, and returns when that is durable, and the end of the one before is. A session
// that does not last, and takes the place of none, costs nothing.
// Errors: those of the log; Timeout when ctx ends.
func (t *Term) Store(ctx context.Context) error {
	if !t.seat.hasRecords() {
		return nil
	}
	return t.seat.store(ctx)
}

// StoreFilters stores subscriptions that were made and removes those of other filters, and returns when that is
// durable. reached visits the partitions that the ones made may want: what is older there is not for them.
func (t *Term) StoreFilters(
	ctx context.Context, made []*session.Subscription, gone []string,
	reached func(visit func(p stream.PartitionID, at record.Offset)),
) error {
	shard := t.seat.shard
	var at []reach
	reached(func(p stream.PartitionID, offset record.Offset) {
		at = append(at, reach{uint32(p), int64(offset)})
	})
	done, err := shard.write(ctx, func(u *unit) {
		state := t.Lock()
		if state == nil {
			return
		}
		defer t.Unlock()
		if state.Lasts() {
			t.seat.putFilters(u, state, made, gone, at)
		}
	})
	if err == nil {
		_, err = done.wait(ctx)
	}
	if err != nil {
		t.seat.unsaved(t.epoch)
	}
	return err
}

// placedAtOnce is in how many partitions a session gets places when it subscribes. Where a filter wants more, its mark
// has to do, which may be thinned out.
const placedAtOnce = 64

// putFilters writes subscriptions that were made, since when they are in force, and removes those of other filters.
func (s *Seat) putFilters(u *unit, state *session.State, made []*session.Subscription, gone []string, at []reach) {
	since, moved := s.shard.mark(at)
	u.putMarks(moved)
	if len(at) <= placedAtOnce {
		for _, r := range at {
			if state.Reached(r.partition, r.offset) {
				s.shard.note(s)
			}
		}
		state.Save(func(p uint32, r *session.PlaceRecord) bool { return s.putPlace(u, p, r) })
	}
	for _, sub := range made {
		r := state.StoredSince(sub, since)
		u.put(session.Key{Kind: session.KindFilter, Client: s.id, Filter: sub.Filter}, r.AppendTo(nil))
	}
	state.SaveReplays(replaysOf{s, u})
	for _, filter := range gone {
		u.put(session.Key{Kind: session.KindFilter, Client: s.id, Filter: filter}, nil)
	}
}

// Stands is where the session stands in a partition, and Since the first offset there that a subscription may get, for
// who has the seat no more or is about to use it; see session.State.
func (t *Term) Stands(p stream.PartitionID) record.Offset {
	state := t.Lock()
	if state == nil {
		return 0
	}
	defer t.Unlock()
	return record.Offset(state.Stands(uint32(p), t.seat.shard))
}

// Since is the first offset of a partition that a subscription may get.
func (t *Term) Since(sub *session.Subscription, p stream.PartitionID) record.Offset {
	state := t.Lock()
	if state == nil {
		return 0
	}
	defer t.Unlock()
	return record.Offset(state.Since(sub, uint32(p), t.seat.shard))
}

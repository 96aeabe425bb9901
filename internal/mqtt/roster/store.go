package roster

import (
	"context"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// What is stored of a seat, and when.

// collect puts what is to be stored of a seat into a unit: what has ended is removed, what changed is written. Undo is
// for a unit that was not stored.
func (s *Seat) collect(u *unit) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	record := state.Checkpoint(s.shard, func(p uint32, r *session.PlaceRecord) { s.putPlace(u, p, r) })
	if s.mu.unsure {
		s.mu.unsure = false
		for number := range 256 {
			u.add(s.chunk(state, byte(number)))
		}
	}
	if !record {
		return
	}
	r := state.Record()
	u.put(session.Key{Kind: session.KindSession, Client: id}, r.AppendTo(nil))
	s.mu.kept = true
	switch w := state.Will(); {
	case w != nil:
		r := session.WillRecord{Due: w.Due, Delay: w.Delay, Will: w.Message}
		u.put(session.Key{Kind: session.KindWill, Client: id}, r.AppendTo(nil))
		s.mu.will = true
	case s.mu.will:
		u.put(session.Key{Kind: session.KindWill, Client: id}, nil)
		s.mu.will = false
	}
}

// putPlace writes a place, or removes it.
func (s *Seat) putPlace(u *unit, partition uint32, r *session.PlaceRecord) {
	key, ok := s.shard.place(session.KindPlace, partition)
	if !ok {
		return // its topic is gone
	}
	key.Client = s.id
	var value []byte
	if r != nil {
		value = r.AppendTo(nil)
	}
	u.put(key, value)
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
	for number := range state.In.Chunks {
		u.put(session.Key{Kind: session.KindReceived, Client: id, Chunk: number}, nil)
	}
	s.mu.kept = false
}

// store stores what is to be stored of a seat. It returns when that is durable, or with wait unset on its way.
func (s *Seat) store(ctx context.Context, wait bool) error {
	var undo func()
	done, err := s.shard.write(ctx, func(u *unit) { undo = s.collect(u) })
	if err == nil && wait {
		err = done.wait(ctx)
	}
	if err != nil {
		undo()
		s.shard.note(s)
		return err
	}
	s.roster.release(s)
	return nil
}

// release gives up a seat without a session, once no records of one are left.
func (r *Roster) release(seat *Seat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seat.mu.Lock()
	defer seat.mu.Unlock()
	if seat.mu.state == nil && len(seat.mu.remains) == 0 && r.mu.seats[seat.id] == seat {
		delete(r.mu.seats, seat.id)
	}
}

// hasRecords tells whether there is something to store, or to remove.
func (s *Seat) hasRecords() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.remains) > 0 || s.mu.state != nil && s.mu.state.Lasts()
}

// Store stores a session that was taken, and returns when that is durable. A session that does not last costs nothing.
// Errors: those of the log; Timeout when ctx ends.
func (t *Term) Store(ctx context.Context) error {
	if !t.seat.hasRecords() {
		return nil
	}
	return t.seat.store(ctx, true)
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
		since, moved := shard.mark(at)
		u.putMarks(moved)
		state := t.Lock()
		if state == nil || !state.Lasts() {
			u.stream.Writes = nil
			if state != nil {
				t.Unlock()
			}
			return
		}
		defer t.Unlock()
		id := state.ClientID()
		for _, sub := range made {
			r := state.StoredSince(sub, since)
			u.put(session.Key{Kind: session.KindFilter, Client: id, Filter: sub.Filter}, r.AppendTo(nil))
		}
		for _, filter := range gone {
			u.put(session.Key{Kind: session.KindFilter, Client: id, Filter: filter}, nil)
		}
	})
	if err != nil {
		return err
	}
	return done.wait(ctx)
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

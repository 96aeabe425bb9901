package roster

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// fold reads the sessions of a shard, which nobody else knows yet. Those that had a connection are away since now.
func (s *shard) fold(ctx context.Context) error {
	bounds, err := s.roster.opt.Log.Bounds(s.partition)
	if err != nil {
		return err
	}
	f := folding{shard: s, sessions: make(map[string]*session.Restoring)}
	folded, err := stream.Fold(ctx, s.roster.opt.Log, s.partition, bounds.Start, f.apply)
	if err != nil {
		return err
	}
	if !folded.Complete() {
		s.roster.opt.Logger.Error("some records of sessions could not be read and are left out",
			"lost", folded.Lost, "strange", folded.Strange, "error", folded.First)
	}
	// Without a checkpoint nobody is known to have been offered anything, whatever the marks of subscriptions say.
	f.checkpoint = max(f.checkpoint, session.FirstMark)
	s.mu.marks.Raise(f.checkpoint)
	s.checkpoint.Store(f.checkpoint)
	now := s.roster.opt.Clock().UnixMilli()
	for id, one := range f.sessions {
		if state := one.Done(); state != nil {
			s.seat(id, state, now)
		}
	}
	return nil
}

type folding struct {
	shard      *shard
	sessions   map[string]*session.Restoring
	checkpoint uint64
}

// apply applies one record.
func (f *folding) apply(v *record.View) error {
	key, err := session.ParseKey(v.Key)
	if err != nil {
		return err
	}
	switch key.Kind {
	case session.KindMark:
		return f.mark(&key, v.Value)
	case session.KindSession, session.KindFilter, session.KindWill, session.KindPlace, session.KindReceived,
		session.KindReplay:
		one := f.sessions[key.Client]
		if one == nil {
			one = session.Restore(key.Client, f.shard.roster.opt.Limits)
			f.sessions[key.Client] = one
		}
		return f.one(one, &key, v.Value)
	case session.KindGroup, session.KindShared:
		return f.beside(&key, v.Value)
	}
	return nil // of a later release
}

// beside gives a record to who keeps it.
func (f *folding) beside(key *session.Key, value []byte) error {
	beside := f.shard.beside
	if beside == nil {
		return nil
	}
	var partition uint32
	if key.Kind == session.KindShared {
		p, ok := f.partition(key)
		if !ok {
			return nil
		}
		partition = uint32(p)
	}
	return beside.Fold(key, partition, value)
}

// mark applies the marks of a partition or, without one, the last checkpoint.
func (f *folding) mark(key *session.Key, value []byte) error {
	marks := &f.shard.mu.marks // nobody else knows the shard yet
	r, err := session.ParseMark(value)
	switch {
	case err != nil:
		return err
	case key.Topic == record.UUID{}:
		if len(r) > 0 {
			f.checkpoint = r[0].Mark
		}
		return nil
	}
	if p, ok := f.partition(key); ok {
		marks.Restore(uint32(p), r)
	}
	return nil
}

// partition is the partition that a key names; not ok: it is gone.
func (f *folding) partition(key *session.Key) (p stream.PartitionID, ok bool) {
	t := f.shard.roster.opt.Log.Topics().ByID(key.Topic)
	if t == nil || int(key.Index) >= len(t.Partitions) {
		return 0, false
	}
	return t.Partitions[key.Index], true
}

// one applies a record of one session; without a value it is a removal.
func (f *folding) one(one *session.Restoring, key *session.Key, value []byte) (err error) {
	gone := value == nil
	switch key.Kind {
	case session.KindSession:
		var r session.SessionRecord
		if gone {
			one.Session(nil)
		} else if r, err = session.ParseSession(value); err == nil {
			one.Session(&r)
			f.shard.mu.marks.Raise(r.Mark) // no number is given twice, though a crash took its mark away
		}
	case session.KindFilter:
		var r session.FilterRecord
		if gone {
			one.Filter(key.Filter, nil)
		} else if r, err = session.ParseFilter(value); err == nil {
			one.Filter(key.Filter, &r)
			f.shard.mu.marks.Raise(max(r.Since, r.Mark))
		}
	case session.KindWill:
		var r session.WillRecord
		if gone {
			one.Will(nil)
		} else if r, err = session.ParseWill(value); err == nil {
			one.Will(&r)
		}
	case session.KindPlace:
		p, ok := f.partition(key)
		if !ok {
			return nil
		}
		var r session.PlaceRecord
		if gone {
			one.Place(uint32(p), nil)
		} else if r, err = session.ParsePlace(value); err == nil {
			one.Place(uint32(p), &r)
		}
	case session.KindReplay:
		p, ok := f.partition(key)
		if !ok {
			return nil
		}
		var r session.ReplayRecord
		if gone {
			one.Replay(key.Filter, uint32(p), nil)
		} else if r, err = session.ParseReplay(value); err == nil {
			one.Replay(key.Filter, uint32(p), &r)
		}
	case session.KindReceived:
		var r session.ReceivedRecord
		if !gone {
			r, err = session.ParseReceived(value)
		}
		if err == nil {
			one.Received(key.Chunk, r)
		}
	default:
		err = fault.New(fault.Internal, "mqtt.fold", "a record of kind %q", key.Kind)
	}
	return err
}

// seat makes the seat of a session that was read.
func (s *shard) seat(id string, state *session.State, now int64) {
	r := s.roster
	seat := &Seat{roster: r, shard: s, id: id}
	seat.mu.state, seat.mu.kept, seat.mu.will = state, true, state.Will() != nil
	if state.Away() == 0 {
		state.Leave(now, s.last())
		if w := state.Will(); w != nil && r.opt.Sharded {
			w.Due = max(w.Due, now+r.opt.Grace.Milliseconds())
		}
		s.note(seat)
	}
	s.seats[id] = seat
	switch beside := r.beside(); {
	case r.opt.Sharing != nil:
		r.opt.Sharing.Restored(s.at.number, state)
	case beside != nil && !r.opt.Sharded:
		beside.Restored(state)
	}
}

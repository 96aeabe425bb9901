package roster

import (
	"context"

	"github.com/firthmq/firth/internal/mqtt/session"
)

// Beside keeps records of its own in the topic of the sessions, in the first shard, by the marks of that: the groups of
// shared subscriptions. There is one for each time that this node has that shard. Its methods are called without any
// lock of the roster but that of writing.
type Beside interface {
	// Restored tells of a session that was read, before Serve. Not where Sharded.
	Restored(state *session.State)
	// Fold takes a record of a group that was read, before Serve, of a partition where its kind has one; no value is a
	// removal. Errors: what is wrong with the value.
	Fold(key *session.Key, partition uint32, value []byte) error
	// Serve follows when all was read.
	Serve()
	// End comes when the shard is let go of: nothing changes any more, and what has is collected once more if that may be
	// stored. Sharded only.
	End()
	// Dirty tells whether there is something to Collect.
	Dirty() bool
	// Collect puts what has changed of one more group; not ok: that were all. Told is to be told whether that was stored;
	// what is not known in time is not stored.
	Collect(w Writing) (told func(stored bool), ok bool)
	// CollectLetGo is Collect for groups that have let messages go since the last call: they are in the unit of the
	// sessions that have those now.
	CollectLetGo(w Writing) (told func(stored bool), ok bool)
	// Ended tells of a session that has ended, with its subscriptions. Not where Sharded.
	Ended(state *session.State)
}

// Marks are the marks that who is Beside goes by: those of the first shard.
type Marks interface {
	session.Marked
	// Last is the mark of the last checkpoint, and Highest the highest that was taken.
	Last() uint64
	Highest() uint64
	// Changed asks for a checkpoint, which will Collect.
	Changed()
	// StoreBeside has what changed beside the sessions stored before the next checkpoint: when it returns, that is on its
	// way, and the next settle waits for it. Errors: those of the log.
	StoreBeside(ctx context.Context) error
	// SettleBeside is StoreBeside, and returns when it is known what became of that. Errors: those of the log; Timeout.
	SettleBeside(ctx context.Context) error
}

// Sharing hears of sessions in shards, whose shared subscriptions are of groups that another node may have. Its methods
// are called without any lock of the roster.
type Sharing interface {
	// Restored tells of a session of a shard that was read, before Serves.
	Restored(shard int, state *session.State)
	// Serves follows when all of a shard was read. It has no mark above the last one: whoever has the shard later knows
	// one that is no lower.
	Serves(shard int, last uint64)
	// Gone tells that a shard is another node's, or does not come.
	Gone(shard int)
	// Ended tells of a session that has ended, with its subscriptions.
	Ended(state *session.State)
}

// Writing is records that are put together.
type Writing interface {
	// Put adds a record; no value removes what is stored under the key.
	Put(key session.Key, value []byte)
	// Place is the topic and the index of a partition, as a key has them; not ok: it is gone.
	Place(partition uint32) (topic [16]byte, index int32, ok bool)
}

// Put implements Writing.
func (u *unit) Put(key session.Key, value []byte) { u.put(key, value) }

// Place implements Writing.
func (u *unit) Place(partition uint32) (topic [16]byte, index int32, ok bool) {
	key, ok := u.shard.place(session.KindShared, partition)
	return key.Topic, key.Index, ok
}

// beside is who keeps records in the first shard; nil: nobody, or that is not this node's.
func (r *Roster) beside() Beside {
	if s := r.slots[0].owned(); s != nil {
		return s.beside
	}
	return nil
}

// collectLetGo puts the groups into a unit whose messages are a session's in the same unit.
func (r *Roster) collectLetGo(u *unit) (told tellings) {
	beside := r.beside()
	for beside != nil {
		one, more := beside.CollectLetGo(u)
		if !more {
			break
		}
		told = append(told, one)
	}
	return told
}

// tellings are to be told whether a unit was stored.
type tellings []func(stored bool)

func (t tellings) tell(stored bool) {
	for _, one := range t {
		one(stored)
	}
}

// ended tells who is Beside that a session has ended. What removes its records comes before that in the log: nothing is
// to be left of a session without that which its groups knew.
func (r *Roster) ended(state *session.State) {
	switch beside := r.beside(); {
	case r.opt.Sharing != nil:
		r.opt.Sharing.Ended(state)
	case beside != nil && !r.opt.Sharded:
		beside.Ended(state)
	}
}

// shares tells whether a session has a shared subscription.
func shares(state *session.State) (some bool) {
	state.All(func(sub *session.Subscription) bool {
		some = sub.Shared()
		return !some
	})
	return some
}

// Last implements Marks.
func (s *shard) Last() uint64 { return s.checkpoint.Load() }

// Highest implements Marks.
func (s *shard) Highest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.marks.Last()
}

// Changed implements Marks.
func (s *shard) Changed() { s.wake() }

// StoreBeside implements Marks.
func (s *shard) StoreBeside(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.storeBeside(ctx, func(f *fate) error {
		s.await(f)
		return nil
	})
}

// SettleBeside implements Marks.
func (s *shard) SettleBeside(ctx context.Context) error {
	if err := s.StoreBeside(ctx); err != nil {
		return err
	}
	return s.settle(ctx)
}

// storeBeside stores what changed beside the sessions. It needs the writing lock. sent gets each unit that is on its
// way; if it gives an error, the unit is none of those that are awaited.
func (s *shard) storeBeside(ctx context.Context, sent func(f *fate) error) error {
	if s.beside == nil {
		return nil
	}
	for more := true; more; {
		u := s.unit()
		f := new(fate)
		for more && u.size < maxUnit {
			var one func(stored bool)
			if one, more = s.beside.Collect(u); more {
				f.told = append(f.told, one)
			}
		}
		var err error
		if f.done, err = s.append(ctx, u); err != nil {
			f.conclude(err)
			return err
		}
		if err = sent(f); err != nil {
			return err
		}
	}
	return nil
}

// waitFor waits for a unit. Where its fate is not known in time, it is taken as not stored: what is stored once more is
// the same.
func waitFor(ctx context.Context, f *fate) error {
	known, err := f.settle(ctx)
	if !known {
		f.conclude(err)
	}
	return err
}

package group

import "slices"

// gathering is what groups whose members send heartbeats (KIP-848 and those after it) have in common: who is in one,
// whether it is still there, and what it writes.
type gathering[M any] struct {
	id   string
	opts Options

	deleted bool
	since   int64 // when its members were gone
	members []M   // in the order they came
	bytes   int64 // what they take, and what they brought

	topics Topics // as they are
	seen   Topics // as they were when they were last compared

	ledger
}

func gather[M any](id string, opts Options, now int64) gathering[M] {
	return gathering[M]{id: id, opts: opts.withDefaults(), since: now, topics: noTopics{}, ledger: newLedger()}
}

// SetOptions puts other options in force.
func (g *gathering[M]) SetOptions(opts Options) { g.opts = opts.withDefaults() }

// See tells the group which topics there are. What that changes comes out with the next request of a member.
func (g *gathering[M]) See(topics Topics) { g.topics = topics }

// Since is when it lost its last member, in milliseconds.
func (g *gathering[M]) Since() int64 { return g.since }

// Len is the number of members.
func (g *gathering[M]) Len() int { return len(g.members) }

// Bytes is about what the members, and a topology that they brought, take in memory.
func (g *gathering[M]) Bytes() int64 { return g.bytes }

// IsDead tells whether the group was deleted.
func (g *gathering[M]) IsDead() bool { return g.deleted }

// IsEmpty tells whether the group is there and has no members.
func (g *gathering[M]) IsEmpty() bool { return !g.deleted && len(g.members) == 0 }

// Vacant tells whether nothing would be lost with the group except its offsets.
func (g *gathering[M]) Vacant() bool { return g.IsEmpty() && len(g.held) == 0 }

// Delete ends the group if it is empty; its owner removes the records of Keys. Codes: NonEmptyGroup, GroupIDNotFound.
func (g *gathering[M]) Delete(int64) Code {
	switch {
	case g.deleted:
		return GroupIDNotFound
	case len(g.members) > 0:
		return NonEmptyGroup
	}
	g.deleted = true
	return None
}

// Revive takes a Delete back that could not be stored.
func (g *gathering[M]) Revive(int64) { g.deleted = false }

// Stored tells that a Store is durable, or was lost: then who waits for it is told to come again, and what it said is
// written with the next. It may be one of the group of another kind that this one was.
func (g *gathering[M]) Stored(_ int64, seq uint64, lost error) []Effect {
	return g.stored(seq, lost != nil)
}

// What is answered to requests of the classic protocol where no member can be of it.

// Join refuses a member of the classic protocol: InconsistentGroupProtocol.
func (g *gathering[M]) Join(_ int64, j Join) []Effect {
	return []Effect{refusal(j.Ticket, j.Who.MemberID, InconsistentGroupProtocol)}
}

// Sync refuses one that has not joined: UnknownMemberID.
func (g *gathering[M]) Sync(_ int64, s Sync) []Effect {
	return []Effect{{To: s.Ticket, Sync: &SyncAnswer{Code: UnknownMemberID}}}
}

// Heartbeat refuses one that has not joined: UnknownMemberID.
func (g *gathering[M]) Heartbeat(int64, Who, int32) Code { return UnknownMemberID }

// Leave refuses those that have not joined: UnknownMemberID.
func (g *gathering[M]) Leave(_ int64, whos []Who, _ string) ([]Code, []Effect) {
	return slices.Repeat([]Code{UnknownMemberID}, len(whos)), nil
}

// Seat finds none that Leave would.
func (g *gathering[M]) Seat(Who) (s Seat, is bool) { return Seat{}, false }

// Gone has nobody to forget: who waits for the answer to a heartbeat holds nothing.
func (g *gathering[M]) Gone(int64, Ticket) []Effect { return nil }

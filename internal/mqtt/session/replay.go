package session

import (
	"encoding/binary"
	"math"
	"slices"
)

// Replay is how far a subscription has come that begins in the past. It stands by itself, in places of its own: what
// the session has taken by others says nothing of it. Once it has caught up everywhere it follows the marks, as a
// session does.
type Replay struct {
	From From

	mark   uint64 // that it is pinned to, once it has caught up; 0: it follows the last
	behind int32  // in how many partitions
	caught bool   // it has caught up everywhere, once
	told   bool   // the record of its subscription is as it should be
	places places
}

// replays are those of a session.
type replays struct {
	count int32
	// gone are places whose records are to be removed.
	gone []replayPlace
}

// rare is what few sessions have.
type rare struct {
	replays replays
	owner   string // the user that nobody else takes it from; empty: none
}

// forgetRare gives up what holds nothing.
func (s *State) forgetRare() {
	if r := s.rare; r != nil && r.owner == "" && r.replays.count == 0 && r.replays.gone == nil {
		s.rare = nil
	}
}

// owner is the user that nobody else takes the session from; empty: none.
func (s *State) owner() string {
	if s.rare == nil {
		return ""
	}
	return s.rare.owner
}

func (s *State) setOwner(user string) {
	if s.rare == nil && user != "" {
		s.rare = &rare{}
	}
	if s.rare != nil {
		s.rare.owner = user
		s.forgetRare()
	}
}

// Caught tells whether the replay has caught up with what is news, once.
func (r *Replay) Caught() bool { return r.caught }

// Replays goes through the subscriptions that begin in the past; use it with range.
func (s *State) Replays(yield func(*Subscription) bool) {
	if s.rare == nil || s.rare.replays.count == 0 {
		return
	}
	for sub := range s.All {
		if sub.Replay != nil && !yield(sub) {
			return
		}
	}
}

// ReplayBehind is Behind for one that begins in the past.
func (s *State) ReplayBehind(r *Replay, by int, last uint64) (changed bool) {
	r.behind = max(r.behind+int32(by), 0)
	if r.behind > 0 {
		r.pin(last)
	}
	return s.change()
}

// pin has a replay that has caught up stand at the last mark.
func (r *Replay) pin(last uint64) {
	if r.caught && r.mark == 0 {
		r.mark, r.told = last, false
	}
}

// ReplayTook is Took for one that begins in the past.
func (s *State) ReplayTook(r *Replay, from Place) (changed bool) {
	return s.replayReaches(r, from.Partition, from.Offset+1)
}

// ReplayBegins notes where one begins in a partition, where a From may say another offset later.
func (s *State) ReplayBegins(r *Replay, partition uint32, offset int64) (changed bool) {
	return s.replayReaches(r, partition, offset)
}

func (s *State) replayReaches(r *Replay, partition uint32, next int64) (changed bool) {
	if !s.Lasts() {
		return false
	}
	p := r.places.at(partition)
	p.next, p.changed = max(p.next, next), true
	return s.change()
}

// Stands is where the replay stands in a partition: all below was taken, or is not for it. Fresh tells that it has
// taken nothing there: then it begins at its From, or at the offset where that is above.
func (r *Replay) Stands(partition uint32, marks Marked) (offset int64, fresh bool) {
	if r.caught {
		if at, ok := marks.At(partition, r.mark); ok {
			offset = at
		}
	}
	if p := r.places.find(partition); p != nil && p.next > 0 {
		return max(offset, p.next), false
	}
	return offset, true
}

// pinReplays has the replays that have caught up stand at the last mark.
func (s *State) pinReplays(last uint64) {
	for sub := range s.Replays {
		sub.Replay.pin(last)
	}
}

// releaseReplays has those follow the last mark that are behind nowhere.
func (s *State) releaseReplays() {
	if s.away != 0 || s.cut {
		return
	}
	for sub := range s.Replays {
		if r := sub.Replay; r.behind == 0 && (!r.caught || r.mark != 0) {
			r.caught, r.mark, r.told = true, 0, false
		}
	}
}

// Storing gets what is to be stored of replays.
type Storing interface {
	// Filter stores the record of a subscription.
	Filter(sub *Subscription)
	// Replay stores a place of the replay of a filter, nil: removes it. False: the partition is gone.
	Replay(filter string, partition uint32, r *ReplayRecord) (there bool)
}

// SaveReplays gives what changed of those that begin in the past.
func (s *State) SaveReplays(to Storing) {
	if s.rare == nil {
		return
	}
	for _, g := range s.rare.replays.gone {
		to.Replay(g.filter, g.partition, nil)
	}
	s.rare.replays.gone = nil
	s.forgetRare()
	for sub := range s.Replays {
		r := sub.Replay
		if sub.Since == 0 {
			continue // StoredSince comes first
		}
		if !r.told {
			r.told = true
			to.Filter(sub)
		}
		r.places = slices.DeleteFunc(r.places, func(p place) bool {
			return p.changed && !to.Replay(sub.Filter, p.partition, &ReplayRecord{Since: sub.Since, Next: p.next})
		})
		for i := range r.places {
			if p := &r.places[i]; p.changed {
				p.changed, p.stored = false, true
			}
		}
	}
}

// unstoreReplays has all of them stored again.
func (s *State) unstoreReplays() {
	for sub := range s.Replays {
		r := sub.Replay
		r.told = false
		for i := range r.places {
			r.places[i].changed = true
		}
	}
}

// StoredReplays calls place with each place of a replay of which there is a record.
func (s *State) StoredReplays(place func(filter string, partition uint32)) {
	for sub := range s.Replays {
		for _, p := range sub.Replay.places {
			if p.stored {
				place(sub.Filter, p.partition)
			}
		}
	}
}

// replayPlace is the place of a replay in a partition.
type replayPlace struct {
	filter    string
	partition uint32
}

// replaces keeps count of the replays when a subscription takes the place of another; either may be nil.
func (s *State) replaces(old, now *Subscription) {
	if now != nil && now.Replay != nil {
		if s.rare == nil {
			s.rare = &rare{}
		}
		s.rare.replays.count++
	}
	if old == nil || old.Replay == nil {
		return
	}
	s.rare.replays.count--
	if now != nil && now.Replay == old.Replay {
		return
	}
	for _, p := range old.Replay.places {
		if p.stored {
			s.rare.replays.gone = append(s.rare.replays.gone, replayPlace{old.Filter, p.partition})
		}
	}
}

// ReplayRecord is how far a replay has come in a partition.
type ReplayRecord struct {
	Since uint64 // the mark since which its subscription is in force: one of another is of a replay that has ended
	Next  int64  // offset below which it was offered everything
}

// AppendTo appends the value.
func (r *ReplayRecord) AppendTo(b []byte) []byte {
	b = append(b, valueVersion)
	b = binary.AppendUvarint(b, r.Since)
	return binary.AppendUvarint(b, uint64(r.Next))
}

// ParseReplay decodes a ReplayRecord.
func ParseReplay(b []byte) (ReplayRecord, error) {
	const op = "session.ParseReplay"
	r, err := openValue(op, b)
	if err != nil {
		return ReplayRecord{}, err
	}
	rec := ReplayRecord{Since: r.uvarint(math.MaxUint64), Next: int64(r.uvarint(math.MaxInt64))}
	return rec, r.done(op, b)
}

package session

import (
	"math"
	"slices"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// State is what a session is beyond its connection. New makes it; Connect gives it to the next connection. It is not
// safe for concurrent use.
//
// Its place in the log is the mark that it is pinned to, or the last one of all if it is not behind anywhere, and for
// the partitions of which it has taken something, a place (docs/design/0007).
type State struct {
	// Out is the table of what was sent to the client and not acknowledged.
	Out Outbound
	// In is the packet ids of QoS 2 that the client has sent and not released.
	In Received

	clientID string
	limits   *Limits
	subs     filters
	places   places
	rare     *rare // nil: it has nothing of that
	will     *Will
	mark     uint64 // that it is pinned to; 0: it follows the last
	away     int64  // since when it has no connection, in milliseconds since 1970; 0: it has one
	expiry   uint32 // seconds that it lasts without a connection
	behind   int32  // in how many partitions
	held     int32  // bytes of subscriptions
	version  packet.Version
	cut      bool // its connection takes no more, though it is there
	changed  bool // since the last checkpoint
	told     bool // the record of the session is as it should be
}

// New is the session that a CONNECT asks for.
func New(o *Opening) *State {
	s := &State{clientID: o.ClientID, limits: o.limits}
	s.Connect(o)
	s.behind = 0
	return s
}

// Connect gives a session to another connection. What the connection before left, a will that is due, is to be taken
// before. The session is behind until whoever brings it back says Behind(-1): no Checkpoint releases it from its mark
// before it is known where it stands.
func (s *State) Connect(o *Opening) {
	s.version, s.expiry, s.away, s.behind, s.told = o.version, o.Expiry, 0, 1, false
	s.setOwner(o.Owner)
	s.limits, s.cut = o.limits, false
	for sub := range s.Replays {
		sub.Replay.behind = 1 // as the session
	}
	s.Out.dropShared()
	s.Out.SetWindow(o.Link.window)
	s.will = o.newWill() // [MQTT-3.1.2-7]
}

// ClientID is the client identifier, given or assigned.
func (s *State) ClientID() string { return s.clientID }

// IsFor tells whether who connects may have the session: nobody but its owner, if it has one.
func (s *State) IsFor(o *Opening) bool { return s.owner() == "" || s.owner() == o.Owner }

// Version is the protocol version of the last connection.
func (s *State) Version() packet.Version { return s.version }

// Expiry is how many seconds the session lasts without a connection.
func (s *State) Expiry() uint32 { return s.expiry }

// Lasts tells whether the session outlives its connection.
func (s *State) Lasts() bool { return s.expiry > 0 }

// Held is about how many bytes the subscriptions make us hold.
func (s *State) Held() int { return int(s.held) }

// Kept is about how many bytes the session makes us keep while it has no connection: for its subscriptions and its
// will. With one, the account of the connection pays for both.
func (s *State) Kept() int { return s.Held() + s.will.Size() + len(s.owner()) }

// Disconnect takes a DISCONNECT of the client: unless it says so, the will is deleted [MQTT-3.14.4-3]. It may change
// the session expiry interval, but not raise it from 0 [MQTT-3.1.2-23].
func (s *State) Disconnect(p *packet.Disconnect) error {
	if p.Props.Has(packet.PropSessionExpiry) {
		if p.Props.SessionExpiry > 0 && s.expiry == 0 {
			return &packet.Error{Reason: packet.ProtocolError, Detail: "session expiry interval raised from 0"}
		}
		s.expiry = min(p.Props.SessionExpiry, s.limits.MaxExpiry)
	}
	if p.Reason == packet.Success {
		s.will = nil
	}
	return nil
}

// Leave notes that the connection ended at a time in milliseconds since 1970, when last was the last mark. The will is
// due after its delay or when the session ends, whichever is first [MQTT-3.1.3-9].
func (s *State) Leave(now int64, last uint64) {
	s.away, s.told = now, false
	s.Out.dropShared()
	if s.mark == 0 {
		s.mark = last
	}
	s.pinReplays(last)
	if s.will != nil {
		s.will.Due = now + 1000*int64(min(s.will.Delay, s.expiry))
	}
}

// Away is since when the session has no connection, in milliseconds since 1970; 0: it has one.
func (s *State) Away() int64 { return s.away }

// EndSoon has the session end with its connection or, without one, now.
func (s *State) EndSoon() { s.expiry = 0 }

// Ends is when a session without a connection ends, in milliseconds since 1970; math.MaxInt64: never, or not before it
// has lost its connection.
func (s *State) Ends() int64 {
	if s.away == 0 || s.expiry == Never {
		return math.MaxInt64
	}
	return s.away + 1000*int64(s.expiry)
}

// Will is the will, or nil.
func (s *State) Will() *Will { return s.will }

// TakeWill is the will, which the session has no more; nil: there is none [MQTT-3.1.2-10] [MQTT-3.1.2-12 of 3.1.1].
func (s *State) TakeWill() *Will {
	w := s.will
	s.will = nil
	return w
}

// Cut notes that the connection takes no more from here on, before that is known to be its end: what it refuses is
// not taken, so the session is pinned to the last mark until the next Connect. Changed is as of Behind.
func (s *State) Cut(last uint64) (changed bool) {
	s.cut = true
	if s.mark == 0 {
		s.mark, s.told = last, false
	}
	s.pinReplays(last)
	return s.change()
}

// Reached notes that all of a partition below an offset was offered, if the session is behind nowhere: then it was
// taken. Changed is as of Behind.
func (s *State) Reached(partition uint32, offset int64) (changed bool) {
	if !s.Lasts() || s.behind > 0 || s.cut {
		return false
	}
	p := s.places.at(partition)
	p.next, p.changed = max(p.next, offset), true
	return s.change()
}

// GiveWill gives a will back that was taken.
func (s *State) GiveWill(w *Will) {
	s.will, s.told = w, false
	s.change()
}

// Behind notes in how many partitions more, or fewer, the session is behind. The first pins it to the last mark.
// Changed tells that a checkpoint has to look at it.
func (s *State) Behind(by int, last uint64) (changed bool) {
	s.behind = max(s.behind+int32(by), 0)
	if s.behind > 0 && s.mark == 0 {
		s.mark, s.told = last, false
	}
	return s.change()
}

// BehindIn is in how many partitions the session is behind.
func (s *State) BehindIn() int {
	n := s.behind
	for sub := range s.Replays {
		n += sub.Replay.behind
	}
	return int(n)
}

// change notes that the session has changed; false: it was noted before.
func (s *State) change() bool {
	if s.changed || !s.Lasts() {
		return false
	}
	s.changed = true
	return true
}

// Took notes that a message was taken, with which all before it in its partition are. Changed is as of Behind.
func (s *State) Took(from Place) (changed bool) {
	if !s.Lasts() {
		return false
	}
	p := s.places.at(from.Partition)
	p.next, p.changed = max(p.next, from.Offset+1), true
	return s.change()
}

// Touched notes that what is in flight of the partition of a message changed. Changed is as of Behind.
func (s *State) Touched(from Place) (changed bool) {
	if !s.Lasts() {
		return false
	}
	s.places.at(from.Partition).changed = true
	return s.change()
}

// Marked tells the offset of a partition at a mark, or at the next older one that is known; mark 0 is the last. Not ok:
// there is none so old.
type Marked interface {
	At(partition uint32, mark uint64) (offset int64, ok bool)
}

// Stands is where the session stands in a partition: everything before it was taken, or is older than its
// subscriptions. Negative: the partition is newer than its mark and than one of them.
func (s *State) Stands(partition uint32, marks Marked) int64 {
	at, ok := marks.At(partition, s.mark)
	if !ok {
		at = s.sinceAll(partition, marks)
	}
	if p := s.places.find(partition); p != nil && p.next > 0 {
		return max(at, p.next)
	}
	return at
}

// sinceAll is the first offset of a partition that any subscription may get; -1: one gets all.
func (s *State) sinceAll(partition uint32, marks Marked) int64 {
	first := int64(math.MaxInt64)
	s.All(func(sub *Subscription) bool {
		if sub.Replay != nil {
			return true // it stands by itself
		}
		at, ok := marks.At(partition, sub.Since)
		if !ok || sub.Since == 0 {
			at = -1
		}
		first = min(first, at)
		return first >= 0
	})
	if first == math.MaxInt64 {
		return -1
	}
	return first
}

// Since is the first offset of a partition that a subscription of the session may get; 0: it gets all.
func (s *State) Since(sub *Subscription, partition uint32, marks Marked) int64 {
	if at, ok := marks.At(partition, sub.Since); ok && sub.Since > 0 {
		return at
	}
	return 0
}

// Checkpoint gives what changed since the last one, and releases the session from its mark if it is behind nowhere:
// the mark that was taken before becomes the one it follows. store gets what is to be stored of a partition, nil:
// nothing any more, and tells whether the partition is there. Record tells that the record of the session is to be
// stored, too.
//
// A place of what was taken stays for as long as its partition, though the mark implies it: the mark may be thinned
// out, and then an older one answers for it.
func (s *State) Checkpoint(store func(partition uint32, r *PlaceRecord) (there bool)) (record bool) {
	if s.away == 0 && s.behind == 0 && s.mark != 0 && !s.cut {
		s.mark, s.told = 0, false
	}
	s.releaseReplays()
	s.Save(store)
	record = !s.told
	s.changed, s.told = false, true
	return record
}

// Save gives the places that changed, without waiting for the next checkpoint; see there for store.
func (s *State) Save(store func(partition uint32, r *PlaceRecord) (there bool)) {
	var flights map[uint32][]Flight
	s.places = slices.DeleteFunc(s.places, func(p place) bool {
		if !p.changed {
			return false
		}
		if flights == nil {
			flights = s.flights()
		}
		in := flights[p.partition]
		if p.next == 0 && len(in) == 0 {
			if p.stored {
				store(p.partition, nil)
			}
			return true
		}
		return !store(p.partition, &PlaceRecord{Next: p.next, Flights: in})
	})
	for i := range s.places {
		if p := &s.places[i]; p.changed {
			p.changed, p.stored = false, true
		}
	}
}

// Owed tells that TakeOver is to be called before Save.
func (s *State) Owed() bool { return s.Out.owed }

// TakeOver has messages of QoS 2 that came by shared subscriptions be the session's own, which is to be stored before
// they leave: then they are never sent to another client [MQTT-4.8.2-4] [MQTT-4.8.2-5]. Those that their group does not
// let go are over.
func (s *State) TakeOver(letGo func(from Place) bool) {
	o := &s.Out
	o.owed = false
	for pos := o.head; pos < o.tail && len(o.ring) > 0; pos++ {
		one := o.at(pos)
		if one.step != unreceived || one.share == 0 {
			continue
		}
		if !letGo(one.place()) {
			o.end(pos, one)
			continue
		}
		one.share = 0
		s.places.at(one.partition).changed = true
	}
}

// flights is what is in flight, by partition.
func (s *State) flights() map[uint32][]Flight {
	if s.Out.InFlight() == 0 {
		return nil
	}
	by := make(map[uint32][]Flight)
	s.Out.Flights(func(f Flight) bool {
		if f.From.Share == 0 {
			by[f.From.Partition] = append(by[f.From.Partition], f)
		}
		return true
	})
	return by
}

// StoredSince notes since which mark a subscription is in force, and gives its record. One that replaced another is in
// force since that one was.
func (s *State) StoredSince(sub *Subscription, mark uint64) FilterRecord {
	if sub.Since == 0 {
		sub.Since = mark
	}
	return sub.Record()
}

// Record is the record of the session.
func (s *State) Record() SessionRecord {
	return SessionRecord{Version: s.version, Expiry: s.expiry, Away: s.away, Mark: s.mark, Owner: s.owner()}
}

// Unstored notes that what the last checkpoint gave was not stored.
func (s *State) Unstored() {
	s.changed, s.told = true, false
	for i := range s.places {
		s.places[i].changed = true
	}
	s.unstoreReplays()
}

// Stored calls place with each partition of which there is a record.
func (s *State) Stored(place func(partition uint32)) {
	for _, p := range s.places {
		if p.stored {
			place(p.partition)
		}
	}
}

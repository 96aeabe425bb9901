package group

// Effect is one thing that the owner must do. Exactly one field of Join, Sync, Beat, Streams, Store and Left is set.
type Effect struct {
	To      Ticket         // the blocked request to answer, with Join, Sync, Beat and Streams
	Join    *JoinAnswer    // answers a Join
	Sync    *SyncAnswer    // answers a Sync
	Beat    *BeatAnswer    // answers a Beat
	Streams *StreamsAnswer // answers a Beat of a streams group
	Store   *Store         // write the group to stable storage, then call Stored
	Left    string         // a member of a share group that is gone: what it had is to be given to others
}

// lost is the answer in the place of one that tells what did not become durable: come again.
func (e Effect) lost() Effect {
	switch {
	case e.Join != nil:
		e.Join = &JoinAnswer{Code: CoordinatorNotAvailable, MemberID: e.Join.MemberID, Generation: -1}
	case e.Sync != nil:
		e.Sync = &SyncAnswer{Code: CoordinatorNotAvailable}
	case e.Beat != nil:
		e.Beat = &BeatAnswer{Code: CoordinatorNotAvailable}
	case e.Streams != nil:
		e.Streams = &StreamsAnswer{Code: CoordinatorNotAvailable}
	}
	return e
}

// JoinAnswer is what a JoinGroup response says.
type JoinAnswer struct {
	Code           Code
	MemberID       string
	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	SkipAssignment bool         // KIP-814: the leader came back, its assignment still stands
	Members        []MemberInfo // for the leader only
}

// MemberInfo is a member as the leader sees it.
type MemberInfo struct {
	ID         string
	InstanceID string // "": dynamic
	Metadata   []byte // of the chosen protocol
}

// SyncAnswer is what a SyncGroup response says.
type SyncAnswer struct {
	Code         Code
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// BeatAnswer is what a ConsumerGroupHeartbeat response says.
type BeatAnswer struct {
	Code       Code
	Message    string // of an error; "": none
	MemberID   string
	Epoch      int32
	Assigned   bool       // Assignment is told: the member asked for it, it changed, or the member says it has another
	Assignment Partitions // that the member may hold now
	Waits      bool       // for partitions that others have to give up
	Quiet      int64      // milliseconds since members or topics changed last
	Members    int        // of the group
}

// Store asks for the group to be written, as one atomic unit. Stores are written in the order they come out.
type Store struct {
	Seq      uint64    // to be handed to Stored
	Snapshot *Snapshot // of a classic group: its whole record
	Changes  []Change  // records of a consumer group, and the ends of those that a group had as the other kind
}

// outbox gathers what comes out of a group, and holds answers back until what they tell is durable.
type outbox struct {
	seq  uint64              // the last Store
	held map[uint64][]Effect // answers that wait for a Store
	out  []Effect
}

func newOutbox() outbox { return outbox{held: map[uint64][]Effect{}} }

// release lets the answers out that waited for a Store.
func (o *outbox) release(seq uint64, lost bool) {
	for _, e := range o.held[seq] {
		if lost {
			e = e.lost()
		}
		o.out = append(o.out, e)
	}
	delete(o.held, seq)
}

func (o *outbox) answerJoin(to Ticket, a *JoinAnswer) {
	if to != 0 {
		o.out = append(o.out, Effect{To: to, Join: a})
	}
}

func (o *outbox) answerSync(to Ticket, a *SyncAnswer) {
	if to != 0 {
		o.out = append(o.out, Effect{To: to, Sync: a})
	}
}

// refuse answers a join that ends with an error.
func (o *outbox) refuse(to Ticket, memberID string, code Code) {
	if to != 0 {
		o.out = append(o.out, refusal(to, memberID, code))
	}
}

// refusal is the answer to a join that ends with an error.
func refusal(to Ticket, memberID string, code Code) Effect {
	return Effect{To: to, Join: &JoinAnswer{Code: code, MemberID: memberID, Generation: -1}}
}

func (g *Group) refuseJoin(m *member, code Code) {
	g.refuse(m.joining, m.id, code)
	m.joining = 0
}

func (g *Group) refuseSync(m *member, code Code) {
	g.answerSync(m.syncing, &SyncAnswer{Code: code})
	m.syncing = 0
}

// store asks for the group as it is now to be written.
func (g *Group) store() uint64 {
	s := g.Snapshot()
	return g.write(&s)
}

// write asks for a snapshot to be written, with the ends of what the group had as a consumer group.
func (g *Group) write(s *Snapshot) uint64 {
	g.seq++
	w := &Store{Seq: g.seq, Snapshot: s}
	for _, key := range g.former {
		w.Changes = append(w.Changes, Change{Key: key})
	}
	if len(g.former) > 0 {
		g.ending = g.seq
	}
	g.out = append(g.out, Effect{Store: w})
	return g.seq
}

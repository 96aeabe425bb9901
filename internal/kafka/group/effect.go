package group

// Effect is one thing that the owner must do. Exactly one field of Join, Sync and Store is set.
type Effect struct {
	To    Ticket      // the blocked request to answer, with Join and Sync
	Join  *JoinAnswer // answers a Join
	Sync  *SyncAnswer // answers a Sync
	Store *Store      // write the group to stable storage, then call Stored
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

// Store asks for the group to be written. Stores are written in the order they come out.
type Store struct {
	Seq      uint64 // to be handed to Stored
	Snapshot Snapshot
}

func (g *Group) answerJoin(to Ticket, a *JoinAnswer) {
	if to != 0 {
		g.out = append(g.out, Effect{To: to, Join: a})
	}
}

func (g *Group) answerSync(to Ticket, a *SyncAnswer) {
	if to != 0 {
		g.out = append(g.out, Effect{To: to, Sync: a})
	}
}

// refuse answers a join that ends with an error.
func (g *Group) refuse(to Ticket, memberID string, code Code) {
	g.answerJoin(to, &JoinAnswer{Code: code, MemberID: memberID, Generation: -1})
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
	g.seq++
	g.out = append(g.out, Effect{Store: &Store{Seq: g.seq, Snapshot: g.Snapshot()}})
	return g.seq
}

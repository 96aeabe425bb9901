package group

import "bytes"

// Snapshot is a group as it is stored: what a restart brings back.
type Snapshot struct {
	ProtocolType string
	Generation   int32
	Protocol     string // "": none
	Leader       string // "": none
	Since        int64  // when it came into its state, milliseconds since 1970
	Members      []SnapshotMember
}

// SnapshotMember is a member as it is stored.
type SnapshotMember struct {
	ID               string
	InstanceID       string
	ClientID         string
	ClientHost       string
	RebalanceTimeout int32 // milliseconds
	SessionTimeout   int32 // milliseconds
	Metadata         []byte
	Assignment       []byte
}

// Snapshot is the group as it is now.
func (g *Group) Snapshot() Snapshot {
	s := Snapshot{
		ProtocolType: g.protocolType, Generation: g.generation, Protocol: g.protocol,
		Leader: g.leader, Since: g.since,
	}
	for _, m := range g.members {
		s.Members = append(s.Members, SnapshotMember{
			ID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeout: int32(m.rebalance), SessionTimeout: int32(m.session),
			Metadata: m.metadata(g.protocol), Assignment: m.assignment,
		})
	}
	return s
}

// Load makes the group of a snapshot. Its members, dynamic ones too, go on where they were: each
// has its session timeout from now on to be heard of.
func Load(id string, opts Options, now int64, s Snapshot) *Group {
	g := New(id, opts, s.Since)
	g.protocolType, g.generation, g.protocol, g.leader = s.ProtocolType, s.Generation, s.Protocol, s.Leader
	for i := range s.Members {
		sm := &s.Members[i]
		if g.byID[sm.ID] != nil {
			continue
		}
		m := &member{
			id: sm.ID, instance: sm.InstanceID, clientID: sm.ClientID, clientHost: sm.ClientHost,
			session: int64(sm.SessionTimeout), rebalance: int64(sm.RebalanceTimeout), assignment: bytes.Clone(sm.Assignment),
			protocols: owned([]Protocol{{Name: s.Protocol, Metadata: sm.Metadata}}),
		}
		m.alive(now)
		g.seat(m)
	}
	if len(g.members) == 0 {
		return g
	}
	g.state = Stable
	if g.byID[g.leader] == nil {
		g.leader = g.members[0].id
	}
	if s.Leader == "" { // it was about to call them
		g.rebalance(now, "the group was loaded")
	}
	return g
}

// seat makes a member that was one before a part of the group.
func (g *Group) seat(m *member) {
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instance != "" {
		g.static[m.instance] = m.id
	}
	g.count(m.protocols, 1)
	g.recount(m)
}

// Description is a group as tools see it.
type Description struct {
	State        State
	ProtocolType string
	Protocol     string // only of a stable group
	Reason       string // why the last rebalance began
	Members      []SnapshotMember
}

// Describe is the group as tools see it. Metadata and assignments are shown once they stand.
func (g *Group) Describe() Description {
	s := g.Snapshot()
	d := Description{State: g.state, ProtocolType: g.protocolType, Reason: g.reason, Members: s.Members}
	if g.state == Stable {
		d.Protocol = g.protocol
		return d
	}
	for i := range d.Members {
		d.Members[i].Metadata, d.Members[i].Assignment = nil, nil
	}
	return d
}

package group

import (
	"bytes"
	"slices"
)

// Protocol is one way of assigning partitions that a member offers.
type Protocol struct {
	Name     string
	Metadata []byte // opaque
}

// Who names a member in a request. InstanceID is "" for a dynamic member.
type Who struct {
	MemberID   string
	InstanceID string
}

// member is one member of a group.
type member struct {
	id         string
	instance   string // "": dynamic
	clientID   string
	clientHost string
	session    int64 // session timeout in milliseconds
	rebalance  int64 // rebalance timeout in milliseconds
	protocols  []Protocol
	assignment []byte
	counted    int64 // its size in Group.bytes

	expires  int64  // when its session ends unless it is heard of; not counted while it waits
	joining  Ticket // its blocked join
	syncing  Ticket // its blocked sync
	untold   bool   // it joined without knowing its id and has had no answer yet
	fresh    bool   // it has never completed a join
	unsynced bool   // it knows of this generation and has not synced
}

// alive puts the end of the session off.
func (m *member) alive(now int64) { m.expires = now + m.session }

// waiting tells whether the member blocks in a join or a sync; its session cannot end meanwhile,
// except that a fresh one is not waited for without end.
func (m *member) waiting() bool { return m.joining != 0 || m.syncing != 0 }

// metadata is what the member says under a protocol.
func (m *member) metadata(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return nil
}

// said is what the member says under a protocol, or, before it is in a generation, under the one that it likes best.
func (m *member) said(protocol string) []byte {
	if metadata := m.metadata(protocol); metadata != nil || len(m.protocols) == 0 {
		return metadata
	}
	return m.protocols[0].Metadata
}

// offers tells whether the member offers exactly these protocols with exactly this metadata.
func (m *member) offers(ps []Protocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// count adds n to the number of members that support each of ps. A name given twice counts once.
func (g *Group) count(ps []Protocol, n int) {
	for i := range ps {
		if firstOf(ps, i) {
			g.supports[ps[i].Name] += n
			if g.supports[ps[i].Name] <= 0 {
				delete(g.supports, ps[i].Name)
			}
		}
	}
}

func firstOf(ps []Protocol, i int) bool {
	return !slices.ContainsFunc(ps[:i], func(p Protocol) bool { return p.Name == ps[i].Name })
}

// agrees tells whether a member that offers ps could be in this group: it has members of no other
// protocol type, and at least one protocol is offered by all of them.
func (g *Group) agrees(protocolType string, ps []Protocol) bool {
	if protocolType == "" || len(ps) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	return g.protocolType == protocolType && slices.ContainsFunc(ps, func(p Protocol) bool {
		return g.supports[p.Name] == len(g.members)
	})
}

// elect is the protocol that the members vote for: each has one vote, for the first it names of
// those that all support. A tie goes to what the leader names first.
func (g *Group) elect() string {
	votes := map[string]int{}
	for _, m := range g.members {
		for i := range m.protocols {
			if g.supports[m.protocols[i].Name] == len(g.members) {
				votes[m.protocols[i].Name]++
				break
			}
		}
	}
	best := ""
	if leader := g.byID[g.leader]; leader != nil {
		for i := range leader.protocols {
			if name := leader.protocols[i].Name; votes[name] > votes[best] {
				best = name
			}
		}
	}
	return best
}

// infos is the list of members for the leader.
func (g *Group) infos() []MemberInfo {
	all := make([]MemberInfo, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, MemberInfo{ID: m.id, InstanceID: m.instance, Metadata: m.metadata(g.protocol)})
	}
	return all
}

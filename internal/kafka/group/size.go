package group

import "bytes"

// What is kept of a member or of an id that was handed out takes about so many bytes beside what its client sent, and
// a protocol of a member does so too.
const (
	memberOverhead   = 512
	pendingOverhead  = 128
	protocolOverhead = 64
)

// Bytes is about what the members of the group take in memory, with their metadata and assignments, and with the ids
// that were handed out. Its owner counts it: clients choose it.
func (g *Group) Bytes() int64 { return g.bytes }

// Bytes is about how much larger the group may become by the join.
func (j *Join) Bytes() int64 { return max(j.sizeAs(j.Who.MemberID), j.sizeAs(j.NewID)) }

// sizeAs is what a member takes that joins so, under an id.
func (j *Join) sizeAs(id string) int64 {
	own := len(id) + len(j.Who.InstanceID) + len(j.ClientID) + len(j.ClientHost)
	return memberOverhead + int64(own) + sizeOf(j.Protocols)
}

// Bytes is about how much larger the group may become by the sync.
func (s *Sync) Bytes() (n int64) {
	for i := range s.Assignments {
		n += int64(len(s.Assignments[i].Data))
	}
	return n
}

// size is what the member takes.
func (m *member) size() int64 {
	own := len(m.id) + len(m.instance) + len(m.clientID) + len(m.clientHost) + len(m.assignment)
	return memberOverhead + int64(own) + sizeOf(m.protocols)
}

func sizeOf(ps []Protocol) (n int64) {
	for i := range ps {
		n += protocolOverhead + int64(len(ps[i].Name)+len(ps[i].Metadata))
	}
	return n
}

// recount takes in that a member has changed.
func (g *Group) recount(m *member) {
	g.bytes -= m.counted
	m.counted = m.size()
	g.bytes += m.counted
}

// crowds tells whether a join for which there is no room would make the group larger.
func (g *Group) crowds(j *Join) bool {
	if !j.Full {
		return false
	}
	before, after := j.Who.MemberID, j.Who.MemberID
	if known, static := g.static[j.Who.InstanceID]; static && before == "" {
		before, after = known, j.NewID // a static member comes back
	}
	m := g.byID[before]
	return m == nil || j.sizeAs(after) > m.counted-int64(len(m.assignment))
}

// handOut makes an id known that has not joined yet.
func (g *Group) handOut(id string, until int64) {
	g.forget(id)
	g.pending[id] = until
	g.bytes += pendingOverhead + int64(len(id))
}

// forget takes such an id back.
func (g *Group) forget(id string) {
	if _, ok := g.pending[id]; ok {
		delete(g.pending, id)
		g.bytes -= pendingOverhead + int64(len(id))
	}
}

// owned copies what a member offers: a few bytes that live long must not keep the whole request alive.
func owned(ps []Protocol) []Protocol {
	all := make([]Protocol, len(ps))
	for i, p := range ps {
		all[i] = Protocol{p.Name, bytes.Clone(p.Metadata)}
	}
	return all
}

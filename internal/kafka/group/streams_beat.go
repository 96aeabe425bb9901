package group

import (
	"fmt"
	"slices"
	"strings"
)

// StreamsBeat is a StreamsGroupHeartbeat request. Nil means: as before.
type StreamsBeat struct {
	Ticket     Ticket
	MemberID   string
	Epoch      int32 // 0 joins, LeaveEpoch leaves
	Endpoints  int32 // the epoch of the endpoints that it knows
	Rack       *string
	ClientID   string
	ClientHost string
	Rebalance  int64     // rebalance timeout in milliseconds; -1: as before
	Topology   *Topology // of a member that joins
	Owned      *TaskSet  // what it has
	Process    *string   // the instance of the application that it is a thread of
	Endpoint   *Endpoint // where its state can be asked for
	Tags       []Setting
	Shutdown   bool // all of the application is to end
	Full       bool // there is no room for what makes the group larger
}

// Endpoint is where the state of an instance can be asked for (interactive queries).
type Endpoint struct {
	Host string
	Port uint16
}

// EndpointInfo is which partitions of what the topology reads can be asked for at an endpoint.
type EndpointInfo struct {
	Endpoint
	Active, Standby map[string][]int32 // by topic
}

// StreamsAnswer is what a StreamsGroupHeartbeat response says.
type StreamsAnswer struct {
	Code      Code
	Message   string // of an error; "": none
	MemberID  string
	Epoch     int32
	Assigned  bool    // Tasks is told: the member asked for it, it changed, or the member says it has another
	Tasks     TaskSet // that the member may have now
	Statuses  []Status
	Endpoints int32          // their epoch
	Info      []EndpointInfo // nil: the member knows of these
	Missing   []InternalTopic
	Waits     bool  // for tasks that others have to give up, or for topics
	Quiet     int64 // milliseconds since members or topics changed last
	Members   int   // of the group
}

// Bytes is about how much larger the group may become by the heartbeat.
func (b *StreamsBeat) Bytes() int64 {
	n := len(b.MemberID) + len(b.ClientID) + len(b.ClientHost)
	if b.Epoch == 0 {
		n += memberOverhead
	}
	if b.Process != nil {
		n += len(*b.Process)
	}
	for _, tag := range b.Tags {
		n += len(tag.Name) + len(tag.Value)
	}
	return int64(n) + b.Topology.size()
}

// size is about what a topology takes.
func (t *Topology) size() int64 {
	if t == nil {
		return 0
	}
	return int64(3 * len(appendTopology(nil, t)))
}

// Beat takes a heartbeat. The answer comes out now or, once what it tells is durable, later. Codes: InvalidRequest
// (too much, another topology than the group's, tasks that there are not), StreamsInvalidTopology, UnknownMemberID,
// FencedMemberEpoch (join again), GroupMaxSizeReached, GroupIDNotFound (deleted), CoordinatorNotAvailable (not stored,
// being deleted, or there is no room: come again).
func (g *Streams) Beat(now int64, b StreamsBeat) []Effect {
	g.beat(now, &b)
	return g.take()
}

// beat takes a heartbeat, and tells whether it was one that the group could take.
func (g *Streams) beat(now int64, b *StreamsBeat) bool {
	code, why := g.admits(b)
	if code == None && b.Epoch < 0 {
		code = g.quit(now, b)
	} else if code == None {
		code, why = g.hear(now, b)
	}
	if why == "" {
		why = reasons[code]
	}
	if code != None {
		g.answer(b.Ticket, &StreamsAnswer{Code: code, Message: why})
	}
	return code == None
}

func (g *Streams) answer(to Ticket, a *StreamsAnswer) {
	g.out = append(g.out, Effect{To: to, Streams: a})
}

// admits judges what can be judged before anything changes.
func (g *Streams) admits(b *StreamsBeat) (Code, string) {
	m := g.byID[b.MemberID]
	switch {
	case g.deleted && b.Epoch == 0:
		return CoordinatorNotAvailable, "The group is being deleted."
	case g.deleted:
		return GroupIDNotFound, "The group was deleted."
	case int(b.Topology.size()) > 3*g.opts.MaxMetadata || b.Bytes()-b.Topology.size() > maxStreamer:
		return InvalidRequest, "The request says more than a group keeps of a member."
	case b.Epoch == 0 && m == nil && len(g.members) >= g.opts.MaxMembers:
		return GroupMaxSizeReached, "The group has as many members as it may have."
	case b.Full && b.Epoch >= 0 && (m == nil || b.Topology != nil && g.topology == nil):
		return CoordinatorNotAvailable, "There is no memory for it at the moment."
	case m == nil && b.Epoch != 0:
		return UnknownMemberID, ""
	case b.Epoch > 0:
		return m.fences(b.Epoch, b.Owned), ""
	}
	return None, ""
}

// maxStreamer bounds what is kept of a member, in bytes.
const maxStreamer = 64 << 10

// takeTopology takes the topology of the first member that brings one, or of the first after there was none. Another
// one must be the same, or an older one, whose members have to give way.
func (g *Streams) takeTopology(t *Topology) (Code, string) {
	switch {
	case t == nil && g.topology == nil:
		return InvalidRequest, "The group has no topology yet: a member has to bring it when it joins."
	case t == nil, g.topology != nil && g.topology.equal(t), len(g.members) > 0 && t.Epoch < g.topology.Epoch:
		return None, ""
	case len(g.members) > 0:
		return InvalidRequest, "Topology updates are not supported yet."
	}
	if flaw := t.Flaw(); flaw != "" {
		return StreamsInvalidTopology, flaw
	}
	if p := t.plan(g.topics); p.flaw != "" {
		return StreamsInvalidTopology, p.flaw
	}
	g.bytes += t.size() - g.topology.size()
	g.topology = t
	g.seen, g.plan = g.topics, t.plan(g.topics)
	g.touch(KindTopology, "")
	return None, ""
}

// hear is a heartbeat of a member that joins or stays.
func (g *Streams) hear(now int64, b *StreamsBeat) (Code, string) {
	if code, why := g.takeTopology(b.Topology); code != None {
		return code, why
	}
	g.review()
	if why := g.strange(b.Owned); why != "" {
		return InvalidRequest, why
	}
	if g.plan.flaw != "" {
		return StreamsInvalidTopology, g.plan.flaw
	}
	m, fresh := g.byID[b.MemberID], false
	if m == nil {
		if len(g.members) == 0 && g.opts.StreamsDelayMillis > 0 {
			g.delayed = now + g.opts.StreamsDelayMillis
		}
		m, fresh = g.add(b.MemberID), true
	}
	had, at := m.assigned, m.endpoint
	changed := g.describe(m, b)
	g.refresh(now, changed || fresh)
	g.aim(now)
	m.expires = now + g.opts.StreamsSessionMillis
	g.reconcile(now, m, b.Owned)
	if b.Shutdown {
		g.shutdown = m.id
	}
	a := &StreamsAnswer{
		MemberID: m.id, Epoch: m.epoch, Missing: g.plan.missing, Quiet: now - g.bumped, Members: len(g.members),
		Waits: m.state == unsettled || g.plan.status != nil || g.delayed != 0, Statuses: g.statuses(m),
	}
	if b.Epoch == 0 || !m.assigned.equal(had) || b.Owned != nil && !m.assigned.equal(*b.Owned) {
		a.Assigned, a.Tasks = true, m.assigned
	}
	if at != m.endpoint || m.endpoint != nil && !m.assigned.equal(had) {
		g.endpoints++
	}
	if a.Endpoints = g.endpoints; b.Endpoints != g.endpoints {
		a.Info = g.endpointInfo()
	}
	g.answer(b.Ticket, a)
	return None, ""
}

// strange tells what is wrong with the tasks that a member says it has; "": nothing.
func (g *Streams) strange(owned *TaskSet) (why string) {
	if owned == nil || !g.plan.fits() {
		return ""
	}
	owned.each(func(t Task, _ bool) {
		switch n, is := g.plan.tasks[t.Subtopology]; {
		case !is:
			why = "Subtopology " + t.Subtopology + " does not exist in the topology."
		case t.Partition < 0 || t.Partition >= n:
			why = fmt.Sprintf("Task %d for subtopology %s is invalid. Number of tasks for this subtopology: %d",
				t.Partition, t.Subtopology, n)
		}
	})
	return why
}

// statuses are what is the matter with the group, and with a member.
func (g *Streams) statuses(m *streamer) []Status {
	var all []Status
	if m.topology < g.topology.Epoch {
		all = append(all, Status{StaleTopology, fmt.Sprintf(
			"The member's topology epoch %d is behind the group's topology epoch %d.", m.topology, g.topology.Epoch)})
	}
	if g.delayed != 0 {
		all = append(all, Status{AssignmentDelayed, "Assignment delayed due to the configured initial rebalance delay."})
	}
	if g.plan.status != nil {
		all = append(all, *g.plan.status)
	}
	if g.shutdown != "" {
		all = append(all, Status{ShutdownApplication, "Streams group member " + g.shutdown +
			" encountered a fatal error and requested a shutdown for the entire application."})
	}
	return all
}

// describe takes over what a heartbeat says of its member, and tells whether that changes anything.
func (g *Streams) describe(m *streamer, b *StreamsBeat) (changed bool) {
	was := *m
	m.clientID, m.clientHost = b.ClientID, b.ClientHost
	if b.Rack != nil {
		m.rack = strings.Clone(*b.Rack)
	}
	if b.Rebalance >= 0 {
		m.rebalance = b.Rebalance
	}
	if b.Topology != nil {
		m.topology = b.Topology.Epoch
	}
	if b.Process != nil && *b.Process != m.process {
		g.move(m, strings.Clone(*b.Process))
	}
	if b.Endpoint != nil && (m.endpoint == nil || *b.Endpoint != *m.endpoint) {
		m.endpoint = &Endpoint{strings.Clone(b.Endpoint.Host), b.Endpoint.Port}
	}
	if b.Tags != nil && !slices.Equal(b.Tags, m.tags) {
		m.tags = slices.Clone(b.Tags)
	}
	changed = m.rack != was.rack || m.rebalance != was.rebalance || m.topology != was.topology ||
		m.process != was.process || m.endpoint != was.endpoint || !slices.Equal(m.tags, was.tags) ||
		m.clientID != was.clientID || m.clientHost != was.clientHost
	if changed {
		g.touch(KindStreamsMember, m.id)
		g.recount(m)
	}
	return changed
}

// quit is a heartbeat of a member that leaves.
func (g *Streams) quit(now int64, b *StreamsBeat) Code {
	g.remove(now, g.byID[b.MemberID])
	g.bump(now)
	g.answer(b.Ticket, &StreamsAnswer{MemberID: b.MemberID, Epoch: b.Epoch})
	return None
}

// endpointInfo is where which partitions can be asked for.
func (g *Streams) endpointInfo() []EndpointInfo {
	all := []EndpointInfo{}
	for _, m := range g.members {
		if m.endpoint == nil {
			continue
		}
		all = append(all, EndpointInfo{
			Endpoint: *m.endpoint, Active: g.partitionsOf(m.assigned.Active), Standby: g.partitionsOf(m.assigned.Standby),
		})
	}
	return all
}

// partitionsOf are the partitions that tasks read, by topic.
func (g *Streams) partitionsOf(tasks Tasks) map[string][]int32 {
	all := map[string][]int32{}
	tasks.BySubtopology(func(id string, partitions []int32) {
		for i := range g.topology.Subtopologies {
			s := &g.topology.Subtopologies[i]
			if s.ID != id {
				continue
			}
			for _, name := range s.reads() {
				t, _ := g.topics.ByName(name)
				some := slices.DeleteFunc(slices.Clone(partitions), func(p int32) bool { return p >= t.Partitions })
				if len(some) > 0 {
					all[name] = some
				}
			}
		}
	})
	return all
}

package group

import "slices"

// streamer is one member of a streams group: a thread of an instance of the application.
type streamer struct {
	id         string
	rack       string
	clientID   string
	clientHost string
	process    string
	endpoint   *Endpoint
	tags       []Setting
	rebalance  int64 // rebalance timeout in milliseconds
	topology   int32 // epoch of the topology that it runs
	counted    int64 // its size in Streams.bytes

	epoch    int32
	previous int32 // epoch: the answer that told it the present one may have been lost
	state    reconciliation
	assigned TaskSet
	revoked  TaskSet // that it was asked to give up
	target   TaskSet
	since    map[Task]int32 // in which epoch it was given each active task that it has

	expires  int64 // when its session ends unless it is heard of
	revokeBy int64 // when it must have given up; 0: it need not
}

// deadline is when the member is out unless something happens.
func (m *streamer) deadline() int64 {
	if m.revokeBy != 0 {
		return min(m.revokeBy, m.expires)
	}
	return m.expires
}

// size is what the member takes.
func (m *streamer) size() int64 {
	const task = 24 + 48 // in its sets and in those of the group
	n := memberOverhead + len(m.id) + len(m.rack) + len(m.clientID) + len(m.clientHost) + len(m.process)
	for _, tag := range m.tags {
		n += 32 + len(tag.Name) + len(tag.Value)
	}
	if m.endpoint != nil {
		n += 32 + len(m.endpoint.Host)
	}
	return int64(n + 2*task*m.assigned.len() + 2*task*m.revoked.len() + 24*m.target.len())
}

func (g *Streams) recount(m *streamer) {
	g.bytes -= m.counted
	m.counted = m.size()
	g.bytes += m.counted
}

// add makes a member without anything.
func (g *Streams) add(id string) *streamer {
	m := &streamer{id: id, since: map[Task]int32{}}
	g.members = append(g.members, m)
	g.byID[id] = m
	g.touch(KindStreamsMember, id)
	g.touch(KindStreamsCurrent, id)
	g.recount(m)
	return m
}

// fences holds the epoch that a member says against the one that it was told, as of a consumer group.
func (m *streamer) fences(epoch int32, has *TaskSet) Code {
	switch {
	case epoch == m.epoch:
		return None
	case epoch < m.epoch && epoch == m.previous && has != nil && has.within(m.assigned):
		return None
	}
	return FencedMemberEpoch
}

// hold changes what a member has and what it was asked to give up.
func (g *Streams) hold(m *streamer, assigned, revoked TaskSet) {
	g.count(m, -1)
	m.assigned, m.revoked = assigned, revoked
	g.count(m, 1)
	for t := range m.since {
		if !assigned.Active.Has(t) && !revoked.Active.Has(t) {
			delete(m.since, t)
		}
	}
	g.recount(m)
}

// count adds what a member has to what there is, or takes it away.
func (g *Streams) count(m *streamer, n int) {
	for _, s := range []TaskSet{m.assigned, m.revoked} {
		s.each(func(t Task, active bool) {
			if active && n > 0 {
				g.active[t] = m
			} else if active {
				delete(g.active, t)
			}
			at := processTask{m.process, t}
			if g.processes[at] += n; g.processes[at] == 0 {
				delete(g.processes, at)
			}
		})
	}
}

// move says that a member is of another process.
func (g *Streams) move(m *streamer, process string) {
	g.count(m, -1)
	m.process = process
	g.count(m, 1)
}

// reconcile brings a member as far towards its target as can be. has is what it says it has; nil: it does not say.
func (g *Streams) reconcile(now int64, m *streamer, has *TaskSet) {
	if m.state == revoking && (has == nil || m.revoked.meets(*has)) || m.state == settled && m.epoch == g.targetEpoch {
		return
	}
	was := *m
	g.advance(m, has)
	if m.epoch == was.epoch && m.state == was.state && m.assigned.equal(was.assigned) && m.revoked.equal(was.revoked) {
		return
	}
	g.touch(KindStreamsCurrent, m.id)
	m.revokeBy = 0
	if m.state == revoking {
		m.revokeBy = now + max(m.rebalance, minWaitMillis)
	}
}

// advance asks the member to give up what is not in its target, or, once it has, gives it what is free.
func (g *Streams) advance(m *streamer, has *TaskSet) {
	giveUp := m.assigned.without(m.target)
	keep := m.assigned.without(giveUp)
	if giveUp.len() > 0 && (has == nil || giveUp.meets(*has)) {
		m.state = revoking
		g.hold(m, keep, giveUp)
		return
	}
	g.hold(m, keep, TaskSet{})
	wants := m.target.without(keep)
	apart := func(t Task) bool { return g.processes[processTask{m.process, t}] == 0 }
	free := TaskSet{
		Active:  where(wants.Active, func(t Task) bool { return g.active[t] == nil && apart(t) }),
		Standby: where(wants.Standby, apart),
		Warmup:  where(wants.Warmup, apart),
	}
	for _, t := range free.Active {
		m.since[t] = g.targetEpoch
	}
	g.hold(m, keep.with(free), TaskSet{})
	m.state = settled
	if free.len() < wants.len() {
		m.state = unsettled
	}
	if m.epoch != g.targetEpoch {
		m.previous, m.epoch = m.epoch, g.targetEpoch
	}
}

// StreamsDescription is a streams group as tools see it.
type StreamsDescription struct {
	State       string
	Epoch       int32
	TargetEpoch int32     // of the target assignment
	Topology    *Topology // nil: none
	Fits        bool      // its topics were last seen to be there and to fit
	Tasks       map[string]int32
	Members     []StreamerInfo
}

// StreamerInfo is a member as tools see it.
type StreamerInfo struct {
	ID, Rack, ClientID, ClientHost, Process string
	Epoch, TopologyEpoch                    int32
	Endpoint                                *Endpoint
	Tags                                    []Setting
	Assigned, Target                        TaskSet
}

// Describe is the group as tools see it.
func (g *Streams) Describe() StreamsDescription {
	g.review()
	d := StreamsDescription{
		State: g.StateName(), Epoch: g.epoch, TargetEpoch: g.targetEpoch, Topology: g.topology,
		Fits: g.topology != nil && g.validated == g.topology.Epoch, Tasks: g.plan.tasks,
	}
	for _, m := range g.members {
		d.Members = append(d.Members, StreamerInfo{
			ID: m.id, Rack: m.rack, ClientID: m.clientID, ClientHost: m.clientHost, Process: m.process, Epoch: m.epoch,
			TopologyEpoch: m.topology, Endpoint: m.endpoint, Tags: slices.Clone(m.tags), Assigned: m.assigned, Target: m.target,
		})
	}
	return d
}

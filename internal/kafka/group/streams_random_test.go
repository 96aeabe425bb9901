package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStreamsRandom lets members of a streams group come, go, stand still and lose answers, topics come and grow,
// standby tasks be asked for, stores be lost and the group be loaded anew. No task is ever active with two members, nor
// with two members of a process in whatever role, and no two clients believe so; when all is calm every task is active
// once, has as many standby tasks as processes allow, and nobody has two active ones more than another.
func TestStreamsRandom(t *testing.T) {
	for seed := range uint64(200) {
		w := &streamsWorld{t: t, rng: rand.New(rand.NewPCG(seed, 11)), now: 1, records: map[Key][]byte{}}
		w.topics = &topicMap{counts: map[string]int32{"in": 7}}
		w.g = NewStreams("g", Options{StreamsSessionMillis: 1 << 40}, 1)
		for range 400 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := w.calm(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// twoParts is a topology of a part without state that writes to one with state.
func twoParts() *Topology {
	return &Topology{Subtopologies: []Subtopology{
		{ID: "0", Sources: []string{"in"}, Sinks: []string{"r"}},
		{ID: "1", Repartitions: []InternalTopic{{Name: "r"}}, Changelogs: []InternalTopic{{Name: "c"}}},
	}}
}

type streamsClient struct {
	id, process string
	epoch       int32
	assigned    TaskSet
}

type streamsWorld struct {
	t       *testing.T
	rng     *rand.Rand
	g       *Streams
	topics  *topicMap
	now     int64
	clients []*streamsClient
	asks    map[Ticket]*streamsClient
	ticket  Ticket
	born    int
	records map[Key][]byte
	flying  []*Store
	lossy   bool
}

func (w *streamsWorld) step() error {
	w.lossy = true
	switch n := w.rng.IntN(100); {
	case n < 8 && len(w.clients) < 6:
		w.born++
		c := &streamsClient{id: fmt.Sprint("c", w.born), process: fmt.Sprint("p", w.born%4)}
		w.clients = append(w.clients, c)
	case n < 10 && len(w.clients) > 1:
		i := w.rng.IntN(len(w.clients))
		w.beat(w.clients[i], LeaveEpoch)
		w.clients = slices.Delete(w.clients, i, i+1)
	case n < 13:
		counts := map[string]int32{"in": 7}
		if w.rng.IntN(4) > 0 {
			counts["r"], counts["c"] = 7, 7
		}
		w.topics = &topicMap{counts: counts}
	case n < 15:
		w.g.opts.StandbyReplicas = int32(w.rng.IntN(3))
	case n < 18 && len(w.flying) == 0:
		g, strange, err := LoadStreams("g", w.g.opts, w.now, 0, w.records)
		if err == nil && strange == 0 {
			w.g = g
		} else if len(w.records) > 0 {
			return fmt.Errorf("%d strange records, %w", strange, err)
		}
	case n < 60:
		w.land(w.rng.IntN(10) == 0)
	case len(w.clients) > 0:
		c := w.clients[w.rng.IntN(len(w.clients))]
		w.beat(c, c.epoch)
	}
	return w.check()
}

// beat sends one heartbeat of a client. Its answer may be lost on the way.
func (w *streamsWorld) beat(c *streamsClient, epoch int32) {
	w.ticket++
	b := StreamsBeat{Ticket: w.ticket, MemberID: c.id, Epoch: epoch, Rebalance: -1}
	if epoch == 0 {
		b.Rebalance, b.Topology, b.Process, c.assigned = 1<<40, twoParts(), &c.process, TaskSet{}
	}
	owned := c.assigned
	b.Owned = &owned
	w.asks = map[Ticket]*streamsClient{w.ticket: c}
	w.g.See(w.topics)
	w.effects(w.g.Beat(w.now, b))
}

// land ends the oldest store.
func (w *streamsWorld) land(lost bool) {
	if len(w.flying) == 0 {
		return
	}
	s := w.flying[0]
	w.flying = w.flying[1:]
	var fate error
	if lost {
		fate = errors.New("disk on fire")
	} else {
		for _, ch := range s.Changes {
			w.records[ch.Key] = ch.Value
			if ch.Value == nil {
				delete(w.records, ch.Key)
			}
		}
	}
	w.effects(w.g.Stored(w.now, s.Seq, fate))
}

func (w *streamsWorld) effects(es []Effect) {
	for _, e := range es {
		if e.Store != nil {
			w.flying = append(w.flying, e.Store)
			continue
		}
		c := w.asks[e.To]
		if c == nil || w.lossy && w.rng.IntN(8) == 0 {
			continue // it does not wait any more, or the answer is lost
		}
		switch e.Streams.Code {
		case None:
			c.epoch = max(e.Streams.Epoch, 0)
			if e.Streams.Assigned {
				c.assigned = e.Streams.Tasks
			}
		case CoordinatorNotAvailable:
		default:
			c.epoch, c.assigned = 0, TaskSet{}
		}
	}
}

func (w *streamsWorld) check() error {
	believed := map[Task]string{}
	for _, c := range w.clients {
		for _, task := range c.assigned.Active {
			if believed[task] != "" {
				return fmt.Errorf("%s and %s both believe that they have %v", believed[task], c.id, task)
			}
			believed[task] = c.id
		}
	}
	return w.g.verify()
}

// verify holds the group to its invariants.
func (g *Streams) verify() error {
	active, processes, bytes := map[Task]*streamer{}, map[processTask]int{}, g.topology.size()
	var err error
	for _, m := range g.members {
		bytes += m.counted
		for _, s := range []TaskSet{m.assigned, m.revoked} {
			s.each(func(task Task, is bool) {
				if is && active[task] != nil {
					err = fmt.Errorf("%v is with %s and %s", task, active[task].id, m.id)
				} else if is {
					active[task] = m
				}
				if processes[processTask{m.process, task}]++; processes[processTask{m.process, task}] > 1 {
					err = fmt.Errorf("%v is twice in process %s", task, m.process)
				}
			})
		}
		for _, task := range m.assigned.Active {
			if _, is := m.since[task]; !is {
				err = fmt.Errorf("nobody knows since when %s has %v", m.id, task)
			}
		}
	}
	switch {
	case err != nil:
		return err
	case !maps.Equal(active, g.active) || !maps.Equal(processes, g.processes):
		return fmt.Errorf("who has what is wrong: %v, %v", g.active, g.processes)
	case bytes != g.bytes:
		return fmt.Errorf("%d bytes, members and topology have %d", g.bytes, bytes)
	case g.targetEpoch > g.epoch:
		return fmt.Errorf("target of epoch %d in epoch %d", g.targetEpoch, g.epoch)
	}
	return nil
}

// calm lets everybody be heard until nothing changes.
func (w *streamsWorld) calm() error {
	w.lossy = false
	w.topics = &topicMap{counts: map[string]int32{"in": 7, "r": 7, "c": 7}}
	w.g.opts.StandbyReplicas = 1
	if len(w.clients) == 0 {
		w.clients = append(w.clients, &streamsClient{id: "last", process: "last"})
	}
	for _, m := range slices.Clone(w.g.members) { // those whose farewell was lost
		if !slices.ContainsFunc(w.clients, func(c *streamsClient) bool { return c.id == m.id }) {
			w.g.remove(w.now, m)
			w.g.bump(w.now)
		}
	}
	for range 40 {
		for _, c := range w.clients {
			w.beat(c, c.epoch)
			for len(w.flying) > 0 {
				w.land(false)
			}
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	active, standby, least, most, processes := 0, 0, 1<<30, 0, map[string]bool{}
	for _, c := range w.clients {
		active, standby = active+len(c.assigned.Active), standby+len(c.assigned.Standby)
		least, most = min(least, len(c.assigned.Active)), max(most, len(c.assigned.Active))
		processes[c.process] = true
	}
	wants := 7 // standby tasks: those with state
	if len(processes) == 1 {
		wants = 0
	}
	if active != 14 || standby != wants || most-least > 1 || w.g.StateName() != "Stable" {
		return fmt.Errorf("%s: %d active, %d standby (want %d), from %d to %d each", w.g.StateName(), active, standby, wants,
			least, most)
	}
	return nil
}

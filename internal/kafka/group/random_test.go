package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
)

// TestRandom lets random members do random things at random times, with stores that fail now and
// then, and checks after each step: nobody is answered twice, a generation never goes back, and the
// invariants of Group hold. At the end, when all do what clients do, the group becomes stable.
func TestRandom(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newRandomRun(t, seed).run() })
	}
}

type randomRun struct {
	t      *testing.T
	r      *rand.Rand
	g      *Group
	now    int64
	ticket Ticket
	asks   map[Ticket]int // ticket to client
	cs     []randomClient
	stores []uint64
	gone   map[Ticket]bool // asks that were given up
	full   bool            // now and then there is no room
}

type randomClient struct {
	id, instance string
	generation   int32
	leads        bool
	members      []MemberInfo
	asking       Ticket
	synced       bool
}

func newRandomRun(t *testing.T, seed uint64) *randomRun {
	r := rand.New(rand.NewPCG(seed, 1))
	x := &randomRun{t: t, r: r, now: 1, asks: map[Ticket]int{}, cs: make([]randomClient, 5), gone: map[Ticket]bool{}}
	opts := Options{MaxMembers: 3 + r.IntN(4)}
	if r.IntN(2) == 0 {
		opts.InitialDelayMillis = 3000
	}
	for i := range x.cs {
		if r.IntN(3) == 0 {
			x.cs[i].instance = fmt.Sprintf("instance-%d", i%3)
		}
	}
	x.g, x.full = New("g", opts, x.now), r.IntN(2) == 0
	return x
}

func (x *randomRun) run() {
	for range 300 {
		i := x.r.IntN(len(x.cs))
		switch x.r.IntN(12) {
		case 0, 1, 2:
			x.join(i)
		case 3, 4, 5:
			x.sync(i)
		case 6:
			x.g.Heartbeat(x.now, x.who(i), x.cs[i].generation)
		case 7:
			_, es := x.g.Leave(x.now, []Who{x.who(i)}, "")
			x.effects(es)
			x.cs[i].id = ""
		case 8:
			if c := &x.cs[i]; c.asking != 0 {
				delete(x.asks, c.asking)
				x.gone[c.asking] = true
				x.effects(x.g.Gone(x.now, c.asking))
				c.asking = 0
			}
		case 9:
			x.now += x.r.Int64N(9000)
			x.effects(x.g.Tick(x.now))
		default:
			x.settleStore(x.r.IntN(6) != 0)
		}
		x.check()
	}
	x.finish()
}

func (x *randomRun) who(i int) Who { return Who{MemberID: x.cs[i].id, InstanceID: x.cs[i].instance} }

func (x *randomRun) ask(i int) Ticket {
	x.ticket++
	x.asks[x.ticket] = i
	x.cs[i].asking = x.ticket
	return x.ticket
}

func (x *randomRun) join(i int) {
	if x.cs[i].asking != 0 {
		return
	}
	protocols := []Protocol{{"range", make([]byte, x.r.IntN(2)+x.r.IntN(2))}, {"rr", nil}}
	x.effects(x.g.Join(x.now, Join{
		Ticket: x.ask(i), Who: x.who(i), NewID: fmt.Sprintf("m%d", x.ticket), ProtocolType: "consumer",
		Protocols: protocols, Session: 10_000, Rebalance: 20_000,
		RequireID: x.r.IntN(2) == 0 && x.cs[i].instance == "", CanSkip: x.r.IntN(2) == 0,
		Full: x.full && x.r.IntN(8) == 0,
	}))
}

func (x *randomRun) sync(i int) {
	c := &x.cs[i]
	if c.asking != 0 || c.id == "" {
		return
	}
	s := Sync{Ticket: x.ask(i), Who: x.who(i), Generation: c.generation, Full: x.full && x.r.IntN(8) == 0}
	if c.leads {
		for _, m := range c.members {
			s.Assignments = append(s.Assignments, Assignment{m.ID, fmt.Appendf(nil, "%d/%s", c.generation, m.ID)})
		}
	}
	x.effects(x.g.Sync(x.now, s))
}

func (x *randomRun) settleStore(well bool) {
	if len(x.stores) == 0 {
		return
	}
	seq := x.stores[0]
	x.stores = x.stores[1:]
	if well {
		x.effects(x.g.Stored(x.now, seq, nil))
	} else {
		x.effects(x.g.Stored(x.now, seq, errors.New("lost")))
	}
}

func (x *randomRun) effects(es []Effect) {
	for _, e := range es {
		if e.Store != nil {
			x.stores = append(x.stores, e.Store.Seq)
			continue
		}
		i, asked := x.asks[e.To]
		if !asked {
			// A join that waits for a Store is answered even if its client has gone.
			if e.Join != nil && x.gone[e.To] {
				delete(x.gone, e.To)
				continue
			}
			x.t.Fatalf("ticket %d is answered and asks nothing", e.To)
		}
		delete(x.asks, e.To)
		c := &x.cs[i]
		c.asking = 0
		if e.Join != nil {
			x.joined(c, e.Join)
		} else if e.Sync.Code == None {
			c.synced = true
		} else if e.Sync.Code == UnknownMemberID || e.Sync.Code == FencedInstanceID {
			c.id = ""
		}
	}
}

func (x *randomRun) joined(c *randomClient, j *JoinAnswer) {
	c.leads, c.members = false, nil
	switch j.Code {
	case None:
		if j.Generation < c.generation && c.id == j.MemberID {
			x.t.Fatalf("generation went back from %d to %d", c.generation, j.Generation)
		}
		c.id, c.generation, c.synced = j.MemberID, j.Generation, false
		c.leads, c.members = j.Leader == j.MemberID && !j.SkipAssignment, j.Members
		if c.leads && len(j.Members) == 0 {
			x.t.Fatal("a leader without the list of members")
		}
	case MemberIDRequired:
		c.id = j.MemberID
	case UnknownMemberID, FencedInstanceID, GroupMaxSizeReached:
		c.id = ""
	}
}

func (x *randomRun) check() {
	g := x.g
	if (g.Len() == 0) != (g.state == Empty) && g.state != PreparingRebalance {
		x.t.Fatalf("%d members in state %s", g.Len(), g.state)
	}
	if g.Len() > 0 && g.byID[g.leader] == nil {
		x.t.Fatalf("leader %q is no member", g.leader)
	}
	if g.Len() != len(g.byID) || g.Len() > g.opts.MaxMembers {
		x.t.Fatalf("%d members, %d by id, at most %d", g.Len(), len(g.byID), g.opts.MaxMembers)
	}
	counts := map[string]int{}
	for _, m := range g.members {
		for _, p := range m.protocols {
			counts[p.Name]++
		}
		if m.instance != "" && g.static[m.instance] != m.id {
			x.t.Fatalf("instance %s is %s, not %s", m.instance, g.static[m.instance], m.id)
		}
		if m.joining != 0 && g.state != PreparingRebalance || m.syncing != 0 && g.state != CompletingRebalance {
			x.t.Fatalf("a member waits (join %d, sync %d) in state %s", m.joining, m.syncing, g.state)
		}
	}
	for name, n := range counts {
		if g.supports[name] != n {
			x.t.Fatalf("%d members support %s, not %d", n, name, g.supports[name])
		}
	}
	size := int64(0)
	for _, m := range g.members {
		size += m.size()
	}
	for id := range g.pending {
		size += pendingOverhead + int64(len(id))
	}
	if g.Bytes() != size {
		x.t.Fatalf("%d bytes, counted as %d", size, g.Bytes())
	}
	if g.state == Stable && (g.supports[g.protocol] != g.Len() || g.protocol == "") {
		x.t.Fatalf("stable with protocol %q that not all support", g.protocol)
	}
}

// finish lets every client do the right thing until the group is stable.
func (x *randomRun) finish() {
	x.full = false
	for range 200 {
		for len(x.stores) > 0 {
			x.settleStore(true)
		}
		done := x.g.State() == Stable
		for i := range x.cs {
			c := &x.cs[i]
			if c.asking != 0 || i >= 3 {
				continue
			}
			code := x.g.Heartbeat(x.now, x.who(i), c.generation)
			switch {
			case code == UnknownMemberID || code == FencedInstanceID:
				c.id, done = "", false
				x.join(i)
			case code != None:
				done = false
				x.join(i)
			case !c.synced:
				done = false
				x.sync(i)
			}
		}
		x.check()
		if done && len(x.stores) == 0 {
			return
		}
		x.now += 1000
		x.effects(x.g.Tick(x.now))
	}
	x.t.Fatalf("not stable in the end: %s, %d members, %d pending", x.g.State(), x.g.Len(), len(x.g.pending))
}

// What every member does every few seconds costs no memory.
func TestHeartbeatAllocatesNothing(t *testing.T) {
	g := New("g", Options{}, 1)
	who := Who{MemberID: "a"}
	g.Join(1, Join{
		Ticket: 1, NewID: "a", ProtocolType: "consumer", Protocols: []Protocol{{"range", nil}},
		Session: 10_000, Rebalance: 10_000,
	})
	g.Sync(1, Sync{Ticket: 2, Who: who, Generation: 1})
	g.Stored(1, 1, nil)
	if g.State() != Stable {
		t.Fatalf("state %s", g.State())
	}
	n := alloctest.PerRun(100, 0, func() {
		if g.Heartbeat(2, who, 1) != None || g.CheckCommit(2, who, 1) != None {
			t.Fatal("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

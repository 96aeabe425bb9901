package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMigrateRandom lets members of both protocols come, go and work in one group, so that it becomes one of consumers
// and classic again and again, loses stores, and is loaded anew. No two clients ever believe that they have the same
// partition; when all is calm each is with exactly one.
func TestMigrateRandom(t *testing.T) {
	turns := 0
	for seed := range uint64(150) {
		w := &mixedWorld{rng: rand.New(rand.NewPCG(seed, 11)), records: map[Key][]byte{}, asks: map[Ticket]*mixed{}}
		w.topics = &topicMap{counts: map[string]int32{"t": 9}}
		w.g = New("g", mixedOptions, 1)
		for range 400 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := w.calm(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		turns += w.turns
	}
	if turns < 300 {
		t.Errorf("the groups became another kind only %d times", turns)
	}
}

// Sessions last for ever: who is out while it does not know may believe what is not so any more.
var mixedOptions = Options{ConsumerSessionMillis: 1 << 50, MaxSessionMillis: 1 << 50, NewMemberMillis: 1 << 50}

// mixed is a client of one protocol or the other. One of the classic protocol gives up all that it has before it joins.
type mixed struct {
	client
	classic bool
	joins   bool // it waits for the answer to its join, or its sync
	member  bool // it is in a generation
}

type mixedWorld struct {
	rng     *rand.Rand
	g       machine
	topics  *topicMap
	clients []*mixed
	asks    map[Ticket]*mixed
	ticket  Ticket
	born    int
	turns   int
	records map[Key][]byte
	flying  []*Store
}

func (w *mixedWorld) step() error {
	switch n := w.rng.IntN(100); {
	case n < 6 && len(w.clients) < 5:
		w.born++
		c := &mixed{client: client{name: fmt.Sprint("c", w.born), id: fmt.Sprint("c", w.born)}, classic: w.rng.IntN(2) == 0}
		w.clients = append(w.clients, c)
	case n < 10 && len(w.clients) > 0:
		i := w.rng.IntN(len(w.clients))
		if c := w.clients[i]; c.member && !c.joins {
			w.leave(c)
			w.clients = slices.Delete(w.clients, i, i+1)
		}
	case n < 12 && len(w.flying) == 0:
		if err := w.load(); err != nil {
			return err
		}
	case n < 50:
		w.land(w.rng.IntN(10) == 0)
	case len(w.clients) > 0:
		w.work(w.clients[w.rng.IntN(len(w.clients))])
	}
	return w.check()
}

// work is what a client does next.
func (w *mixedWorld) work(c *mixed) {
	switch {
	case c.joins:
	case !c.classic:
		w.beat(c)
	case !c.member:
		w.join(c)
	default:
		w.turn(nil)
		if w.g.Heartbeat(1, c.who(), c.epoch) != None {
			c.member, c.assigned = false, nil
		}
		w.turn(nil)
	}
}

// act calls the group and does what came out, as its owner does.
func (w *mixedWorld) turn(es []Effect) {
	w.g.See(w.topics)
	if left, is := w.g.(*Consumer); is && left.Len() > 0 {
		if g := left.Downgrade(1); g != nil {
			w.g = g
			w.turns++
			es = append(es, g.Effects()...)
		}
	}
	for _, e := range es {
		if e.Store != nil {
			w.flying = append(w.flying, e.Store)
		} else if c := w.asks[e.To]; c != nil {
			delete(w.asks, e.To)
			w.hear(c, &e)
		}
	}
}

func (w *mixedWorld) ask(c *mixed) Ticket {
	w.ticket++
	w.asks[w.ticket] = c
	return w.ticket
}

func (w *mixedWorld) beat(c *mixed) {
	owned := slices.Clone(c.assigned)
	b := Beat{Ticket: w.ask(c), Who: c.who(), Epoch: c.epoch, Rebalance: 1 << 40, Topics: []string{"t"}, Owned: &owned}
	c.joins = true
	w.turn(nil)
	switch g := w.g.(type) {
	case *Consumer:
		w.turn(g.Beat(1, b))
	case *Group:
		up, es := g.Upgrade(1, w.topics, b)
		if up != nil {
			w.g = up
			w.turns++
		}
		w.turn(es)
	}
}

func (w *mixedWorld) join(c *mixed) {
	said := kmsg.NewConsumerMemberMetadata()
	said.Version, said.Topics, said.Generation = 0, []string{"t"}, -1
	j := Join{
		Ticket: w.ask(c), Who: c.who(), NewID: c.name + "-" + fmt.Sprint(w.ticket), ProtocolType: consumerType,
		Protocols: []Protocol{{"range", said.AppendTo(nil)}}, Session: 1 << 30, Rebalance: 1 << 30, RequireID: true,
	}
	if c.epoch == 0 && c.id == c.name {
		j.Who.MemberID = ""
	}
	c.joins, c.assigned = true, nil
	w.turn(nil)
	if empty, is := w.g.(*Consumer); is && empty.IsEmpty() {
		g := empty.Downgrade(1)
		es := g.Join(1, j)
		if !g.Vacant() {
			w.g = g
			w.turns++
		}
		w.turn(es)
		return
	}
	w.turn(w.g.Join(1, j))
}

func (w *mixedWorld) leave(c *mixed) {
	c.assigned = nil
	w.turn(nil)
	if c.classic {
		_, es := w.g.Leave(1, []Who{c.who()}, "")
		w.turn(es)
		return
	}
	if g, is := w.g.(*Consumer); is {
		w.turn(g.Beat(1, Beat{Who: c.who(), Epoch: LeaveEpoch, Rebalance: -1}))
	}
}

// hear takes an answer in.
func (w *mixedWorld) hear(c *mixed, e *Effect) {
	c.joins = false
	switch {
	case e.Beat != nil && e.Beat.Code == None:
		c.epoch, c.member = e.Beat.Epoch, true
		if e.Beat.Assigned {
			c.assigned = e.Beat.Assignment
		}
	case e.Beat != nil && e.Beat.Code != CoordinatorNotAvailable:
		c.epoch, c.assigned, c.member = 0, nil, false
	case e.Join != nil && e.Join.Code == MemberIDRequired:
		c.id = e.Join.MemberID
	case e.Join != nil && e.Join.Code == None:
		c.id, c.epoch = e.Join.MemberID, e.Join.Generation
		w.sync(c, e.Join)
	case e.Join != nil && e.Join.Code == UnknownMemberID:
		c.id, c.epoch = c.name, 0
	case e.Sync != nil && e.Sync.Code == None:
		reader := Consumer{gathering: gathering[*consumer]{topics: w.topics}}
		c.assigned, c.member = reader.readAssignment(e.Sync.Assignment), true
	}
}

// sync fetches what the client is assigned; as the leader it deals the partitions out.
func (w *mixedWorld) sync(c *mixed, a *JoinAnswer) {
	s := Sync{Ticket: w.ask(c), Who: c.who(), Generation: a.Generation}
	c.joins = true
	if a.Leader == a.MemberID {
		writer, parts := Consumer{gathering: gathering[*consumer]{topics: w.topics}}, make([][]Partition, len(a.Members))
		for i := range w.topics.counts["t"] {
			parts[int(i)%len(parts)] = append(parts[int(i)%len(parts)], Partition{topicID("t"), i})
		}
		for i, m := range a.Members {
			data := writer.classicAssignment(&consumer{assigned: parts[i]})
			s.Assignments = append(s.Assignments, Assignment{m.ID, data})
		}
	}
	w.turn(w.g.Sync(1, s))
}

func (w *mixedWorld) land(lost bool) {
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
		if s.Snapshot != nil {
			w.records[Key{Kind: KindClassic, Group: "g"}] = GroupValue(s.Snapshot)
		}
	}
	w.turn(w.g.Stored(1, s.Seq, fate))
}

// load opens the group anew. Who waited for an answer gets none, and asks again.
func (w *mixedWorld) load() error {
	for _, c := range w.asks {
		c.joins = false
	}
	clear(w.asks)
	if value, is := w.records[Key{Kind: KindClassic, Group: "g"}]; is {
		s, err := DecodeGroup(value)
		if len(w.records) != 1 || err != nil {
			return fmt.Errorf("%d records of a classic group, %w", len(w.records), err)
		}
		w.g = Load("g", mixedOptions, 1, s)
	} else if len(w.records) > 0 {
		g, strange, err := LoadConsumer("g", mixedOptions, 1, 1, w.records)
		if err != nil || strange > 0 {
			return fmt.Errorf("%d strange records, %w", strange, err)
		}
		w.g = g
	} else {
		w.g = New("g", mixedOptions, 1)
	}
	w.turn(nil)
	return nil
}

func (w *mixedWorld) check() error {
	believed := map[Partition]string{}
	for _, c := range w.clients {
		for _, p := range c.assigned {
			if believed[p] != "" {
				return fmt.Errorf("%s and %s both believe that they have %v", believed[p], c.id, p)
			}
			believed[p] = c.id
		}
	}
	if g, is := w.g.(*Consumer); is {
		return g.verify()
	}
	return nil
}

// bury takes those out whose farewell was lost, as the end of their session would.
func (w *mixedWorld) bury() {
	dead := func(id string) bool {
		return !slices.ContainsFunc(w.clients, func(c *mixed) bool { return c.id == id })
	}
	switch g := w.g.(type) {
	case *Consumer:
		for _, m := range slices.Clone(g.members) {
			if dead(m.id) {
				g.remove(1, m)
				g.bump(1)
			}
		}
		w.turn(g.take())
	case *Group:
		for _, m := range slices.Clone(g.members) {
			if dead(m.id) {
				g.remove(m, UnknownMemberID)
				g.settle(1, "a session timed out")
			}
		}
		w.turn(g.take())
	}
}

// calm lets everybody work until nothing changes.
func (w *mixedWorld) calm() error {
	if len(w.clients) == 0 {
		w.clients = append(w.clients, &mixed{client: client{name: "last", id: "last"}})
	}
	w.bury()
	for range 60 {
		for _, c := range w.clients {
			w.work(c)
			for len(w.flying) > 0 {
				w.land(false)
			}
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	total := 0
	for _, c := range w.clients {
		total += len(c.assigned)
	}
	if want := int(w.topics.counts["t"]); total != want {
		var all []string
		for _, c := range w.clients {
			all = append(all, fmt.Sprintf("%s classic=%v epoch=%d %d", c.id, c.classic, c.epoch, len(c.assigned)))
		}
		return fmt.Errorf("%d of %d partitions are with members, in state %s: %v", total, want, w.g.StateName(), all)
	}
	return nil
}

package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSharersRandom lets members of a share group come, go, fall silent, change what they want and lose answers, topics
// grow, stores be lost and the group be loaded anew. Every request is answered once, epochs never go back, and nobody
// has what it does not subscribe to; when all is calm, every member has what the group means it to have, every
// partition somebody, and neither has much more than another.
func TestSharersRandom(t *testing.T) {
	for seed := range uint64(200) {
		w := &shareWorld{rng: rand.New(rand.NewPCG(seed, 3)), now: 1, records: map[Key][]byte{}}
		w.grow()
		w.g = NewShare("g", w.options(), 1)
		for range 300 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := w.calm(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

type shareWorld struct {
	rng     *rand.Rand
	g       *Share
	topics  *topicMap
	now     int64
	clients []*shareClient
	ticket  Ticket
	asked   map[Ticket]*shareClient // without an answer yet
	born    int
	epoch   int32 // the highest that was told
	records map[Key][]byte
	flying  []*Store
	left    map[string]int
}

// shareClient is a member as it sees itself.
type shareClient struct {
	id       string
	topics   []string
	epoch    int32
	assigned Partitions
}

func (w *shareWorld) options() Options { return Options{ShareSessionMillis: 50, MaxMembers: 8} }

// grow has topics of some sizes.
func (w *shareWorld) grow() {
	w.topics = &topicMap{counts: map[string]int32{"t": 1 + int32(w.rng.IntN(6)), "u": int32(w.rng.IntN(4))}}
	if w.rng.IntN(4) == 0 {
		delete(w.topics.counts, "u")
	}
}

func (w *shareWorld) wants() []string {
	all := [][]string{{"t"}, {"u"}, {"t", "u"}, {"nowhere", "t"}, {"u", "t", "t"}}
	return all[w.rng.IntN(len(all))]
}

func (w *shareWorld) step() error {
	w.now += int64(w.rng.IntN(3))
	switch n := w.rng.IntN(100); {
	case n < 10 && len(w.clients) < 10:
		w.born++
		w.clients = append(w.clients, &shareClient{id: fmt.Sprint("s", w.born), topics: w.wants()})
	case n < 14 && len(w.clients) > 0:
		i := w.rng.IntN(len(w.clients))
		w.beat(w.clients[i], LeaveEpoch)
		w.clients = slices.Delete(w.clients, i, i+1)
	case n < 16 && len(w.clients) > 0: // it falls silent for good
		i := w.rng.IntN(len(w.clients))
		w.clients = slices.Delete(w.clients, i, i+1)
	case n < 20:
		w.grow()
	case n < 22 && len(w.flying) == 0:
		if err := w.restart(); err != nil {
			return err
		}
	case n < 30:
		w.tick()
	case n < 55:
		w.land(w.rng.IntN(10) == 0)
	case len(w.clients) > 0:
		c := w.clients[w.rng.IntN(len(w.clients))]
		if w.rng.IntN(10) == 0 {
			c.topics = w.wants()
		}
		w.beat(c, c.epoch)
	}
	return w.check()
}

// beat sends a heartbeat of a client.
func (w *shareWorld) beat(c *shareClient, epoch int32) {
	w.ticket++
	b := Beat{Ticket: w.ticket, Who: Who{MemberID: c.id}, Epoch: epoch, Topics: c.topics, ClientID: "client of " + c.id}
	if epoch > 0 && w.rng.IntN(2) == 0 {
		b.Topics = nil
		if m := w.g.byID[c.id]; m != nil { // it says nothing new
			c.topics = m.topics
		}
	}
	if w.asked == nil {
		w.asked = map[Ticket]*shareClient{}
	}
	w.asked[w.ticket] = c
	w.g.See(w.topics)
	w.effects(w.g.Beat(w.now, b))
}

func (w *shareWorld) tick() {
	if next := w.g.Next(); next != 0 && w.rng.IntN(4) == 0 {
		w.now = max(w.now, next)
	}
	w.effects(w.g.Tick(w.now))
}

// restart loads the group of what is stored. Who waited for an answer has lost it.
func (w *shareWorld) restart() error {
	record, is := w.records[Key{Kind: KindShare, Group: "g"}]
	if !is {
		return nil
	}
	g, ok := LoadShare("g", w.options(), w.now, record)
	if !ok || g.epoch < w.epoch {
		return fmt.Errorf("loaded with epoch %d, told was %d (%v)", g.epoch, w.epoch, ok)
	}
	w.g, w.asked = g, nil
	return nil
}

// land ends the oldest store.
func (w *shareWorld) land(lost bool) {
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
		}
	}
	w.effects(w.g.Stored(w.now, s.Seq, fate))
}

func (w *shareWorld) effects(es []Effect) {
	for _, e := range es {
		c, waits := w.asked[e.To]
		switch {
		case e.Store != nil:
			w.flying = append(w.flying, e.Store)
			continue
		case e.Left != "":
			if w.left == nil {
				w.left = map[string]int{}
			}
			w.left[e.Left]++
			continue
		case !waits:
			panic(fmt.Sprintf("an answer to nobody: %+v", e))
		}
		delete(w.asked, e.To)
		if w.rng.IntN(8) == 0 {
			continue // it is lost on the way
		}
		switch e.Beat.Code {
		case None:
			if c.epoch = max(e.Beat.Epoch, 0); e.Beat.Assigned {
				c.assigned = e.Beat.Assignment
			}
			w.epoch = max(w.epoch, e.Beat.Epoch)
		case CoordinatorNotAvailable, GroupMaxSizeReached:
		default:
			c.epoch, c.assigned = 0, nil
		}
	}
}

// check holds what is so at any time.
func (w *shareWorld) check() error {
	bytes := int64(0)
	if len(w.g.byID) != len(w.g.members) || len(w.g.members) > w.options().MaxMembers {
		return fmt.Errorf("%d members, %d by id", len(w.g.members), len(w.g.byID))
	}
	next := int64(0)
	for _, m := range w.g.members {
		bytes += m.counted
		if next == 0 || m.expires < next {
			next = m.expires
		}
		if w.g.byID[m.id] != m || m.epoch > w.g.epoch || m.previous > m.epoch {
			return fmt.Errorf("%s has epoch %d after %d, the group %d", m.id, m.epoch, m.previous, w.g.epoch)
		}
	}
	switch {
	case w.g.bytes != bytes:
		return fmt.Errorf("%d bytes are counted, members have %d", w.g.bytes, bytes)
	case w.g.Next() != next:
		return fmt.Errorf("the next session ends at %d, not %d", next, w.g.Next())
	case len(w.flying) == 0 && len(w.asked) > 0:
		return fmt.Errorf("%d requests are without an answer, and nothing is written", len(w.asked))
	}
	return nil
}

// calm lets everybody be heard until nothing changes, and holds what is so then.
func (w *shareWorld) calm() error {
	for range 60 { // longer than a session; some answers are lost on the way
		w.now++
		w.effects(w.g.Tick(w.now))
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
	for _, m := range w.g.members {
		if !slices.ContainsFunc(w.clients, func(c *shareClient) bool { return c.id == m.id }) {
			return fmt.Errorf("%s is silent, and a member", m.id)
		}
		if !m.assigned.equal(m.target) || m.epoch != w.g.epoch {
			return fmt.Errorf("%s has %v, epoch %d, and is to have %v, epoch %d", m.id, m.assigned, m.epoch, m.target,
				w.g.epoch)
		}
	}
	for _, name := range []string{"t", "u"} {
		if err := w.even(name); err != nil {
			return err
		}
	}
	return nil
}

// even tells how a topic is not shared out evenly.
func (w *shareWorld) even(name string) error {
	t, is := w.topics.ByName(name)
	if !is || t.Partitions == 0 {
		return nil
	}
	users := make([]int, t.Partitions)
	var has []int
	for _, m := range w.g.members {
		n := 0
		for _, p := range m.target {
			if p.Topic == t.ID {
				users[p.Index]++
				n++
			}
		}
		if slices.Contains(m.topics, name) {
			has = append(has, n)
		} else if n > 0 {
			return fmt.Errorf("%s has %d partitions of %s, to which it does not subscribe", m.id, n, name)
		}
	}
	if len(has) == 0 {
		return nil
	}
	if slices.Min(users) == 0 || slices.Max(users)-slices.Min(users) > 1 {
		return fmt.Errorf("%d partitions of %s have %v users", t.Partitions, name, users)
	}
	if slices.Min(has) == 0 || slices.Max(has)-slices.Min(has) > 1 {
		return fmt.Errorf("of the %d partitions of %s the members have %v", t.Partitions, name, has)
	}
	return nil
}

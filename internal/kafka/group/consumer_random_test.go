package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestConsumersRandom lets members of a consumer group come, go, stand still and lose answers, topics change, stores be
// lost and the group be loaded anew. No partition is ever with two members, and no two clients believe that it is;
// when all is calm every partition is with exactly one member, and nobody has two more than another.
func TestConsumersRandom(t *testing.T) {
	for seed := range uint64(150) {
		r := &consumerWorld{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: 1, records: map[Key][]byte{}}
		r.topics = &topicMap{counts: map[string]int32{"t": 7, "u": 3}}
		r.g = NewConsumer("g", Options{ConsumerSessionMillis: 1 << 40}, 1)
		for range 400 {
			if err := r.step(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := r.calm(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

type consumerWorld struct {
	t       *testing.T
	rng     *rand.Rand
	g       *Consumer
	topics  *topicMap
	now     int64
	clients []*client
	asks    map[Ticket]*client
	ticket  Ticket
	born    int
	records map[Key][]byte
	flying  []*Store
	lossy   bool
}

func (w *consumerWorld) step() error {
	w.lossy = true
	switch n := w.rng.IntN(100); {
	case n < 8 && len(w.clients) < 6:
		w.born++
		c := &client{name: fmt.Sprint("c", w.born), id: fmt.Sprint("c", w.born)}
		if w.rng.IntN(3) == 0 {
			c.instance = c.id
		}
		w.clients = append(w.clients, c)
	case n < 10 && len(w.clients) > 1:
		i := w.rng.IntN(len(w.clients))
		w.beat(w.clients[i], LeaveEpoch)
		w.clients = slices.Delete(w.clients, i, i+1)
	case n < 13:
		w.topics = &topicMap{counts: map[string]int32{"t": 6 + int32(w.rng.IntN(3)), "u": 3 + int32(w.rng.IntN(3))}}
	case n < 16 && len(w.flying) == 0:
		g, strange, err := LoadConsumer("g", w.g.opts, w.now, 0, w.records)
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
func (w *consumerWorld) beat(c *client, epoch int32) {
	w.ticket++
	b := Beat{Ticket: w.ticket, Who: c.who(), Epoch: epoch, Rebalance: -1}
	if epoch == 0 {
		b.Rebalance, b.Topics, c.assigned = 1<<40, []string{"t", "u"}, nil
	}
	owned := slices.Clone(c.assigned)
	b.Owned = &owned
	w.asks = map[Ticket]*client{w.ticket: c}
	w.g.See(w.topics)
	w.effects(w.g.Beat(w.now, b))
}

// land ends the oldest store.
func (w *consumerWorld) land(lost bool) {
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

func (w *consumerWorld) effects(es []Effect) {
	for _, e := range es {
		if e.Store != nil {
			w.flying = append(w.flying, e.Store)
			continue
		}
		c := w.asks[e.To]
		if c == nil || w.lossy && w.rng.IntN(8) == 0 {
			continue // it does not wait any more, or the answer is lost
		}
		switch e.Beat.Code {
		case None:
			c.epoch = max(e.Beat.Epoch, 0)
			if e.Beat.Assigned {
				c.assigned = e.Beat.Assignment
			}
		case CoordinatorNotAvailable:
		default:
			c.epoch, c.assigned = 0, nil
		}
	}
}

func (w *consumerWorld) check() error {
	believed := map[Partition]string{}
	for _, c := range w.clients {
		for _, p := range c.assigned {
			if believed[p] != "" {
				return fmt.Errorf("%s and %s both believe that they have %v", believed[p], c.id, p)
			}
			believed[p] = c.id
		}
	}
	return w.g.verify()
}

// calm lets everybody be heard until nothing changes.
func (w *consumerWorld) calm() error {
	w.lossy = false
	if len(w.clients) == 0 {
		w.clients = append(w.clients, &client{name: "last", id: "last"})
	}
	for _, m := range slices.Clone(w.g.members) { // those whose farewell was lost
		if !slices.ContainsFunc(w.clients, func(c *client) bool { return c.id == m.id }) {
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
	total, least, most := 0, 1<<30, 0
	for _, c := range w.clients {
		total += len(c.assigned)
		least, most = min(least, len(c.assigned)), max(most, len(c.assigned))
	}
	want := int(w.topics.counts["t"] + w.topics.counts["u"])
	if total != want || most-least > 1 || w.g.State() != Reconciled {
		return fmt.Errorf("%d of %d partitions are with %d members, the fewest %d, the most %d, in state %v",
			total, want, len(w.clients), least, most, w.g.State())
	}
	return nil
}

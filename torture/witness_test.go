package torture

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	witnessTopic = "witness"
	witnessParts = 3
	witnessPace  = 200 * time.Millisecond
	// unsteady is how long a client of Kafka has to be without an answer so that Kafka was away.
	unsteady = time.Second
)

// witness is a user of Kafka that knows nothing of gateways: it tells for how long Kafka itself was away. It produces
// to each partition of a topic, makes transactions with the help of each of their coordinators, and commits offsets of
// a group, as plain franz-go does.
type witness struct {
	probes []*probe
}

// probe is one thing that the witness does over and over.
type probe struct {
	name string

	mu      sync.Mutex
	under   time.Time      // since when the present one is under way; zero: none is
	last    time.Time      // when the last one succeeded
	absence []witnessedGap // that are over
	err     error          // of the last one
}

// witnessedGap is a time without success.
type witnessedGap struct{ from, to time.Time }

// newWitness begins to look.
func newWitness(t *testing.T, b *brokers) *witness {
	t.Helper()
	w := &witness{}
	admin := b.dial()
	t.Cleanup(admin.Close)
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	two := "2"
	for ; ; pauseFor(ctx, 10*pace) {
		_, err := kadm.NewClient(admin).CreateTopic(ctx, witnessParts, int16(min(len(b.addresses), 3)),
			map[string]*string{"min.insync.replicas": &two}, witnessTopic)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	plain := b.dial(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	t.Cleanup(plain.Close)
	for n := range int32(witnessParts) {
		w.look(t, fmt.Sprintf("produce to %s/%d", witnessTopic, n), func(ctx context.Context) error {
			return plain.ProduceSync(ctx, &kgo.Record{Topic: witnessTopic, Partition: n, Value: []byte("here")}).FirstErr()
		})
	}
	for _, id := range []string{"witness-a", "witness-b"} { // of the two partitions of __transaction_state
		var one *kgo.Client
		w.look(t, "transaction "+id, func(ctx context.Context) error {
			if one == nil {
				one = b.dial(kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
			}
			err := witnessed(ctx, one)
			if err != nil { // the next one has the transactional id anew
				one.Close()
				one = nil
			}
			return err
		})
	}
	w.look(t, "offsets of a group", func(ctx context.Context) error {
		var at kadm.Offsets
		at.AddOffset(witnessTopic, 0, 1, -1)
		got, err := kadm.NewClient(admin).CommitOffsets(ctx, "witness", at)
		if err == nil {
			err = got.Error()
		}
		return err
	})
	return w
}

// witnessed is one transaction.
func witnessed(ctx context.Context, c *kgo.Client) error {
	if err := c.BeginTransaction(); err != nil {
		return err
	}
	err := c.ProduceSync(ctx, &kgo.Record{Topic: witnessTopic, Value: []byte("here")}).FirstErr()
	if ended := c.EndTransaction(ctx, kgo.TransactionEndTry(err == nil)); err == nil {
		err = ended
	}
	return err
}

// look does something over and over until the test ends.
func (w *witness) look(t *testing.T, name string, do func(context.Context) error) {
	p := &probe{name: name, last: time.Now()}
	w.probes = append(w.probes, p)
	ctx := t.Context()
	go func() {
		for ; ctx.Err() == nil; pauseFor(ctx, witnessPace) {
			p.begin()
			p.end(do(ctx))
		}
	}()
}

func (p *probe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under = time.Now()
}

func (p *probe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under, p.err = time.Time{}, err
	if err != nil {
		return
	}
	now := time.Now()
	if now.Sub(p.last) > unsteady {
		p.absence = append(p.absence, witnessedGap{p.last, now})
	}
	p.last = now
}

// until is when Kafka was steady again for the witness that was not at some time since from; from: it was all along.
// Away tells that it is not steady now, and what it does not do.
func (w *witness) until(from time.Time) (steady time.Time, away string) {
	steady = from
	for _, p := range w.probes {
		p.mu.Lock()
		i := slices.IndexFunc(p.absence, func(g witnessedGap) bool { return g.to.After(from) })
		if i >= 0 {
			if last := p.absence[len(p.absence)-1].to; last.After(steady) {
				steady = last
			}
		}
		if gap := time.Since(p.last); gap > unsteady {
			away += fmt.Sprintf("; %s: nothing for %v (%v)", p.name, gap.Round(100*time.Millisecond), p.err)
		}
		p.mu.Unlock()
	}
	return steady, away
}

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

const (
	mixedWriters = 3                // transactional producers
	mixedLook    = 2 * time.Second  // the server looks once a second, and counts from when it first saw the transaction
	mixedTimeout = 2 * time.Second  // of a transaction that nobody ends
	mixedSlack   = 30 * time.Second // on a busy machine, from when nothing is open to a record with the consumer
	mixedLongest = 700              // ms that a transaction is held open
)

// TestExactlyOnceBesideTransactions has devices publish with QoS 2 to the only partition of a topic in which other
// producers have transactions open, under kill -9. Who reads committed records is given each message once, in order,
// not before a transaction in front of it has ended, and as soon as none is open any more.
func TestExactlyOnceBesideTransactions(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d kills, seed %d (again: -args -exact %d -seed %d)", *exactFlag, seed, *exactFlag, seed)
	dice := rand.New(rand.NewPCG(seed, 6))
	m := &mixed{t: t, s: newServer(t, "limits.journal_file=1MiB"), h: newHistory(), stored: map[string]time.Duration{}}
	if _, err := m.s.start(); err != nil {
		t.Fatal(err)
	}
	m.open(dice)
	for range *exactFlag {
		pauseFor(t.Context(), time.Duration(300+dice.IntN(1500))*time.Millisecond)
		down := outage{from: m.h.now()}
		if !m.s.kill() {
			t.Fatalf("the server had ended before it was killed:\n%s", m.s.log)
		}
		if _, err := m.s.start(); err != nil {
			t.Fatal(err)
		}
		down.to = m.h.now()
		m.outages = append(m.outages, down)
	}
	m.leaves.Store(true)
	pauseFor(t.Context(), 3*mixedTimeout)
	m.finish()
}

// mixed is one partition that devices and transactions write to.
type mixed struct {
	t *testing.T
	s *server
	h *history

	devices []*exactPublisher
	stop    []context.CancelFunc
	left    sync.WaitGroup // devices and writers
	outages []outage
	reader  *kgo.Client
	leaves  atomic.Bool // writers leave some transactions to their timeout: no kill makes it begin anew

	mu     sync.Mutex
	stored map[string]time.Duration // when a device was told that its message is stored
	txns   []*openTransaction
	given  []polled // to the consumer
}

// outage is from a kill until the server serves again.
type outage struct{ from, to time.Duration }

// openTransaction is one, with what its producer knows of when it was open.
type openTransaction struct {
	*transaction
	opened    time.Duration // no record was sent before
	first     int64         // offset of the first record; -1: not known
	began     time.Duration // the first record was acknowledged
	ending    time.Duration // somebody asked to end it, or gave it up
	ended     time.Duration // somebody was told that it has ended; 0: nobody
	abandoned bool          // its time runs out
}

func (m *mixed) open(dice *rand.Rand) {
	c, err := dialKafka(m.s.kafka)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(m.t.Context(), 1, 1, nil, exactTopic); err != nil {
		m.t.Fatal(err)
	}
	if m.reader, err = dialKafka(m.s.kafka, kgo.ConsumeTopics(exactTopic), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted())); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.reader.Close)
	go m.read(m.t.Context())
	ctx, enough := context.WithCancel(m.t.Context())
	m.stop = append(m.stop, enough)
	for i := range 4 {
		p := &exactPublisher{
			exactClient: exactClient{
				id: fmt.Sprint("pub", i), version: []packet.Version{packet.V311, packet.V5}[i%2], h: m.h,
			},
			window: 1 + i, pause: pace, stored: m.wasStored,
		}
		m.devices = append(m.devices, p)
		m.left.Go(func() { p.run(ctx, m.t.Context(), m.s.mqtt) })
	}
	for i := range mixedWriters {
		w := words{rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))}
		m.left.Go(func() { m.write(ctx, fmt.Sprint("writer", i), w) })
	}
}

func (m *mixed) wasStored(value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.stored[value]; !ok {
		m.stored[value] = m.h.now()
	}
}

// read is the consumer.
func (m *mixed) read(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := m.reader.PollFetches(ctx)
		now := m.h.now()
		m.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) { m.given = append(m.given, polled{r.Offset, string(r.Value), now}) })
		m.mu.Unlock()
	}
}

// write makes transactions of one producer, each held open for a while. Some it leaves to their timeout, and goes on as
// another one; behind an error the next instance of it ends what the last one has left.
func (m *mixed) write(ctx context.Context, name string, w words) {
	var last *openTransaction
	for life, n := 0, 0; ctx.Err() == nil; {
		id := fmt.Sprint(name, "-", life)
		c, err := dialKafka(m.s.kafka, kgo.DefaultProduceTopic(exactTopic), kgo.ProducerLinger(0),
			kgo.TransactionalID(id), kgo.TransactionTimeout(mixedTimeout))
		if err != nil {
			m.h.complain("%s: %v", id, err)
			return
		}
		if _, _, err = c.ProducerID(ctx); err == nil && last != nil {
			last.ended = m.h.now()
		}
		for err == nil && ctx.Err() == nil {
			last, err = m.transact(ctx, c, id, n, w)
			n++
		}
		c.Close()
		if last != nil && last.abandoned {
			life++
			last = nil
		}
	}
	m.takeOver(name, last)
}

// takeOver ends the last transaction of a writer.
func (m *mixed) takeOver(name string, last *openTransaction) {
	if last == nil || last.ended > 0 {
		return
	}
	c, err := dialKafka(m.s.kafka, kgo.TransactionalID(last.actor))
	if err == nil {
		_, _, err = c.ProducerID(m.t.Context())
		c.Close()
	}
	if err != nil {
		m.h.complain("%s: %v", name, err)
	}
	last.ended = m.h.now()
}

// transact is one transaction.
func (m *mixed) transact(ctx context.Context, c *kgo.Client, id string, n int, w words) (*openTransaction, error) {
	if err := c.BeginTransaction(); err != nil {
		return nil, err
	}
	x := &openTransaction{transaction: &transaction{actor: id, n: n}, opened: m.h.now(), first: -1}
	m.h.transact(x.transaction)
	m.mu.Lock()
	m.txns = append(m.txns, x)
	m.mu.Unlock()
	defer func() {
		if x.ending == 0 {
			x.ending = m.h.now()
		}
	}()
	for k := range 1 + w.IntN(4) {
		value := fmt.Sprint(id, " ", n, " ", k)
		x.values = append(x.values, value)
		r, err := c.ProduceSync(ctx, kgo.StringRecord(value)).First()
		if err != nil {
			return x, err
		}
		if x.first < 0 {
			x.first, x.began = r.Offset, m.h.now()
		}
		pauseFor(ctx, time.Duration(w.IntN(mixedLongest/4))*time.Millisecond)
	}
	if m.leaves.Load() && w.IntN(5) == 0 {
		x.abandoned = true
		return x, context.Canceled
	}
	commit := w.IntN(4) > 0
	if x.ending = m.h.now(); commit {
		x.asked.Store(int64(x.ending))
	}
	if err := c.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return x, err
	}
	x.ended = m.h.now()
	if x.fate.Store(fateAborted); commit {
		x.fate.Store(fateCommitted)
	}
	return x, nil
}

// finish has everything end, and judges.
func (m *mixed) finish() {
	for _, stop := range m.stop {
		stop()
	}
	m.left.Wait()
	sent := 0
	for _, p := range m.devices {
		sent += p.seq
	}
	limit := m.h.now() + startLimit
	for m.countGiven() < sent && m.h.now() < limit {
		pauseFor(m.t.Context(), pace)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &verdict{}
	m.checkDevices(v, sent)
	late := m.checkWaits(v)
	now := finds{transacted: map[place][]string{}}
	for _, p := range m.given {
		if !strings.HasPrefix(p.value, "pub") {
			at := place{exactTopic, 0}
			now.transacted[at] = append(now.transacted[at], p.value)
		}
	}
	m.h.mu.Lock()
	checkTransactions(v, m.h, now)
	for _, c := range m.h.complaint {
		v.add("complaint", "%s", c)
	}
	m.h.mu.Unlock()
	if len(v.lines) > 0 {
		m.t.Error(v)
	}
	if len(late) == 0 {
		m.t.Fatal("no device has published anything")
	}
	slices.Sort(late)
	m.t.Logf("%d messages beside %d transactions; from when nothing was open in front of one to the consumer: "+
		"median %v, 99 %% %v, worst %v", sent, len(m.txns), late[len(late)/2], late[len(late)*99/100], late[len(late)-1])
	if err := m.s.stop(); err != nil {
		m.t.Error(err)
	}
}

// countGiven is how many messages of devices the consumer was given.
func (m *mixed) countGiven() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.given {
		if strings.HasPrefix(p.value, "pub") {
			n++
		}
	}
	return n
}

// checkDevices wants every message of the devices to have come once, in the order of its device.
func (m *mixed) checkDevices(v *verdict, sent int) {
	next, n := map[string]int{}, 0
	for _, p := range m.given {
		var device string
		var seq int
		if _, err := fmt.Sscanf(p.value, "pub%s %d", &device, &seq); err != nil {
			continue
		}
		if n++; seq != next[device] {
			v.add("order", "%q came at %d where %d is due", p.value, p.offset, next[device])
		}
		next[device] = seq + 1
	}
	if n != sent {
		v.add("lost", "%d messages were sent, the consumer was given %d", sent, n)
	}
}

// checkWaits wants no record to be shown while a transaction in front of it is open, and each to be shown once none is.
// It gives how long each message of a device took from then.
func (m *mixed) checkWaits(v *verdict) (late []time.Duration) {
	for _, p := range m.given {
		stored, ok := m.stored[p.value]
		if !ok {
			continue
		}
		due := stored
		for _, x := range m.txns {
			if x.first < 0 || x.first > p.offset {
				continue
			}
			if p.at < x.mayEnd() {
				v.add("early", "%q at %d was given while %s transaction %d was open from %d on", p.value, p.offset, x.actor,
					x.n, x.first)
			}
			due = max(due, m.over(x))
		}
		for _, o := range m.outages {
			if o.from < due+mixedSlack && due < o.to {
				due = o.to
			}
		}
		if late = append(late, max(p.at-due, 0)); p.at > due+mixedSlack {
			v.add("late", "%q at %d was given %v after nothing was open any more", p.value, p.offset, p.at-due)
		}
	}
	return late
}

// mayEnd is from when on it may be over: when its producer ends it, or its time is up. A slow disk or a start may take
// that long while it is still written to.
func (x *openTransaction) mayEnd() time.Duration {
	if x.fate.Load() == fateUnknown {
		return min(x.ending, x.opened+mixedTimeout)
	}
	return x.ending
}

// over is when a transaction has ended for certain. Of one that nobody ended the server looks for the end of its time
// every now and then.
func (m *mixed) over(x *openTransaction) time.Duration {
	if x.ended > 0 {
		return x.ended
	}
	return x.ending + mixedTimeout + mixedLook
}

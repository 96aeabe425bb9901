package torture

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

var (
	txnKillsFlag   = flag.Int("txn", 6, "how often TestTransactionsOutliveKills kills the binary")
	txnRecordsFlag = flag.Int("txn.records", 24_000, "how many records it has consumed, transformed and produced")
)

const (
	etlFrom, etlTo, etlSide = "from", "to", "side"
	etlParts, etlSides      = 8, 3
)

// TestTransactionsOutliveKills is exactly once from topic to topic, asked of the real binary under kill -9: workers
// consume, produce to two topics and commit what they consumed in one transaction, some of which they abort. At the end
// each record that went in has come out once, in both topics; and a device that subscribes to one of them was given
// what was committed and nothing else, each once, in order.
func TestTransactionsOutliveKills(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d kills, seed %d (again: -args -txn %d -seed %d)", *txnKillsFlag, seed, *txnKillsFlag, seed)
	dice := rand.New(rand.NewPCG(seed, 5))
	e := &etl{t: t, s: newServer(t, "limits.journal_file=1MiB"), h: newHistory()}
	if _, err := e.s.start(); err != nil {
		t.Fatal(err)
	}
	e.fill(*txnRecordsFlag)
	sub := e.subscribe()
	var working sync.WaitGroup
	ctx, enough := context.WithCancel(t.Context())
	for i := range 3 {
		w := &etlWorker{e: e, id: fmt.Sprint("worker-", i), dice: rand.New(rand.NewPCG(seed, uint64(10+i)))}
		working.Go(func() { w.run(ctx) })
	}
	for n := range *txnKillsFlag {
		e.await((float64(n) + dice.Float64()) / float64(*txnKillsFlag))
		pauseFor(t.Context(), time.Duration(dice.IntN(100))*time.Millisecond) // into the middle of the next ones
		if !e.s.kill() {
			t.Fatalf("the server had ended before it was killed:\n%s", e.s.log)
		}
		if _, err := e.s.start(); err != nil {
			t.Fatal(err)
		}
	}
	e.calm.Store(true)
	for _, topic := range []string{etlTo, etlSide} {
		e.readAll(topic)
	}
	limit := time.Now().Add(startLimit)
	given, again := sub.count()
	for ; given < e.sent && time.Now().Before(limit); given, again = sub.count() {
		pauseFor(t.Context(), pace)
	}
	enough()
	working.Wait()
	if given != e.sent {
		t.Errorf("the device was given %d of %d messages", given, e.sent)
	}
	e.wantNothingOpen()
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	for _, c := range e.h.complaint[:min(len(e.h.complaint), 20)] {
		t.Error(c)
	}
	t.Logf("%d records; transactions: %d committed, %d aborted, %d of which nobody knows; %d sent again to the device",
		e.sent, e.committed.Load(), e.aborted.Load(), e.unknown.Load(), again)
	if err := e.s.stop(); err != nil {
		t.Error(err)
	}
}

// etl is a pipeline from topic to topic.
type etl struct {
	t    *testing.T
	s    *server
	h    *history // for complaints
	sent int      // records that went in
	calm atomic.Bool

	committed, aborted, unknown atomic.Int64 // transactions
	done                        atomic.Int64 // records of those that were committed
}

// await waits until so much of the work is done, so that kills are spread over all of it.
func (e *etl) await(share float64) {
	e.t.Helper()
	due := int64(share * float64(e.sent))
	for limit := time.Now().Add(startLimit); e.done.Load() < due; pauseFor(e.t.Context(), pace) {
		if time.Now().After(limit) {
			e.t.Fatalf("%d of %d records are done, no %d in %v", e.done.Load(), e.sent, due, startLimit)
		}
	}
}

// fill makes the topics and puts in what is to be worked on: of each partition "p<partition> <number>".
func (e *etl) fill(records int) {
	c, err := dialKafka(e.s.kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	for topic, partitions := range map[string]int32{etlFrom: etlParts, etlTo: etlParts, etlSide: etlSides} {
		if _, err := admin.CreateTopic(e.t.Context(), partitions, 1, nil, topic); err != nil {
			e.t.Fatal(err)
		}
	}
	for n := range records / etlParts {
		for p := range etlParts {
			r := &kgo.Record{Topic: etlFrom, Partition: int32(p), Value: fmt.Appendf(nil, "p%d %d", p, n)}
			c.Produce(e.t.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					e.h.complain("filling: %v", err)
				}
			})
			e.sent++
		}
	}
	if err := c.Flush(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

// subscribe has a device listen to what comes out.
func (e *etl) subscribe() *exactSubscriber {
	s := &exactSubscriber{
		exactClient: exactClient{id: "sub", version: packet.V5, h: e.h}, filter: etlTo + "/#", heard: map[uint16]bool{},
	}
	s.judge = s.inOrder(map[string]int{})
	listening := make(chan struct{})
	go s.run(e.t.Context(), e.s.mqtt, func() { close(listening) })
	<-listening
	return s
}

// etlWorker consumes and produces in transactions.
type etlWorker struct {
	e    *etl
	id   string
	dice *rand.Rand
}

// run works until ctx ends, with a new session whenever one breaks.
func (w *etlWorker) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.session(ctx); err != nil {
			pauseFor(ctx, pace)
		}
	}
}

func (w *etlWorker) session(ctx context.Context) error {
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(w.e.s.kafka), kgo.TransactionalID(w.id), kgo.TransactionTimeout(20*time.Second),
		kgo.ConsumerGroup("etl"), kgo.ConsumeTopics(etlFrom), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RetryTimeout(5*time.Second),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer s.Close()
	for ctx.Err() == nil {
		turn, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := w.transaction(turn, s)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// transaction is one of them.
func (w *etlWorker) transaction(ctx context.Context, s *kgo.GroupTransactSession) error {
	fetches := s.PollRecords(ctx, 1+w.dice.IntN(400))
	if err := fetches.Err(); err != nil || fetches.NumRecords() == 0 {
		return err
	}
	if err := s.Begin(); err != nil {
		return err
	}
	var failed atomic.Bool
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(true)
		}
	}
	fetches.EachRecord(func(r *kgo.Record) {
		key := fmt.Appendf(nil, "%s/p%d", etlTo, r.Partition)
		out := &kgo.Record{Topic: etlTo, Partition: r.Partition, Key: key, Value: r.Value}
		out.Headers = []kgo.RecordHeader{{Key: "mqtt.flags", Value: []byte("2")}}
		s.Produce(ctx, out, done)
		s.Produce(ctx, &kgo.Record{Topic: etlSide, Partition: r.Partition % etlSides, Value: r.Value}, done)
	})
	commit := !failed.Load() && (w.e.calm.Load() || w.dice.IntN(8) > 0)
	committed, err := s.End(ctx, kgo.TransactionEndTry(commit))
	switch {
	case err != nil:
		w.e.unknown.Add(1)
	case committed:
		w.e.committed.Add(1)
		w.e.done.Add(int64(fetches.NumRecords()))
	default:
		w.e.aborted.Add(1)
	}
	return err
}

// readAll reads what was committed to a topic, until all that went in has come out: each record once.
func (e *etl) readAll(topic string) {
	c, err := dialKafka(e.s.kafka, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*startLimit)
	defer cancel()
	there, next := map[string]int{}, map[string]int{}
	for len(there) < e.sent {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			e.t.Fatalf("%s: after %d of %d records: %v", topic, len(there), e.sent, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			there[string(r.Value)]++
			from, number, _ := strings.Cut(string(r.Value), " ")
			seq, err := strconv.Atoi(number)
			if due := next[from]; err != nil || seq != due {
				e.h.complain("%s: %q is there where %d is due", topic, r.Value, due)
			}
			next[from] = seq + 1
		})
	}
	for value, n := range there {
		if n > 1 {
			e.h.complain("%s: %q is there %d times", topic, value, n)
		}
	}
}

// wantNothingOpen looks whether every partition can be read to its end: no transaction hangs.
func (e *etl) wantNothingOpen() {
	c, err := dialKafka(e.s.kafka)
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	limit := time.Now().Add(startLimit)
	for {
		open := 0
		high, err1 := admin.ListEndOffsets(e.t.Context(), etlTo, etlSide)
		stable, err2 := admin.ListCommittedOffsets(e.t.Context(), etlTo, etlSide)
		if err1 != nil || err2 != nil {
			e.t.Fatal(err1, err2)
		}
		high.Each(func(o kadm.ListedOffset) {
			if at, is := stable.Lookup(o.Topic, o.Partition); !is || at.Offset < o.Offset {
				open++
			}
		})
		if open == 0 {
			return
		}
		if time.Now().After(limit) {
			e.t.Errorf("in %d partitions something is still open", open)
			return
		}
		pauseFor(e.t.Context(), pace)
	}
}

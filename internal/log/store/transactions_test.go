package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// producer is a transactional producer with its sequence numbers, one for each partition.
type producer struct {
	s        *store.Store
	id       int64
	epoch    int16
	sequence map[stream.PartitionID]int32
	added    bool // it adds partitions before it writes to them, as before KIP-890
}

// begun is a producer that the log knows.
func begun(s *store.Store, id int64, epoch int16) *producer {
	s.KnowProducer(id, epoch)
	return &producer{s: s, id: id, epoch: epoch, sequence: map[stream.PartitionID]int32{}}
}

// send writes values in the producer's transaction.
func (pr *producer) send(p stream.PartitionID, values ...string) error {
	var all []*record.Record
	for _, v := range values {
		all = append(all, &record.Record{Timestamp: 1000, Value: []byte(v)})
	}
	return pr.write(p, all...)
}

// write writes records in the producer's transaction.
func (pr *producer) write(p stream.PartitionID, records ...*record.Record) error {
	var bu record.Builder
	bu.Reset(nil, 1000)
	bu.SetProducer(pr.id, pr.epoch, pr.sequence[p])
	bu.SetTransactional()
	for _, r := range records {
		bu.Append(r)
	}
	done := make(receipt, 1)
	b := store.BatchWrite{Partition: p, Batch: bu.Seal(0, 0), Implicit: !pr.added}
	if err := pr.s.AppendBatch(b, done, 0); err != nil {
		return err
	}
	err := <-done
	if err == nil {
		pr.sequence[p] += int32(len(records))
	}
	return err
}

// end ends the transaction and moves on to the next epoch (KIP-890).
func (pr *producer) end(commit bool) error {
	if err := endTxn(pr.s, pr.id, pr.epoch+1, commit); err != nil {
		return err
	}
	pr.epoch++
	clear(pr.sequence)
	return nil
}

func endTxn(s *store.Store, id int64, epoch int16, commit bool) error {
	done := make(receipt, 1)
	u := &store.Unit{Ends: []store.EndTxn{{ProducerID: id, Epoch: epoch, Commit: commit}}}
	if err := s.Commit(u, done, 0); err != nil {
		return err
	}
	return <-done
}

// plain appends a record outside of any transaction.
func plain(t *testing.T, s *store.Store, p stream.PartitionID, value string) {
	t.Helper()
	done := make(receipt, 1)
	w := stream.Write{Partition: p, Record: &record.Record{Timestamp: 1000, Value: []byte(value)}}
	if err := errors.Join(streamtest.Append(s, done, w), <-done); err != nil {
		t.Fatal(err)
	}
}

// committed reads the values of a partition as readers of committed records see them.
func committed(t *testing.T, s *store.Store, p stream.PartitionID) (values []string) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	for from := bounds.Start; from < bounds.Stable; {
		next, err := s.Scan(p, from, stream.ScanOptions{MaxBytes: 300}, func(v *record.View) bool {
			values = append(values, string(v.Value))
			return true
		})
		if err != nil || next <= from {
			t.Fatalf("at %d: goes on at %d, %v", from, next, err)
		}
		from = next
	}
	return values
}

func transactional(t *testing.T, fs vfs.FS, partitions int) (*store.Store, []stream.PartitionID) {
	t.Helper()
	s := open(t, with(t, small(fs), ofFailure...))
	topic := s.Topics().ByName("t")
	if topic == nil {
		var err error
		if topic, err = s.CreateTopic(context.Background(), stream.TopicSpec{Name: "t", Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
	}
	return s, topic.Partitions
}

func wantValues(t *testing.T, s *store.Store, p stream.PartitionID, want ...string) {
	t.Helper()
	if got := committed(t, s, p); !slices.Equal(got, want) {
		t.Errorf("partition %d: committed are %q, want %q", p, got, want)
	}
}

// TestTransactionIsSeenWhenItCommits holds what a transaction wrote back, and all behind it, until it ends: then it is
// seen whole or never, by a reader of committed records, also after a restart.
func TestTransactionIsSeenWhenItCommits(t *testing.T) {
	disk := vfs.NewMemory()
	s, ps := transactional(t, disk, 2)
	a, b := begun(s, 1, 0), begun(s, 2, 0)
	plain(t, s, ps[0], "before")
	for _, err := range []error{a.send(ps[0], "a1", "a2"), b.send(ps[0], "b1"), a.send(ps[1], "a3")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	plain(t, s, ps[0], "between")
	wantValues(t, s, ps[0], "before")
	wantBounds(t, s, ps[0], stream.Bounds{Start: 0, Stable: 1, High: 5})
	if err := a.end(true); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s, ps[0], "before", "a1", "a2") // b is open behind them
	wantValues(t, s, ps[1], "a3")
	if err := b.end(false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantValues(t, s, ps[0], "before", "a1", "a2", "between")
		wantBounds(t, s, ps[0], stream.Bounds{Start: 0, Stable: 7, High: 7})
		got, err := s.Aborted(ps[0], 0, 7, nil)
		want := []partition.Aborted{{ProducerID: 2, First: 3, Last: 6, Stable: 7}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("aborted: %v, %v; want %v", got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, _ = transactional(t, disk, 2)
	}
	_ = s.Close()
}

func wantBounds(t *testing.T, s *store.Store, p stream.PartitionID, want stream.Bounds) {
	t.Helper()
	if got, err := s.Bounds(p); err != nil || got != want {
		t.Errorf("bounds are %+v, %v; want %+v", got, err, want)
	}
}

// TestProducersAreFencedEverywhere refuses an epoch in every partition as soon as there is another, and producers that
// nobody knows.
func TestProducersAreFencedEverywhere(t *testing.T) {
	s, ps := transactional(t, vfs.NewMemory(), 3)
	defer s.Close()
	old := begun(s, 1, 0)
	if err := old.send(ps[0], "x"); err != nil {
		t.Fatal(err)
	}
	if err := endTxn(s, 1, 1, false); err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if err := old.send(p, "late"); !fault.Is(err, fault.Fenced) {
			t.Errorf("partition %d: an old epoch gives %v", p, err)
		}
	}
	next := &producer{s: s, id: 1, epoch: 1, sequence: map[stream.PartitionID]int32{}}
	if err := next.send(ps[1], "y"); err != nil {
		t.Error(err)
	}
	stranger := &producer{s: s, id: 9, sequence: map[stream.PartitionID]int32{}}
	if err := stranger.send(ps[1], "z"); !errors.Is(err, store.ErrUnknownProducer) {
		t.Errorf("a producer id that nobody has: %v", err)
	}
	future := &producer{s: s, id: 1, epoch: 7, sequence: map[stream.PartitionID]int32{}}
	if err := future.send(ps[2], "z"); !fault.Is(err, fault.Fenced) {
		t.Errorf("an epoch that nobody was given: %v", err)
	}
	plainBatch := store.BatchWrite{Partition: ps[1], Batch: plainOf(1, 1)}
	if err := s.AppendBatch(plainBatch, nil, 0); !errors.Is(err, store.ErrNotInTransaction) {
		t.Errorf("a batch outside of the open transaction: %v", err)
	}
}

// plainOf is a batch of an idempotent producer outside of any transaction.
func plainOf(id int64, epoch int16) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	bu.SetProducer(id, epoch, 0)
	bu.Append(&record.Record{Timestamp: 1000, Value: []byte("v")})
	return bu.Seal(0, 0)
}

// TestPartitionsHaveToBeAdded has producers from before KIP-890 add a partition in each transaction anew: a late batch
// of the last one begins none.
func TestPartitionsHaveToBeAdded(t *testing.T) {
	s, ps := transactional(t, vfs.NewMemory(), 2)
	defer s.Close()
	pr := begun(s, 1, 0)
	pr.added = true
	if err := pr.send(ps[0], "x"); !errors.Is(err, store.ErrNotInTransaction) {
		t.Fatalf("a partition that was not added: %v", err)
	}
	if err := errors.Join(s.AddToTxn(1, 0, ps[0]), pr.send(ps[0], "x"), endTxn(s, 1, 0, true)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s, ps[0], "x")
	if err := pr.send(ps[0], "late"); !errors.Is(err, store.ErrNotInTransaction) {
		t.Errorf("a batch behind the end: %v", err)
	}
	if err := s.AddToTxn(1, 3, ps[0]); !fault.Is(err, fault.Fenced) {
		t.Errorf("another epoch: %v", err)
	}
	if err := s.AddToTxn(5, 0, ps[0]); !errors.Is(err, store.ErrUnknownProducer) {
		t.Errorf("another producer: %v", err)
	}
}

// TestOpenTransactionKeepsItsRecords has neither DeleteRecords nor a deleted topic get in the way of a transaction.
func TestOpenTransactionKeepsItsRecords(t *testing.T) {
	ctx := context.Background()
	s, ps := transactional(t, vfs.NewMemory(), 1)
	defer s.Close()
	other, err := s.CreateTopic(ctx, stream.TopicSpec{Name: "other", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	pr := begun(s, 1, 0)
	plain(t, s, ps[0], "before")
	if err := errors.Join(pr.send(ps[0], "x"), pr.send(other.Partitions[0], "y")); err != nil {
		t.Fatal(err)
	}
	if start, err := s.TrimTo(ctx, ps[0], -1); err != nil || start != 1 {
		t.Errorf("trimmed up to %d, %v; want 1", start, err)
	}
	if err := s.DeleteTopic(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if err := pr.end(true); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s, ps[0], "x")
	if open := s.Transactions(); len(open) != 0 {
		t.Errorf("still open: %v", open)
	}
}

// TestFailedEndLeavesTheTransaction fails the sync of the frame that ends a transaction: it is open as before, can be
// ended again, and what came behind it in the same breath is as if it had never been.
func TestFailedEndLeavesTheTransaction(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMemory())
	s, ps := transactional(t, faulty, 2)
	defer s.Close()
	pr := begun(s, 1, 0)
	if err := errors.Join(pr.send(ps[0], "a"), pr.send(ps[1], "b")); err != nil {
		t.Fatal(err)
	}
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Kind: fault.IO})
	if err := pr.end(true); err == nil {
		t.Fatal("the end was acknowledged")
	}
	left, ok := s.Transaction(1)
	if !ok || len(left.Partitions) != 2 {
		t.Fatalf("it is no longer open: %+v, %v", left, ok)
	}
	wantValues(t, s, ps[0])
	eventually(t, "writing resumes", func() bool { return s.Refused() == nil })
	if err := pr.end(true); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s, ps[0], "a")
	wantValues(t, s, ps[1], "b")
}

// fate is what became of a transaction, as its producer knows.
type fate int

const (
	underway fate = iota
	committedFate
	abortedFate
	unknown
)

// txn is a transaction of the model.
type txn struct {
	values map[stream.PartitionID][]string
	fate   fate
}

// TestTransactionsOverCrashes runs random transactions over power cuts and failing disks: what was committed is there,
// what was aborted or left is not, and nothing is torn.
func TestTransactionsOverCrashes(t *testing.T) {
	for seed := range uint64(max(4, *crashPoints/2)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { transactionsOverCrashes(t, seed) })
	}
}

func transactionsOverCrashes(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(*crashSeed, seed))
	disk := vfs.NewMemory()
	var all []*txn
	next, id := 0, int64(100)
	for range 4 { // lives of the log
		faulty := vfs.NewFaulty(disk)
		s, ps := transactional(t, faulty, 3)
		endLeft(t, s)
		checkTransactions(t, s, ps, all)
		life := &txnLife{rnd: rnd, s: s, ps: ps, next: &next}
		for range 3 {
			id++
			life.producers = append(life.producers, begun(s, id, 0))
			life.open = append(life.open, nil)
		}
		for range 80 {
			if rnd.IntN(60) == 0 {
				faulty.Inject(vfs.Fault{On: vfs.OpSync, Kind: fault.IO})
			}
			life.step()
		}
		all = append(all, life.all...)
		disk = disk.CrashClone(rnd)
		_ = s.Close() // of the disk that is no more
	}
}

// txnLife is one life of the log with its producers.
type txnLife struct {
	rnd       *rand.Rand
	s         *store.Store
	ps        []stream.PartitionID
	producers []*producer
	open      []*txn // of each producer
	all       []*txn
	next      *int
}

// step has one producer do something.
func (l *txnLife) step() {
	i := l.rnd.IntN(len(l.producers))
	pr, w := l.producers[i], l.open[i]
	if w != nil && l.rnd.IntN(4) == 0 {
		commit := l.rnd.IntN(3) > 0
		switch err := pr.end(commit); {
		case err != nil:
			w.fate = unknown
		case commit:
			w.fate = committedFate
		default:
			w.fate = abortedFate
		}
		if l.open[i] = nil; w.fate == unknown { // its producer begins anew
			pr.epoch += 2
			clear(pr.sequence)
			l.s.KnowProducer(pr.id, pr.epoch)
			if endTxn(l.s, pr.id, pr.epoch, false) == nil {
				w.fate = abortedFate
			}
		}
		return
	}
	if w == nil {
		w = &txn{values: map[stream.PartitionID][]string{}}
		l.open[i], l.all = w, append(l.all, w)
	}
	p := l.ps[l.rnd.IntN(len(l.ps))]
	*l.next++
	value := fmt.Sprint("value ", *l.next)
	if pr.send(p, value) == nil {
		w.values[p] = append(w.values[p], value)
	}
}

// endLeft aborts what the last life of the log has left.
func endLeft(t *testing.T, s *store.Store) {
	t.Helper()
	for _, left := range s.Transactions() {
		if err := endTxn(s, left.ProducerID, left.Epoch+1, false); err != nil {
			t.Fatal(err)
		}
	}
}

// checkTransactions holds what can be read to what the producers know.
func checkTransactions(t *testing.T, s *store.Store, ps []stream.PartitionID, all []*txn) {
	t.Helper()
	seen := map[string]int{}
	for _, p := range ps {
		wantAborted(t, s, p)
		for _, v := range committed(t, s, p) {
			seen[v]++
		}
	}
	for i, w := range all {
		there, missing := 0, 0
		for _, values := range w.values {
			for _, v := range values {
				if seen[v] > 1 {
					t.Errorf("%s is there %d times", v, seen[v])
				}
				there += seen[v]
				if seen[v] == 0 {
					missing++
				}
			}
		}
		switch {
		case w.fate == committedFate && missing > 0:
			t.Errorf("transaction %d was committed, %d of its records are missing", i, missing)
		case (w.fate == abortedFate || w.fate == underway) && there > 0:
			t.Errorf("transaction %d was not committed (%d), %d of its records are there", i, w.fate, there)
		case w.fate == unknown && there > 0 && missing > 0:
			t.Errorf("transaction %d is torn: %d records are there, %d are not", i, there, missing)
		}
	}
}

// TestSequenceGoesOnBehindAMarker has a producer from before KIP-890, which keeps its epoch, go on in its next
// transaction after a crash: the marker that the log read meanwhile has no sequence number, and changes none.
func TestSequenceGoesOnBehindAMarker(t *testing.T) {
	disk := vfs.NewMemory()
	s, ps := transactional(t, disk, 1)
	pr := begun(s, 1, 0)
	pr.added = true
	if err := errors.Join(s.AddToTxn(1, 0, ps[0]), pr.send(ps[0], "x", "y"), endTxn(s, 1, 0, true)); err != nil {
		t.Fatal(err)
	}
	disk = disk.CrashClone(rand.New(rand.NewPCG(1, 1)))
	_ = s.Close() // of the disk that is no more
	s, ps = transactional(t, disk, 1)
	defer s.Close()
	again := begun(s, 1, 0)
	again.added, again.sequence = true, pr.sequence
	if err := errors.Join(s.AddToTxn(1, 0, ps[0]), again.send(ps[0], "z"), endTxn(s, 1, 0, true)); err != nil {
		t.Error(err)
	}
	wantValues(t, s, ps[0], "x", "y", "z")
}

// TestAbortedRecordsAreCompactedAway compacts a topic in which transactions were aborted: what they wrote goes, and
// what they seemed to supersede stays, also for a log that has lost its checkpoints and reads what compaction left.
func TestAbortedRecordsAreCompactedAway(t *testing.T) {
	disk := vfs.NewMemory()
	s := open(t, compacting(disk))
	p := createCompacted(t, s, 1).Partitions[0]
	good, bad := begun(s, 1, 0), begun(s, 2, 0)
	want := map[string]string{}
	for i := range 400 {
		key, value := fmt.Sprint("key ", i%7), fmt.Sprintf("%d good %0200d", i, i)
		var err error
		if i < 100 {
			want[key] = value
			err = errors.Join(good.sendKeyed(p, key, value), good.end(true))
		}
		if value = "bad " + value; i%3 == 0 {
			value = "" // a tombstone
		}
		if err = errors.Join(err, bad.sendKeyed(p, key, value), bad.end(false)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the topic is compacted", func() bool {
		left, err := keyedLeft(s, p, (*store.Store).Read)
		return err == nil && len(left) < 750 // of 1000, with 500 markers
	})
	for _, lost := range []bool{false, true} {
		got := map[string]string{}
		bounds, err := s.Bounds(p)
		if err != nil || bounds.Stable != bounds.High {
			t.Fatalf("checkpoint lost %v: %+v, %v", lost, bounds, err)
		}
		for from := bounds.Start; from < bounds.Stable && err == nil; {
			from, err = s.Scan(p, from, stream.ScanOptions{}, func(v *record.View) bool {
				if got[string(v.Key)] = string(v.Value); v.Value == nil || strings.HasPrefix(string(v.Value), "bad") {
					t.Errorf("offset %d: %s=%.10q was aborted", v.Offset, v.Key, v.Value)
				}
				return true
			})
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("checkpoint lost %v: %d keys are left, want %d; %v", lost, len(got), len(want), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		loseCheckpoints(t, disk)
		s = open(t, compacting(disk))
	}
	_ = s.Close()
}

// TestMarkersAreCompactedAway has nothing stay of transactions that were superseded or aborted: neither markers nor the
// list of what was aborted grow. What readers of committed records see of each key is the same all the while, for those
// that read in the log and for Kafka's clients, also over crashes.
func TestMarkersAreCompactedAway(t *testing.T) {
	const rounds, keys = 400, 7
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	s := open(t, compacting(faulty))
	p := createCompacted(t, s, 1).Partitions[0]
	good, bad := begun(s, 1, 0), begun(s, 2, 0)
	want := map[string]string{}
	for i := range rounds {
		key, value := fmt.Sprint("key ", i%keys), fmt.Sprintf("%d good %0200d", i, i)
		want[key] = value
		err := errors.Join(good.sendKeyed(p, key, value), good.end(true), bad.sendKeyed(p, key, "bad"), bad.end(false))
		if err != nil {
			t.Fatal(err)
		}
	}
	wantView(t, s, p, want)
	var mu sync.Mutex
	var crashed []*vfs.Memory
	rnd, ops := rand.New(rand.NewPCG(1, 4)), 0
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops%5 == 0 && op.Kind.Changes() && len(crashed) < 40 {
			crashed = append(crashed, disk.CrashClone(rnd))
		}
	})
	batches := 0
	eventually(t, "nothing is left but the newest", func() bool {
		if err := errors.Join(good.sendKeyed(p, "more", fmt.Sprintf("%0200d", 0)), good.end(true)); err != nil {
			t.Fatal(err)
		}
		wantView(t, s, p, want)
		left, err := keyedLeft(s, p, (*store.Store).Read)
		batches = len(left)
		all, abortedErr := s.Aborted(p, 0, math.MaxInt64, nil)
		return err == nil && abortedErr == nil && batches < 300 && len(all) < 100 // of 1600 and of 400
	})
	faulty.OnOp(nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, disk := range append(crashed, disk) {
		if i%2 == 0 {
			loseCheckpoints(t, disk)
		}
		s := open(t, small(disk))
		wantView(t, s, p, want)
		_ = s.Close()
	}
	t.Logf("%d records left of %d, %d crashes", batches, 4*rounds, len(crashed))
}

// wantView holds the last value of each key to what was committed: as a scan gives it, and as a Kafka client makes it
// of batches and of what it is told was aborted among them. The key "more" does not count.
func wantView(t *testing.T, s *store.Store, p stream.PartitionID, want map[string]string) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	scanned, fetched := map[string]string{}, map[string]string{}
	see := func(view map[string]string) func(v *record.View) bool {
		return func(v *record.View) bool {
			if string(v.Key) != "more" {
				view[string(v.Key)] = string(v.Value)
			}
			return true
		}
	}
	for from := bounds.Start; from < bounds.Stable; {
		if from, err = s.Scan(p, from, stream.ScanOptions{}, see(scanned)); err != nil {
			t.Fatal(err)
		}
	}
	for from := bounds.Start; from < bounds.Stable; {
		from = fetchCommitted(t, s, p, from, see(fetched))
	}
	if !maps.Equal(scanned, want) || !maps.Equal(fetched, want) {
		t.Fatalf("the view is %.20q by scan and %.20q by fetch, want %.20q", scanned, fetched, want)
	}
}

// fetchCommitted does what a Fetch and a client of Kafka do (Fetcher.java): of each response it passes over the batches
// of producers that are in an aborted transaction, from its first offset to its marker.
func fetchCommitted(
	t *testing.T, s *store.Store, p stream.PartitionID, from record.Offset, see func(v *record.View) bool,
) (next record.Offset) {
	t.Helper()
	bounds, err := s.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	stable := bounds.Stable
	var batches []record.Batch
	var aborted []partition.Aborted
	for again := true; again; {
		cleaned := s.Cleaned(p)
		if batches, err = s.Read(p, from, 4<<10, nil); err != nil || len(batches) == 0 {
			t.Fatalf("at %d: %d batches, %v", from, len(batches), err)
		}
		aborted, err = s.Aborted(p, from, min(stable, batches[len(batches)-1].LastOffset()+1), nil)
		if err != nil {
			t.Fatal(err)
		}
		again = s.Cleaned(p) != cleaned
	}
	hidden := map[int64]bool{}
	for _, b := range batches {
		for len(aborted) > 0 && aborted[0].First <= b.LastOffset() {
			hidden[aborted[0].ProducerID], aborted = true, aborted[1:]
		}
		next = b.LastOffset() + 1
		if b.Attributes().Control() {
			if commit, ok := b.Marker(); ok && !commit {
				delete(hidden, b.ProducerID())
			}
			continue
		}
		if b.BaseOffset() >= stable || b.Count() == 0 || b.Attributes().Transactional() && hidden[b.ProducerID()] {
			continue
		}
		var it record.Iter
		if err := it.Reset(b, &record.Scratch{}); err != nil {
			t.Fatal(err)
		}
		for v := (record.View{}); it.Next(&v); {
			see(&v)
		}
	}
	return next
}

// loseCheckpoints removes all checkpoints of a closed log.
func loseCheckpoints(t *testing.T, fs vfs.FS) {
	t.Helper()
	names, err := fs.List(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "checkpoint.") {
			if err := fs.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// sendKeyed writes a record in the producer's transaction; an empty value is a tombstone.
func (pr *producer) sendKeyed(p stream.PartitionID, key, value string) error {
	r := &record.Record{Timestamp: 1000, Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	return pr.write(p, r)
}

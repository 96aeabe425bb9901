package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// onCluster are tests of what is special about a cluster. Each gets the addresses of one.
var onCluster = map[string]func(t *testing.T, seeds []string){
	"close tells what became of everything":  closing,
	"transactions of others hold nobody up":  heldBack,
	"one bad unit costs itself":              badUnit,
	"what is deleted elsewhere goes":         deletedElsewhere,
	"settings are those of the cluster":      settings,
	"large units are one transaction":        largeUnits,
	"a unit for one partition is in a batch": oneBatch,
	"connections break":                      breaking,
	"a rival takes a shard":                  rivals,
}

func TestKeeperOnKfake(t *testing.T) {
	for kind, opts := range kinds {
		for name, test := range onCluster {
			t.Run(kind+"/"+name, func(t *testing.T) { test(t, fake(t, opts...).ListenAddrs()) })
		}
	}
}

func TestKeeperOnKafka(t *testing.T) {
	b := apache(t)
	for name, test := range onCluster {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { empty(t, open(t, cluster.Options{Seeds: []string{b.seed}})) }) // one that sees what is there now
			test(t, []string{b.seed})
		})
	}
}

// fates is a receipt that keeps, by ticket, where each first write is or why it was lost.
type fates struct {
	mu    sync.Mutex
	at    map[uint64]record.Offset
	errs  map[uint64]error
	order []uint64
	more  chan struct{}
}

func newFates() *fates {
	return &fates{at: map[uint64]record.Offset{}, errs: map[uint64]error{}, more: make(chan struct{}, 1<<16)}
}

// Appended implements stream.Receipt.
func (f *fates) Appended(ticket uint64, at stream.Placed, err error) {
	f.mu.Lock()
	if err == nil {
		f.at[ticket] = at.Offset(0)
	} else {
		f.errs[ticket] = err
	}
	f.order = append(f.order, ticket)
	f.mu.Unlock()
	f.more <- struct{}{}
}

// wait waits for n receipts, for each of them after the one before: a cluster may be slow, but it goes on.
func (f *fates) wait(t *testing.T, n int) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for i := range n {
		select {
		case <-f.more:
			limit.Reset(time.Minute)
		case <-limit.C:
			t.Fatalf("%d receipts of %d", i, n)
		}
	}
}

func create(t testing.TB, log stream.Keeper, name string, partitions int, config map[string]string) *stream.Topic {
	t.Helper()
	spec := stream.TopicSpec{Name: name, Partitions: partitions, Config: config}
	topic, err := log.CreateTopic(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// unit has a record of a value for each partition.
func unit(value string, ps ...stream.PartitionID) *stream.Unit {
	u := &stream.Unit{}
	for _, p := range ps {
		r := &record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}
		u.Writes = append(u.Writes, stream.Write{Partition: p, Record: r})
	}
	return u
}

func values(t *testing.T, log stream.Keeper, p stream.PartitionID) (all []string) {
	t.Helper()
	b, err := log.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	for next := b.Start; next < b.Stable; {
		next, err = log.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
			all = append(all, string(v.Value))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func closing(t *testing.T, seeds []string) {
	c, err := cluster.Open(context.Background(), cluster.Options{Seeds: seeds})
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, c, "closing", 2, nil)
	const units = 200
	f := newFates()
	for i := range units {
		u := unit(fmt.Sprint(i), topic.Partitions[0])
		if i%10 == 0 {
			u = unit(fmt.Sprint(i), topic.Partitions...)
		}
		if err := stream.AppendWait(context.Background(), c, u, f, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	f.wait(t, units)
	if len(f.errs) > 0 {
		t.Errorf("lost: %v", f.errs)
	}
	if err := c.Append(unit("late", topic.Partitions[0]), f, 0); !fault.Is(err, fault.Closed) {
		t.Errorf("append after close: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	again := open(t, cluster.Options{Seeds: seeds})
	if all := values(t, again, again.Topics().ByName("closing").Partitions[0]); len(all) != units {
		t.Errorf("%d units of %d", len(all), units)
	}
}

// transactional is a client with a transaction begun.
func transactional(t *testing.T, seeds []string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(fmt.Sprintf("other-%d-%d", os.Getpid(), transactions.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	return cl
}

// heldBack appends where somebody else has a transaction open: the receipt comes, and the news when that has ended.
func heldBack(t *testing.T, seeds []string) {
	c := open(t, cluster.Options{Seeds: seeds})
	topic := create(t, c, "held", 2, nil)
	p := topic.Partitions[0]
	news := make(chan record.Offset, 100)
	watch := c.Watch(advanced(func(at stream.PartitionID, stable record.Offset) {
		if at == p {
			news <- stable
		}
	}), stream.AllPartitions)
	defer watch.Stop()
	other := transactional(t, seeds)
	ctx := context.Background()
	if err := other.ProduceSync(ctx, &kgo.Record{Topic: "held", Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	f := newFates()
	for i, u := range []*stream.Unit{unit("one", p), unit("two", topic.Partitions...), unit("three", p)} {
		if err := c.Append(u, f, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.wait(t, 3)
	if len(f.errs) > 0 {
		t.Fatal(f.errs)
	}
	if b, err := c.Bounds(p); err != nil || b.Stable != 0 || b.High < 4 {
		t.Errorf("bounds %+v, %v", b, err)
	}
	if all := values(t, c, p); len(all) != 0 {
		t.Errorf("read %v past an open transaction", all)
	}
	select {
	case stable := <-news:
		t.Errorf("news of %d", stable)
	default:
	}
	if err := other.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of the transaction", func() bool {
		b, err := c.Bounds(p)
		return err == nil && b.Stable == b.High
	})
	if all := values(t, c, p); fmt.Sprint(all) != "[open one two three]" {
		t.Errorf("read %v", all)
	}
	b, _ := c.Bounds(p)
	for stable := record.Offset(0); stable < b.Stable; {
		select {
		case stable = <-news:
		case <-time.After(time.Minute):
			t.Fatalf("news of %d, it is at %+v", stable, b)
		}
	}
}

// advanced is a watcher.
type advanced func(p stream.PartitionID, stable record.Offset)

// Advanced implements stream.Watcher.
func (f advanced) Advanced(p stream.PartitionID, stable record.Offset) { f(p, stable) }

// badUnit lowers what a topic takes behind the keeper's back: units in one transaction with a record that has become
// too large are none the worse.
func badUnit(t *testing.T, seeds []string) {
	c := open(t, cluster.Options{Seeds: seeds, RefreshInterval: time.Hour})
	small, large := create(t, c, "small", 2, nil), create(t, c, "large", 1, nil)
	other := open(t, cluster.Options{Seeds: seeds})
	change := stream.TopicChange{Set: map[string]string{"max.message.bytes": "1000"}}
	if _, err := other.AlterTopic(context.Background(), "large", change); err != nil {
		t.Fatal(err)
	}
	const units, bad = 40, 17
	f := newFates()
	for i := range units {
		u := unit(fmt.Sprint(i), small.Partitions...)
		if i == bad {
			u = unit(string(make([]byte, 5000)), small.Partitions[0], large.Partitions[0])
		}
		if err := c.Append(u, f, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.wait(t, units)
	if len(f.errs) != 1 || !fault.Is(f.errs[bad], fault.TooLarge) {
		t.Errorf("lost: %v", f.errs)
	}
	for i, ticket := range f.order {
		if ticket != uint64(i) {
			t.Fatalf("receipt %d is for %d", i, ticket)
		}
	}
	for _, p := range small.Partitions {
		all := values(t, c, p)
		if len(all) != units-1 {
			t.Errorf("%d units of %d", len(all), units-1)
		}
		last := -1
		for _, v := range all {
			var n int
			if _, err := fmt.Sscan(v, &n); err != nil || n <= last {
				t.Errorf("%q behind %d", v, last)
			}
			last = n
		}
	}
	if all := values(t, c, large.Partitions[0]); len(all) != 0 {
		t.Errorf("%d records that are too large", len(all))
	}
}

func deletedElsewhere(t *testing.T, seeds []string) {
	opt := cluster.Options{Seeds: seeds, RefreshInterval: 20 * time.Millisecond}
	c, other := open(t, opt), open(t, opt)
	topic := create(t, c, "gone", 1, nil)
	p := topic.Partitions[0]
	watch := c.Watch(advanced(func(stream.PartitionID, record.Offset) {}), stream.AllPartitions)
	defer watch.Stop()
	if err := other.DeleteTopic(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	until(t, "the news of a deleted topic", func() bool { return c.Topics().ByName("gone") == nil })
	_, err := c.Bounds(p)
	_, scan := c.Scan(p, 0, stream.ScanOptions{}, func(*record.View) bool { return true })
	_, own := c.Own(context.Background(), p)
	for what, err := range map[string]error{
		"bounds": err, "scan": scan, "own": own, "append": c.Append(unit("x", p), nil, 0),
		"delete": c.DeleteTopic(context.Background(), "gone"),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if again := create(t, other, "gone", 1, nil); again.ID == topic.ID {
		t.Error("a topic of an old name got an old id")
	}
	until(t, "the new topic", func() bool { return c.Topics().ByName("gone") != nil })
	if now := c.Topics().ByName("gone"); now.Partitions[0] == p {
		t.Error("a partition of an old name got an old number")
	}
}

func settings(t *testing.T, seeds []string) {
	c := open(t, cluster.Options{Seeds: seeds})
	topic := create(t, c, "settings", 1, map[string]string{
		"cleanup.policy": "compact", "retention.ms": "12345", "firth.durability": "memory",
	})
	if _, ours := topic.Config["firth.durability"]; ours || topic.Config["cleanup.policy"] != "compact" ||
		!topic.Settings.Compact || topic.Settings.Delete || topic.Settings.RetentionMs != 12345 || topic.Settings.Memory {
		t.Errorf("created %+v", topic)
	}
	if most := topic.Settings.MaxMessageBytes; most > 2<<20 { // Kafka's own default, not ours
		t.Errorf("max.message.bytes is %d", most)
	}
	_, err := c.AlterTopic(context.Background(), "settings", stream.TopicChange{Set: map[string]string{"no.such": "1"}})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown setting: %v", err)
	}
	err = c.DeleteTopic(context.Background(), "__consumer_offsets")
	if !fault.Is(err, fault.Denied) {
		t.Errorf("deleting a topic of the cluster: %v", err)
	}
}

// largeUnits are for one partition and larger than a batch may be: they stand together all the same.
func largeUnits(t *testing.T, seeds []string) {
	c := open(t, cluster.Options{Seeds: seeds})
	p := create(t, c, "large", 1, map[string]string{"max.message.bytes": "20000"}).Partitions[0]
	f := newFates()
	const units, records = 5, 12
	for i := range units {
		u := &stream.Unit{}
		for j := range records {
			r := &record.Record{Value: fmt.Appendf(nil, "%d/%d%5000d", i, j, 0)}
			u.Writes = append(u.Writes, stream.Write{Partition: p, Record: r})
		}
		if err := c.Append(u, f, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.wait(t, units)
	if len(f.errs) > 0 {
		t.Fatal(f.errs)
	}
	all := values(t, c, p)
	if len(all) != units*records {
		t.Fatalf("%d records", len(all))
	}
	for n, v := range all {
		var i, j int
		if _, err := fmt.Sscanf(v, "%d/%d ", &i, &j); err != nil || n != i*records+j {
			t.Errorf("record %d is %d of unit %d", n, j, i)
		}
	}
}

// oneBatch looks at the batches as they lie in the cluster: none holds a part of a unit. One group follows the other,
// and each is of a few units for many partitions, so that what is cut by chance is cut wrong now and then.
func oneBatch(t *testing.T, seeds []string) {
	const units, records, callers, partitions = 150, 150, 6, 6
	c := open(t, cluster.Options{Seeds: seeds, GroupBytes: 200 << 10})
	topic := create(t, c, "batches", partitions, map[string]string{"max.message.bytes": "30000"})
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			f := newFates()
			for i := range units {
				u, p := &stream.Unit{}, topic.Partitions[(w+i/4)%partitions] // a few in a row for each
				for range records {
					u.Writes = append(u.Writes, unit(fmt.Sprintf("%d/%d%20d", w, i, 0), p).Writes...)
				}
				if err := stream.AppendWait(context.Background(), c, u, f, uint64(i)); err != nil {
					t.Error(err)
					return
				}
			}
			f.wait(t, units)
		})
	}
	wg.Wait()
	batches, of := 0, map[string]int{}
	for index := range int32(partitions) {
		for _, b := range stored(t, seeds, topic, index) {
			if b.Attributes().Control() || b.Attributes().Transactional() {
				t.Errorf("a batch with the attributes %v", b.Attributes())
			}
			batches++
			var it record.Iter
			if err := it.Reset(b, nil); err != nil {
				t.Fatal(err)
			}
			here := map[string]int{}
			for v := (record.View{}); it.Next(&v); {
				here[string(v.Value)]++
				of[string(v.Value)]++
			}
			for value, n := range here {
				if n != records {
					t.Errorf("%d of %d records of unit %.6s are in a batch", n, records, value)
				}
			}
		}
	}
	if len(of) != units*callers || batches == len(of) {
		t.Errorf("%d units of %d, in %d batches", len(of), units*callers, batches)
	}
}

// stored fetches the batches of a partition.
func stored(t *testing.T, seeds []string, topic *stream.Topic, index int32) (all []record.Batch) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	details, err := kadm.NewClient(cl).ListTopics(context.Background(), topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes = 50 << 20
	of := kmsg.NewFetchRequestTopic()
	of.Topic, of.TopicID = topic.Name, topic.ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.PartitionMaxBytes = index, 50<<20
	of.Partitions = append(of.Partitions, p)
	req.Topics = append(req.Topics, of)
	leader := cl.Broker(int(details[topic.Name].Partitions[index].Leader))
	resp, err := req.RequestWith(context.Background(), leader)
	if err != nil {
		t.Fatal(err)
	}
	for rest := resp.Topics[0].Partitions[0].RecordBatches; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestLeadersMove moves partitions from broker to broker under appends, scans and watches.
func TestLeadersMove(t *testing.T) {
	f := fake(t)
	c := open(t, cluster.Options{Seeds: f.ListenAddrs()})
	topic := create(t, c, "a", 3, nil)
	ends := make(chan record.Offset, 1000)
	watch := c.Watch(advanced(func(p stream.PartitionID, stable record.Offset) {
		if p == topic.Partitions[0] {
			ends <- stable
		}
	}), stream.AllPartitions)
	defer watch.Stop()
	told := newFates()
	const rounds = 30
	for i := range rounds {
		for index := range int32(3) {
			if err := f.MoveTopicPartition("a", index, int32((i+int(index))%3)); err != nil {
				t.Fatal(err)
			}
		}
		u := unit(fmt.Sprint(i), topic.Partitions[i%3])
		if i%2 == 0 {
			u = unit(fmt.Sprint(i), topic.Partitions...)
		}
		if err := c.Append(u, told, uint64(i)); err != nil {
			t.Fatal(err)
		}
		told.wait(t, 1)
	}
	if len(told.errs) > 0 {
		t.Fatalf("lost: %v", told.errs)
	}
	if all := values(t, c, topic.Partitions[0]); len(all) != rounds/2+rounds/6 {
		t.Errorf("%d units of %d", len(all), rounds/2+rounds/6)
	}
	b, err := c.Bounds(topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	for stable := record.Offset(0); stable < b.Stable; {
		select {
		case stable = <-ends:
		case <-time.After(time.Minute):
			t.Fatalf("news of %d, it is at %+v", stable, b)
		}
	}
}

// TestClusterAway takes the cluster away: Append does not wait for it, the queue has a bound, and Close ends.
func TestClusterAway(t *testing.T) {
	t.Parallel() // it waits
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	opt := cluster.Options{Seeds: f.ListenAddrs(), QueueBytes: 100 << 10, Patience: 5 * time.Second}
	c, err := cluster.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	p := create(t, c, "a", 1, nil).Partitions[0]
	if err := streamtest.Append(c, nil, unit("x", p).Writes...); err != nil {
		t.Fatal(err)
	}
	f.Close()
	told := newFates()
	u := unit(string(make([]byte, 1000)), p)
	u.Turn = &stream.Turn{Roomy: func() {}}
	n := 0
	for ; n < 1000; n++ {
		if err = c.Append(u, told, uint64(n)); err != nil {
			break
		}
	}
	if !errors.Is(err, stream.ErrCrowded) || n < 50 || n > 100 || !c.Crowded() {
		t.Errorf("%d units of 1,000 bytes fit 100 KiB: %v", n, err)
	}
	if err := c.Close(); !fault.Is(err, fault.Timeout) {
		t.Errorf("close: %v", err)
	}
	told.wait(t, n)
	for ticket, err := range told.errs {
		// IO: it was never sent.
		if !fault.Is(err, fault.Closed) && !fault.Is(err, fault.Timeout) && !fault.Is(err, fault.IO) {
			t.Errorf("unit %d: %v", ticket, err)
		}
	}
	if len(told.errs) != n {
		t.Errorf("%d units of %d were lost", len(told.errs), n)
	}
	if _, err := c.Bounds(p); !fault.Is(err, fault.Closed) {
		t.Errorf("bounds after close: %v", err)
	}
}

// TestBrokerIsKilledOnKafka kills the broker under units of all kinds, and starts it again: what was acknowledged is
// there once and in order, and of what was not a unit is there whole or not at all.
func TestBrokerIsKilledOnKafka(t *testing.T) {
	b, stop, err := startKafka(classPath(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c := open(t, cluster.Options{Seeds: []string{b.seed}, Patience: time.Minute})
	topic := create(t, c, "killed", 2, nil)
	ctx, end := context.WithCancel(context.Background())
	told, wait := load(t, c, topic, func(uint64) bool { return ctx.Err() == nil })
	for range 2 {
		before := acknowledged(told)
		until(t, "units before the broker is killed", func() bool { return acknowledged(told) > before+100 })
		b.kill()
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range [][]*fates{told[:1], told[1:2]} { // both lanes without an owner go on
		before := acknowledged(kind)
		until(t, "units after the broker was killed", func() bool { return acknowledged(kind) > before+20 })
	}
	end()
	wait()
	checkTold(t, c, topic, told)
}

// load appends for as long as there is more to append, each writer with a few units under way: the first for one
// partition, the second for two, and the third as the owner of a shard, until he is fenced.
func load(t *testing.T, c stream.Keeper, topic *stream.Topic, more func(i uint64) bool) (told []*fates, wait func()) {
	owner, err := c.Own(context.Background(), topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	const underWay = 8
	var wg sync.WaitGroup
	for w, by := range []stream.Owner{{}, {}, owner} {
		f := newFates()
		told = append(told, f)
		wg.Go(func() {
			i := uint64(0)
			for ; more(i); i++ {
				u := unit(fmt.Sprintf("%d %d", w, i), topic.Partitions[:1+min(w, 1)]...)
				u.Owner = by
				if err := c.Append(u, f, i); err != nil {
					if !fault.Is(err, fault.Fenced) {
						t.Errorf("writer %d: %v", w, err)
					}
					break
				}
				if i >= underWay {
					f.wait(t, 1)
				}
			}
			f.wait(t, int(min(i, underWay)))
		})
	}
	return told, wg.Wait
}

// acknowledged is how many units were.
func acknowledged(told []*fates) (n int) {
	for _, f := range told {
		f.mu.Lock()
		n += len(f.at)
		f.mu.Unlock()
	}
	return n
}

func checkTold(t *testing.T, c stream.Keeper, topic *stream.Topic, told []*fates) {
	t.Helper()
	there := [2]map[string]int{{}, {}}
	for i, p := range topic.Partitions {
		until(t, "the end of every transaction", func() bool {
			b, err := c.Bounds(p)
			return err == nil && b.Stable == b.High
		})
		last := make([]int, len(told))
		for _, v := range values(t, c, p) {
			there[i][v]++
			var w, n int
			if _, err := fmt.Sscan(v, &w, &n); err != nil || n < last[w] || there[i][v] > 1 {
				t.Errorf("partition %d: %q behind %d, %d times", i, v, last[w], there[i][v])
			}
			last[w] = n
		}
	}
	for w, f := range told {
		for ticket := range f.at {
			if there[0][fmt.Sprintf("%d %d", w, ticket)] != 1 {
				t.Errorf("writer %d: unit %d was acknowledged and is not there", w, ticket)
			}
		}
		for ticket, err := range f.errs {
			t.Logf("writer %d: unit %d: %v", w, ticket, err)
			if v := fmt.Sprintf("%d %d", w, ticket); there[0][v] > 0 && !fault.Is(err, fault.Timeout) {
				t.Errorf("writer %d: unit %d was refused and is there: %v", w, ticket, err)
			}
		}
	}
	for v, n := range there[0] {
		if v[0] != '0' && there[1][v] != n {
			t.Errorf("unit %q is in partition 0 and not in 1", v)
		}
	}
	for v := range there[1] {
		if there[0][v] == 0 {
			t.Errorf("unit %q is in partition 1 and not in 0", v)
		}
	}
}

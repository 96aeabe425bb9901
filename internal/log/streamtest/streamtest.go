// Package streamtest is the suite that every keeper of the contract in log/stream passes.
//
//	func TestContract(t *testing.T) { streamtest.Run(t, func(t *testing.T) stream.Keeper { ... }) }
package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// patience is how long a test waits for what must come next.
const patience = time.Minute

// Kept is a keeper under test and what can be done to its log from outside. What is nil it Cannot do.
type Kept struct {
	stream.Keeper
	// Hide leaves offsets behind the last one of a partition that no Scan visits: those of markers, of aborted
	// transactions or of records that were compacted away.
	Hide func(p stream.PartitionID)
	// Compact is how it comes that a topic is compacted soon.
	Compact *Compact
	// Trim makes an offset the first that may be read.
	Trim func(p stream.PartitionID, start record.Offset)
	// Damage makes the stored batch unreadable that holds these bytes.
	Damage func(p stream.PartitionID, content []byte)
	// FailRead makes the next read from the store fail.
	FailRead func()
	// Rival opens another keeper of the same log, that of another node.
	Rival func() stream.Keeper
	// Cannot says why, by the name of the field.
	Cannot map[string]string
}

// Compact is how a keeper compacts a topic soon.
type Compact struct {
	Config map[string]string // settings of the topic that see to it
	Bytes  int               // that have to be written now and then for it
}

// needs ends the test if what it needs of a keeper is not there for a reason.
func (k *Kept) needs(t *testing.T, what string, there bool) {
	t.Helper()
	if there {
		return
	}
	if k.Cannot[what] == "" {
		t.Fatalf("the keeper has no %s, and does not say why", what)
	}
	t.Skipf("%s: %s", what, k.Cannot[what])
}

// Run holds the logs that open gives, each empty, to the contract.
func Run(t *testing.T, open func(t *testing.T) *Kept) {
	for name, test := range map[string]func(*testing.T, stream.Keeper){
		"topics come, change and go":           topics,
		"bad topics are refused":               badTopics,
		"who asks hears that topics changed":   topicNews,
		"records come back as they went in":    roundTrip,
		"a scan says where to go on":           scans,
		"a scan stops where it is told":        scanEnds,
		"receipts come in order, after news":   receipts,
		"units of all kinds keep their order":  mixed,
		"a receipt tells every place":          places,
		"writes of one unit stand together":    together,
		"units stand beside a reader":          beside,
		"bad appends are refused":              badAppends,
		"callers keep their order":             callers,
		"an owner is fenced by the next":       fencing,
		"an owner has what the one before had": takingOver,
		"callers go from owner to owner":       shards,
		"who follows hears what he follows":    follows,
		"a watcher that stopped hears nothing": stopped,
		"records are found by their time":      byTime,
		"a fold is what was written":           folds,
		"who is crowded out comes in turn":     turns,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t).Keeper) })
	}
	for name, test := range map[string]func(*testing.T, *Kept){
		"a scan goes on over gaps":             gaps,
		"offsets outlive compaction":           compacted,
		"what was trimmed is out of range":     trimmed,
		"damage costs what is damaged":         damage,
		"a fold tries again what failed":       failedRead,
		"an owner is fenced from another node": rivals,
		"another node's units and topics come": elsewhere,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func create(t *testing.T, log stream.Keeper, name string, partitions int) *stream.Topic {
	t.Helper()
	topic, err := log.CreateTopic(context.Background(), stream.TopicSpec{
		Name: name, Partitions: partitions,
		Config: map[string]string{"retention.ms": "-1"}, // the stamps of the tests are of all times
	})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return topic
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want the kind %q", what, err, kind)
	}
}

func topics(t *testing.T, log stream.Keeper) {
	ctx := context.Background()
	before := log.Topics()
	topic := create(t, log, "a", 2)
	if len(topic.Partitions) != 2 || topic.Partitions[0] == topic.Partitions[1] || topic.ID == (record.UUID{}) {
		t.Fatalf("created %+v", topic)
	}
	if before.ByName("a") != nil {
		t.Error("a snapshot changed")
	}
	now := log.Topics()
	if now.ByName("a") != topic || now.ByID(topic.ID) != topic {
		t.Error("the new topic is not in the snapshot")
	}
	if at := now.Place(topic.Partitions[1]); at.Topic != topic || at.Index != 1 {
		t.Errorf("partition is at %+v", at)
	}
	_, err := log.CreateTopic(ctx, stream.TopicSpec{Name: "a"})
	wantKind(t, "create again", err, fault.Exists)

	change := stream.TopicChange{Partitions: 3, Set: map[string]string{"retention.ms": "1000"}}
	grown, err := log.AlterTopic(ctx, "a", change)
	if err != nil {
		t.Fatal(err)
	}
	if len(grown.Partitions) != 3 || grown.Partitions[0] != topic.Partitions[0] || grown.ID != topic.ID ||
		grown.Settings.RetentionMs != 1000 || grown.Config["retention.ms"] != "1000" {
		t.Errorf("altered %+v", grown)
	}
	if grown, err = log.AlterTopic(ctx, "a", stream.TopicChange{Unset: []string{"retention.ms"}}); err != nil ||
		grown.Settings.RetentionMs == 1000 {
		t.Errorf("unset: %+v %v", grown, err)
	}
	_, err = log.AlterTopic(ctx, "a", stream.TopicChange{Partitions: 1})
	wantKind(t, "shrink", err, fault.Invalid)
	_, err = log.AlterTopic(ctx, "none", stream.TopicChange{Partitions: 5})
	wantKind(t, "alter none", err, fault.NotFound)

	if err := log.DeleteTopic(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if log.Topics().ByName("a") != nil {
		t.Error("a deleted topic is in the snapshot")
	}
	_, err = log.Bounds(topic.Partitions[0])
	wantKind(t, "bounds of a deleted topic", err, fault.NotFound)
	wantKind(t, "delete again", log.DeleteTopic(ctx, "a"), fault.NotFound)
	if again := create(t, log, "a", 1); again.ID == topic.ID || again.Partitions[0] == topic.Partitions[0] {
		t.Error("a topic of an old name got an old id")
	}
}

func badTopics(t *testing.T, log stream.Keeper) {
	for _, spec := range []stream.TopicSpec{
		{Name: ""}, {Name: "."}, {Name: ".."}, {Name: "a/b"}, {Name: "ä"}, {Name: string(make([]byte, 250))},
		{Name: "ok", Partitions: -1},
		{Name: "ok", Config: map[string]string{"no.such.setting": "1"}},
		{Name: "ok", Config: map[string]string{"retention.ms": "soon"}},
	} {
		_, err := log.CreateTopic(context.Background(), spec)
		wantKind(t, fmt.Sprintf("create %+v", spec), err, fault.Invalid)
	}
	create(t, log, "dots.and_lines", 1)
	_, err := log.CreateTopic(context.Background(), stream.TopicSpec{Name: "dots_and.lines"})
	wantKind(t, "a name that differs in dots only", err, fault.Invalid)
	if !errors.Is(err, stream.ErrName) {
		t.Errorf("a name that differs in dots only: %v", err)
	}
}

// ledger is a watcher that checks that it hears of a topic before it hears of its records.
type ledger struct {
	*heard
	log     stream.Keeper
	known   *stream.Topics
	strange []stream.PartitionID
	changes int
}

// TopicsChanged implements stream.TopicWatcher.
func (l *ledger) TopicsChanged() {
	l.mu.Lock()
	l.known = l.log.Topics()
	l.changes++
	l.mu.Unlock()
}

// Advanced implements stream.Watcher.
func (l *ledger) Advanced(p stream.PartitionID, stable record.Offset) {
	l.mu.Lock()
	if l.known == nil || l.known.Place(p).Topic == nil {
		l.strange = append(l.strange, p)
	}
	l.mu.Unlock()
	l.heard.Advanced(p, stable)
}

func topicNews(t *testing.T, log stream.Keeper) {
	l := &ledger{heard: newHeard(), log: log}
	watch := log.Watch(l, stream.AllPartitions)
	defer watch.Stop()
	for i := range 5 {
		topic := create(t, log, fmt.Sprintf("topic-%d", i), 2)
		for _, p := range topic.Partitions {
			put(t, log, p, record.Record{Value: []byte("x")})
			l.await(t, p, 1)
		}
	}
	if err := log.DeleteTopic(context.Background(), "topic-3"); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ours := slices.DeleteFunc(l.strange, func(p stream.PartitionID) bool {
		at := log.Topics().Place(p)
		return at.Topic == nil || !strings.HasPrefix(at.Topic.Name, "topic-")
	})
	if len(ours) > 0 || l.changes < 6 || l.known.ByName("topic-3") != nil || l.known.ByName("topic-4") == nil {
		t.Errorf("heard of partitions %v before their topic; %d changes", ours, l.changes)
	}
}

// told is a receipt that keeps what it was told.
type told struct {
	mu    sync.Mutex
	bases map[uint64]record.Offset
	errs  map[uint64]error
	order []uint64
	more  chan struct{}
}

func newTold() *told {
	return &told{bases: make(map[uint64]record.Offset), errs: make(map[uint64]error), more: make(chan struct{}, 1<<16)}
}

// Appended implements stream.Receipt.
func (r *told) Appended(ticket uint64, at stream.Placed, err error) {
	base := record.Offset(-1)
	if err == nil {
		base = at.Offset(0)
	}
	r.mu.Lock()
	r.bases[ticket], r.errs[ticket] = base, err
	r.order = append(r.order, ticket)
	r.mu.Unlock()
	r.more <- struct{}{}
}

// wait waits for n receipts, for each of them after the one before: a log may be slow, but it goes on.
func (r *told) wait(t *testing.T, n int) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for i := range n {
		select {
		case <-r.more:
			deadline.Reset(patience)
		case <-deadline.C:
			t.Fatalf("%d receipts of %d", i, n)
		}
	}
}

// Append appends records as one unit, waiting for room. The ticket is 0.
func Append(log stream.Log, to stream.Receipt, ws ...stream.Write) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return stream.AppendWait(ctx, log, &stream.Unit{Writes: ws}, to, 0)
}

// appendTo appends a unit, waiting for room.
func appendTo(t *testing.T, log stream.Log, to stream.Receipt, ticket uint64, ws ...stream.Write) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := stream.AppendWait(ctx, log, &stream.Unit{Writes: ws}, to, ticket); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, log stream.Keeper, p stream.PartitionID, records ...record.Record) record.Offset {
	t.Helper()
	r := newTold()
	for i := range records {
		appendTo(t, log, r, uint64(i), stream.Write{Partition: p, Record: &records[i]})
	}
	r.wait(t, len(records))
	for ticket, err := range r.errs {
		if err != nil {
			t.Fatalf("append %d: %v", ticket, err)
		}
	}
	return r.bases[0]
}

// each reads a partition from an offset to its end, and gives the end.
func each(
	t *testing.T, log stream.Keeper, p stream.PartitionID, from record.Offset, visit func(v *record.View),
) record.Offset {
	t.Helper()
	bounds, err := log.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	for from < bounds.Stable {
		next, err := log.Scan(p, from, stream.ScanOptions{End: bounds.Stable}, func(v *record.View) bool {
			visit(v)
			return true
		})
		if err != nil || next <= from || next > bounds.Stable {
			t.Fatalf("scan at %d of %+v goes on at %d, %v", from, bounds, next, err)
		}
		from = next
	}
	return from
}

func roundTrip(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	in := []record.Record{
		{Timestamp: 1000, Key: []byte("k"), Value: []byte("v")},
		{Timestamp: 900, Key: nil, Value: []byte{}},
		{Timestamp: 1100, Key: []byte{}, Value: nil},
		{Timestamp: 1200, Value: bytes.Repeat([]byte{7}, 100_000), Headers: []record.Header{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}},
		}},
	}
	put(t, log, p, in...)
	i := 0
	each(t, log, p, 0, func(v *record.View) {
		want := in[i]
		if v.Offset != record.Offset(i) || v.Timestamp != want.Timestamp ||
			!same(v.Key, want.Key) || !same(v.Value, want.Value) {
			t.Errorf("record %d: offset %d time %d key %q, want time %d key %q",
				i, v.Offset, v.Timestamp, v.Key, want.Timestamp, want.Key)
		}
		h := 0
		for key, value := range v.Headers {
			if string(key) != want.Headers[h].Key || !same(value, want.Headers[h].Value) {
				t.Errorf("record %d header %d: %q %q", i, h, key, value)
			}
			h++
		}
		if h != len(want.Headers) {
			t.Errorf("record %d: %d headers, want %d", i, h, len(want.Headers))
		}
		i++
	})
	if i != len(in) {
		t.Errorf("%d records came back, %d went in", i, len(in))
	}
}

// same tells null from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func scans(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	never := func(*record.View) bool { t.Error("a record of an empty partition"); return true }
	if next, err := log.Scan(p, 0, stream.ScanOptions{}, never); err != nil || next != 0 {
		t.Errorf("an empty partition goes on at %d, %v", next, err)
	}
	for i := range 50 {
		put(t, log, p, record.Record{Value: fmt.Appendf(nil, "%0100d", i)})
	}
	for from := range record.Offset(50) {
		first := record.Offset(-1)
		next, err := log.Scan(p, from, stream.ScanOptions{MaxBytes: 1}, func(v *record.View) bool {
			if first < 0 {
				first = v.Offset
			}
			return true
		})
		if err != nil || first != from || next <= from {
			t.Fatalf("scan at %d for one byte: first %d, next %d, %v", from, first, next, err)
		}
	}
	if next, err := log.Scan(p, 50, stream.ScanOptions{}, never); err != nil || next != 50 {
		t.Errorf("at the end: next %d, %v", next, err)
	}
	for _, from := range []record.Offset{-1, 51, 1 << 40} {
		_, err := log.Scan(p, from, stream.ScanOptions{}, never)
		wantKind(t, fmt.Sprintf("scan at %d", from), err, fault.OutOfRange)
	}
	_, err := log.Scan(1<<30, 0, stream.ScanOptions{}, never)
	wantKind(t, "scan of no partition", err, fault.NotFound)
}

func scanEnds(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	for i := range 30 {
		put(t, log, p, record.Record{Value: fmt.Append(nil, i)})
	}
	for end := record.Offset(1); end <= 31; end++ {
		var last record.Offset = -1
		next, err := log.Scan(p, 0, stream.ScanOptions{End: end}, func(v *record.View) bool {
			last = v.Offset
			return true
		})
		for err == nil && next < min(end, 30) {
			next, err = log.Scan(p, next, stream.ScanOptions{End: end}, func(v *record.View) bool {
				last = v.Offset
				return true
			})
		}
		if want := min(end, 30); err != nil || last != want-1 || next != want {
			t.Fatalf("up to %d: last %d, next %d, %v", end, last, next, err)
		}
	}
	for stop := range record.Offset(30) {
		next, err := record.Offset(0), error(nil)
		for seen := false; err == nil && !seen; {
			next, err = log.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
				seen = v.Offset == stop
				return !seen
			})
		}
		if err != nil || next != stop {
			t.Fatalf("stopped at %d: next %d, %v", stop, next, err)
		}
	}
}

// news is a watcher that checks that what it is told of can be read.
type news struct {
	log  stream.Keeper
	p    stream.PartitionID
	mu   sync.Mutex
	high record.Offset
	back bool
}

// Advanced implements stream.Watcher.
func (n *news) Advanced(p stream.PartitionID, high record.Offset) {
	if p != n.p {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.back = n.back || high <= n.high
	n.high = high
}

// after is a receipt that looks whether the news came first.
type after struct {
	*told
	n    *news
	late bool
}

// Appended implements stream.Receipt.
func (a *after) Appended(ticket uint64, at stream.Placed, err error) {
	a.n.mu.Lock()
	a.late = a.late || err == nil && a.n.high <= at.Offset(0)
	a.n.mu.Unlock()
	a.told.Appended(ticket, at, err)
}

func receipts(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	n := &news{log: log, p: p}
	watch := log.Watch(n, stream.Followed)
	watch.Follow(p)
	defer watch.Stop()
	r := &after{told: newTold(), n: n}
	for i := range 500 {
		appendTo(t, log, r, uint64(i), stream.Write{Partition: p, Record: &record.Record{Value: []byte("x")}})
	}
	r.wait(t, 500)
	for i := range uint64(500) {
		if r.order[i] != i || r.bases[i] != record.Offset(i) || r.errs[i] != nil {
			t.Fatalf("receipt %d: ticket %d at offset %d, %v", i, r.order[i], r.bases[i], r.errs[i])
		}
	}
	if r.late || n.back || n.high != 500 {
		t.Errorf("receipt before news: %v; news went back: %v; last news %d", r.late, n.back, n.high)
	}
}

func together(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 2)
	r := newTold()
	for i := range 100 {
		v := record.Record{Value: fmt.Append(nil, i)}
		ws := []stream.Write{
			{Partition: topic.Partitions[0], Record: &v},
			{Partition: topic.Partitions[1], Record: &v},
			{Partition: topic.Partitions[0], Record: &v},
		}
		appendTo(t, log, r, uint64(i), ws...)
		v.Value[0] = '!' // nothing of the write is kept
	}
	r.wait(t, 100)
	for i := range uint64(99) {
		if r.bases[i+1] <= r.bases[i]+1 { // there are two of each in this partition
			t.Errorf("unit %d begins at %d, the next at %d", i, r.bases[i], r.bases[i+1])
		}
	}
	for index, copies := range []int{2, 1} {
		i := 0
		each(t, log, topic.Partitions[index], 0, func(v *record.View) {
			if want := fmt.Append(nil, i/copies); !bytes.Equal(v.Value, want) {
				t.Errorf("partition %d offset %d: %q, want %q", index, v.Offset, v.Value, want)
			}
			i++
		})
		if i != 100*copies {
			t.Errorf("partition %d: %d records", index, i)
		}
	}
}

func unit(ws ...stream.Write) *stream.Unit { return &stream.Unit{Writes: ws} }

func badAppends(t *testing.T, log stream.Keeper) {
	topic, err := log.CreateTopic(context.Background(),
		stream.TopicSpec{Name: "a", Partitions: 1, Config: map[string]string{"max.message.bytes": "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	p := topic.Partitions[0]
	small := record.Record{Value: []byte("x")}
	large := record.Record{Value: make([]byte, 1000)}
	good, nowhere := stream.Write{Partition: p, Record: &small}, stream.Write{Partition: 1 << 30, Record: &small}
	err = log.Append(unit(good, nowhere), nil, 0)
	wantKind(t, "append to no partition", err, fault.NotFound)
	err = log.Append(unit(good, stream.Write{Partition: p, Record: &large}), nil, 0)
	wantKind(t, "append of a large record", err, fault.TooLarge)
	put(t, log, p, small)
	if b, err := log.Bounds(p); err != nil || b != (stream.Bounds{Start: 0, Stable: 1, High: 1}) {
		t.Errorf("bounds %+v %v: a refused append left something", b, err)
	}
}

func callers(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	const many, each1 = 8, 200
	r := newTold()
	var wg sync.WaitGroup
	for c := range many {
		wg.Go(func() {
			for i := range each1 {
				v := record.Record{Value: []byte{byte(c), byte(i)}}
				u := unit(stream.Write{Partition: p, Record: &v})
				if err := stream.AppendWait(context.Background(), log, u, r, uint64(c<<16|i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.wait(t, many*each1)
	next := make([]byte, many)
	each(t, log, p, 0, func(v *record.View) {
		c, i := v.Value[0], v.Value[1]
		if i != next[c] {
			t.Errorf("offset %d: caller %d's %d where its %d is due", v.Offset, c, i, next[c])
		}
		if at := r.bases[uint64(c)<<16|uint64(i)]; at != v.Offset {
			t.Errorf("caller %d's %d is at %d, its receipt says %d", c, i, v.Offset, at)
		}
		next[c] = i + 1
	})
}

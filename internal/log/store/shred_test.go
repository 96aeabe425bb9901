package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// canary is in all that is about alice.
const canary = "CANARY-OF-ALICE"

// stub is what stands in the place of what was about alice.
const stub = "stub"

// people is a log of several kinds of topics, in which every third record is about alice.
type people struct {
	t      *testing.T
	s      *store.Store
	disk   *vfs.Memory
	ring   *atrest.Ring
	n      int
	pid    int64 // of the idempotent producer
	topics map[string]*stream.Topic
}

// peopleConfig has the settings of the topics.
var peopleConfig = map[string]map[string]string{
	"small":   {"firth.subject": "header:who"},
	"packed":  {"firth.subject": "header:who"},
	"bulk":    {"firth.subject": "header:who"},
	"keyed":   {"firth.subject": "key", "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.9"},
	"txn":     {"firth.subject": "header:who"},
	"trimmed": {"firth.subject": "header:who"},
	"other":   nil,
}

func (h *people) create(name string) *stream.Topic {
	topic, err := h.s.CreateTopic(context.Background(), stream.TopicSpec{Name: name, Partitions: 1,
		Config: peopleConfig[name]})
	if err != nil {
		h.t.Fatal(err)
	}
	return topic
}

// record makes one record of some size in bytes, about alice or somebody else.
func (h *people) record(size int) *record.Record {
	h.n++
	who, value := "bob", fmt.Sprintf("value %d ", h.n)
	if h.n%3 == 0 {
		who, value = "alice", canary+" "
	}
	r := &record.Record{Timestamp: 1000 + int64(h.n), Key: []byte(who), Value: []byte(value)}
	r.Value = append(r.Value, bytes.Repeat([]byte{'x'}, max(0, size-len(r.Value)))...)
	r.Headers = []record.Header{{Key: "who", Value: []byte(who)}, {Key: "note", Value: []byte(value)}}
	return r
}

// shape is what a batch is like.
type shape struct {
	count, size int   // records, and bytes of each
	sequence    int32 // of an idempotent producer, from 1; 0: of none
	codec       record.Codec
}

// write appends a batch as a Kafka producer does.
func (h *people) write(topic string, like shape) {
	h.t.Helper()
	var bu record.Builder
	bu.Reset(nil, 1000)
	if like.sequence > 0 {
		bu.SetProducer(h.pid, 0, like.sequence-1)
	}
	for range like.count {
		r := h.record(like.size)
		if topic == "other" { // it names nobody, and stays
			r.Value, r.Headers = []byte("of nobody"), nil
		}
		bu.Append(r)
	}
	b, err := bu.SealCompressed(0, 0, like.codec)
	if like.codec == record.None {
		b, err = bu.Seal(0, 0), nil
	}
	done := make(receipt, 1)
	if err == nil {
		err = h.s.AppendBatch(store.BatchWrite{Partition: h.topics[topic].Partitions[0], Batch: b}, done, 0)
	}
	if err == nil {
		err = <-done
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// fill writes so much that there are files of every kind.
func (h *people) fill() {
	h.topics = make(map[string]*stream.Topic)
	for name := range peopleConfig {
		h.topics[name] = h.create(name)
	}
	pid, err := h.s.NewProducerID(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	h.pid = pid
	pr := begun(h.s, 77, 0)
	for i := range 12 {
		for range 3 {
			h.write("small", shape{count: 3, size: 100})
		}
		h.write("packed", shape{count: 6, size: 500, sequence: int32(6*i + 1), codec: record.Codec(i % 5)})
		h.write("keyed", shape{count: 4, size: 100})
		h.write("other", shape{count: 3, size: 60})
		h.write("trimmed", shape{count: 3, size: 60})
		if i > 6 {
			for range 4 {
				h.write("bulk", shape{count: 3, size: 16 << 10})
			}
		}
		if err := pr.write(h.topics["txn"].Partitions[0], h.record(200), h.record(200), h.record(200)); err != nil {
			h.t.Fatal(err)
		}
		if err := pr.end(i%2 == 0); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := h.s.TrimTo(context.Background(), h.topics["trimmed"].Partitions[0], 20); err != nil {
		h.t.Fatal(err)
	}
}

// job is what makes alice's records unreadable that are there now.
func (h *people) job() *store.Shredding {
	job := &store.Shredding{Parts: map[stream.PartitionID]store.ShredPart{}}
	for _, topic := range h.s.Topics().All() {
		subject := topic.Settings.Subject
		if !subject.Named() {
			continue
		}
		b, err := h.s.Bounds(topic.Partitions[0])
		if err != nil {
			h.t.Fatal(err)
		}
		job.Parts[topic.Partitions[0]] = store.ShredPart{End: b.High, Replace: replacing(subject)}
	}
	return job
}

func replacing(subject stream.Subject) func(v *record.View, r *record.Record) bool {
	return func(v *record.View, r *record.Record) bool {
		if who, ok := subject.Of(v); !ok || string(who) != "alice" {
			return false
		}
		*r = record.Record{Key: v.Key, Value: []byte{}, Headers: []record.Header{{Key: stub}}}
		if subject.Key {
			r.Key = []byte("nobody")
		}
		return true
	}
}

// seen is all that readers see: a line for each record and batch, by topic.
func (h *people) seen() map[string][]string {
	h.t.Helper()
	seen := make(map[string][]string)
	for _, topic := range h.s.Topics().All() {
		if topic.Internal() {
			continue
		}
		p := topic.Partitions[0]
		b, err := h.s.Bounds(p)
		if err != nil {
			h.t.Fatal(err)
		}
		var lines []string
		for from := b.Start; from < b.High; {
			batches, err := h.s.Read(p, from, 1<<20, nil)
			if err != nil {
				h.t.Fatal(err)
			}
			for _, batch := range batches {
				lines = append(lines, fmt.Sprintf("batch %d-%d of %d at %d to %d, attributes %x, %d records",
					batch.BaseOffset(), batch.LastOffset(), batch.ProducerID(), batch.BaseSequence(), batch.MaxTimestamp(),
					uint16(batch.Attributes()), batch.Count()))
				lines = append(lines, lineOf(h.t, batch, topic.Settings.Subject)...)
				from = batch.LastOffset() + 1
			}
		}
		if topic.Settings.Compact { // what is rolled up is compacted
			seen[topic.Name] = newestOf(lines, "bob=")
			continue
		}
		lines = append(lines, fmt.Sprint("committed ", len(committed(h.t, h.s, p)), " ", b))
		for _, at := range []int64{1000, 1050, 1200} {
			offset, stamp, err := h.s.OffsetForTime(context.Background(), p, at)
			lines = append(lines, fmt.Sprint("from ", at, " on: ", offset, stamp, err))
		}
		seen[topic.Name] = lines
	}
	return seen
}

// newestOf is the newest record of a key.
func newestOf(lines []string, key string) (newest []string) {
	for _, line := range lines {
		if strings.Contains(line, key) {
			newest = []string{line}
		}
	}
	return newest
}

// lineOf shows the records of a batch; those about alice only by their place.
func lineOf(t *testing.T, b record.Batch, subject stream.Subject) (lines []string) {
	if b.Attributes().Control() || b.Count() == 0 {
		return nil
	}
	var it record.Iter
	if err := it.Reset(b, &record.Scratch{}); err != nil {
		t.Fatal(err)
	}
	for v := (record.View{}); it.Next(&v); {
		who, _ := subject.Of(&v)
		_, gone := v.Header(stub)
		switch {
		case gone && (v.Value == nil || len(v.Value) > 0):
			t.Fatalf("offset %d: a value of %d bytes, or a tombstone", v.Offset, len(v.Value))
		case gone, string(who) == "alice":
			lines = append(lines, fmt.Sprintf("%d at %d", v.Offset, v.Timestamp))
		default:
			lines = append(lines, fmt.Sprintf("%d at %d: %s=%s %x", v.Offset, v.Timestamp, v.Key, v.Value,
				v.EncodedHeaders()))
		}
	}
	return lines
}

// bare is all that somebody with the keys can get out of the files of a disk, whether or not an index tells of it.
func bare(t *testing.T, disk vfs.FS, ring *atrest.Ring) (all []byte) {
	t.Helper()
	fs := atrest.New(disk, ring, false)
	for _, dir := range []string{".", "log"} {
		names, err := disk.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			f, err := fs.Open(dir + "/" + name)
			if err != nil {
				continue // a folder, or a file without a key
			}
			size, err := f.Size()
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, size)
			n, _ := f.ReadAt(b, 0)
			all = append(all, b[:n]...)
			all = append(all, framesOf(t, f, name)...)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, ".segment") {
				all = append(all, runsOf(t, fs, dir+"/"+name)...)
			}
		}
	}
	return all
}

// framesOf are the records of a journal, unpacked.
func framesOf(t *testing.T, f vfs.File, name string) (all []byte) {
	h, err := journal.ReadHeader(f, name)
	if err != nil {
		return nil
	}
	_, err = journal.Scan(f, journal.Limits{Nonce: h.Nonce}, func(_ []journal.Entry, batches []record.Batch) error {
		for _, b := range batches {
			all = append(all, unpacked(t, b)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// runsOf are the records of a segment, unpacked.
func runsOf(t *testing.T, fs vfs.FS, name string) (all []byte) {
	seg, err := segment.Open(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	defer seg.Close()
	if seg.InPlace() {
		return nil // framesOf has them
	}
	for _, sum := range seg.Summaries() {
		extents, err := seg.Extents(sum.Partition)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range extents {
			b := make([]byte, e.Len)
			if err := seg.ReadAt(b, e.Pos); err != nil {
				t.Fatal(err)
			}
			batches, err := e.Split(name, b, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range batches {
				all = append(all, unpacked(t, b)...)
			}
		}
	}
	return all
}

func unpacked(t *testing.T, b record.Batch) (all []byte) {
	if b == nil || b.Count() == 0 {
		return nil
	}
	var it record.Iter
	if err := it.Reset(b, &record.Scratch{}); err != nil {
		t.Fatal(err)
	}
	for v := (record.View{}); it.Next(&v); {
		all = append(append(append(all, v.Key...), v.Value...), v.EncodedHeaders()...)
	}
	return all
}

// keysOf are the wrapped data keys of all files.
func keysOf(t *testing.T, disk vfs.FS) (keys [][]byte) {
	t.Helper()
	names, err := disk.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := disk.Open("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		key := make([]byte, 364)
		if n, _ := f.ReadAt(key, 96+48); n == len(key) && bytes.Count(key, []byte{0}) < 350 {
			keys = append(keys, bytes.TrimRight(key, "\x00"))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// TestShred makes the records of one subject unreadable in files of every kind, and leaves all others as they were.
func TestShred(t *testing.T) {
	for name, options := range map[string]func(vfs.FS) store.Options{
		"roll-ups and bulk": small, "merged": mergedOften, "compacted": compacting,
	} {
		t.Run(name, func(t *testing.T) { shredded(t, encrypted(t, options)) })
	}
}

func shredded(t *testing.T, options func(vfs.FS) store.Options) {
	disk := vfs.NewMemory()
	h := &people{t: t, s: open(t, options(disk)), disk: disk, ring: keys(t)}
	h.fill()
	before := h.seen()
	if bulky(t, disk.Clone(), h.ring) == 0 {
		t.Fatal("no journal was kept in place")
	}
	if all := bare(t, disk.Clone(), h.ring); !bytes.Contains(all, []byte(canary)) {
		t.Fatal("the search finds nothing that is there")
	}
	had := keysOf(t, disk.Clone())
	files := h.shred()
	h.gone(disk)
	h.same(before)
	if len(files) == 0 {
		t.Fatal("no file was written anew")
	}
	for _, f := range files {
		if f.OldKey == "" || f.OldKey == f.NewKey || f.Old == f.New {
			t.Errorf("%+v", f)
		}
	}
	if kept := h.left(had); kept > len(had)-len(files)/2 {
		t.Errorf("%d of %d old keys are still there, %d files were written anew", kept, len(had), len(files))
	}

	// A batch that comes again is known, and a second time finds nothing.
	h.write("packed", shape{count: 6, size: 500, sequence: 67})
	h.same(before)
	if files := h.shred(); len(files) > 0 {
		t.Errorf("there was something left: %+v", files)
	}
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	h.s = open(t, options(disk))
	defer h.s.Close()
	h.gone(disk)
	h.same(before)
	if _, findings := check(t, disk.Clone()); len(findings) > 0 {
		t.Error(findings)
	}
}

// left counts the wrapped keys that lie somewhere in the files.
func (h *people) left(keys [][]byte) (n int) {
	var all []byte
	disk := h.disk.Clone()
	for file := range strings.FieldsSeq(strings.ReplaceAll(listing(h.t, disk), "./", "")) {
		all = append(all, content(h.t, disk, file)...)
	}
	for _, key := range keys {
		if bytes.Contains(all, key) {
			n++
		}
	}
	return n
}

// shred makes alice's records unreadable, and says what it waits for if it does not come to an end.
func (h *people) shred() (files []store.ShredFile) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	job := h.job()
	var at store.ShredProgress
	job.Progress = func(now store.ShredProgress) { at = now }
	job.Rewritten = func(f store.ShredFile) { files = append(files, f) }
	if err := h.s.Shred(ctx, job); err != nil {
		h.t.Fatalf("%v: %+v\n%s", err, at, listing(h.t, h.disk.Clone()))
	}
	return files
}

// bulky counts the journals that were kept in place.
func bulky(t *testing.T, disk vfs.FS, ring *atrest.Ring) (n int) {
	t.Helper()
	names, err := disk.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".segment") {
			continue
		}
		seg, err := segment.Open(atrest.New(disk, ring, false), "log/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if seg.InPlace() {
			n++
		}
		if err := seg.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// gone looks for alice everywhere.
func (h *people) gone(disk *vfs.Memory) {
	h.t.Helper()
	disk = disk.Clone() // files go meanwhile
	if all := bare(h.t, disk, h.ring); bytes.Contains(all, []byte(canary)) {
		h.t.Fatalf("it is still there: %s", listing(h.t, disk))
	}
	for _, lines := range h.seen() {
		for _, line := range lines {
			if strings.Contains(line, canary) {
				h.t.Fatal(line)
			}
		}
	}
}

// same holds what readers see to what they saw.
func (h *people) same(before map[string][]string) {
	h.t.Helper()
	now := h.seen()
	for topic, lines := range before {
		if got := now[topic]; strings.Join(got, "\n") != strings.Join(lines, "\n") {
			h.t.Fatalf("%s: it was\n%s\nand is\n%s", topic, strings.Join(lines, "\n"), strings.Join(got, "\n"))
		}
	}
}

// TestShredSurvivesACrash cuts the power at the file operations of a Shred. What is left is whole, and another Shred
// does the rest.
func TestShredSurvivesACrash(t *testing.T) {
	disk, ring := vfs.NewMemory(), keys(t)
	faulty := vfs.NewFaulty(disk)
	options := func(fs vfs.FS) store.Options {
		o := small(fs)
		o.Keys = ring
		return o
	}
	h := &people{t: t, s: open(t, options(faulty)), ring: ring}
	h.fill()
	before := h.seen()
	rng := rand.New(rand.NewPCG(*crashSeed, 3))
	var left []*vfs.Memory
	var ops []vfs.Op
	var mu sync.Mutex
	n, step := 0, *crashEvery
	if step > 1 {
		step *= 8 // each takes two runs
	}
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if n++; !op.Kind.Changes() || n%step != 0 {
			return
		}
		from := rng
		if n/step%4 == 0 {
			from = nil
		}
		left, ops = append(left, disk.CrashClone(from)), append(ops, op)
	})
	if err := h.s.Shred(t.Context(), h.job()); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, disk := range left {
		t.Run("", func(t *testing.T) {
			if _, findings := check(t, disk.Clone()); len(findings) > 0 {
				t.Errorf("before %s %s: a crash is no damage: %v", ops[i].Kind, ops[i].Name, findings)
			}
			h := &people{t: t, s: open(t, options(disk)), disk: disk, ring: ring}
			defer func() { _ = h.s.Close() }()
			h.same(before)
			h.shred()
			h.gone(disk)
			h.same(before)
			h.gone(disk.CrashClone(nil))
		})
		if t.Failed() {
			t.Fatalf("crash %d, before %s %s", i, ops[i].Kind, ops[i].Name)
		}
	}
	t.Logf("%d crashes", len(left))
}

// TestStartForgetsKeys cuts the power when a Shred has given an old file another name, and its key is about to go: the
// start that removes the file has the key go before it.
func TestStartForgetsKeys(t *testing.T) {
	disk, options := vfs.NewMemory(), encrypted(t, small)
	faulty := vfs.NewFaulty(disk)
	h := &people{t: t, s: open(t, options(faulty)), disk: disk, ring: keys(t)}
	h.fill()
	var mu sync.Mutex
	var crashed *vfs.Memory
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if crashed == nil && op.Kind == vfs.OpOpenWrite && strings.HasSuffix(op.Name, ".segment.tmp") {
			crashed = disk.CrashClone(nil)
		}
	})
	h.shred()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	again, removed := vfs.NewFaulty(crashed), 0
	again.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind != vfs.OpRemove || !strings.HasSuffix(op.Name, ".segment.tmp") {
			return
		}
		removed++
		if st, err := atrest.Inspect(crashed, op.Name); err != nil || st.Sealed {
			t.Errorf("%s is removed with its key: %v", op.Name, err)
		}
	})
	h.s = open(t, options(again))
	if err := h.s.Close(); err != nil || removed == 0 {
		t.Fatal(removed, err)
	}
}

// TestShredIsRefused does not begin where what the disk keeps of old files could be read.
func TestShredIsRefused(t *testing.T) {
	opt := small(vfs.NewMemory())
	opt.Keys, opt.Plain = keys(t), true
	h := &people{t: t, s: open(t, opt)}
	defer h.s.Close()
	h.fill()
	if err := h.s.Shred(t.Context(), h.job()); !fault.Is(err, fault.Unsupported) {
		t.Fatal(err)
	}
}

// TestShredWaitsForReaders does not come to an end while somebody reads a file that went.
func TestShredWaitsForReaders(t *testing.T) {
	disk, ring := vfs.NewMemory(), keys(t)
	opt := small(disk)
	opt.Keys = ring
	h := &people{t: t, s: open(t, opt), ring: ring}
	defer h.s.Close()
	h.fill()
	p := h.topics["small"].Partitions[0]
	if _, _, err := h.s.Find(p, 0, 1<<20, nil); err != nil { // its bytes are promised for a while
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job := h.job()
	job.Progress = func(at store.ShredProgress) {
		if strings.HasPrefix(at.Waits, "an old file") {
			cancel()
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- h.s.Shred(ctx, job) }()
	select {
	case err := <-ended:
		if !fault.Is(err, fault.Timeout) {
			t.Fatalf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not say that it waits")
	}
}

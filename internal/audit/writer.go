package audit

import (
	"context"
	"crypto/ed25519"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// writer is the chain in the log. It belongs to the goroutine of Run, but for what says otherwise.
type writer struct {
	opt      *Options
	link     chain.Link
	known    bool // link is the end of the chain: nothing went wrong since it was read
	unsigned int  // records since the last checkpoint
	since    time.Time
	under    receipt               // of a unit of which it is not known whether it is stored; nil: there is none
	head     atomic.Pointer[noted] // anybody may look

	keys struct {
		sync.Mutex // one at a time makes the key
		key        ed25519.PrivateKey
	}
}

// noted is what HeadFile holds.
type noted struct{ value []byte }

// open reads the key, the noted checkpoint and the end of the chain.
func (w *writer) open(ctx context.Context) (err error) {
	if w.keys.key, err = readKey(w.opt.FS); err != nil {
		return err
	}
	head, err := vfs.ReadWhole(w.opt.FS, HeadFile, maxFile)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	w.head.Store(&noted{head})
	if err := w.resume(ctx); err != nil {
		return err
	}
	if r, err := chain.Parse(head); err == nil && r.Sequence > w.link.Sequence {
		w.opt.Logger.Error("the end of the audit is missing: firth audit verify tells more", "last", w.link.Sequence,
			"stored", r.Sequence)
	}
	return nil
}

// signer is the key, made if there is none. Any goroutine may ask.
func (w *writer) signer() (ed25519.PrivateKey, error) {
	w.keys.Lock()
	defer w.keys.Unlock()
	if w.keys.key == nil {
		key, err := makeKey(w.opt.FS)
		if err != nil {
			return nil, err
		}
		w.keys.key = key
	}
	return w.keys.key, nil
}

func (w *writer) exists() bool { return w.opt.Log.Topics().ByName(TopicName) != nil }

// tailFirst is how many records at the end are looked at first for the last one.
const tailFirst = 64

// resume finds the last record that can be read, and how many there are since the last checkpoint: who ended without
// one left them unsigned.
func (w *writer) resume(ctx context.Context) error {
	t := w.opt.Log.Topics().ByName(TopicName)
	if t == nil {
		w.link, w.unsigned, w.known = chain.Link{}, 0, true
		return nil
	}
	bounds, err := w.opt.Log.Bounds(t.Partitions[0])
	if err != nil {
		return err
	}
	var end tail
	for back := record.Offset(tailFirst); !end.enough(); back *= 8 {
		from := max(bounds.Start, bounds.High-back)
		end = tail{}
		if _, err := stream.Fold(ctx, w.opt.Log, t.Partitions[0], from, end.add); err != nil {
			return err
		}
		if from == bounds.Start {
			break
		}
	}
	if !end.found && bounds.High > 0 { // what went had numbers: those that come are no others' again
		end.link = chain.Link{Sequence: chain.Number(bounds.High)}
	}
	w.link, w.unsigned, w.known = end.link, end.unsigned, true
	return nil
}

// tail is what the last records of the chain say.
type tail struct {
	link     chain.Link
	found    bool // there are records
	signed   bool // there is a checkpoint among them
	unsigned int  // records since
}

func (e *tail) add(v *record.View) error {
	r, err := chain.Parse(v.Value)
	if err != nil {
		return err
	}
	e.link, e.found = chain.LinkOf(r, v.Value), true
	e.unsigned++
	if r.Type == chain.TypeCheckpoint {
		e.signed, e.unsigned = true, 0
	}
	return nil
}

// enough tells whether what is before the records does not matter any more.
func (e *tail) enough() bool { return e.found && (e.signed || e.unsigned >= chain.CheckpointEvery) }

// batch is what is written as one unit of the log.
type batch struct {
	link     chain.Link
	unsigned int
	records  []record.Record
	head     []byte // the last checkpoint among them
}

// add puts an event into a batch, and a checkpoint behind it where one is due.
func (w *writer) add(b *batch, e chain.Event) error {
	value, link, err := b.link.Append(w.opt.Source, e)
	if err != nil {
		return err
	}
	w.put(b, value, link, e.Type)
	if b.unsigned++; b.unsigned >= chain.CheckpointEvery {
		return w.sign(b)
	}
	return nil
}

func (w *writer) put(b *batch, value []byte, link chain.Link, eventType string) {
	b.link = link
	b.records = append(b.records, record.Record{Timestamp: w.opt.Clock().UnixMilli(),
		Key: []byte(eventType), Value: value})
}

// sign puts a checkpoint into a batch.
func (w *writer) sign(b *batch) error {
	key, err := w.signer()
	if err != nil {
		return err
	}
	value, link, err := b.link.Checkpoint(w.opt.Source, w.opt.Clock(), key)
	if err != nil {
		return err
	}
	w.put(b, value, link, chain.TypeCheckpoint)
	b.unsigned, b.head = 0, value
	return nil
}

// receipt is told the fate of a unit; it holds one.
type receipt chan error

// Appended implements stream.Receipt.
func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

// settle waits for the fate of the unit that is under way: what follows it must know what it follows.
func (w *writer) settle(ctx context.Context) error {
	select {
	case err := <-w.under:
		w.under = nil
		return err
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "audit", ctx.Err())
	}
}

// begin begins a batch behind what is stored. Errors: those of the log.
func (w *writer) begin(ctx context.Context) (*batch, error) {
	if w.under != nil {
		if err := w.settle(ctx); fault.Is(err, fault.Timeout) {
			return nil, err
		}
	}
	if !w.known {
		if err := w.resume(ctx); err != nil {
			return nil, err
		}
	}
	return &batch{link: w.link, unsigned: w.unsigned}, nil
}

// store puts a batch on stable storage: all of it, or none. After an error the chain is looked at again.
func (w *writer) store(ctx context.Context, b *batch) error {
	t, err := w.topic(ctx)
	if err != nil {
		return err
	}
	unit := stream.Unit{}
	for i := range b.records {
		unit.Writes = append(unit.Writes, stream.Write{Partition: t.Partitions[0], Record: &b.records[i]})
	}
	w.known = false
	stored := make(receipt, 1)
	if err := stream.AppendWait(ctx, w.opt.Log, &unit, stored, 0); err != nil {
		return err
	}
	w.under = stored
	if err := w.settle(ctx); err != nil {
		return err
	}
	if w.unsigned == 0 {
		w.since = w.opt.Clock()
	}
	w.link, w.unsigned, w.known = b.link, b.unsigned, true
	if b.head == nil {
		return nil
	}
	w.since = w.opt.Clock()
	if err := vfs.WriteWhole(w.opt.FS, HeadFile, b.head); err != nil { // the next checkpoint will be noted
		w.opt.Logger.Warn("a checkpoint of the audit is stored, and not noted", "file", HeadFile, "error", err)
		return nil
	}
	w.head.Store(&noted{b.head})
	return nil
}

// topic is the topic of the audit, made if it is not there, with the retention that it is to have.
func (w *writer) topic(ctx context.Context) (*stream.Topic, error) {
	limit := func(n int64) string {
		if n <= 0 {
			return "-1"
		}
		return strconv.FormatInt(n, 10)
	}
	want := map[string]string{
		"cleanup.policy": "delete", "firth.durability": "disk", "retention.ms": limit(w.opt.Retention.Milliseconds()),
		"retention.bytes": limit(w.opt.RetentionBytes),
		"segment.bytes":   limit(segmentBytes(w.opt.RetentionBytes)),
	}
	t := w.opt.Log.Topics().ByName(TopicName)
	if t == nil {
		return w.opt.Log.CreateTopic(ctx, stream.TopicSpec{Name: TopicName, Partitions: 1, Config: want})
	}
	if t.Settings.Memory { // of an earlier release
		return w.opt.Log.AlterTopic(ctx, TopicName, stream.TopicChange{Set: want})
	}
	delete(want, "firth.durability") // a cluster does not keep it
	for name, value := range want {
		if t.Config[name] != value {
			return w.opt.Log.AlterTopic(ctx, TopicName, stream.TopicChange{Set: want})
		}
	}
	return t, nil
}

// segmentBytes is in which steps old records go: an eighth of all.
func segmentBytes(all int64) int64 {
	const least, most = 1 << 20, 64 << 20
	if all <= 0 {
		return most
	}
	return min(max(all/8, least), most)
}

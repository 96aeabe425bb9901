// Package partition holds one partition: where its records are and who wrote them.
//
// A partition knows its readable range, its newest batches in memory (the tail), where all others lie
// (spans of files), its leader epochs and its idempotent producers. It opens no file and starts no
// goroutine: log/store feeds it what was committed and reads the files it names.
package partition

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// File is a file that holds batches of this and other partitions. The store owns it.
type File interface {
	// Extents lists where the batches of a partition are; only asked of files whose spans keep none.
	Extents(p stream.PartitionID) ([]segment.Extent, error)
	// Read appends the batches of extents in order, about maxBytes of them and at least one.
	Read(p stream.PartitionID, extents []segment.Extent, maxBytes int, into []record.Batch) ([]record.Batch, error)
	// Names tells what is known of the MQTT topic names of the partition's records; nil: nothing. Only asked
	// of files whose spans keep no extents.
	Names(p stream.PartitionID) (*segment.Names, error)
	// Aborts visits the aborted transactions of the partition whose markers are in the file, at an offset or behind it, in
	// their order, until visit returns false. Only asked of files that tell of some.
	Aborts(p stream.PartitionID, from record.Offset, visit func(segment.Aborted) bool) error
	// Fill reads the bytes from the first extent to the end of the last into b, which is as long as that, and
	// checks the batches of the extents. What lies between them is not checked.
	Fill(p stream.PartitionID, extents []segment.Extent, b []byte) error
	// Written is when the file was last written, in unix milliseconds: the age of what carries no timestamp.
	Written() int64
	// Acquire keeps the file readable until Release; it fails once the file is on its way out.
	Acquire() bool
	Release()
	// Promise is told that the bytes of some batches were promised, which may be asked for when others have taken their
	// place: the file stays a while.
	Promise()
}

// Span is a run of offsets of the partition within one file.
type Span struct {
	Base, Last record.Offset
	Compacted  *segment.Compacted // nil: it never was
	MaxTime    int64              // largest timestamp, unix milliseconds
	Bytes      int64
	File       File
	Extents    []segment.Extent // nil: the file knows them
	Aborts     int32            // how much the file tells of aborted transactions, as segment.Summary has it

	peak int64 // largest timestamp of this and all spans before it but the first
}

// SpanOf is the span that a sealed file has by its own account.
func SpanOf(sum segment.Summary, file File) Span {
	return Span{
		Base: sum.Base, Last: sum.Last, Compacted: sum.Compacted,
		MaxTime: sum.MaxTime, Bytes: sum.Bytes, File: file, Aborts: sum.Aborts,
	}
}

// Partition is one partition of the log.
type Partition struct {
	ID stream.PartitionID

	// Producers belongs to whoever holds the log's group lock.
	Producers Producers
	// Reserve is what the next batch built here may take in bytes, as those before it did.
	Reserve atomic.Int32
	// Slot is where the open commit group keeps this partition's writes; group lock.
	Slot Slot

	// Next is the next offset to give; it belongs to the committer.
	Next record.Offset

	settings atomic.Pointer[stream.Settings]

	mu struct {
		sync.Mutex
		deleted bool
		start   record.Offset  // log start offset
		high    record.Offset  // high watermark
		tail    []record.Batch // newest batches, in order, the last ending at high-1
		dead    int            // batches of tail that were evicted and not yet cut off
		spared  int            // how often Evict has nothing to do: what it is meant for went before
		spans   []Span         // all batches, in order
		epochs  Epochs
		txns    Transactions
		cleaned uint64  // how often compaction replaced something
		cold    [2]Span // the spans whose extents were loaded last: a reader's and the one it will come to
		named   named
		harmed  harm // where reading it failed: there nothing is promised before it was read
	}
}

// harm is a run of offsets that could not be read.
type harm struct{ from, to record.Offset } // [from, to)

// Slot is a place in an open commit group.
type Slot struct {
	Group uint64
	Index int
}

// New makes an empty partition.
func New(id stream.PartitionID, settings stream.Settings) *Partition {
	p := &Partition{ID: id}
	p.settings.Store(&settings)
	return p
}

// Settings are the topic's settings in force. They must not be changed.
func (p *Partition) Settings() *stream.Settings { return p.settings.Load() }

// SetSettings replaces the topic's settings.
func (p *Partition) SetSettings(s stream.Settings) { p.settings.Store(&s) }

// Bounds is the readable range. Errors: NotFound after Delete.
func (p *Partition) Bounds() (stream.Bounds, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return stream.Bounds{}, deleted(p.ID)
	}
	return stream.Bounds{Start: p.mu.start, Stable: p.mu.txns.Stable(p.mu.high), High: p.mu.high}, nil
}

func deleted(id stream.PartitionID) error {
	return fault.New(fault.NotFound, "log.Read", "partition %d was deleted", id)
}

// Delete makes the partition unreadable and lets go of its files.
func (p *Partition) Delete() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.deleted = true
	p.mu.tail, p.mu.spans, p.mu.cold = nil, nil, [2]Span{}
}

// Commit makes a durable batch readable: e tells where it lies in file. It returns the new last stable offset.
func (p *Partition) Commit(b record.Batch, file File, e segment.Extent) record.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return p.mu.high
	}
	p.mu.tail = append(p.mu.tail, b)
	p.mu.epochs = p.mu.epochs.Add(b.LeaderEpoch(), e.Base)
	p.addLocked(file, e)
	p.mu.high = e.Last + 1
	p.mu.txns.Apply(b, p.mu.high)
	return p.mu.txns.Stable(p.mu.high)
}

// Add notes a batch found in a file while the log is opened, in order of offsets.
func (p *Partition) Add(file File, e segment.Extent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(file, e)
}

func (p *Partition) addLocked(file File, e segment.Extent) {
	n := len(p.mu.spans)
	if n == 0 || p.mu.spans[n-1].File != file {
		s := Span{Base: e.Base, File: file, MaxTime: e.MaxTime, Aborts: segment.AbortsUnknown}
		p.mu.spans = append(p.mu.spans, s)
		n++
	}
	s := &p.mu.spans[n-1]
	s.Last = e.Last
	s.MaxTime = max(s.MaxTime, e.MaxTime)
	s.Bytes += int64(e.Len)
	s.Extents = append(s.Extents, e)
	p.mu.spans = peaks(p.mu.spans, n-1)
}

// State is what a checkpoint keeps of a partition besides its producers.
type State struct {
	Start, High  record.Offset
	Epochs       Epochs
	Transactions Transactions
}

// State copies the durable state.
func (p *Partition) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return State{
		Start: p.mu.start, High: p.mu.high, Epochs: append(Epochs(nil), p.mu.epochs...), Transactions: p.mu.txns.clone(),
	}
}

// Restore sets the durable state while the log is opened.
func (p *Partition) Restore(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.start, p.mu.high, p.mu.epochs, p.mu.txns = s.Start, s.High, s.Epochs, s.Transactions
	p.Next = s.High
}

// Replay applies a batch found behind the checkpoint while the log is opened; b is nil if its bytes are not to be had.
func (p *Partition) Replay(b record.Batch, base, last record.Offset, epoch int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.epochs = p.mu.epochs.Add(epoch, base)
	p.mu.high = last + 1
	p.Next = p.mu.high
	if b != nil {
		p.mu.txns.Apply(b, p.mu.high)
	}
}

// EndOfEpoch answers OffsetForLeaderEpoch (KIP-320).
func (p *Partition) EndOfEpoch(asked int32) (int32, record.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return -1, -1, deleted(p.ID)
	}
	epoch, end := p.mu.epochs.End(asked, p.mu.high)
	return epoch, end, nil
}

// EpochAt is the leader epoch of the record at an offset; -1 behind the high watermark.
func (p *Partition) EpochAt(off record.Offset) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.deleted {
		return -1, deleted(p.ID)
	}
	if off >= p.mu.high {
		return -1, nil
	}
	return p.mu.epochs.At(off), nil
}

// Evict drops the oldest batch of the tail from memory; it stays readable from its file.
func (p *Partition) Evict() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.spared > 0 {
		p.mu.spared--
		return
	}
	if p.mu.dead >= len(p.mu.tail) {
		return
	}
	p.mu.tail[p.mu.dead] = nil
	p.mu.dead++
	if p.mu.dead == len(p.mu.tail) {
		p.mu.tail, p.mu.dead = nil, 0
	} else if p.mu.dead > 64 && p.mu.dead*2 > len(p.mu.tail) {
		p.mu.tail = append([]record.Batch(nil), p.mu.tail[p.mu.dead:]...)
		p.mu.dead = 0
	}
}

// Bytes is the size of all batches from the log start on, in bytes, counted in whole spans.
func (p *Partition) Bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for i := range p.mu.spans {
		n += p.mu.spans[i].Bytes
	}
	return n
}

// search is the index of the first span whose last offset is not below from.
func search(spans []Span, from record.Offset) int {
	return sort.Search(len(spans), func(i int) bool { return spans[i].Last >= from })
}

// peaks fills in the peaks from the span i on. The first span has no part in those behind it: a part of it may
// have been trimmed, so that its largest timestamp tells nothing.
func peaks(spans []Span, i int) []Span {
	for ; i < len(spans); i++ {
		spans[i].peak = spans[i].MaxTime
		if i > 1 {
			spans[i].peak = max(spans[i].peak, spans[i-1].peak)
		}
	}
	return spans
}

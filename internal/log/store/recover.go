package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// Finding is something that is not as it should be in the files of a log.
type Finding struct {
	File string // its name below the data directory
	What string
}

// recovery opens what a log left on the disk: read-only until it is given to a Store. It looks, makes a plan (plan.go),
// and does what the plan says.
type recovery struct {
	fs       vfs.FS
	store    *Store // owner of the files found
	readOnly bool
	plan     plan
	cp       *checkpoint
	number   uint64 // of the newest checkpoint file
	parts    map[uint32]*partition.Partition
	registry registry
	files    []*file // in order
	findings []Finding
	damaged  bool // something that was durable cannot be read
	epoch    int32
	maxPID   int64
	nextSeq  uint64
	opened   int64   // unix milliseconds of the node's clock: a producer is idle only while the node runs
	unsynced []*file // journals whose end may not be on stable storage
	// untold are the files that lost what they told of aborted transactions.
	untold []*file
}

func (r *recovery) find(name, what string) {
	r.findings = append(r.findings, Finding{File: name, What: what})
}

// lose notes a finding that costs records.
func (r *recovery) lose(name, what string) {
	r.damaged = true
	r.find(name, what)
}

// recover opens the files, applies what lies behind the checkpoint, and begins a new journal file.
func (s *Store) recover(ctx context.Context) error {
	if err := s.identify(); err != nil {
		return err
	}
	r := &recovery{fs: s.fs, store: s, opened: s.opt.Clock().UnixMilli()}
	if err := r.load(ctx); err != nil {
		r.close()
		return err
	}
	for _, f := range r.findings {
		s.opt.Logger.Error("the log is damaged; what is affected is reported when it is read",
			"file", f.File, "what", f.What, "hint", "stop firth and run firth log check")
	}
	if err := s.adopt(r); err != nil {
		r.close()
		return err
	}
	return nil
}

// load reads everything. It changes nothing on the disk.
func (r *recovery) load(ctx context.Context) error {
	cp, number, bad, err := loadCheckpoint(r.fs)
	if err != nil {
		return err
	}
	for _, e := range bad {
		r.find(logDir, e.Error())
	}
	r.number = number
	if cp == nil {
		cp = &checkpoint{}
	}
	r.restore(cp)
	if err := r.look(); err != nil {
		return err
	}
	for i := range r.plan.steps {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "store.Open", err)
		}
		if err := r.do(&r.plan.steps[i]); err != nil {
			return err
		}
	}
	r.trimStarts()
	if err := r.settleAborts(ctx); err != nil {
		return err
	}
	return r.foldTopics()
}

// restore takes over the state of a checkpoint.
func (r *recovery) restore(cp *checkpoint) {
	r.cp, r.epoch, r.maxPID = cp, cp.Epoch, cp.NextPID
	r.parts = make(map[uint32]*partition.Partition, len(cp.Partitions))
	for i := range cp.Partitions {
		state := &cp.Partitions[i]
		p := r.part(state.ID)
		p.Restore(state.State)
		for _, s := range state.Producers {
			s.Sent.Time = r.opened - cp.idle(s.Sent.Time)
			p.Producers.Restore(s.ID, s.Sent)
		}
	}
	r.registry.nextID = cp.NextPart
	for _, value := range cp.Topics {
		var t topicRecord
		err := json.Unmarshal(value, &t)
		if err == nil {
			err = r.registry.apply([]byte(t.Name), value)
		}
		if err != nil {
			r.find(checkpointName(r.number), err.Error())
		}
	}
}

func (r *recovery) part(id uint32) *partition.Partition {
	p := r.parts[id]
	if p == nil {
		p = partition.New(stream.PartitionID(id), stream.Settings{})
		r.parts[id] = p
	}
	r.registry.nextID = max(r.registry.nextID, id+1)
	return p
}

// look reads the names of the log folder and the headers of the journals, and makes the plan.
func (r *recovery) look() error {
	names, err := r.fs.List(logDir)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	f := found{names: names, heads: make(map[uint64]head), place: r.cp.Place, ends: r.cp.Ends}
	for _, name := range names {
		if number, ok := journal.ParseName(name); ok {
			if f.heads[number], err = r.head(logDir+"/"+name, number); err != nil {
				return err
			}
		}
	}
	r.plan = planOf(&f)
	r.findings = append(r.findings, r.plan.findings...)
	return nil
}

// head reads the header of a journal.
func (r *recovery) head(name string, number uint64) (head, error) {
	f, err := r.fs.Open(name)
	if fault.Is(err, fault.Corrupt) {
		return head{state: headDamaged}, nil
	}
	if err != nil {
		return head{}, err
	}
	defer f.Close()
	h, err := journal.ReadHeader(f, name)
	switch {
	case err == nil && h.Number == number:
		return head{Header: h}, nil
	case err == nil, fault.Is(err, fault.NotFound), fault.Is(err, fault.Corrupt) && h.Number > 0 && h.Number != number:
		return head{state: headBlank}, nil
	case fault.Is(err, fault.Corrupt):
		return head{state: headDamaged}, nil
	}
	return head{}, err
}

// do takes over one file.
func (r *recovery) do(s *step) error {
	switch s.how {
	case asSegment:
		return r.openSegment(s)
	case asHeadless:
		return r.openHeadless(s)
	default:
		return r.openJournal(s)
	}
}

// openHeadless takes over a journal whose header is damaged. What the header says is in every frame too, but for the
// end of the journal before it, which that journal tells. The first frame has to follow the last one of the files
// before: it might be what an earlier life of this file left.
func (r *recovery) openHeadless(s *step) error {
	f, err := r.fs.Open(s.name)
	if err == nil && atrest.Lost(f) != nil {
		err = errors.Join(atrest.Lost(f), f.Close())
	}
	if fault.Is(err, fault.Corrupt) {
		r.lose(s.name, "has no valid header, and its key is lost with it: its records are lost")
		return nil
	}
	if err != nil {
		return err
	}
	nonce, seq, err := journal.FirstFrame(f)
	lost := fault.Is(err, fault.Corrupt) || s.blank || seq < r.nextSeq
	if err != nil && !lost {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if lost {
		r.lose(s.name, "has no valid header: its records are lost")
		return nil
	}
	r.lose(s.name, "its header is damaged; its records are there")
	s.limits.Nonce = nonce
	return r.openJournal(s)
}

func (r *recovery) openSegment(s *step) error {
	seg, err := segment.Open(r.fs, s.name)
	if fault.Is(err, fault.Corrupt) {
		return r.salvage(s)
	}
	if err != nil {
		return err
	}
	return r.addSegment(newSegmentFile(r.store, s.fileID, seg))
}

// salvage opens a segment whose footer is lost: a sorted one from the marks in it, one that was kept in place
// as the journal that it is.
func (r *recovery) salvage(s *step) error {
	seg, damage, err := segment.Salvage(r.fs, s.name)
	switch {
	case err == nil:
		r.damaged = true
		for _, d := range damage {
			r.find(s.name, fmt.Sprintf("bytes %d to %d: %s", d.From, d.To, d.What))
		}
		f := newSegmentFile(r.store, s.fileID, seg)
		r.untold = append(r.untold, f)
		return r.addSegment(f)
	case !fault.Is(err, fault.Corrupt):
		return err
	}
	h, err := r.head(s.name, s.number)
	if err != nil {
		return err
	}
	if h.state != headWhole {
		r.lose(s.name, "is neither a segment nor a journal any more: its records are lost")
		return nil
	}
	r.lose(s.name, "has lost its index and is read as a journal")
	s.limits.Nonce = h.Nonce
	if err := r.openJournal(s); err != nil {
		return err
	}
	r.untold = append(r.untold, r.files[len(r.files)-1])
	return nil
}

func (r *recovery) addSegment(f *file) error {
	r.files = append(r.files, f)
	for _, sum := range f.segment.Summaries() {
		p := r.part(sum.Partition)
		p.AddSpan(partition.SpanOf(sum, f))
		if sum.Last >= p.Next {
			if err := r.replaySegment(f, p, sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaySegment applies the batches of a segment that no checkpoint covers: the newer ones were lost.
func (r *recovery) replaySegment(f *file, p *partition.Partition, sum segment.Summary) error {
	extents, err := f.Extents(p.ID)
	if err == nil {
		var batches []record.Batch
		for len(extents) > 0 && err == nil {
			if batches, err = f.Read(p.ID, extents[:1], math.MaxInt, batches[:0]); err == nil {
				for _, b := range batches {
					r.apply(p, b, b.BaseOffset(), b.LastOffset(), b.LeaderEpoch())
				}
			}
			extents = extents[1:]
		}
	}
	if fault.Is(err, fault.Corrupt) {
		r.lose(f.name, err.Error())
		r.apply(p, nil, sum.Base, sum.Last, r.epoch)
		return nil
	}
	return err
}

func (r *recovery) openJournal(s *step) error {
	openFile := r.fs.OpenWrite
	if r.readOnly {
		openFile = r.fs.Open
	}
	handle, err := openFile(s.name)
	if err != nil {
		return err
	}
	f := newJournalFile(r.store, s.number, handle)
	f.fileID, f.name = s.fileID, s.name
	r.files = append(r.files, f)
	if s.fresh {
		r.unsynced = append(r.unsynced, f)
	}
	found, err := journal.Scan(handle, s.limits, func(entries []journal.Entry, batches []record.Batch) error {
		for i := range entries {
			r.replay(f, &entries[i], batches[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range found.Damage {
		r.lose(s.name, journalDamage(d))
	}
	if lost := max(s.limits.End, trusted(s.limits)); found.End < lost {
		r.lose(s.name, journalDamage(vfs.Damage{From: found.End, To: lost, What: "frames that were synced are gone"}))
	}
	f.end = found.End
	r.nextSeq = max(r.nextSeq, found.NextSeq)
	return nil
}

// trusted is the place up to which a checkpoint vouches for the file being scanned.
func trusted(lim journal.Limits) int64 {
	if lim.Trust == math.MaxInt64 {
		return 0
	}
	return lim.Trust
}

// replay applies one entry of the journal.
func (r *recovery) replay(f *file, e *journal.Entry, b record.Batch) {
	switch e.Kind {
	case journal.KindBatch:
		p := r.part(e.Partition)
		extent := segment.Extent{Base: e.Base, Last: e.Last, Pos: e.Pos, Len: e.Len, MaxTime: e.MaxTime}
		if b != nil {
			extent = segment.Of(b, e.Pos)
		}
		p.Add(f, extent)
		r.apply(p, b, e.Base, e.Last, e.Epoch)
	case journal.KindTrim:
		r.part(e.Partition).Trim(e.Base)
	case journal.KindReserve:
		r.maxPID = max(r.maxPID, int64(e.Base))
	}
}

// apply moves the state of a partition over a batch, unless the checkpoint did. b is nil if its bytes are not
// to be had; its offsets are taken all the same.
func (r *recovery) apply(p *partition.Partition, b record.Batch, base, last record.Offset, epoch int32) {
	r.epoch = max(r.epoch, epoch)
	if last < p.Next {
		return
	}
	p.Replay(b, base, last, epoch)
	if b != nil && b.ProducerID() >= 0 && !b.Attributes().Control() { // a marker has no sequence number
		p.Producers.Add(b, base, 0, r.opened)
	}
}

// trimStarts moves log starts up to the first records that are still there: with an old checkpoint they may
// name records that retention has removed since. Where files are damaged they stay, so that the loss shows.
func (r *recovery) trimStarts() {
	if r.damaged {
		return
	}
	for _, p := range r.parts {
		first := p.State().High
		p.Live(func(s partition.Span) { first = min(first, s.Base) })
		p.Survive(first)
	}
}

// settleAborts has partitions keep in memory the aborted transactions of which no file tells, and no others. What a
// damaged file told is found out anew: its partitions are read for that.
func (r *recovery) settleAborts(ctx context.Context) error {
	for _, p := range r.parts {
		var all []partition.Aborted
		untold := false
		p.Live(func(s partition.Span) { untold = untold || contains(r.untold, s.File) })
		if untold {
			var err error
			if all, err = r.abortsOf(ctx, p); err != nil {
				return err
			}
		}
		p.Told(all)
	}
	return nil
}

// abortsOf reads a partition from its log start on to learn which transactions were aborted. What cannot be read is
// passed over.
func (r *recovery) abortsOf(ctx context.Context, p *partition.Partition) ([]partition.Aborted, error) {
	bounds, err := p.Bounds()
	if err != nil {
		return nil, err
	}
	var txns partition.Transactions
	var batches []record.Batch
	for from := bounds.Start; from < bounds.High; {
		if err := ctx.Err(); err != nil {
			return nil, fault.Wrap(fault.Timeout, "store.Open", err)
		}
		batches, err = p.Read(from, rollBytes, batches[:0])
		if fault.Is(err, fault.Corrupt) {
			from = p.Behind(from)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, b := range batches {
			from = b.LastOffset() + 1
			txns.Apply(b, from)
		}
	}
	return txns.Aborts, nil
}

// foldTopics applies the records of the topics topic that lie behind the checkpoint.
func (r *recovery) foldTopics() error {
	p := r.part(uint32(topicsPartition))
	var from record.Offset
	for i := range r.cp.Partitions {
		if r.cp.Partitions[i].ID == uint32(topicsPartition) {
			from = r.cp.Partitions[i].High
		}
	}
	if r.registry.byName == nil {
		r.registry.byName = make(map[string]topicRecord)
		r.registry.nextID = max(r.registry.nextID, 1)
	}
	high := p.State().High
	for from < high {
		batches, err := p.Read(from, rollBytes, nil)
		if fault.Is(err, fault.Corrupt) {
			r.damaged = true
			r.find(TopicsTopic, err.Error())
			from++
			continue
		}
		if err != nil {
			return err
		}
		for _, b := range batches {
			if _, err := r.registry.fold(b); err != nil {
				r.find(TopicsTopic, err.Error())
			}
			from = b.LastOffset() + 1
		}
	}
	return nil
}

// close lets go of the files after a failed start.
func (r *recovery) close() {
	for _, f := range r.files {
		_ = f.close() // the error that led here tells
	}
}

func journalDamage(d vfs.Damage) string {
	return fault.New(fault.Corrupt, "journal", "bytes %d to %d: %s", d.From, d.To, d.What).Error()
}

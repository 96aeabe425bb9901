package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

const (
	lockName     = "LOCK"
	identityName = "FIRTH"

	// FormatVersion is the version of the data directory as a whole.
	FormatVersion = 1
)

// identity is the content of the file FIRTH.
type identity struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
}

// Finding is something that is not as it should be in the files of a log.
type Finding struct {
	File string // its name below the data directory
	What string
}

// recovery opens what a log left on the disk: read-only until it is given to a Store.
type recovery struct {
	fs       vfs.FS
	store    *Store // owner of the files found
	readOnly bool
	cp       *checkpoint
	number   uint64 // of the newest checkpoint file
	parts    map[uint32]*partition.Partition
	registry registry
	files    []*file // by number
	headers  map[uint64]journal.Header
	blank    map[uint64]bool // journals whose own header was never on the disk, as far as one can see
	extras   []string        // files that hold nothing: spares, unfinished writes, rolled-up journals
	findings []Finding
	damaged  bool // something that was durable cannot be read
	epoch    int32
	maxPID   int64
	nextSeq  uint64
	opened   int64   // unix milliseconds of the node's clock: a producer is idle only while the node runs
	newest   uint64  // the largest number that a file has
	unsynced []*file // journals whose end may not be on stable storage
}

func (r *recovery) find(name, what string) {
	r.findings = append(r.findings, Finding{File: name, What: what})
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

// identify reads the identity of the data directory, or makes one in an empty directory.
func (s *Store) identify() error {
	id, err := readIdentity(s.fs)
	if err == nil {
		s.identity = id
		return nil
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	names, err := s.fs.List(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lockName && name != identityName+".tmp" && name != logDir {
			return fault.New(fault.Invalid, "store.Open", "the data directory holds %q and no file %s", name, identityName).
				WithHint("give an empty directory, or the one of a Firth log")
		}
	}
	s.identity = identity{Format: FormatVersion, Cluster: newUUID().String()}
	if err := s.fs.MkdirAll(logDir); err != nil {
		return err
	}
	if err := s.fs.SyncDir("."); err != nil { // the identity says that the folder is there
		return err
	}
	b, err := json.Marshal(s.identity)
	if err != nil {
		return fault.Wrap(fault.Internal, "store.Open", err)
	}
	return writeFile(s.fs, identityName, append(b, '\n'))
}

func readIdentity(fs vfs.FS) (identity, error) {
	var id identity
	b, err := readFile(fs, identityName)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fault.New(fault.Corrupt, "store.Open", "%s cannot be read: %w", identityName, err).
			WithHint("it holds {\"format\":%d,\"cluster\":\"<any UUID>\"} and may be written again by hand", FormatVersion)
	}
	if id.Format != FormatVersion {
		return id, fault.New(fault.Unsupported, "store.Open", "data directory of format %d, this firth knows %d",
			id.Format, FormatVersion).WithHint("open it with the firth that wrote it, or a newer one")
	}
	return id, nil
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
	names, err := r.list()
	if err != nil {
		return err
	}
	numbers := slices.Sorted(maps.Keys(names))
	for i, number := range numbers {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "store.Open", err)
		}
		if err := r.open(number, names[number], i == len(numbers)-1); err != nil {
			return err
		}
	}
	r.trimStarts()
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

// list names the log files by number and reads the headers of the journals.
func (r *recovery) list() (map[uint64]string, error) {
	all, err := r.fs.List(logDir)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make(map[uint64]string)
	r.headers, r.blank = make(map[uint64]journal.Header), make(map[uint64]bool)
	for _, name := range all {
		r.sort(name, names)
	}
	for n, name := range names {
		if name != journalName(n) {
			continue
		}
		if err := r.readHeader(n, name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// sort puts a name of the log folder where it belongs. A segment stands for its number before a journal does:
// where there are both, the roll-up was finished.
func (r *recovery) sort(name string, names map[uint64]string) {
	path := logDir + "/" + name
	segment, isSegment := parseSegmentName(name)
	number, isJournal := journal.ParseName(name)
	r.newest = max(r.newest, segment, number)
	switch {
	case isSegment:
		if old := names[segment]; old != "" {
			r.extras = append(r.extras, old)
		}
		names[segment] = path
	case isJournal && names[number] == "":
		names[number] = path
	case isJournal, strings.HasPrefix(name, "spare."), strings.HasSuffix(name, ".tmp"):
		r.extras = append(r.extras, path)
	default:
		r.find(path, "is no file of the log")
	}
}

func (r *recovery) readHeader(n uint64, name string) error {
	f, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := journal.ReadHeader(f, name)
	switch {
	case err == nil && h.Number == n:
		r.headers[n] = h
	case err == nil, fault.Is(err, fault.NotFound):
		r.blank[n] = true
	case !fault.Is(err, fault.Corrupt):
		return err
	}
	return nil
}

// open takes over one file.
func (r *recovery) open(number uint64, name string, newest bool) error {
	if name == segmentName(number) {
		return r.openSegment(number, name)
	}
	if _, ok := r.headers[number]; !ok {
		if newest && r.blank[number] && number > r.cp.Place.File {
			r.extras = append(r.extras, name) // it was named, and nothing in it was ever synced
			return nil
		}
		return r.openHeadless(number, name)
	}
	return r.openJournal(number, name)
}

// openHeadless takes over a journal whose header is damaged. What the header says is in every frame too, but for the
// end of the journal before it, which that journal tells. The first frame has to follow the last one of the files
// before: it might be what an earlier life of this file left.
func (r *recovery) openHeadless(number uint64, name string) error {
	r.damaged = true
	f, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	nonce, seq, err := journal.FirstFrame(f)
	lost := fault.Is(err, fault.Corrupt) || r.blank[number] || seq < r.nextSeq
	if err != nil && !lost {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if lost {
		r.find(name, "has no valid header: its records are lost")
		return nil
	}
	r.find(name, "its header is damaged; its records are there")
	r.headers[number] = journal.Header{Number: number, Nonce: nonce}
	return r.openJournal(number, name)
}

func (r *recovery) openSegment(number uint64, name string) error {
	seg, err := segment.Open(r.fs, name)
	if fault.Is(err, fault.Corrupt) {
		return r.salvage(number, name)
	}
	if err != nil {
		return err
	}
	return r.addSegment(newSegmentFile(r.store, number, seg))
}

// salvage opens a segment whose footer is lost: a sorted one from the marks in it, one that was kept in place
// as the journal that it is.
func (r *recovery) salvage(number uint64, name string) error {
	r.damaged = true
	seg, damage, err := segment.Salvage(r.fs, name)
	switch {
	case err == nil:
		for _, d := range damage {
			r.find(name, fmt.Sprintf("bytes %d to %d: %s", d.From, d.To, d.What))
		}
		return r.addSegment(newSegmentFile(r.store, number, seg))
	case !fault.Is(err, fault.Corrupt):
		return err
	}
	if err := r.readHeader(number, name); err != nil {
		return err
	}
	if _, ok := r.headers[number]; !ok {
		r.find(name, "is neither a segment nor a journal any more: its records are lost")
		return nil
	}
	r.find(name, "has lost its index and is read as a journal")
	return r.openJournal(number, name)
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
		r.damaged = true
		r.find(f.name, err.Error())
		r.apply(p, nil, sum.Base, sum.Last, r.epoch)
		return nil
	}
	return err
}

func (r *recovery) openJournal(number uint64, name string) error {
	openFile := r.fs.OpenWrite
	if r.readOnly {
		openFile = r.fs.Open
	}
	handle, err := openFile(name)
	if err != nil {
		return err
	}
	f := newJournalFile(r.store, number, handle)
	f.name = name
	r.files = append(r.files, f)
	lim := journal.Limits{Nonce: r.headers[number].Nonce}
	if next, ok := r.headers[number+1]; ok && next.Previous == number {
		lim.End = next.PrevEnd
	}
	switch {
	case number < r.cp.Place.File:
		lim.Trust = math.MaxInt64
	case number == r.cp.Place.File:
		lim.Trust = r.cp.Place.Pos
		r.unsynced = append(r.unsynced, f)
	default:
		r.unsynced = append(r.unsynced, f)
	}
	found, err := journal.Scan(handle, lim, func(entries []journal.Entry, batches []record.Batch) error {
		for i := range entries {
			r.replay(f, &entries[i], batches[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range found.Damage {
		r.damaged = true
		r.find(name, journalDamage(d))
	}
	if lost := max(lim.End, trusted(lim)); found.End < lost {
		r.damaged = true
		r.find(name, journalDamage(vfs.Damage{From: found.End, To: lost, What: "frames that were synced are gone"}))
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
	p.Replay(last, epoch, base)
	if b != nil && b.ProducerID() >= 0 {
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
		p.Trim(first)
	}
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

// adopt makes what was found the state of the store, and begins a new journal file: what the last one may
// hold behind its end is void from now on.
func (s *Store) adopt(r *recovery) error {
	for _, f := range r.unsynced {
		if err := f.journal.Sync(); err != nil { // what is served must not go with the next power cut
			return err
		}
	}
	s.epoch = r.epoch + 1
	s.registry = r.registry
	s.mu.nextPID, s.mu.maxPID = r.maxPID, r.maxPID
	s.adoptPartitions(r)
	for _, name := range r.extras {
		if err := s.fs.Remove(name); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	s.keeper.files = make(map[uint64]*file)
	s.keeper.checkpoint = r.number
	var header journal.Header
	for _, f := range r.files {
		header.Number = f.number
		if f.journal != nil {
			header.Previous, header.PrevEnd = f.number, f.end
			s.keeper.mu.sealed = append(s.keeper.mu.sealed, f)
			s.keeper.mu.waiting++
		} else {
			s.keeper.files[f.number] = f
		}
	}
	if r.damaged {
		s.keeper.frozen = header.Number
	}
	header.Number = max(header.Number, r.newest, r.cp.Place.File) + 1
	return s.begin(header, r.nextSeq)
}

// adoptPartitions gives the table the partitions that belong to topics, and to the topics topic. Others are
// what deleted topics left; while something is damaged they are kept, for their topic may be what is lost.
func (s *Store) adoptPartitions(r *recovery) {
	parts := make(table, max(int(r.registry.nextID), 1))
	for id, p := range r.parts {
		parts[id] = p
	}
	if parts[topicsPartition] == nil {
		parts[topicsPartition] = partition.New(topicsPartition, stream.Settings{})
	}
	s.parts.Store(&parts)
	s.install()
	parts[topicsPartition].SetSettings(s.Topics().ByName(TopicsTopic).Settings)
}

// begin starts the journal file of this life of the log, and takes a checkpoint.
func (s *Store) begin(h journal.Header, seq uint64) error {
	sp, err := s.newSpare(0, s.opt.JournalBytes, false)
	if fault.Is(err, fault.Full) { // a full log has to open: to be read, and to be made smaller
		sp, err = s.newSpare(0, leastJournal, true)
	}
	if err != nil {
		return err
	}
	w, err := s.startJournal(sp, h, seq)
	if err != nil {
		return errors.Join(err, sp.handle.Close())
	}
	s.writer = w
	if err := w.Sync(); err != nil {
		return err
	}
	s.announced.set(place{File: w.Number(), Pos: w.End()})
	cp := s.snapshot()
	s.keeper.checkpoint++
	return saveCheckpoint(s.fs, &cp, s.keeper.checkpoint)
}

func journalDamage(d vfs.Damage) string {
	return fault.New(fault.Corrupt, "journal", "bytes %d to %d: %s", d.From, d.To, d.What).Error()
}

// byNumber orders files.
func byNumber(a, b *file) int { return cmp.Compare(a.number, b.number) }

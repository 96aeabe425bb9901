package store

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/compact"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// housekeeper looks after the files: it prepares journal files ahead, turns full ones into segments, takes
// checkpoints, obeys retention and repairs after failed commits. One goroutine.
type housekeeper struct {
	s      *Store
	wakeup chan struct{}
	more   chan struct{} // the merge under way, or the next one, waits for a turn
	turns  chan func()   // what others have done between its duties

	mu struct {
		sync.Mutex
		spare   *spare
		spares  uint64 // to name spares
		size    journalSize
		sealed  []*file  // journals to turn into segments, oldest first
		waiting int      // how many of them, those in hand included, but without those whose roll-up failed
		stuck   int      // whose roll-up failed
		idle    []*file  // files nobody reads any more
		excess  []*spare // spares that came when there was one
		broken  bool     // appends are refused until a spare can be prepared
		cleaned *pass    // that the cleaner is through with
	}

	// The housekeeper's own.
	files      map[fileID]*file  // sealed journals and segments
	newest     map[uint64]uint32 // the largest generation that a file of a number had
	checkpoint uint64            // number of the newest checkpoint
	dirty      bool              // the state changed since the newest checkpoint
	// frozen is the number up to which files stay as they are: something is damaged, and what seems to belong to
	// nobody may be all that is left of it. 0: none.
	frozen  uint64
	left    []string // files to remove, by name
	started time.Time
	clock   stepWatch
	merging *merge // nil: none is under way
	scratch record.Scratch
	naming  Naming // of the file in hand; nil: none

	offsets    *compact.Offsets // for roll-ups
	cleaner    cleaner
	cleaning   *pass     // that the cleaner has; nil: none
	cleanAfter time.Time // when the next may begin
	lingering  []lingering
	rolled     *file                        // the journal that was ended for its age last
	spoilt     map[stream.PartitionID]bool  // what cannot be compacted, because it is damaged
	putOff     map[stream.PartitionID]later // what could not be compacted, and is tried again
	shredding  int                          // how many Shreds are under way
	retired    map[*file]struct{}           // to be removed or used again once nobody reads them
}

const repairInterval = 250 * time.Millisecond

func (k *housekeeper) init(s *Store) {
	k.s = s
	k.wakeup, k.more, k.turns = make(chan struct{}, 1), make(chan struct{}, 1), make(chan func())
	k.offsets = compact.NewOffsets(s.opt.DedupeBytes, &k.scratch)
	k.cleaner = cleaner{s: s, passes: make(chan *pass, 1)}
	k.mu.size = journalSize{least: s.opt.FirstJournalBytes, most: s.opt.JournalBytes, now: s.opt.FirstJournalBytes}
	k.retired = make(map[*file]struct{})
	k.spoilt, k.putOff = make(map[stream.PartitionID]bool), make(map[stream.PartitionID]later)
	k.wake()
}

// checkClock watches the wall clock for steps.
func (k *housekeeper) checkClock() {
	wait := k.s.opt.StepWait
	if step := k.clock.look(k.s.opt.Clock(), time.Since(k.started), wait); step != 0 {
		k.s.opt.Logger.Warn("the clock was set; records and producers that seem old now are not removed at once",
			"step", step, "wait", wait, "hint", "look at the clock if this was not wanted")
	}
}

func (k *housekeeper) wake() {
	select {
	case k.wakeup <- struct{}{}:
	default:
	}
}

// seal takes over a journal file that takes no more frames.
func (k *housekeeper) seal(f *file) {
	if f.replaced {
		f.Release() // nothing is in it, and its name is another's
		return
	}
	k.mu.Lock()
	if !f.broken && f.end > 0 {
		k.mu.size.filled(time.Since(f.began), k.contentOf(f))
	}
	k.mu.sealed = append(k.mu.sealed, f)
	k.mu.waiting++
	behind := k.mu.waiting >= k.s.opt.SealedFiles
	k.mu.Unlock()
	if behind {
		k.s.hold(true)
	}
	k.wake()
}

// sealedFiles is how many full journals wait to be made segments, and of how many of them that failed.
func (k *housekeeper) sealedFiles() (all, stuck int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.waiting + k.mu.stuck, k.mu.stuck
}

// caughtUp is told that n full journals wait no longer, and whether the others go on waiting: then commits do not wait
// for them, lest a disk that fails holds everything up.
func (k *housekeeper) caughtUp(n int, stuck bool) {
	k.mu.Lock()
	k.mu.waiting -= n
	behind := k.mu.waiting >= k.s.opt.SealedFiles
	k.mu.Unlock()
	if !behind || stuck {
		k.s.hold(false)
	}
}

// idle takes a file that nobody reads any more.
func (k *housekeeper) idle(f *file) {
	k.mu.Lock()
	k.mu.idle = append(k.mu.idle, f)
	k.mu.Unlock()
	k.wake()
}

// repair is told that appends are refused.
func (k *housekeeper) repair() {
	k.mu.Lock()
	k.mu.broken = true
	k.mu.Unlock()
	k.wake()
}

// loop is the housekeeper's goroutine. It ends when the announcer has ended and all is tidy.
func (k *housekeeper) loop() {
	defer close(k.cleaner.passes)
	retention := time.NewTicker(k.s.opt.RetentionInterval)
	defer retention.Stop()
	repair := time.NewTicker(repairInterval)
	defer repair.Stop()
	for !k.s.closing() {
		select {
		case <-k.wakeup:
			k.tidy()
			k.retry()
			k.wakeMerge()
		case <-repair.C:
			k.retry()
		case do := <-k.turns:
			do()
		case <-k.more:
			if err := k.mergeStep(); err != nil && !fault.Is(err, fault.Closed) {
				k.s.opt.Logger.Error("merging files failed; it is tried again", "error", err, "hint", fault.HintOf(err))
			}
		case <-retention.C:
			k.checkClock()
			if !k.clock.waits() {
				k.s.expireProducers()
			}
			if err := k.rollOld(); err != nil {
				k.s.opt.Logger.Error("ending an old journal failed; it is tried again", "error", err)
			}
			if err := k.retain(); err != nil {
				k.s.opt.Logger.Error("retention failed; it is tried again", "error", err)
			}
			k.tidy()
		}
	}
}

func (s *Store) closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.closing
}

// tidy does what is due. What fails is logged and tried again at the next turn.
func (k *housekeeper) tidy() {
	k.releaseLingering(time.Now())
	if err := errors.Join(k.clear(), k.prepare(), k.sealed(), k.compact(), k.clear()); err != nil {
		k.s.opt.Logger.Error("housekeeping of the log failed; it is tried again", "error", err, "hint", fault.HintOf(err))
	}
}

// retry prepares a file to write to while appends are refused, and lets appends in again.
func (k *housekeeper) retry() {
	k.mu.Lock()
	broken := k.mu.broken
	k.mu.Unlock()
	if !broken {
		return
	}
	if k.prepare() != nil || k.s.haveRoom(0) != nil {
		return // logged when the commit failed; the reason is in Store.Refused
	}
	k.mu.Lock()
	k.mu.broken = false
	k.mu.Unlock()
	k.s.mu.Lock()
	if !k.s.mu.closing {
		k.s.mu.refuse = nil
	}
	k.s.mu.Unlock()
	k.s.opt.Logger.Info("the journal can be written again")
}

// contentOf tells what most of a full journal is.
func (k *housekeeper) contentOf(f *file) content {
	switch {
	case f.plain.bytes < f.end/2:
		return dedupe
	case f.plain.mean() >= k.s.opt.BulkBatchBytes:
		return bulk
	}
	return mixed
}

// prepare makes sure that there is a spare.
func (k *housekeeper) prepare() error {
	k.mu.Lock()
	size := k.mu.size.now
	if sp := k.mu.spare; sp != nil && sp.space.Size > size {
		k.mu.excess, k.mu.spare = append(k.mu.excess, sp), nil
	}
	have := k.mu.spare != nil
	k.mu.spares++
	n := k.mu.spares
	k.mu.Unlock()
	if have {
		return nil
	}
	sp, err := k.s.newSpare(n, size, false)
	if err != nil {
		return err
	}
	k.putBack(&sp)
	return nil
}

// newSpare prepares a file, if the disk has room for it and the reserve; an urgent one may take of the reserve.
func (s *Store) newSpare(n uint64, size int64, urgent bool) (spare, error) {
	if !urgent {
		if err := s.haveRoom(size); err != nil {
			return spare{}, err
		}
	}
	name := spareName(n)
	handle, err := journal.Prepare(s.raw, logDir, name, size)
	if err != nil {
		return spare{}, err
	}
	return spare{name: logDir + "/" + name, handle: handle, space: journal.Space{Size: size}}, nil
}

// haveRoom tells whether the disk has room for size bytes besides the reserve.
func (s *Store) haveRoom(size int64) error {
	free, _, err := vfs.Space(s.fs)
	if err != nil {
		return err
	}
	if free < size+s.opt.ReserveBytes {
		return fault.New(fault.Full, "store.Journal",
			"%d bytes are free, %d are needed and %d are kept for roll-ups", free, size, s.opt.ReserveBytes).
			WithHint("free space, delete topics or lower what they retain; writing resumes by itself")
	}
	return nil
}

// takeSpare gives the committer a file of at least size bytes: the prepared one, or a new one. For what is urgent that
// is a small one, where there is no room for more.
func (k *housekeeper) takeSpare(size int64, urgent bool) (spare, error) {
	k.mu.Lock()
	sp := k.mu.spare
	k.mu.spare = nil
	k.mu.spares++
	n, usual := k.mu.spares, k.mu.size.now
	k.mu.Unlock()
	k.wake()
	if sp == nil {
		sp, err := k.s.newSpare(n, max(size, usual), false)
		if urgent && size <= leastJournal && fault.Is(err, fault.Full) {
			return k.s.newSpare(n, leastJournal, true)
		}
		return sp, err
	}
	var err error
	if !urgent {
		err = k.s.haveRoom(max(0, size-sp.space.Size)) // the file is there, but what it takes in is rolled up beside it
	}
	if err == nil && sp.space.Size < size {
		err = sp.handle.Preallocate(size)
	}
	if err != nil {
		k.putBack(sp)
		return spare{}, err
	}
	sp.space.Size = max(sp.space.Size, size)
	return *sp, nil
}

// discard takes a file that was to become a journal and did not.
func (k *housekeeper) discard(sp spare) {
	k.mu.Lock()
	k.mu.excess = append(k.mu.excess, &sp)
	k.mu.Unlock()
	k.wake()
}

// putBack makes a file the spare, if there is none.
func (k *housekeeper) putBack(sp *spare) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.spare == nil {
		k.mu.spare = sp
	} else {
		k.mu.excess = append(k.mu.excess, sp)
	}
}

// clear closes the files nobody reads any more, and removes them or makes a spare of one.
func (k *housekeeper) clear() error {
	k.mu.Lock()
	idle := k.mu.idle
	k.mu.idle = nil
	k.mu.Unlock()
	var errs []error
	for _, f := range idle {
		errs = append(errs, k.dispose(f))
	}
	k.mu.Lock()
	excess := k.mu.excess
	k.mu.excess = nil
	k.mu.Unlock()
	for _, sp := range excess {
		k.left = append(k.left, sp.name)
		errs = append(errs, sp.handle.Close())
	}
	left, err := k.s.remove(k.left, k.shredding > 0)
	k.left = left
	return errors.Join(append(errs, err)...)
}

// dispose ends a file's life. A rolled-up journal of the usual size is used again: writing over blocks that
// are allocated and written once is what the disk does fastest.
func (k *housekeeper) dispose(f *file) error {
	if delete(k.retired, f); !f.remove {
		return f.close()
	}
	if f.journal != nil && !f.broken && !k.s.plainLeft(f) && k.shredding == 0 {
		size, err := atrest.Bare(f.journal).Size()
		if err == nil && !f.renamed && k.reuse(f, size) {
			return nil
		}
	}
	k.left = append(k.left, f.path())
	return f.close()
}

// reuse makes a spare of a journal file, in place of one that was never written.
func (k *housekeeper) reuse(f *file, size int64) bool {
	k.mu.Lock()
	have := k.mu.spare != nil && k.mu.spare.space.Filled > 0 || size != k.mu.size.now
	k.mu.spares++
	name := logDir + "/" + spareName(k.mu.spares)
	k.mu.Unlock()
	if have || k.s.fs.Rename(f.path(), name) != nil {
		return false
	}
	sp := &spare{name: name, handle: atrest.Bare(f.journal), space: journal.Space{Size: size, Filled: f.end}}
	k.mu.Lock()
	if k.mu.spare != nil {
		k.mu.excess = append(k.mu.excess, k.mu.spare)
	}
	k.mu.spare = sp
	k.mu.Unlock()
	return true
}

// takeCheckpoint writes the state of the log. What it holds is on stable storage by then: that of memory topics too.
// Errors: Closed (closing takes one of its own), and those of a commit.
func (k *housekeeper) takeCheckpoint() error {
	_, before := k.s.announced.get()
	cp := k.s.snapshot()
	if err := k.syncAll(); err != nil {
		return err
	}
	if _, breaks := k.s.announced.get(); breaks != before {
		return fault.New(fault.IO, "store.Checkpoint", "a journal broke meanwhile")
	}
	return k.save(&cp)
}

// syncAll waits until all that was announced before is on stable storage, by a commit group of its own.
func (k *housekeeper) syncAll() error {
	done := make(chan error, 1)
	g, err := k.s.openGroup(nil, stream.Owner{}, 0, true)
	if err != nil {
		return err
	}
	g.barrier, g.disk = done, true
	k.s.mu.Unlock()
	return <-done
}

// rollOld ends the active journal when a compacted topic wants its records out of it (segment.ms,
// max.compaction.lag.ms): what is in it is not compacted.
func (k *housekeeper) rollOld() error {
	for _, p := range *k.s.parts.Load() {
		if p == nil || !p.Settings().Compact {
			continue
		}
		f, ok := p.Active().(*file)
		wanted := min(p.Settings().SegmentMs, p.Settings().MaxCompactionLagMs)
		if !ok || f == k.rolled || time.Since(f.began).Milliseconds() < wanted {
			continue
		}
		if fault.Is(k.s.haveRoom(k.s.opt.JournalBytes), fault.Full) {
			return nil // it waits for room, as everything does
		}
		if err := k.roll(); err != nil {
			return err
		}
		k.rolled = f
		return nil
	}
	return nil
}

// roll ends the active journal.
func (k *housekeeper) roll() error {
	done := make(chan error, 1)
	g, err := k.s.openGroup(nil, stream.Owner{}, 0, false)
	if fault.Is(err, fault.Closed) {
		return nil
	}
	if err != nil {
		return err
	}
	g.barrier, g.disk, g.roll = done, true, true
	k.s.mu.Unlock()
	return <-done
}

func (k *housekeeper) save(cp *checkpoint) error {
	k.checkpoint++
	cp.Ends = k.ends()
	encoded := cp.encode()
	if err := saveCheckpoint(k.s.fs, encoded, k.checkpoint); err != nil {
		return err
	}
	k.dirty = false
	k.mu.Lock()
	k.mu.size.checkpoint(int64(len(encoded)))
	k.mu.Unlock()
	return nil
}

// ends tells where the journals end that are sealed: the header behind may be damaged, or gone before them.
func (k *housekeeper) ends() (ends []place) {
	k.mu.Lock()
	sealed := slices.Clone(k.mu.sealed)
	k.mu.Unlock()
	for _, f := range append(sealed, k.sortedFiles()...) {
		if at := (place{File: f.number, Pos: f.end}); f.journal != nil && !slices.Contains(ends, at) {
			ends = append(ends, at)
		}
	}
	return ends
}

// sortedFiles lists the sealed files by number.
func (k *housekeeper) sortedFiles() []*file {
	files := slices.Collect(maps.Values(k.files))
	slices.SortFunc(files, byID)
	return files
}

// allSealed lists the files of the log but the active journal.
func (k *housekeeper) allSealed() (all []*file) {
	k.mu.Lock()
	all = slices.Clone(k.mu.sealed)
	k.mu.Unlock()
	for _, f := range k.sortedFiles() {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return slices.DeleteFunc(all, func(f *file) bool { return f.gone })
}

// closing ends the files when all goroutines have ended: the state is final.
func (k *housekeeper) closing() error {
	s := k.s
	var err error
	if !s.writer.broken {
		err = s.writer.Sync() // frames of memory topics
	}
	if err == nil && !s.writer.broken {
		cp := s.snapshot()
		cp.Place = place{File: s.writer.Number(), Pos: s.writer.End()}
		err = k.save(&cp)
	}
	errs := append(k.closeCompaction(), err, s.writer.file.close())
	k.mu.Lock()
	sealed, idle, spares := k.mu.sealed, k.mu.idle, k.mu.excess
	if k.mu.spare != nil {
		spares = append(spares, k.mu.spare)
	}
	k.mu.sealed, k.mu.idle, k.mu.excess, k.mu.spare = nil, nil, nil, nil
	k.mu.Unlock()
	for _, f := range sealed {
		k.files[f.fileID] = f
	}
	for _, f := range k.files {
		errs = append(errs, f.close())
	}
	for _, f := range idle {
		errs = append(errs, f.close())
	}
	for _, sp := range spares {
		errs = append(errs, sp.handle.Close())
	}
	return errors.Join(errs...)
}

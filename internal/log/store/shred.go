package store

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/shred"
	"github.com/firthmq/firth/internal/log/stream"
)

// Shredding is what a Shred makes unreadable, and who is told how far it is.
type Shredding struct {
	// Parts are the partitions that are looked through.
	Parts map[stream.PartitionID]ShredPart
	// Rewritten is told of each file of which something went, once it is gone for readers. nil: nobody wants to know.
	Rewritten func(ShredFile)
	// Progress is told now and then. nil: nobody wants to know.
	Progress func(ShredProgress)
}

// ShredPart is what goes of a partition.
type ShredPart struct {
	// End is the offset from which on nothing goes; at most the high watermark.
	End record.Offset
	// Replace is that of shred.Run. It is called from two goroutines, but not at once.
	Replace func(v *record.View, r *record.Record) bool
}

// ShredFile is a file of which something went.
type ShredFile struct {
	Old, New       string // its name and that of the one in its place, in the log folder; New "": nothing else was in it
	OldKey, NewKey string // ids of their data keys; OldKey "": it was plain
	Records        map[stream.PartitionID]int64
}

// ShredProgress is how far a Shred is.
type ShredProgress struct {
	Files int // there are
	Ahead int // of them, that have to be looked through, or written anew
	// Waits is why nothing happens, and Name the file that is to blame.
	Waits, Name string
}

// shredPause is how long a Shred waits that can do nothing: for readers of an old file, or a pass of compaction.
const shredPause = 50 * time.Millisecond

// CanShred tells whether a Shred may begin. Errors: Unsupported (files are not encrypted: what a disk keeps of old ones
// could be read), Corrupt (files stay as they are, because something is damaged).
func (s *Store) CanShred() error {
	const op = "store.Shred"
	switch {
	case s.sealing == nil || s.opt.Plain:
		return fault.New(fault.Unsupported, op,
			"new files are not encrypted: what the disk keeps of old ones stays readable").
			WithHint("set encryption.key_file, wait until firth key status tells that nothing is plain, and shred then")
	case s.housekeeper.frozen > 0:
		return fault.New(fault.Corrupt, op, "something in the log is damaged, and files stay as they are").
			WithHint("stop firth and run firth log check; what cannot be repaired has to go first")
	}
	return nil
}

// Shred makes records unreadable: files that hold some are written anew without them, under keys of their own, and the
// old ones go with their keys. It returns when no file of the log holds any of them, in whatever form, nor the memory
// of a partition. After an error, or a crash, some may be gone; another Shred does the rest. Errors: those of CanShred;
// Timeout when ctx ends; Closed; Full; IO; Corrupt, TooLarge (what cannot be read cannot be written anew).
func (s *Store) Shred(ctx context.Context, job *Shredding) error {
	if err := s.CanShred(); err != nil {
		return err
	}
	k := &s.housekeeper
	sh := &shredder{s: s, job: job, clean: make(map[*file]bool), runs: make(map[uint32]*shred.Run)}
	for id, part := range job.Parts {
		sh.runs[uint32(id)] = &shred.Run{End: part.End, Replace: part.Replace, Scratch: &sh.scratch}
	}
	at, _ := s.announced.get()
	sh.last = at.File // a later journal holds nothing that goes
	err := k.inTurn(ctx, func() error {
		k.shredding++
		k.abandonMerge()
		return k.roll()
	})
	defer func() { _ = k.inTurn(context.WithoutCancel(ctx), func() error { k.shredding--; return nil }) }()
	if err != nil {
		return err
	}
	for id, part := range job.Parts {
		if p, err := s.partition(id); err == nil {
			p.Forget(part.End)
		}
	}
	for {
		done, err := sh.round(ctx)
		if done || err != nil {
			return err
		}
	}
}

// shredder is a Shred under way. Files are looked through on the goroutine of who asks for it, and written anew by the
// housekeeper, one at a turn.
type shredder struct {
	s       *Store
	job     *Shredding
	last    uint64 // the newest journal that may hold what goes
	clean   map[*file]bool
	runs    map[uint32]*shred.Run
	scratch record.Scratch
	state   ShredProgress
}

// round looks through what is to be looked through, and has what is found written anew. It is done when nothing is
// left.
func (sh *shredder) round(ctx context.Context) (done bool, err error) {
	var due []*file
	err = sh.s.housekeeper.inTurn(ctx, func() (err error) {
		if due = sh.due(); len(due) == 0 {
			done, err = sh.settled()
		}
		return err
	})
	if done || err != nil {
		return done, err
	}
	for i, f := range due {
		sh.state.Ahead = len(due) - i
		sh.tell("", "")
		dirty, err := sh.look(ctx, f)
		if fault.Is(err, fault.NotFound) {
			continue // it went meanwhile
		}
		if err != nil {
			return false, err
		}
		if !dirty {
			sh.clean[f] = true
			continue
		}
		if err := sh.s.housekeeper.inTurn(ctx, func() error { return sh.rewrite(f) }); err != nil {
			return false, err
		}
	}
	if sh.state.Waits == "" {
		return false, nil
	}
	timer := time.NewTimer(shredPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false, fault.Wrap(fault.Timeout, "store.Shred", ctx.Err())
	case <-sh.s.closes:
	}
	return false, nil
}

// tell tells the progress, and why nothing happens, if that is so.
func (sh *shredder) tell(waits, name string) {
	sh.state.Waits, sh.state.Name = waits, name
	if sh.job.Progress != nil {
		sh.job.Progress(sh.state)
	}
}

// due lists the files that were not looked through yet.
func (sh *shredder) due() []*file {
	all := sh.s.housekeeper.allSealed()
	sh.state.Files, sh.state.Ahead = len(all), 0
	return slices.DeleteFunc(all, func(f *file) bool {
		return sh.clean[f] || f.segment == nil && f.number > sh.last
	})
}

// settled tells whether nothing is left of what went: not in a file that a reader still has, nor in one that waits to
// be written again, nor in one that was never finished.
func (sh *shredder) settled() (bool, error) {
	k := &sh.s.housekeeper
	k.tidy()
	if k.cleaning != nil {
		sh.tell("compaction ends what it began", "")
		return false, nil
	}
	k.mu.Lock()
	if sp := k.mu.spare; sp != nil && sp.space.Filled > 0 {
		k.mu.excess, k.mu.spare = append(k.mu.excess, sp), nil
	}
	k.mu.Unlock()
	live := make(map[string]bool)
	for _, f := range k.allSealed() {
		live[f.path()] = true
	}
	names, err := sh.s.raw.List(logDir)
	if err != nil {
		return false, err
	}
	rest := ""
	for f := range k.retired {
		rest = path.Base(f.path())
	}
	for _, base := range names {
		name := logDir + "/" + base
		_, isSegment := parseSegmentName(base)
		switch {
		case isSegment && !live[name]:
			rest = base
		case strings.HasSuffix(base, ".tmp"): // nobody writes one now
			if rest = base; !slices.Contains(k.left, name) {
				k.left = append(k.left, name)
			}
		}
	}
	if err := k.clear(); err != nil {
		return false, err
	}
	if rest != "" {
		sh.tell("an old file is still read, or promised to readers", rest)
	}
	if rest != "" || len(sh.due()) > 0 {
		return false, nil
	}
	return true, sh.s.raw.SyncDir(logDir) // what was removed must not come back with a power cut
}

// look tells whether there is something in a file that goes, whether or not readers could come to it. Errors: NotFound
// (the file went meanwhile), Corrupt, IO, TooLarge.
func (sh *shredder) look(ctx context.Context, f *file) (dirty bool, err error) {
	if !f.Acquire() {
		return false, fault.New(fault.NotFound, "store.Shred", "%s went", f.name)
	}
	defer f.Release()
	if f.segment == nil || f.segment.InPlace() {
		return sh.lookFrames(ctx, f)
	}
	for _, sum := range f.segment.Summaries() {
		p, err := sh.s.partition(stream.PartitionID(sum.Partition))
		if fault.Is(err, fault.NotFound) {
			return true, nil // of a topic that was deleted: nobody knows whom it is about
		}
		run := sh.runs[sum.Partition]
		if run == nil || sum.Base >= run.End {
			continue
		}
		extents, err := f.Extents(p.ID)
		if err != nil {
			return false, err
		}
		for len(extents) > 0 && extents[0].Base < run.End && !dirty {
			n, _ := near(extents, cleanStep)
			if err = eachBatch(f, part{p: p, extents: extents[:n]}, func(b record.Batch) error {
				has, err := run.Has(b)
				dirty = dirty || has
				return err
			}); err == nil {
				err = fault.Wrap(fault.Timeout, "store.Shred", ctx.Err())
			}
			if err != nil {
				return false, err
			}
			extents = extents[n:]
		}
		if dirty {
			return true, nil
		}
	}
	return false, nil
}

// lookFrames looks through a journal frame by frame: of one that was kept in place its index does not tell all.
func (sh *shredder) lookFrames(ctx context.Context, f *file) (dirty bool, err error) {
	handle, end := f.handle(), f.end
	if f.segment == nil && end <= journal.HeaderBytes {
		return false, nil
	}
	h, err := journal.ReadHeader(handle, f.name)
	if err != nil {
		return false, err
	}
	_, err = journal.Scan(handle, journal.Limits{Nonce: h.Nonce, End: end}, func(entries []journal.Entry,
		batches []record.Batch) error {
		for i := range entries {
			has, err := sh.lookEntry(f, &entries[i], batches[i])
			if dirty = dirty || has; err != nil {
				return err
			}
		}
		return fault.Wrap(fault.Timeout, "store.Shred", ctx.Err())
	})
	return dirty, err
}

func (sh *shredder) lookEntry(f *file, e *journal.Entry, b record.Batch) (dirty bool, err error) {
	if e.Kind != journal.KindBatch {
		return false, nil
	}
	run := sh.runs[e.Partition]
	switch {
	case run == nil:
		_, err := sh.s.partition(stream.PartitionID(e.Partition))
		return fault.Is(err, fault.NotFound), nil
	case e.Base >= run.End:
		return false, nil
	case b == nil:
		return false, fault.New(fault.Corrupt, "store.Shred", "%s: the batch at byte %d is damaged", f.name, e.Pos)
	}
	return run.Has(b)
}

// rewrite writes a file anew without what goes. A journal becomes a segment first: that is another file.
func (sh *shredder) rewrite(f *file) error {
	k := &sh.s.housekeeper
	switch {
	case f.gone:
		return nil
	case f.segment == nil:
		k.tidy()
		if !f.gone {
			sh.tell("a journal waits to be made a segment", path.Base(f.name))
		}
		return nil
	case k.cleaning.reads(f):
		k.tidy()
		sh.tell("compaction reads it", path.Base(f.name))
		return nil
	}
	if err := sh.s.haveRoom(f.size); err != nil {
		return err
	}
	k.useNaming()
	parts, _, _, err := sh.s.partsIn(f)
	if err != nil {
		return err
	}
	told := ShredFile{Old: path.Base(f.path()), Records: make(map[stream.PartitionID]int64)}
	if told.OldKey, err = atrest.KeyIDOf(f.handle()); err != nil {
		return err
	}
	for i := range parts {
		if run := sh.runs[uint32(parts[i].p.ID)]; run != nil {
			run.Records = 0
			parts[i].shred = run
		}
	}
	if len(parts) > 0 {
		id := k.nextID(f.number)
		if err := k.rollUp(f, parts, id); err != nil {
			return err
		}
		by := k.files[id]
		told.New = path.Base(by.name)
		if told.NewKey, err = atrest.KeyIDOf(by.handle()); err != nil {
			return err
		}
	}
	for _, pt := range parts {
		if pt.shred != nil && pt.shred.Records > 0 {
			told.Records[pt.p.ID] = pt.shred.Records
		}
	}
	k.drop(f)
	if sh.job.Rewritten != nil {
		sh.job.Rewritten(told)
	}
	return nil
}

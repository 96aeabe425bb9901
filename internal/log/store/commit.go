package store

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// writer is the journal as the committer sees it.
type writer struct {
	*journal.Writer
	file   *file
	broken bool  // the file must take no more frames
	begun  int64 // a sync of all below has begun
	lanes  lanes
	// loose has the first offset of each partition that was acknowledged and is not on stable storage: of memory topics.
	loose map[*partition.Partition]record.Offset
}

// spare is a prepared file that waits to become the next journal.
type spare struct {
	name   string
	handle vfs.File
	space  journal.Space
}

// commitLoop is the committer: it takes what has gathered, writes it as one frame, syncs, and hands it to
// the announcer. Where syncs take long it does not wait for one before it writes the next (underway.go).
func (s *Store) commitLoop() {
	defer close(s.announceq)
	defer func() { s.writer.lanes.close() }()
	var turns []*stream.Turn
	for {
		g, called, more := s.take(turns[:0])
		if !more {
			return
		}
		callTurns(called)
		clear(called)
		turns = called
		if g != nil {
			s.commit(g)
		}
		if err := s.handOver(); err != nil {
			_ = s.drain() // what is behind it is lost too, whatever became of it
			s.failed(nil, err)
		}
	}
}

// take waits for the open group to hold something, and for a group to put in its place, and gives the turns
// of those who have room then. The group is nil when a sync has ended. There is no more when the log closes and all
// is written.
func (s *Store) take(turns []*stream.Turn) (g *group, called []*stream.Turn, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		empty, least := s.mu.open.empty(), s.leastLocked()
		switch {
		case s.oldestEnded():
			return nil, turns, true
		case empty && s.mu.closing && len(s.underWay) == 0:
			return nil, turns, false
		case !empty && (least == 1 || len(s.mu.open.receipts) >= least) && !s.heldLocked():
			return s.swapLocked(), s.mu.line.Next(s.opt.GroupBytes, turns), true
		case empty && s.mu.line.Len() > 0 && (s.mu.late || !s.mu.line.Called()):
			s.mu.line.Forget() // those who were called did not come
			turns = s.mu.line.Next(s.opt.GroupBytes, turns)
			s.mu.Unlock()
			callTurns(turns)
			s.mu.Lock()
			clear(turns)
			turns = turns[:0]
		default:
			s.waitLocked(least, empty && s.mu.line.Len() > 0)
		}
	}
}

// waitLocked waits until there may be something to do: so many units in the open group, or a sync or the announcer are
// through. If it waits for those who were called, it waits no longer than ComeTime.
func (s *Store) waitLocked(least int, called bool) {
	s.mu.late = false
	if called {
		defer time.AfterFunc(s.opt.ComeTime, s.giveUp).Stop()
	}
	s.mu.waiting, s.mu.least = true, least
	s.work.Wait()
	s.mu.waiting, s.mu.least = false, never
}

// giveUp ends the waiting for those who were called.
func (s *Store) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.late = true
	s.work.Signal()
}

// heldLocked tells whether the open group waits for the housekeeper. What that itself waits for does not, nor what
// makes room, nor what comes before the end.
func (s *Store) heldLocked() bool {
	return s.mu.held && s.mu.open.barrier == nil && !s.mu.open.urgent && !s.mu.closing
}

// hold makes the committer wait, or lets it go on.
func (s *Store) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.held = held
	if s.mu.waiting {
		s.work.Signal()
	}
}

// callTurns tells those who waited that there is room. It must not be called with the group lock held.
func callTurns(turns []*stream.Turn) {
	for _, t := range turns {
		t.Roomy()
	}
}

// swapLocked opens a new group and returns the one that was open.
func (s *Store) swapLocked() *group {
	g := s.mu.open
	s.mu.groups++
	if n := len(s.mu.free); n > 0 {
		s.mu.open, s.mu.free = s.mu.free[n-1], s.mu.free[:n-1]
	} else {
		s.mu.open = &group{}
	}
	s.mu.open.reset(s.mu.groups)
	s.crowded.Store(false)
	return g
}

// giveBack returns an announced group.
func (s *Store) giveBack(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.free) < groupsKept {
		s.mu.free = append(s.mu.free, g)
	}
	if s.mu.waiting {
		s.work.Signal()
	}
}

// commit writes a group and makes it as durable as it asks, or begins to. It is handed over when it is.
func (s *Store) commit(g *group) {
	g.seal(s.epoch, s.opt.Clock().UnixMilli())
	err := s.write(g)
	if err == nil {
		g.advance()
		err = s.store(g)
	}
	if err != nil {
		_ = s.drain() // one before it may have failed as well: both are lost
		s.failed(g, err)
	}
}

// write puts the frame of a group into the journal. A group that writes nothing, because it only answers duplicates
// or takes a checkpoint, asks for what was written before it.
func (s *Store) write(g *group) error {
	if g.roll && !s.writer.broken && !s.writer.Empty() {
		if err := s.roll(g); err != nil {
			return err
		}
	}
	if g.frame.Empty() {
		if g.disk = true; s.writer.broken {
			return fault.New(fault.ReadOnly, "store.Commit", "the journal is broken")
		}
		return nil
	}
	if s.writer.broken || !s.writer.Fits(&g.frame) {
		if err := s.roll(g); err != nil {
			return err
		}
	}
	if err := s.writer.Write(&g.frame); err != nil {
		s.writer.broken = true
		return err
	}
	return nil
}

// sync puts the journal on stable storage. It is never tried again on a file that failed.
func (s *Store) sync() error {
	began := time.Now()
	if err := s.writer.Sync(); err != nil {
		s.writer.broken = true
		return err
	}
	clear(s.writer.loose)
	s.writer.begun = s.writer.End()
	took := time.Since(began)
	s.pace.alone(took)
	s.metrics.sync.Observe(took.Seconds())
	return nil
}

// roll ends the journal file and begins the next, large enough for the group.
func (s *Store) roll(g *group) error {
	if err := s.drain(); err != nil {
		return err
	}
	need := journal.HeaderBytes + g.frame.Most()
	if !s.writer.broken && s.writer.Synced() < s.writer.End() {
		if err := s.sync(); err != nil { // frames of memory topics: the next file vouches for them
			return err
		}
	}
	old := s.writer
	lost := old.fillers(s.epoch, s.opt.Clock().UnixMilli())
	filling := frameOf(lost)
	next, err := s.housekeeper.takeSpare(need+filling.Most(), g.urgent)
	if err != nil {
		return err
	}
	h := old.after()
	old.file.replaced = h.Number == old.Number()
	w, err := s.startJournal(next, h, old.Seq())
	if err != nil {
		s.housekeeper.discard(next)
		old.broken = true // the header may be on the disk, and it says where the old file ended
		return err
	}
	old.lanes.close()
	old.file.end, old.file.broken = old.Synced(), old.broken
	g.sealed, g.lost = old.file, lost
	s.writer, w.loose = w, old.loose
	return w.fill(lost, filling)
}

// startJournal makes a spare the journal that h describes. Its name is on stable storage before anything
// in it can be.
func (s *Store) startJournal(next spare, h journal.Header, seq uint64) (*writer, error) {
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fault.Wrap(fault.Internal, "store.Journal", err)
	}
	h.Nonce = binary.LittleEndian.Uint64(nonce[:])
	handle, err := s.sealed(next.handle, &h)
	if err != nil {
		return nil, err
	}
	err = s.fs.Rename(next.name, journalName(h.Number))
	if err == nil {
		err = s.fs.SyncDir(logDir)
	}
	if err != nil {
		return nil, err
	}
	w, err := journal.Start(handle, h, next.space, seq, s.stage)
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, file: newJournalFile(s, h.Number, handle)}, nil
}

// failed gives the error to everybody in the groups that could not be made durable: those that are still under way,
// none of whose syncs runs any more, and one that was to follow them, if any. It gives it to everybody who came behind
// them as well: idempotent batches there were judged as if these stood. Appends are refused from now on, until the
// housekeeper has found a place to write again.
func (s *Store) failed(g *group, cause error) {
	s.opt.Logger.Error("commit failed: appends are refused until the journal can be written again",
		"error", cause, "hint", fault.HintOf(cause))
	refused := refusal(cause)
	if fault.Is(cause, fault.Full) {
		cause = refused // who waited is told what to do, as who comes now
	}
	lost := s.underWay
	if g != nil {
		lost = append(lost, g)
	}
	for _, g := range slices.Backward(lost) {
		g.retreat()
	}
	s.mu.Lock()
	behind := s.swapLocked()
	if s.mu.refuse == nil {
		s.mu.refuse = refused
	}
	for _, p := range *s.parts.Load() {
		if p != nil {
			p.Producers.Rollback(lost[0].number)
		}
	}
	s.mu.producers.rollback(lost[0].number)
	turns := s.mu.line.Next(math.MaxInt64, nil)
	s.mu.Unlock()
	callTurns(turns)
	for _, g := range append(lost, behind) {
		g.err = cause
		s.announceq <- g
	}
	s.underWay = s.underWay[:0]
	s.housekeeper.repair()
}

// refusal is what appends are told after a commit failed.
func refusal(cause error) error {
	if fault.Is(cause, fault.Full) {
		return fault.New(fault.Full, "log.Append", "the disk is full: %w", cause).
			WithHint("free space, delete topics or lower what they retain; writing resumes by itself")
	}
	return fault.New(fault.ReadOnly, "log.Append", "the journal cannot be written: %w", cause).
		WithHint("look at the disk; writing resumes by itself when it can be written again")
}

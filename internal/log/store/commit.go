package store

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// logDir is the folder of journals and segments.
const logDir = "log"

// writer is the journal as the committer sees it.
type writer struct {
	*journal.Writer
	file   *file
	broken bool // the file must take no more frames
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
// the announcer.
func (s *Store) commitLoop() {
	defer close(s.announceq)
	var turns []*stream.Turn
	for {
		var g *group
		if g, turns = s.take(turns[:0]); g == nil {
			return
		}
		callTurns(turns)
		clear(turns)
		g.err = s.commit(g)
		if g.err != nil {
			s.failed(g)
			continue
		}
		s.announceq <- g
	}
}

// take waits for the open group to hold something, and for a group to put in its place, and gives the turns
// of those who have room then. The group is nil when the log closes and all is written.
func (s *Store) take(turns []*stream.Turn) (*group, []*stream.Turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.mu.open.empty() || len(s.mu.free) == 0 || s.heldLocked() {
		if s.mu.open.empty() && s.mu.closing {
			return nil, turns
		}
		if s.mu.open.empty() && s.mu.line.Len() > 0 { // those who were called did not come
			turns = s.mu.line.Next(s.opt.GroupBytes, turns)
			s.mu.Unlock()
			callTurns(turns)
			s.mu.Lock()
			clear(turns)
			turns = turns[:0]
			continue
		}
		s.mu.waiting = true
		s.work.Wait()
		s.mu.waiting = false
	}
	g := s.swapLocked()
	return g, s.mu.line.Next(s.opt.GroupBytes, turns)
}

// heldLocked tells whether the open group waits for the keeper. What the keeper itself waits for does not, nor what
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
	if len(s.mu.free) < 2 {
		s.mu.free = append(s.mu.free, g)
	}
	if s.mu.waiting {
		s.work.Signal()
	}
}

// commit makes a group as durable as it asks.
func (s *Store) commit(g *group) error {
	g.seal(s.epoch, s.opt.Clock().UnixMilli())
	if g.frame.Empty() {
		return s.settled(g) // only duplicates to answer, or a checkpoint to take
	}
	if s.writer.broken || g.frame.Size() > s.writer.Room() {
		if err := s.roll(g); err != nil {
			return err
		}
	}
	g.file = s.writer.file
	if err := s.writer.Write(&g.frame); err != nil {
		s.writer.broken = true
		return err
	}
	if g.disk {
		if err := s.sync(); err != nil {
			return err
		}
	} else {
		s.writer.loosen(g)
	}
	g.end = s.writer.End()
	g.advance()
	return nil
}

// settled makes what was written before durable, for a group that writes nothing itself.
func (s *Store) settled(g *group) error {
	if s.writer.broken {
		return fault.New(fault.ReadOnly, "store.Commit", "the journal is broken")
	}
	if s.writer.Synced() < s.writer.End() {
		if err := s.sync(); err != nil {
			return err
		}
	}
	g.file, g.end = s.writer.file, s.writer.End()
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
	s.metrics.sync.Observe(time.Since(began).Seconds())
	return nil
}

// roll ends the journal file and begins the next, large enough for the group.
func (s *Store) roll(g *group) error {
	need := journal.HeaderBytes + g.frame.Size()
	if !s.writer.broken && s.writer.Synced() < s.writer.End() {
		if err := s.sync(); err != nil { // frames of memory topics: the next file vouches for them
			return err
		}
	}
	old := s.writer
	lost := old.fillers(s.epoch, s.opt.Clock().UnixMilli())
	filling := frameOf(lost)
	next, err := s.keeper.takeSpare(need+filling.Size(), g.urgent)
	if err != nil {
		return err
	}
	h := old.after()
	old.file.replaced = h.Number == old.Number()
	w, err := s.startJournal(next, h, old.Seq())
	if err != nil {
		s.keeper.discard(next)
		old.broken = true // the header may be on the disk, and it says where the old file ended
		return err
	}
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
	err := s.fs.Rename(next.name, journalName(h.Number))
	if err == nil {
		err = s.fs.SyncDir(logDir)
	}
	if err != nil {
		return nil, err
	}
	w, err := journal.Start(next.handle, h, next.space, seq, s.stage)
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, file: newJournalFile(s, h.Number, next.handle)}, nil
}

// failed gives the error to everybody in a group that could not be made durable and to everybody who came
// behind it: idempotent batches there were judged as if this one stood. Appends are refused from now on,
// until the keeper has found a place to write again.
func (s *Store) failed(g *group) {
	s.opt.Logger.Error("commit failed: appends are refused until the journal can be written again",
		"error", g.err, "hint", fault.HintOf(g.err))
	refused := refusal(g.err)
	if fault.Is(g.err, fault.Full) {
		g.err = refused // who waited is told what to do, as who comes now
	}
	s.mu.Lock()
	behind := s.swapLocked()
	behind.err = g.err
	if s.mu.refuse == nil {
		s.mu.refuse = refused
	}
	for _, p := range *s.parts.Load() {
		if p != nil {
			p.Producers.Rollback(g.number)
		}
	}
	turns := s.mu.line.Next(math.MaxInt64, nil)
	s.mu.Unlock()
	callTurns(turns)
	s.announceq <- g
	s.announceq <- behind
	s.keeper.repair()
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

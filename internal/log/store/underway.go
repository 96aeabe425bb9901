package store

import (
	"math"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
)

// Where the disk takes long for a sync, commits go side by side: while the frame of one is being made durable the
// next is written, and its sync begins. They are announced in order. A crash may leave a hole, a frame that is lost
// before one that is there: each frame says up to where its writer knew the file to be durable, so that a hole is
// the end and not damage (docs/design/0002-commit.md).
const (
	mostUnderWay = 4                // commits side by side
	groupsKept   = mostUnderWay + 1 // besides the open one; one is being announced

	never = math.MaxInt // units

	// A disk is slow when so many syncs in a row took Options.SlowSync or longer, each alone. Every so many commits one
	// goes alone again, to see.
	slowSyncs  = 4
	aloneEvery = 64
)

// pace judges by the syncs whether commits go side by side.
type pace struct {
	slow  time.Duration // what a sync takes at least on a slow disk
	row   int           // syncs in a row that took so long
	since int           // commits since one went alone
}

// alone notes how long a sync took that none went beside.
func (p *pace) alone(took time.Duration) {
	p.since = 0
	if p.row++; took < p.slow {
		p.row = 0
	}
}

// beside tells whether the next commit may go beside others.
func (p *pace) beside() bool { return p.row >= slowSyncs && p.since < aloneEvery }

// lane is an open file of a journal with a goroutine that syncs it, one group after the other.
type lane struct {
	file   vfs.File
	groups chan *group
}

// lanes are as many as there were syncs side by side. The system tells each open file once that something could not be
// stored: with one for all, a sync might hear nothing of what another was told.
type lanes struct {
	all  []*lane
	free []*lane
}

// lane gives a lane of the journal that is free, or opens one. Errors: those of FS.OpenWrite.
func (s *Store) lane() (*lane, error) {
	ls := &s.writer.lanes
	if n := len(ls.free); n > 0 {
		l := ls.free[n-1]
		ls.free = ls.free[:n-1]
		return l, nil
	}
	f, err := s.raw.OpenWrite(s.writer.file.name)
	if err != nil {
		return nil, err
	}
	l := &lane{file: f, groups: make(chan *group, 1)}
	ls.all = append(ls.all, l)
	s.done.Go(func() { s.syncLoop(l) })
	return l, nil
}

// syncLoop is the goroutine of a lane.
func (s *Store) syncLoop(l *lane) {
	for g := range l.groups {
		began := time.Now()
		if g.err = l.file.Sync(); g.err == nil {
			s.metrics.sync.Observe(time.Since(began).Seconds())
		}
		s.mu.Lock()
		g.ended.Store(true)
		if s.mu.waiting {
			s.work.Signal()
		}
		s.mu.Unlock()
	}
	_ = l.file.Close() // nothing was written by it
}

// close ends the lanes. None has a sync under way.
func (ls *lanes) close() {
	for _, l := range ls.all {
		close(l.groups)
	}
	ls.all, ls.free = nil, nil
}

// leastLocked is how many units have to wait in the open group for a commit to begin now: one, or beside others half
// as many, for a sync costs the processor as much for one as for a thousand. It needs the group lock.
func (s *Store) leastLocked() int {
	units, bytes := 0, s.mu.open.bytes
	for _, g := range s.underWay {
		units, bytes = units+len(g.receipts), bytes+g.bytes
	}
	switch n := len(s.underWay); {
	case len(s.mu.free) == 0:
		return never
	case n == 0:
		return 1
	case n == mostUnderWay, !s.pace.beside(), bytes > s.opt.GroupBytes:
		return never
	}
	return max(1, units/2)
}

func (s *Store) oldestEnded() bool { return len(s.underWay) > 0 && s.underWay[0].ended.Load() }

// store makes a group whose frame is written as durable as it asks, or begins to.
func (s *Store) store(g *group) error {
	w := s.writer
	g.file, g.end = w.file, w.End()
	ended := !g.disk || w.begun == g.end
	if !ended && !s.syncBeside(g) {
		if err := s.drain(); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
		ended = true
	}
	if ended {
		g.ended.Store(true)
	}
	s.underWay = append(s.underWay, g)
	return nil
}

// syncBeside begins a sync of all that is written, unless it shall go alone.
func (s *Store) syncBeside(g *group) bool {
	if !s.pace.beside() {
		return false
	}
	l, err := s.lane()
	if err != nil {
		return false // no descriptor is left; it goes alone
	}
	s.pace.since++
	s.writer.begun, g.lane = g.end, l
	l.groups <- g
	return true
}

// handOver gives the announcer, in order, what is as durable as it asks. Its error is that of the oldest group under
// way: it is not durable, and none behind it is announced.
func (s *Store) handOver() error {
	for s.oldestEnded() {
		g := s.underWay[0]
		if g.lane != nil {
			s.writer.lanes.free = append(s.writer.lanes.free, g.lane)
			g.lane = nil
		}
		if g.err != nil {
			s.writer.broken = true
			return g.err
		}
		if g.disk {
			s.writer.Stable(g.end)
			clear(s.writer.loose)
		} else {
			s.writer.loosen(g)
		}
		s.underWay = append(s.underWay[:0], s.underWay[1:]...)
		s.announceq <- g
	}
	return nil
}

// drain waits for all syncs and hands over what is durable. Its error is that of handOver.
func (s *Store) drain() error {
	for _, g := range s.underWay {
		if g.ended.Load() {
			continue
		}
		s.mu.Lock()
		for !g.ended.Load() {
			s.mu.waiting = true
			s.work.Wait()
			s.mu.waiting = false
		}
		s.mu.Unlock()
	}
	return s.handOver()
}

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

// lanes are open files of one journal, one for each sync that goes beside others. The system tells each open file once
// that something could not be stored: with one for all, a sync might hear nothing of what another was told.
type lanes struct {
	all  []vfs.File
	free []vfs.File
}

// take gives a lane that is free.
func (l *lanes) take(fs vfs.FS, name string) (vfs.File, error) {
	if n := len(l.free); n > 0 {
		f := l.free[n-1]
		l.free = l.free[:n-1]
		return f, nil
	}
	f, err := fs.OpenWrite(name)
	if err == nil {
		l.all = append(l.all, f)
	}
	return f, err
}

func (l *lanes) giveBack(f vfs.File) {
	if f != nil {
		l.free = append(l.free, f)
	}
}

func (l *lanes) close() {
	for _, f := range l.all {
		_ = f.Close() // nothing was written by it
	}
	l.all, l.free = nil, nil
}

// leastLocked is how many units have to wait in the open group for a commit to begin now: one, or beside others a
// fraction of theirs, for a sync costs the processor as much for one as for a thousand. It needs the group lock.
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
	return max(1, units/mostUnderWay)
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
	lane, err := s.writer.lanes.take(s.fs, s.writer.file.name)
	if err != nil {
		return false // no descriptor is left; it goes alone
	}
	s.pace.since++
	s.writer.begun, g.lane = g.end, lane
	s.done.Go(func() {
		began := time.Now()
		if g.err = lane.Sync(); g.err == nil {
			s.metrics.sync.Observe(time.Since(began).Seconds())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		g.ended.Store(true)
		if s.mu.waiting {
			s.work.Signal()
		}
	})
	return true
}

// handOver gives the announcer, in order, what is as durable as it asks. Its error is that of the oldest group under
// way: it is not durable, and none behind it is announced.
func (s *Store) handOver() error {
	for s.oldestEnded() {
		g := s.underWay[0]
		s.writer.lanes.giveBack(g.lane)
		g.lane = nil
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

package share

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
)

// What is stored of a Queue (docs/format/share-groups.md): a snapshot has its Next and the records that are open, in
// runs, with how often each was delivered; a delta has what changed since the record before it. Who reads it back has
// all that was open released. Dead records are stored as done where the dead-letter records are part of the same write.

const (
	queueVersion = 1

	kindSnapshot = 0
	kindDelta    = 1

	doneRun = 0 // in place of the deliveries of a run: it is done with
)

// Form is what a state is written as.
type Form struct {
	Delta bool   // what changed since the state was last written; else all
	Base  uint64 // number of the snapshot that it is, or follows
	Epoch uint32 // of the state: a new one begins when its offset is set
	Dead  []Dead // that are done with it
}

// AppendTo appends what is to be stored, in a form. With it the state counts as written; Written tells whether it was.
func (q *Queue) AppendTo(b []byte, f Form) []byte {
	kind := byte(kindSnapshot)
	if f.Delta {
		kind = kindDelta
	}
	q.flying, q.acked = q.acked, q.flying[:0]
	start := q.startWithout(f.Dead)
	b = append(b, queueVersion, kind)
	b = binary.AppendUvarint(b, f.Base)
	b = binary.AppendUvarint(b, uint64(f.Epoch))
	b = binary.AppendUvarint(b, uint64(start))
	b = binary.AppendUvarint(b, uint64(q.p.next-start))
	return q.appendRuns(b, start, f)
}

// startWithout is Start, with dead records as done.
func (q *Queue) startWithout(dead []Dead) int64 {
	for i := range q.p.entries {
		if e := &q.p.entries[i]; !e.done && !buried(dead, e.offset) {
			return e.offset
		}
	}
	return q.p.next
}

func buried(dead []Dead, offset int64) bool {
	_, is := slices.BinarySearchFunc(dead, offset, func(d Dead, offset int64) int {
		switch {
		case d.Last < offset:
			return -1
		case d.First > offset:
			return 1
		}
		return 0
	})
	return is
}

// appendRuns appends the runs: how far each is behind the one before, how long it is, and its deliveries.
func (q *Queue) appendRuns(b []byte, start int64, f Form) []byte {
	runs, at := []byte(nil), start
	count := uint64(0)
	var run Delivery
	flush := func() {
		if run.Last < run.First {
			return
		}
		runs = binary.AppendUvarint(runs, uint64(run.First-at))
		runs = binary.AppendUvarint(runs, uint64(run.Last-run.First+1))
		runs = binary.AppendUvarint(runs, uint64(run.Count))
		at = run.Last + 1
		count++
	}
	run.Last = run.First - 1
	for i := range q.p.entries {
		e := &q.p.entries[i]
		fresh, times := e.fresh, e.times
		e.fresh = false
		if e.done || buried(f.Dead, e.offset) {
			times = doneRun
		}
		if e.offset < start || f.Delta && !fresh || !f.Delta && times == doneRun {
			continue
		}
		if run.Last == e.offset-1 && run.Count == times && run.Last >= run.First {
			run.Last = e.offset
			continue
		}
		flush()
		run = Delivery{Span{e.offset, e.offset}, times}
	}
	flush()
	q.tidy()
	return append(binary.AppendUvarint(b, count), runs...)
}

// tidy clears away what is done with and written.
func (q *Queue) tidy() {
	done := len(q.p.entries) - q.p.open
	if q.p.open == 0 || done > keptDone && done > len(q.p.entries)/2 {
		q.p.entries = slices.DeleteFunc(q.p.entries, func(e entry) bool { return e.done && !e.fresh })
	}
	if cap(q.p.entries) > keptEntries && len(q.p.entries) < cap(q.p.entries)/4 {
		q.p.entries = slices.Clone(q.p.entries)
	}
}

// keptEntries is for how many records a queue keeps the memory it once had.
const keptEntries = 64

// Saved is a stored state, read.
type Saved struct {
	Delta bool
	Base  uint64
	Epoch uint32
	start int64
	next  int64
	runs  []Delivery
}

// ParseSaved reads what AppendTo wrote. It allocates no more than some times the bytes that it is given. Errors:
// Unsupported, for a version that is not known; Corrupt.
func ParseSaved(b []byte) (*Saved, error) {
	const op = "share.ParseSaved"
	corrupt := fault.New(fault.Corrupt, op, "a state of %d bytes that is cut short or out of range", len(b))
	switch {
	case len(b) < 2:
		return nil, corrupt
	case b[0] != queueVersion || b[1] > kindDelta:
		return nil, fault.New(fault.Unsupported, op, "version %d, kind %d", b[0], b[1])
	}
	r := numbers{b: b[2:]}
	s := &Saved{Delta: b[1] == kindDelta, Base: r.take(math.MaxUint64), Epoch: uint32(r.take(math.MaxUint32))}
	s.start = int64(r.take(math.MaxInt64))
	s.next = s.start + int64(r.take(uint64(math.MaxInt64-s.start)))
	at, open := s.start, uint64(0)
	for count := r.take(uint64(len(r.b))); count > 0 && !r.bad; count-- {
		first := at + int64(r.take(uint64(s.next-at)))
		length := r.take(uint64(s.next - first))
		times := r.take(math.MaxUint16)
		if length == 0 || times == doneRun && !s.Delta {
			return nil, corrupt
		}
		if open += length; open > MaxOpen {
			return nil, corrupt
		}
		at = first + int64(length)
		s.runs = append(s.runs, Delivery{Span{first, at - 1}, uint16(times)})
	}
	if r.bad || len(r.b) > 0 {
		return nil, corrupt
	}
	return s, nil
}

// numbers reads uvarints, each up to a bound. After the first fault it is bad and gives zeros.
type numbers struct {
	b   []byte
	bad bool
}

func (r *numbers) take(most uint64) uint64 {
	n, width := binary.Uvarint(r.b)
	if width <= 0 || n > most || r.bad {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[width:]
	return n
}

// Restore makes a queue of a snapshot: what was open is released.
func (s *Saved) Restore() *Queue {
	q := NewQueue(s.start)
	q.apply(s)
	return q
}

// Apply takes in a delta that follows what the queue is.
func (q *Queue) Apply(s *Saved) { q.apply(s) }

func (q *Queue) apply(s *Saved) {
	old := q.p.entries
	all := make([]entry, 0, len(old))
	keep := func(until int64) {
		for len(old) > 0 && old[0].offset < until {
			if !old[0].done && old[0].offset >= s.start {
				all = append(all, old[0])
			}
			old = old[1:]
		}
	}
	for _, run := range s.runs {
		keep(run.First)
		for len(old) > 0 && old[0].offset <= run.Last {
			old = old[1:]
		}
		for offset := run.First; offset <= run.Last && run.Count != doneRun; offset++ {
			all = append(all, entry{offset: offset, times: run.Count})
		}
	}
	keep(math.MaxInt64)
	if len(all) > MaxOpen { // only what was made up has so many: what is left is given out again
		all = all[:MaxOpen]
		s.next = all[MaxOpen-1].offset + 1
	}
	q.p = Partition{next: s.next, entries: all, open: len(all), free: len(all)}
}

// Runs is about how many runs a snapshot would have.
func (q *Queue) Runs() (n int) {
	last := int64(math.MinInt64)
	times := uint16(0)
	for i := range q.p.entries {
		e := &q.p.entries[i]
		if e.done {
			continue
		}
		if e.offset != last+1 || e.times != times {
			n++
		}
		last, times = e.offset, e.times
	}
	return n
}

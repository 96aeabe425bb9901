package store

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/segment"
)

// How records that lie in files are brought into the system's cache before they are loaded.
const (
	bringBytes     = 1 << 20   // are brought at once
	mostLead       = 32 << 20  // of what is likely to be asked for next
	mostHole       = 256 << 10 // between two parts of a run
	mostRuns       = 64        // that are known to be there
	mostWanted     = 1 << 10   // parts of runs that memory is kept for
	mostThere      = 16 << 20  // brought in a row although they were in the cache: the system may have asked for some
	mostReadaheads = 4         // that bring at the same time; other readers do without

	// linger is how long a goroutine waits for more, with its file: a reader that is catching up comes back soon, and
	// the system needs some megabytes through one descriptor until it reads in large pages.
	linger = 50 * time.Millisecond

	// Loading a KiB takes longer than slowLoad if it comes from a disk, bringing it longer than slowBring. Loads of
	// less than leastLoad tell nothing.
	leastLoad = 64 << 10
	slowLoad  = 400 * time.Nanosecond
	slowBring = 150 * time.Nanosecond

	// A load that takes longer than slowDisk has waited for a disk that is better told of short runs as well. It is told
	// for slowTime; then a load shows whether that still pays. To tell a quick disk costs as much CPU as to read from
	// it: the kernel takes single pages where a read takes large folios.
	slowDisk = 5 * time.Millisecond
	slowTime = time.Second
)

// Readahead brings what one reader loads into the system's cache, in the order of the file and before it is loaded.
// The batches of one partition lie apart in a journal: to the system its reads look random, and it brings them late
// and in single pages. Those of all partitions that a reader asks for are one run of the file. It begins when a load
// waited for the disk, and ends when what it brings turns out to be in the cache. The zero value is ready for use;
// one goroutine uses it.
type Readahead struct {
	store  *Store
	wanted []run     // since the last Start
	lead   int64     // bytes of it that were not asked for yet
	cold   bool      // a load waited for the disk
	slow   time.Time // when it last waited long

	mu    sync.Mutex
	moved *sync.Cond
	runs  []run // what is brought, in this order
	at    int   // of runs: those before are there
	front int64 // of runs[at]: what lies before is there
	busy  bool  // a goroutine brings them, or waits for more
	more  chan struct{}
	there int64 // bytes brought last that were in the cache already, in a row
}

// run is a part of a file.
type run struct {
	file     *file
	pos, end int64
}

// meets tells whether some of the bytes from pos to end of a file are in the run.
func (x *run) meets(f *file, pos, end int64) bool { return x.file == f && pos < x.end && x.pos < end }

// Want tells of a stretch that will be loaded. What follows it is likely to be asked for next.
func (r *Readahead) Want(st *Stretch) {
	st.ahead = r
	if !r.cold {
		return
	}
	if r.store == nil {
		r.store = st.store
	}
	extents, next := st.Extents()
	r.want(st.file(), extents)
	if r.lead >= mostLead {
		return
	}
	r.lead += r.want(st.file(), next)
	if f, then := st.Beyond(); f != nil {
		r.lead += r.want(f.(*file), then) //nolint:errcheck // the files of a store are its own
	}
}

func (r *Readahead) want(f *file, extents []segment.Extent) (bytes int64) {
	for i := range extents {
		e := &extents[i]
		if i > 0 && extents[i-1].Near(e) {
			r.wanted[len(r.wanted)-1].end = e.End()
		} else {
			r.wanted = append(r.wanted, run{f, e.Pos, e.End()})
		}
		bytes += int64(e.Len)
	}
	return bytes
}

// Start begins to bring what Want told of.
func (r *Readahead) Start() {
	runs := r.wanted
	r.wanted, r.lead = r.wanted[:0], 0
	if len(runs) == 0 {
		return
	}
	if cap(r.wanted) > mostWanted {
		r.wanted = nil
	}
	runs = slices.DeleteFunc(join(runs), r.short)
	if r.take(runs) && !r.store.readAhead(r) {
		r.leave()
	}
}

// short tells whether a run is too short to be brought. A slow disk is told of it: it finds its own order.
func (r *Readahead) short(x run) bool {
	if x.end-x.pos >= r.store.opt.ReadaheadBytes {
		return false
	}
	if time.Since(r.slow) < slowTime {
		vfs.Ahead(x.file.handle(), x.pos, x.end-x.pos)
	}
	return true
}

// take takes runs to bring, and tells whether that needs a goroutine.
func (r *Readahead) take(runs []run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.there > mostThere {
		r.there, r.cold = 0, false
		return false
	}
	r.forget()
	for _, x := range runs {
		if x = r.missing(x); x.pos < x.end {
			r.add(x)
		}
	}
	if r.at == len(r.runs) {
		return false
	}
	if r.busy {
		select {
		case r.more <- struct{}{}:
		default:
		}
		return false
	}
	if r.moved == nil {
		r.moved, r.more = sync.NewCond(&r.mu), make(chan struct{}, 1)
	}
	r.busy = true
	return true
}

// readAhead starts the goroutine of r, if there are not too many and the log is not closing.
func (s *Store) readAhead(r *Readahead) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closing || s.mu.readaheads == mostReadaheads {
		return false
	}
	s.mu.readaheads++
	s.done.Go(func() {
		r.bring()
		s.mu.Lock()
		s.mu.readaheads--
		s.mu.Unlock()
	})
	return true
}

// join makes runs of parts that lie close to one another, in the order of the file. A hole is read along where it is
// no larger than what is wanted before it.
func join(parts []run) []run {
	slices.SortFunc(parts, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.file.number, b.file.number), cmp.Compare(a.pos, b.pos))
	})
	runs := parts[:1]
	last := parts[0].end - parts[0].pos
	for _, p := range parts[1:] {
		x := &runs[len(runs)-1]
		if hole := p.pos - x.end; p.file != x.file || hole > min(last, mostHole) {
			runs = append(runs, p)
		} else {
			x.end = max(x.end, p.end)
		}
		last = p.end - p.pos
	}
	return runs
}

// forget drops the oldest runs that are there.
func (r *Readahead) forget() {
	if old := min(r.at, len(r.runs)-mostRuns); old > 0 {
		r.runs = slices.Delete(r.runs, 0, old)
		r.at -= old
	}
}

// leave drops what nobody will bring.
func (r *Readahead) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs, r.busy = r.runs[:r.at], false
}

// missing is the part of a run behind what is brought already.
func (r *Readahead) missing(x run) run {
	for i := range r.runs {
		if o := &r.runs[i]; o.meets(x.file, x.pos, x.pos+1) {
			x.pos = min(o.end, x.end)
		}
	}
	return x
}

// add puts a run behind those that are brought.
func (r *Readahead) add(x run) {
	if r.runs = append(r.runs, x); r.at == len(r.runs)-1 {
		r.front = x.pos
	}
}

// bring is the goroutine of a Readahead. It ends when nothing more came for a while.
func (r *Readahead) bring() {
	var b bringer
	defer b.close()
	idle := time.NewTimer(linger)
	defer idle.Stop()
	for !r.end() {
		for x, from := r.next(); from < x.end; x, from = r.next() {
			to := min(from+bringBytes, x.end)
			quick, err := b.bring(x.file, from, to)
			if err != nil {
				to = x.end
			}
			r.brought(to, quick)
		}
		idle.Reset(linger)
		select {
		case <-r.more:
		case <-idle.C:
		case <-r.store.closes:
		}
	}
}

// end ends the goroutine if there is nothing to do.
func (r *Readahead) end() bool {
	closing := r.store.closing()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at < len(r.runs) && !closing {
		return false
	}
	r.busy = false
	r.moved.Broadcast()
	return true
}

// next is the run that is being brought and from where on; an empty one if there is none, or the log is closing.
func (r *Readahead) next() (x run, from int64) {
	closing := r.store.closing()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == len(r.runs) || closing {
		return run{}, 0
	}
	return r.runs[r.at], r.front
}

// brought tells that a run is there up to a place.
func (r *Readahead) brought(to int64, quick bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.there += to - r.front; !quick {
		r.there = 0
	}
	if r.front = to; to == r.runs[r.at].end {
		if r.at++; r.at < len(r.runs) {
			r.front = r.runs[r.at].pos
		}
	}
	r.moved.Broadcast()
}

// wait returns when the bytes from pos to end of a file are there, unless nobody brings them.
func (r *Readahead) wait(f *file, pos, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy && r.due(f, pos, end) {
		r.moved.Wait()
	}
}

func (r *Readahead) due(f *file, pos, end int64) bool {
	for i, x := range r.runs[r.at:] {
		if x.meets(f, pos, end) {
			return i > 0 || r.front < min(end, x.end)
		}
	}
	return false
}

// loaded tells how long a load took.
func (r *Readahead) loaded(bytes int, took time.Duration) {
	r.cold = r.cold || bytes >= leastLoad && took > slowLoad*time.Duration(bytes>>10)
	if took > slowDisk {
		r.slow = time.Now()
	}
}

// bringer brings bytes of one file after the other, which it keeps from going meanwhile.
type bringer struct {
	file *file
	from vfs.Prefetch
}

var errGone = errors.New("the file went")

// bring tells whether the bytes were in the cache already.
func (b *bringer) bring(f *file, from, to int64) (quick bool, err error) {
	if b.file != f {
		b.close()
		if !f.Acquire() {
			return false, errGone
		}
		if b.from, err = vfs.NewPrefetch(f.handle()); err != nil {
			f.Release()
			return false, err
		}
		b.file = f
	}
	began := time.Now()
	err = b.from.Bring(from, to-from)
	return time.Since(began) < slowBring*time.Duration((to-from)>>10), err
}

func (b *bringer) close() {
	if b.file != nil {
		_ = b.from.Close() // nothing was written
		b.file.Release()
		b.file = nil
	}
}

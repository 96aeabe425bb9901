package store

import (
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
)

const mib = 1 << 20

func TestJoinRuns(t *testing.T) {
	a, b := &file{fileID: fileID{number: 1}}, &file{fileID: fileID{number: 2}}
	for name, c := range map[string]struct{ parts, want []run }{
		"one":           {[]run{{a, 5, 9}}, []run{{a, 5, 9}}},
		"in file order": {[]run{{b, 0, 10}, {a, 10, 20}, {a, 0, 10}}, []run{{a, 0, 20}, {b, 0, 10}}},
		"a small hole":  {[]run{{a, 0, 10}, {a, 20, 30}, {a, 40, 50}}, []run{{a, 0, 50}}},
		"a larger hole": {[]run{{a, 0, 10}, {a, 21, 31}}, []run{{a, 0, 10}, {a, 21, 31}}},
		"a wide hole": {
			[]run{{a, 0, mib}, {a, mib + mostHole + 1, 2 * mib}},
			[]run{{a, 0, mib}, {a, mib + mostHole + 1, 2 * mib}},
		},
		"twice the same": {[]run{{a, 0, 10}, {a, 0, 10}, {a, 4, 8}}, []run{{a, 0, 10}}},
	} {
		if got := join(slices.Clone(c.parts)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestReadaheadOrder brings runs step by step: what is there already is not brought again, and a load waits exactly
// for what is on its way.
func TestReadaheadOrder(t *testing.T) {
	a, b := &file{fileID: fileID{number: 1}}, &file{fileID: fileID{number: 2}}
	r := &Readahead{store: new(Store), cold: true}
	if !r.take([]run{{a, 0, 4 * mib}, {b, 0, mib}}) {
		t.Fatal("no goroutine is wanted")
	}
	if r.take([]run{{a, 2 * mib, 6 * mib}, {a, mib, 2 * mib}}) {
		t.Fatal("a second goroutine is wanted")
	}
	if want := []run{{a, 0, 4 * mib}, {b, 0, mib}, {a, 4 * mib, 6 * mib}}; !slices.Equal(r.runs, want) {
		t.Fatalf("runs %v, want %v", r.runs, want)
	}
	due := func(want bool, f *file, pos, end int64) {
		t.Helper()
		if r.due(f, pos, end) != want {
			t.Errorf("at run %d, %d: bytes %d to %d of file %d: due %t", r.at, r.front, pos, end, f.number, !want)
		}
	}
	due(true, a, 0, 1)
	r.brought(2*mib, false)
	due(false, a, mib, 2*mib)
	due(true, a, mib, 2*mib+1)
	due(true, b, 0, 1)
	due(false, b, mib, 2*mib) // nobody brings it
	r.brought(4*mib, false)
	due(false, a, 0, 4*mib)
	due(true, a, 0, 5*mib)
	r.brought(mib, false)
	r.brought(6*mib, true)
	due(false, a, 0, 6*mib)
	if r.take([]run{{a, 6 * mib, 6*mib + mostThere}}) && !r.cold {
		t.Error("it ends after a little that was in the cache")
	}
	r.brought(6*mib+mostThere, true)
	if x, from := r.next(); from < x.end {
		t.Errorf("more to bring: %v", x)
	}
	if r.take([]run{{a, 70 * mib, 80 * mib}}) || r.cold {
		t.Error("it goes on though all was in the cache")
	}
}

// TestReadaheadForgets keeps a bound on what is known to be there.
func TestReadaheadForgets(t *testing.T) {
	f := &file{fileID: fileID{number: 1}}
	r := &Readahead{store: new(Store)}
	for i := range int64(3 * mostRuns) {
		r.take([]run{{f, i * mib, (i + 1) * mib}})
		r.brought((i+1)*mib, false)
	}
	if n := len(r.runs); n > mostRuns+1 || r.at != n || r.missing(r.runs[0]) != (run{f, r.runs[0].end, r.runs[0].end}) {
		t.Errorf("%d runs, %d of them there", n, r.at)
	}
}

// TestReadaheadBegins: a load that takes longer than a copy begins it, a long one has a slow disk told of short runs.
func TestReadaheadBegins(t *testing.T) {
	var r Readahead
	if r.loaded(mib, slowLoad*1024); r.cold {
		t.Error("cold after a quick load")
	}
	if r.loaded(0, time.Millisecond); r.cold {
		t.Error("cold after no load")
	}
	if r.loaded(mib, slowLoad*1024+1); !r.cold || !r.slow.IsZero() {
		t.Error("not cold after a slow load")
	}
	before := time.Now()
	if r.loaded(mib, slowDisk+1); r.slow.Before(before) {
		t.Error("the disk is not slow after a long load")
	}
}

// TestReadaheadEnds: the goroutine ends by itself, and with the log.
func TestReadaheadEnds(t *testing.T) {
	handle, err := vfs.NewMemory().Create("f")
	if err != nil {
		t.Fatal(err)
	}
	s := new(Store)
	f := newJournalFile(s, 1, handle)
	for _, closing := range []bool{false, true} {
		r := &Readahead{store: s, cold: true}
		s.mu.closing = false
		r.take([]run{{f, 0, 64 * mib}})
		if !s.readAhead(r) {
			t.Fatal("no goroutine")
		}
		r.wait(f, 0, 64*mib)
		s.mu.Lock()
		s.mu.closing = closing
		s.mu.Unlock()
		s.done.Wait()
		if r.busy || s.mu.readaheads != 0 || f.refs.Load() != 1 {
			t.Errorf("busy %t, %d goroutines, %d references", r.busy, s.mu.readaheads, f.refs.Load())
		}
	}
	if s.mu.closing = true; s.readAhead(new(Readahead)) {
		t.Error("it begins while the log closes")
	}
	s.mu.closing, s.mu.readaheads = false, mostReadaheads
	r := &Readahead{store: s, cold: true, wanted: []run{{f, 0, 64 * mib}}}
	if r.Start(); r.busy || len(r.runs) > 0 {
		t.Errorf("it begins beside so many: busy %t, %v", r.busy, r.runs)
	}
}

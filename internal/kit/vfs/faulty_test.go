package vfs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// everyOp does one operation of every kind on a fresh FS and gives the error of each.
func everyOp(t *testing.T, fs FS) map[OpKind]error {
	t.Helper()
	base := map[OpKind]error{}
	f, err := fs.Create("f")
	base[OpCreate] = err
	if err == nil {
		_, base[OpWrite] = f.WriteAt([]byte("abcd"), 0)
		base[OpSync] = f.Sync()
		base[OpPreallocate] = f.Preallocate(100)
		base[OpTruncate] = f.Truncate(50)
		_, base[OpSize] = f.Size()
		_, base[OpRead] = f.ReadAt(make([]byte, 2), 0)
		base[OpClose] = f.Close()
	}
	base[OpMkdir] = fs.MkdirAll("d")
	_, base[OpList] = fs.List("d")
	base[OpSyncDir] = fs.SyncDir(".")
	_, _, base[OpSpace] = Space(fs)
	_, base[OpLock] = fs.Lock("LOCK")
	if g, err := fs.OpenWrite("f"); err != nil {
		base[OpOpenWrite] = err
	} else {
		base[OpClose] = g.Close()
	}
	if g, err := fs.Open("f"); err != nil {
		base[OpOpen] = err
	} else {
		base[OpClose] = g.Close()
	}
	base[OpRename] = fs.Rename("f", "g")
	base[OpRemove] = fs.Remove("LOCK")
	return base
}

func TestEveryKindIsCountedAndShown(t *testing.T) {
	fs := NewFaulty(NewMemory())
	shown := map[OpKind]int{}
	fs.OnOp(func(op Op) {
		shown[op.Kind]++
		if op.N != shown[op.Kind] {
			t.Errorf("%s: number %d, want %d", op.Kind, op.N, shown[op.Kind])
		}
	})
	for kind, err := range everyOp(t, fs) {
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind := range OpKinds() {
		if fs.Count(kind) == 0 || fs.Count(kind) != shown[kind] {
			t.Errorf("%s: counted %d, shown %d", kind, fs.Count(kind), shown[kind])
		}
		if strings.HasPrefix(kind.String(), "operation") {
			t.Errorf("%s has no name", kind)
		}
	}
}

// TestDirectWritesAreWrites counts a direct write as a write and lets one stop half-way.
func TestDirectWritesAreWrites(t *testing.T) {
	fs := NewFaulty(NewMemory())
	f, err := fs.Create("f")
	must(t, err)
	p := DirectBytes(2 * DirectBlock)
	for i := range p {
		p[i] = 'x'
	}
	must(t, f.WriteDirect(p, 0))
	if n := fs.Count(OpWrite); n != 1 {
		t.Errorf("counted %d writes", n)
	}
	fs.Inject(Fault{On: OpWrite, Kind: fault.Full, Short: true})
	wantKind(t, f.WriteDirect(p, 2*DirectBlock), fault.Full, "injected")
	if size, err := f.Size(); err != nil || size != 3*DirectBlock {
		t.Errorf("%d bytes, %v", size, err)
	}
}

func TestEveryKindFails(t *testing.T) {
	for _, kind := range OpKinds() {
		for _, want := range []fault.Kind{fault.IO, fault.Full} {
			fs := NewFaulty(NewMemory())
			fs.Inject(Fault{On: kind, Kind: want, Times: -1})
			got := everyOp(t, fs)[kind]
			wantKind(t, got, want, "injected")
		}
	}
}

func TestTheNthFailsOnceOrFromThenOn(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		want  string
	}{
		{Fault{}, "X...."},
		{Fault{Skip: 2}, "..X.."},
		{Fault{Skip: 2, Times: 2}, "..XX."},
		{Fault{Skip: 3, Times: -1}, "...XX"},
		{Fault{Name: "f"}, "X...."},
		{Fault{Name: "other", Times: -1}, "....."},
	} {
		fs := NewFaulty(NewMemory())
		f, err := fs.Create("f")
		must(t, err)
		c.fault.On, c.fault.Kind = OpWrite, fault.IO
		fs.Inject(c.fault)
		got := ""
		for i := range 5 {
			if _, err := f.WriteAt([]byte("x"), int64(i)); err != nil {
				got += "X"
			} else {
				got += "."
			}
		}
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.fault, got, c.want)
		}
		fs.Heal()
		if _, err := f.WriteAt([]byte("x"), 0); err != nil {
			t.Errorf("after Heal: %v", err)
		}
	}
}

func TestShortWrite(t *testing.T) {
	for _, vec := range []bool{false, true} {
		m := NewMemory()
		fs := NewFaulty(m)
		f, err := fs.Create("f")
		must(t, err)
		fs.Inject(Fault{On: OpWrite, Kind: fault.Full, Short: true})
		var n int
		if vec {
			n, err = f.WriteVecAt([][]byte{[]byte("abc"), []byte("def")}, 0)
		} else {
			n, err = f.WriteAt([]byte("abcdef"), 0)
		}
		wantKind(t, err, fault.Full, "f")
		if got := read(t, m, "f"); n != 3 || got != "abc" {
			t.Fatalf("wrote %d: %q", n, got)
		}
	}
}

func TestDelayIsNoError(t *testing.T) {
	fs := NewFaulty(NewMemory())
	f, err := fs.Create("f")
	must(t, err)
	fs.Inject(Fault{On: OpSync, Delay: 20 * time.Millisecond})
	begin := time.Now()
	must(t, f.Sync())
	if took := time.Since(begin); took < 20*time.Millisecond {
		t.Fatalf("took %v", took)
	}
}

func TestFailedSyncThroughFaulty(t *testing.T) {
	m := NewMemory()
	fs := NewFaulty(m)
	put(t, fs, "f", "old")
	must(t, fs.SyncDir("."))
	f, err := fs.OpenWrite("f")
	must(t, err)
	_, err = f.WriteAt([]byte("new"), 0)
	must(t, err)
	fs.Inject(Fault{On: OpSync, Kind: fault.IO})
	wantKind(t, f.Sync(), fault.IO, "f")
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil), "f"); got != "old" {
		t.Fatalf("a sync after a failed one stored %q", got)
	}
}

// TestCrashAtEveryOperation is how a room above tests itself: crash before every operation of a
// scripted load and look at what is left.
func TestCrashAtEveryOperation(t *testing.T) {
	m := NewMemory()
	fs := NewFaulty(m)
	var crashes []string
	fs.OnOp(func(op Op) {
		if !op.Kind.Changes() {
			return
		}
		names, err := m.CrashClone(nil).List(".")
		must(t, err)
		crashes = append(crashes, fmt.Sprintf("%s%v", op.Kind, names))
	})
	put(t, fs, "tmp", "x")
	must(t, fs.Rename("tmp", "f"))
	must(t, fs.SyncDir("."))
	must(t, fs.Remove("f"))
	want := []string{"create[]", "write[]", "sync[]", "rename[]", "sync dir[]", "remove[f]"}
	if !slices.Equal(crashes, want) {
		t.Fatalf("got  %q\nwant %q", crashes, want)
	}
}

package atrest_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

func newRing(t testing.TB, numbers ...byte) *atrest.Ring {
	t.Helper()
	var keys []atrest.Wrapper
	for _, n := range numbers {
		k, err := atrest.NewLocal(bytes.Repeat([]byte{n}, 32))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	r, err := atrest.NewRing(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// write makes an encrypted file of content, in pieces, with syncs between some of them.
func write(t testing.TB, fs vfs.FS, name string, content []byte, rng *rand.Rand) {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); {
		n := min(len(content)-at, 1+rng.IntN(9000))
		if _, err := f.WriteAt(content[at:at+n], int64(at)); err != nil {
			t.Fatal(err)
		}
		at += n
		if rng.IntN(3) == 0 {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			same(t, f, content[:at], rng)
		}
	}
	if err := errors.Join(f.Truncate(int64(len(content))), f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// same reads a file here and there.
func same(t testing.TB, f vfs.File, content []byte, rng *rand.Rand) {
	t.Helper()
	if size, err := f.Size(); err != nil || size != int64(len(content)) {
		t.Fatalf("%d bytes, %v; %d were written", size, err, len(content))
	}
	for range 20 {
		at := rng.IntN(len(content) + 1)
		b := make([]byte, rng.IntN(len(content)-at+100))
		n, err := f.ReadAt(b, int64(at))
		if want := min(len(b), len(content)-at); n != want || (n < len(b)) != errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d bytes at %d of %d: %v", n, len(b), at, len(content), err)
		}
		if !bytes.Equal(b[:n], content[at:at+n]) {
			t.Fatalf("%d bytes at %d are others", n, at)
		}
	}
}

func randomBytes(n int, rng *rand.Rand) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestBlocksHoldWhatWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{0, 1, 4095, 4096, 4097, 8192, 64 * 4096, 64*4096 + 1, 300_001} {
		disk := vfs.NewMemory()
		fs := atrest.New(disk, newRing(t, 1), false)
		content := randomBytes(size, rng)
		write(t, fs, "a", content, rng)
		f, err := fs.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		same(t, f, content, rng)
		if !atrest.Sealed(f) {
			t.Error("it is not encrypted")
		}
		if _, err := f.WriteAt([]byte("x"), 0); !fault.Is(err, fault.Unsupported) {
			t.Errorf("written again: %v", err)
		}
		raw := bareBytes(t, disk, "a")
		if size > 100 && bytes.Contains(raw, content[:50]) {
			t.Error("it is there in plain")
		}
	}
}

func bareBytes(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

// TestEveryBitOfABlockCounts turns every bit of a small file behind its head, and exchanges its blocks.
func TestEveryBitOfABlockCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	disk := vfs.NewMemory()
	fs := atrest.New(disk, newRing(t, 1), false)
	content := randomBytes(2*4096+100, rng)
	write(t, fs, "a", content, rng)
	size := int64(len(bareBytes(t, disk, "a")))
	step := int64(7)
	for bit := int64(atrest.HeaderBytes) * 8; bit < size*8; bit += step {
		if err := disk.Flip("a", bit); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.ReadAt(make([]byte, len(content)), 0); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("bit %d: %d bytes are read, %v", bit, n, err)
		}
		bad := 0
		if err := atrest.Verify(f, func(int64) bool { bad++; return true }); err != nil || bad != 1 {
			t.Fatalf("bit %d: %d blocks are reported, %v", bit, bad, err)
		}
		if err := disk.Flip("a", bit); err != nil {
			t.Fatal(err)
		}
	}
	const block = 4096 + atrest.TagBytes
	raw := bareBytes(t, disk, "a")
	first := bytes.Clone(raw[atrest.HeaderBytes : atrest.HeaderBytes+block])
	copy(raw[atrest.HeaderBytes:], raw[atrest.HeaderBytes+block:atrest.HeaderBytes+2*block])
	copy(raw[atrest.HeaderBytes+block:], first)
	f, err := disk.OpenWrite("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if f, err = fs.Open("a"); err != nil {
		t.Fatal(err)
	}
	if n, err := f.ReadAt(make([]byte, 10), 0); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%d bytes of an exchanged block, %v", n, err)
	}
	if b, err := io.ReadAll(io.NewSectionReader(atrest.Lenient(f), 0, int64(len(content)))); err != nil ||
		!bytes.Equal(b[8192:], content[8192:]) || !bytes.Equal(b[:8192], make([]byte, 8192)) {
		t.Errorf("what is left of it: %v", err)
	}
}

// TestAKeyIsOfOneFile gives a file the name of another, and damages its head.
func TestAKeyIsOfOneFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	disk := vfs.NewMemory()
	fs := atrest.New(disk, newRing(t, 1, 2), false)
	write(t, fs, "a.tmp", []byte("content"), rng)
	if err := disk.Rename("a.tmp", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Open("a"); err != nil {
		t.Errorf("finished: %v", err)
	}
	if err := disk.Rename("a", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Open("b"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("by the name of another: %v", err)
	}
	if err := disk.Rename("b", "a"); err != nil {
		t.Fatal(err)
	}
	_, err := atrest.New(disk, newRing(t, 2), false).Open("a")
	if !fault.Is(err, fault.Denied) || fault.HintOf(err) == "" {
		t.Errorf("with another key: %v", err)
	}
	for bit := range int64(atrest.HeaderBytes * 8) {
		if err := disk.Flip("a", bit); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Open("a")
		if err != nil {
			t.Fatalf("a bit %d of the head costs the file: %v", bit, err)
		}
		same(t, f, []byte("content"), rng)
		if err := disk.Flip("a", bit); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRewrapSurvivesACrash cuts the power at every operation while a key is wrapped anew.
func TestRewrapSurvivesACrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	for range 20 {
		disk := vfs.NewMemory()
		content := randomBytes(5000, rng)
		write(t, atrest.New(disk, newRing(t, 1), false), "a", content, rng)
		if err := disk.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		ring, crashes := newRing(t, 2, 1), []*vfs.Memory(nil)
		faulty := vfs.NewFaulty(disk)
		faulty.OnOp(func(vfs.Op) { crashes = append(crashes, disk.CrashClone(rng)) })
		for i := range 2 {
			if done, err := ring.Rewrap(faulty, "a"); err != nil || done != (i == 0) {
				t.Fatalf("time %d: %v %v", i, done, err)
			}
		}
		if n := len(crashes); n < 6 {
			t.Fatalf("only %d crashes", n)
		}
		for i, left := range crashes {
			f, err := atrest.New(left, ring, false).Open("a")
			if err != nil {
				t.Fatalf("crash %d: %v", i, err)
			}
			same(t, f, content, rng)
			if _, err := ring.Rewrap(left, "a"); err != nil {
				t.Fatalf("crash %d, and again: %v", i, err)
			}
			if f, err = atrest.New(left, newRing(t, 2), false).Open("a"); err != nil {
				t.Fatalf("crash %d, without the old key: %v", i, err)
			}
			same(t, f, content, rng)
		}
		if _, err := atrest.New(disk, newRing(t, 1), false).Open("a"); !fault.Is(err, fault.Denied) {
			t.Errorf("the old key still opens it: %v", err)
		}
	}
}

// TestForget takes the key of a file away, and nothing else is left to open it; a plain file stays.
func TestForget(t *testing.T) {
	disk := vfs.NewMemory()
	rng := rand.New(rand.NewPCG(1, 9))
	write(t, atrest.New(disk, newRing(t, 1), false), "sealed", randomBytes(9000, rng), rng)
	write(t, disk, "plain", randomBytes(9000, rng), rng)
	plain := bareBytes(t, disk, "plain")
	if err := disk.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sealed", "plain"} {
		if err := atrest.Forget(disk, name); err != nil {
			t.Fatal(err)
		}
	}
	head := bareBytes(t, disk.CrashClone(nil), "sealed")[:atrest.HeaderBytes]
	if !bytes.Equal(head, make([]byte, len(head))) {
		t.Error("the key is still there after a power cut")
	}
	if !bytes.Equal(bareBytes(t, disk, "plain"), plain) {
		t.Error("a plain file was changed")
	}
}

// TestRemove removes files, their keys first. Where a key cannot be written over, the file stays if that must be; under
// the name of one that is about to be removed, so that it is removed the next time.
func TestRemove(t *testing.T) {
	names := []string{"log/sealed", "log/plain", "log/unfinished.tmp", "log/gone"}
	for _, mustGo := range []bool{false, true} {
		disk := vfs.NewMemory()
		faulty := vfs.NewFaulty(disk)
		if err := disk.MkdirAll("log"); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 10))
		for _, name := range names[:3] {
			var fs vfs.FS = disk
			if name != "log/plain" {
				fs = atrest.New(disk, newRing(t, 1), false)
			}
			write(t, fs, name, randomBytes(100, rng), rng)
		}
		faulty.OnOp(func(op vfs.Op) {
			if st, err := atrest.Inspect(disk, op.Name); op.Kind == vfs.OpRemove && (err != nil || st.Sealed && mustGo) {
				t.Errorf("%s: removed with its key, or %v", op.Name, err)
			}
		})
		faulty.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Kind: fault.IO})
		left, err := atrest.Remove(faulty, "log", names, mustGo)
		var want []string
		if mustGo {
			want = []string{"log/sealed.tmp", "log/unfinished.tmp"}
		}
		if slices.Sort(left); !slices.Equal(left, want) || (err != nil) != mustGo {
			t.Errorf("%v: %v, %v", mustGo, left, err)
		}
		faulty.Heal()
		if left, err := atrest.Remove(faulty, "log", left, true); len(left) > 0 || err != nil {
			t.Errorf("the next time: %v, %v", left, err)
		}
		if names, err := disk.List("log"); len(names) > 0 || err != nil {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// TestRemoveOnAFullDisk removes a file that cannot be given another name, unless its key must go first.
func TestRemoveOnAFullDisk(t *testing.T) {
	for _, mustGo := range []bool{false, true} {
		disk := vfs.NewMemory()
		faulty := vfs.NewFaulty(disk)
		if err := disk.MkdirAll("log"); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 11))
		write(t, atrest.New(disk, newRing(t, 1), false), "log/sealed", randomBytes(100, rng), rng)
		faulty.Inject(vfs.Fault{On: vfs.OpRename, Times: -1, Kind: fault.Full})
		left, err := atrest.Remove(faulty, "log", []string{"log/sealed"}, mustGo)
		names, _ := disk.List("log")
		if stays := len(names) > 0; stays != mustGo || len(left) != len(names) || fault.Is(err, fault.Full) != mustGo {
			t.Errorf("%v: %v %v, %v", mustGo, names, left, err)
		}
	}
}

func TestKeysAreReadFromText(t *testing.T) {
	a, err := atrest.Generate()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := atrest.ParseKeys([]byte("# newest first\n" + a + "\n\n  " +
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v %v", keys, err)
	}
	for _, bad := range []string{"secret", a + "=", a[:20], a + a} {
		_, err := atrest.ParseKeys([]byte("#\n" + bad))
		if !fault.Is(err, fault.Invalid) || bytes.Contains([]byte(err.Error()), []byte(bad)) {
			t.Errorf("%v", err)
		}
	}
	if _, err := atrest.NewRing(nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("no key: %v", err)
	}
	if _, err := atrest.NewRing([]atrest.Wrapper{keys[0], keys[0]}); !fault.Is(err, fault.Invalid) {
		t.Errorf("one key twice: %v", err)
	}
}

// FuzzOpen opens files that anybody may have written: none is read as if it were encrypted, and nothing panics.
func FuzzOpen(f *testing.F) {
	disk := vfs.NewMemory()
	ring := newRing(f, 1)
	rng := rand.New(rand.NewPCG(1, 5))
	write(f, atrest.New(disk, ring, false), "a", []byte("content"), rng)
	raw := bareBytes(f, disk, "a")
	f.Add(raw, 0, byte(0))
	f.Add(raw, 100, byte(7))
	f.Add([]byte("FIRTHJN1\x02\x00\x00\x00"), 0, byte(0))
	f.Fuzz(func(t *testing.T, head []byte, at int, by byte) {
		head = bytes.Clone(head)
		if at >= 0 && at < len(head) {
			head[at] ^= by
		}
		disk := vfs.NewMemory()
		file, err := disk.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(head, 0); err != nil {
			t.Fatal(err)
		}
		opened, err := atrest.New(disk, ring, false).Open("a")
		if err != nil {
			return
		}
		b := make([]byte, 100)
		n, err := opened.ReadAt(b, 0)
		if atrest.Sealed(opened) && err == nil && atrest.KeyOf(opened) == nil && atrest.Lost(opened) == nil {
			t.Errorf("%d bytes are read of a file of 7", n)
		}
		if _, err := ring.Rewrap(disk, "a"); err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Denied) {
			t.Errorf("rewrap: %v", err)
		}
	})
}

func BenchmarkBlocks(b *testing.B) {
	disk, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 6))
	content := randomBytes(16<<20, rng)
	for name, plain := range map[string]bool{"plain": true, "encrypted": false} {
		fs := atrest.New(disk, newRing(b, 1), plain)
		f, err := fs.Create(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.WriteAt(content, 0); err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 1<<20)
		b.Run("read "+name, func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			for i := 0; b.Loop(); i++ {
				if _, err := f.ReadAt(buf, int64(i%15)<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

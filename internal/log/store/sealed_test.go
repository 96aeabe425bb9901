package store_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// allEncrypted has every test of the package write encrypted files, if it does not say otherwise.
var allEncrypted = flag.Bool("encrypted", false, "write encrypted files in all tests")

// seesBytes skips a test that looks for records in the bytes of files.
func seesBytes(t *testing.T) {
	if *allEncrypted {
		t.Skip("the files are encrypted")
	}
}

// keys is a ring of two keys. The second one is not used for what is new.
func keys(t testing.TB) *atrest.Ring {
	t.Helper()
	ring, err := atrest.NewRing([]atrest.Wrapper{key(t, 1), key(t, 2)})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// key is one of many.
func key(t testing.TB, number byte) atrest.Wrapper {
	t.Helper()
	secret := make([]byte, 32)
	secret[0] = number
	k, err := atrest.NewLocal(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// encrypted is a log of some options whose files are encrypted.
func encrypted(t testing.TB, options func(vfs.FS) store.Options) func(vfs.FS) store.Options {
	ring := keys(t)
	return func(fs vfs.FS) store.Options {
		opt := options(fs)
		opt.Keys = ring
		return opt
	}
}

// sealedFiles lists the files that hold records or what is made of them.
func sealedFiles(t *testing.T, fs vfs.FS) (names []string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(listing(t, fs), "./", "")), "\n") {
		name, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, "checkpoint.") || strings.HasSuffix(name, ".segment") ||
			strings.HasSuffix(name, ".journal") {
			names = append(names, name)
		}
	}
	return names
}

// TestNothingIsPlain looks for what was written in the files of an encrypted log. In those of a plain one it is found.
func TestNothingIsPlain(t *testing.T) {
	seesBytes(t)
	for name, options := range map[string]func(vfs.FS) store.Options{"plain": small, "encrypted": encrypted(t, small)} {
		disk, m := writtenBy(t, options)
		var all []byte
		for file := range strings.FieldsSeq(strings.ReplaceAll(listing(t, disk), "./", "")) {
			all = append(all, content(t, disk, file)...)
		}
		if topic := bytes.Contains(all, []byte("brief")); topic != (name == "plain") {
			t.Errorf("%s: the name of a topic is in the files: %v", name, topic)
		}
		found, acked := 0, 0
		for _, records := range m.acked { // trims and retention have taken some of them
			for _, value := range records {
				if acked++; bytes.Contains(all, []byte(value)) {
					found++
				}
			}
		}
		if name == "plain" && found < acked/4 || name == "encrypted" && found > 0 {
			t.Errorf("%s: %d of %d records are in the files", name, found, acked)
		}
	}
}

// TestEncryptedBitsAreAllAuthentic turns bits all over the sealed parts of every file: each is found, and no record is
// served that was not written.
func TestEncryptedBitsAreAllAuthentic(t *testing.T) {
	options := encrypted(t, small)
	disk, m := writtenBy(t, options)
	rng := rand.New(rand.NewPCG(*crashSeed, 11))
	files := sealedFiles(t, disk)
	each := max(4, *crashFlips/len(files))
	flipped, found := 0, 0
	for _, name := range files {
		size := int64(len(content(t, disk, name)))
		for range each {
			if size <= atrest.HeaderBytes {
				break
			}
			bit := (atrest.HeaderBytes + rng.Int64N(size-atrest.HeaderBytes)) * 8
			broken := disk.Clone()
			if err := broken.Flip(name, bit+rng.Int64N(8)); err != nil {
				t.Fatal(err)
			}
			flipped++
			_, findings := check(t, broken.Clone())
			reported := damaged(t, options(broken), m)
			if len(findings) > 0 {
				found++
			} else if !strings.HasSuffix(name, ".journal") && !strings.HasPrefix(name, "checkpoint.") {
				t.Errorf("%s: a bit at byte %d of %d was turned, and nothing is found", name, bit/8, size)
			}
			if reported && len(findings) == 0 {
				t.Errorf("%s, byte %d: found by readers and not by the check", name, bit/8)
			}
			if t.Failed() {
				t.Fatalf("seed %d", *crashSeed)
			}
		}
	}
	t.Logf("%d bits turned in %d files, %d found: others are in what is void or spare", flipped, len(files), found)
}

// TestSwappedPiecesAreFound exchanges equal parts of encrypted files, within one and between two, and whole files: what
// is served is what was written, or nothing.
func TestSwappedPiecesAreFound(t *testing.T) {
	options := encrypted(t, small)
	disk, m := writtenBy(t, options)
	rng := rand.New(rand.NewPCG(*crashSeed, 12))
	files := sealedFiles(t, disk)
	found := 0
	for round := range *crashFlips {
		a, b := files[rng.IntN(len(files))], files[rng.IntN(len(files))]
		broken := disk.Clone()
		what := swap(t, broken, [2]string{a, b}, round%3, rng)
		if what == "" {
			continue
		}
		_, findings := check(t, broken.Clone())
		reported := damaged(t, options(broken), m)
		if len(findings) > 0 {
			found++
		} else if reported || strings.HasSuffix(a, ".segment") && strings.HasSuffix(b, ".segment") {
			t.Errorf("%s: nothing is found", what)
		}
		if t.Failed() {
			t.Fatalf("%s, seed %d", what, *crashSeed)
		}
	}
	if found < *crashFlips/4 {
		t.Errorf("only %d of %d exchanges were found: the test does nothing", found, *crashFlips)
	}
}

// swap exchanges a sealed block, some bytes at a journal's alignment, or all of two files, and tells what.
func swap(t *testing.T, fs *vfs.Memory, files [2]string, how int, rng *rand.Rand) string {
	t.Helper()
	a, b := files[0], files[1]
	was, other := content(t, fs, a), content(t, fs, b)
	const block, least = 4096 + atrest.TagBytes, atrest.HeaderBytes
	var from, to, n int
	switch how {
	case 0:
		if n = block; len(was) < least+2*block || len(other) < least+2*block {
			return ""
		}
		from = least + rng.IntN((len(was)-least)/block)*block
		to = least + rng.IntN((len(other)-least)/block)*block
	case 1:
		if n = 512; len(was) < least+n || len(other) < least+n {
			return ""
		}
		from = least + rng.IntN(len(was)-least-n)&^7
		to = least + rng.IntN(len(other)-least-n)&^7
	default:
		if a == b {
			return ""
		}
		put(t, fs, a, other)
		put(t, fs, b, was)
		return fmt.Sprintf("%s and %s take each other's place", a, b)
	}
	if a == b {
		other = was
	}
	x, y := bytes.Clone(was[from:from+n]), bytes.Clone(other[to:to+n])
	if bytes.Equal(x, y) || a == b && from < to+n && to < from+n {
		return ""
	}
	copy(was[from:], y)
	copy(other[to:], x)
	put(t, fs, a, was)
	put(t, fs, b, other)
	return fmt.Sprintf("%d bytes of %s at %d and of %s at %d", n, a, from, b, to)
}

// put writes a file anew.
func put(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutItsKeyNothingIsTouched opens an encrypted log without a key, with one of another, and for reading.
func TestWithoutItsKeyNothingIsTouched(t *testing.T) {
	disk, _ := writtenBy(t, encrypted(t, small))
	other, err := atrest.NewRing([]atrest.Wrapper{key(t, 9)})
	if err != nil {
		t.Fatal(err)
	}
	before := disk.Clone()
	for name, ring := range map[string]*atrest.Ring{"no key": nil, "another key": other} {
		if name == "no key" && *allEncrypted {
			continue
		}
		opt := small(disk)
		opt.Keys = ring
		if s, err := store.Open(context.Background(), opt); !fault.Is(err, fault.Denied) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v %v", name, s, err)
		}
		if o, err := store.OpenOffline(context.Background(), disk, ring); !fault.Is(err, fault.Denied) {
			t.Errorf("%s, for reading: %v %v", name, o, err)
		}
		for _, file := range append(sealedFiles(t, before), "FIRTH") {
			if !bytes.Equal(content(t, disk, file), content(t, before, file)) {
				t.Errorf("%s: %s was changed", name, file)
			}
		}
		if listing(t, disk) != listing(t, before) {
			t.Errorf("%s: files were changed", name)
		}
	}
}

// ringOf is a ring of some keys.
func ringOf(t testing.TB, numbers ...byte) *atrest.Ring {
	t.Helper()
	var all []atrest.Wrapper
	for _, n := range numbers {
		all = append(all, key(t, n))
	}
	ring, err := atrest.NewRing(all)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestRewrapOnline gives a log in use another key-encryption key, cuts the power at every operation of it, and opens
// what is left with both keys, and at the end with the new one alone.
func TestRewrapOnline(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	opt := small(faulty)
	opt.Keys = ringOf(t, 1)
	s := open(t, opt)
	script(&load{t: t, s: s, m: m, round: 1})
	if err := opt.Keys.Set([]atrest.Wrapper{key(t, 2), key(t, 1)}); err != nil {
		t.Fatal(err)
	}
	var crashes []*vfs.Memory
	rng := rand.New(rand.NewPCG(*crashSeed, 13))
	n, mu := 0, sync.Mutex{}
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if n++; op.Kind.Changes() && n%*crashEvery == 0 {
			crashes = append(crashes, disk.CrashClone(rng))
		}
	})
	if err := s.Rewrap(context.Background()); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	e, err := s.Encryption()
	if first := key(t, 2).ID(); err != nil || e.Plain > 0 || e.Files < 5 || e.Sealed[first] != e.Files || !e.On ||
		e.Keys[0] != first {
		t.Errorf("%+v %v", e, err)
	}
	l := &load{t: t, s: s, m: m, round: 2}
	l.publish(100, s.Topics().ByName("small").Partitions[0])
	l.wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	last := small(disk)
	last.Keys = ringOf(t, 2)
	s = open(t, last)
	verify(t, s, m)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 10 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, left := range crashes {
		if _, findings := checkWith(t, left.Clone(), ringOf(t, 2, 1)); len(findings) > 0 {
			t.Fatalf("crash %d: %v", i, findings)
		}
	}
}

// TestEncryptionBesideARemoval does not take a file for plain whose key goes while it is looked at.
func TestEncryptionBesideARemoval(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	s := open(t, encrypted(t, small)(faulty))
	script(&load{t: t, s: s, m: newModel(), round: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	gone := ""
	faulty.OnOp(func(op vfs.Op) { // it is open by now
		if gone == "" && op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".segment") {
			gone = op.Name
			if left, err := atrest.Remove(disk, "log", []string{gone}, true); len(left) > 0 || err != nil {
				t.Error(left, err)
			}
		}
	})
	if e, err := s.Encryption(); err != nil || e.Plain > 0 || gone == "" {
		t.Errorf("%q went: %+v, %v", gone, e, err)
	}
}

// TestAPlainLogBecomesEncrypted opens a plain log with a key: in time nothing in it is plain, and it holds what it
// held. And the other way round.
func TestAPlainLogBecomesEncrypted(t *testing.T) {
	seesBytes(t)
	disk, m := written(t)
	for _, plain := range []bool{false, true} {
		opt := small(disk)
		opt.Keys, opt.Plain, opt.RetentionInterval = keys(t), plain, 5*time.Millisecond
		s := open(t, opt)
		verify(t, s, m)
		for deadline := time.Now().Add(time.Minute); ; {
			e, err := s.Encryption()
			if err != nil {
				t.Fatal(err)
			}
			if plain && e.Plain == e.Bytes || !plain && e.Plain == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("plain %v: %+v", plain, e)
			}
			l := &load{t: t, s: s, m: m, round: 2} // a checkpoint is taken when there is something to tell
			l.trim(s.Topics().ByName("small").Partitions[1])
			<-time.After(5 * time.Millisecond) // how often, not whether
		}
		verify(t, s, m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnIndexWithoutItsName cuts the power when a journal has got its index and not yet the name of a segment: it gets
// another index then.
func TestAnIndexWithoutItsName(t *testing.T) {
	options := encrypted(t, small)
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	var left *vfs.Memory
	var mu sync.Mutex // committer and housekeeper work side by side
	faulty.OnOp(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if left == nil && op.Kind == vfs.OpRename && strings.HasSuffix(op.Name, ".journal") {
			left = disk.CrashClone(nil)
		}
	})
	l := &load{t: t, s: open(t, options(faulty)), m: newModel(), round: 1}
	topic := l.create("large", 1, nil)
	for range 6 {
		if err := l.produce(topic.Partitions[0], -1, 0, 1, 20<<10); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the journals are segments", func() bool { return l.s.SealedFiles() == 0 })
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	faulty.OnOp(nil)
	if left == nil {
		t.Fatal("no journal was kept in place")
	}
	s := open(t, options(left))
	eventually(t, "the journals are segments", func() bool { return s.SealedFiles() == 0 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, findings := check(t, left.Clone()); len(findings) > 0 {
		t.Error(findings)
	}
}

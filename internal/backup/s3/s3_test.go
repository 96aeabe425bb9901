package s3

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

const patience = 2 * time.Minute

// locked is a place that may be written to until the test ends.
func locked(t *testing.T, b *Bucket) *Bucket {
	t.Helper()
	lock, err := b.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	return b
}

func wants(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want %s", what, err, kind)
	}
}

// TestPlace holds a bucket to what a place is.
func TestPlace(t *testing.T) {
	s := newShop(t)
	s.with(func() { s.objects["some/other"] = object{} })
	b, ctx := locked(t, s.open()), t.Context()
	long := slices.Repeat([]byte("0123456789abcdef"), 3*blockBytes/16)
	for name, content := range map[string][]byte{"objects/ab/abc": []byte("a"), "objects/cd/cde": nil,
		"objects/ef/efg": long, "backups/1.json": []byte("{}")} {
		if err := b.Put(ctx, name, content); err != nil {
			t.Fatal(err)
		}
		got, err := b.Get(ctx, name, int64(len(content)))
		if err != nil || string(got) != string(content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	sizes := map[string]int64{}
	err := b.Names(ctx, "objects", func(name string, size int64) { sizes[name] = size })
	want := map[string]int64{"objects/ab/abc": 1, "objects/cd/cde": 0, "objects/ef/efg": int64(len(long))}
	if diff := cmp.Diff(want, sizes); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, at := range [][2]int{{0, 10}, {blockBytes - 3, 7}, {5, 2*blockBytes + 9}, {len(long) - 1, 1}} {
		p := make([]byte, at[1])
		err := b.ReadAt(ctx, "objects/ef/efg", p, int64(at[0]))
		if err != nil || string(p) != string(long[at[0]:at[0]+at[1]]) {
			t.Errorf("%v: %v", at, err)
		}
	}
	p := make([]byte, 2)
	wants(t, "behind the end", b.ReadAt(ctx, "objects/ef/efg", p, int64(len(long)-1)), fault.IO)
	wants(t, "far behind the end", b.ReadAt(ctx, "objects/ab/abc", p, 9*blockBytes), fault.IO)
	wants(t, "read of none", b.ReadAt(ctx, "objects/none", p, 0), fault.NotFound)
	_, err = b.Get(ctx, "objects/none", 1)
	wants(t, "none", err, fault.NotFound)
	_, err = b.Get(ctx, "backups/1.json", 1)
	wants(t, "too large", err, fault.TooLarge)
	if err := b.Remove(ctx, "objects/ab/abc"); err != nil {
		t.Error(err)
	}
	wants(t, "removed twice", b.Remove(ctx, "objects/ab/abc"), fault.NotFound)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	wants(t, "nobody waits", b.Names(gone, "objects", func(string, int64) {}), fault.Timeout)
}

// TestInChunks: an answer that does not say how long it is, as one through a proxy may be, is read to its end.
func TestInChunks(t *testing.T) {
	s := newShop(t)
	s.with(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				return true
			}
			w.Header().Set("Last-Modified", s.now.UTC().Format(http.TimeFormat))
			for range 3 {
				_, _ = w.Write([]byte("0123"))
				_ = http.NewResponseController(w).Flush()
			}
			return false
		}
	})
	got, err := s.open().Get(t.Context(), "objects/ab/abc", 12)
	if string(got) != "012301230123" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = s.open().Get(t.Context(), "objects/ab/abc", 11)
	wants(t, "more than is wanted", err, fault.TooLarge)
}

// TestBlocks reads more blocks than are kept.
func TestBlocks(t *testing.T) {
	var b blocks
	for n := range int64(3 * mostBlocks) {
		b.put(blockKey{"x", n}, []byte{byte(n)})
		b.put(blockKey{"x", n}, nil)
	}
	if _, ok := b.get(blockKey{"x", 0}); ok || len(b.read) != mostBlocks || len(b.oldest) != mostBlocks {
		t.Errorf("%d blocks", len(b.read))
	}
	if got, ok := b.get(blockKey{"x", 3*mostBlocks - 1}); !ok || len(got) != 1 {
		t.Error("the last one is not there")
	}
}

// TestRefusals: what is wrong is told before anybody is asked, and what might be a secret is not repeated.
func TestRefusals(t *testing.T) {
	s := newShop(t)
	for _, where := range []string{"s3://", "s3:///prefix", "s3://KEY:HUSH@bucket/x", "s3://bucket/x?k=HUSH",
		"s3://bucket:9/x", "s3://bucket/a//b", "s3://bucket/a/../b", "s3://bucket/%zzHUSH"} {
		_, err := Open(where, s.options())
		wants(t, where, err, fault.Invalid)
		if strings.Contains(fmt.Sprint(err), "HUSH") {
			t.Errorf("%s: %v", where, err)
		}
	}
	readable := s.keys() + ".readable"
	if err := os.WriteFile(readable, []byte("[default]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		change func(o *Options)
		kind   fault.Kind
	}{
		"http":                {func(o *Options) { o.Endpoint = "http://127.0.0.1:1" }, fault.Invalid},
		"https":               {func(o *Options) { o.Plain = true }, fault.Invalid},
		"a path":              {func(o *Options) { o.Endpoint += "/x" }, fault.Invalid},
		"a user":              {func(o *Options) { o.Endpoint = "https://a:b@host" }, fault.Invalid},
		"a style":             {func(o *Options) { o.Style = "none" }, fault.Invalid},
		"no credentials":      {func(o *Options) { o.Credentials = "" }, fault.Invalid},
		"no file":             {func(o *Options) { o.Credentials += ".none" }, fault.NotFound},
		"others can read it":  {func(o *Options) { o.Credentials = readable }, fault.Denied},
		"no such profile":     {func(o *Options) { o.Profile = "none" }, fault.Invalid},
		"no certificate":      {func(o *Options) { o.CAFile = s.keys() }, fault.Invalid},
		"certificates of ...": {func(o *Options) { o.CAFile += ".none" }, fault.NotFound},
	} {
		o := s.options()
		tc.change(&o)
		_, err := Open("s3://bucket", o)
		wants(t, what, err, tc.kind)
	}
}

// TestWhoAsks: credentials come from the environment or a file, and who has none of the store's is refused.
func TestWhoAsks(t *testing.T) {
	s := newShop(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "KEY")
	o := s.options()
	o.Credentials = ""
	_, err := Open("s3://bucket", o)
	wants(t, "half a key", err, fault.Invalid)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
	b, err := Open("s3://bucket", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Names(t.Context(), "objects", func(string, int64) {}); err != nil {
		t.Errorf("by the environment: %v", err)
	}
	o = s.options()
	o.Profile = "other"
	for where, tc := range map[string]struct {
		o    Options
		kind fault.Kind
	}{"s3://bucket": {o, fault.Denied}, "s3://none": {s.options(), fault.Invalid}} {
		b, err := Open(where, tc.o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Get(t.Context(), "x", 1)
		wants(t, where, err, tc.kind)
		_, err = b.Lock(t.Context())
		wants(t, where, err, tc.kind)
	}
	o = s.options()
	o.CAFile = ""
	if b, err = Open("s3://bucket", o); err != nil {
		t.Fatal(err)
	}
	_, err = b.Get(t.Context(), "x", 1)
	wants(t, "a certificate that nobody trusts", err, fault.IO)
}

// node is a log that is backed up.
type node struct {
	t   *testing.T
	log *store.Store
	on  stream.PartitionID
	n   int
	now atomic.Int64 // seconds
}

func newNode(t *testing.T) *node {
	t.Helper()
	h := &node{t: t}
	h.now.Store(1_700_000_000)
	h.log = h.open(vfs.NewMemory())
	topic, err := h.log.CreateTopic(t.Context(), stream.TopicSpec{Name: "plant", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	h.on = topic.Partitions[0]
	return h
}

func (h *node) open(fs vfs.FS) *store.Store {
	h.t.Helper()
	s, err := store.Open(h.t.Context(), store.Options{FS: fs, Logger: logtest.New(h.t), JournalBytes: 64 << 10,
		ReserveBytes: 1, MergeBytes: -1, Clock: h.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (h *node) clock() time.Time { return time.Unix(h.now.Load(), 0) }

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }

func (h *node) write(count int) {
	h.t.Helper()
	for range count {
		done := make(receipt, 1)
		w := stream.Write{Partition: h.on, Record: &record.Record{Timestamp: 1000, Value: fmt.Appendf(nil, "value %d", h.n)}}
		if err := streamtest.Append(h.log, done, w); err != nil {
			h.t.Fatal(err)
		}
		if err := <-done; err != nil {
			h.t.Fatal(err)
		}
		h.n++
	}
}

// back makes a backup.
func (h *node) back(place backup.Place) (m *backup.Manifest, err error) {
	h.t.Helper()
	b, err := backup.New(place).Begin(h.t.Context())
	if err != nil {
		return nil, err
	}
	defer b.Close()
	h.now.Add(1) // ids are times
	im, err := h.log.Image(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	known := map[backup.Sum]bool{}
	for _, s := range b.Known() {
		known[s] = true
	}
	out, in := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		in.CloseWithError(backup.Send(h.t.Context(), in, im, "1", known))
		im.Close()
	}()
	m, _, err = b.Store(h.t.Context(), out, 0, nil)
	_ = out.Close()
	<-sent
	return m, err
}

// holds restores a backup, and wants so many records in it.
func (h *node) holds(place backup.Place, m *backup.Manifest, count int) {
	h.t.Helper()
	r, into := backup.New(place), vfs.NewMemory()
	v, err := r.Verify(h.t.Context(), m, nil, nil)
	if err != nil || len(v.Findings) > 0 || v.Checked.Records < int64(count) {
		h.t.Fatalf("verify %s: %+v %v", m.ID, v, err)
	}
	if _, err := r.Restore(h.t.Context(), m, into, store.Restoring{Now: h.clock()}, nil); err != nil {
		h.t.Fatal(err)
	}
	s := h.open(into)
	if at, err := s.Bounds(h.on); err != nil || at.High != record.Offset(count)+store.RestoreGap {
		h.t.Fatalf("%s ends at %d %v", m.ID, at.High, err)
	}
}

// TestBackup makes a backup, breaks off the next one at each of its requests, and damages what is there: what lists as
// whole is whole, and what is not is found.
func TestBackup(t *testing.T) {
	s, h := newShop(t), newNode(t)
	place := s.open()
	h.write(300)
	first, err := h.back(place)
	if err != nil {
		t.Fatal(err)
	}
	h.holds(place, first, 300)
	start := maps.Clone(s.objects)
	h.write(20)
	for n, done := 1, false; !done; n++ {
		asked := 0
		s.with(func() {
			s.objects = maps.Clone(start)
			s.before = func(http.ResponseWriter, *http.Request) bool {
				if asked++; asked == n {
					panic(http.ErrAbortHandler)
				}
				return true
			}
		})
		_, err := h.back(place)
		s.with(func() {
			s.before, done = nil, asked < n
			delete(s.objects, "some/prefix/"+lockName)
		})
		all, bad, listErr := backup.New(place).List(t.Context())
		if listErr != nil || len(bad) > 0 || err == nil && len(all) != 2 {
			t.Fatalf("request %d (%v): %d backups, %v, %v", n, err, len(all), bad, listErr)
		}
		for _, m := range all {
			if v, err := backup.New(place).Verify(t.Context(), m, nil, nil); err != nil || len(v.Findings) > 0 {
				t.Fatalf("request %d: %s: %+v %v", n, m.ID, v, err)
			}
		}
		if _, err := h.back(place); err != nil {
			t.Fatalf("behind request %d: %v", n, err)
		}
	}
	last, err := h.back(place)
	if err != nil {
		t.Fatal(err)
	}
	h.holds(place, first, 300)
	h.holds(place, last, h.n)
	key := "some/prefix/objects/" + first.Files[0].Pieces[0].String()[:2] + "/" + first.Files[0].Pieces[0].String()
	good := s.objects[key]
	changed := slices.Clone(good.content)
	changed[len(changed)/2] ^= 1
	for what, content := range map[string][]byte{"changed": changed, "truncated": changed[:len(changed)/2]} {
		s.with(func() { s.objects[key] = object{content, good.modified} })
		v, err := backup.New(s.open()).Verify(t.Context(), first, nil, nil)
		if err != nil || len(v.Findings) == 0 || v.Findings[0].File != first.Files[0].Name {
			t.Errorf("%s: %+v %v", what, v, err)
		}
	}
	s.with(func() { s.objects[key] = good })
	if _, err := backup.New(place).Remove(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	if slices.Contains(s.names(), key) || slices.Contains(s.names(), "some/prefix/"+lockName) {
		t.Errorf("left: %q", s.names())
	}
	h.holds(place, last, h.n)
}

// TestLock: one at a time writes, and who was killed keeps nobody away for ever.
func TestLock(t *testing.T) {
	s := newShop(t)
	one, two := s.open(), s.open()
	one.keeps = time.Hour // it stands still
	wants(t, "without the lock", one.Put(t.Context(), "x", nil), fault.Internal)
	if _, err := one.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := two.Lock(t.Context())
	wants(t, "two at once", err, fault.Exists)
	s.with(func() { s.now = s.now.Add(lockLasts + time.Second) })
	lock, err := two.Lock(t.Context())
	if err != nil {
		t.Fatalf("the first one was killed: %v", err)
	}
	one.held.keepOnce(t.Context())
	wants(t, "the first one, which was not killed", one.Put(t.Context(), "x", nil), fault.Fenced)
	if err := one.held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := two.Put(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
	if got := s.names(); !slices.Equal(got, []string{"some/prefix/x"}) {
		t.Errorf("left: %q", got)
	}
	one.lasts = time.Millisecond
	if _, err = one.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(patience); !fault.Is(one.Put(t.Context(), "x", nil), fault.Fenced); {
		if time.Now().After(limit) {
			t.Fatal("who cannot keep the lock goes on")
		}
	}
}

// TestLockIsKept: who writes for long keeps the lock, also when answers are lost.
func TestLockIsKept(t *testing.T) {
	s := newShop(t)
	o := s.options()
	o.Attempts = 3
	b, err := Open("s3://bucket/some/prefix", o)
	if err != nil {
		t.Fatal(err)
	}
	b.keeps = time.Millisecond
	lost := 0
	s.with(func() { s.after = func(*http.Request) bool { lost++; return lost%3 != 1 } })
	lock, err := b.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		puts := 0
		s.with(func() { puts = s.puts })
		if puts > 10 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d times in %v", puts, patience)
		}
	}
	s.with(func() { s.after = nil })
	if err := b.Put(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
	if got := s.names(); !slices.Equal(got, []string{"some/prefix/x"}) {
		t.Errorf("left: %q", got)
	}
}

// TestNoConditions: a store that puts whatever the condition is refused, and so is one that says that it has none.
func TestNoConditions(t *testing.T) {
	s := newShop(t)
	s.with(func() { s.blind = true })
	_, err := s.open().Lock(t.Context())
	wants(t, "blind", err, fault.Unsupported)
	s.with(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-None-Match") != "" {
				fail(w, http.StatusNotImplemented, "NotImplemented")
				return false
			}
			return true
		}
	})
	_, err = s.open().Lock(t.Context())
	wants(t, "not implemented", err, fault.Unsupported)
	if got := s.names(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

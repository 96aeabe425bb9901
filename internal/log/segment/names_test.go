package segment

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// listed are the names of a run of one chapter.
func listed(names ...string) *Names {
	var nb NamesBuilder
	nb.Add(0, 1, all(names))
	return nb.Names()
}

func all(names []string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, n := range names {
			if !yield([]byte(n)) {
				return
			}
		}
	}
}

// below is what a reader of a filter like a/b/# or of one name wants.
func below(stem string) *Wanted {
	return &Wanted{Stems: [][]byte{[]byte(stem)}, Match: func(name []byte) bool {
		return string(name) == stem || strings.HasPrefix(string(name), stem+"/")
	}}
}

// chapters has one chapter for each list of names, each ten offsets long.
func chapters(lists ...[]string) *Names {
	nb := NamesBuilder{Mapping: 7}
	for i, names := range lists {
		var give func(func([]byte) bool)
		if names != nil {
			give = all(names)
		}
		nb.Add(record.Offset(10*i+9), chapterBytes, give)
	}
	return nb.Names()
}

// fleet names n devices of a line.
func fleet(line string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("plant/%s/machine-%06d/rpm", line, i))
	}
	return names
}

func TestSkip(t *testing.T) {
	n := chapters(fleet("a", 3), fleet("b", 5000), nil, fleet("c", 5000), []string{"plant/d"})
	if kinds := fmt.Sprint(n.chapters[0].kind, n.chapters[1].kind, n.chapters[2].kind); kinds != "1 2 0" {
		t.Fatalf("kinds %s: the test shows nothing", kinds)
	}
	for _, c := range []struct {
		stem       string
		from, want record.Offset
	}{
		{"plant/a", 0, 0}, {"plant/a", 5, 5}, {"plant/a", 10, 20}, // chapter 2 is not known and must be read
		{"plant/b/machine-000007/rpm", 0, 10}, {"plant/b", 0, 10}, {"plant/b", 19, 19}, {"plant/b", 20, 20},
		{"plant/c/machine-004999", 30, 30}, {"plant/nobody", 30, 50}, {"plant", 30, 30}, {"plan", 30, 50},
		{"plant/d", 30, 40}, {"plant/d", 49, 49}, {"plant/d", 50, 50}, {"plant/d", 80, 80},
	} {
		if got := n.Skip(c.from, below(c.stem)); got != c.want {
			t.Errorf("%s from %d: %d, want %d", c.stem, c.from, got, c.want)
		}
	}
	everything := &Wanted{Match: func(name []byte) bool { return strings.HasSuffix(string(name), "/d") }}
	if got := n.Skip(30, everything); got != 30 {
		t.Errorf("without stems a filter cannot tell, yet it went on at %d", got)
	}
}

// TestNamesErr holds a filter to its promise: never a wrong no, and few wrong yeses.
func TestNamesErr(t *testing.T) {
	in := fleet("a", 20_000)
	n := chapters(in)
	for _, name := range in {
		if n.Skip(0, below(name)) != 0 {
			t.Fatalf("%s is there and was passed over", name)
		}
	}
	wrong := 0
	const tries = 20_000
	for _, name := range fleet("z", tries) {
		if n.Skip(0, below(name)) == 0 {
			wrong++
		}
	}
	if wrong > tries/100 {
		t.Errorf("%d wrong answers of %d", wrong, tries)
	}
	if size := len(n.append(nil)); size > maxHashBytes+64 {
		t.Errorf("%d bytes for a chapter of %d", size, chapterBytes)
	}
}

func TestNamesRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var lists [][]string
		for range rng.IntN(5) {
			var names []string
			if rng.IntN(4) > 0 {
				names = fleet(fmt.Sprint(rng.IntN(3)), rng.IntN(200))
			}
			lists = append(lists, names)
		}
		n := chapters(lists...)
		b := n.append(nil)
		got, ok := decodeNames(b)
		if !ok || (got == nil) != (n == nil) || n != nil && (got.Mapping != 7 || len(got.chapters) != len(n.chapters)) {
			t.Fatalf("%+v became %+v, %v", n, got, ok)
		}
		for i := range got.all() {
			a, b := got.chapters[i], n.chapters[i]
			if a.last != b.last || a.kind != b.kind || string(a.data) != string(b.data) {
				t.Fatalf("chapter %d: %+v became %+v", i, b, a)
			}
		}
	}
}

func (n *Names) all() []chapter {
	if n == nil {
		return nil
	}
	return n.chapters
}

// TestNamesOfARun gives names of many kinds to a writer and reads them back.
func TestNamesOfARun(t *testing.T) {
	fs := vfs.NewMemory()
	w, err := Create(fs, "x")
	if err != nil {
		t.Fatal(err)
	}
	w.ByMapping(99)
	long := strings.Repeat("n", maxName)
	for i, names := range [][]string{{"a", "b"}, fleet("a", 3000), {long}, {long + "n"}, {}} {
		for o := range record.Offset(2) { // the same names again cost nothing
			if err := w.Append(uint32(i), batch(o, 1, 1), all(names)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for i, wanted := range []string{"a", "plant/a/machine-002999/rpm", long, long + "n"} {
		n, err := s.Names(uint32(i))
		if err != nil || n == nil || n.Mapping != 99 {
			t.Fatalf("run %d: %+v %v", i, n, err)
		}
		if n.Skip(0, below(wanted)) != 0 || n.Skip(0, below("nobody")) != 2 {
			t.Errorf("run %d: %d and %d", i, n.Skip(0, below(wanted)), n.Skip(0, below("nobody")))
		}
	}
	if n, err := s.Names(4); err != nil || n == nil || n.Skip(0, below("a")) != 2 {
		t.Errorf("no names at all: %+v %v", n, err)
	}
	if _, err := s.Names(99); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
}

func FuzzDecodeNames(f *testing.F) {
	f.Add(chapters(fleet("a", 3), fleet("b", 500), nil).append(nil))
	f.Add((*Names)(nil).append(nil))
	f.Add([]byte{1, 2, 0, 'a', 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := decodeNames(b)
		if !ok || n == nil {
			return
		}
		if at := n.Skip(0, below("plant/a")); at < 0 {
			t.Errorf("skips to %d", at)
		}
		again, ok := decodeNames(n.append(nil))
		if !ok || !reflect.DeepEqual(n, again) {
			t.Errorf("%+v became %+v", n, again)
		}
	})
}

func BenchmarkNamesAdd(b *testing.B) {
	names := fleet("a", 2000)
	give := all(names)
	var nb NamesBuilder
	for b.Loop() {
		nb.Add(0, 100*len(names), give)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(names)), "ns/name")
}

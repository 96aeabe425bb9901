package share_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/share"
)

// TestPlays plays testdata: each file is a partition, each command an event, the output what it answers and holds.
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata/plays", func(t *testing.T, path string) {
		p := new(share.Partition)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			answer := event(t, &p, d)
			return fmt.Sprintf("%s: next %d, cursor %d, open %d, released %v\n", answer, p.Next(), p.Cursor(), p.Open(),
				offsets(p.Released(nil, 100)))
		})
	})
}

func event(t *testing.T, p **share.Partition, d *datadriven.TestData) string {
	number := func(i int) int64 {
		n, err := strconv.ParseInt(d.CmdArgs[i].Key, 10, 64)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return n
	}
	who := func(i int) share.Member { return share.Member(number(i)) }
	one := *p
	switch d.Cmd {
	case "begin":
		one.Begin(number(0))
	case "acquire":
		return strconv.FormatBool(one.Acquire(number(0), who(1)))
	case "pass":
		one.Pass(number(0))
	case "retract":
		one.Retract(number(0))
	case "acknowledge":
		return strconv.FormatBool(one.Acknowledge(number(0), who(1)))
	case "discard":
		return strconv.FormatBool(one.Discard(number(0)))
	case "release":
		return strconv.FormatBool(one.Release(number(0), who(1)))
	case "release-all":
		return strconv.Itoa(one.ReleaseAll(who(0)))
	case "reacquire":
		return strconv.FormatBool(one.Reacquire(number(0), who(1)))
	case "restart":
		b := one.AppendTo(nil)
		again, err := share.Parse(b)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		*p = again
		return fmt.Sprintf("%x", b)
	default:
		d.Fatalf(t, "unknown event %s", d.Cmd)
	}
	return "ok"
}

func offsets(list []share.Again) (all []int64) {
	for _, a := range list {
		all = append(all, a.Offset)
	}
	return all
}

// model is a partition as one would tell it: what each record below next is.
type model struct {
	next int64
	open map[int64]share.Member // 0: released
}

func (m *model) released() (all []int64) {
	for offset, by := range m.open {
		if by == 0 {
			all = append(all, offset)
		}
	}
	slices.Sort(all)
	return all
}

func (m *model) cursor() int64 {
	least := m.next
	for offset := range m.open {
		least = min(least, offset)
	}
	return least
}

// TestModel compares long random lives with the model, over restarts.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 7))
		p, m := new(share.Partition), &model{open: make(map[int64]share.Member)}
		var did []string
		for range 2000 {
			did = append(did, step(t, rng, &p, m))
			if p.Next() != m.next || p.Cursor() != m.cursor() || p.Open() != len(m.open) ||
				p.Free() != len(m.released()) || !slices.Equal(offsets(p.Released(nil, 1<<20)), m.released()) {
				t.Fatalf("seed %d: next %d, cursor %d, open %d, released %v;\nmodel %+v\nafter %s", seed, p.Next(), p.Cursor(),
					p.Open(), offsets(p.Released(nil, 1<<20)), m, strings.Join(did[max(0, len(did)-20):], "\n"))
			}
		}
	}
}

// step does one thing to both, and checks that both answer alike.
func step(t *testing.T, rng *rand.Rand, p **share.Partition, m *model) string {
	t.Helper()
	one := *p
	by := share.Member(1 + rng.IntN(3))
	some := m.next - int64(rng.IntN(80)) + 5 // mostly given out
	same := func(what string, got, want bool) string {
		t.Helper()
		if got != want {
			t.Fatalf("%s %d by %d: %v, want %v", what, some, by, got, want)
		}
		return fmt.Sprintf("%s %d by %d: %v", what, some, by, got)
	}
	holder, open := m.open[some]
	switch rng.IntN(12) {
	case 0, 1, 2, 3:
		some = m.next + int64(rng.IntN(3))
		m.open[some], m.next = by, some+1
		return same("acquire", one.Acquire(some, by), true)
	case 4, 5, 6:
		if open && holder == by {
			delete(m.open, some)
		}
		return same("acknowledge", one.Acknowledge(some, by), open && holder == by)
	case 7:
		if open && holder == by {
			m.open[some] = 0
		}
		return same("release", one.Release(some, by), open && holder == by)
	case 8:
		if open && holder == 0 {
			m.open[some] = by
		}
		return same("reacquire", one.Reacquire(some, by), open && holder == 0)
	case 9:
		if open && holder == 0 {
			delete(m.open, some)
		}
		return same("discard", one.Discard(some), open && holder == 0)
	case 10:
		to := max(m.next-int64(rng.IntN(3)), 0)
		for offset := range m.open {
			if offset >= to {
				delete(m.open, offset)
			}
		}
		m.next = to
		one.Retract(to)
		return fmt.Sprintf("retract %d", to)
	}
	return rarely(t, rng, p, m, by)
}

func rarely(t *testing.T, rng *rand.Rand, p **share.Partition, m *model, by share.Member) string {
	t.Helper()
	switch rng.IntN(4) {
	case 0:
		n := 0
		for offset, who := range m.open {
			if who == by {
				m.open[offset] = 0
				n++
			}
		}
		if got := (*p).ReleaseAll(by); got != n {
			t.Fatalf("released %d, want %d", got, n)
		}
		return fmt.Sprintf("release all of %d", by)
	case 1:
		again, err := share.Parse((*p).AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		*p = again
		for offset := range m.open {
			m.open[offset] = 0
		}
		return "restart"
	default:
		m.next += int64(rng.IntN(4))
		(*p).Pass(m.next)
		return fmt.Sprintf("pass %d", m.next)
	}
}

// TestBounds: no more is open than may be, and what is done costs nothing.
func TestBounds(t *testing.T) {
	var p share.Partition
	for i := range int64(share.MaxOpen) {
		if !p.Acquire(i, 1) {
			t.Fatalf("record %d was refused", i)
		}
	}
	if p.Acquire(share.MaxOpen, 1) || !p.Full() {
		t.Fatal("more are open than may be")
	}
	for i := range int64(share.MaxOpen) - 1 {
		p.Acknowledge(i+1, 1)
	}
	if got := len(p.AppendTo(nil)); p.Cursor() != 0 || got > 16 {
		t.Fatalf("cursor %d, %d bytes", p.Cursor(), got)
	}
	if !p.Acknowledge(0, 1) || p.Cursor() != share.MaxOpen {
		t.Fatalf("cursor %d", p.Cursor())
	}
}

// TestStateBytes is the example of docs/format/sessions.md.
func TestStateBytes(t *testing.T) {
	var p share.Partition
	p.Begin(40)
	for offset := int64(40); offset < 45; offset++ {
		p.Acquire(offset, 1)
	}
	for _, offset := range []int64{40, 42, 44} {
		p.Acknowledge(offset, 1)
	}
	if got := fmt.Sprintf("%x", p.AppendTo(nil)); got != "012d020202" {
		t.Errorf("%s", got)
	}
}

// FuzzState: whatever is read is refused, or is what is written again.
func FuzzState(f *testing.F) {
	for _, b := range []string{"", "\x01\x00\x00", "\x01\x2d\x02\x02\x02", "\x01\x05\x01\x05", "\x02\x00\x00"} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := share.Parse(b)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Fatalf("%v", err)
			}
			return
		}
		if p.Open() != p.Free() || p.Open() > share.MaxOpen || p.Cursor() < 0 || p.Cursor() > p.Next() {
			t.Fatalf("open %d, released %d, cursor %d, next %d", p.Open(), p.Free(), p.Cursor(), p.Next())
		}
		again, err := share.Parse(p.AppendTo(nil))
		if err != nil || again.Next() != p.Next() ||
			!slices.Equal(offsets(again.Released(nil, share.MaxOpen)), offsets(p.Released(nil, share.MaxOpen))) {
			t.Fatalf("%v: %v is %v", err, p, again)
		}
	})
}

// TestShift: in a copy of the log whose offsets are lower, what was open is where it lies there.
func TestShift(t *testing.T) {
	var p share.Partition
	p.Begin(10)
	for offset := int64(10); offset < 14; offset++ {
		p.Acquire(offset, 1)
	}
	p.Acknowledge(11, 1)
	stored, err := share.Parse(p.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	stored.Shift(12) // 10 is not there any more
	var want share.Partition
	want.Begin(0)
	want.Acquire(0, 1)
	want.Acquire(1, 1)
	if got, want := stored.AppendTo(nil), want.AppendTo(nil); !bytes.Equal(got, want) || stored.Free() != 2 {
		t.Errorf("%x, want %x, %d are free", got, want, stored.Free())
	}
}

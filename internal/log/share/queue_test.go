package share_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/share"
)

// TestQueuePlays plays testdata/queues: each file is a share partition, each command an event, the output what comes of
// it and what it is then.
func TestQueuePlays(t *testing.T) {
	datadriven.Walk(t, "testdata/queues", func(t *testing.T, path string) {
		p := &queuePlay{q: share.NewQueue(0), rules: share.Rules{Limit: 3, Renews: true}, locks: 2000}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			answer := p.event(t, d)
			q := p.q
			return fmt.Sprintf("%s\nstart %d, next %d, open %d, acquired %d, from %d, dead %v\n", answer, q.Start(), q.Next(),
				q.Open(), q.Acquired(), q.From(), q.Dead(100))
		})
	})
}

type queuePlay struct {
	q     *share.Queue
	rules share.Rules
	locks int
	saved []byte
}

// spans reads 3-5,7-7.
func spans(t *testing.T, text string) (all []share.Span) {
	t.Helper()
	for one := range strings.SplitSeq(text, ",") {
		first, last, is := strings.Cut(one, "-")
		if !is {
			last = first
		}
		all = append(all, share.Span{First: number(t, first), Last: number(t, last)})
	}
	return all
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var kinds = map[string]share.Kind{
	"gap": share.Gap, "accept": share.Accept, "release": share.Release, "reject": share.Reject, "renew": share.Renew,
}

func (p *queuePlay) event(t *testing.T, d *datadriven.TestData) string {
	arg := func(name, otherwise string) string {
		for _, a := range d.CmdArgs {
			if a.Key == name && len(a.Vals) > 0 {
				return strings.Join(a.Vals, ",")
			}
		}
		return otherwise
	}
	switch d.Cmd {
	case "rules":
		p.rules.Limit = uint16(number(t, arg("limit", "3")))
		p.rules.Letters, p.rules.Renews = d.HasArg("letters"), !d.HasArg("no-renewal")
		p.locks = int(number(t, arg("locks", "2000")))
		return "ok"
	case "acquire":
		batches := spans(t, arg("batches", ""))
		got := p.q.Acquire(&share.Acquire{
			Member: arg("by", "a"), Until: number(t, arg("until", "100")), From: p.q.From(),
			To: number(t, arg("to", fmt.Sprint(batches[len(batches)-1].Last+1))), Batches: batches,
			Most: int(number(t, arg("most", "500"))), Whole: d.HasArg("whole"), Locks: p.locks,
		})
		return fmt.Sprint(got)
	case "acknowledge":
		var acks []share.Ack
		for _, s := range spans(t, arg("batches", "")) {
			a := share.Ack{Span: s}
			for name := range strings.SplitSeq(arg("as", "accept"), ",") {
				a.Kinds = append(a.Kinds, kinds[name])
			}
			acks = append(acks, a)
		}
		p.rules.Until = number(t, arg("until", "200"))
		freed, code := p.q.Acknowledge(arg("by", "a"), acks, p.rules)
		return fmt.Sprintf("freed %v, code %d", freed, code)
	case "leave":
		return fmt.Sprint(p.q.Leave(arg("by", "a"), p.rules))
	case "expire":
		return fmt.Sprintf("%d, then %d", p.q.Expire(number(t, arg("now", "0")), p.rules), p.q.Deadline())
	case "trim":
		return fmt.Sprint(p.q.Trim(number(t, arg("to", "0"))))
	case "bury":
		p.q.Bury(p.q.Dead(100))
		return "ok"
	case "save", "save-delta":
		f := share.Form{Delta: d.Cmd == "save-delta", Base: 1}
		if d.HasArg("letters") {
			f.Dead = p.q.Dead(100)
		}
		p.saved = p.q.AppendTo(nil, f)
		return hex.EncodeToString(p.saved)
	case "restart":
		s, err := share.ParseSaved(p.saved)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		p.q = s.Restore()
		return "ok"
	}
	d.Fatalf(t, "unknown event %s", d.Cmd)
	return ""
}

// held is what a record is in the model.
type held struct {
	by    string // "": it is released
	until int64
	count uint16
	dead  bool
}

// queueModel is a share partition as one would tell it.
type queueModel struct {
	next int64
	open map[int64]held
}

func (m *queueModel) start() int64 {
	least := m.next
	for offset := range m.open {
		least = min(least, offset)
	}
	return least
}

func (m *queueModel) release(offset int64, r share.Rules) {
	h := m.open[offset]
	switch {
	case h.count < r.Limit:
		m.open[offset] = held{count: h.count}
	case r.Letters:
		m.open[offset] = held{count: h.count, dead: true}
	default:
		delete(m.open, offset)
	}
}

// same tells how the queue is not as the model.
func (m *queueModel) same(q *share.Queue) string {
	from, acquired, deadline := m.next, 0, int64(0)
	var dead []int64
	for offset, h := range m.open {
		switch {
		case h.dead:
			dead = append(dead, offset)
		case h.by == "":
			from = min(from, offset)
		default:
			if acquired++; deadline == 0 || h.until < deadline {
				deadline = h.until
			}
		}
	}
	slices.Sort(dead)
	var have []int64
	for _, d := range q.Dead(1 << 20) {
		for offset := d.First; offset <= d.Last; offset++ {
			have = append(have, offset)
		}
	}
	if q.Next() != m.next || q.Start() != m.start() || q.Open() != len(m.open) || q.From() != from ||
		q.Acquired() != acquired || q.Deadline() != deadline || !slices.Equal(dead, have) {
		return fmt.Sprintf("queue: start %d, next %d, open %d, from %d, acquired %d, deadline %d, dead %v\nmodel: start %d, "+
			"next %d, open %d, from %d, acquired %d, deadline %d, dead %v", q.Start(), q.Next(), q.Open(), q.From(),
			q.Acquired(), q.Deadline(), have, m.start(), m.next, len(m.open), from, acquired, deadline, dead)
	}
	return ""
}

// TestQueueModel compares long random lives with the model, and what is stored of them, snapshots and deltas, with what
// they were then.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(20) {
		l := &queueLife{
			t: t, rng: rand.New(rand.NewPCG(seed, 11)), q: share.NewQueue(0), m: &queueModel{open: map[int64]held{}},
			stored: share.NewQueue(0), acked: map[int64]held{}, rules: share.Rules{Limit: 3, Renews: true, Letters: seed%2 == 1},
		}
		for range 2000 {
			did := l.step()
			if wrong := l.m.same(l.q); wrong != "" {
				t.Fatalf("seed %d, after %s:\n%s", seed, did, wrong)
			}
		}
	}
}

type queueLife struct {
	t      *testing.T
	rng    *rand.Rand
	q      *share.Queue
	m      *queueModel
	stored *share.Queue
	saved  bool
	acked  map[int64]held // done with since the last write that did not fail, as they were before
	rules  share.Rules
	now    int64
}

func (l *queueLife) step() string {
	l.now += int64(l.rng.IntN(3))
	member := string(rune('a' + l.rng.IntN(3)))
	switch l.rng.IntN(13) {
	case 0, 1, 2, 3:
		return l.acquire(member)
	case 4, 5, 6, 7:
		return l.acknowledge(member)
	case 8:
		for offset, h := range maps.Clone(l.m.open) {
			if h.by == member {
				l.m.release(offset, l.rules)
			}
		}
		l.q.Leave(member, l.rules)
		return "leave " + member
	case 9:
		for offset, h := range maps.Clone(l.m.open) {
			if h.by != "" && h.until <= l.now {
				l.m.release(offset, l.rules)
			}
		}
		l.q.Expire(l.now, l.rules)
		return "expire"
	case 10:
		return l.save()
	case 11:
		return l.fail()
	}
	to := l.m.start() + int64(l.rng.IntN(4)) - 2
	for offset := range l.m.open {
		if offset < to {
			delete(l.m.open, offset)
		}
	}
	l.m.next = max(l.m.next, to)
	l.q.Trim(to)
	return fmt.Sprintf("trim %d", to)
}

// acquire reads a random piece of a log in which every seventh offset holds no record.
func (l *queueLife) acquire(member string) string {
	from := l.q.From()
	to := from + int64(l.rng.IntN(30))
	a := &share.Acquire{
		Member: member, Until: l.now + 10, From: from, To: to, Most: 1 + l.rng.IntN(20), Whole: l.rng.IntN(2) == 0,
		Locks: 60,
	}
	for offset := from; offset < to; offset++ {
		if n := len(a.Batches); offset%7 == 0 {
			continue
		} else if n > 0 && a.Batches[n-1].Last == offset-1 && offset%5 != 0 {
			a.Batches[n-1].Last = offset
		} else {
			a.Batches = append(a.Batches, share.Span{First: offset, Last: offset})
		}
	}
	before := l.m.start()
	empty := len(l.m.open) == 0
	got := l.q.Acquire(a)
	total := 0
	for _, d := range got {
		for offset := d.First; offset <= d.Last; offset++ {
			h, was := l.m.open[offset]
			if was && (h.by != "" || h.dead) || !was && offset < l.m.next || offset%7 == 0 || d.Count != h.count+1 {
				l.t.Fatalf("%d was given to %s, delivery %d, and is %+v", offset, member, d.Count, h)
			}
			l.m.open[offset] = held{by: member, until: a.Until, count: d.Count}
			total++
		}
	}
	if total > a.Most && !a.Whole || total > a.Most+7 {
		l.t.Fatalf("%d records were given where %d were asked for", total, a.Most)
	}
	for offset, h := range l.m.open { // what the log does not have
		if h.by == "" && !h.dead && offset%7 == 0 && offset < to {
			delete(l.m.open, offset)
		}
	}
	if l.q.Next() > l.m.next {
		if !empty && l.q.Next()-before > 60+int64(len(a.Batches))+30 {
			l.t.Fatalf("from %d to %d are locked", before, l.q.Next())
		}
		if l.q.Next() > to {
			l.t.Fatalf("next is %d where %d was read", l.q.Next(), to)
		}
		for offset := l.m.next; offset < l.q.Next(); offset++ {
			if _, is := l.m.open[offset]; !is && offset%7 != 0 {
				l.t.Fatalf("%d was passed over", offset)
			}
		}
		l.m.next = l.q.Next()
	}
	return fmt.Sprintf("acquire %+v: %v", *a, got)
}

func (l *queueLife) acknowledge(member string) string {
	first := l.m.start() + int64(l.rng.IntN(20)) - 2
	a := share.Ack{Span: share.Span{First: first, Last: first + int64(l.rng.IntN(6))}}
	for offset := a.First; offset <= a.Last; offset++ {
		a.Kinds = append(a.Kinds, share.Kind(l.rng.IntN(5)))
	}
	want := share.OK
	if a.Last >= l.m.next {
		want = share.Beyond
	}
	for offset := max(a.First, l.m.start()); offset <= a.Last && want == share.OK; offset++ {
		h, is := l.m.open[offset]
		if (!is || h.by != member) && (is || a.Kinds[offset-a.First] != share.Gap) {
			want = share.NotHeld
		}
	}
	l.rules.Until = l.now + 20
	_, code := l.q.Acknowledge(member, []share.Ack{a}, l.rules)
	if code == share.NotHeld && want == share.OK { // done with, but remembered
		for offset := a.First; offset <= a.Last; offset++ {
			if _, is := l.m.open[offset]; !is && a.Kinds[offset-a.First] == share.Gap {
				want = share.NotHeld
			}
		}
	}
	if code != want {
		l.t.Fatalf("acknowledge %+v by %s: %d, want %d", a, member, code, want)
	}
	for offset := a.First; offset <= a.Last && code == share.OK; offset++ {
		h, is := l.m.open[offset]
		if !is {
			continue
		}
		if kind := a.Kinds[offset-a.First]; kind != share.Release && kind != share.Renew {
			l.acked[offset] = h
		}
		switch a.Kinds[offset-a.First] {
		case share.Accept, share.Gap:
			delete(l.m.open, offset)
		case share.Release:
			l.m.release(offset, l.rules)
		case share.Reject:
			if l.rules.Letters {
				l.m.open[offset] = held{count: h.count, dead: true}
			} else {
				delete(l.m.open, offset)
			}
		case share.Renew:
			h.until = l.rules.Until
			l.m.open[offset] = h
		}
	}
	return fmt.Sprintf("acknowledge %+v by %s: %d", a, member, code)
}

// fail has a write fail: what was acknowledged since the last one that did not counts no more.
func (l *queueLife) fail() string {
	began := l.rng.IntN(3) > 0
	if began {
		l.q.AppendTo(nil, share.Form{Base: 7, Epoch: 3, Dead: l.q.Dead(1 << 20)})
		for range l.rng.IntN(3) {
			l.acquire("a")
			l.acknowledge("a")
		}
	}
	l.q.Written(false)
	maps.Copy(l.m.open, l.acked)
	clear(l.acked)
	l.saved = false
	return fmt.Sprintf("a write that fails, and had begun: %v", began)
}

// save stores the queue, and holds what is stored against it.
func (l *queueLife) save() string {
	f := share.Form{Delta: l.saved && l.rng.IntN(3) > 0, Base: 7, Epoch: 3, Dead: l.q.Dead(1 << 20)}
	s, err := share.ParseSaved(l.q.AppendTo(nil, f))
	if err != nil || s.Base != 7 || s.Epoch != 3 || s.Delta != f.Delta {
		l.t.Fatalf("%+v, %v", s, err)
	}
	if l.saved = true; s.Delta {
		l.stored.Apply(s)
	} else {
		l.stored = s.Restore()
	}
	l.q.Written(true)
	clear(l.acked)
	l.q.Bury(f.Dead)
	maps.DeleteFunc(l.m.open, func(_ int64, h held) bool { return h.dead })
	want := &queueModel{next: l.m.next, open: map[int64]held{}}
	for offset, h := range l.m.open {
		want.open[offset] = held{count: h.count}
	}
	if wrong := want.same(l.stored); wrong != "" {
		l.t.Fatalf("stored as %+v:\n%s", f, wrong)
	}
	again := l.stored.AppendTo(nil, share.Form{}) // with the deliveries
	ours := l.q.AppendTo(nil, share.Form{})
	if !slices.Equal(again, ours) {
		l.t.Fatalf("stored: %x, is: %x", again, ours)
	}
	return fmt.Sprintf("save %+v", f)
}

// TestQueueBounds: no more is kept than may be, however large a batch is, and what is done costs nothing.
func TestQueueBounds(t *testing.T) {
	q := share.NewQueue(0)
	big := share.Acquire{
		Member: "a", Until: 1, To: 1 << 20, Batches: []share.Span{{First: 0, Last: 1<<20 - 1}}, Most: 1, Whole: true,
		Locks: 10_000,
	}
	if got := q.Acquire(&big); len(got) != 1 || got[0].Last != 9999 || !q.Full(10_000) {
		t.Fatalf("%v", got)
	}
	if got := q.Acquire(&big); got != nil {
		t.Fatalf("more was given than may be locked: %v", got)
	}
	all := share.Ack{Span: share.Span{First: 0, Last: 9999}, Kinds: []share.Kind{share.Accept}}
	_, code := q.Acknowledge("a", []share.Ack{all}, share.Rules{})
	if code != share.OK || q.Open() != 0 || q.Start() != 10_000 {
		t.Fatalf("code %d, start %d", code, q.Start())
	}
	if got := len(q.AppendTo(nil, share.Form{Base: 1})); got > 12 {
		t.Fatalf("%d bytes", got)
	}
}

// FuzzSaved: whatever is read is refused, or is what is written again.
func FuzzSaved(f *testing.F) {
	for _, b := range []string{
		"", "\x01\x00\x01\x00\x05\x04\x01\x00\x02\x01", "\x01\x01\x01\x00\x05\x04\x01\x00\x02\x00", "\x02\x00",
	} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := share.ParseSaved(b)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Fatalf("%v", err)
			}
			return
		}
		q := s.Restore()
		if q.Open() > share.MaxOpen || q.Start() < 0 || q.Start() > q.Next() || q.Acquired() != 0 {
			t.Fatalf("open %d, start %d, next %d", q.Open(), q.Start(), q.Next())
		}
		first := q.AppendTo(nil, share.Form{Base: s.Base, Epoch: s.Epoch})
		again, err := share.ParseSaved(first)
		if err != nil || !slices.Equal(first, again.Restore().AppendTo(nil, share.Form{Base: s.Base, Epoch: s.Epoch})) {
			t.Fatalf("%x: %v", first, err)
		}
	})
}

// BenchmarkQueue acquires and accepts 500 records at a time, with a snapshot of each.
func BenchmarkQueue(b *testing.B) {
	q := share.NewQueue(0)
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := q.Next()
		got := q.Acquire(&share.Acquire{
			Member: "a", From: next, To: next + 500, Batches: []share.Span{{First: next, Last: next + 499}}, Most: 500,
			Locks: 2000,
		})
		q.Acknowledge("a", []share.Ack{{Span: got[0].Span, Kinds: []share.Kind{share.Accept}}}, share.Rules{})
		buf = q.AppendTo(buf[:0], share.Form{})
	}
}

// TestSavedBytes is the example of docs/format/share-groups.md.
func TestSavedBytes(t *testing.T) {
	q := share.NewQueue(2)
	q.Acquire(&share.Acquire{
		Member: "a", From: 2, To: 6, Batches: []share.Span{{First: 2, Last: 5}}, Most: 4, Locks: 10,
	})
	accept := share.Ack{Span: share.Span{First: 4, Last: 4}, Kinds: []share.Kind{share.Accept}}
	release := share.Ack{Span: share.Span{First: 5, Last: 5}, Kinds: []share.Kind{share.Release}}
	q.Acknowledge("a", []share.Ack{accept, release}, share.Rules{})
	q.Acquire(&share.Acquire{
		Member: "b", From: 5, To: 6, Batches: []share.Span{{First: 5, Last: 5}}, Most: 1, Locks: 10,
	})
	if got := hex.EncodeToString(q.AppendTo(nil, share.Form{Base: 7})); got != "01000700020402000201010102" {
		t.Errorf("%s", got)
	}
}

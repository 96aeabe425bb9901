package partition

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// paper is a File of batches in memory. It notes what was asked of it.
type paper struct {
	name      string
	batches   []record.Batch
	extents   []segment.Extent
	aborts    []Aborted
	gone      bool // Acquire fails
	held      int
	notes     []string
	lost      error  // what Extents and Read fail with
	refuse    int    // how many calls of Acquire fail
	onExtents func() // called by Extents
}

func (f *paper) add(b record.Batch) segment.Extent {
	var pos int64
	if n := len(f.extents); n > 0 {
		pos = f.extents[n-1].Pos + int64(f.extents[n-1].Len)
	}
	e := segment.Of(b, pos)
	f.batches, f.extents = append(f.batches, b), append(f.extents, e)
	return e
}

func (f *paper) Extents(stream.PartitionID) ([]segment.Extent, error) {
	f.notes = append(f.notes, "index of "+f.name)
	if f.onExtents != nil {
		f.onExtents()
	}
	return f.extents, f.lost
}

func (f *paper) Aborts(_ stream.PartitionID, from record.Offset, visit func(Aborted) bool) error {
	f.notes = append(f.notes, "aborts of "+f.name)
	if f.held == 0 {
		return errors.New("aborts without Acquire")
	}
	for _, a := range f.aborts {
		if a.Last >= from && !visit(a) {
			break
		}
	}
	return f.lost
}

func (f *paper) Fill(_ stream.PartitionID, extents []segment.Extent, b []byte) error {
	f.notes = append(f.notes, "load of "+f.name)
	if f.held == 0 {
		return errors.New("fill without Acquire")
	}
	for _, e := range extents {
		for i := range f.extents {
			if f.extents[i].Pos == e.Pos {
				copy(b[e.Pos-extents[0].Pos:], f.batches[i])
			}
		}
	}
	return f.lost
}

func (f *paper) Read(
	_ stream.PartitionID, extents []segment.Extent, maxBytes int, into []record.Batch,
) ([]record.Batch, error) {
	f.notes = append(f.notes, "read of "+f.name)
	if f.held == 0 {
		return into, errors.New("read without Acquire")
	}
	if f.lost != nil {
		return into, f.lost
	}
	size := 0
	for _, e := range extents {
		if size > 0 && size+int(e.Len) > maxBytes {
			break
		}
		for _, b := range f.batches {
			if b.BaseOffset() >= e.Base && b.LastOffset() <= e.Last {
				into = append(into, b)
				size += len(b)
			}
		}
	}
	return into, nil
}

func (f *paper) Acquire() bool {
	if f.gone || f.refuse > 0 {
		f.refuse = max(0, f.refuse-1)
		return false
	}
	f.held++
	return true
}

func (f *paper) Release() { f.held-- }

func (f *paper) Promise() {}

// paperWritten is when all files of paper were written.
const paperWritten = 1000

func (f *paper) Written() int64 { return paperWritten }

// sized builds a batch of epoch 1 with the offsets first..last that takes exactly size bytes.
func sized(t testing.TB, first, last record.Offset, size int, at int64) record.Batch {
	t.Helper()
	for pad := size; pad >= 0; pad-- {
		var bu record.Builder
		bu.Reset(nil, at)
		bu.Append(&record.Record{Value: make([]byte, pad), Timestamp: at})
		for o := first; o < last; o++ {
			bu.Append(&record.Record{Timestamp: at})
		}
		if b := bu.Seal(first, 1); len(b) == size {
			return b
		}
	}
	t.Fatalf("no batch of %d bytes holds offsets %d to %d", size, first, last)
	return nil
}

// desk is the partition of a play and its files.
type desk struct {
	t     *testing.T
	p     *Partition
	files map[string]*paper
	found Stretch
	clean Cleanable
}

func (k *desk) file(name string) *paper {
	if k.files[name] == nil {
		k.files[name] = &paper{name: name}
	}
	return k.files[name]
}

// TestPartition plays testdata/partition*.txt. A line of a block is one of
//
//	commit FILE FIRST LAST BYTES TIME EPOCH   a durable batch
//	add FILE FIRST LAST BYTES TIME            one found while the log is opened
//	seal OLD NEW FROM                         NEW holds what OLD holds from an offset on, and its own index
//	compact OLD NEW GAPS BASE...              NEW holds the batches of OLD that begin there, compacted below GAPS
//	span FILE FIRST LAST BYTES TIME CLEAN     one of a sealed file found while the log is opened, compacted below CLEAN
//	cleanable NOW; cover FILE (by what was compacted of the last cleanable)
//	gap FROM TO                               may these offsets be missing
//	drop FILE; gone FILE; back FILE; lose FILE
//	read FROM BYTES; look FROM BYTES (a Find); load ROOM (what the last look found)
//	evict COUNT; trim START; expired NOW; time T; newest; epoch N; delete
//	show; bounds
func TestPartition(t *testing.T) {
	datadriven.Walk(t, "testdata/partition", func(t *testing.T, path string) {
		var k *desk
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				s := stream.Settings{RetentionMs: -1, RetentionBytes: -1, SegmentBytes: 1 << 30, Delete: true}
				d.MaybeScanArgs(t, "ms", &s.RetentionMs)
				d.MaybeScanArgs(t, "bytes", &s.RetentionBytes)
				d.MaybeScanArgs(t, "step", &s.SegmentBytes)
				d.MaybeScanArgs(t, "minlag", &s.MinCompactionLagMs)
				s.MaxCompactionLagMs = math.MaxInt64
				d.MaybeScanArgs(t, "maxlag", &s.MaxCompactionLagMs)
				var policy, ratio string
				if d.MaybeScanArgs(t, "ratio", &ratio); ratio != "" {
					s.MinDirtyRatio, _ = strconv.ParseFloat(ratio, 64)
				}
				if d.MaybeScanArgs(t, "policy", &policy); policy != "" {
					s.Delete, s.Compact = strings.Contains(policy, "delete"), strings.Contains(policy, "compact")
				}
				k = &desk{t: t, p: New(1, s), files: map[string]*paper{}}
				return ""
			}
			var out strings.Builder
			for line := range strings.SplitSeq(d.Input, "\n") {
				if answer := k.act(line); answer != "" {
					fmt.Fprintln(&out, answer)
				}
			}
			for _, f := range k.files {
				if f.held != 0 {
					t.Errorf("%s: %s is held %d times", d.Pos, f.name, f.held)
				}
			}
			return out.String()
		})
	})
}

// Long: a case for each verb.
func (k *desk) act(line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	var name, by string
	var first, last, gaps record.Offset
	var size int
	var at int64
	var epoch int32
	scan := func(into ...any) {
		if n, err := fmt.Sscan(rest, into...); err != nil {
			k.t.Fatalf("%q: argument %d: %v", line, n+1, err)
		}
	}
	switch verb {
	case "commit":
		scan(&name, &first, &last, &size, &at, &epoch)
		b := sized(k.t, first, last, size, at)
		b.SetLeaderEpoch(epoch)
		k.p.Commit(b, k.file(name), k.file(name).add(b))
	case "add":
		scan(&name, &first, &last, &size, &at)
		k.p.Add(k.file(name), k.file(name).add(sized(k.t, first, last, size, at)))
	case "seal":
		scan(&name, &by, &first)
		k.seal(name, by, first)
	case "compact":
		k.compact(strings.Fields(rest))
	case "span":
		scan(&name, &first, &last, &size, &at, &gaps)
		k.p.AddSpan(k.span(name, Span{Base: first, Last: last, MaxTime: at, Bytes: int64(size)}, gaps))
		state := k.p.State()
		state.High = max(state.High, last+1)
		k.p.Restore(state)
	case "cleanable":
		scan(&at)
		var due bool
		k.clean, due = k.p.Cleanable(at)
		return fmt.Sprintf("%d spans, dirty [%d, %d), bytes %d clean %d dirty, due %v", len(k.clean.Spans),
			k.clean.Dirty, k.clean.End, k.clean.CleanBytes, k.clean.DirtyBytes, due)
	case "cover":
		scan(&name)
		s := k.span(name, Span{Base: k.clean.Spans[0].Base, Last: k.clean.End - 1, MaxTime: 7, Bytes: 10}, k.clean.End)
		return fmt.Sprint(k.p.Cover(s, k.clean.Spans))
	case "gap":
		scan(&first, &last)
		return fmt.Sprint(k.p.Gap(first, last))
	case "drop":
		scan(&name)
		k.p.Replace(k.file(name), nil, nil)
	case "gone", "back":
		scan(&name)
		k.file(name).gone = verb == "gone"
	case "lose":
		scan(&name)
		k.file(name).lost = fault.New(fault.Corrupt, "test", "a bad index")
	case "restore":
		scan(&first, &last)
		k.p.Restore(State{Start: first, High: last})
	case "read":
		scan(&first, &size)
		return k.read(first, size)
	case "look":
		scan(&first, &size)
		return k.look(first, size)
	case "beyond":
		f, then := k.found.Beyond()
		if f == nil {
			return "nothing"
		}
		return fmt.Sprintf("%d-%d in %s", then[0].Base, then[len(then)-1].Last, f.(*paper).name)
	case "load":
		scan(&size)
		return k.load(size)
	case "evict":
		scan(&size)
		for range size {
			k.p.Evict()
		}
	case "trim":
		scan(&first)
		return fmt.Sprint(k.p.Trim(first))
	case "expired":
		scan(&at)
		return fmt.Sprint(k.p.Expired(at))
	case "time", "newest", "epoch":
		return k.find(verb, rest)
	case "delete":
		k.p.Delete()
	case "show":
		return k.show()
	case "bounds":
		b, err := k.p.Bounds()
		return told(fmt.Sprintf("[%d, %d)", b.Start, b.High), err)
	default:
		k.t.Fatalf("%q: no such verb", line)
	}
	return ""
}

func told(answer string, err error) string {
	if err != nil {
		return fault.KindOf(err).String()
	}
	return answer
}

func (k *desk) find(verb, rest string) string {
	var n int64
	if verb != "newest" {
		if _, err := fmt.Sscan(rest, &n); err != nil {
			k.t.Fatal(err)
		}
	}
	var o record.Offset
	var err error
	switch verb {
	case "time":
		o, err = k.p.AtTime(0, n)
	case "newest":
		o, err = k.p.Newest(0)
	case "epoch":
		epoch, end, err := k.p.EndOfEpoch(int32(n))
		return told(fmt.Sprintf("epoch %d ends at %d", epoch, end), err)
	}
	return told(fmt.Sprint(o), err)
}

// seal does what a roll-up does: the batches from an offset on go to another file with its own index.
func (k *desk) seal(name, by string, from record.Offset) {
	old, fresh := k.file(name), k.file(by)
	var sum *Summary
	for _, b := range old.batches {
		if b.LastOffset() < from {
			continue
		}
		e := fresh.add(b)
		if sum == nil {
			sum = &Summary{Base: e.Base}
		}
		sum.Last, sum.MaxTime, sum.Bytes = e.Last, max(sum.MaxTime, e.MaxTime), sum.Bytes+int64(e.Len)
	}
	k.p.Replace(old, fresh, sum)
	old.gone = true
}

// span is a span of a sealed file that holds one batch.
func (k *desk) span(name string, s Span, clean record.Offset) Span {
	s.File = k.file(name)
	if clean > s.Base {
		s.Compacted = &segment.Compacted{Base: s.Base, Gaps: clean, Clean: clean}
	}
	e := segment.Extent{Base: s.Base, Last: s.Last, MaxTime: s.MaxTime}
	k.file(name).extents = append(k.file(name).extents, e)
	return s
}

// compact does what the cleaner does: some batches of a file go to another one.
func (k *desk) compact(args []string) {
	old, fresh := k.file(args[0]), k.file(args[1])
	gaps, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		k.t.Fatal(err)
	}
	sum := &Summary{Base: old.extents[0].Base}
	sum.Compacted = &segment.Compacted{Base: sum.Base, Gaps: record.Offset(gaps)}
	for i, b := range old.batches {
		if slices.Contains(args[3:], fmt.Sprint(b.BaseOffset())) {
			fresh.add(b)
			sum.MaxTime, sum.Bytes = max(sum.MaxTime, b.MaxTimestamp()), sum.Bytes+int64(len(b))
		}
		sum.Last = old.extents[i].Last
	}
	k.p.Replace(old, fresh, sum)
	old.gone = true
}

func (k *desk) read(from record.Offset, size int) string {
	for _, f := range k.files {
		f.notes = nil
	}
	batches, err := k.p.Read(from, size, nil)
	if err != nil {
		return fault.KindOf(err).String()
	}
	return k.tell(batches)
}

// tell lists batches and what was asked of the files.
func (k *desk) tell(batches []record.Batch) string {
	line := "nothing"
	if len(batches) > 0 {
		line = ""
	}
	for _, b := range batches {
		line += fmt.Sprintf("%d-%d ", b.BaseOffset(), b.LastOffset())
	}
	for _, f := range k.files {
		if len(f.notes) > 0 {
			line += "by " + strings.Join(f.notes, ", ")
		}
	}
	return strings.TrimSpace(line)
}

func (k *desk) look(from record.Offset, size int) string {
	for _, f := range k.files {
		f.notes = nil
	}
	batches, st, err := k.p.Find(from, size, nil)
	if err != nil {
		return fault.KindOf(err).String()
	}
	if k.found = st; st.Size() == 0 {
		return k.tell(batches)
	}
	return fmt.Sprintf("%d bytes in %s, next %d", st.Size(), st.file.(*paper).name, st.Next())
}

// load loads into so much room, again and again as long as something comes.
func (k *desk) load(room int) string {
	for _, f := range k.files {
		f.notes = nil
	}
	var batches []record.Batch
	var failed error
	for k.found.Size() > 0 && failed == nil {
		buf, pieces, err := k.found.Load(make([]byte, 0, room), nil)
		failed = err
		total, first := 0, len(batches)
		for _, rest := range pieces {
			total += len(rest)
			for len(rest) > 0 {
				var b record.Batch
				if b, rest, err = record.Next(rest); err != nil || b.Check() != nil {
					k.t.Fatalf("a piece that is no batch: %v", err)
				}
				batches = append(batches, b)
			}
		}
		if failed == nil && total > max(room, len(batches[first])) || len(buf) < total {
			k.t.Errorf("%d bytes were loaded into %d", total, room)
		}
	}
	line := k.tell(batches)
	if failed != nil {
		line += " then " + fault.KindOf(failed).String()
	}
	return line
}

func (k *desk) show() string {
	var lines []string
	k.p.Live(func(s Span) {
		name := s.File.(*paper).name
		lines = append(lines, fmt.Sprintf("%s %d-%d %d bytes until %d", name, s.Base, s.Last, s.Bytes, s.MaxTime))
	})
	return strings.Join(append(lines, fmt.Sprintf("%d bytes", k.p.Bytes())), "\n")
}

// TestReadLooksAgain lets a file go between finding and reading it, as a roll-up may.
func TestReadLooksAgain(t *testing.T) {
	p := New(1, stream.Settings{})
	k := &desk{t: t, p: p, files: map[string]*paper{}}
	k.act("commit a 0 4 100 10 1")
	k.act("commit a 5 9 100 20 1")
	k.act("evict 2")
	k.act("seal a s 0")
	k.file("s").refuse = attempts - 1
	if got := k.read(7, 1); got != "5-9 by index of s, read of s" {
		t.Errorf("read: %s", got)
	}
	k.file("s").onExtents = func() { k.act("seal s r 5") }
	k.file("s").refuse = 1
	if o, err := p.AtTime(0, 20); o != 5 || err != nil {
		t.Errorf("by time: %d, %v; want 5", o, err)
	}
}

// TestRestoreAndReplay opens a partition as the store does: a checkpoint, then what lies behind it.
func TestRestoreAndReplay(t *testing.T) {
	p := New(1, stream.Settings{})
	p.Restore(State{Start: 5, High: 10, Epochs: Epochs{{Epoch: 2, Start: 0}}})
	f := &paper{name: "j"}
	for i, b := range []record.Batch{sized(t, 5, 9, 100, 1), sized(t, 10, 14, 100, 1), sized(t, 15, 15, 100, 1)} {
		b.SetLeaderEpoch([]int32{2, 3, 3}[i])
		p.Add(f, f.add(b))
		if b.BaseOffset() >= 10 {
			p.Replay(b, b.BaseOffset(), b.LastOffset(), b.LeaderEpoch())
		}
	}
	s := p.State()
	if s.Start != 5 || s.High != 16 || p.Next != 16 || fmt.Sprint(s.Epochs) != "[{2 0} {3 10}]" {
		t.Errorf("state %+v, next %d", s, p.Next)
	}
	s.Epochs[0].Start = 99
	if p.State().Epochs[0].Start != 0 {
		t.Error("State shares its epochs with the partition")
	}
	batches, err := p.Read(12, 1000, nil)
	if err != nil || len(batches) != 2 || batches[0].BaseOffset() != 10 {
		t.Errorf("read %v, %v", batches, err)
	}
}

// sheet is a File of one batch that any number of readers may read.
type sheet struct{ record.Batch }

func (f *sheet) Extents(stream.PartitionID) ([]segment.Extent, error) {
	return []segment.Extent{segment.Of(f.Batch, 0)}, nil
}

func (f *sheet) Read(_ stream.PartitionID, _ []segment.Extent, _ int, into []record.Batch) ([]record.Batch, error) {
	return append(into, f.Batch), nil
}

func (f *sheet) Fill(_ stream.PartitionID, _ []segment.Extent, b []byte) error {
	copy(b, f.Batch)
	return nil
}

func (f *sheet) Aborts(stream.PartitionID, record.Offset, func(Aborted) bool) error { return nil }

func (f *sheet) Written() int64 { return 0 }
func (f *sheet) Acquire() bool  { return true }
func (f *sheet) Release()       {}
func (f *sheet) Promise()       {}

// TestReadersAndKeepers lets readers run beside commits, evictions and trims.
func TestReadersAndKeepers(t *testing.T) {
	const rounds = 300
	p := New(1, stream.Settings{})
	stop, failed := make(chan struct{}), make(chan error, 4)
	for range cap(failed) {
		go func() { failed <- follow(p, stop) }()
	}
	for i := range record.Offset(rounds) {
		b := sized(t, i, i, 100, int64(i))
		f := &sheet{b}
		p.Commit(b, f, segment.Of(b, 0))
		if i%3 == 0 {
			p.Evict()
		}
		if i%50 == 49 {
			p.Trim(i - 20)
		}
	}
	close(stop)
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// follow reads from the start of the partition to its end, again and again, until stop.
func follow(p *Partition, stop chan struct{}) error {
	var next record.Offset
	for {
		bounds, err := p.Bounds()
		if err != nil {
			return err
		}
		next = max(next, bounds.Start)
		batches, err := p.Read(next, 1, nil)
		if err != nil && !fault.Is(err, fault.OutOfRange) {
			return err
		}
		for _, b := range batches {
			if b.BaseOffset() != next {
				return fmt.Errorf("asked for %d, got %d", next, b.BaseOffset())
			}
			next = b.LastOffset() + 1
		}
		select {
		case <-stop:
			if len(batches) == 0 && err == nil {
				return nil
			}
		default:
		}
	}
}

func (f *paper) Names(stream.PartitionID) (*segment.Names, error) { return nil, nil }
func (f *sheet) Names(stream.PartitionID) (*segment.Names, error) { return nil, nil }

// TestSurvive opens a partition with a checkpoint from before retention removed the end of a transaction: it is not
// open any more, and holds nobody back.
func TestSurvive(t *testing.T) {
	p := New(1, stream.Settings{})
	open := []Open{{ProducerID: 1, First: 5}, {ProducerID: 2, First: 110}}
	p.Restore(State{High: 10, Transactions: Transactions{Opened: open}})
	p.Replay(nil, 100, 119, 1)
	p.Survive(100)
	if got, err := p.Bounds(); err != nil || got != (stream.Bounds{Start: 100, Stable: 110, High: 120}) {
		t.Errorf("bounds are %+v, %v", got, err)
	}
}

package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// waiter waits in the line with one record.
type waiter struct {
	turn  stream.Turn
	unit  stream.Unit
	calls int
}

// placedAt notes the offset of each waiter's record.
type placedAt struct {
	offsets []record.Offset
	left    chan<- error
}

func (p *placedAt) Appended(ticket uint64, at stream.Placed, err error) {
	if err == nil {
		p.offsets[ticket] = at.Offset(0)
	}
	p.left <- err
}

// line is a log whose disk stands still, with a full open group and many who wait in the line.
type line struct {
	t       *testing.T
	s       *store.Store
	waiters []waiter
	roomy   chan int // who was called
	at      *placedAt
	fates   chan error
	begun   int // appended before the line began
	goOn    func()
}

// lineUp keeps room for so long for those who were called; 0: as long as by default.
func lineUp(t *testing.T, many int, comeTime time.Duration) *line {
	t.Helper()
	faulty := vfs.NewFaulty(vfs.NewMemory())
	opt := small(faulty)
	opt.JournalBytes, opt.GroupBytes, opt.ComeTime = 1<<20, 64<<10, comeTime
	n := &line{t: t, s: open(t, opt), waiters: make([]waiter, many)}
	n.roomy, n.fates = make(chan int, 2*many), make(chan error, 2*many)
	n.at = &placedAt{offsets: make([]record.Offset, 2*many), left: n.fates}
	l := &load{t: t, s: n.s, m: newModel(), round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	held, release := make(chan bool, 1), make(chan bool)
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpSync && op.Name == "log/spare.0" {
			select {
			case held <- true:
			default:
			}
			<-release
		}
	})
	n.goOn = func() {
		faulty.OnOp(nil)
		close(release)
	}
	ws := []stream.Write{{Partition: p, Record: &record.Record{Timestamp: 1000, Value: make([]byte, 1000)}}}
	for { // the first is under way, the others fill the open group
		err := n.s.Append(&stream.Unit{Writes: ws}, n.at, uint64(many+n.begun))
		if errors.Is(err, stream.ErrCrowded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n.begun++; n.begun == 1 {
			<-held
		}
	}
	for i := range n.waiters {
		w := &n.waiters[i]
		w.turn.Roomy = func() { n.roomy <- i }
		w.unit = stream.Unit{Writes: ws, Turn: &w.turn}
		if n.come(i) {
			t.Fatalf("waiter %d finds room", i)
		}
	}
	return n
}

// come appends the unit of a waiter, if there is room.
func (n *line) come(i int) bool {
	err := n.s.Append(&n.waiters[i].unit, n.at, uint64(i))
	if err != nil && !errors.Is(err, stream.ErrCrowded) {
		n.t.Fatal(err)
	}
	return err == nil
}

// serve lets those who are called come, but for those who have given up, until all others have been served.
func (n *line) serve(givesUp func(int) bool) (wakes, most int) {
	left := n.begun
	for i := range n.waiters {
		if !givesUp(i) {
			left++
		}
	}
	for left > 0 {
		select {
		case err := <-n.fates:
			if left--; err != nil {
				n.t.Fatal(err)
			}
		case i := <-n.roomy:
			w := &n.waiters[i]
			w.calls++
			wakes, most = wakes+1, max(most, w.calls)
			if !givesUp(i) {
				n.come(i)
			}
		case <-time.After(time.Minute):
			n.t.Fatalf("%d still wait, after %d wake-ups", left, wakes)
		}
	}
	return wakes, most
}

// TestManyWaitInLine has 10,000 appenders wait while the disk stands still (E14). As it goes on, they get in as they
// came, and each is woken once: a commit calls as many as have room, and nobody else.
func TestManyWaitInLine(t *testing.T) {
	const many = 10_000
	n := lineUp(t, many, time.Hour) // all of them come in time, however busy the machine is
	n.goOn()
	wakes, most := n.serve(func(int) bool { return false })
	for i := 1; i < many; i++ {
		if n.at.offsets[i] != n.at.offsets[i-1]+1 {
			t.Fatalf("waiter %d is at %d, the one before at %d", i, n.at.offsets[i], n.at.offsets[i-1])
		}
	}
	if wakes > many+many/10 || most > 3 {
		t.Errorf("%d wake-ups for %d who waited, up to %d of one", wakes, many, most)
	}
	if err := n.s.Close(); err != nil {
		t.Error(err)
	}
}

// TestWhoGivesUpHoldsNobodyUp has most of those who wait not come when they are called.
func TestWhoGivesUpHoldsNobodyUp(t *testing.T) {
	const many = 1000
	n := lineUp(t, many, 0)
	n.goOn()
	n.serve(func(i int) bool { return i%10 != 9 })
	last := record.Offset(-1)
	for i := 9; i < many; i += 10 {
		if n.at.offsets[i] <= last {
			t.Fatalf("waiter %d is at %d, one before at %d", i, n.at.offsets[i], last)
		}
		last = n.at.offsets[i]
	}
	if err := n.s.Close(); err != nil {
		t.Error(err)
	}
}

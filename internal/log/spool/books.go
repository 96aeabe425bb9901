package spool

import (
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// item is a unit that was told to nobody yet.
type item struct {
	number uint64
	unit   stream.Unit // with the write of its number behind the others
	shard  stream.PartitionID
	owned  bool // by the owner of shard
	to     stream.Receipt
	ticket uint64
	bytes  int64
	came   time.Time
}

// books say where every unit is, by its number. taken <= sent <= last, and stored <= kept <= last; units above both
// taken and stored are in the queue, those in (taken, stored] on the disk only.
type books struct {
	queue  []*item // not told, in order, without gaps
	flight []sent  // handed to the log, which has not answered
	line   stream.Line

	last   uint64 // the number given last
	sent   uint64 // up to here units were handed to the log
	taken  uint64 // up to here it has taken them, or has refused them for good
	kept   uint64 // up to here they were handed to the disk, or need not be
	stored uint64 // up to here the disk has them

	waiting int64 // bytes of the queue
	flying  int64 // of flight
	held    int64 // on the disk and not taken
	full    bool  // a unit was turned away because no more may be held, and the log has taken nothing since
	holding bool  // units are handed to the disk as they come
	mended  uint64
	broken  error // of the disk: none is handed to it until the log has taken those up to mended
	lost    error // another node serves the cluster
	closing bool
}

// sent is a unit on its way to the log.
type sent struct {
	number uint64
	bytes  int64
	came   time.Time
}

// room is how many bytes may be taken in.
func (b *books) room(opt *Options) int64 {
	room := opt.MemoryBytes - b.waiting
	if b.holding {
		room = min(room, opt.Bytes-b.held-b.waiting)
	}
	return room
}

// enter takes room. Errors: ErrCrowded, Closed, Fenced.
func (b *books) enter(turn *stream.Turn, bytes int64, opt *Options) error {
	switch {
	case b.lost != nil:
		return b.lost
	case b.closing:
		return fault.New(fault.Closed, "log.Append", "the log is closing")
	case b.line.Ahead(turn), b.waiting+b.held > 0 && bytes > b.room(opt):
		b.full = b.holding && opt.Bytes-b.held < opt.MemoryBytes
		return stream.ErrCrowded
	}
	b.waiting += bytes
	return nil
}

// put gives a unit that has entered its number.
func (b *books) put(it *item) {
	b.last++
	it.number = b.last
	b.queue = append(b.queue, it)
}

// in gives a unit of the queue by its number.
func (b *books) in(number uint64) *item { return b.queue[number-b.queue[0].number] }

// hand notes that a unit is handed to the log.
func (b *books) hand(number uint64, bytes int64, came time.Time) {
	b.sent = number
	b.flying += bytes
	b.flight = append(b.flight, sent{number, bytes, came})
}

// take notes that the log has taken all up to a number.
func (b *books) take(number uint64) {
	n := 0
	for ; n < len(b.flight) && b.flight[n].number <= number; n++ {
		b.flying -= b.flight[n].bytes
		if b.flight[n].number <= b.stored {
			b.held -= b.flight[n].bytes
		}
	}
	b.full = false
	b.flight = b.flight[:copy(b.flight, b.flight[n:])]
	if b.taken = max(b.taken, number); b.taken >= b.stored {
		b.held = 0
	}
	if b.broken != nil && b.taken >= b.mended {
		b.broken = nil
	}
}

// store notes that the disk has a unit. False: one before it failed, and it counts for nothing.
func (b *books) store(number uint64, bytes int64) bool {
	if number > b.kept {
		return false
	}
	b.stored = number
	if number > b.taken {
		b.held += bytes
	}
	return true
}

// fail notes that the disk did not take a unit: those from there on wait in memory for the log.
func (b *books) fail(number uint64, err error) {
	if number <= b.kept {
		b.mended = max(b.mended, b.kept)
		b.kept = number - 1
	}
	b.holding, b.broken = false, err
}

// begin begins to hold.
func (b *books) begin() {
	b.holding = true
	b.kept = max(b.kept, b.queue[0].number-1)
}

// pop takes units up to a number out of the queue: they are about to be told.
func (b *books) pop(number uint64) (told []*item) {
	n := 0
	for ; n < len(b.queue) && b.queue[n].number <= number; n++ {
		b.waiting -= b.queue[n].bytes
	}
	told = b.queue[:n:n]
	b.queue = b.queue[n:]
	return told
}

// oldest is since when the oldest unit waits for the log; the zero Time: none does, as far as is in memory.
func (b *books) oldest() time.Time {
	switch {
	case len(b.flight) > 0:
		return b.flight[0].came
	case len(b.queue) > 0:
		return b.queue[0].came
	}
	return time.Time{}
}

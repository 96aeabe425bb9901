package store

import (
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// group is one commit group: what becomes durable together. While it is open it belongs to the group lock,
// then to the committer, then to the announcer, and is used again.
type group struct {
	number   uint64
	slots    []slot
	used     int // of slots
	receipts []receipt
	spots    []spot // of all receipts
	repeats  []original
	trims    []trim
	ends     []int64      // producers whose transactions end
	reserve  int64        // bound of producer ids to reserve, 0: none
	barrier  chan<- error // is told when all before it is on stable storage; has room for one
	bytes    int64
	disk     bool // somebody waits for stable storage
	urgent   bool // it may take of the space that is kept free: what is in it makes room
	roll     bool // it goes into a new file, or nothing does but what comes behind it
	arena    []byte

	began  time.Time // of its first append
	frame  journal.Frame
	file   *file       // where the frame is
	end    int64       // and where it ends
	sealed *file       // a file that was sealed before this group was written
	lost   []filler    // for what that file lost
	lane   *lane       // whose sync it waits for
	ended  atomic.Bool // it is as durable as it asks, or err says why not
	err    error
}

// slot is what a group holds for one partition.
type slot struct {
	p       *partition.Partition
	batches []pending
	builder record.Builder
	open    bool           // the builder holds a batch that still takes records
	limit   int            // bytes at which a built batch is closed
	built   int            // bytes of the built batches that were closed
	stable  record.Offset  // last stable offset of the partition behind the group
	names   []*stream.Name // of the records of built batches, in their order, each run of one once; nil: not known
}

// pending is a batch that waits for its offset.
type pending struct {
	bytes      record.Batch
	names      int32 // where those of its records end in slot.names
	idempotent bool
	came       bool // from a producer as it is
	stamp      bool // LogAppendTime: stamp it when it is sealed
}

// receipt is whom to tell, and which spots of the group are his unit's.
type receipt struct {
	to       stream.Receipt
	ticket   uint64
	from, n  int32
	repeated bool // some of them are repeats
}

// spot is where a record or a batch went. With the slot isRepeat it is a duplicate of repeats[batch].
type spot struct{ slot, batch, delta int32 }

const isRepeat = -1

// original names the batch that a duplicate repeats.
type original struct {
	p     *partition.Partition
	id    int64
	epoch int16
	first int32
}

type trim struct {
	p     *partition.Partition
	start record.Offset
}

const (
	slabBytes     = 1 << 20
	builtBytes    = 256 << 10 // a built batch is closed at this size: consumers fetch it whole
	smallestBatch = 512
	movedBytes    = 16 << 10 // a batch that is larger is closed when its memory is full, and not moved
	namesKept     = 4 << 10  // that a slot has room for
)

func (g *group) empty() bool {
	return len(g.receipts) == 0 && g.used == 0 && len(g.trims) == 0 && g.reserve == 0 && g.barrier == nil
}

// reset makes the group ready to be opened again under a number. What it held lives on in the cache.
func (g *group) reset(number uint64) {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		clear(s.batches)
		clear(s.names)
		if cap(s.names) > namesKept {
			s.names = nil
		}
		s.p, s.batches, s.names, s.builder, s.open, s.built =
			nil, s.batches[:0], s.names[:0], record.Builder{}, false, 0
	}
	clear(g.receipts)
	clear(g.repeats)
	clear(g.trims)
	g.frame.Reset()
	*g = group{
		number: number, slots: g.slots, receipts: g.receipts[:0], spots: g.spots[:0], repeats: g.repeats[:0],
		trims: g.trims[:0], ends: g.ends[:0], arena: g.arena, frame: g.frame,
	}
}

// slot is the group's place for a partition, found through the partition itself.
func (g *group) slot(p *partition.Partition) (*slot, int) {
	if p.Slot.Group == g.number && p.Slot.Index < g.used && g.slots[p.Slot.Index].p == p {
		return &g.slots[p.Slot.Index], p.Slot.Index
	}
	if g.used == len(g.slots) {
		g.slots = append(g.slots, slot{})
	}
	i := g.used
	g.used++
	g.slots[i].p = p
	p.Slot = partition.Slot{Group: g.number, Index: i}
	return &g.slots[i], i
}

// reserveBytes cuts a piece of n bytes capacity from the current slab.
func (g *group) reserveBytes(n int) []byte {
	if n > slabBytes/4 {
		return make([]byte, 0, n)
	}
	if cap(g.arena)-len(g.arena) < n {
		g.arena = make([]byte, 0, slabBytes)
	}
	at := len(g.arena)
	g.arena = g.arena[:at+n]
	return g.arena[at : at : at+n]
}

// add encodes a record into the partition's open batch and returns where it went.
func (g *group) add(p *partition.Partition, w *stream.Write, size int) spot {
	r := w.Record
	s, i := g.slot(p)
	if s.open && s.builder.Len()+size > s.limit {
		g.closeBatch(s)
	}
	if !s.open {
		settings := p.Settings()
		buf := g.reserveBytes(max(smallestBatch, int(p.Reserve.Load()), size+record.BatchOverhead))
		s.limit = min(builtBytes, settings.MaxMessageBytes, max(cap(buf), movedBytes))
		s.builder.Reset(buf, r.Timestamp)
		s.batches = append(s.batches, pending{names: int32(len(s.names)), stamp: settings.LogAppendTime})
		s.open = true
		g.disk = g.disk || !settings.Memory
	}
	if b := s.builder.Bytes(); cap(b)-len(b) < size {
		g.extend(s, size)
	}
	at, n := int32(len(s.batches)-1), int32(s.builder.Count())
	s.builder.Append(r)
	if n == 0 || s.names[len(s.names)-1] != w.Name {
		s.names = append(s.names, w.Name)
		s.batches[at].names++
	}
	g.bytes += int64(size)
	return spot{slot: int32(i), batch: at, delta: n}
}

// extend gives a batch more of the slab, twice what it has, if it is the newest piece of it; else it moves as it grows.
func (g *group) extend(s *slot, size int) {
	b := s.builder.Bytes()
	at := len(g.arena) - cap(b)
	end := len(g.arena) + max(size, cap(b))
	if at >= 0 && end <= cap(g.arena) && &g.arena[at] == &b[0] {
		g.arena = g.arena[:end]
		s.builder.Extend(g.arena[at:at:end])
	}
}

// closeBatch ends the batch being built. Its header is filled when it gets its offset.
func (g *group) closeBatch(s *slot) {
	b := s.builder.Seal(0, 0)
	g.trimArena(b)
	was, n := int(s.p.Reserve.Load()), len(b)
	s.built += n
	s.p.Reserve.Store(int32(min(builtBytes, max(s.built+s.built/4, was/2))))
	s.batches[len(s.batches)-1].bytes = b[:n:n]
	s.open = false
}

// trimArena gives back what a batch leaves of the newest piece of the slab.
func (g *group) trimArena(b []byte) {
	at := len(g.arena) - cap(b)
	if at >= 0 && &g.arena[at] == &b[0] {
		g.arena = g.arena[:at+len(b)]
	}
}

// addBatch puts in a batch as it came.
func (g *group) addBatch(p *partition.Partition, b record.Batch, memory bool) spot {
	s, i := g.slot(p)
	if s.open {
		g.closeBatch(s)
	}
	s.batches = append(s.batches, pending{
		bytes: b, names: int32(len(s.names)), idempotent: b.ProducerID() >= 0, came: true,
	})
	g.bytes += int64(len(b))
	g.disk = g.disk || !memory
	return spot{slot: int32(i), batch: int32(len(s.batches) - 1)}
}

// seal gives offsets and epoch to every batch and lays out the frame. Only the committer calls it.
func (g *group) seal(epoch int32, unixMillis int64) {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		if s.open {
			g.closeBatch(s)
		}
		next := s.p.Next
		for j := range s.batches {
			b := s.batches[j].bytes
			b.SetBaseOffset(next)
			b.SetLeaderEpoch(epoch)
			if s.batches[j].stamp {
				b.SetLogAppendTime(unixMillis)
			}
			next = b.LastOffset() + 1
			g.frame.AddBatch(uint32(s.p.ID), b)
		}
	}
	for _, t := range g.trims {
		g.frame.AddTrim(uint32(t.p.ID), t.start)
	}
	if g.reserve > 0 {
		g.frame.AddReserve(g.reserve)
	}
}

// advance moves the next offsets behind a group whose frame is written.
func (g *group) advance() {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		if n := len(s.batches); n > 0 {
			s.p.Next = s.batches[n-1].bytes.LastOffset() + 1
		}
	}
}

// retreat moves the next offsets back before a group that is lost: nobody has seen those it gave.
func (g *group) retreat() {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		if len(s.batches) > 0 {
			s.p.Next = s.batches[0].bytes.BaseOffset()
		}
	}
}

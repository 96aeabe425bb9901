package store

import (
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
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
	trims    []trim
	reserve  int64             // bound of producer ids to reserve, 0: none
	snapshot chan<- checkpoint // gets the state as of this group
	bytes    int64
	disk     bool // somebody waits for stable storage
	urgent   bool // it may take of the space that is kept free: what is in it makes room
	arena    []byte

	began  time.Time // of its first append
	frame  journal.Frame
	file   *file // where the frame is
	end    int64 // and where it ends
	sealed *file // a file that was sealed before this group was written
	err    error
}

// slot is what a group holds for one partition.
type slot struct {
	p       *partition.Partition
	batches []pending
	builder record.Builder
	open    bool // the builder holds a batch that still takes records
	limit   int  // bytes at which a built batch is closed
}

// pending is a batch that waits for its offset.
type pending struct {
	bytes      record.Batch
	idempotent bool
	stamp      bool // LogAppendTime: stamp it when it is sealed
}

type receipt struct {
	to     stream.Receipt
	ticket uint64
	slot   int32
	batch  int32
	delta  int32

	original *original // of an answered duplicate
}

// noSlot is the slot of a receipt for something that has no offset.
const noSlot = -1

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
)

func (g *group) empty() bool {
	return len(g.receipts) == 0 && g.used == 0 && len(g.trims) == 0 && g.reserve == 0 && g.snapshot == nil
}

// reset makes the group ready to be opened again under a number. What it held lives on in the cache.
func (g *group) reset(number uint64) {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		clear(s.batches)
		s.p, s.batches, s.builder, s.open = nil, s.batches[:0], record.Builder{}, false
	}
	clear(g.receipts)
	clear(g.trims)
	g.frame.Reset()
	*g = group{
		number: number, slots: g.slots, receipts: g.receipts[:0], trims: g.trims[:0], arena: g.arena, frame: g.frame,
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
func (g *group) add(p *partition.Partition, r *record.Record, size int) (slotAt, batch, delta int32) {
	s, i := g.slot(p)
	if s.open && s.builder.Len()+size > s.limit {
		g.closeBatch(s)
	}
	if !s.open {
		settings := p.Settings()
		s.limit = min(builtBytes, settings.MaxMessageBytes)
		s.builder.Reset(g.reserveBytes(max(smallestBatch, int(p.Reserve.Load()), size+record.BatchOverhead)), r.Timestamp)
		s.batches = append(s.batches, pending{stamp: settings.LogAppendTime})
		s.open = true
		g.disk = g.disk || !settings.Memory
	}
	at, n := int32(len(s.batches)-1), int32(s.builder.Count())
	s.builder.Append(r)
	g.bytes += int64(size)
	return int32(i), at, n
}

// closeBatch ends the batch being built. Its header is filled when it gets its offset.
func (g *group) closeBatch(s *slot) {
	b := s.builder.Seal(0, 0)
	g.trimArena(b)
	was, n := int(s.p.Reserve.Load()), len(b)
	s.p.Reserve.Store(int32(min(s.limit, max(n+n/4, was/2))))
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
func (g *group) addBatch(p *partition.Partition, b record.Batch, memory bool) (slotAt, batch int32) {
	s, i := g.slot(p)
	if s.open {
		g.closeBatch(s)
	}
	s.batches = append(s.batches, pending{bytes: b, idempotent: b.ProducerID() >= 0})
	g.bytes += int64(len(b))
	g.disk = g.disk || !memory
	return int32(i), int32(len(s.batches) - 1)
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

// base is the offset that a receipt of this group reports.
func (g *group) base(r *receipt) record.Offset {
	if r.slot == noSlot {
		return -1
	}
	return g.slots[r.slot].batches[r.batch].bytes.BaseOffset() + record.Offset(r.delta)
}

// Append implements stream.Log.
func (s *Store) Append(ws []stream.Write, to stream.Receipt, ticket uint64) error {
	return s.append(ws, to, ticket, false)
}

func (s *Store) append(ws []stream.Write, to stream.Receipt, ticket uint64, urgent bool) error {
	parts := s.parts.Load()
	for i := range ws {
		p := parts.find(ws[i].Partition)
		if p == nil {
			return fault.New(fault.NotFound, "log.Append", "no partition %d", ws[i].Partition)
		}
		limit := p.Settings().MaxMessageBytes
		if size := ws[i].Record.EncodedSize() + record.BatchOverhead; size > limit {
			return fault.New(fault.TooLarge, "log.Append", "record of %d bytes, max.message.bytes is %d", size, limit)
		}
	}
	g, err := s.openGroup(urgent)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	r := receipt{to: to, ticket: ticket, slot: noSlot}
	for i := range ws {
		at, batch, delta := g.add(parts.find(ws[i].Partition), ws[i].Record, ws[i].Record.EncodedSize())
		if i == 0 {
			r.slot, r.batch, r.delta = at, batch, delta
		}
	}
	if to != nil {
		g.receipts = append(g.receipts, r)
	}
	s.crowd(g)
	return nil
}

// crowd notes that the open group has become full. It needs the group lock.
func (s *Store) crowd(g *group) {
	if g.bytes >= s.opt.GroupBytes {
		s.crowded.Store(true)
	}
}

// Crowded implements stream.Log.
func (s *Store) Crowded() bool { return s.crowded.Load() }

// openGroup waits for room and returns the open group with the group lock held. On an error it is not held. What is
// urgent makes room on the disk, and is taken while the disk is full.
func (s *Store) openGroup(urgent bool) (*group, error) {
	s.mu.Lock()
	for s.mu.open.bytes >= s.opt.GroupBytes && s.mu.refuse == nil {
		s.room.Wait()
	}
	if err := s.mu.refuse; err != nil && !(urgent && fault.Is(err, fault.Full)) {
		s.mu.Unlock()
		return nil, err
	}
	s.mu.open.urgent = s.mu.open.urgent || urgent
	if s.mu.open.began.IsZero() {
		s.mu.open.began = time.Now()
	}
	if s.mu.waiting {
		s.work.Signal()
	}
	return s.mu.open, nil
}

// AppendBatch appends one batch from a producer as it came: only base offset and leader epoch are written
// into it, in place (and the times, where the topic asks for LogAppendTime). The log keeps b and shares
// it: the caller must never change it afterwards. b must have passed record.Batch.Validate.
//
// Batches of idempotent producers are judged by the partition's window: a duplicate is not appended again,
// its receipt reports the offset it has. Errors: those of Append, OutOfSequence, DuplicateSequence, Fenced.
func (s *Store) AppendBatch(id stream.PartitionID, b record.Batch, to stream.Receipt, ticket uint64) error {
	p := s.parts.Load().find(id)
	if p == nil {
		return fault.New(fault.NotFound, "log.Append", "no partition %d", id)
	}
	settings := p.Settings()
	if len(b) > settings.MaxMessageBytes {
		return fault.New(fault.TooLarge, "log.Append", "batch of %d bytes, max.message.bytes is %d",
			len(b), settings.MaxMessageBytes)
	}
	now := s.opt.Clock().UnixMilli()
	if settings.LogAppendTime {
		b.SetLogAppendTime(now)
	}
	g, err := s.openGroup(false)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	r := receipt{to: to, ticket: ticket, slot: noSlot}
	idempotent := b.ProducerID() >= 0
	if idempotent {
		duplicate, err := p.Producers.Check(b)
		if err != nil {
			return err
		}
		if duplicate {
			g.answerDuplicate(p, b, r)
			return nil
		}
	}
	r.slot, r.batch = g.addBatch(p, b, settings.Memory)
	if idempotent {
		p.Producers.Add(b, partition.Pending, g.number, now)
	}
	if to != nil {
		g.receipts = append(g.receipts, r)
	}
	s.crowd(g)
	return nil
}

// answerDuplicate puts a receipt for a batch that is in the log, or on its way, into the open group: it is
// answered behind the batch itself, whose offset is known by then.
func (g *group) answerDuplicate(p *partition.Partition, b record.Batch, r receipt) {
	if r.to == nil {
		return
	}
	r.original = &original{p: p, id: b.ProducerID(), epoch: b.ProducerEpoch(), first: b.BaseSequence()}
	g.receipts = append(g.receipts, r)
	g.disk = true
}

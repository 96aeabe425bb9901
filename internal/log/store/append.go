package store

import (
	"context"
	"errors"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Unit is a stream.Unit and what only the Kafka door appends: all of it goes into one frame.
type Unit struct {
	stream.Unit
	Batches []BatchWrite
	Ends    []EndTxn
	Markers []Marker
	Trims   []TrimWrite
}

// BatchWrite is one batch from a producer as it came: only base offset and leader epoch are written into
// it, in place (and the times, where the topic asks for LogAppendTime). The log keeps it and shares it: the
// caller must never change it afterwards. It must have passed record.Batch.Validate.
type BatchWrite struct {
	Partition stream.PartitionID
	Batch     record.Batch
	// Implicit: the first batch of a transaction for a partition puts it there (KIP-890). Else AddToTxn has to.
	Implicit bool
}

// Marker ends what a producer has under way in one partition, whatever the table of producers knows of it: for one
// that hangs.
type Marker struct {
	Partition        stream.PartitionID
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool // false: abort
}

// TrimWrite moves the log start offset of a partition up.
type TrimWrite struct {
	Partition stream.PartitionID
	Start     record.Offset
}

// Append implements stream.Log.
func (s *Store) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	parts := s.parts.Load()
	bytes, err := checkWrites(parts, u.Writes)
	if err != nil {
		return err
	}
	g, err := s.openGroup(u.Turn, u.Owner, bytes, false)
	if err != nil {
		return err
	}
	r := g.receipt(to, ticket)
	for i := range u.Writes {
		r.place(g.add(parts.find(u.Writes[i].Partition), &u.Writes[i], u.Writes[i].Record.EncodedSize()))
	}
	s.closeUnit(g, &r)
	return nil
}

// AppendBatch appends one batch from a producer and waits for room, in turn. See Commit.
func (s *Store) AppendBatch(w BatchWrite, to stream.Receipt, ticket uint64) error {
	batches := [1]BatchWrite{w}
	u := Unit{Batches: batches[:]}
	err := s.Commit(&u, to, ticket)
	if !errors.Is(err, stream.ErrCrowded) {
		return err
	}
	waiting := Unit{Batches: []BatchWrite{w}}
	return s.CommitWait(context.Background(), &waiting, to, ticket)
}

// CommitWait is Commit that waits for room, in turn. Errors: those of Commit but ErrCrowded; Timeout when ctx ends.
func (s *Store) CommitWait(ctx context.Context, u *Unit, to stream.Receipt, ticket uint64) error {
	return stream.WaitForRoom(ctx, &u.Turn, func() error { return s.Commit(u, to, ticket) })
}

// Commit appends a unit. Its receipt gives the offsets of the records, then of the batches, in their order.
//
// Batches of idempotent producers are judged by the partition's window: a duplicate is not appended again,
// its place is the one that it has. Those of transactional producers are judged by the table of producers besides.
// One that is refused takes the whole unit with it. Errors: those of Log.Append, OutOfSequence, Fenced,
// ErrUnknownProducer, ErrNotInTransaction.
func (s *Store) Commit(u *Unit, to stream.Receipt, ticket uint64) error {
	parts := s.parts.Load()
	bytes, err := checkWrites(parts, u.Writes)
	if err == nil {
		bytes, err = s.checkBatches(parts, u, bytes)
	}
	if err != nil {
		return err
	}
	g, err := s.openGroup(u.Turn, u.Owner, bytes, len(u.Trims) > 0)
	if err != nil {
		return err
	}
	if err := s.judgeLocked(parts, u.Batches); err != nil {
		s.mu.Unlock()
		return err
	}
	r := g.receipt(to, ticket)
	for i := range u.Writes {
		r.place(g.add(parts.find(u.Writes[i].Partition), &u.Writes[i], u.Writes[i].Record.EncodedSize()))
	}
	now := s.opt.Clock().UnixMilli()
	for i := range u.Batches {
		r.place(s.takeLocked(g, parts.find(u.Batches[i].Partition), u.Batches[i].Batch, now))
	}
	for i := range u.Ends {
		s.endLocked(parts, g, &u.Ends[i], now)
	}
	for i := range u.Markers {
		m := &u.Markers[i]
		p := parts.find(m.Partition)
		_ = g.addBatch(p, m.batch(now), false) // nobody asks for its place
		s.mu.producers.marked(m.ProducerID, p, g.number)
		g.ends = append(g.ends, m.ProducerID)
	}
	for _, t := range u.Trims {
		g.trims = append(g.trims, trim{p: parts.find(t.Partition), start: t.Start})
		g.disk = true
	}
	s.closeUnit(g, &r)
	return nil
}

func (m *Marker) batch(unixMillis int64) record.Batch {
	return record.NewMarker(m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Commit, unixMillis)
}

// checkWrites holds records to the limits of their topics and adds up what they take.
func checkWrites(parts *table, ws []stream.Write) (bytes int64, err error) {
	for i := range ws {
		p := parts.find(ws[i].Partition)
		if p == nil {
			return 0, noPartition(ws[i].Partition)
		}
		limit := p.Settings().MaxMessageBytes
		size := ws[i].Record.EncodedSize() + record.BatchOverhead
		if size > limit {
			return 0, fault.New(fault.TooLarge, "log.Append", "record of %d bytes, max.message.bytes is %d", size, limit)
		}
		bytes += int64(size)
	}
	return bytes, nil
}

func noPartition(id stream.PartitionID) error {
	return fault.New(fault.NotFound, "log.Append", "no partition %d", id)
}

// checkBatches does the same for what a unit holds besides records, and stamps what the log's clock stamps.
func (s *Store) checkBatches(parts *table, u *Unit, bytes int64) (int64, error) {
	for i := range u.Batches {
		w := &u.Batches[i]
		p := parts.find(w.Partition)
		if p == nil {
			return 0, noPartition(w.Partition)
		}
		settings := p.Settings()
		if len(w.Batch) > settings.MaxMessageBytes {
			return 0, fault.New(fault.TooLarge, "log.Append", "batch of %d bytes, max.message.bytes is %d",
				len(w.Batch), settings.MaxMessageBytes)
		}
		if settings.LogAppendTime {
			w.Batch.SetLogAppendTime(s.opt.Clock().UnixMilli())
		}
		bytes += int64(len(w.Batch))
	}
	for i := range u.Markers {
		if parts.find(u.Markers[i].Partition) == nil {
			return 0, noPartition(u.Markers[i].Partition)
		}
	}
	for i := range u.Trims {
		if parts.find(u.Trims[i].Partition) == nil {
			return 0, noPartition(u.Trims[i].Partition)
		}
	}
	return bytes, nil
}

// judgeLocked asks the windows of idempotent producers whether all batches of a unit may go in. It needs
// the group lock.
func (s *Store) judgeLocked(parts *table, batches []BatchWrite) error {
	for i := range batches {
		b := batches[i].Batch
		if b.ProducerID() < 0 {
			continue
		}
		p := parts.find(batches[i].Partition)
		if err := s.mu.producers.check(b, p, batches[i].Implicit); err != nil {
			return err
		}
		if _, err := p.Producers.Check(b); err != nil {
			return err
		}
	}
	return nil
}

// endLocked ends a transaction: the markers go into all partitions that are still there.
func (s *Store) endLocked(parts *table, g *group, e *EndTxn, unixMillis int64) {
	g.ends = append(g.ends, e.ProducerID)
	m := Marker{
		ProducerID: e.ProducerID, ProducerEpoch: e.Epoch, CoordinatorEpoch: e.CoordinatorEpoch, Commit: e.Commit,
	}
	s.mu.producers.end(e, g.number, func(p *partition.Partition) {
		if parts.find(p.ID) == p {
			_ = g.addBatch(p, m.batch(unixMillis), false) // nobody asks for its place
		}
	})
}

// takeLocked puts in a batch that was judged, or notes which one it repeats.
func (s *Store) takeLocked(g *group, p *partition.Partition, b record.Batch, unixMillis int64) spot {
	if b.ProducerID() < 0 {
		return g.addBatch(p, b, p.Settings().Memory)
	}
	if duplicate, err := p.Producers.Check(b); err == nil && duplicate {
		g.repeats = append(g.repeats, original{p: p, id: b.ProducerID(), epoch: b.ProducerEpoch(), first: b.BaseSequence()})
		g.disk = true
		return spot{slot: isRepeat, batch: int32(len(g.repeats) - 1)}
	}
	at := g.addBatch(p, b, p.Settings().Memory)
	p.Producers.Add(b, partition.Pending, g.number, unixMillis)
	if b.Attributes().Transactional() {
		s.mu.producers.join(b.ProducerID(), p, g.number, unixMillis)
	}
	return at
}

// unitReceipt gathers the spots of a unit while it is put into the group.
type unitReceipt struct {
	receipt
	g *group
}

func (g *group) receipt(to stream.Receipt, ticket uint64) unitReceipt {
	return unitReceipt{receipt: receipt{to: to, ticket: ticket, from: int32(len(g.spots))}, g: g}
}

func (r *unitReceipt) place(at spot) {
	if r.to == nil {
		return
	}
	r.g.spots = append(r.g.spots, at)
	r.n++
	r.repeated = r.repeated || at.slot == isRepeat
}

// closeUnit ends what openGroup began.
func (s *Store) closeUnit(g *group, r *unitReceipt) {
	if r.to != nil {
		g.receipts = append(g.receipts, r.receipt)
	}
	if g.bytes >= s.opt.GroupBytes {
		s.crowded.Store(true)
	}
	s.mu.Unlock()
}

// Crowded implements stream.Log.
func (s *Store) Crowded() bool { return s.crowded.Load() }

// openGroup returns the open group with the group lock held, if a unit of so many bytes may enter it: in its
// turn, by the owner of its shard, and while appends are not refused. On an error the lock is not held. What
// is urgent makes room on the disk, and is taken while the disk is full. What brings no bytes needs no room.
func (s *Store) openGroup(turn *stream.Turn, owner stream.Owner, bytes int64, urgent bool) (*group, error) {
	s.mu.Lock()
	g, err := s.enterLocked(turn, owner, bytes, urgent)
	if turn != nil {
		if err == stream.ErrCrowded { //nolint:errorlint // it was made a few lines further down
			s.mu.line.Wait(turn, bytes)
		} else {
			s.mu.line.Pass(turn)
		}
	}
	if err != nil {
		s.mu.Unlock()
	}
	return g, err
}

func (s *Store) enterLocked(turn *stream.Turn, owner stream.Owner, bytes int64, urgent bool) (*group, error) {
	g := s.mu.open
	if err := s.mu.refuse; err != nil && !(urgent && fault.Is(err, fault.Full)) {
		return nil, err
	}
	if owner.Epoch != 0 && s.mu.owners[owner.Shard] != owner.Epoch {
		return nil, fault.New(fault.Fenced, "log.Append", "shard %d: epoch %d, another has %d", owner.Shard, owner.Epoch,
			s.mu.owners[owner.Shard])
	}
	if bytes > 0 && (g.bytes >= s.opt.GroupBytes || s.mu.line.Ahead(turn)) {
		return nil, stream.ErrCrowded
	}
	g.urgent = g.urgent || urgent
	if g.began.IsZero() {
		g.began = time.Now()
	}
	if len(g.receipts)+1 >= s.mu.least {
		s.work.Signal()
	}
	return g, nil
}

// Own implements stream.Log. There is no other node: the epochs of this life of the log are enough. What an owner of
// before has under way will be stored, and is waited for.
func (s *Store) Own(ctx context.Context, shard stream.PartitionID) (o stream.Owner, err error) {
	if s.parts.Load().find(shard) == nil {
		return stream.Owner{}, noPartition(shard)
	}
	if o = s.nextOwner(shard); o.Epoch > 1 {
		err = s.await(ctx, func(to stream.Receipt) error { return s.Commit(&Unit{}, to, 0) })
	}
	return o, err
}

func (s *Store) nextOwner(shard stream.PartitionID) stream.Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.owners == nil {
		s.mu.owners = make(map[stream.PartitionID]int32)
	}
	s.mu.owners[shard]++
	return stream.Owner{Shard: shard, Epoch: s.mu.owners[shard]}
}

// placed is the place of a unit, for its receipt.
type placed struct {
	s    *Store
	g    *group
	from int32
}

// Offset implements stream.Placed.
func (p *placed) Offset(write int) record.Offset {
	at := p.g.spots[int(p.from)+write]
	if at.slot == isRepeat {
		base, _ := p.s.originalBase(&p.g.repeats[at.batch]) // announce has seen that it is there
		return base
	}
	return p.g.slots[at.slot].batches[at.batch].bytes.BaseOffset() + record.Offset(at.delta)
}

// repeatError is why a duplicate in a unit cannot be answered, or nil.
func (p *placed) repeatError(r *receipt) error {
	for _, at := range p.g.spots[r.from : r.from+r.n] {
		if at.slot == isRepeat {
			if _, err := p.s.originalBase(&p.g.repeats[at.batch]); err != nil {
				return err
			}
		}
	}
	return nil
}

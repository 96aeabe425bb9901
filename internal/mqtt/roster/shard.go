package roster

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// shard is one partition of the topic of the sessions, with the marks of those in it.
type shard struct {
	roster    *Roster
	at        *slot
	partition stream.PartitionID
	owner     stream.Owner
	beside    Beside           // who keeps records in it; nil: nobody
	seats     map[string]*Seat // by client identifier; under Roster.mu once the shard serves

	leaving atomic.Bool // its sessions have no connections, and what is due by the clock is another node's to do
	gone    bool        // nothing is written any more; under writing

	// writing is held while records are put together and appended, so that they lie in the log in the order in which what
	// they tell came to be. It is taken before the lock of a seat.
	writing sync.Mutex

	looked   uint64     // when live delivery was looked at last, as Options.Reached has it; under writing
	settling sync.Mutex // held by who waits for the fates

	checkpoint atomic.Uint64 // the mark of the last one
	mu         struct {      // a leaf: nothing is locked inside
		sync.Mutex
		marks session.Marks
		dirty []*Seat // that changed since the last checkpoint
		fates []*fate // units of seats that nobody waited for
		saves []*Seat // whose holders keep something aside
		// unstored are partitions whose marks a checkpoint could not store.
		unstored []uint32
	}
}

func newShard(r *Roster, at *slot, owner stream.Owner) *shard {
	s := &shard{roster: r, at: at, partition: at.partition, owner: owner, seats: make(map[string]*Seat)}
	if at.number == 0 && r.opt.Beside != nil {
		s.beside = r.opt.Beside(s)
	}
	return s
}

// last is the mark of the last checkpoint.
func (s *shard) last() uint64 { return s.checkpoint.Load() }

// At implements session.Marked.
func (s *shard) At(partition uint32, mark uint64) (offset int64, ok bool) {
	if mark == 0 {
		mark = s.last()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.marks.At(partition, mark)
}

// note has the next checkpoint look at a seat.
func (s *shard) note(seat *Seat) {
	s.mu.Lock()
	s.mu.dirty = append(s.mu.dirty, seat)
	s.mu.Unlock()
	s.wake()
}

// wake has the next checkpoint come soon.
func (s *shard) wake() { s.roster.Changed() }

// takeDirty takes the seats that changed.
func (s *shard) takeDirty() []*Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirty := s.mu.dirty
	s.mu.dirty = nil
	return dirty
}

// reach is an offset below which everything was offered to who is not behind.
type reach struct {
	partition uint32
	offset    int64
}

// mark takes the next mark, and gives the partitions whose offset is not that of the mark before.
func (s *shard) mark(reached []reach) (mark uint64, moved []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark = s.mu.marks.Next()
	for _, r := range reached {
		if s.mu.marks.Set(r.partition, r.offset) {
			moved = append(moved, r.partition)
		}
	}
	return mark, moved
}

// unit is records that are stored together.
type unit struct {
	shard  *shard
	stream stream.Unit
	size   int
	now    int64
}

// maxUnit is how many bytes of records go into a unit before the next is begun.
const maxUnit = 512 << 10

func (s *shard) unit() *unit {
	return &unit{shard: s, stream: stream.Unit{Owner: s.owner, Early: true}, now: s.roster.opt.Clock().UnixMilli()}
}

// put adds a record; no value removes what is stored under the key.
func (u *unit) put(key session.Key, value []byte) {
	u.add(key.AppendTo(nil), value)
}

func (u *unit) add(k, value []byte) {
	u.size += len(k) + len(value) + 16
	u.stream.Writes = append(u.stream.Writes, stream.Write{
		Partition: u.shard.partition,
		Record:    &record.Record{Timestamp: u.now, Key: k, Value: value},
	})
}

// place is the key of a partition; not ok: it is gone.
func (s *shard) place(kind session.Kind, partition uint32) (key session.Key, ok bool) {
	place := s.roster.opt.Log.Topics().Place(stream.PartitionID(partition))
	if place.Topic == nil {
		return session.Key{}, false
	}
	return session.Key{Kind: kind, Topic: place.Topic.ID, Index: place.Index}, true
}

// putMarks adds the records of marks of partitions.
func (u *unit) putMarks(partitions []uint32) {
	for _, p := range partitions {
		key, ok := u.shard.place(session.KindMark, p)
		if !ok {
			u.shard.forget(p)
			continue
		}
		u.put(key, u.shard.marksOf(p).AppendTo(nil))
	}
}

func (s *shard) marksOf(p uint32) session.MarkRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.marks.Record(p)
}

func (s *shard) forget(p uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.marks.Forget(p)
}

// receipt is of one unit whose fate some wait for.
type receipt struct {
	shard *shard
	known chan struct{} // closed once err is what became of it
	err   error
}

func newReceipt(s *shard) *receipt { return &receipt{shard: s, known: make(chan struct{})} }

// Appended implements stream.Receipt.
func (r *receipt) Appended(_ uint64, _ stream.Placed, err error) {
	r.shard.heed(err)
	r.err = err
	close(r.known)
}

// write appends the records that collect puts together, waiting for room. Sent tells that they are on their way: then
// done gets their fate; nil: there was nothing. It is to be called without any lock.
func (s *shard) write(ctx context.Context, collect func(u *unit)) (done *receipt, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	u := s.unit()
	collect(u)
	return s.append(ctx, u)
}

// append appends a unit; it needs the writing lock. The unit is empty after that.
func (s *shard) append(ctx context.Context, u *unit) (done *receipt, err error) {
	if len(u.stream.Writes) == 0 {
		return nil, nil
	}
	if s.gone {
		return nil, errGone()
	}
	done = newReceipt(s)
	err = stream.AppendWait(ctx, s.roster.opt.Log, &u.stream, done, 1)
	u.stream.Writes, u.size = u.stream.Writes[:0], 0
	if s.heed(err); err != nil {
		return nil, err
	}
	return done, nil
}

// wait waits for the fate of a unit. Not known: ctx ended before.
func (r *receipt) wait(ctx context.Context) (known bool, err error) {
	if r == nil {
		return true, nil
	}
	select {
	case <-r.known:
		return true, r.err
	case <-ctx.Done():
		return false, fault.Wrap(fault.Timeout, "mqtt.Store", ctx.Err())
	}
}

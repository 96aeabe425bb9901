// Package spool holds units on the disk of this machine while the log in a cluster does not take them.
//
// It stands before a keeper on a cluster. Units that are Early go through it, each with a number: they wait in memory
// until the log has taken them, as they would without it. When the log has not taken one for Options.Patience, what
// waits is appended to a log/store in a folder of its own, and told to receipts once it is on stable storage there.
// When the log takes units again, those on the disk go to it first, in order and at a limited rate. All other units,
// and all that is read, go to the cluster.
//
// Each unit is appended to the cluster together with its number, in one transaction, by the owner of a shard
// (positions.go): so what was taken is known after any crash, and is not sent again. books.go says where every unit
// is, form.go how a unit lies on the disk (docs/format/spool.md). docs/design/0014-gateway.md says what is promised.
//
// Goroutines: sender, to the log; holder, to the disk; watch, a clock. Locks: telling, held while receipts are told,
// and below it that of the books.
package spool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// Options of a spool. The zero value of a field is its default; FS and Instance are needed.
type Options struct {
	// FS is the folder of the spool, which holds nothing else.
	FS vfs.FS
	// Keys encrypt what is written to it; nil: it is plain. Plain has new files be plain all the same.
	Keys  *atrest.Ring
	Plain bool
	// Instance is the name of this node in the cluster.
	Instance string
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Metrics gets the counters of the spool. Default: nobody looks.
	Metrics *telemetry.Set
	// Bytes bounds what is on the disk and not taken by the log, as it is in memory. Default 1 GiB.
	Bytes int64
	// MemoryBytes bounds what waits in memory: above it Append gives ErrCrowded. Default 16 MiB.
	MemoryBytes int64
	// Rate is how many bytes a second go from the disk to the log. 0: as many as it takes.
	Rate int64
	// Patience is after what time a unit that the log does not take goes to the disk. Default 1 s.
	Patience time.Duration
	// CloseWait is how long Close waits for units to be taken or held. Default 15 s.
	CloseWait time.Duration
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 30
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 16 << 20
	}
	if o.Patience == 0 {
		o.Patience = time.Second
	}
	if o.CloseWait == 0 {
		o.CloseWait = 15 * time.Second
	}
	return o
}

// Spool is a keeper that holds units on the disk while the one below does not take them.
type Spool struct {
	stream.Keeper // in the cluster

	opt       Options
	log       *slog.Logger
	metrics   metrics
	disk      *store.Store
	shelf     stream.PartitionID // of disk
	positions positions

	crowded atomic.Bool  // a unit was turned away, and there has been no more room since
	lines   *limit.Lines // of the logger

	telling sync.Mutex // receipts are told one at a time, in the order of the numbers

	mu      sync.Mutex
	changed *sync.Cond // of mu: the books say something else
	books   books
	at      record.Offset // on the shelf, up to which the sender has read
	marks   []mark        // of what it has read
	trimmed record.Offset // the shelf begins there
	came    time.Time     // when it was opened
	hurried bool          // leftovers are sent: nobody is served yet, and no rate kept

	foreign uint64 // up to this number, another node has served the cluster since the units were held

	ctx    context.Context //nolint:containedctx // of everything that the spool does without a caller
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// mark is a place on the shelf, and the number of the last unit before it.
type mark struct {
	number uint64
	offset record.Offset
}

// shelfName is the topic of the store in the folder, with one partition.
const shelfName = "spool"

// Open opens a spool before a log, and returns once the log has taken what a life before has left in it: nobody may
// have read the log before that. Errors: those of the store and of the log; Timeout when ctx ends.
func Open(ctx context.Context, below stream.Keeper, opt Options) (*Spool, error) {
	opt = opt.withDefaults()
	s := &Spool{Keeper: below, opt: opt, log: opt.Logger, lines: limit.NewLines(time.Minute, 4), came: time.Now()}
	s.changed = sync.NewCond(&s.mu)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.openDisk(ctx); err != nil {
		s.cancel()
		return nil, err
	}
	err := s.begin(ctx)
	if err != nil {
		return nil, errors.Join(err, s.leave())
	}
	return s, nil
}

// openDisk opens the store. Files are small: most of the time there is nothing in them.
func (s *Spool) openDisk(ctx context.Context) (err error) {
	const file = 16 << 20
	s.disk, err = store.Open(ctx, store.Options{
		FS: s.opt.FS, Logger: s.log, Keys: s.opt.Keys, Plain: s.opt.Plain,
		JournalBytes: file, FirstJournalBytes: 1 << 20, CacheBytes: 1 << 20, DedupeBytes: 1 << 20, SegmentBytes: 4 * file,
	})
	if err != nil {
		return err
	}
	t := s.disk.Topics().ByName(shelfName)
	if t == nil {
		t, err = s.disk.CreateTopic(ctx, stream.TopicSpec{Name: shelfName, Partitions: 1, Config: map[string]string{
			"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "1073741824",
		}})
	}
	if err != nil {
		return errors.Join(err, s.disk.Close())
	}
	s.shelf = t.Partitions[0]
	return nil
}

// begin finds out where units are, starts the goroutines and waits for what was left.
func (s *Spool) begin(ctx context.Context) error {
	s.metrics.register(s, s.opt.Metrics)
	if err := s.findPositions(ctx); err != nil {
		return err
	}
	left, err := s.findLeft()
	if err != nil {
		return err
	}
	s.hurried = true
	s.done.Go(s.send)
	s.done.Go(s.hold)
	s.done.Go(s.watch)
	if left > 0 {
		s.log.Info("sending what the spool has held since before the start", "units", left, "foreign", s.foreign > 0)
	}
	if err := s.drained(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.hurried = false
	s.mu.Unlock()
	p := &s.positions
	if p.served == s.opt.Instance {
		return nil
	}
	// Not before what was left is there: a start that ends in the middle must not take foreign state for its own.
	return serve(ctx, s.Keeper, p.partition, p.owner, s.opt.Instance)
}

// findLeft reads what is on the shelf and not taken.
func (s *Spool) findLeft() (left int, err error) {
	bounds, err := s.disk.Bounds(s.shelf)
	if err != nil {
		return 0, err
	}
	b := &s.books
	s.at, s.trimmed = bounds.Start, bounds.Start
	b.taken = s.positions.taken
	b.last = b.taken
	for r, at := (reader{}), bounds.Start; at < bounds.Stable; {
		next, err := s.scan(&r, at)
		if err != nil {
			return 0, err
		}
		for _, u := range r.take() {
			if u.number <= b.taken {
				continue
			}
			left++
			b.held += u.bytes
			b.last = u.number
		}
		at = next
	}
	b.sent, b.kept, b.stored = b.taken, b.last, b.last
	if s.positions.served != s.opt.Instance {
		s.foreign = b.last
	}
	return left, nil
}

// scan reads a piece of the shelf. What cannot be read is passed over, and told.
func (s *Spool) scan(r *reader, at record.Offset) (next record.Offset, err error) {
	next, err = s.disk.Scan(s.shelf, at, stream.ScanOptions{}, r.visit)
	if damage, ok := errors.AsType[*stream.Damage](err); ok {
		s.lose("a part of the spool cannot be read", err)
		return max(damage.Next, next), nil
	}
	return next, err
}

// lose counts what was acknowledged and cannot be sent.
func (s *Spool) lose(why string, err error) {
	s.metrics.lost.Inc()
	if held, ok := s.lines.Pass(why); ok {
		s.log.Error(why+": what was acknowledged is lost", "error", err, "more", held)
	}
}

// Append implements stream.Log.
func (s *Spool) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	if !u.Early || len(u.Writes) == 0 {
		return s.Keeper.Append(u, to, ticket)
	}
	bytes, err := measure(s.Topics(), u)
	if err != nil {
		return err
	}
	if err := s.enter(u, bytes); err != nil {
		return err
	}
	it := &item{to: to, ticket: ticket, bytes: bytes, came: time.Now()}
	it.unit.Writes = copyOf(u)
	it.shard, it.owned = u.Owner.Shard, u.Owner.Epoch != 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.books.put(it)
	it.unit.Writes = append(it.unit.Writes, s.positions.write(it.number))
	it.unit.Owner = s.positions.owner
	s.changed.Broadcast()
	return nil
}

// enter takes room for a unit, in its turn.
func (s *Spool) enter(u *stream.Unit, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.books.enter(u.Turn, bytes, &s.opt)
	s.crowded.Store(err == stream.ErrCrowded) //nolint:errorlint // it was made there
	if u.Turn == nil {
		return err
	}
	if err == stream.ErrCrowded { //nolint:errorlint // it was made a few lines further up
		s.books.line.Wait(u.Turn, bytes)
	} else {
		s.books.line.Pass(u.Turn)
	}
	return err
}

// measure is about what a unit takes in memory. Errors: NotFound, TooLarge.
func measure(topics *stream.Topics, u *stream.Unit) (bytes int64, err error) {
	const op, memory = "log.Append", 256
	for i := range u.Writes {
		w := &u.Writes[i]
		place := topics.Place(w.Partition)
		if place.Topic == nil {
			return 0, fault.New(fault.NotFound, op, "no partition %d", w.Partition)
		}
		size := int64(w.Record.EncodedSize())
		if limit := int64(place.Topic.Settings.MaxMessageBytes); size+record.BatchOverhead > limit {
			return 0, fault.New(fault.TooLarge, op, "record of %d bytes, max.message.bytes is %d", size, limit)
		}
		bytes += size + memory
	}
	return bytes, nil
}

// Crowded implements stream.Log.
func (s *Spool) Crowded() bool { return s.crowded.Load() }

// Own implements stream.Log. What is held may be of the owner before: it is waited for.
func (s *Spool) Own(ctx context.Context, shard stream.PartitionID) (stream.Owner, error) {
	if err := s.drained(ctx); err != nil {
		return stream.Owner{}, err
	}
	return s.Keeper.Own(ctx, shard)
}

// drained waits until the log has taken all. Errors: Timeout, Fenced, Closed.
func (s *Spool) drained(ctx context.Context) error {
	const op = "log.Own"
	defer context.AfterFunc(ctx, s.wake)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.books.taken < s.books.last {
		switch {
		case s.books.lost != nil:
			return s.books.lost
		case s.books.closing:
			return fault.New(fault.Closed, op, "the log is closing")
		case ctx.Err() != nil:
			return fault.Wrap(fault.Timeout, op, ctx.Err())
		}
		s.changed.Wait()
	}
	return nil
}

// Close has what waits be taken by the log or held, and ends. What is held stays for the next Open. Errors: Timeout,
// when units were neither; their receipts have told who. The log below stays open.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.books.closing {
		s.mu.Unlock()
		return nil
	}
	s.books.closing = true
	turns := s.books.line.Next(1<<62, nil)
	late := false
	timer := time.AfterFunc(s.opt.CloseWait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	s.mu.Unlock()
	call(turns)
	s.mu.Lock()
	for s.books.waiting > 0 && !late && s.books.lost == nil {
		s.changed.Wait()
	}
	s.mu.Unlock()
	timer.Stop()
	err := s.leave()
	if s.giveUp(fault.New(fault.Closed, "log.Append", "the log is closed")) > 0 {
		err = errors.Join(err, fault.New(fault.Timeout, "spool.Close", "units were neither taken nor held"))
	}
	return err
}

// leave ends the goroutines and the store.
func (s *Spool) leave() error {
	s.cancel()
	s.wake()
	s.done.Wait()
	return s.disk.Close()
}

// wake has everybody look at the books, or whether a context has ended.
func (s *Spool) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// call calls turns that have room. It must not be called with the lock of the books held.
func call(turns []*stream.Turn) {
	for _, t := range turns {
		t.Roomy()
	}
}

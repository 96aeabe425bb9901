// Package store keeps the contract of the log on our own disk: all partitions of this node in one shared
// journal, with group commit.
//
// The path of an append: a caller puts its writes into the open group (group.go), the committer writes
// groups as frames and syncs (commit.go), the announcer makes them readable and tells watchers and receipts
// (announce.go), the housekeeper turns full journal files into segments, takes checkpoints and obeys retention
// (housekeeper.go), the cleaner compacts (compact.go). docs/design/0001-the-log.md has the whole of it.
//
// Goroutines: committer, announcer, housekeeper, cleaner, up to four that sync side by side where the disk is slow
// (underway.go), and up to four that read ahead for a while (readahead.go). Locks, never two at once: the group lock
// (Store.mu) over the open group, the producer windows and the table of producers; a partition's own; the watchers'
// while they are told; topicsMu over a change of the set of topics; that of a Readahead.
package store

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Store is the log on our disk.
type Store struct {
	opt      Options
	raw      vfs.FS     // opt.FS, with a bound on open files
	fs       vfs.FS     // the same, through which files are encrypted, if there is a key
	sealing  *atrest.FS // fs, if there is a key, or nil
	lock     io.Closer
	identity identity
	epoch    int32 // leader epoch of everything written since Open
	metrics  metrics

	parts  atomic.Pointer[table]
	topics atomic.Pointer[stream.Topics]

	topicsMu sync.Mutex // serializes changes of the set of topics
	// registry is the fold of the topics topic. The announcer changes it, and only he reads it without the lock.
	registryMu sync.Mutex
	registry   registry

	// mu is the group lock.
	mu struct {
		sync.Mutex
		open      *group
		free      []*group // groups to use again
		waiting   bool     // the committer waits
		held      bool     // the committer waits until the housekeeper has caught up
		least     int      // at so many units in the open group it wants to be woken
		late      bool     // those who were called to the line's room did not come
		groups    uint64   // number of the newest group
		refuse    error    // why appends are refused; nil: they are not
		closing   bool
		line      stream.Line                  // who waits for room in the open group
		owners    map[stream.PartitionID]int32 // epoch of the owner of each shard
		producers producers                    // the transactional ones
		nextPID   int64                        // next producer id to give
		maxPID    int64                        // bound of the ids reserved on disk

		readaheads int // goroutines of them
	}
	work *sync.Cond // the committer may have work

	watchers stream.Watchers
	placed   placed // the announcer's, for receipts

	writer      *writer        // the committer's
	stage       *journal.Stage // the committer's
	pace        pace           // the committer's
	underWay    []*group       // written and not handed over, oldest first; the committer's
	announceq   chan *group    // committer to announcer
	crowded     atomic.Bool    // the open group is full
	housekeeper housekeeper
	cache       cache // the announcer's
	announced   announced

	corrupt sync.Map // stream.PartitionID to record.Offset: the damage reported last

	closes chan struct{} // closed when Close begins
	done   sync.WaitGroup
}

// table finds a partition by its id.
type table []*partition.Partition

func (t *table) find(id stream.PartitionID) *partition.Partition {
	if int(id) >= len(*t) {
		return nil
	}
	return (*t)[id]
}

var _ stream.Keeper = (*Store)(nil)

// Open opens the log in opt.FS, making it if the folder is empty, and recovers what was acknowledged.
// Errors: Exists (another process holds it), Unsupported (a newer format), Corrupt, IO, Full, Invalid.
func Open(ctx context.Context, opt Options) (*Store, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	lock, err := opt.FS.Lock(lockName)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: opt, lock: lock,
		stage: journal.NewStage(opt.DirectBytes), pace: pace{slow: opt.SlowSync},
		announceq: make(chan *group, 1), closes: make(chan struct{}),
	}
	s.layer()
	s.work = sync.NewCond(&s.mu)
	s.housekeeper.init(s)
	s.metrics.register(s, opt.Metrics)
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.run()
	return s, nil
}

// run starts the three goroutines.
func (s *Store) run() {
	s.mu.groups, s.mu.least = 1, never
	s.mu.open = &group{number: 1}
	for range groupsKept {
		s.mu.free = append(s.mu.free, &group{})
	}
	s.housekeeper.started = time.Now()
	s.housekeeper.checkClock()
	s.done.Go(s.commitLoop)
	s.done.Go(s.announceLoop)
	s.done.Go(s.housekeeper.loop)
	s.done.Go(s.housekeeper.cleaner.cleanLoop)
}

// Close refuses new appends, brings those under way to the disk, takes a checkpoint and lets go of the
// folder. It may be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.mu.closing {
		s.mu.Unlock()
		return nil
	}
	s.mu.closing = true
	s.mu.refuse = fault.New(fault.Closed, "log.Append", "the log is closing")
	turns := s.mu.line.Next(math.MaxInt64, nil)
	s.work.Signal()
	s.mu.Unlock()
	callTurns(turns)
	close(s.closes)
	s.housekeeper.wake()
	s.done.Wait()
	return errors.Join(s.housekeeper.closing(), s.lock.Close())
}

// Refused is why appends are refused now, or nil.
func (s *Store) Refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.refuse
}

// ClusterID names this log: the same for its whole life.
func (s *Store) ClusterID() string { return s.identity.Cluster }

// Epoch is the leader epoch of all partitions: how often the log was opened.
func (s *Store) Epoch() int32 { return s.epoch }

// Topics implements stream.Log.
func (s *Store) Topics() *stream.Topics { return s.topics.Load() }

func (s *Store) partition(id stream.PartitionID) (*partition.Partition, error) {
	if p := s.parts.Load().find(id); p != nil {
		return p, nil
	}
	return nil, fault.New(fault.NotFound, "log", "no partition %d", id)
}

// Bounds implements stream.Log.
func (s *Store) Bounds(id stream.PartitionID) (stream.Bounds, error) {
	p, err := s.partition(id)
	if err != nil {
		return stream.Bounds{}, err
	}
	return p.Bounds()
}

// Read appends whole batches of one partition, the first of which holds the offset from or lies behind it, up
// to the high watermark, to into. It stops before maxBytes but always returns one batch if there is one. The
// bytes are shared and must not be changed. Nothing to read (from equals the high watermark) is no error.
// Errors: NotFound, OutOfRange, Corrupt, IO, Closed.
func (s *Store) Read(
	id stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, error) {
	p, err := s.partition(id)
	if err != nil {
		return into, err
	}
	into, err = p.Read(from, maxBytes, into)
	if err != nil && fault.Is(err, fault.Corrupt) {
		s.reportCorrupt(id, from, err)
	}
	return into, err
}

// Stretch is some batches that Find found in a file. It keeps nothing in memory and no file from going.
type Stretch struct {
	partition.Stretch
	store *Store
	ahead *Readahead // that brings it, or nil
}

// Find is Read for who passes bytes on and wants no more of them in memory than he can pass on at once: it
// appends the batches that are in memory to into, or gives the stretch of a file to load them from.
// Errors: as Read.
func (s *Store) Find(
	id stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, Stretch, error) {
	p, err := s.partition(id)
	if err != nil {
		return into, Stretch{}, err
	}
	return s.find(p, from, maxBytes, into)
}

// FindBelow is Find that gives no batch from an offset on, which is the first of one: the last stable offset for who
// reads committed records. A file where nothing else ends there is read for it.
func (s *Store) FindBelow(
	id stream.PartitionID, from, end record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, Stretch, error) {
	p, err := s.partition(id)
	if err != nil {
		return into, Stretch{}, err
	}
	bounds, err := p.Bounds()
	if err != nil || from >= end && from >= bounds.Start && from <= bounds.High {
		return into, Stretch{}, err
	}
	had := len(into)
	into, st, err := s.find(p, from, maxBytes, into)
	if err == nil && st.Size() > 0 && st.Next() > end {
		into, st = into[:had], Stretch{} // what is in front of the end is read, some at a time
		into, err = s.Read(id, from, min(maxBytes, rollBytes), into)
	}
	n := len(into)
	for n > had && into[n-1].BaseOffset() >= end {
		n--
	}
	clear(into[n:])
	return into[:n], st, err
}

func (s *Store) find(
	p *partition.Partition, from record.Offset, maxBytes int, into []record.Batch,
) ([]record.Batch, Stretch, error) {
	id := p.ID
	into, st, err := p.Find(from, maxBytes, into)
	if err != nil && fault.Is(err, fault.Corrupt) {
		s.reportCorrupt(id, from, err)
	}
	return into, Stretch{Stretch: st, store: s}, err
}

// Load reads and checks the next batches, as much as the free room of buf takes, appends them to buf, and the
// pieces of buf that are batches, in order, to into. The pieces are good even if there is an error: they lie
// before what is damaged. An empty buf without room for one read is replaced by a larger one; one with
// something in it and no room comes back as it is. Errors: as Read.
func (st *Stretch) Load(buf []byte, into [][]byte) ([]byte, [][]byte, error) {
	had := len(buf)
	var f *file // that is read ahead
	if st.ahead != nil && st.Size() > 0 {
		pos, end := st.Reach(cap(buf) - had)
		f = st.file()
		st.ahead.wait(f, pos, end)
	}
	began := time.Now()
	buf, into, err := st.Stretch.Load(buf, into)
	if f != nil {
		st.ahead.loaded(len(buf)-had, time.Since(began)-f.opening(len(buf)-had))
	}
	if err != nil && fault.Is(err, fault.Corrupt) {
		id, from := st.At()
		st.store.reportCorrupt(id, from, err)
	}
	return buf, into, err
}

func (st *Stretch) file() *file { return st.File().(*file) } //nolint:errcheck // the files of a store are its own

// reportCorrupt tells the operator, once for each place that readers find damaged.
func (s *Store) reportCorrupt(id stream.PartitionID, from record.Offset, err error) {
	s.metrics.corrupt.Inc()
	if last, told := s.corrupt.Swap(id, from); told && last == from {
		return
	}
	place := s.Topics().Place(id)
	name := ""
	if place.Topic != nil {
		name = place.Topic.Name
	}
	s.opt.Logger.Error("damaged records cannot be read; all others can", "topic", name, "partition", place.Index,
		"offset", int64(from), "error", err, "hint", "stop firth and run firth log check")
}

// PartitionBytes is the size of a partition's batches in bytes.
func (s *Store) PartitionBytes(id stream.PartitionID) (int64, error) {
	p, err := s.partition(id)
	if err != nil {
		return 0, err
	}
	return p.Bytes(), nil
}

// Space tells how much of the disk under the log is free for an ordinary user and how large it is, in bytes.
// Errors: IO, Unsupported.
func (s *Store) Space() (free, total int64, err error) { return vfs.Space(s.fs) }

// EpochAt is the leader epoch in which the record at an offset was written; -1 if there is none, or nobody knows.
func (s *Store) EpochAt(id stream.PartitionID, off record.Offset) (int32, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, err
	}
	return p.EpochAt(off)
}

// EndOfEpoch is the largest leader epoch of the partition that is not above asked, and the offset at which
// it ended (KIP-320); (-1, -1) if there is none. An epoch from before the oldest that is known ended where
// that one began.
func (s *Store) EndOfEpoch(id stream.PartitionID, asked int32) (int32, record.Offset, error) {
	p, err := s.partition(id)
	if err != nil {
		return -1, -1, err
	}
	return p.EndOfEpoch(asked)
}

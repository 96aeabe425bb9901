package store

import (
	"cmp"
	"log/slog"
	"math"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
)

// leastJournal is the smallest journal file, in bytes.
const leastJournal = 64 << 10

// Options of the log. The zero value of a field is its default; only FS is needed.
type Options struct {
	// FS is the data directory.
	FS vfs.FS
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Metrics gets the counters of the log. Default: nobody looks.
	Metrics *telemetry.Set
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time

	// JournalBytes is the largest size of a journal file, preallocated. Default 64 MiB, at least 64 KiB, at most a 32nd
	// of the disk where that is more than 1 MiB. A larger commit gets a file of its own size.
	JournalBytes int64
	// FirstJournalBytes is the size of the first journal file, and of those that fill slowly and are not kept in place.
	// Default 8 MiB, at most JournalBytes.
	FirstJournalBytes int64
	// CacheBytes is how many bytes of the newest batches stay in memory for both doors. Default 64 MiB.
	CacheBytes int64
	// GroupBytes is how many bytes may gather for one commit; appends wait above it. Default 8 MiB.
	GroupBytes int64
	// DirectBytes is the size from which on a commit is written past the system's cache. Default 256 KiB.
	DirectBytes int64
	// SlowSync is what a sync takes on a disk for which commits do not wait for each other. Default 300 µs.
	SlowSync time.Duration
	// ComeTime is how long room is kept for those who waited for it and were called, while nobody else comes. Who comes
	// later may be overtaken. Default 100 ms.
	ComeTime time.Duration
	// ReadaheadBytes is the length from which on a run of a file is read ahead of who reads it back. Default 512 KiB.
	ReadaheadBytes int64
	// ReserveBytes is the space that must stay free on the disk for the log to take a new journal file:
	// room for roll-ups and checkpoints. Default 2 x JournalBytes.
	ReserveBytes int64
	// RetentionInterval is how often retention is looked at. Default 10 s.
	RetentionInterval time.Duration
	// ProducerExpiry is how long an idle idempotent producer is remembered. Default 24 h.
	ProducerExpiry time.Duration
	// StepWait is how long removal by age waits after the wall clock was set by more than ten minutes. Default 1 h.
	StepWait time.Duration
	// SealedFiles is how many full journal files may wait to be rolled up; commits wait above it. Default 16.
	SealedFiles int
	// SegmentBytes is how large a file gets by compaction, unless one that went in was larger. Default 1 GiB.
	SegmentBytes int64
	// DedupeBytes is how much memory the last offsets of keys may take while a topic is compacted: about 32 bytes a
	// key, and as much again for a journal that is rolled up. With less, compaction takes more passes. Default 32 MiB.
	DedupeBytes int64
	// OpenFiles is how many sealed files may be open at a time: others are opened when they are read. Default 200.
	OpenFiles int
	// MergeBytes is up to which size small sealed files are merged; below 0: they never are. Default 1 GiB.
	MergeBytes int64
	// BulkBatchBytes is the mean batch size from which a full journal file is kept in place instead of
	// being sorted by partition. Default 16 KiB.
	BulkBatchBytes int64

	// TopicDefaults overlay the built-in defaults of topic settings, by Kafka's names.
	TopicDefaults map[string]string
	// DefaultPartitions is how many partitions a topic gets that asks for none. Default 1.
	DefaultPartitions int
	// MaxPartitions is how many partitions all topics together may have. Default 100,000.
	MaxPartitions int

	// Keys are the key-encryption keys: with them, new files are encrypted. nil: they are not, and none is read.
	Keys *atrest.Ring
	// Plain has new files not be encrypted though there are Keys: these are for what is there.
	Plain bool

	// Naming gives a naming by the mapping in force, to index sealed files by. nil: they are not indexed.
	Naming func() Naming
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.JournalBytes = cmp.Or(o.JournalBytes, 64<<20)
	o.JournalBytes = min(o.JournalBytes, fitting(o.FS))
	o.FirstJournalBytes = min(cmp.Or(o.FirstJournalBytes, 8<<20), o.JournalBytes)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.GroupBytes = cmp.Or(o.GroupBytes, 8<<20)
	o.DirectBytes = cmp.Or(o.DirectBytes, 256<<10)
	o.SlowSync = cmp.Or(o.SlowSync, 300*time.Microsecond)
	o.ComeTime = cmp.Or(o.ComeTime, 100*time.Millisecond)
	o.ReadaheadBytes = cmp.Or(o.ReadaheadBytes, 512<<10)
	o.ReserveBytes = cmp.Or(o.ReserveBytes, 2*o.JournalBytes)
	o.RetentionInterval = cmp.Or(o.RetentionInterval, 10*time.Second)
	o.ProducerExpiry = cmp.Or(o.ProducerExpiry, 24*time.Hour)
	o.StepWait = cmp.Or(o.StepWait, time.Hour)
	o.SealedFiles = cmp.Or(o.SealedFiles, 16)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 1<<30)
	o.DedupeBytes = cmp.Or(o.DedupeBytes, 32<<20)
	o.OpenFiles = cmp.Or(o.OpenFiles, 200)
	o.MergeBytes = cmp.Or(o.MergeBytes, 1<<30)
	o.BulkBatchBytes = cmp.Or(o.BulkBatchBytes, 16<<10)
	o.DefaultPartitions = cmp.Or(o.DefaultPartitions, 1)
	o.MaxPartitions = cmp.Or(o.MaxPartitions, 100_000)
	return o
}

// fitting is the largest journal file that fits the disk well: a 32nd of it, so that a few files and the reserve
// leave most of it to records; but not below 1 MiB.
func fitting(fs vfs.FS) int64 {
	if fs == nil {
		return math.MaxInt64
	}
	_, total, err := vfs.Space(fs)
	if err != nil {
		return math.MaxInt64 // the first write will tell
	}
	return max(1<<20, total/32)
}

func (o Options) validate() error {
	const op = "store.Open"
	switch {
	case o.FS == nil:
		return fault.New(fault.Invalid, op, "no file system given")
	case o.JournalBytes < leastJournal:
		return fault.New(fault.Invalid, op, "journal file of %d bytes, at least %d are needed", o.JournalBytes, leastJournal)
	case o.DefaultPartitions < 1:
		return fault.New(fault.Invalid, op, "default of %d partitions", o.DefaultPartitions)
	}
	_, err := stream.DecodeSettings(o.TopicDefaults, nil)
	return err
}

// Package retain holds the retained messages: the last message of each topic name that was published
// with RETAIN (MQTT 5.0, section 3.3.1.3).
//
// They belong to no session and outlive all [MQTT-3.1.2-7 of 3.1.1].
//
// They are a fold of the internal topic __firth_retained: the key is the topic name, the value the
// payload, headers as mapping writes them, no value when the message was cleared. The door appends the
// record there in one unit with the record of the message itself. The store is read from the log at
// the start and follows its tail from then on; it stores nothing itself. Small messages are kept in
// memory, of the others only their place in the log.
//
// One goroutine, Run, folds and serves requests in turn. What a subscription gets live and what it gets
// as retained meet at a position: see Ask.
//
//	<-store.Settled()                  // what was published before is older
//	ask := store.Begin()
//	fanout.Subscribe(m, sub, nil)
//	ask.Send(sub.Filter, receiver, fanout.Epoch(m, sub))
//	ask.End()
package retain

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// TopicName is the internal topic of which the store is a fold.
const TopicName = hinge.RetainedTopic

// Options of the store. Log and Mapping are needed.
type Options struct {
	Log stream.Keeper
	// Mapping is the table in force: it reads the headers of records.
	Mapping func() *hinge.Table
	// Metrics gets the counters. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// MaxTopics is the most topic names with a retained message. Default 1,000,000.
	MaxTopics int
	// MaxBytes is about how much memory they may take. Default 256 MiB.
	MaxBytes int64
	// PageBytes is about how much of the names that a filter matches a request has in memory at a time. Default 4 MiB.
	PageBytes int64
}

// Store is the retained messages of the node. Open makes it, Run keeps it up to date.
type Store struct {
	opt       Options
	partition stream.PartitionID
	count     atomic.Int64
	bytes     atomic.Int64  // of memory
	folded    atomic.Int64  // cursor, for who is not Run
	wakeup    chan struct{} // holds one token
	metrics   metrics
	lines     *limit.Lines
	flights   flights
	seed      maphash.Seed // of the pages of names

	index struct {
		sync.RWMutex
		names names.Names[entry]
	}
	mu struct {
		sync.Mutex
		queue    []*Request
		awaiting []awaiting
	}

	// What follows belongs to the goroutine of Run, before it to Open.
	cursor  record.Offset
	message hinge.Message
}

type metrics struct {
	corrupt  telemetry.Counter
	poisoned telemetry.Counter
}

// entry is one retained message.
type entry struct {
	offset record.Offset
	small  *small // nil: it lies in the log only
}

// small is a message that is kept in memory. It is immutable.
type small struct {
	payload   []byte
	rest      *rest // nil for a message without properties
	timestamp int64
	publisher uint32 // see hinge.Message.PublisherSum
	qos       byte
}

const (
	// smallBytes is the largest message that is kept in memory.
	smallBytes = 512
	// nameBytes is about what a name takes besides its text, smallOverhead what a small message does.
	nameBytes     = 160
	smallOverhead = 64
	restOverhead  = 112
)

// rest is what few messages have.
type rest struct {
	contentType, responseTopic, correlation, user []byte
	expiry                                        uint32
	hasExpiry, hasFormat                          bool
	format                                        byte
}

// Open makes __firth_retained if it is not there, and reads it. Errors: those of the log.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.MaxTopics == 0 {
		opt.MaxTopics = 1_000_000
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 256 << 20
	}
	if opt.PageBytes == 0 {
		opt.PageBytes = 4 << 20
	}
	s := &Store{
		opt: opt, wakeup: make(chan struct{}, 1), lines: limit.NewLines(time.Minute, 16), seed: maphash.MakeSeed(),
	}
	s.flights.open = make(map[*Flight]struct{})
	s.HeardBy(nobody{})
	t, err := stream.EnsureState(ctx, opt.Log, TopicName)
	if err != nil {
		return nil, err
	}
	s.partition = t.Partitions[0]
	opt.Metrics.GaugeFunc("firth_mqtt_retained_messages", "Topic names with a retained message.",
		func() float64 { return float64(s.count.Load()) })
	opt.Metrics.GaugeFunc("firth_mqtt_retained_bytes", "Memory that retained messages take, about.",
		func() float64 { return float64(s.Bytes()) })
	dropped := opt.Metrics.Counter("firth_mqtt_retained_dropped_total",
		"Retained messages that were left out, by reason.", "reason")
	s.metrics = metrics{corrupt: dropped.With("corrupt"), poisoned: dropped.With("panic")}
	bounds, err := opt.Log.Bounds(s.partition)
	if err != nil {
		return nil, err
	}
	s.cursor = bounds.Start
	return s, s.fold(ctx)
}

// Partition is where the door appends the records of retained messages.
func (s *Store) Partition() stream.PartitionID { return s.partition }

// Len is the number of topic names with a retained message.
func (s *Store) Len() int { return int(s.count.Load()) }

// Bytes is about how much memory the retained messages take.
func (s *Store) Bytes() int64 { return s.bytes.Load() }

// Full tells whether there are so many names that a new one must be refused.
func (s *Store) Full(name []byte) bool {
	if s.Len() < s.opt.MaxTopics && s.bytes.Load()+int64(len(name))+nameBytes <= s.opt.MaxBytes {
		return false
	}
	s.index.RLock()
	defer s.index.RUnlock()
	_, known := s.index.names.Get(name)
	return !known
}

// Advanced implements stream.Watcher.
func (s *Store) Advanced(stream.PartitionID, record.Offset) { s.wake() }

func (s *Store) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}

// Run follows the log and serves requests until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	watch := s.opt.Log.Watch(s, stream.Followed)
	defer watch.Stop()
	watch.Follow(s.partition)
	for ctx.Err() == nil {
		queue := s.take() // before the fold, so that it comes to where they need it
		if err := s.fold(ctx); err != nil {
			s.complain("fold", "cannot read the retained messages, trying again", "error", err)
			time.AfterFunc(lastPause, s.wake)
		}
		s.serve(queue)
		if len(queue) == 0 {
			select {
			case <-s.wakeup:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// fold applies what can be read now. What is damaged is left out.
func (s *Store) fold(ctx context.Context) error {
	table := s.opt.Mapping()
	folded, err := stream.Fold(ctx, s.opt.Log, s.partition, s.cursor, func(v *record.View) error {
		s.index.Lock()
		defer s.index.Unlock()
		s.apply(table, v)
		return nil
	})
	s.cursor = folded.Next
	s.folded.Store(int64(s.cursor))
	s.tellAwaiting()
	if !folded.Complete() {
		s.metrics.corrupt.Add(float64(folded.Lost))
		s.metrics.poisoned.Add(float64(folded.Strange))
		s.complain("damage", "some retained messages could not be read and are left out",
			"lost", folded.Lost, "strange", folded.Strange, "error", folded.First)
	}
	if ended := fault.Is(err, fault.Closed) || ctx.Err() != nil; !ended {
		return err
	}
	return nil
}

// apply sets or clears one name. It needs the lock of index.
func (s *Store) apply(table *hinge.Table, v *record.View) {
	if names.CheckName(v.Key) != nil {
		return // not written by the door
	}
	old, known := s.index.names.Get(v.Key)
	if len(v.Value) == 0 { // [MQTT-3.3.1-6]
		if known {
			s.index.names.Delete(v.Key)
			s.count.Add(-1)
			s.bytes.Add(-nameBytes - int64(len(v.Key)) - old.small.bytes())
		}
		return
	}
	e := entry{offset: v.Offset}
	if table.Message(table.CatchAll(), v, &s.message) && sizeOf(&s.message) <= smallBytes {
		e.small = newSmall(&s.message)
	}
	grows := e.small.bytes() - old.small.bytes()
	if !known {
		grows += nameBytes + int64(len(v.Key))
		s.count.Add(1)
	}
	if e.small != nil && s.bytes.Load()+grows > s.opt.MaxBytes {
		grows -= e.small.bytes()
		e.small = nil
	}
	s.index.names.Set(v.Key, e)
	s.bytes.Add(grows)
}

// sizeOf is how much of a message would be kept.
func sizeOf(m *hinge.Message) int {
	return len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.Correlation) + len(m.UserProperties)
}

// bytes is about how much memory a small message takes.
func (sm *small) bytes() int64 {
	if sm == nil {
		return 0
	}
	n := smallOverhead + len(sm.payload)
	if r := sm.rest; r != nil {
		n += restOverhead + len(r.contentType) + len(r.responseTopic) + len(r.correlation) + len(r.user)
	}
	return int64(n)
}

// newSmall copies a message out of its batch, which would else stay in memory with it.
func newSmall(m *hinge.Message) *small {
	sm := &small{payload: clone(m.Payload), timestamp: m.Timestamp, publisher: m.PublisherSum(), qos: m.QoS}
	if m.HasExpiry || m.HasPayloadFormat || m.ContentType != nil || m.ResponseTopic != nil ||
		m.Correlation != nil || len(m.UserProperties) > 0 {
		sm.rest = &rest{
			contentType: clone(m.ContentType), responseTopic: clone(m.ResponseTopic),
			correlation: clone(m.Correlation), user: clone(m.UserProperties),
			expiry: m.Expiry, hasExpiry: m.HasExpiry, hasFormat: m.HasPayloadFormat, format: m.PayloadFormat,
		}
	}
	return sm
}

// clone is a copy without spare room; nil stays nil.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	c := make([]byte, len(b))
	copy(c, b)
	return c
}

// fill makes m the message of a name, without its publisher. m points into the small message and name.
func (sm *small) fill(name []byte, m *hinge.Message) {
	m.Topic, m.Payload, m.QoS, m.Retain, m.Timestamp = name, sm.payload, sm.qos, true, sm.timestamp
	m.Publisher = nil
	r := sm.rest
	if r == nil {
		r = &rest{}
	}
	m.ContentType, m.ResponseTopic, m.Correlation, m.UserProperties = r.contentType, r.responseTopic, r.correlation, r.user
	m.Expiry, m.HasExpiry, m.PayloadFormat, m.HasPayloadFormat = r.expiry, r.hasExpiry, r.format, r.hasFormat
}

// Package retain holds the retained messages: the last message of each topic name that was published
// with RETAIN (MQTT 5.0, section 3.3.1.3).
//
// They are a fold of the internal topic __firth_retained: the key is the topic name, the value the
// payload, headers as mapping writes them, no value when the message was cleared. The door appends the
// record there in one Append with the record of the message itself. The store is read from the log at
// the start and follows its tail from then on; it stores nothing itself.
//
// One goroutine, Run, folds and serves requests in turn, so that a request sees everything whose
// acknowledgement left before it: the news of a record comes before its receipt.
package retain

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// TopicName is the internal topic of which the store is a fold.
const TopicName = "__firth_retained"

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
}

// Store is the retained messages of the node. Open makes it, Run keeps it up to date.
type Store struct {
	opt       Options
	partition stream.PartitionID
	count     atomic.Int64
	wake      chan struct{} // holds one token

	index struct {
		sync.RWMutex
		names names.Names[*entry]
	}
	mu struct {
		sync.Mutex
		queue []*Request
	}

	// What follows belongs to the goroutine of Run, before it to Open.
	cursor  record.Offset
	message hinge.Message
}

// entry is one retained message. It is immutable.
type entry struct {
	payload   []byte
	rest      *rest // nil for a message without properties
	offset    record.Offset
	timestamp int64
	qos       byte
}

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
	s := &Store{opt: opt, wake: make(chan struct{}, 1)}
	t := opt.Log.Topics().ByName(TopicName)
	if t == nil {
		var err error
		if t, err = createTopic(ctx, opt.Log); err != nil {
			return nil, err
		}
	}
	s.partition = t.Partitions[0]
	opt.Metrics.GaugeFunc("firth_mqtt_retained_messages", "Topic names with a retained message.",
		func() float64 { return float64(s.count.Load()) })
	bounds, err := opt.Log.Bounds(s.partition)
	if err != nil {
		return nil, err
	}
	s.cursor = bounds.Start
	return s, s.fold(ctx)
}

func createTopic(ctx context.Context, log stream.Keeper) (*stream.Topic, error) {
	t, err := log.CreateTopic(ctx, stream.TopicSpec{Name: TopicName, Partitions: 1, Config: map[string]string{
		"cleanup.policy": "compact", "retention.ms": "-1",
	}})
	if fault.Is(err, fault.Exists) {
		if t = log.Topics().ByName(TopicName); t != nil {
			return t, nil
		}
	}
	return t, err
}

// Partition is where the door appends the records of retained messages.
func (s *Store) Partition() stream.PartitionID { return s.partition }

// Len is the number of topic names with a retained message.
func (s *Store) Len() int { return int(s.count.Load()) }

// Full tells whether there are so many names that a new one must be refused.
func (s *Store) Full(name []byte) bool {
	if s.Len() < s.opt.MaxTopics {
		return false
	}
	s.index.RLock()
	defer s.index.RUnlock()
	_, known := s.index.names.Get(name)
	return !known
}

// Advanced implements stream.Watcher.
func (s *Store) Advanced(stream.PartitionID, record.Offset) { s.rouse() }

func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // a token is there: it will look
	}
}

// Run follows the log and serves requests until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	watch := s.opt.Log.Watch(s, stream.Followed)
	defer watch.Stop()
	watch.Follow(s.partition)
	for ctx.Err() == nil {
		queue := s.take() // before the fold: what is acknowledged before a request is in its answer
		if err := s.fold(ctx); err != nil {
			s.opt.Logger.Error("cannot read the retained messages; trying again with the next one", "err", err)
		}
		s.serve(queue)
		if len(queue) == 0 {
			select {
			case <-s.wake:
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
	if !folded.Complete() {
		s.opt.Logger.Error("some retained messages could not be read and are left out",
			"lost", folded.Lost, "strange", folded.Strange, "err", folded.First)
	}
	if fault.Is(err, fault.Closed) || ctx.Err() != nil {
		return nil
	}
	return err
}

// apply sets or clears one name. It needs the lock of index.
func (s *Store) apply(table *hinge.Table, v *record.View) {
	if names.CheckName(v.Key) != nil {
		return // not written by the door
	}
	if len(v.Value) == 0 { // [MQTT-3.3.1-6]
		if s.index.names.Delete(v.Key) {
			s.count.Add(-1)
		}
		return
	}
	if !table.Message(table.CatchAll(), v, &s.message) {
		return
	}
	if s.index.names.Set(v.Key, newEntry(&s.message, v.Offset)) {
		s.count.Add(1)
	}
}

// newEntry copies a message out of its batch, which would else stay in memory with it.
func newEntry(m *hinge.Message, offset record.Offset) *entry {
	e := &entry{payload: clone(m.Payload), offset: offset, timestamp: m.Timestamp, qos: m.QoS}
	if m.HasExpiry || m.HasPayloadFormat || m.ContentType != nil || m.ResponseTopic != nil ||
		m.Correlation != nil || len(m.UserProperties) > 0 {
		e.rest = &rest{
			contentType: clone(m.ContentType), responseTopic: clone(m.ResponseTopic),
			correlation: clone(m.Correlation), user: clone(m.UserProperties),
			expiry: m.Expiry, hasExpiry: m.HasExpiry, hasFormat: m.HasPayloadFormat, format: m.PayloadFormat,
		}
	}
	return e
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

// fill makes m the message of an entry. m points into the entry and name.
func (e *entry) fill(name []byte, m *hinge.Message) {
	m.Topic, m.Payload, m.QoS, m.Retain, m.Timestamp = name, e.payload, e.qos, true, e.timestamp
	r := e.rest
	if r == nil {
		r = &rest{}
	}
	m.ContentType, m.ResponseTopic, m.Correlation, m.UserProperties = r.contentType, r.responseTopic, r.correlation, r.user
	m.Expiry, m.HasExpiry, m.PayloadFormat, m.HasPayloadFormat = r.expiry, r.hasExpiry, r.format, r.hasFormat
}

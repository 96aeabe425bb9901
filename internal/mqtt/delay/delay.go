// Package delay keeps messages that are to be published later: PUBLISH packets to $delayed/SECONDS/TOPIC. They lie in
// the log, in memory is only when each is due. When it is, it is published, and in the same unit it is taken out of the
// log: so it is published once, whatever crash comes in between.
//
//	s, err := delay.Open(ctx, delay.Options{Log: log, Publish: publish})
//	go s.Run(ctx)
//	p, ok := s.Partition()                    // not ok: s.Make(ctx)
//	s.Record(&r, &delay.Message{...}, due)    // to be appended to it
package delay

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the internal topic that holds the messages. It is made with the first one.
const TopicName = "__firth_delayed"

// Options of a store. Log and Publish are needed.
type Options struct {
	Log stream.Keeper
	// Publish appends a message, in one unit with other writes, and tells to. A message that may not be published any
	// more is left out. It may wait for room in the log. Errors: those of the log.
	Publish func(ctx context.Context, m *Message, with *stream.Unit, to stream.Receipt) error
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time
	// Metrics gets the counters. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Max is about how many messages may wait. Default 100,000.
	Max int
}

// Store is the messages that wait. Open makes it, Run publishes them.
type Store struct {
	opt       Options
	wakeup    chan struct{} // holds one token
	lines     *limit.Lines
	number    atomic.Uint64 // of the last key
	topic     atomic.Pointer[stream.Topic]
	making    sync.Mutex
	cursor    record.Offset // of Open, then of Run
	published telemetry.Counter
	lost      telemetry.Counter

	mu struct {
		sync.Mutex
		wheel wheel
	}
}

// Open reads the messages that wait. Errors: those of the log.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Max == 0 {
		opt.Max = 100_000
	}
	s := &Store{opt: opt, wakeup: make(chan struct{}, 1), lines: limit.NewLines(time.Minute, 16)}
	var first [8]byte
	rand.Read(first[:]) // never fails
	s.number.Store(binary.BigEndian.Uint64(first[:]))
	opt.Metrics.GaugeFunc("firth_mqtt_delayed_messages", "Messages that wait to be published ($delayed).",
		func() float64 { return float64(s.Len()) })
	s.published = opt.Metrics.Counter("firth_mqtt_delayed_published_total", "Messages published after their delay.").With()
	s.lost = opt.Metrics.Counter("firth_mqtt_delayed_lost_total", "Delayed messages that were damaged.").With()
	if t := opt.Log.Topics().ByName(TopicName); t != nil {
		s.topic.Store(t)
		return s, s.fold(ctx)
	}
	return s, nil
}

// Len is how many messages wait. One that is being published waits no more.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.wheel.waiting()
}

// Full tells whether another message must be refused. Those that are being published still take room.
func (s *Store) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.wheel.pending) >= s.opt.Max
}

// Partition is where records are appended; not ok: it is to be made.
func (s *Store) Partition() (p stream.PartitionID, ok bool) {
	t := s.topic.Load()
	if t == nil {
		return 0, false
	}
	return t.Partitions[0], true
}

// Make makes the topic. Errors: those of the log.
func (s *Store) Make(ctx context.Context) error {
	s.making.Lock()
	defer s.making.Unlock()
	t, err := stream.EnsureState(ctx, s.opt.Log, TopicName)
	if err != nil {
		return err
	}
	s.topic.Store(t)
	s.wake()
	return nil
}

// Record makes r the record of a message that is due at a time in milliseconds since 1970. It holds nothing of m.
func (s *Store) Record(r *record.Record, m *Message, due int64) {
	k := newKey(due, s.number.Add(1))
	*r = record.Record{Timestamp: s.opt.Clock().UnixMilli(), Key: k[:], Value: m.appendTo(nil)}
}

// Advanced implements stream.Watcher.
func (s *Store) Advanced(stream.PartitionID, record.Offset) { s.wake() }

func (s *Store) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}

// maxSleep bounds how long the clock is not looked at: it may be set.
const maxSleep = 30 * time.Second

// retryAfter is after how long something is tried again that the log did not take or give.
const retryAfter = time.Second

// Run publishes what is due until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	watch := s.opt.Log.Watch(s, stream.Followed)
	defer watch.Stop()
	timer := time.NewTimer(maxSleep)
	defer timer.Stop()
	followed := false
	for ctx.Err() == nil {
		sleep := maxSleep
		if p, ok := s.Partition(); ok {
			if !followed {
				watch.Follow(p)
				followed = true
			}
			sleep = s.turn(ctx)
		}
		timer.Reset(sleep)
		select {
		case <-s.wakeup:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// turn reads what is new and publishes what is due, and says how long there is nothing to do.
func (s *Store) turn(ctx context.Context) (sleep time.Duration) {
	if err := s.fold(ctx); err != nil {
		s.complain("fold", "cannot read the delayed messages, trying again", "error", err)
		return retryAfter
	}
	for ctx.Err() == nil {
		now := s.opt.Clock().UnixMilli()
		e, due, at, waits := s.next(now)
		switch {
		case due:
			if err := s.publish(ctx, e); err != nil {
				s.failed(e, err)
				return retryAfter
			}
		case waits:
			return min(time.Duration(at-now)*time.Millisecond, maxSleep)
		default:
			return maxSleep
		}
	}
	return 0
}

func (s *Store) next(now int64) (e entry, due bool, at int64, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.wheel.next(now)
}

// failed has a message that could not be published tried again.
func (s *Store) failed(e entry, err error) {
	if !fault.Is(err, fault.Closed) && !fault.Is(err, fault.Timeout) {
		s.complain("publish", "a delayed message could not be published, trying again", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.wheel.again(e, s.opt.Clock().UnixMilli()+retryAfter.Milliseconds())
}

// fold applies what is new. What is damaged is left out.
func (s *Store) fold(ctx context.Context) error {
	p, _ := s.Partition()
	bounds, err := s.opt.Log.Bounds(p)
	if err != nil {
		return err
	}
	folded, err := stream.Fold(ctx, s.opt.Log, p, max(s.cursor, bounds.Start), s.apply)
	s.cursor = folded.Next
	if !folded.Complete() {
		s.lost.Add(float64(folded.Lost + folded.Strange))
		s.complain("damage", "some delayed messages could not be read and are left out",
			"lost", folded.Lost, "strange", folded.Strange, "error", folded.First)
	}
	if ended := fault.Is(err, fault.Closed) || ctx.Err() != nil; !ended {
		return err
	}
	return nil
}

func (s *Store) apply(v *record.View) error {
	if len(v.Key) != len(Key{}) {
		return fault.New(fault.Corrupt, "delay", "a key of %d bytes", len(v.Key))
	}
	k := Key(v.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Value == nil {
		s.mu.wheel.remove(k)
	} else {
		s.mu.wheel.add(k, v.Offset)
	}
	return nil
}

// publish publishes a message and takes it out of the log, in one unit. One that cannot be read ever is taken out only.
func (s *Store) publish(ctx context.Context, e entry) error {
	p, _ := s.Partition()
	value, err := s.read(p, e.offset)
	var m Message
	if err == nil {
		m, err = parse(value)
	}
	gone := record.Record{Timestamp: s.opt.Clock().UnixMilli(), Key: e.key[:]}
	unit := stream.Unit{Writes: []stream.Write{{Partition: p, Record: &gone}}}
	to := &fate{store: s, entry: e}
	switch {
	case err == nil:
		return s.opt.Publish(ctx, &m, &unit, to)
	case !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.OutOfRange):
		return err
	}
	s.lost.Inc()
	s.complain("lost", "a delayed message cannot be read: it is not published", "offset", e.offset, "error", err)
	to.lost = true
	return stream.AppendWait(ctx, s.opt.Log, &unit, to, 0)
}

// read reads the value of a record.
func (s *Store) read(p stream.PartitionID, at record.Offset) (value []byte, err error) {
	_, err = s.opt.Log.Scan(p, at, stream.ScanOptions{End: at + 1, MaxBytes: 1}, func(v *record.View) bool {
		value = bytes.Clone(v.Value)
		return true
	})
	return value, err
}

// fate is the receipt of a message that was published.
type fate struct {
	store *Store
	entry entry
	lost  bool
}

// Appended implements stream.Receipt. A message that was not stored is tried again.
func (f *fate) Appended(_ uint64, _ stream.Placed, err error) {
	s := f.store
	switch {
	case err != nil:
		s.failed(f.entry, err)
		s.wake()
	case !f.lost:
		s.published.Inc()
	}
}

// complain logs a line, unless one about the same was just logged.
func (s *Store) complain(about, line string, args ...any) {
	if held, ok := s.lines.Pass(about); ok {
		s.opt.Logger.Error(line, append(args, "more", held)...)
	}
}

// Package roster owns the seats of all sessions, present or not. A seat outlives the connection that has it: whoever
// connects with its client identifier takes it over, and whoever had it before is fenced by the seat's epoch. Nobody
// waits for anybody.
//
//	got, err := seats.Take(opening, holder, &term)
//	got.Before.Displaced()                    // if there was one
//	err = term.Store(ctx)                     // before the CONNACK
//	err = term.Append(log, unit, n)           // holder.Settled follows
//	left := term.Leave()                      // nil: another has the seat
//
// Sessions that last lie in __firth_sessions and are a fold of it at the start; Run makes checkpoints of those that
// change, ends those that expire and publishes the wills that are due (docs/design/0007). The seat is the receipt of
// what its session appends: the log tells the seat, and the seat tells the connection that has it, if that is still the
// one that appended.
package roster

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/alarm"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

// TopicName is the internal topic of which the roster is a fold.
const TopicName = "__firth_sessions"

// Options of a roster. Log and Limits are needed.
type Options struct {
	Log    stream.Keeper
	Limits *session.Limits
	// PublishWill appends the will of a session, in one unit with other writes, which take it out of the log; to, if there
	// are any, is told.
	PublishWill func(
		ctx context.Context, state *session.State, w *session.Will, with *stream.Unit, to stream.Receipt) error
	// Reached calls visit with how far live delivery has come in each partition in which it moved since an earlier call,
	// which gave since: what is below was offered to all.
	Reached func(since uint64, visit func(p stream.PartitionID, at record.Offset)) (now uint64)
	// Beside makes who keeps records of its own beside the sessions, each time that the first shard comes. Default: nobody
	// does.
	Beside func(Marks) Beside
	// Sharing hears of the sessions in shards. Default: nobody does. Sharded only.
	Sharing Sharing
	// Sharded has the roster begin without a shard: Gain and Lose say which are this node's. Default: all are.
	Sharded bool
	// Shards is how many there are, of all nodes together, where nobody has made the topic yet. Default 1.
	Shards int
	// Moved is told when a shard that was gained serves and, with the reason if it was not Lose, when it is gone again.
	// It comes from a goroutine of the shard. Default: nobody is.
	Moved func(shard int, serves bool, err error)
	// Grace is how long the will of a session waits for its client, which was connected elsewhere when its shard came
	// here: that it has to connect again is no reason to tell others that it is gone. Default 30 s; Sharded only.
	Grace time.Duration
	// Expired is told of each session that ends because nobody came back. Default: nobody is.
	Expired func(clientID string)
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time
	// Metrics gets the gauges. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// MaxSessions is the most sessions that last. Default 1,000,000.
	MaxSessions int
	// MaxBytes is about how much memory sessions without a connection may take, with their filters and the wills that
	// are not due yet. Default 256 MiB.
	MaxBytes int64
	// Interval is how long after a change a checkpoint follows. Default 1 s.
	Interval time.Duration
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Expired == nil {
		o.Expired = func(string) {}
	}
	if o.Reached == nil {
		o.Reached = func(uint64, func(stream.PartitionID, record.Offset)) uint64 { return 0 }
	}
	if o.Moved == nil {
		o.Moved = func(int, bool, error) {}
	}
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 1_000_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	return o
}

// Roster is the seats by client identifier. Open makes it, Run keeps it.
type Roster struct {
	opt     Options
	slots   []*slot // of the shards
	alarms  *alarm.Alarms[*Seat]
	changed chan struct{} // holds one token: there is something for a checkpoint
	saves   chan struct{} // holds one token: there is something to save
	lines   *limit.Lines
	metrics metrics

	sessions atomic.Int64
	present  atomic.Int64 // seats with a connection
	most     atomic.Int64 // what present was at its highest; written under mu
	lasting  atomic.Int64 // sessions that last
	bytes    atomic.Int64 // of sessions without a connection

	mu struct { // over what is served in slots, and the seats of each shard
		sync.Mutex
	}
	moving moving
}

type metrics struct {
	expired     telemetry.Counter
	wills       telemetry.Counter
	checkpoints telemetry.Counter
}

// Open makes __firth_sessions if it is not there, and reads it. Errors: those of the log.
func Open(ctx context.Context, opt Options) (*Roster, error) {
	r := &Roster{opt: opt.withDefaults(), alarms: alarm.New[*Seat](),
		changed: make(chan struct{}, 1), saves: make(chan struct{}, 1),
		lines: limit.NewLines(time.Minute, 16)}
	r.moving.ctx, r.moving.end = context.WithCancel(context.WithoutCancel(ctx))
	r.measure()
	topic, err := stream.EnsureShards(ctx, r.opt.Log, TopicName, r.opt.Shards)
	if err != nil {
		return nil, err
	}
	for number, p := range topic.Partitions {
		r.slots = append(r.slots, &slot{number: number, partition: p})
	}
	if r.opt.Sharded {
		return r, nil
	}
	for _, at := range r.slots {
		if err := r.tend(ctx, at, at.on(tenure.Given)); err != nil {
			return nil, err
		}
	}
	if beside := r.beside(); beside != nil {
		beside.Serve()
	}
	return r, nil
}

func (r *Roster) measure() {
	set := r.opt.Metrics
	const name, help = "firth_mqtt_sessions", "Sessions now, by state."
	set.GaugeFunc(name, help, func() float64 { return float64(r.Present()) }, "state", "connected")
	set.GaugeFunc(name, help, func() float64 { return float64(r.Len() - r.Present()) }, "state", "away")
	set.GaugeFunc("firth_mqtt_session_bytes", "Memory that sessions without a connection take, about.",
		func() float64 { return float64(r.bytes.Load()) })
	r.metrics = metrics{
		expired: set.Counter("firth_mqtt_sessions_expired_total", "Sessions that ended because nobody came back.").With(),
		wills:   set.Counter("firth_mqtt_wills_total", "Wills that were published.").With(),
		checkpoints: set.Counter("firth_mqtt_session_checkpoints_total",
			"Times that the places of sessions were stored.").With(),
	}
}

// Shards is the number of shards, of all nodes together.
func (r *Roster) Shards() int { return len(r.slots) }

// ShardOf is the shard of a client identifier.
func (r *Roster) ShardOf(id string) int {
	if len(r.slots) == 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(id)) // never fails
	return int(h.Sum32() % uint32(len(r.slots)))
}

// Serves tells whether the session of a client would be here.
func (r *Roster) Serves(id string) bool { return r.shardOf(id) != nil }

// Has tells whether the sessions of a shard are here, or those of any shard where it is below 0.
func (r *Roster) Has(shard int) bool {
	if shard >= 0 {
		return r.slots[shard].serving.Load() != nil
	}
	return slices.ContainsFunc(r.slots, func(at *slot) bool { return at.serving.Load() != nil })
}

// shardOf is the shard of a client identifier; nil: it is not this node's.
func (r *Roster) shardOf(id string) *shard { return r.slots[r.ShardOf(id)].serving.Load() }

// Len is the number of sessions.
func (r *Roster) Len() int { return int(r.sessions.Load()) }

// Present is the number of sessions with a connection.
func (r *Roster) Present() int { return int(r.present.Load()) }

// Most is the highest number that Present ever gave.
func (r *Roster) Most() int { return int(r.most.Load()) }

// Expired is how many sessions have ended because nobody came back.
func (r *Roster) Expired() int { return int(telemetry.Value(r.metrics.expired)) }

// Taken is what Take found. Settle has to follow, and then Term.Store before the client is told.
type Taken struct {
	// State is the session. It is locked by Term.Lock.
	State *session.State
	// Present tells that the session was there before [MQTT-3.2.2-2].
	Present bool
	// Before is the connection that had the seat, which is to be displaced; nil: none.
	Before Holder

	seat *Seat
	// was is the session before, and will its will, if that is to be published because the session has ended or because
	// it is due.
	was  *session.State
	will *session.Will
}

// Settle publishes the will of the session before, if it is due by the takeover. It may wait for room in the log.
// Errors: those of the log.
func (t *Taken) Settle(ctx context.Context) error {
	var err error
	if t.will != nil {
		err = t.seat.publishWill(ctx, t.was, t.will, true)
	}
	if t.was != nil && !t.Present && shares(t.was) {
		err = errors.Join(err, t.seat.bury(ctx, t.was))
	}
	return err
}

// Take gives the seat of a client to a holder, and sets its term before anybody can know of it. From here on whoever
// had the seat before appends nothing and is told nothing more. Errors: Denied, the session is another user's; Limited,
// when another session that lasts does not fit, or a larger will in one; ErrElsewhere; then nothing has changed.
func (r *Roster) Take(o *session.Opening, h Holder, t *Term) (got Taken, err error) {
	now := r.opt.Clock().UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shardOf(o.ClientID)
	if s == nil {
		return Taken{}, ErrElsewhere
	}
	seat := s.seats[o.ClientID] // [MQTT-3.1.3-2]
	if seat == nil {
		seat = &Seat{roster: r, shard: s, id: o.ClientID}
	}
	seat.mu.Lock()
	defer seat.mu.Unlock()
	if seat.isOthers(o, now) {
		return Taken{}, fault.New(fault.Denied, "mqtt.Connect", "the session is another user's")
	}
	if o.Expiry > 0 && !seat.fits(o) {
		return Taken{}, fault.New(fault.Limited, "mqtt.Connect", "%d sessions of %d bytes are kept",
			r.lasting.Load(), r.bytes.Load())
	}
	s.seats[o.ClientID] = seat
	got = seat.take(o, h, now)
	r.most.Store(max(r.most.Load(), r.present.Load()))
	*t = Term{seat: seat, epoch: seat.mu.epoch}
	r.alarms.Cancel(seat)
	return got, nil
}

// Package replica holds state that several nodes follow and edit: a topic of stream.EnsureState, of which each of them
// has a replica.
//
// Each node follows the topic, and has what is new in force moments after it is stored. Who edits it takes the topic
// over first (stream.Log.Own), reads to its end, decides by what is there, and appends as its owner. So what was
// decided by a state that another node has changed meanwhile is refused as Fenced, and decided anew: of two edits that
// may not both be, all nodes have the same one, and both callers are told which. An edit returns when the replica here
// has it.
//
//	r, err := replica.Open(ctx, replica.Options{Log: log, Topic: "__firth_access", Take: take})
//	err = r.Edit(ctx, func() ([]record.Record, error) { ... }) // by what was taken
//	err = r.Run(ctx)                                             // follows
//
// How long the end has not been seen, Unsure tells: who decides who may come in asks.
package replica

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Patience is for how long the end of a topic may not be seen before Unsure says so: a broker that fails is replaced by
// then.
const Patience = 30 * time.Second

const (
	// lookEvery is how often the end is looked at without news.
	lookEvery = time.Second
	// staleAfter is after what time all is read anew: the cluster forgets what was removed, at the earliest a day later
	// unless it is told otherwise.
	staleAfter = time.Hour
	// ownedFor is for how long an edit does without taking over what this node had last.
	ownedFor = time.Minute
	// editPatience is for how long an edit is decided again and again.
	editPatience = 20 * time.Second
)

// Take takes in what is new and puts it in force: what one edit has stored comes at once. Feed gives the records to
// apply, in their order; a value of nil, what was there goes. An error of apply says that a record is not understood.
// Anew, nothing that was taken before counts.
type Take = func(anew bool, feed func(apply func(key string, value []byte) error))

// StoreAlone is an edit of a topic that no other node edits: it stores records, in one unit, and has them taken.
// Errors: those of the log, and nothing is taken.
func StoreAlone(
	ctx context.Context, log stream.Keeper, topic string, records []record.Record, take Take,
) error {
	if err := stream.StoreState(ctx, log, topic, records); err != nil {
		return err
	}
	take(false, func(apply func(key string, value []byte) error) {
		for i := range records {
			_ = apply(string(records[i].Key), records[i].Value) // they are this node's own
		}
	})
	return nil
}

// Options of a replica. Log, Topic and Take are needed.
type Options struct {
	Log   stream.Keeper
	Topic string
	// Take is called from one goroutine at a time: one of Open, Run and Edit.
	Take Take
	// AcceptDamage goes on with what can be read: otherwise Unsure tells.
	AcceptDamage bool
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Passed is the time that has passed, since whenever. Default: clock.Passed.
	Passed func() time.Duration
}

// Replica is one topic as a node has it. It may be used from any goroutine.
type Replica struct {
	opt       Options
	partition stream.PartitionID
	wakeup    chan struct{} // holds one token
	seen      atomic.Int64  // when the end was, as Passed tells
	damage    atomic.Pointer[fault.Error]

	editing sync.Mutex // held over an edit, the log included: one at a time
	owner   stream.Owner
	owned   time.Duration // when it was taken over; 0: it is not this node's, as far as is known

	reading sync.Mutex // held over a read of the log to its end: one at a time; inside of editing
	cursor  record.Offset
	new     []entry
}

// entry is a record that was read.
type entry struct {
	key   string
	value []byte
}

// Open makes the topic if it is not there, and takes in what it holds. Folded says what could not be. Errors: those of
// the log.
func Open(ctx context.Context, opt Options) (*Replica, stream.Folded, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Passed == nil {
		opt.Passed = clock.Passed
	}
	t, err := stream.EnsureState(ctx, opt.Log, opt.Topic)
	if err != nil {
		return nil, stream.Folded{}, err
	}
	r := &Replica{opt: opt, partition: t.Partitions[0], wakeup: make(chan struct{}, 1)}
	folded, err := r.readAll(ctx)
	return r, folded, err
}

// Unsure tells why what is in force here may not be what the others have: the end of the topic was not seen for longer
// than Patience, or some of it could not be read. nil: it is.
func (r *Replica) Unsure() error {
	if damage := r.damage.Load(); damage != nil {
		return damage
	}
	if since := r.opt.Passed() - time.Duration(r.seen.Load()); since > Patience {
		return fault.New(fault.Unavailable, "log", "%s could not be read for %s: others may have changed it",
			r.opt.Topic, since.Round(time.Second))
	}
	return nil
}

// Advanced implements stream.Watcher.
func (r *Replica) Advanced(stream.PartitionID, record.Offset) {
	select {
	case r.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}

// Run follows the topic until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	watch := r.opt.Log.Watch(r, stream.Followed)
	defer watch.Stop()
	watch.Follow(r.partition)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for failed := false; ctx.Err() == nil; {
		err := r.read(ctx)
		switch {
		case err == nil && failed:
			r.opt.Logger.Info("what other nodes have changed is known again", "topic", r.opt.Topic)
		case err != nil && !failed && ctx.Err() == nil:
			r.opt.Logger.Warn("what other nodes change is not known now: trying on", "topic", r.opt.Topic, "error", err)
		}
		failed = err != nil
		select {
		case <-r.wakeup:
		case <-look.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// read takes in what is new up to the end. Errors: those of the log.
func (r *Replica) read(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	began := r.opt.Passed()
	if began-time.Duration(r.seen.Load()) > staleAfter {
		_, err := r.readAllLocked(ctx)
		return err
	}
	// Of what is followed Bounds are what was heard last: a Scan asks.
	_, err := r.opt.Log.Scan(r.partition, r.cursor, stream.ScanOptions{MaxBytes: 1},
		func(*record.View) bool { return false })
	if fault.Is(err, fault.OutOfRange) { // its end was lost, or what was removed is gone
		_, err = r.readAllLocked(ctx)
		return err
	}
	if err != nil && !fault.Is(err, fault.Corrupt) {
		return err
	}
	_, err = r.fold(ctx, false, began)
	return err
}

func (r *Replica) readAll(ctx context.Context) (stream.Folded, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	return r.readAllLocked(ctx)
}

// readAllLocked takes in all there is, in place of what was taken.
func (r *Replica) readAllLocked(ctx context.Context) (stream.Folded, error) {
	began := r.opt.Passed()
	bounds, err := r.opt.Log.Bounds(r.partition)
	if err != nil {
		return stream.Folded{}, err
	}
	r.cursor = bounds.Start
	return r.fold(ctx, true, began)
}

// fold takes in what there is from the cursor on: all of it or nothing. It needs the lock of reading.
func (r *Replica) fold(ctx context.Context, anew bool, began time.Duration) (stream.Folded, error) {
	r.new = r.new[:0]
	folded, err := stream.Fold(ctx, r.opt.Log, r.partition, r.cursor, func(v *record.View) error {
		r.new = append(r.new, entry{string(v.Key), bytes.Clone(v.Value)})
		return nil
	})
	defer func() { r.new = nil }()
	if err != nil {
		return folded, err
	}
	if anew || len(r.new) > 0 {
		r.opt.Take(anew, func(apply func(string, []byte) error) { r.feed(&folded, apply) })
	}
	r.cursor = folded.Next
	r.judge(anew, &folded)
	r.seen.Store(int64(began))
	return folded, nil
}

// feed applies what was read. What is not understood is counted and passed over.
func (r *Replica) feed(folded *stream.Folded, apply func(string, []byte) error) {
	for i := range r.new {
		if err := one(apply, &r.new[i]); err != nil {
			folded.Strange++
			if folded.First == nil {
				folded.First = err
			}
		}
	}
}

// one turns a panic into an error: a poisonous record must not end every node.
func one(apply func(string, []byte) error, e *entry) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.Internal, "log.replica", "applying a record: %v", r)
		}
	}()
	return apply(e.key, e.value)
}

// judge keeps what could not be taken in.
func (r *Replica) judge(anew bool, folded *stream.Folded) {
	if anew {
		r.damage.Store(nil)
	}
	if folded.Complete() {
		return
	}
	damage := folded.Damage("log", r.opt.Topic)
	if !r.opt.AcceptDamage {
		r.damage.Store(damage)
	}
	r.opt.Logger.Error("what another node may have changed cannot be read, or is not understood",
		"topic", r.opt.Topic, "error", damage)
}

// Edit appends what decide gives by what is in force, as one unit, and returns when that is in force here. Nobody edits
// the topic between the two, on whatever node: decide is called again when somebody has. Without records nothing is
// done. Errors: those of decide; Unavailable while others are always first; those of the log, and then, as of
// stream.StoreState, it may come to be in force all the same.
func (r *Replica) Edit(ctx context.Context, decide func() ([]record.Record, error)) error {
	r.editing.Lock()
	defer r.editing.Unlock()
	began := r.opt.Passed()
	for try := 0; ; try++ {
		second, err := r.edit(ctx, decide)
		if !second {
			return err
		}
		if r.opt.Passed()-began > editPatience {
			return fault.New(fault.Unavailable, "log", "other nodes change %s all the time: %w", r.opt.Topic, err).
				WithHint("try again")
		}
		// As long as chance has it, so that two do not take it from each other for ever.
		if err := clock.Pause(ctx, rand.N(longest(try))); err != nil {
			return fault.Wrap(fault.Timeout, "log", err)
		}
	}
}

// longest is the most that is waited before a try: from 10 ms, twice as long each time, to 640 ms.
func longest(try int) time.Duration {
	const first, doubles = 10 * time.Millisecond, 6
	return first << min(try, doubles)
}

// edit tries once. Second: another node was first, and nothing is stored.
func (r *Replica) edit(ctx context.Context, decide func() ([]record.Record, error)) (second bool, err error) {
	if now := r.opt.Passed(); r.owned == 0 || now-r.owned > ownedFor {
		r.owned = 0
		if r.owner, err = r.opt.Log.Own(ctx, r.partition); err != nil {
			return fault.Is(err, fault.Fenced), err
		}
		r.owned = max(now, 1)
	}
	if err := r.read(ctx); err != nil {
		return false, err
	}
	records, err := decide()
	if err != nil || len(records) == 0 {
		return false, err
	}
	unit := stream.Unit{Owner: r.owner}
	for i := range records {
		unit.Writes = append(unit.Writes, stream.Write{Partition: r.partition, Record: &records[i]})
	}
	if err := stream.StoreUnit(ctx, r.opt.Log, &unit); err != nil {
		r.owned = 0 // the next owner ends what may be under way
		return fault.Is(err, fault.Fenced), err
	}
	if err := r.read(ctx); err != nil {
		return false, fault.New(fault.KindOf(err), "log", "it is stored, and not in force here yet: %w", err)
	}
	return false, nil
}

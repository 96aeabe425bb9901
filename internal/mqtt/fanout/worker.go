package fanout

import (
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// worker reads the tail of some of the partitions and offers what is new to all that subscribed to it.
//
// Invariants:
//
//  1. A partition belongs to one worker; its goroutine alone moves part.cursor and changes part.behind.
//  2. cursor <= claimed <= stable. Records below cursor are dealt with; those of [cursor, claimed) are in hand: the
//     worker deals with them in this turn or the next. Between two turns cursor equals claimed.
//  3. A member with a cursor of its own in a partition (part.behind) gets every record below Cursor.live by that, and
//     every record from there on by the worker: nothing twice, nothing not at all [MQTT-4.5.0-1], and in order
//     [MQTT-4.6.0-5] [MQTT-4.6.0-6], since live is set once the cursor is there, under worker.mu, and is never below
//     claimed.
//  4. A subscription gets a record if, and only if, its epoch is not newer than the one in which the record became
//     news. The epoch is raised after the partitions it needs are followed.
//  5. The worker claims first and asks who listens after that: whoever subscribes in between gets what becomes news
//     later, which is behind the claim.
//  6. A member that came back gets nothing from a worker before that has joined it, which it does between two turns:
//     where it stands below part.cursor it falls behind, and where a record for it was passed over.
//  7. A read that fails moves the cursor over what is lost and nothing else.
type worker struct {
	f      *Fanout
	index  int
	wakeup chan struct{} // holds one token

	mu struct {
		sync.Mutex
		parts    map[stream.PartitionID]*part
		dirty    []*part   // with something to do
		returned []*Cursor // that were handed over
		joins    []*join   // of members that came back
		newest   *part     // the head of the list of parts, the one whose cursor moved last
		changed  bool      // what is owed may be there now, or not be needed any more
	}

	// What follows belongs to the worker's goroutine.
	now     time.Time // of the turn
	turning turning
	epochs  epochs                              // of the records in hand
	waiting []*Cursor                           // handed over at a place that the worker has not reached
	joins   []*join                             // in hand
	owed    []*join                             // that lack partitions which are not followed yet
	missed  map[*Member]map[*part]record.Offset // of members that are apart: the first record that was passed over
	touched []*Member                           // to flush
	hits    hits
	batch   batch
	mapped  hinge.Message
	msg     Message
	known   known

	deliver func(*record.View) bool // w.guarded
	visit   func(*subscription)     // w.found
}

// turning is what a turn is about.
type turning struct {
	part  *part
	topic string // of the log
	table *hinge.Table
}

// part is a partition that the fanout follows.
type part struct {
	id stream.PartitionID

	// Guarded by worker.mu.
	stable  record.Offset // as far as it was heard of
	claimed record.Offset
	epochs  epochs
	first   record.Offset // where it began to be followed
	started bool          // cursor, stable, claimed and first are set
	dirty   bool          // it is in worker.mu.dirty
	moved   uint64        // Fanout.moves when cursor moved last; 0: it is not in the list
	newer   *part         // in the list
	older   *part
	// dealings are those who wait until the worker has dealt with what they heard of.
	dealings []dealing

	// Belongs to the worker's goroutine.
	cursor  record.Offset // the next record to deliver; set under worker.mu too
	behind  map[*Member]*Cursor
	pause   time.Duration // after the last read, which failed
	opinion opinion
}

// opinion is whether anybody may want the records of a partition, as it was when it was formed.
type opinion struct {
	table   *hinge.Table
	version uint64 // of the listening
	yes     bool
	since   time.Time // of a no
}

func newWorker(f *Fanout, index int) *worker {
	w := &worker{f: f, index: index, wakeup: make(chan struct{}, 1)}
	w.mu.parts = make(map[stream.PartitionID]*part)
	w.batch.index = index
	w.deliver, w.visit = w.guarded, w.found
	return w
}

// prepare makes a partition, so that no news of it is missed, and tells whether it is new.
func (w *worker) prepare(id stream.PartitionID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.parts[id] != nil {
		return false
	}
	w.mu.parts[id] = &part{id: id, stable: -1}
	return true
}

// start begins to deliver a partition: at from, if that is not negative, or else at its end.
func (w *worker) start(id stream.PartitionID, from, stable record.Offset) {
	w.mu.Lock()
	p := w.mu.parts[id]
	stable = max(stable, p.stable)
	if from < 0 {
		from = stable
	}
	p.cursor, p.claimed, p.first, p.stable, p.started = from, from, from, stable, true
	if from < stable {
		p.epochs = p.epochs.add(from, w.f.epoch.Load())
		w.enqueue(p)
	}
	w.moved(p)
	w.mu.changed = true
	w.mu.Unlock()
	w.wake()
}

// forget drops a partition whose records nobody gets any more.
func (w *worker) forget(id stream.PartitionID) {
	w.mu.Lock()
	if p := w.mu.parts[id]; p != nil {
		w.unlink(p)
		delete(w.mu.parts, id)
		p.tellDealings(never)
	}
	w.mu.Unlock()
	w.look()
}

// look has the worker look at what is owed.
func (w *worker) look() {
	w.mu.Lock()
	w.mu.changed = true
	w.mu.Unlock()
	w.wake()
}

// advanced takes the news of a partition.
func (w *worker) advanced(id stream.PartitionID, stable record.Offset) {
	w.mu.Lock()
	p := w.mu.parts[id]
	if p == nil || stable <= p.stable {
		w.mu.Unlock()
		return
	}
	before := p.stable
	p.stable = stable
	if !p.started {
		w.mu.Unlock()
		return
	}
	p.epochs = p.epochs.add(before, w.f.epoch.Load())
	fresh := w.enqueue(p)
	w.mu.Unlock()
	if fresh {
		w.wake()
	}
}

// enqueue puts a partition behind the others that have something to do. It needs the lock.
func (w *worker) enqueue(p *part) (fresh bool) {
	if fresh = !p.dirty; fresh {
		p.dirty = true
		w.mu.dirty = append(w.mu.dirty, p)
	}
	return fresh
}

func (w *worker) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}

// run works until ctx ends: a turn for every partition with something to do, then it looks anew.
func (w *worker) run(ctx context.Context) {
	var dirty []*part
	var returned []*Cursor
	for ctx.Err() == nil {
		w.mu.Lock()
		dirty, w.mu.dirty = w.mu.dirty, dirty[:0]
		returned, w.mu.returned = w.mu.returned, returned[:0]
		w.joins = append(w.joins, w.mu.joins...)
		clear(w.mu.joins)
		w.mu.joins = w.mu.joins[:0]
		changed := w.mu.changed
		w.mu.changed = false
		w.mu.Unlock()
		w.reclaim(returned)
		clear(returned)
		if changed {
			w.settleOwed()
		}
		w.joinSome()
		if len(dirty) == 0 {
			if len(w.joins) > 0 {
				continue
			}
			select {
			case <-w.wakeup:
			case <-ctx.Done():
			}
			continue
		}
		w.now = w.f.opt.Clock()
		w.known.begin(w.known.table, w.f.version.Load())
		for _, p := range dirty {
			w.turn(p)
		}
		w.flush()
		clear(dirty)
	}
}

const (
	// flushEvery bounds how many members gather before their messages go out.
	flushEvery = 512
	// flushBytes is a payload that goes out at once: what comes behind it should find room.
	flushBytes = 64 << 10
)

func (w *worker) flushLater(m *Member) {
	if st := &m.at[w.index]; !st.touched {
		st.touched = true
		w.touched = append(w.touched, m)
	}
}

func (w *worker) flush() {
	if len(w.touched) > 0 {
		w.f.enliven(w.now)
	}
	for i, m := range w.touched {
		m.at[w.index].touched = false
		m.sink.Flush()
		w.touched[i] = nil
	}
	w.touched = w.touched[:0]
}

// turn delivers what is new in a partition, about TurnBytes of it, or moves past it if nobody can want it.
func (w *worker) turn(p *part) {
	end, followed := w.claim(p)
	if !followed {
		return
	}
	place := w.f.opt.Log.Topics().Place(p.id)
	if place.Topic == nil {
		w.dealtWith(p, end)
		return
	}
	w.msg.In(place.Topic.Name, place.Index)
	w.turning = turning{part: p, topic: place.Topic.Name, table: w.f.opt.Mapping()}
	if !w.wanted(p) {
		w.dealtWith(p, end)
		w.f.listening.leave(w, p)
		return
	}
	next, err := p.cursor, error(nil)
	if next < end {
		next, err = w.f.opt.Log.Scan(p.id, next, stream.ScanOptions{End: end, MaxBytes: w.f.opt.TurnBytes}, w.deliver)
		w.offerBatch()
	}
	failed := false
	if err != nil {
		next, failed = w.f.AfterError(p.id, next, end, err)
	}
	w.dealtWith(p, next)
	switch {
	case failed:
		w.tryLater(p)
	case next < end:
		p.pause = 0
		w.mu.Lock()
		w.enqueue(p)
		w.mu.Unlock()
	default:
		p.pause = 0
	}
	if len(w.touched) > flushEvery {
		w.flush()
	}
}

// claim takes all that is new into hand. It is false for a partition that is not followed any more.
func (w *worker) claim(p *part) (end record.Offset, followed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.parts[p.id] != p {
		return 0, false
	}
	p.dirty = false
	p.claimed = p.stable
	w.epochs = p.epochs.from(p.cursor, w.epochs[:0])
	return p.claimed, true
}

// dealtWith moves the cursor. What was claimed behind it is given back.
func (w *worker) dealtWith(p *part, next record.Offset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.claimed = next; p.cursor != next {
		p.cursor = next
		w.moved(p)
		p.tellDealings(next)
	}
	if p.behind == nil {
		p.epochs = p.epochs.forget(next)
	}
}

// tryLater has a partition that could not be read wait: the others go on meanwhile.
func (w *worker) tryLater(p *part) {
	p.pause = NextPause(p.pause)
	time.AfterFunc(p.pause, func() {
		w.mu.Lock()
		w.enqueue(p)
		w.mu.Unlock()
		w.wake()
	})
}

// wanted tells whether any subscription may match records of the partition.
func (w *worker) wanted(p *part) bool {
	o, t := &p.opinion, &w.turning
	if version := w.f.listening.version.Load(); o.table != t.table || o.version != version {
		o.table, o.version, o.yes = t.table, version, w.f.listening.to(t.table, t.topic)
		if !o.yes {
			o.since = w.now
		}
	}
	return o.yes
}

// guarded delivers a record. A fault of ours over one record costs that record only.
func (w *worker) guarded(v *record.View) (more bool) {
	more = true
	defer func() {
		if r := recover(); r != nil {
			w.f.poisoned(w.turning.part.id, v.Offset, r)
		}
	}()
	w.live(v)
	return more
}

// live takes one record in hand for all that subscribed to it.
func (w *worker) live(v *record.View) {
	p := w.turning.part
	e, learn, ok := w.message(v)
	if !ok {
		return
	}
	w.hits.begin(&w.mapped, v.Offset, w.epochs.at(v.Offset))
	switch m := &w.msg; {
	case e != nil:
		w.among(e.subs)
	case learn:
		w.among(w.known.learn(w.f, p.id, v.Key, m.Topic()))
	default:
		w.f.match(m.Topic(), w.visit)
	}
	if w.hits.used == 0 {
		return
	}
	if w.f.opt.Keys {
		w.msg.setKey(v.Key)
	}
	w.batch.begin()
	for i := range w.hits.used {
		h := &w.hits.list[i]
		if w.batch.crowded(h) {
			w.offerBatch()
			w.batch.begin()
		}
		w.batch.add(&w.msg, h, p.id, v.Offset)
	}
	if w.batch.full() {
		w.offerBatch()
	}
	if len(w.msg.pub.Payload) >= flushBytes {
		w.flush()
	}
}

// message makes the message of a record: e is what is known of its key, if that tells its name; otherwise learn
// tells whether it should be known the next time. ok is false for a record that is none, or has expired.
func (w *worker) message(v *record.View) (e *knownName, learn, ok bool) {
	t, mapped := &w.turning, &w.mapped
	w.known.begin(t.table, w.f.version.Load())
	e, learn = w.known.find(t.part.id, v.Key)
	if e != nil && t.table.Known(t.topic, e.name, v, mapped) {
		return e, false, w.msg.Set(mapped, w.f.judge(mapped, w.now))
	}
	ok = t.table.Message(t.topic, v, mapped) && w.msg.Set(mapped, w.f.judge(mapped, w.now))
	return nil, learn && mapped.ToldByKey(), ok
}

func (w *worker) among(subs []*subscription) {
	for _, sub := range subs {
		w.found(sub)
	}
}

// found takes a subscription that matches the record [MQTT-3.3.2-3].
func (w *worker) found(sub *subscription) {
	if sub.epoch > w.hits.epoch {
		return // made after the record became news
	}
	st := &sub.member.at[w.index]
	if st.behind > 0 && w.readsItself(sub.member, w.turning.part, w.hits.offset) {
		return
	}
	w.hits.add(sub, st)
}

// offerBatch offers everybody what is in hand for him.
func (w *worker) offerBatch() {
	for _, m := range w.batch.members {
		w.offerTo(m)
	}
	w.batch.reset()
}

// offerTo offers a member what is in hand for it. From what it does not take on it reads by itself.
func (w *worker) offerTo(m *Member) {
	r := w.batch.take(m)
	for again := true; again; {
		again = w.offer(m, r)
	}
}

// offer offers the rest of a run. A fault of ours over one message costs that one; again tells to go on behind it.
func (w *worker) offer(m *Member, r *Run) (again bool) {
	defer func() {
		if cause := recover(); cause != nil {
			again = w.skip(r, cause)
		}
	}()
	verdict := Taken
	if r.Next() != nil {
		verdict = m.sink.Deliver(r)
	}
	if verdict != Gone {
		w.flushLater(m)
	}
	if verdict == Later {
		w.fallBehind(m, w.turning.part, record.Offset(r.Next().From.Offset))
	}
	return false
}

// skip passes over the message of a run over which we panicked. False: it was none of them.
func (w *worker) skip(r *Run, cause any) bool {
	offset, d := w.turning.part.cursor, r.Next()
	if d != nil {
		offset = record.Offset(d.From.Offset)
		r.Take()
	}
	w.f.poisoned(w.turning.part.id, offset, cause)
	return d != nil
}

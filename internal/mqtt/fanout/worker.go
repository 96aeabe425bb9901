package fanout

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// worker owns some of the partitions: it alone moves their cursors, and the cursors that members have
// in them.
type worker struct {
	f     *Fanout
	index int
	wake  chan struct{} // holds one token

	mu struct {
		sync.Mutex
		parts   map[stream.PartitionID]*part
		dirty   []*part   // with news
		members []*Member // that can take messages again, or are gone
	}

	// What follows belongs to the worker's goroutine.
	lags    map[*Member][]*lag
	touched []*Member // to flush
	reader  reader
	match   match
	known   known
	now     time.Time // of the turn
	topics  int       // number of topics when partitions were last looked over
}

// part is one partition.
type part struct {
	id stream.PartitionID

	// Guarded by worker.mu.
	high  record.Offset
	news  []mark // epochs of the news since the last turn
	skip  record.Offset
	dirty bool

	// Belongs to the worker's goroutine.
	cursor  record.Offset // the next record to deliver
	pending []mark        // epochs of the records from cursor on
	history []mark        // epochs of the records from the oldest cursor of a member on, by their first offset
	lags    map[*Member]*lag
	opinion opinion
}

// mark says that the records before an offset (in history: from an offset on) are of an epoch.
type mark struct {
	offset record.Offset
	epoch  uint64
}

func newWorker(f *Fanout, index int) *worker {
	w := &worker{f: f, index: index, wake: make(chan struct{}, 1), lags: make(map[*Member][]*lag)}
	w.mu.parts = make(map[stream.PartitionID]*part)
	w.match.worker = w
	w.match.visit = w.match.add
	return w
}

// advanced takes the news. Without any subscription only the number is kept.
func (w *worker) advanced(id stream.PartitionID, high record.Offset) {
	w.mu.Lock()
	p := w.mu.parts[id]
	if p == nil {
		p = &part{id: id} // made after begin: read it from its start
		w.mu.parts[id] = p
	}
	if high <= p.high {
		w.mu.Unlock()
		return
	}
	p.high = high
	if w.f.count.Load() == 0 && !p.dirty {
		p.skip, p.news = high, p.news[:0]
		w.mu.Unlock()
		return
	}
	epoch := w.f.epoch.Load()
	if n := len(p.news); n > 0 && p.news[n-1].epoch == epoch {
		p.news[n-1].offset = high
	} else {
		p.news = append(p.news, mark{high, epoch})
	}
	fresh := !p.dirty
	if fresh {
		p.dirty = true
		w.mu.dirty = append(w.mu.dirty, p)
	}
	w.mu.Unlock()
	if fresh {
		w.rouse()
	}
}

func (w *worker) ready(m *Member) {
	w.mu.Lock()
	w.mu.members = append(w.mu.members, m)
	w.mu.Unlock()
	w.rouse()
}

func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default: // a token is there: it will look
	}
}

// run works until ctx ends: a turn for every partition with news and for every member that can take
// messages again, then it looks anew.
func (w *worker) run(ctx context.Context) {
	var dirty []*part
	var members []*Member
	for ctx.Err() == nil {
		w.mu.Lock()
		dirty, w.mu.dirty = w.mu.dirty, dirty[:0]
		members, w.mu.members = w.mu.members, members[:0]
		w.mu.Unlock()
		if len(dirty) == 0 && len(members) == 0 {
			select {
			case <-w.wake:
			case <-ctx.Done():
			}
			continue
		}
		w.now = w.f.opt.Clock()
		w.known.begin(w.known.table, w.f.version.Load())
		for _, p := range dirty {
			w.turn(p)
		}
		for _, m := range members {
			w.serve(m)
		}
		w.flush()
		clear(dirty)
		clear(members)
		w.forgetDeleted()
	}
}

// flushEvery bounds how many members gather before their messages go out.
const flushEvery = 512

func (w *worker) touch(m *Member) {
	if st := &m.at[w.index]; !st.touched {
		st.touched = true
		w.touched = append(w.touched, m)
	}
}

func (w *worker) flush() {
	for i, m := range w.touched {
		m.at[w.index].touched = false
		m.sink.Flush()
		w.touched[i] = nil
	}
	w.touched = w.touched[:0]
}

// turn delivers what is new in a partition, at most TurnBytes of it, or moves past it if nobody can
// want it. The order matters: first the high watermark, then the question who listens. Whoever
// subscribes in between gets what is acknowledged after that, and all of it lies behind this mark.
func (w *worker) turn(p *part) {
	w.mu.Lock()
	high := p.high
	p.cursor = max(p.cursor, p.skip)
	p.pending = append(p.pending, p.news...)
	p.news, p.dirty = p.news[:0], false
	w.mu.Unlock()

	place := w.f.opt.Log.Topics().Place(p.id)
	if place.Topic == nil || place.Topic.Internal() {
		w.skipTo(p, high)
		return
	}
	table := w.f.opt.Mapping()
	w.f.subs.RLock()
	wanted := p.opinion.update(&w.f.subs.interest, table, place.Topic.Name, w.now)
	w.f.subs.RUnlock()
	if !wanted {
		w.skipTo(p, high)
		return
	}
	next, err := w.reader.read(w, p.id, p.cursor, high, func(v *record.View) bool {
		w.live(p, place.Topic.Name, table, v)
		return true
	})
	if err != nil {
		next = w.stumble(p, next, high, err)
	}
	w.skipTo(p, next)
	if next < high {
		w.again(p)
	}
	if len(w.touched) > flushEvery {
		w.flush()
	}
}

// again puts a partition back behind the others.
func (w *worker) again(p *part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.dirty {
		p.dirty = true
		w.mu.dirty = append(w.mu.dirty, p)
	}
}

// skipTo moves the cursor and what is known of epochs with it.
func (w *worker) skipTo(p *part, next record.Offset) {
	passed := 0
	for passed < len(p.pending) && p.pending[passed].offset <= next {
		passed++
	}
	if len(p.lags) > 0 {
		from := p.cursor
		for _, m := range p.pending[:passed] {
			p.remember(from, m.epoch)
			from = m.offset
		}
		if passed < len(p.pending) && from < next {
			p.remember(from, p.pending[passed].epoch)
		}
	}
	p.pending = p.pending[:copy(p.pending, p.pending[passed:])]
	p.cursor = next
}

// keptHistory bounds the epochs that are remembered for cursors. Beyond it the older half takes the
// epoch of the newer: then a new subscription may get a little of what is older than it.
const keptHistory = 1024

func (p *part) remember(from record.Offset, epoch uint64) {
	if n := len(p.history); n > 0 && p.history[n-1].epoch >= epoch {
		return // epochs rise: it is known already, or older than all cursors
	}
	if len(p.history) >= keptHistory {
		half := len(p.history) / 2
		p.history[half].offset = p.history[0].offset
		p.history = p.history[:copy(p.history, p.history[half:])]
	}
	p.history = append(p.history, mark{from, epoch})
}

// epochAt is the epoch of a record at or behind the cursor.
func (p *part) epochAt(offset record.Offset) uint64 {
	for _, m := range p.pending {
		if offset < m.offset {
			return m.epoch
		}
	}
	return ^uint64(0) // older than the watch: whoever sees it may have it
}

// epochBefore is the epoch of a record before the cursor.
func (p *part) epochBefore(offset record.Offset) uint64 {
	for _, m := range slices.Backward(p.history) {
		if m.offset <= offset {
			return m.epoch
		}
	}
	return ^uint64(0)
}

// stumble decides what to do about a read that failed and where to go on.
func (w *worker) stumble(p *part, from, high record.Offset, err error) (next record.Offset) {
	switch fault.KindOf(err) {
	case fault.OutOfRange: // retention was faster
		bounds, e := w.f.opt.Log.Bounds(p.id)
		if e != nil || bounds.Start <= from {
			return high
		}
		start := min(bounds.Start, high)
		w.f.metrics.retention.Add(float64(start - from))
		return start
	case fault.NotFound, fault.Closed:
		return high
	default:
		w.f.metrics.corrupt.Add(float64(high - from))
		w.f.opt.Logger.Error("cannot read for delivery, skipping", "partition", p.id, "from", from, "to", high, "err", err)
		return high
	}
}

// live offers one record to all that subscribed to it.
func (w *worker) live(p *part, logTopic string, table *hinge.Table, v *record.View) {
	e, learn, ok := w.message(p, logTopic, table, v)
	m := &w.reader.msg
	switch {
	case !ok:
		return
	case e != nil:
		w.match.among(e.subs, p, v.Offset)
	case learn:
		w.match.among(w.known.learn(w.f, p.id, v.Key, m.Topic()), p, v.Offset)
	default:
		w.match.find(m.Topic(), p, v.Offset)
	}
	for i := range w.match.used {
		h := &w.match.hits[i]
		if h.hold || w.offer(h, m, session.Place{Partition: uint32(p.id), Offset: int64(v.Offset)}, false) == Later {
			w.fallBehind(h.member, p, v.Offset)
		}
	}
}

// message makes the message of a record: e is what is known of its key, if that tells its name; otherwise learn
// tells whether it should be known the next time. ok is false for a record that is none, or has expired.
func (w *worker) message(p *part, logTopic string, table *hinge.Table, v *record.View) (
	e *knownName, learn, ok bool,
) {
	mapped := &w.reader.mapped
	w.known.begin(table, w.f.version.Load())
	e, learn = w.known.find(p.id, v.Key)
	if e != nil && table.Known(logTopic, e.name, v, mapped) {
		return e, false, w.reader.msg.Set(mapped, w.now)
	}
	ok = table.Message(logTopic, v, mapped) && w.reader.msg.Set(mapped, w.now)
	return nil, learn && mapped.ToldByKey(), ok
}

// offer hands a message to one member.
func (w *worker) offer(h *hit, m *Message, from session.Place, catchUp bool) Verdict {
	d := &w.match.delivery
	*d = Delivery{QoS: min(m.QoS(), h.qos), Retain: h.asPublished && m.Retain(), CatchUp: catchUp, IDs: h.ids, From: from}
	verdict := h.member.sink.Deliver(m, d)
	if verdict != Gone {
		w.touch(h.member)
	}
	return verdict
}

// forgetDeleted drops partitions whose topic is gone, when topics became fewer.
func (w *worker) forgetDeleted() {
	topics := w.f.opt.Log.Topics()
	fewer := topics.Len() < w.topics
	w.topics = topics.Len()
	if !fewer {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, p := range w.mu.parts {
		if topics.Place(id).Topic == nil && !p.dirty && len(p.lags) == 0 {
			delete(w.mu.parts, id)
		}
	}
}

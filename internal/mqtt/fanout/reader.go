package fanout

import (
	"runtime"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/rest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// Reader reads the log for members that fell behind. It belongs to one goroutine.
type Reader struct {
	f       *Fanout
	index   int // its place in Member.at
	hits    hits
	batch   batch // of one message
	mapped  hinge.Message
	msg     Message
	pass    pass
	busy    int           // since it gave way to others, about 100 ns each
	pacer   *rest.Pacer   // of passes for who came back
	rests   bool          // the pass is one of those; who fell behind just now is as good as live, and gets all there is
	left    time.Duration // when the last pass ended, by Fanout.uptime
	touched []*Member     // to flush

	offer func(*record.View) bool // r.guarded
	visit func(*subscription)     // r.found
}

// pass is one reading for cursors of one partition.
type pass struct {
	now     time.Time
	id      stream.PartitionID
	topic   string // of the log
	table   *hinge.Table
	epochs  epochs
	cursors []*Cursor // by At
	reached int       // so many of them
	open    int       // of those, which take more
	taken   int       // messages, by all of them
}

const (
	// yieldAfter is how long a reader works before it gives way, about: live delivery waits for no more.
	yieldAfter = 2000
	// readingParts says what part of the time is reading at least, while live delivery is late (rest.New).
	readingParts = 8
	// What a pass takes besides, a record, a delivery of it and a write to a socket, in the same unit.
	passCost, recordCost, deliveryCost, flushCost = 50, 3, 10, 100
)

// worked notes work, and gives way to others now and then. (The runtime has it do so after 10 ms.)
func (r *Reader) worked(cost int) {
	if r.busy += cost; r.busy >= yieldAfter {
		r.busy = 0
		if !r.rests {
			runtime.Gosched()
			return
		}
		r.f.GiveWay(r.pacer)
	}
}

// Readers is Options.Readers.
func (f *Fanout) Readers() int { return f.opt.Readers }

// NewReader makes a reader, one of Options.Readers: its number is below that.
func (f *Fanout) NewReader(number int) *Reader {
	r := &Reader{f: f, index: len(f.workers) + number, pacer: rest.New(readingParts)}
	r.batch.index, r.batch.catchUp = r.index, true
	r.offer, r.visit = r.guarded, r.found
	return r
}

// fewCursors are served by trying their members' filters one by one; for more the trie is asked.
const fewCursors = 4

// narrowFrom is how many records away the head has to be for the keeper to be told which names are wanted.
const narrowFrom = 1000

// A pass that gives each of its members little goes on until that is worthwhile messages on the average, up to
// sparseTurns times TurnBytes: with one message a pass, the write to its socket costs more than all the rest.
const (
	worthwhile  = 8
	sparseTurns = 64
)

// Pass reads on for cursors of one partition, sorted by At, from the first of them up to the head, about TurnBytes of
// it or more where that is sparse, and offers each record to all that have come there. It leaves each cursor where it
// is then, with what its member said; those above next it did not come to and leaves alone. The pass ended at next;
// later says that the log could not be read there and should be asked again later.
func (r *Reader) Pass(cursors []*Cursor) (next record.Offset, later bool) {
	if r.rests = cursors[0].Willing; r.rests {
		if now := r.f.uptime(); now-r.left >= rest.Length {
			r.pacer.Began(now)
		}
		defer func() { r.left = r.f.uptime() }()
	}
	r.worked(passCost)
	first := cursors[0]
	place := r.f.opt.Log.Topics().Place(first.Partition)
	if place.Topic == nil {
		for _, c := range cursors {
			c.Verdict = Gone
		}
		return never, false
	}
	r.msg.In(place.Topic.Name, place.Index)
	head := r.begin(cursors, place.Topic.Name)
	if first.At >= head {
		return first.At, false
	}
	o := stream.ScanOptions{End: head, MaxBytes: r.f.opt.TurnBytes}
	if head-first.At >= narrowFrom {
		o.Names = r.wanted()
	}
	next, err := r.f.opt.Log.Scan(first.Partition, first.At, o, r.offer)
	for turns := 1; err == nil && next < head && turns < sparseTurns && r.pass.sparse(); turns++ {
		next, err = r.f.opt.Log.Scan(first.Partition, next, o, r.offer)
	}
	if err != nil {
		failed := next
		if next, later = r.f.AfterError(first.Partition, next, head, err); fault.Is(err, fault.OutOfRange) {
			r.tellMissed(failed, next)
		}
	}
	r.end(next)
	return next, later
}

// tellMissed tells the members of a pass whose cursors stood where nothing is any more.
func (r *Reader) tellMissed(failed, next record.Offset) {
	if next <= failed {
		return
	}
	for _, c := range r.pass.cursors {
		if m, ok := c.Member.sink.(Misser); ok && c.At < next {
			m.Missed(r.pass.id, max(c.At, failed), next)
		}
	}
}

// sparse tells whether somebody takes more, and all got little so far.
func (p *pass) sparse() bool { return p.open > 0 && p.taken < worthwhile*p.reached }

// begin prepares a pass and says how far it may go.
func (r *Reader) begin(cursors []*Cursor, topic string) (head record.Offset) {
	first := cursors[0]
	r.pass = pass{
		now: r.f.opt.Clock(), id: first.Partition, topic: topic, table: r.f.opt.Mapping(), cursors: cursors,
		epochs: r.pass.epochs[:0],
	}
	w := first.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	r.pass.epochs = first.part.epochs.from(first.At, r.pass.epochs)
	return first.part.claimed
}

// end takes the cursors that take more to where the pass has come.
func (r *Reader) end(next record.Offset) {
	r.reach(next - 1)
	for _, c := range r.pass.cursors[:r.pass.reached] {
		c.Member.at[r.index].cursor = nil
		if c.Verdict == Taken {
			c.At = max(c.At, next)
		}
	}
	r.pass.cursors = nil
	for i, m := range r.touched {
		m.at[r.index].touched = false
		m.sink.Flush()
		r.touched[i] = nil
		r.worked(flushCost)
	}
	r.touched = r.touched[:0]
}

// reach takes in the cursors at or below an offset.
func (r *Reader) reach(offset record.Offset) {
	p := &r.pass
	for p.reached < len(p.cursors) && p.cursors[p.reached].At <= offset {
		c := p.cursors[p.reached]
		p.reached++
		if c.Member.Gone() {
			c.Verdict = Gone
			continue
		}
		c.Verdict = Taken
		c.Member.at[r.index].cursor = c
		p.open++
	}
}

// guarded offers a record. A fault of ours over one record costs that record only.
func (r *Reader) guarded(v *record.View) (more bool) {
	defer func() {
		if cause := recover(); cause != nil {
			r.f.poisoned(r.pass.id, v.Offset, cause)
			more = true
		}
	}()
	return r.record(v)
}

// record offers a record to all cursors that have come to it. It is false when nobody takes it.
func (r *Reader) record(v *record.View) (more bool) {
	p := &r.pass
	r.reach(v.Offset)
	if p.open == 0 {
		return false
	}
	r.worked(recordCost)
	if !p.table.Message(p.topic, v, &r.mapped) || !r.msg.Set(&r.mapped, r.f.judge(&r.mapped, p.now)) {
		return true
	}
	r.hits.begin(&r.mapped, v.Offset, p.epochs.at(v.Offset))
	r.match(r.msg.Topic())
	if r.f.opt.Keys {
		r.msg.setKey(v.Key)
	}
	r.batch.reset()
	r.batch.begin()
	for i := range r.hits.used {
		h := &r.hits.list[i]
		c := h.member.at[r.index].cursor
		if v.Offset < c.until && min(r.msg.QoS(), h.qos) == 0 {
			continue // it was away
		}
		if verdict := r.deliver(h, v.Offset); verdict == Taken {
			p.taken++
		} else {
			c.Verdict, c.At = verdict, v.Offset
			p.open--
		}
	}
	return true
}

func (r *Reader) match(name []byte) {
	if r.pass.open > fewCursors {
		r.f.match(name, r.visit)
		return
	}
	r.f.subs.RLock()
	defer r.f.subs.RUnlock()
	for _, c := range r.pass.cursors[:r.pass.reached] {
		if c.Verdict == Taken {
			c.Member.matching(name, r.visit)
		}
	}
}

// found takes a subscription that matches the record.
func (r *Reader) found(sub *subscription) {
	st := &sub.member.at[r.index]
	c := st.cursor
	if c == nil || c.Verdict != Taken || sub.epoch > r.hits.epoch {
		return
	}
	if r.hits.offset >= c.since[sub.Filter] {
		r.hits.add(sub, st)
	}
}

func (r *Reader) deliver(h *hit, at record.Offset) Verdict {
	r.worked(deliveryCost)
	before := len(r.batch.memory)
	d := r.batch.deliver(&r.msg, h, r.pass.id, at)
	verdict := h.member.sink.Deliver(r.batch.run.Offer(d))
	if h.identified() { // nobody else gets it in this form
		r.batch.memory = r.batch.memory[:before]
	}
	if st := &h.member.at[r.index]; verdict != Gone && !st.touched {
		st.touched = true
		r.touched = append(r.touched, h.member)
	}
	return verdict
}

// narrow bounds the filters of all cursors of a pass for which the keeper is told what they want.
const narrow = 64

// wanted is the hint for the keeper: what the members of the pass have subscribed to; nil: too much to say.
func (r *Reader) wanted() *stream.Names {
	r.f.subs.RLock()
	defer r.f.subs.RUnlock()
	var filters []string
	n := &stream.Names{Mapping: r.pass.table.Fingerprint()}
	all := false
	for _, c := range r.pass.cursors {
		if len(filters)+len(c.Member.subs) > narrow {
			return nil
		}
		for _, sub := range c.Member.subs {
			filters = append(filters, sub.Filter)
			stem := names.Stem(sub.Filter)
			all = all || stem == ""
			n.Stems = append(n.Stems, []byte(stem))
		}
	}
	if all {
		n.Stems = nil
	}
	n.Match = func(name []byte) bool {
		return slices.ContainsFunc(filters, func(filter string) bool { return names.Match(filter, name) })
	}
	return n
}

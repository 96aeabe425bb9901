package share

import (
	"math"
	"slices"
	"sort"
)

// Queue is a Partition as a share group of Kafka uses it (KIP-932): members acquire records in ranges, have them locked
// for a time, and accept, release or reject each. It counts how often a record was delivered, and is done with one that
// was delivered too often. Times are milliseconds of any clock that does not step.
//
//	q := share.NewQueue(at)
//	got := q.Acquire(&share.Acquire{Member: m, Until: now + lock, From: q.From(), To: end, Batches: batches, Most: 500})
//	freed, code := q.Acknowledge(m, acks, share.Rules{Limit: 5})
//	state := q.AppendTo(nil, form) // is written ...
//	q.Written(ok)                  // ... and if that fails, the acknowledgements are taken back
//	q.Expire(now, rules)   // at Deadline(): who does not answer in time loses what it has
//
// What is done with for want of success is dead: where there is a dead-letter topic (Rules.Letters) such a record is
// kept until it lies there: Dead lists them, Bury ends them.
//
// What is stored of it is in queue_state.go. It is not safe for concurrent use.
type Queue struct {
	p     Partition
	locks map[Member]*lock // the acquisitions that hold something
	last  Member           // the number of the last one
	dead  int              // entries that are dead

	flying []unsure // done with by acknowledgements that are in the last write, whose fate is not known
	acked  []unsure // and by those that came later
}

// lock is one acquisition: what it holds is held by the number of it.
type lock struct {
	number Member
	member string
	until  int64
	held   int
}

// The numbers that stand for no acquisition: a dead record is held by one of them.
const (
	rejected  Member = math.MaxUint32
	exhausted Member = math.MaxUint32 - 1
)

// Kind is how a member acknowledges a record, with Kafka's numbers.
type Kind int8

// The kinds of acknowledgement.
const (
	Gap     Kind = 0 // there is no record at the offset
	Accept  Kind = 1 // it was processed
	Release Kind = 2 // to be given out again
	Reject  Kind = 3 // it cannot be processed
	Renew   Kind = 4 // it is still being processed: the lock is to last longer (KIP-1222)
)

// Code tells why acknowledgements were refused.
type Code uint8

// The codes.
const (
	OK       Code = iota
	Beyond        // an offset that was not given out yet
	NotHeld       // a record that the member does not have, or not any more
	Unwanted      // a renewal, which the group does not take
)

// Rules are what a group decides about its records.
type Rules struct {
	Limit   uint16 // a record that was delivered so often is not given out again; 0: no limit
	Letters bool   // there is a dead-letter topic
	Renews  bool   // locks can be renewed
	Until   int64  // until when a renewed lock lasts
}

// NewQueue makes one that begins at an offset.
func NewQueue(at int64) *Queue {
	q := &Queue{locks: map[Member]*lock{}}
	q.p.Begin(at)
	return q
}

// Start is the offset below which everything is done with: the start offset of the share partition.
func (q *Queue) Start() int64 { return q.p.Cursor() }

// Next is the offset from which on nothing was given out yet.
func (q *Queue) Next() int64 { return q.p.Next() }

// Open is how many records were given out and are not done with.
func (q *Queue) Open() int { return q.p.Open() }

// Bytes is about what the queue takes in memory.
func (q *Queue) Bytes() int64 {
	return queueBytes + entryBytes*int64(cap(q.p.entries)) + lockBytes*int64(len(q.locks)+len(q.flying)+len(q.acked))
}

// More is about how many bytes the queue takes more when so many records are given out.
func (q *Queue) More(records int) int64 {
	return entryBytes*int64(max(len(q.p.entries)+records-cap(q.p.entries), 0)) + lockBytes
}

// What a queue takes, a record that was given out, and an acquisition with the name of its member.
const (
	queueBytes = 512
	entryBytes = 16
	lockBytes  = 128
)

// Acquired is how many records members have.
func (q *Queue) Acquired() int { return q.p.open - q.p.free - q.dead }

// From is where to read the log for an Acquire: the first record that is released, or Next.
func (q *Queue) From() int64 {
	if i := q.freeFrom(0); i < len(q.p.entries) {
		return q.p.entries[i].offset
	}
	return q.p.next
}

// freeFrom is the first entry from an index on that is released, or len.
func (q *Queue) freeFrom(i int) int {
	if q.p.free == 0 {
		return len(q.p.entries)
	}
	for i < len(q.p.entries) && (q.p.entries[i].done || q.p.entries[i].by != 0) {
		i++
	}
	return i
}

// Full tells whether there is nothing to be acquired, however much the log has: as many records are between Start and
// Next as may be locked, and none of them is released.
func (q *Queue) Full(locks int) bool { return q.p.free == 0 && q.room(locks) <= 0 }

// room is how many new records may be acquired.
func (q *Queue) room(locks int) int64 {
	if q.p.open == 0 {
		return int64(min(locks, MaxOpen))
	}
	return min(int64(locks)-(q.p.next-q.p.Cursor()), int64(MaxOpen-len(q.p.entries)))
}

// Span is a run of offsets, both ends included.
type Span struct{ First, Last int64 }

// Delivery is a run of records that were given to a member, and how often each was given out by now.
type Delivery struct {
	Span
	Count uint16
}

// Acquire is what a member asks for, and what the log has.
type Acquire struct {
	Member   string
	Until    int64  // when the lock ends
	From, To int64  // the offsets that were read of the log, To not included
	Batches  []Span // what of that are records for the group, in order: whole batches, as their heads tell
	Most     int    // records
	Whole    bool   // a batch is given out whole, though that may be more than Most
	Locks    int    // most offsets between Start and Next
}

// Acquire gives records to a member: those that were released first, then new ones. What lies between the batches is
// for nobody: a record of it that was given out before is done with.
func (q *Queue) Acquire(a *Acquire) []Delivery {
	number := q.number()
	l := &lock{number: number, member: a.Member, until: a.Until}
	var got []Delivery
	take := func(offset int64, count uint16) {
		if n := len(got); n > 0 && got[n-1].Last == offset-1 && got[n-1].Count == count {
			got[n-1].Last = offset
		} else {
			got = append(got, Delivery{Span{offset, offset}, count})
		}
		l.held++
	}
	q.again(a, number, take)
	q.fresh(a, number, take, func() bool { return l.held >= a.Most })
	if l.held > 0 {
		q.locks[number] = l
	}
	return got
}

// again gives out what was released.
func (q *Queue) again(a *Acquire, number Member, take func(int64, uint16)) {
	batches, taken, end := a.Batches, 0, int64(math.MinInt64)
	i := sort.Search(len(q.p.entries), func(i int) bool { return q.p.entries[i].offset >= a.From })
	for i = q.freeFrom(i); i < len(q.p.entries); i = q.freeFrom(i + 1) {
		e := &q.p.entries[i]
		for len(batches) > 0 && batches[0].Last < e.offset {
			batches = batches[1:]
		}
		switch {
		case e.offset >= a.To, taken >= a.Most && (!a.Whole || e.offset > end):
			return
		case len(batches) == 0 || e.offset < batches[0].First: // the log has it no more
			q.finish(e)
			continue
		}
		q.p.free--
		e.by, e.times, e.fresh = number, min(e.times, math.MaxUint16-1)+1, true
		take(e.offset, e.times)
		taken, end = taken+1, batches[0].Last
	}
}

// fresh gives out new records.
func (q *Queue) fresh(a *Acquire, number Member, take func(int64, uint16), enough func() bool) {
	room := q.room(a.Locks)
	if n := min(room, a.To-max(a.From, q.p.next)); n > 0 && a.Most > 0 { // what was read is about what is wanted
		q.p.entries = slices.Grow(q.p.entries, int(n))
	}
	for _, b := range a.Batches {
		first := max(b.First, q.p.next)
		if first > b.Last {
			continue
		}
		for offset := first; offset <= b.Last; offset++ {
			if room <= 0 || enough() && (!a.Whole || offset == first) {
				return
			}
			if q.p.open > 0 {
				room -= offset - q.p.next // what is passed over counts as between
			}
			room--
			q.p.entries = append(q.p.entries, entry{offset: offset, by: number, times: 1, fresh: true})
			q.p.open++
			q.p.next = offset + 1
			take(offset, 1)
		}
	}
	if a.From <= q.p.next {
		q.p.Pass(a.To)
	}
}

// number is one that no acquisition has.
func (q *Queue) number() Member {
	for {
		q.last++
		if q.last >= exhausted {
			q.last = 1
		}
		if q.locks[q.last] == nil {
			return q.last
		}
	}
}

// finish has a record done with.
func (q *Queue) finish(e *entry) {
	q.leave(e)
	q.p.drop(e)
	e.done, e.fresh = true, true
}

// leave takes a record from whoever has it: nobody has it then, and it is not counted as released.
func (q *Queue) leave(e *entry) {
	switch l := q.locks[e.by]; {
	case l != nil:
		if l.held--; l.held == 0 {
			delete(q.locks, e.by)
		}
	case e.by == rejected || e.by == exhausted:
		q.dead--
	}
}

// Ack is one batch of acknowledgements: one kind for all records of it, or one for each.
type Ack struct {
	Span
	Kinds []Kind
}

func (a *Ack) kind(offset int64) Kind {
	if len(a.Kinds) == 1 {
		return a.Kinds[0]
	}
	return a.Kinds[offset-a.First]
}

// Acknowledge takes the acknowledgements of a member, all or none. What lies below Start is done with, whatever it
// says. Freed tells that others may find something now. It counts once the next write of the state has succeeded.
func (q *Queue) Acknowledge(member string, acks []Ack, r Rules) (freed bool, code Code) {
	for i := range acks {
		if code := q.admits(member, &acks[i], r); code != OK {
			return false, code
		}
	}
	renewed := Member(0)
	for i := range acks {
		a := &acks[i]
		for at := q.index(a.First); at < len(q.p.entries) && q.p.entries[at].offset <= a.Last; at++ {
			e := &q.p.entries[at]
			if e.done {
				continue
			}
			switch a.kind(e.offset) {
			case Renew:
				if renewed == 0 {
					renewed = q.number()
					q.locks[renewed] = &lock{number: renewed, member: member, until: r.Until}
				}
				q.leave(e)
				e.by = renewed
				q.locks[renewed].held++
				continue
			case Release:
				q.release(e, r)
			case Reject:
				q.doubt(e)
				q.kill(e, rejected, r)
			case Gap, Accept:
				q.doubt(e)
				q.finish(e)
			}
			freed = true
		}
	}
	return freed, OK
}

func (q *Queue) index(offset int64) int {
	return sort.Search(len(q.p.entries), func(i int) bool { return q.p.entries[i].offset >= offset })
}

// admits tells whether a member has all that it acknowledges.
func (q *Queue) admits(member string, a *Ack, r Rules) Code {
	first := max(a.First, q.Start())
	switch {
	case a.Last >= q.p.next:
		return Beyond
	case first > a.Last:
		return OK
	}
	at := q.index(first)
	var held Member // the lock that was looked at last
	for offset := first; offset <= a.Last; offset++ {
		kind := a.kind(offset)
		if at == len(q.p.entries) || q.p.entries[at].offset != offset {
			if kind != Gap { // there is no record, or it is done with
				return NotHeld
			}
			continue
		}
		e := &q.p.entries[at]
		at++
		if kind == Renew && !r.Renews {
			return Unwanted
		}
		if !e.done && e.by != 0 && e.by == held {
			continue
		}
		l := q.locks[e.by]
		if e.done || l == nil || l.member != member {
			return NotHeld
		}
		held = e.by
	}
	return OK
}

// release gives a record back that somebody has, unless it was delivered too often.
func (q *Queue) release(e *entry, r Rules) {
	if r.Limit > 0 && e.times >= r.Limit {
		q.kill(e, exhausted, r)
		return
	}
	q.leave(e)
	e.by, e.fresh = 0, true
	q.p.free++
}

// kill is done with a record that nobody could process.
func (q *Queue) kill(e *entry, why Member, r Rules) {
	if !r.Letters {
		q.finish(e)
		return
	}
	q.leave(e)
	e.by, e.fresh = why, true
	q.dead++
}

// releaseWhere releases what some acquisitions hold, and tells how much that is.
func (q *Queue) releaseWhere(r Rules, which func(*lock) bool) (n int) {
	hold := 0
	for _, l := range q.locks {
		if which(l) {
			hold += l.held
		}
	}
	if hold == 0 {
		return 0
	}
	for i := range q.p.entries {
		e := &q.p.entries[i]
		if l := q.locks[e.by]; !e.done && l != nil && which(l) {
			q.release(e, r)
			n++
		}
	}
	return n
}

// Leave gives back all that a member has, and tells how much that is.
func (q *Queue) Leave(member string, r Rules) int {
	return q.releaseWhere(r, func(l *lock) bool { return l.member == member })
}

// Expire gives back what is locked for too long, and tells how much that is.
func (q *Queue) Expire(now int64, r Rules) int {
	return q.releaseWhere(r, func(l *lock) bool { return l.until <= now })
}

// Deadline is when the first lock ends; 0: there is none.
func (q *Queue) Deadline() (at int64) {
	for _, l := range q.locks {
		if at == 0 || l.until < at {
			at = l.until
		}
	}
	return at
}

// Trim is done with all below an offset: the log has it no more. It tells whether that changes anything.
func (q *Queue) Trim(start int64) bool {
	if start <= q.Start() {
		return false
	}
	for i := range q.p.entries {
		if e := &q.p.entries[i]; e.offset >= start {
			break
		} else if !e.done {
			q.finish(e)
		}
	}
	q.p.Pass(start)
	return true
}

// Dead is a run of records that nobody could process and that lie in no dead-letter topic yet.
type Dead struct {
	Delivery
	Rejected bool // else it was delivered too often
}

// Dead lists them, about so many at most.
func (q *Queue) Dead(most int) []Dead {
	var all []Dead
	for i := 0; q.dead > 0 && i < len(q.p.entries) && most > 0; i++ {
		e := &q.p.entries[i]
		if e.done || e.by != rejected && e.by != exhausted {
			continue
		}
		most--
		one := Dead{Delivery{Span{e.offset, e.offset}, e.times}, e.by == rejected}
		if n := len(all); n > 0 && all[n-1].Last == e.offset-1 && all[n-1].Count == e.times &&
			all[n-1].Rejected == one.Rejected {
			all[n-1].Last = e.offset
			continue
		}
		all = append(all, one)
	}
	return all
}

// Bury is done with records that were dead.
func (q *Queue) Bury(all []Dead) {
	for _, d := range all {
		for i := q.index(d.First); i < len(q.p.entries) && q.p.entries[i].offset <= d.Last; i++ {
			if e := &q.p.entries[i]; !e.done && (e.by == rejected || e.by == exhausted) {
				q.finish(e)
			}
		}
	}
}

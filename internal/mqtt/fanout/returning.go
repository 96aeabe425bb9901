package fanout

import (
	"slices"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Returning is a session that was away, or that another connection takes over, and where it stands.
type Returning struct {
	Subs []*session.Subscription
	// At is where the session stands in a partition: it gets every record from there on that its subscriptions match,
	// and none before. Negative: it is not known there, and begins at the start of the partition.
	At func(p stream.PartitionID) record.Offset
	// Since is the first record of a partition that a subscription may get. It is asked only where the session is behind.
	Since func(s *session.Subscription, p stream.PartitionID) record.Offset
	// QoS0 tells that messages of QoS 0 are kept for who is away. Otherwise the session gets, of what is in the log when
	// it comes back, only what it gets above QoS 0.
	QoS0 bool
}

// Return brings a session back: what Subscribe does for its subscriptions, and what they missed. The member has no
// subscription yet and is nobody else's so far. At and Since are called before it returns, and not after. The sink is
// told at once that the member is behind, and that it is not when every worker knows where it stands and all that it
// missed was taken.
func (f *Fanout) Return(m *Member, r Returning) {
	m.apart.Store(int32(len(f.workers)))
	m.sink.Behind(len(f.workers))
	for i := range f.workers {
		m.at[i].apart, m.at[i].behind = true, 1
	}
	f.listening.addAll(r.Subs)
	before := f.moves.Load()
	var wanted []wanting
	if f.bringBack(m, r.Subs) {
		// What a worker claims from here on, it passes over for this member, and notes where it did so first. Of what was
		// claimed before, At tells: so what is wanted is listed now, with the topics that were made just before.
		wanted = f.listening.wanted(r.Subs)
	} else {
		for _, s := range r.Subs {
			f.listening.remove(s.Filter)
		}
	}
	for _, w := range f.workers {
		w.ask(w.standing(m, &r, wanted, before))
	}
}

// bringBack puts subscriptions in force that get whatever is offered to them. It is false for a member that has left.
func (f *Fanout) bringBack(m *Member, subs []*session.Subscription) bool {
	f.subs.Lock()
	defer f.subs.Unlock()
	if m.gone.Load() {
		return false
	}
	for _, s := range subs {
		sub := &subscription{Subscription: s, member: m, epoch: unheard, at: len(m.subs)}
		m.subs = append(m.subs, sub)
		f.subs.trie.Add(sub.Filter, sub)
	}
	f.count.Add(int64(len(subs)))
	f.version.Add(1)
	return true
}

// join asks a worker to join a member that came back.
type join struct {
	member *Member
	stands []stand // where it was not in step with the worker
	owed   []stand // those in partitions that are not followed yet, because the log could not be asked
}

// stand is where a session stands in a partition.
type stand struct {
	id    stream.PartitionID
	at    record.Offset
	until record.Offset            // see Cursor
	since map[string]record.Offset // see Cursor
}

// headUnknown is the until of a stand in a partition that is not followed yet.
const headUnknown = -1

// lookAtOnce is how many partitions are looked at under one lock.
const lookAtOnce = 256

// standing finds where a session stands in the worker's partitions of some topics. Before its subscriptions were in
// force, Fanout.moves was before.
func (w *worker) standing(m *Member, r *Returning, wanted []wanting, before uint64) *join {
	j := &join{member: m}
	var some []stand
	for i := range wanted {
		first := len(j.stands)
		for _, p := range wanted[i].topic.Partitions {
			if w.f.worker(p) != w {
				continue
			}
			some = append(some, stand{id: p, at: max(r.At(p), 0)})
			if len(some) == lookAtOnce {
				j.stands = w.compare(some, j.stands, before)
				some = some[:0]
			}
		}
		j.stands = w.compare(some, j.stands, before)
		some = some[:0]
		for k := first; k < len(j.stands); k++ {
			s := &j.stands[k]
			s.bound(r, wanted[i].subs)
			if r.QoS0 {
				s.until = 0
			}
		}
	}
	return j
}

// compare appends those of some stands to stands that are not in step with the worker, or where it has records in hand,
// or had when the subscriptions came in force: of those it may have passed over some or none.
func (w *worker) compare(some, stands []stand, before uint64) []stand {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range some {
		p := w.mu.parts[s.id]
		if p == nil || !p.started {
			s.until = headUnknown
			stands = append(stands, s)
			continue
		}
		s.at = min(s.at, p.stable) // a log that lost its end gives those offsets again
		if s.until = p.stable; s.at != p.cursor || p.cursor != p.claimed || p.moved > before {
			stands = append(stands, s)
		}
	}
	return stands
}

// bound notes from where on subscriptions get records, where that is above the stand.
func (s *stand) bound(r *Returning, subs []*session.Subscription) {
	if s.until != headUnknown && s.at >= s.until {
		return // all that it will be offered is newer than any of them
	}
	for _, sub := range subs {
		from := r.Since(sub, s.id)
		if from <= s.at {
			continue
		}
		if s.since == nil {
			s.since = make(map[string]record.Offset)
		}
		s.since[sub.Filter] = from
	}
}

// ask has the worker join a member.
func (w *worker) ask(j *join) {
	w.mu.Lock()
	w.mu.joins = append(w.mu.joins, j)
	w.mu.Unlock()
	w.wake()
}

// miss notes a record that was passed over, because the member has not been joined yet.
func (w *worker) miss(m *Member, p *part, at record.Offset) {
	if w.missed == nil {
		w.missed = make(map[*Member]map[*part]record.Offset)
	}
	of := w.missed[m]
	if of == nil {
		of = make(map[*part]record.Offset)
		w.missed[m] = of
	}
	if _, before := of[p]; !before {
		of[p] = at
	}
}

// joinsARound bounds the members that are joined, and the cursors that are made for them, before live delivery goes on.
const joinsARound = 256

// joinSome joins some of the members that wait for it. It is called between two turns, as those below are.
func (w *worker) joinSome() {
	done := 0
	for room := joinsARound; room > 0 && done < len(w.joins); room-- {
		j := w.joins[done]
		switch {
		case j.member.Gone(), len(j.stands) == 0:
			w.join(j)
			done++
		default:
			w.place(j, &j.stands[0])
			j.stands = j.stands[1:]
		}
	}
	w.joins = slices.Delete(w.joins, 0, done)
}

// place puts a member where it stands. What was passed over for it there is above that, or was taken already.
func (w *worker) place(j *join, s *stand) {
	p, stable := w.started(s.id)
	if p == nil {
		if w.f.opt.Log.Topics().Place(s.id).Topic != nil {
			j.owed = append(j.owed, *s)
		}
		return
	}
	delete(w.missed[j.member], p)
	c := &Cursor{Member: j.member, Partition: p.id, At: s.at, worker: w, part: p, until: s.until, since: s.since}
	if c.until == headUnknown {
		c.until = stable
	}
	switch {
	case s.at < p.cursor:
		w.catchUp(c)
	case s.at > p.cursor: // by another connection, while the worker has those records in hand still
		w.keep(c, int64(s.at))
		w.waiting = append(w.waiting, c)
	}
}

// started is a partition that is delivered, and how far it was heard of; or nil.
func (w *worker) started(id stream.PartitionID) (p *part, stable record.Offset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p = w.mu.parts[id]; p == nil || !p.started {
		return nil, 0
	}
	return p, p.stable
}

// catchUp gives a member a cursor whose sink has not said Later.
func (w *worker) catchUp(c *Cursor) {
	c.Willing = true
	w.setBehind(c)
}

// join has a member get live what comes from here on.
func (w *worker) join(j *join) {
	m := j.member
	if !m.Gone() {
		for p, at := range w.missed[m] {
			w.catchUp(&Cursor{Member: m, Partition: p.id, At: at, worker: w, part: p})
		}
	}
	delete(w.missed, m)
	st := &m.at[w.index]
	st.apart = false
	st.behind--
	if len(j.owed) > 0 && !m.Gone() {
		w.owed = append(w.owed, j)
		return
	}
	w.tellJoined(m)
}

func (w *worker) tellJoined(m *Member) {
	m.apart.Add(-1)
	m.sink.Behind(-1)
}

// settleOwed places members in partitions that are followed by now.
func (w *worker) settleOwed() {
	w.owed = slices.DeleteFunc(w.owed, func(j *join) bool {
		stands := j.owed
		j.owed = nil
		if !j.member.Gone() {
			for i := range stands {
				w.place(j, &stands[i])
			}
		}
		if len(j.owed) == 0 {
			w.tellJoined(j.member)
		}
		return len(j.owed) == 0
	})
}

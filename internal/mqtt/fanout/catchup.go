package fanout

import (
	"slices"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// lag is the cursor that a member has in a partition, because it could not take a message there.
// Everything before it was offered and taken; everything from it on comes from the log.
type lag struct {
	member *Member
	part   *part
	cursor record.Offset
}

// fallBehind gives a member a cursor at a record that was just offered live.
func (w *worker) fallBehind(m *Member, p *part, at record.Offset) {
	if len(p.lags) == 0 {
		p.history = append(p.history[:0], mark{at, p.epochAt(at)})
	}
	if p.lags == nil {
		p.lags = make(map[*Member]*lag)
	}
	l := &lag{member: m, part: p, cursor: at}
	p.lags[m] = l
	w.lags[m] = append(w.lags[m], l)
	m.at[w.index].lags++
	w.f.metrics.catchUps.Inc()
}

// caughtUp makes a member live again in a partition, or forgets it.
func (w *worker) caughtUp(l *lag) {
	m := l.member
	delete(l.part.lags, m)
	if len(l.part.lags) == 0 {
		l.part.lags, l.part.history = nil, nil
	}
	list := w.lags[m]
	i := slices.Index(list, l)
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(w.lags, m)
	} else {
		w.lags[m] = list
	}
	m.at[w.index].lags--
}

// serve goes on with the cursors of a member, one turn each, the one that waited longest first, until
// the member takes no more. One that could take more has another turn after the other members.
func (w *worker) serve(m *Member) {
	if m.gone.Load() {
		for _, l := range slices.Clone(w.lags[m]) {
			w.caughtUp(l)
		}
		return
	}
	for range len(w.lags[m]) {
		list := w.lags[m]
		l := list[0]
		copy(list, list[1:])
		list[len(list)-1] = l
		verdict := w.catchUp(l)
		if verdict != Gone && l.cursor >= l.part.cursor {
			w.caughtUp(l)
		}
		if verdict != Taken {
			return // Wake, or Leave, brings it back
		}
	}
	if len(w.lags[m]) > 0 {
		w.ready(m)
	}
}

// catchUp reads on from a cursor up to the head of the partition, at most TurnBytes, until the member
// takes no more.
func (w *worker) catchUp(l *lag) (verdict Verdict) {
	p, head := l.part, l.part.cursor
	place := w.f.opt.Log.Topics().Place(p.id)
	if place.Topic == nil {
		l.cursor = head
		return Taken
	}
	table := w.f.opt.Mapping()
	next, err := w.reader.read(w, p.id, l.cursor, head, func(v *record.View) bool {
		e, _, ok := w.message(p, place.Topic.Name, table, v)
		m := &w.reader.msg
		if !ok || !w.match.own(l, e, m.Topic(), v.Offset) {
			return true
		}
		h := &w.match.hits[0]
		if h.hold {
			verdict = Later // its receipt wakes it
		} else {
			verdict = w.offer(h, m, session.Place{Partition: uint32(p.id), Offset: int64(v.Offset)}, true)
		}
		return verdict == Taken
	})
	if err != nil {
		next = w.stumble(p, next, head, err)
	}
	l.cursor = next
	return verdict
}

// own fills hits[0] for one member that reads by itself, and tells whether it wants the record. e is what is
// known of its key, or nil.
func (m *match) own(l *lag, e *knownName, name []byte, offset record.Offset) bool {
	m.begin(l.part, offset, l.part.epochBefore(offset))
	if e != nil {
		for _, sub := range e.subs {
			if sub.member == l.member {
				m.add(sub)
			}
		}
		return m.used > 0
	}
	subs := &m.worker.f.subs
	subs.RLock()
	defer subs.RUnlock()
	l.member.matching(name, m.visit)
	return m.used > 0
}

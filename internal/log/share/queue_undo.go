package share

import "slices"

// What a member was told is done with has to be so after a crash. Between an acknowledgement and the fate of the write
// that has it, the queue remembers who had the records that are done with by it.

// unsure is a run of records that are done with by an acknowledgement, as they were before.
type unsure struct {
	Span
	by    *lock
	times uint16
}

// doubt notes that a record is done with by an acknowledgement, before it is.
func (q *Queue) doubt(e *entry) {
	by := q.locks[e.by]
	if n := len(q.acked); n > 0 && q.acked[n-1].Last == e.offset-1 && q.acked[n-1].by == by &&
		q.acked[n-1].times == e.times {
		q.acked[n-1].Last = e.offset
		return
	}
	q.acked = append(q.acked, unsure{Span{e.offset, e.offset}, by, e.times})
}

// Written tells the fate of the last write. If it failed, all acknowledgements since the last one that did not are
// taken back: who had accepted or rejected a record has it again, for as long as its lock lasts, and may say so once
// more. What was released stays so. The next AppendTo has to be a snapshot then.
func (q *Queue) Written(ok bool) {
	if !ok {
		for _, u := range append(q.flying, q.acked...) {
			q.restore(&u)
		}
		q.acked = q.acked[:0]
	}
	q.flying = q.flying[:0]
}

// restore takes back that records are done with.
func (q *Queue) restore(u *unsure) {
	if u.by.held == 0 {
		u.by.number = q.number()
		q.locks[u.by.number] = u.by
	}
	i, j := q.index(u.First), q.index(u.Last+1)
	is, all := q.p.entries[i:j], make([]entry, 0, u.Last-u.First+1)
	for offset := u.First; offset <= u.Last; offset++ {
		e := entry{offset: offset, done: true}
		if len(is) > 0 && is[0].offset == offset {
			e, is = is[0], is[1:]
		}
		if e.done {
			q.p.open++
		} else {
			q.dead--
		}
		all = append(all, entry{offset: offset, by: u.by.number, times: u.times, fresh: true})
		u.by.held++
	}
	q.p.entries = slices.Replace(q.p.entries, i, j, all...)
}

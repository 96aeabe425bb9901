package group

import "slices"

// ledger keeps what a group writes record by record: which have changed, and which of them are under way. What a record
// is to say is told by the state when it is written; one that was lost is written again with the next.
type ledger struct {
	outbox
	dirty   map[Key]struct{} // records to be written
	written map[uint64][]Key // by Stores without an end yet
	torn    bool             // a Store was lost, and until healed is stored nothing that is told would be durable
	healed  uint64
}

func newLedger() ledger {
	return ledger{outbox: newOutbox(), dirty: map[Key]struct{}{}, written: map[uint64][]Key{}}
}

// emit hands the gathered effects out. What has changed is written first, and the answers wait for that; of a group
// that was deleted nothing is.
func (l *ledger) emit(deleted bool, value func(Key) []byte) []Effect {
	if len(l.dirty) > 0 && !deleted {
		l.flush(value)
	}
	if !deleted && (len(l.written) > 0 || l.torn) {
		answers := l.out[:0:0]
		for _, e := range l.out {
			if e.To == 0 { // no answer: nobody is told anything
				answers = append(answers, e)
			} else {
				l.held[l.seq] = append(l.held[l.seq], e)
			}
		}
		l.out = answers
	}
	out := l.out
	l.out = nil
	return out
}

// flush asks for the records to be written that have changed.
func (l *ledger) flush(value func(Key) []byte) {
	l.seq++
	w := &Store{Seq: l.seq}
	for key := range l.dirty {
		w.Changes = append(w.Changes, Change{Key: key, Value: value(key)})
		l.written[l.seq] = append(l.written[l.seq], key)
	}
	clear(l.dirty)
	slices.SortFunc(w.Changes, func(a, b Change) int { return a.Key.compare(&b.Key) })
	if l.torn {
		l.healed = l.seq
	}
	l.out = append(l.out, Effect{Store: w})
}

// stored tells that a Store, of the ledger or not, is durable or was lost, and lets the answers out that waited for it.
func (l *ledger) stored(seq uint64, lost bool) []Effect {
	keys, own := l.written[seq]
	switch {
	case own && lost:
		for _, key := range keys {
			l.dirty[key] = struct{}{}
		}
		l.torn, l.healed = true, 0
	case own && seq == l.healed:
		l.torn, l.healed = false, 0
	}
	delete(l.written, seq)
	l.release(seq, l.torn || lost)
	out := l.out
	l.out = nil
	return out
}

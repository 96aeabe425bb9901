package fanout

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// reach is how far live delivery has come in a partition.
type reach struct {
	id stream.PartitionID
	at record.Offset
}

// Reached visits the partitions that are followed and in which live delivery moved since an earlier call, which gave
// since; 0: all that are followed. Everything below at was offered to every member that is not behind. It costs what it
// visits.
func (f *Fanout) Reached(since uint64, visit func(p stream.PartitionID, at record.Offset)) (now uint64) {
	now = f.moves.Load() // what moves from here on is visited the next time, now or not
	var list []reach
	for _, w := range f.workers {
		list = w.reached(since, list[:0])
		for _, r := range list {
			visit(r.id, r.at)
		}
	}
	return now
}

func (w *worker) reached(since uint64, list []reach) []reach {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := w.mu.newest; p != nil && p.moved > since; p = p.older {
		list = append(list, reach{p.id, p.cursor})
	}
	return list
}

// ReachedFor is Reached for the partitions that a filter may want, whenever they moved. It may wait where Subscribe
// does.
func (f *Fanout) ReachedFor(filter string, visit func(p stream.PartitionID, at record.Offset)) {
	for _, t := range f.listening.topics(filter) {
		for _, p := range t.Partitions {
			if at, followed := f.worker(p).reachedIn(p); followed {
				visit(p, at)
			}
		}
	}
}

func (w *worker) reachedIn(id stream.PartitionID) (at record.Offset, followed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.mu.parts[id]
	if p == nil || !p.started {
		return 0, false
	}
	return p.cursor, true
}

// moved puts a part at the head of the list. It needs the lock, as unlink does.
func (w *worker) moved(p *part) {
	if w.mu.parts[p.id] != p {
		return // it was forgotten while the worker had it in hand
	}
	w.unlink(p)
	p.moved = w.f.moves.Add(1)
	p.older = w.mu.newest
	if p.older != nil {
		p.older.newer = p
	}
	w.mu.newest = p
}

func (w *worker) unlink(p *part) {
	if p.moved == 0 {
		return
	}
	if p.older != nil {
		p.older.newer = p.newer
	}
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		w.mu.newest = p.older
	}
	p.moved, p.older, p.newer = 0, nil, nil
}

package fanout

import (
	"context"
	"slices"

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

// ReachedFor is Reached for the partitions that a filter may want, whenever they moved. It waits, until ctx ends, for
// what is news when it is called: who subscribed before gets nothing that is older than what it visits.
func (f *Fanout) ReachedFor(ctx context.Context, filter string, visit func(p stream.PartitionID, at record.Offset)) {
	topics := f.listening.topics(filter)
	for _, t := range topics {
		for _, p := range t.Partitions {
			if dealt := f.worker(p).dealing(p); dealt != nil {
				select {
				case <-dealt:
				case <-ctx.Done():
				}
			}
		}
	}
	for _, t := range topics {
		for _, p := range t.Partitions {
			if at, followed := f.worker(p).reachedIn(p); followed {
				visit(p, at)
			}
		}
	}
}

// Partitions are those that a filter may want.
func (f *Fanout) Partitions(filter string) (all []stream.PartitionID) {
	for _, t := range f.listening.topics(filter) {
		all = append(all, t.Partitions...)
	}
	return all
}

// dealing gives a channel that is closed when a partition is dealt with as far as it was heard of now; nil: it is.
func (w *worker) dealing(id stream.PartitionID) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.mu.parts[id]
	if p == nil || !p.started || p.cursor >= p.stable {
		return nil
	}
	dealt := make(chan struct{})
	p.dealings = append(p.dealings, dealing{p.stable, dealt})
	return dealt
}

// dealing is somebody who waits for a partition to be dealt with up to an offset.
type dealing struct {
	to    record.Offset
	dealt chan struct{}
}

// tellDealings tells those whose offset is reached. It needs the lock.
func (p *part) tellDealings(reached record.Offset) {
	p.dealings = slices.DeleteFunc(p.dealings, func(d dealing) bool {
		if d.to <= reached {
			close(d.dealt)
		}
		return d.to <= reached
	})
}

// ReachedIn is how far live delivery has come in a partition, if it is followed: everything below was offered to every
// member that is not behind.
func (f *Fanout) ReachedIn(p stream.PartitionID) (at record.Offset, followed bool) {
	return f.worker(p).reachedIn(p)
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

package stream

import (
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/log/record"
)

// Watchers is who watches a keeper, and who wants to hear of which partitions. The zero Watchers has none. Its
// methods may be called from any goroutine. A keeper tells the news inside Tell.
type Watchers struct {
	// Changed is told of every watch that begins or ends and of every partition that one follows or leaves, by is 1
	// or -1: for AllPartitions without partitions. nil: nobody wants to know. It is called outside of the lock.
	Changed func(of Interest, ps []PartitionID, by int)

	mu      sync.Mutex // held while news is told, so that Stop can wait for it
	watches []*watch
}

// watch is a watcher and what it wants to hear of. It is guarded by Watchers.mu.
type watch struct {
	in       *Watchers
	to       Watcher
	of       Interest
	followed map[PartitionID]struct{} // unless all
}

// Watch begins a watch, as Log.Watch has it.
func (ws *Watchers) Watch(to Watcher, of Interest) Watching {
	w := &watch{in: ws, to: to, of: of}
	if of == Followed {
		w.followed = make(map[PartitionID]struct{})
	}
	ws.mu.Lock()
	ws.watches = append(ws.watches, w)
	ws.mu.Unlock()
	if of == AllPartitions {
		ws.changed(AllPartitions, nil, 1)
	}
	return w
}

func (ws *Watchers) changed(of Interest, ps []PartitionID, by int) {
	if ws.Changed != nil && (of == AllPartitions || len(ps) > 0) {
		ws.Changed(of, ps, by)
	}
}

// Watched tells whether anybody wants to hear of a partition.
func (ws *Watchers) Watched(p PartitionID) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return slices.ContainsFunc(ws.watches, func(w *watch) bool { return w.wants(p) })
}

// Tell lets news give what is new to the watchers. Nothing else is told meanwhile, and no watch begins or ends.
func (ws *Watchers) Tell(news func(to News)) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	news(News{ws})
}

// News goes to those who want to hear it. It is valid inside Tell.
type News struct{ to *Watchers }

// Advanced tells that the last stable offset of a partition is now stable.
func (n News) Advanced(p PartitionID, stable record.Offset) {
	for _, w := range n.to.watches {
		if w.wants(p) {
			w.to.Advanced(p, stable)
		}
	}
}

// TopicsChanged tells that Log.Topics gives another set.
func (n News) TopicsChanged() {
	for _, w := range n.to.watches {
		if to, ok := w.to.(TopicWatcher); ok {
			to.TopicsChanged()
		}
	}
}

func (w *watch) wants(p PartitionID) bool {
	if w.of == AllPartitions {
		return true
	}
	_, ok := w.followed[p]
	return ok
}

// Follow implements Watching.
func (w *watch) Follow(ps ...PartitionID) { w.in.changed(Followed, w.put(ps, true), 1) }

// Unfollow implements Watching.
func (w *watch) Unfollow(ps ...PartitionID) { w.in.changed(Followed, w.put(ps, false), -1) }

// put adds partitions or takes them out, and gives those for which that was a change.
func (w *watch) put(ps []PartitionID, in bool) (changed []PartitionID) {
	if w.of == AllPartitions {
		return nil
	}
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	for _, p := range ps {
		if _, was := w.followed[p]; was == in {
			continue
		}
		changed = append(changed, p)
		if in {
			w.followed[p] = struct{}{}
		} else {
			delete(w.followed, p)
		}
	}
	return changed
}

// Stop implements Watching. It waits for news that is being told.
func (w *watch) Stop() {
	ws := w.in
	ws.mu.Lock()
	i := slices.Index(ws.watches, w)
	if i >= 0 {
		ws.watches = slices.Delete(ws.watches, i, i+1)
	}
	var left []PartitionID
	for p := range w.followed {
		left = append(left, p)
	}
	clear(w.followed)
	ws.mu.Unlock()
	if i >= 0 {
		ws.changed(w.of, left, -1)
	}
}

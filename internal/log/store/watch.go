package store

import "github.com/firthmq/firth/internal/log/stream"

// watch is a watcher and what it wants to hear of. It is guarded by Store.watchMu.
type watch struct {
	s        *Store
	to       stream.Watcher
	all      bool
	followed map[stream.PartitionID]struct{} // unless all
}

// Watch implements stream.Log.
func (s *Store) Watch(w stream.Watcher, of stream.Interest) stream.Watching {
	entry := &watch{s: s, to: w, all: of == stream.AllPartitions}
	if !entry.all {
		entry.followed = make(map[stream.PartitionID]struct{})
	}
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.watchers = append(s.watchers, entry)
	return entry
}

// Follow implements stream.Watching.
func (w *watch) Follow(ps ...stream.PartitionID) {
	w.s.watchMu.Lock()
	defer w.s.watchMu.Unlock()
	for _, p := range ps {
		if !w.all {
			w.followed[p] = struct{}{}
		}
	}
}

// Unfollow implements stream.Watching.
func (w *watch) Unfollow(ps ...stream.PartitionID) {
	w.s.watchMu.Lock()
	defer w.s.watchMu.Unlock()
	for _, p := range ps {
		delete(w.followed, p)
	}
}

// Stop implements stream.Watching. It waits for news that is being told.
func (w *watch) Stop() {
	s := w.s
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	for i, other := range s.watchers {
		if other == w {
			s.watchers = append(s.watchers[:i:i], s.watchers[i+1:]...)
			return
		}
	}
}

func (w *watch) wants(p stream.PartitionID) bool {
	if w.all {
		return true
	}
	_, ok := w.followed[p]
	return ok
}

// tell gives the news of a group to the watchers.
func (s *Store) tell(g *group) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if len(s.watchers) == 0 {
		return
	}
	for i := range g.slots[:g.used] {
		slot := &g.slots[i]
		n := len(slot.batches)
		if n == 0 {
			continue
		}
		if slot.p.ID == topicsPartition {
			s.tellTopics()
		}
		stable := slot.batches[n-1].bytes.LastOffset() + 1
		for _, w := range s.watchers {
			if w.wants(slot.p.ID) {
				w.to.Advanced(slot.p.ID, stable)
			}
		}
	}
}

// tellTopics tells the watchers who want to know that the topics changed.
func (s *Store) tellTopics() {
	for _, w := range s.watchers {
		if to, ok := w.to.(stream.TopicWatcher); ok {
			to.TopicsChanged()
		}
	}
}

package store

import "github.com/firthmq/firth/internal/log/stream"

// Watch implements stream.Log.
func (s *Store) Watch(w stream.Watcher, of stream.Interest) stream.Watching {
	return s.watchers.Watch(w, of)
}

// tell gives the news of a group to the watchers: also of a partition whose last stable offset an open transaction
// holds back, for who reads what is not committed.
func (s *Store) tell(g *group) {
	s.watchers.Tell(func(to stream.News) {
		for i := range g.slots[:g.used] {
			slot := &g.slots[i]
			if len(slot.batches) == 0 {
				continue
			}
			if slot.p.ID == topicsPartition {
				to.TopicsChanged()
			}
			to.Advanced(slot.p.ID, slot.stable)
		}
	})
}

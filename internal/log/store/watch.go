package store

import "github.com/firthmq/firth/internal/log/stream"

// Watch implements stream.Log.
func (s *Store) Watch(w stream.Watcher, of stream.Interest) stream.Watching {
	return s.watchers.Watch(w, of)
}

// tell gives the news of a group to the watchers.
func (s *Store) tell(g *group) {
	s.watchers.Tell(func(to stream.News) {
		for i := range g.slots[:g.used] {
			slot := &g.slots[i]
			n := len(slot.batches)
			if n == 0 {
				continue
			}
			if slot.p.ID == topicsPartition {
				to.TopicsChanged()
			}
			to.Advanced(slot.p.ID, slot.batches[n-1].bytes.LastOffset()+1)
		}
	})
}

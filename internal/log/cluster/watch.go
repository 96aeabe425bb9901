package cluster

import "github.com/firthmq/firth/internal/log/stream"

// watch is a watcher and what it wants to hear of. followed is guarded by Cluster.tellMu.
type watch struct {
	c        *Cluster
	to       stream.Watcher
	all      bool
	followed map[stream.PartitionID]struct{} // unless all
}

// Watch implements stream.Log.
func (c *Cluster) Watch(w stream.Watcher, of stream.Interest) stream.Watching {
	entry := &watch{c: c, to: w, all: of == stream.AllPartitions}
	if !entry.all {
		entry.followed = make(map[stream.PartitionID]struct{})
	}
	c.tellMu.Lock()
	c.watchers = append(c.watchers, entry)
	c.tellMu.Unlock()
	if entry.all {
		c.follow(func() { c.allOf++ })
	}
	return entry
}

// follow changes what is listened to.
func (c *Cluster) follow(change func()) {
	c.followMu.Lock()
	change()
	c.followMu.Unlock()
	poke(c.refollow)
}

// Follow implements stream.Watching.
func (w *watch) Follow(ps ...stream.PartitionID) {
	if w.all {
		return
	}
	added := w.put(ps, true)
	w.c.follow(func() {
		for _, p := range added {
			w.c.followed[p]++
		}
	})
}

// Unfollow implements stream.Watching.
func (w *watch) Unfollow(ps ...stream.PartitionID) {
	if !w.all {
		w.c.leave(w.put(ps, false))
	}
}

// put adds partitions or takes them out, and gives those for which that was a change.
func (w *watch) put(ps []stream.PartitionID, in bool) (changed []stream.PartitionID) {
	w.c.tellMu.Lock()
	defer w.c.tellMu.Unlock()
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

// leave lets go of partitions that a watch followed.
func (c *Cluster) leave(ps []stream.PartitionID) {
	c.follow(func() {
		for _, p := range ps {
			if c.followed[p]--; c.followed[p] == 0 {
				delete(c.followed, p)
			}
		}
	})
}

// Stop implements stream.Watching. It waits for news that is being told.
func (w *watch) Stop() {
	c := w.c
	c.tellMu.Lock()
	on := false
	for i, other := range c.watchers {
		if other == w {
			c.watchers = append(c.watchers[:i:i], c.watchers[i+1:]...)
			on = true
			break
		}
	}
	var left []stream.PartitionID
	for p := range w.followed {
		left = append(left, p)
	}
	clear(w.followed)
	c.tellMu.Unlock()
	switch {
	case !on:
	case w.all:
		c.follow(func() { c.allOf-- })
	default:
		c.leave(left)
	}
}

func (w *watch) wants(p stream.PartitionID) bool {
	if w.all {
		return true
	}
	_, ok := w.followed[p]
	return ok
}

// watched tells whether anybody wants to hear of a partition.
func (c *Cluster) watched(p stream.PartitionID) bool {
	c.tellMu.Lock()
	defer c.tellMu.Unlock()
	for _, w := range c.watchers {
		if w.wants(p) {
			return true
		}
	}
	return false
}

// tell gives watchers the news of partitions, each once whoever brings it, a sender or a listener.
func (c *Cluster) tell(parts []*part) {
	if len(parts) == 0 {
		return
	}
	c.tellMu.Lock()
	defer c.tellMu.Unlock()
	for _, p := range parts {
		b, _ := p.now()
		if b.Stable <= p.told {
			continue
		}
		p.told = b.Stable
		for _, w := range c.watchers {
			if w.wants(p.id) {
				w.to.Advanced(p.id, b.Stable)
			}
		}
	}
}

// tellTopics tells the watchers who want to know that the topics changed.
func (c *Cluster) tellTopics() {
	c.tellMu.Lock()
	defer c.tellMu.Unlock()
	for _, w := range c.watchers {
		if to, ok := w.to.(stream.TopicWatcher); ok {
			to.TopicsChanged()
		}
	}
}

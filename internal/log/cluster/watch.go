package cluster

import "github.com/firthmq/firth/internal/log/stream"

// Watch implements stream.Log.
func (c *Cluster) Watch(w stream.Watcher, of stream.Interest) stream.Watching {
	return c.watchers.Watch(w, of)
}

// follow changes what is listened to.
func (c *Cluster) follow(of stream.Interest, ps []stream.PartitionID, by int) {
	c.followMu.Lock()
	if of == stream.AllPartitions {
		c.allOf += by
	}
	for _, p := range ps {
		if c.followed[p] += by; c.followed[p] == 0 {
			delete(c.followed, p)
		}
	}
	c.followMu.Unlock()
	wake(c.refollow)
}

// tell gives watchers the news of partitions, each once whoever brings it, a sender or a listener.
func (c *Cluster) tell(parts []*part) {
	if len(parts) == 0 {
		return
	}
	c.watchers.Tell(func(to stream.News) {
		for _, p := range parts {
			if b, _ := p.now(); b.Stable > p.told {
				p.told = b.Stable
				to.Advanced(p.id, b.Stable)
			}
		}
	})
}

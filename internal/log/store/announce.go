package store

import (
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// announceLoop is the announcer: it makes committed groups readable, tells watchers, then receipts.
func (s *Store) announceLoop() {
	for g := range s.announceq {
		s.announce(g)
	}
}

func (s *Store) announce(g *group) {
	if g.sealed != nil {
		s.endFile(g.sealed, g.lost)
	}
	if g.err == nil {
		s.settle(g)
		s.publish(g)
		s.tell(g)
	}
	s.settleReceipts(g)
	s.metrics.append.Observe(time.Since(g.began).Seconds())
	if g.barrier != nil {
		g.barrier <- g.err
	}
	s.giveBack(g)
}

// settleReceipts tells everybody in a group what became of his unit.
func (s *Store) settleReceipts(g *group) {
	at := &s.placed
	at.s, at.g = s, g
	for i := range g.receipts {
		r := &g.receipts[i]
		at.from = r.from
		err := g.err
		if err == nil && r.repeated {
			err = at.repeatError(r)
		}
		if err != nil {
			r.to.Appended(r.ticket, nil, err)
		} else {
			r.to.Appended(r.ticket, at, nil)
		}
	}
	at.g = nil
}

// settle tells the producer windows which batches are durable now, the table of producers which transactions have
// ended, and how many producer ids are reserved.
func (s *Store) settle(g *group) {
	locked := g.reserve > 0 || len(g.ends) > 0
	if locked {
		s.mu.Lock()
		s.mu.maxPID = max(s.mu.maxPID, g.reserve)
		for _, id := range g.ends {
			s.mu.producers.settle(id, g.number)
		}
	}
	for i := range g.slots[:g.used] {
		for j := range g.slots[i].batches {
			if !g.slots[i].batches[j].idempotent {
				continue
			}
			if !locked {
				s.mu.Lock()
				locked = true
			}
			g.slots[i].p.Producers.Settle(g.slots[i].batches[j].bytes, g.number)
		}
	}
	if locked {
		s.mu.Unlock()
	}
}

// originalBase is the offset of the batch that a duplicate repeats; it was settled before.
func (s *Store) originalBase(o *original) (record.Offset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if base, ok := o.p.Producers.Offset(o.id, o.epoch, o.first); ok {
		return base, nil
	}
	return -1, fault.New(fault.ReadOnly, "log.Append", "the batch that this one repeats was not stored")
}

// publish makes the batches of a group readable, in memory and by their place in the file.
func (s *Store) publish(g *group) {
	entry := 0
	for i := range g.slots[:g.used] {
		p, names := g.slots[i].p, int32(0)
		for j := range g.slots[i].batches {
			e := &g.frame.Entries[entry]
			entry++
			b := g.slots[i].batches[j].bytes
			extent := segment.Of(b, e.Pos)
			if g.slots[i].batches[j].came {
				extent = extent.AsCame()
			}
			if p.ID == topicsPartition {
				s.foldTopics(b)
			}
			g.slots[i].stable = p.Commit(b, g.file, extent)
			end := g.slots[i].batches[j].names
			g.file.names.add(p.ID, &extent, g.slots[i].names[names:end])
			names = end
			if !p.Settings().Compact {
				g.file.plain.add(len(b))
			}
			s.cache.add(p, len(b))
			s.metrics.batches.Inc()
			s.metrics.bytes.Add(float64(len(b)))
		}
	}
	for _, t := range g.trims {
		t.p.Trim(t.start)
	}
	if g.file != nil {
		s.announced.set(place{File: g.file.number, Pos: g.end})
	}
	s.cache.shrink(s.opt.CacheBytes)
}

// cache counts what the tails of all partitions hold, oldest first. It belongs to the announcer.
type cache struct {
	ring  []cached
	head  int // oldest
	count int
	bytes int64
}

type cached struct {
	p    *partition.Partition
	size int32
}

func (c *cache) add(p *partition.Partition, size int) {
	if c.count == len(c.ring) {
		ring := make([]cached, max(1024, 2*len(c.ring)))
		n := copy(ring, c.ring[c.head:])
		copy(ring[n:], c.ring[:c.head])
		c.ring, c.head = ring, 0
	}
	c.ring[(c.head+c.count)%len(c.ring)] = cached{p: p, size: int32(size)}
	c.count++
	c.bytes += int64(size) + cachedOverhead
}

// cachedOverhead is about what a batch costs in memory besides its bytes.
const cachedOverhead = 64

// shrink evicts the oldest batches until at most limit bytes are held.
func (c *cache) shrink(limit int64) {
	for c.bytes > limit && c.count > 0 {
		oldest := &c.ring[c.head]
		oldest.p.Evict()
		c.bytes -= int64(oldest.size) + cachedOverhead
		oldest.p = nil
		c.head = (c.head + 1) % len(c.ring)
		c.count--
	}
}

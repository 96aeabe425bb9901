package groups

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// What is kept of a group, and where it stands by that.

// restored adds a subscription that was read back.
func (g *Group) restored(sub *session.Subscription) {
	if g.lasting == 0 || sub.Since < g.since {
		g.since = sub.Since
	}
	g.subs[sub] = &seat{lasts: true}
	g.lasting++
}

// foldGroup takes the record of the group; nil: it is removed.
func (g *Group) foldGroup(r *session.GroupRecord) {
	clear(g.claims)
	if g.stored = r != nil; g.stored {
		g.mark = r.Mark
		g.claimedBy(r.Shards)
	}
}

// foldPart takes the record of a partition; nil: it is removed.
func (g *Group) foldPart(partition uint32, p *share.Partition) {
	if p == nil {
		delete(g.parts, partition)
		return
	}
	g.parts[partition] = &part{Partition: *p, stored: true}
}

// start has a group that was read back stand where it did, or end if nobody is subscribed to it.
func (g *Group) start() {
	g.coming.Lock()
	defer g.coming.Unlock()
	g.fresh = false
	if g.ended = !g.needed(); g.ended {
		g.finish()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		g.free += p.Free()
	}
	g.anchored = true
	if !g.stored || g.mark == session.MarkOfFilter {
		g.mark, g.told = g.since, false
	}
	g.mark = min(g.mark, g.groups.marks.Highest()) // it may be of another shard: see Durable
	if g.mark == 0 {                               // it was in step
		g.mark = g.groups.marks.Last()
	}
	g.note()
}

// stands is where the group stands in a partition.
func (g *Group) stands(id stream.PartitionID) record.Offset {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.groups.marks.At(uint32(id), g.mark)
	if !ok {
		at = -1
	}
	if p := g.parts[uint32(id)]; p != nil {
		at = max(at, p.Next())
	}
	return record.Offset(at)
}

// collect puts what has changed since the last checkpoint, and releases a group from its mark that is behind nowhere:
// it follows the mark that was taken before. What it knows of a partition stays though the mark implies it: the mark
// may be thinned out, and then an older one answers for it.
func (g *Group) collect(w roster.Writing) (told func(stored bool)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noted, g.letting = false, false
	if !g.kept() {
		return g.erase(w)
	}
	if g.presence != nil && g.behind == 0 && g.mark != 0 {
		g.mark, g.told = 0, false
	}
	var changed []*part
	for partition, p := range g.parts {
		if !p.changed {
			continue
		}
		key, exists := g.key(w, partition)
		if !exists {
			g.free -= p.Free()
			delete(g.parts, partition)
			continue
		}
		w.Put(key, p.AppendTo(nil))
		p.changed, p.stored = false, true
		changed = append(changed, p)
	}
	knew, life := g.told, g.life
	var claims []int
	if !knew {
		claims = g.shards()
		r := session.GroupRecord{Mark: g.mark, Shards: claims}
		if !g.anchored { // the subscription may be stored next, and then it is from there on that messages are for it
			r.Mark = session.MarkOfFilter
		}
		w.Put(session.Key{Kind: session.KindGroup, Client: g.name.share, Filter: g.name.filter}, r.AppendTo(nil))
		g.told, g.stored = true, true
	}
	return func(ok bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if ok {
			g.stale = g.stale && g.life != life
			g.claimed(claims)
			return
		}
		g.told = g.told && knew
		for _, p := range changed {
			p.changed = true
		}
		g.noteAnyway()
	}
}

// erase removes all records: no session that lasts is subscribed.
func (g *Group) erase(w roster.Writing) (told func(stored bool)) {
	var erased []*part
	for partition, p := range g.parts {
		if !p.stored {
			continue
		}
		if key, ok := g.key(w, partition); ok {
			w.Put(key, nil)
		}
		p.stored, p.changed = false, true
		erased = append(erased, p)
	}
	stored := g.stored
	if stored {
		w.Put(session.Key{Kind: session.KindGroup, Client: g.name.share, Filter: g.name.filter}, nil)
		g.stored, g.told = false, false
	}
	g.erasing++
	return func(ok bool) {
		g.coming.Lock()
		defer g.coming.Unlock()
		g.mu.Lock()
		g.erasing--
		if ok {
			g.stale = false
		} else {
			g.stored = g.stored || stored
			for _, p := range erased {
				p.stored = true
			}
			g.noteAnyway()
		}
		g.mu.Unlock()
		g.finish()
	}
}

// key is the key of the record of a partition; not ok: the partition is gone.
func (g *Group) key(w roster.Writing, partition uint32) (key session.Key, ok bool) {
	topic, index, ok := w.Place(partition)
	return session.Key{
		Kind: session.KindShared, Client: g.name.share, Filter: g.name.filter, Topic: topic, Index: index,
	}, ok
}

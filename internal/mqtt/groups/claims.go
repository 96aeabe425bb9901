package groups

import (
	"context"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/handout"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Where nodes share sessions, those that are subscribed to a group are in the shards of several nodes. The group knows
// which shards: they claim it. That is stored with the group before the subscription is stored in the shard, and taken
// back after that is gone, so a crash between the two leaves a claim too many, and never one too few; who has a shard
// tells all of its claims when it begins.

// announced is who has told the claims of a shard, and the last mark of the shard then.
type announced struct {
	by   *link
	last uint64
}

// announce takes what a node tells of a shard that it has. Who has had the shard before may be heard late: it knows an
// older mark, or the same if nothing was stored since, and then it may have claims too many.
func (g *Groups) announce(by *link, f *handout.Serves) {
	shard := int(f.Shard)
	if shard >= g.opt.Sharded {
		return
	}
	g.mu.Lock()
	before, known := g.mu.shards[shard]
	late := known && before.by != by && f.Last < before.last
	unsure := known && before.by != by && f.Last == before.last && !before.by.over()
	if !late {
		g.mu.shards[shard] = announced{by, f.Last}
	}
	g.mu.Unlock()
	if late {
		return
	}
	claimed := make(map[name]bool, len(f.Groups))
	for _, n := range f.Groups {
		claimed[name{n.Share, n.Filter}] = true
		g.claim(name{n.Share, n.Filter}, shard)
	}
	for _, one := range g.all() {
		if !claimed[one.name] && !unsure {
			one.unclaim(shard)
		}
	}
}

// unclaim takes a claim back, if it is by the node that has the shard.
func (g *Groups) unclaim(by *link, f *handout.Unclaim) {
	shard := int(f.Shard)
	g.mu.Lock()
	mine := g.mu.shards[shard].by == by
	one := g.mu.groups[name{f.Group.Share, f.Group.Filter}]
	g.mu.Unlock()
	if mine && one != nil {
		one.unclaim(shard)
	}
}

// claim has a group be there as long as the shard claims it.
func (g *Groups) claim(n name, shard int) *Group {
	for {
		if one := g.named(n); one.claim(shard) {
			return one
		}
	}
}

// settle returns once a claim is stored, and from where on the group is kept. Errors: those of the log; Timeout.
func (g *Groups) settle(ctx context.Context, one *Group, shard int) error {
	var reached []session.Place
	g.opt.Fanout.ReachedFor(ctx, one.name.filter, func(p stream.PartitionID, at record.Offset) {
		reached = append(reached, session.Place{Partition: uint32(p), Offset: int64(at)})
	})
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Timeout, "groups.Claim", err)
	}
	if stored := one.keep(shard, reached); stored {
		return nil
	}
	if err := g.marks.SettleBeside(ctx); err != nil {
		return err
	}
	if one.keep(shard, nil) {
		return nil
	}
	return fault.New(fault.IO, "groups.Claim", "who is subscribed to a shared subscription was not stored")
}

// claim is false if the group is gone.
func (g *Group) claim(shard int) bool {
	g.coming.Lock()
	defer g.coming.Unlock()
	if g.removed {
		return false
	}
	if g.ended {
		g.revive()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, is := g.claims[shard]; !is {
		g.claims[shard], g.told = false, false
	}
	if g.presence == nil && !g.anchored { // it is kept from here on, though nobody is there
		g.fresh = false
		g.anchor(g.groups.marks.Last(), nil)
	}
	g.note()
	return true
}

// keep says from where on the group is kept, if nothing does yet, and tells whether a claim and that are stored.
func (g *Group) keep(shard int, reached []session.Place) (stored bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.anchored {
		g.anchor(g.groups.marks.Last(), reached)
		g.note()
		return false
	}
	return g.claims[shard] && !g.stale
}

// unclaim takes a claim back; the group ends with the last one, if it has no member either.
func (g *Group) unclaim(shard int) {
	g.coming.Lock()
	defer g.coming.Unlock()
	g.mu.Lock()
	_, is := g.claims[shard]
	if delete(g.claims, shard); is {
		g.told, g.anchored = false, g.anchored && g.kept()
		g.ended = g.ended || !g.needed()
		g.noteAnyway()
	}
	g.mu.Unlock()
	g.finish()
}

// shards are those that claim the group, rising; none where nodes do not share sessions. It needs the lock, as those
// below do.
func (g *Group) shards() []int { return slices.Sorted(maps.Keys(g.claims)) }

// claimed notes that claims are stored.
func (g *Group) claimed(shards []int) {
	for _, shard := range shards {
		if _, is := g.claims[shard]; is {
			g.claims[shard] = true
		}
	}
}

// claimedBy has the group be claimed as it was stored. One of a time when a node had all sessions does not say by whom:
// until the shards say, all do.
func (g *Group) claimedBy(shards []int) {
	if g.groups.opt.Sharded == 0 {
		return
	}
	for _, shard := range shards {
		if shard < g.groups.opt.Sharded {
			g.claims[shard] = true
		}
	}
	for shard := 0; shard < g.groups.opt.Sharded && len(shards) == 0; shard++ {
		g.claims[shard] = true
	}
}

package cluster

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// tail is a listener: it hears of the partitions that one broker leads.
type tail struct {
	broker int32
	parts  atomic.Pointer[[]*part]
	wakeup chan struct{}
}

// followLoop is the follower: it gives each listener the partitions of its broker when who follows what, or who
// leads it, has changed.
func (c *Cluster) followLoop() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.refollow:
		}
		byLeader := make(map[int32][]*part)
		for _, p := range c.wanted() {
			byLeader[p.leader.Load()] = append(byLeader[p.leader.Load()], p)
		}
		delete(byLeader, -1) // nobody leads them now; a refresh will tell who does
		for broker, parts := range byLeader {
			if c.listeners[broker] == nil {
				t := &tail{broker: broker, wakeup: make(chan struct{}, 1)}
				t.parts.Store(&parts)
				c.listeners[broker] = t
				c.done.Go(func() { c.listen(t) })
			}
		}
		for broker, t := range c.listeners {
			parts := byLeader[broker]
			t.parts.Store(&parts)
			wake(t.wakeup)
		}
	}
}

// wanted lists what anybody follows.
func (c *Cluster) wanted() []*part {
	c.followMu.Lock()
	defer c.followMu.Unlock()
	var all []*part
	for _, p := range *c.parts.Load() {
		if p == nil {
			continue
		}
		if c.allOf > 0 || c.followed[p.id] > 0 {
			all = append(all, p)
		} else {
			p.listen(false)
		}
	}
	return all
}

// listen waits at a broker for news of its partitions, over and over.
func (c *Cluster) listen(t *tail) {
	for failed := 0; ; {
		parts := *t.parts.Load()
		if len(parts) == 0 {
			select {
			case <-c.ctx.Done():
				return
			case <-t.wakeup:
			}
			continue
		}
		if c.ctx.Err() != nil {
			return
		}
		if c.hear(t.broker, parts) {
			failed = 0
			continue
		}
		failed++
		wake(c.refresh)
		if clock.Pause(c.ctx, lasting(failed)) != nil {
			return
		}
	}
}

// hear asks for news once. It is false if a partition was not to be had.
func (c *Cluster) hear(broker int32, parts []*part) bool {
	at := make([]position, len(parts))
	for i, p := range parts {
		b, _ := p.now()
		at[i] = position{p, b.Stable}
	}
	// One byte brings one batch of one partition: what counts is where the others end.
	got, err := fetch(c.ctx, c.listener, broker, at, fetching{wait: c.opt.FollowWait, maxBytes: 1})
	if err != nil {
		for _, p := range parts {
			p.listen(false)
		}
		return false
	}
	good, heard := true, parts[:0:0]
	for one, found := range got {
		heard = append(heard, one.p)
		switch found.ErrorCode {
		case 0:
			one.p.see(record.Offset(found.LogStartOffset), record.Offset(found.LastStableOffset),
				record.Offset(found.HighWatermark))
			one.p.listen(c.wants(one.p))
		case kerr.OffsetOutOfRange.Code:
			good = c.begin(one.p) == nil && good
		default:
			one.p.listen(false)
			good = false
		}
	}
	c.tell(heard)
	return good
}

func (c *Cluster) wants(p *part) bool {
	c.followMu.Lock()
	defer c.followMu.Unlock()
	return c.allOf > 0 || c.followed[p.id] > 0
}

// begin finds out anew where a partition is: what was heard of it last is gone.
func (c *Cluster) begin(p *part) error {
	b, err := c.askBounds(p)
	if err != nil {
		return err
	}
	if old, _ := p.now(); b.Stable < old.Stable {
		c.log.Warn("a partition has lost its end: its leader was elected though it was behind", "topic", p.topic,
			"partition", p.index, "was", old.Stable, "is", b.Stable)
		c.watchers.Tell(func(stream.News) { p.told = b.Stable })
	}
	p.restart(b)
	return nil
}

// span is where a group has written in a partition.
type span struct {
	first, last record.Offset
}

// reached finds out up to where the partitions of a group can be read now, and gives those of which there is news.
// After a transaction it waits for its markers: until then nobody reads what was committed. Where an open
// transaction of somebody else holds the last stable offset back it does not wait, for that may last.
func (c *Cluster) reached(cl *kgo.Client, g *group) []*part {
	spans := make(map[*part]span)
	for _, u := range g.units {
		if u.err != nil {
			continue
		}
		for i := range u.records {
			p, at := u.places[i].p, u.offsets[i]
			s, ok := spans[p]
			if !ok {
				s = span{at, at}
			}
			spans[p] = span{min(s.first, at), max(s.last, at)}
		}
	}
	var at []position
	var parts []*part
	for p, s := range spans {
		p.see(-1, -1, s.last+1)
		switch {
		case g.transaction:
			at = append(at, position{p, s.first})
		case c.watchers.Watched(p.id):
			at = append(at, position{p, s.last + 1})
		default:
			continue
		}
		parts = append(parts, p)
	}
	if err := c.await(cl, at, g.transaction); err != nil && c.ctx.Err() == nil {
		c.log.Warn("what was appended could not be looked at: news of it comes late", "error", err)
	}
	return parts
}

// await asks where partitions end and, if they are to move, until none ends where it is asked from.
func (c *Cluster) await(cl *kgo.Client, at []position, move bool) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Patience)
	defer cancel()
	o := fetching{maxBytes: 1}
	if move {
		o.wait = c.opt.FollowWait
	}
	for try := 0; len(at) > 0; try++ {
		byLeader := make(map[int32][]position)
		for _, one := range at {
			byLeader[one.p.leader.Load()] = append(byLeader[one.p.leader.Load()], one)
		}
		at = at[:0:0]
		failed := error(nil)
		for leader, here := range byLeader {
			left, err := c.look(ctx, cl, leader, here, o)
			at = append(at, left...)
			if err != nil {
				failed = err
			}
		}
		if failed == nil {
			continue
		}
		wake(c.refresh)
		if clock.Pause(ctx, lasting(try)) != nil {
			return failed
		}
	}
	return nil
}

// look asks one broker and gives the positions that have to be asked for again.
func (c *Cluster) look(
	ctx context.Context, cl *kgo.Client, leader int32, at []position, o fetching,
) (left []position, err error) {
	if leader < 0 {
		return at, kerr.LeaderNotAvailable
	}
	got, err := fetch(ctx, cl, leader, at, o)
	if err != nil {
		return at, err
	}
	settled := make(map[*part]bool, len(at))
	for one, found := range got {
		switch code := found.ErrorCode; {
		case code == 0:
			one.p.see(record.Offset(found.LogStartOffset), record.Offset(found.LastStableOffset),
				record.Offset(found.HighWatermark))
			settled[one.p] = o.wait == 0 || record.Offset(found.LastStableOffset) != one.from
		case passing(code):
			settled[one.p] = c.parts.Load().find(one.p.id) == nil
			err = kerr.ErrorForCode(code)
		default:
			settled[one.p] = true
		}
	}
	return slices.DeleteFunc(at, func(one position) bool { return settled[one.p] }), err
}

var _ stream.Keeper = (*Cluster)(nil)

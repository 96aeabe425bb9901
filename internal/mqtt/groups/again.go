package groups

import (
	"runtime/debug"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// What members left without an acknowledgement is read from the log again, and given to others before anything new.

// readPage is how many messages are looked for together.
const readPage = 64

// readAgain starts to give out what is released, if somebody is there and nobody does so yet. It needs the lock.
func (g *Group) readAgain() {
	if g.free == 0 || len(g.takers) == 0 || g.reading {
		return
	}
	g.reading = g.groups.goRead(g.giveOut)
}

// giveOut gives out what is released until there is nothing more, or nobody.
func (g *Group) giveOut() {
	defer func() {
		if cause := recover(); cause != nil { // a fault of ours costs this attempt
			g.groups.opt.Logger.Error("a fault while messages were given out again", "share", g.name.share,
				"cause", cause, "stack", string(debug.Stack()))
			g.mu.Lock()
			g.reading = false
			g.mu.Unlock()
		}
	}()
	s := new(scratch)
	pause := time.Duration(0)
	for {
		page := g.nextPage()
		if page == nil {
			return
		}
		reader := g.groups.opt.Fanout.Again(page, packet.V5, asPublished)
		var d fanout.Delivery
		for range page {
			for !reader.Next(&d) {
				pause = fanout.NextPause(pause)
				g.groups.opt.Logger.Warn("messages of a shared subscription cannot be read, trying again",
					"share", g.name.share, "error", reader.Err(), "in", pause)
				if !g.groups.wait(pause) {
					return
				}
			}
			if pause = 0; !g.giveOne(&d, s) {
				break
			}
		}
	}
}

// asPublished is how messages are read again: each member puts them into a form of its own.
func asPublished(*hinge.Message) fanout.Wants { return fanout.Wants{AsPublished: true} }

// wait waits; false: it ends.
func (g *Groups) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}

// nextPage is what to give out next; nil: nothing, or there is nobody.
func (g *Group) nextPage() []fanout.Sent {
	g.mu.Lock()
	var page []fanout.Sent
	if len(g.takers) > 0 && !g.groups.ends() {
		var some []share.Again
		for partition, p := range g.parts {
			if p.Free() == 0 {
				continue
			}
			some = p.Released(some[:0], readPage-len(page))
			for _, one := range some {
				from := session.Place{Partition: partition, Offset: one.Offset}
				page = append(page, fanout.Sent{From: from, QoS: fanout.AsPublished})
			}
			if len(page) == readPage {
				break
			}
		}
	}
	g.reading = page != nil
	p := g.presence
	g.mu.Unlock()
	if page == nil && p != nil {
		p.member.Wake() // what is new goes on
	}
	return page
}

func (g *Groups) ends() bool { return g.ctx.Err() != nil }

// giveOne gives one message to a member, when one has room. False: nobody is there, or it ends.
func (g *Group) giveOne(d *fanout.Delivery, s *scratch) bool {
	for {
		g.mu.Lock()
		takers := g.inTurn()
		g.mu.Unlock()
		if len(takers) == 0 {
			return false
		}
		if len(d.Frame) == 0 {
			g.discard(d, func() { g.groups.metrics.gone.Inc() })
			return true
		}
		m, waits := g.pick(takers, d)
		switch {
		case m != nil:
			if g.offerAgain(m, d, s) {
				return true
			}
		case !waits:
			g.discard(d, func() { g.groups.metrics.nobody.Inc() })
			return true
		default:
			select {
			case <-g.room:
			case <-g.groups.ctx.Done():
				return false
			}
		}
	}
}

// discard gives a released message up.
func (g *Group) discard(d *fanout.Delivery, count func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.parts[d.From.Partition]; p != nil && p.Discard(d.From.Offset) {
		p.changed = true
		g.free--
		count()
		g.note()
	}
}

// offerAgain offers a released message to a member. Done: it took it, or it is not released any more.
func (g *Group) offerAgain(m *Member, d *fanout.Delivery, s *scratch) (done bool) {
	g.mu.Lock()
	p := g.parts[d.From.Partition]
	if m.left {
		g.mu.Unlock()
		return false
	}
	if p == nil || !p.Reacquire(d.From.Offset, m.number) {
		g.mu.Unlock()
		return true
	}
	g.free--
	g.take(d.From, d.Key, m)
	f := m.form(d)
	s.begin(1)
	s.add(d, f, m)
	g.offering(m)
	wakes := m.wakes
	g.mu.Unlock()

	verdict := m.link.Deliver(s.run.Offer(s.list...))
	done = s.run.Next() == nil
	g.flush()

	g.mu.Lock()
	defer g.mu.Unlock()
	g.offered(m, verdict, wakes)
	p.changed = true
	switch {
	case !done:
		g.letGo(d.From)
		if p.Release(d.From.Offset, m.number) {
			g.free++
		}
	case f.QoS == 0:
		g.letGo(d.From)
		p.Acknowledge(d.From.Offset, m.number)
		g.note()
		fallthrough
	default:
		g.takenOver(m, d.From, f.QoS)
		g.groups.metrics.again.Inc()
	}
	if m.left && m.busy == 0 {
		g.release(m)
	}
	return done
}

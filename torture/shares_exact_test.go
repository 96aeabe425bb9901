package torture

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The QoS 2 side of TestShares. What a member was sent is its own: it gets it again when it is back, and nobody else
// does [MQTT-4.8.2-4] [MQTT-4.8.2-5]. So in a group of sessions that last each message is one member's, once, however
// often the server is killed; where some sessions end with their connections, those may take messages with them, and
// get one that another has, behind a crash.

// exactCrews are the groups of QoS 2, in all habits.
func exactCrews() []*exactCrew {
	const v3, v5 = packet.V311, packet.V5
	ms := time.Millisecond
	member := func(v packet.Version, stays, away time.Duration, holds int) *exactSubscriber {
		return &exactSubscriber{exactClient: exactClient{version: v}, stays: stays, away: away, holds: holds}
	}
	passing := func(stays time.Duration) *exactSubscriber {
		m := member(v5, stays, 0, 0)
		m.passes = true
		return m
	}
	return []*exactCrew{
		{share: "lasting", filter: exactTopic + "/#", members: []*exactSubscriber{
			member(v3, 0, 0, 0), member(v5, 0, 0, 3), member(v5, 300*ms, 300*ms, 20), member(v3, 100*ms, 0, 10),
		}},
		{share: "absent", filter: exactTopic + "/+", members: []*exactSubscriber{ // often nobody is there
			member(v5, 400*ms, 2*time.Second, 0), member(v3, 400*ms, 3*time.Second, 5),
		}},
		{share: "mixed", filter: exactTopic + "/#", members: []*exactSubscriber{
			member(v3, 0, 0, 0), member(v5, 200*ms, 500*ms, 10), passing(150 * ms),
		}},
	}
}

// exactCrew is a group with QoS 2, and who was given what.
type exactCrew struct {
	share, filter string
	members       []*exactSubscriber

	mu      sync.Mutex
	lasting map[string]string // by message: the member with a session that lasts
	passing map[string]bool
}

// complete tells whether each message has to come to a member.
func (c *exactCrew) complete() bool {
	for _, m := range c.members {
		if m.passes {
			return false
		}
	}
	return true
}

// gets judges one message for a member.
func (c *exactCrew) gets(m *exactSubscriber, value string, dup bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.passes {
		c.passing[value] = true
		return
	}
	if other, is := c.lasting[value]; is {
		m.h.complain("%s: %q came to %s, and %s has it, DUP %v", c.share, value, m.id, other, dup)
	}
	c.lasting[value] = m.id
}

func (c *exactCrew) count() (lasting, passing int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lasting), len(c.passing)
}

// exactShares are the groups of QoS 2 and their publishers.
type exactShares struct {
	n      *nights
	crews  []*exactCrew
	pubs   []*exactPublisher
	stop   func()             // of the members
	enough context.CancelFunc // of publishing
	left   sync.WaitGroup     // publishers
}

// openExactShares returns when all groups are there and the publishers begin.
func (n *nights) openExactShares() *exactShares {
	x := &exactShares{n: n, crews: exactCrews()}
	listening := make(chan struct{}, 16)
	var run []func(context.Context)
	members := 0
	for _, c := range x.crews {
		c.lasting, c.passing = map[string]string{}, map[string]bool{}
		for i, m := range c.members {
			m.id, m.h, m.filter = fmt.Sprint("exact-", c.share, i), n.h, "$share/"+c.share+"/"+c.filter
			m.heard = map[uint16]bool{}
			m.judge = func(value string, dup bool) { c.gets(m, value, dup) }
			run = append(run, func(ctx context.Context) {
				m.run(ctx, n.s.mqtt, func() { listening <- struct{}{} })
			})
			members++
		}
	}
	x.stop = inBackground(run)
	n.t.Cleanup(func() { x.stop() })
	for range members {
		<-listening
	}
	x.publish()
	return x
}

// publish has the publishers publish until enough.
func (x *exactShares) publish() {
	ctx, enough := context.WithCancel(x.n.t.Context())
	x.enough = enough
	for i := range 6 {
		if i == len(x.pubs) {
			version := []packet.Version{packet.V311, packet.V5}[i%2]
			x.pubs = append(x.pubs, &exactPublisher{
				exactClient: exactClient{id: fmt.Sprint("exactly", i), version: version, h: x.n.h}, window: 1 + i,
			})
		}
		p := x.pubs[i]
		x.left.Go(func() { p.run(ctx, x.n.t.Context(), x.n.s.mqtt) })
	}
}

// finish has every message come to its member. What would come twice would come before what is published then.
func (x *exactShares) finish() {
	x.enough()
	x.left.Wait()
	for _, c := range x.crews {
		for _, m := range c.members {
			m.resting.Store(true)
		}
	}
	x.settle()
	x.publish()
	pauseFor(x.n.t.Context(), 10*pace)
	x.enough()
	x.left.Wait()
	x.settle()
	x.stop()
	x.tell()
}

func (x *exactShares) sent() (sent map[string]bool) {
	sent = map[string]bool{}
	for _, p := range x.pubs {
		for seq := range p.seq {
			sent[fmt.Sprint(p.id, " ", seq)] = true
		}
	}
	return sent
}

// settle waits until each message is somebody's in the groups that lose none.
func (x *exactShares) settle() {
	sent := len(x.sent())
	ctx, cancel := context.WithTimeout(x.n.t.Context(), startLimit)
	defer cancel()
	for _, c := range x.crews {
		for c.complete() {
			given, _ := c.count()
			if given >= sent {
				break
			}
			if ctx.Err() != nil {
				x.n.h.complain("%s: %d of %d messages came", c.share, given, sent)
				return
			}
			pauseFor(ctx, pace)
		}
	}
}

// tell says what was given, and looks for what nobody sent.
func (x *exactShares) tell() {
	sent := x.sent()
	for _, c := range x.crews {
		lasting, passing := c.count()
		again := 0
		for _, m := range c.members {
			_, n := m.count()
			again += n
		}
		x.n.t.Logf("%-8s %6d of %d messages with QoS 2 to sessions that last, %d to others, %d PUBLISH with DUP", c.share,
			lasting, len(sent), passing, again)
		if lasting == 0 {
			x.n.t.Errorf("%s was given nothing", c.share)
		}
		c.mu.Lock()
		for value := range c.lasting {
			if !sent[value] {
				x.n.h.complain("%s: %q was not sent", c.share, value)
			}
		}
		c.mu.Unlock()
	}
}

// TestExactCrews holds the judgement of messages to what it is to find.
func TestExactCrews(t *testing.T) {
	c := exactCrews()[2]
	c.lasting, c.passing = map[string]string{}, map[string]bool{}
	h := newHistory()
	for i, m := range c.members {
		m.id, m.h = fmt.Sprint(i), h
	}
	a, b, passes := c.members[0], c.members[1], c.members[2]
	c.gets(a, "1", false)
	c.gets(passes, "1", false)
	c.gets(b, "2", false)
	if len(h.complaint) != 0 {
		t.Errorf("complaints: %v", h.complaint)
	}
	c.gets(b, "1", false)
	c.gets(b, "2", true)
	if len(h.complaint) != 2 || !strings.Contains(h.complaint[0], `"1" came to 1, and 0 has it`) {
		t.Errorf("complaints: %v", h.complaint)
	}
}

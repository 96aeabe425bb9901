package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	mqttnames "github.com/firthmq/firth/internal/names"
)

// crews are the groups of TestShares: all habits in each mixture, with sessions and without.
func crews() []*crew {
	const v3, v5 = packet.V311, packet.V5
	ms := time.Millisecond
	return []*crew{
		{share: "mixed", filter: "alpha/#", members: []*member{
			{version: v3}, {version: v5, window: 5}, {version: v5, stays: 300 * ms, away: 300 * ms, cut: true, holds: 20},
			{version: v3, takes: 2 * ms, stays: 2 * time.Second}, {version: v5, passes: true, stays: 100 * ms, holds: 10},
		}},
		{share: "away", filter: "beta/#", members: []*member{ // often nobody is there
			{version: v5, stays: 400 * ms, away: 2 * time.Second},
			{version: v3, stays: 400 * ms, away: 3 * time.Second, cut: true},
		}},
		{share: "holders", filter: "+/#", members: []*member{
			{version: v5, holds: 50, stays: 200 * ms, cut: true}, {version: v5, holds: 7, window: 10, stays: 500 * ms},
			{version: v3, holds: 100, stays: 700 * ms}, {version: v5, passes: true, holds: 100, stays: 300 * ms, cut: true},
		}},
		{share: "one", filter: "beta/+/temp", members: []*member{{version: v5, stays: time.Second, cut: true}}},
	}
}

// crew is the group of a shared subscription, and what its members were given.
type crew struct {
	share, filter string
	members       []*member
	h             *history

	mu    sync.Mutex
	from  map[string]int // by topic: the last seq that was sent when the first member was let in; nil: none was
	got   map[string]bool
	count int
	news  chan struct{}
}

// member is a device of a crew.
type member struct {
	crew    *crew
	id      string
	version packet.Version
	passes  bool // its session ends with each connection

	stays, away time.Duration // at most, at a time; stays 0: until the connection ends
	cut         bool          // it does not say DISCONNECT
	window      uint16        // receive maximum; 0: none
	takes       time.Duration // it takes so long for a message
	holds       int           // messages that it leaves without acknowledgement
	resting     atomic.Bool   // it holds none and is slow for none any more
	dice        *rand.Rand    // of run
}

// quietLife is how long TestShares goes on without a kill in the end.
const quietLife = 5 * time.Second

// TestShares is the promise of shared subscriptions, asked of the real binary: kill -9 at random moments under
// publishers of QoS 1 and 2 and groups whose members come, go, are cut off, are slow and leave messages without an
// acknowledgement. What was acknowledged to its publisher since a group has a session reaches one of its members; what
// comes with QoS 2 to sessions that last comes to one of them, once.
func TestShares(t *testing.T) {
	n, dice := newNights(t)
	_, err := n.s.start()
	n.must(err)
	all := crews()
	exact := n.openExactShares()
	n.stop = []func(){inBackground(n.publishing(dice)), inBackground(n.sharing(all, dice))}
	t.Cleanup(func() {
		for _, stop := range n.stop {
			stop()
		}
	})
	n.kill(dice)
	<-time.After(quietLife) // what a restart would put right has to be right without one
	exact.finish()
	n.finishShares(all)
}

func (n *nights) sharing(all []*crew, dice *rand.Rand) (run []func(ctx context.Context)) {
	for _, c := range all {
		c.h, c.got, c.news = n.h, map[string]bool{}, make(chan struct{}, 1)
		for i, m := range c.members {
			m.crew, m.id = c, fmt.Sprint(c.share, i)
			m.dice = rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))
			run = append(run, func(ctx context.Context) { m.run(ctx, n.s.mqtt) })
		}
	}
	return run
}

// finishShares has everything come to rest, and looks for what is missing.
func (n *nights) finishShares(all []*crew) {
	for _, stop := range n.stop {
		stop()
	}
	n.stop = nil
	ctx, cancel := context.WithTimeout(n.t.Context(), startLimit)
	defer cancel()
	var settle []func(context.Context)
	for _, c := range all {
		settle = append(settle, func(context.Context) { c.settle(ctx, n.s.mqtt) })
	}
	inBackground(settle)()
	n.complaints()
	n.must(n.s.stop())
	n.must(n.s.checkLog(n.t.Context()))
	sent, acked := n.h.counts()
	n.t.Logf("%d kills; %d messages, %d acknowledged", n.kills.Load()/2, sent, acked)
	for _, c := range all {
		n.t.Logf("%-8s %6d messages, %6d of them again", c.share, c.count, c.count-len(c.got))
		if len(c.got) == 0 {
			n.t.Errorf("%s was given nothing", c.share)
		}
	}
}

// run lives by its habits until ctx ends.
func (m *member) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		c := m.connect(ctx, address)
		if c == nil {
			pauseFor(ctx, pace)
			continue
		}
		enough, cancel := ctx, context.CancelFunc(func() {})
		if m.stays > 0 {
			enough, cancel = context.WithTimeout(ctx, m.upTo(m.stays))
		}
		select {
		case <-enough.Done():
		case <-c.Done():
		}
		cancel()
		if m.cut {
			c.Abort()
		} else {
			c.Close()
		}
		pauseFor(ctx, m.upTo(m.away))
	}
}

func (m *member) upTo(most time.Duration) time.Duration {
	return time.Duration(m.dice.Int64N(int64(most) + 1))
}

// connect connects and joins the group, or gives nil.
func (m *member) connect(ctx context.Context, address string) *client.Client {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	o := client.Options{ClientID: m.id, Version: m.version, Resume: !m.passes, ManualAck: true, KeepAlive: -1}
	if m.version == packet.V5 {
		if !m.passes {
			o.Props.SetSessionExpiry(0xffff_ffff)
		}
		if m.window > 0 {
			o.Props.SetReceiveMaximum(m.window)
		}
	}
	ready := make(chan *client.Client, 1)
	var c *client.Client
	var open []uint16
	o.OnMessage = func(p *packet.Publish) {
		if c == nil {
			c = <-ready
		}
		m.crew.judge(p)
		open = append(open, p.PacketID)
		holds := m.holds
		if m.resting.Load() {
			holds = 0
		} else if m.takes > 0 {
			time.Sleep(m.takes)
		}
		for len(open) > holds {
			c.Ack(open[0], 1, packet.Success)
			open = open[1:]
		}
	}
	dialed, err := client.Dial(ctx, address, o)
	if err != nil {
		return nil
	}
	ready <- dialed
	filter := []byte("$share/" + m.crew.share + "/" + m.crew.filter)
	codes, err := dialed.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: filter, QoS: 1})
	if err == nil && codes[0] != 1 {
		m.crew.h.complain("%s: SUBACK %v", m.id, codes)
	}
	if err != nil {
		dialed.Abort()
		return nil
	}
	if !m.passes {
		m.crew.joined()
	}
	return dialed
}

// joined notes that a session is subscribed.
func (c *crew) joined() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from == nil {
		c.from = c.h.lastSent()
	}
}

// judge looks at one message.
func (c *crew) judge(p *packet.Publish) {
	if strings.HasPrefix(string(p.Topic), exactTopic+"/") && p.QoS == 1 {
		return // for exactCrew
	}
	m := c.h.byText(string(p.Payload))
	if m == nil || m.key != string(p.Topic) || p.QoS != 1 || p.Retain || p.Dup || !mqttnames.Match(c.filter, p.Topic) {
		c.h.complain("%s: %s = %q with QoS %d, retain %v, DUP %v was not sent so", c.share, p.Topic, p.Payload, p.QoS,
			p.Retain, p.Dup)
		return
	}
	c.mu.Lock()
	c.got[m.value] = true
	c.count++
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// missing is what should have come to a member and has not.
func (c *crew) missing() (lacks []string) {
	due := c.h.acknowledged()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range due {
		from, some := c.from[m.key]
		if !c.got[m.value] && mqttnames.Match(c.filter, []byte(m.key)) && (!some || m.seq > from) {
			lacks = append(lacks, fmt.Sprintf("%s %d", m.key, m.seq))
		}
	}
	return lacks
}

// settle is there with one member until nothing is missing, or until ctx ends.
func (c *crew) settle(ctx context.Context, address string) {
	m := c.members[0]
	m.resting.Store(true)
	var conn *client.Client
	for conn == nil && ctx.Err() == nil {
		if conn = m.connect(ctx, address); conn == nil {
			pauseFor(ctx, pace)
		}
	}
	if conn == nil {
		c.h.complain("%s: nobody can connect", c.share)
		return
	}
	defer conn.Close()
	for ctx.Err() == nil {
		lacks := c.missing()
		if len(lacks) == 0 {
			return
		}
		select {
		case <-c.news:
			pauseFor(ctx, 10*pace)
		case <-conn.Done():
			c.h.complain("%s: its connection ended: %v", c.share, conn.Err())
			return
		case <-ctx.Done():
			c.h.complain("%s: %d messages are missing: %s ...", c.share, len(lacks),
				strings.Join(lacks[:min(len(lacks), 5)], ", "))
		}
	}
}

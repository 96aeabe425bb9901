package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	mqttnames "github.com/firthmq/firth/internal/names"
)

// habits are how a device with a session behaves.
type habits struct {
	id      string
	version packet.Version
	filters []string

	stays, away time.Duration // at most, at a time; stays 0: until the connection ends
	cut         bool          // it does not say DISCONNECT
	window      uint16        // receive maximum; 0: none
	takes       time.Duration // it takes so long for a message
	holds       int           // messages that it leaves without acknowledgement
	twins       int           // others that connect with its client identifier
	again       bool          // it subscribes again whenever it connects
	fickle      bool          // it ends its last subscription and makes it again
	clean       int           // one connection in so many begins clean; 0: none
	expiry      time.Duration // of MQTT 5; 0: the session does not expire
}

// sleeper is a device with a session that outlives its connections, and what it was given. Every message that it gets
// is judged at once; that none is missing, when all has come to rest.
type sleeper struct {
	habits
	h     *history
	kills *atomic.Int32 // of the server so far
	early bool          // a message that is older than its subscription is no fault: a gateway may hear of it late

	mu       sync.Mutex
	dice     *rand.Rand
	there    bool // the server has said that there is a session
	gone     bool // or that there was one that ends with its connection
	unclean  bool // a session may have begun that it knows nothing of: it asks for a clean start next
	interest map[string]*interest
	got      map[string]*line // by MQTT topic
	last     *sitting         // the last connection that it was let in with; nil: it is not known which that was
	left     absence
	news     chan struct{}
	count    int // messages
	repeats  int // of those, with DUP
	returns  int // connections that went on with the session
}

// inHand is how old a message may be when a subscription is made that gets it: it may be in the hand of a worker of
// live delivery then, and who comes back later may get it.
const inHand = 500 * time.Millisecond

// interest is a subscription.
type interest struct {
	on    bool
	after map[string]int // by topic: the last seq that was acknowledged before it was asked for; nothing up to it may come
	from  map[string]int // by topic: the last seq that was sent when it was granted; what is above it must come
	until map[string]int // by topic: the last seq that was sent when it had ended
}

// line is what came of one MQTT topic.
type line struct {
	seen map[int]bool
	last int // the highest
}

// sitting is one connection.
type sitting struct {
	values map[uint16]string // that came by packet id
	before *sitting
}

// absence is the time since the last connection.
type absence struct {
	since, known time.Time // when it may have begun, when it had
	kills        int32
}

func newSleeper(h habits, history *history, kills *atomic.Int32, dice *rand.Rand) *sleeper {
	s := &sleeper{habits: h, h: history, kills: kills, news: make(chan struct{}, 1)}
	s.dice = rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))
	s.forget()
	return s
}

func (s *sleeper) complain(format string, args ...any) {
	s.h.complain(s.id+": "+format, args...)
}

// forget begins a new session.
func (s *sleeper) forget() {
	s.there, s.gone, s.last = false, false, nil
	s.interest, s.got = map[string]*interest{}, map[string]*line{}
	for _, f := range s.filters {
		s.interest[f] = &interest{}
	}
}

func (s *sleeper) upTo(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.dice.Int64N(int64(most) + 1))
}

func (s *sleeper) chance(oneIn int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return oneIn > 0 && s.dice.IntN(oneIn) == 0
}

// run lives by its habits until ctx ends.
func (s *sleeper) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		c := s.connect(ctx, address, s.chance(s.clean))
		if c == nil {
			pauseFor(ctx, pace)
			continue
		}
		if s.stays > 0 {
			select {
			case <-time.After(s.upTo(s.stays)):
			case <-c.Done():
			case <-ctx.Done():
			}
		} else {
			select {
			case <-c.Done():
			case <-ctx.Done():
			}
		}
		s.leave(c)
		if s.away > 0 {
			pauseFor(ctx, s.upTo(s.away))
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (s *sleeper) leave(c *client.Client) {
	begun := time.Now()
	if s.cut {
		c.Abort()
	} else {
		c.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = absence{begun, time.Now(), s.kills.Load()}
}

// connect connects, clean if it is not known whether a session has begun since, and has its subscriptions in force; or
// it gives nil.
func (s *sleeper) connect(ctx context.Context, address string, clean bool) *client.Client {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	s.mu.Lock()
	clean = clean || s.unclean
	s.mu.Unlock()
	o := client.Options{ClientID: s.id, Version: s.version, Resume: !clean, ManualAck: true, KeepAlive: -1}
	if s.version == packet.V5 {
		o.Props.SetSessionExpiry(0xffff_ffff)
		if s.expiry > 0 {
			o.Props.SetSessionExpiry(uint32(s.expiry / time.Second))
		}
		if s.window > 0 {
			o.Props.SetReceiveMaximum(s.window)
		}
	}
	one := &hearing{s: s, at: &sitting{values: map[uint16]string{}}, ready: make(chan struct{}), begun: time.Now()}
	o.OnMessage = one.take
	begun := time.Now()
	c, err := client.Dial(ctx, address, o)
	s.mu.Lock()
	if err != nil {
		s.last, s.gone = nil, false // the server may have let it in
		s.unclean = clean || s.expiry > 0 && s.there && time.Since(s.left.since) >= s.expiry
		s.mu.Unlock()
		return nil
	}
	s.judgePresent(c.Server().SessionPresent, clean, begun)
	if clean && s.version != packet.V5 { // its session ends with the connection
		s.there = false
		s.mu.Unlock()
		close(one.ready)
		c.Close()
		return nil
	}
	one.at.before, s.last, one.c = s.last, one.at, c
	if one.at.before != nil {
		one.at.before.before = nil
	}
	s.mu.Unlock()
	close(one.ready)
	if !s.subscribe(ctx, c) {
		c.Abort()
		return nil
	}
	return c
}

// judgePresent holds Session Present against what is known.
func (s *sleeper) judgePresent(present, clean bool, begun time.Time) {
	switch expired := s.expiry > 0 && s.there && time.Since(s.left.since) >= s.expiry; {
	case clean && present:
		s.complain("a session is present after a clean start")
	case s.gone && present:
		s.complain("a session is present after it has ended")
	case clean:
		s.forget()
	case s.there && !present && !expired:
		s.complain("its session is gone")
		s.forget()
	case !present:
		s.forget()
	case s.expiry > 0 && s.there && s.left.kills == s.kills.Load() && begun.Sub(s.left.known) > s.expiry+6*time.Second:
		s.complain("its session has not expired in %v", begun.Sub(s.left.known))
	default:
		s.returns++
	}
	s.there, s.gone, s.unclean = true, clean && s.version != packet.V5, false
}

// subscribe makes the subscriptions that it lacks, and others by its habits.
func (s *sleeper) subscribe(ctx context.Context, c *client.Client) bool {
	for i, f := range s.filters {
		s.mu.Lock()
		in := s.interest[f]
		on := in.on
		s.mu.Unlock()
		if on && s.fickle && i == len(s.filters)-1 && s.chance(2) {
			if _, err := c.Unsubscribe(ctx, packet.Properties{}, []byte(f)); err != nil {
				return s.unsure(in)
			}
			s.mu.Lock()
			in.on, in.until = false, s.h.lastSent()
			s.mu.Unlock()
			continue
		}
		if on && !s.again {
			continue
		}
		s.mu.Lock()
		if !on && (in.after == nil || in.until != nil) { // else it may be there since it was asked for first
			*in = interest{after: map[string]int{}}
			if !s.early {
				in.after = s.h.lastAcked(time.Now().Add(-inHand))
			}
		}
		s.mu.Unlock()
		codes, err := c.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte(f), QoS: 1})
		if err != nil {
			return false
		}
		if codes[0] != 1 {
			s.complain("SUBACK %v", codes)
			return false
		}
		s.mu.Lock()
		if !on {
			in.on, in.from = true, s.h.lastSent()
		}
		s.mu.Unlock()
	}
	return true
}

// unsure notes that a subscription is there or not.
func (s *sleeper) unsure(in *interest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.on, in.until = false, nil
	return false
}

// hearing is what one connection hears.
type hearing struct {
	s     *sleeper
	c     *client.Client
	at    *sitting
	ready chan struct{}
	begun time.Time
	open  []uint16 // not acknowledged yet
}

func (one *hearing) take(p *packet.Publish) {
	<-one.ready
	s := one.s
	s.judge(one, p)
	if s.takes > 0 {
		time.Sleep(s.takes)
	}
	one.open = append(one.open, p.PacketID)
	s.mu.Lock()
	holds := s.holds
	s.mu.Unlock()
	for len(one.open) > holds {
		one.c.Ack(one.open[0], 1, packet.Success)
		one.open = one.open[1:]
	}
}

// judge looks at one message.
func (s *sleeper) judge(one *hearing, p *packet.Publish) {
	m := s.h.byText(string(p.Payload))
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.notify()
	s.count++
	topic := string(p.Topic)
	if m == nil || m.key != topic || p.QoS != 1 || p.Retain {
		s.complain("%s = %q with QoS %d, retain %v was not sent so", topic, p.Payload, p.QoS, p.Retain)
		return
	}
	if why := s.unwanted(topic, m.seq, p.Dup); why != "" {
		s.complain("%s %d came: %s; DUP %v, acknowledged %v ago, connected since %v; %+v", topic, m.seq, why, p.Dup,
			time.Since(m.ackedAt), time.Since(one.begun), s.interest)
	}
	if p.Dup {
		s.repeats++
		if b := one.at.before; b != nil && b.values[p.PacketID] != "" && b.values[p.PacketID] != m.value {
			s.complain("%s %d came again with the packet id %d of another message", topic, m.seq, p.PacketID)
		}
	}
	one.at.values[p.PacketID] = m.value
	l := s.got[topic]
	if l == nil {
		l = &line{seen: map[int]bool{}, last: -1}
		s.got[topic] = l
	}
	// What was on its way to the log when the subscription was made may come by its publisher's second try only.
	if !l.seen[m.seq] && m.seq < l.last && s.wants(m) {
		s.complain("%s %d came first behind %d; %+v", topic, m.seq, l.last, s.interest)
	}
	l.seen[m.seq], l.last = true, max(l.last, m.seq)
}

// unwanted says why a message should not have come. One that is sent again was in flight when its session left, by this
// subscription or one of the same filter before it, and its delivery goes on [MQTT-3.10.4-3].
func (s *sleeper) unwanted(topic string, seq int, again bool) (why string) {
	why = "of no subscription"
	for f, in := range s.interest {
		if !mqttnames.Match(f, []byte(topic)) {
			continue
		}
		until, ended := in.until[topic]
		switch after, some := in.after[topic]; {
		case some && seq <= after && !again:
			why = fmt.Sprintf("older than the subscription to %s, behind %d", f, after)
		case !in.on && in.until != nil && (!ended || seq > until):
			why = fmt.Sprintf("younger than the end of the subscription to %s, at %d", f, until)
		default:
			return ""
		}
	}
	return why
}

// messages tells how many it was given.
func (s *sleeper) messages() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *sleeper) notify() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// missing is what should have come and has not, of some messages.
func (s *sleeper) missing(of []*message) (lacks []*message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range of {
		if l := s.got[m.key]; (l == nil || !l.seen[m.seq]) && s.wants(m) {
			lacks = append(lacks, m)
		}
	}
	return lacks
}

func (s *sleeper) wants(m *message) bool {
	for f, in := range s.interest {
		if !in.on || !mqttnames.Match(f, []byte(m.key)) {
			continue
		}
		if from, some := in.from[m.key]; !some || m.seq > from {
			return true
		}
	}
	return false
}

// settle is there until nothing is missing, or until ctx ends.
func (s *sleeper) settle(ctx context.Context, address string) {
	s.mu.Lock()
	s.holds, s.takes, s.fickle = 0, 0, false
	s.mu.Unlock()
	var c *client.Client
	for c == nil && ctx.Err() == nil {
		if c = s.connect(ctx, address, false); c == nil {
			pauseFor(ctx, pace)
		}
	}
	if c == nil {
		s.complain("it cannot connect")
		return
	}
	defer c.Close()
	lacks := s.h.acknowledged() // nobody publishes any more
	for ctx.Err() == nil {
		if lacks = s.missing(lacks); len(lacks) == 0 {
			return
		}
		select {
		case <-s.news:
			pauseFor(ctx, 10*pace)
		case <-c.Done():
			s.complain("its connection ended: %v", c.Err())
			return
		case <-ctx.Done():
			var some []string
			for _, m := range lacks[:min(len(lacks), 5)] {
				some = append(some, fmt.Sprintf("%s %d", m.key, m.seq))
			}
			s.complain("%d messages are missing: %s ...", len(lacks), strings.Join(some, ", "))
		}
	}
}

// What the history knows for sleepers.

func (h *history) byText(value string) *message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byValue[value]
}

// lastSent is the highest seq of each MQTT topic.
func (h *history) lastSent() map[string]int { return h.highest(func(*message) bool { return true }) }

// lastAcked is the highest that was acknowledged before.
func (h *history) lastAcked(before time.Time) map[string]int {
	return h.highest(func(m *message) bool { return m.acked.Load() && m.ackedAt.Before(before) })
}

func (h *history) highest(which func(*message) bool) map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[string]int{}
	for _, m := range h.messages {
		if which(m) {
			found[m.key] = m.seq
		}
	}
	return found
}

func (h *history) acknowledged() (all []*message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		if m.acked.Load() {
			all = append(all, m)
		}
	}
	return all
}

func (in *interest) String() string {
	return fmt.Sprintf("%v %v %v %v", in.on, in.after, in.from, in.until)
}

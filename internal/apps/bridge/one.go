package bridge

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Bridge is one bridge. Its goroutine is run, which connects and waits; while it is connected a link does the work.
type Bridge struct {
	o    Options
	home *Home
	m    *metrics

	stop  func() // ends run; nil: it has not begun
	ended chan struct{}

	wake   chan struct{} // one place: something that run waits for has changed
	public atomic.Bool   // the other server does not know bridges of MQTT 3.1.1

	// What belongs to run:
	at       int     // index of the address to try
	prepared bool    // the session at the door is there, with its subscriptions
	known    bool    // the other server has our subscriptions, if it has the session
	refusal  refusal // what is refused again and again

	mu struct {
		sync.Mutex
		status Status
		paused bool
		link   *link // nil: not connected
	}
}

// refusal counts how often the same message was refused.
type refusal struct {
	relay.RefusedError
	times int
}

// When a message that is refused again and again is given up: at once there may be another reason than the message.
const (
	triesHere  = 3 // while the log takes other messages
	triesThere = 10
)

func newBridge(all *Bridges, o Options) *Bridge {
	b := &Bridge{o: o, home: &all.home, m: &all.metrics, wake: make(chan struct{}, 1)}
	b.mu.status = Status{Name: o.Name, State: StateConnecting, Since: time.Now().UTC(), Version: versionName(o.Version),
		Dropped: map[string]uint64{}}
	for _, t := range o.Topics {
		b.mu.status.Topics = append(b.mu.status.Topics, t.String())
	}
	b.m.connected.With(o.Name).Set(0)
	return b
}

// begin has run begin.
func (b *Bridge) begin(ctx context.Context) {
	ctx, b.stop = context.WithCancel(ctx)
	b.ended = make(chan struct{})
	go func() {
		defer close(b.ended)
		b.run(ctx)
	}()
}

// end ends run and waits for it.
func (b *Bridge) end() {
	if b.stop != nil {
		b.stop()
		<-b.ended
	}
}

// run connects, again and again, until ctx ends.
func (b *Bridge) run(ctx context.Context) {
	pause := b.o.RestartMin
	for b.await(ctx) {
		begun := time.Now()
		b.set(StateConnecting, nil)
		err := b.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // it was asked to end
			pause = b.o.RestartMin
			continue
		}
		b.tell(err)
		if b.o.Start == Once {
			b.set(StateEnded, err)
			continue
		}
		if time.Since(begun) > b.o.RestartMax {
			pause = b.o.RestartMin
		}
		b.set(StateWaiting, err)
		if b.at > 0 { // another address is to be tried first
			b.sleep(ctx, b.o.RestartMin)
			continue
		}
		b.sleep(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, b.o.RestartMax)
	}
}

// await waits until the bridge may connect. False: ctx has ended.
func (b *Bridge) await(ctx context.Context) bool {
	for {
		switch {
		case ctx.Err() != nil:
			return false
		case b.isPaused():
			b.set(StatePaused, nil)
		case b.isEnded():
		case b.o.Start == Lazy && b.backlog() < b.o.Threshold:
			b.prepare(ctx)
			b.set(StateIdle, nil)
		default:
			return true
		}
		b.sleep(ctx, lookEvery)
	}
}

// lookEvery is how often the backlog is looked at.
const lookEvery = 2 * time.Second

// sleep waits, for some time at most.
func (b *Bridge) sleep(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-b.wake:
	case <-timer.C:
		b.backlog()
	}
}

// connect joins both sides until the connection of one of them ends, or somebody asks for the end: then it is nil.
func (b *Bridge) connect(ctx context.Context) error {
	address := b.o.Addresses[b.at]
	far, err := b.dialRemote(ctx, address)
	if err != nil {
		b.m.connects.With(b.o.Name, "failed").Inc()
		b.at = (b.at + 1) % len(b.o.Addresses)
		b.prepare(ctx)
		return err
	}
	near, err := b.dialLocal(ctx, min(b.o.MaxInflight, far.Server().ReceiveMaximum))
	if err != nil {
		b.m.connects.With(b.o.Name, "failed").Inc()
		return errors.Join(err, far.Close())
	}
	b.m.connects.With(b.o.Name, "ok").Inc()
	l := newLink(b, near, far)
	b.connected(address, l)
	err = l.run(ctx)
	b.mu.Lock()
	b.mu.link = nil
	b.mu.Unlock()
	b.m.connected.With(b.o.Name).Set(0)
	b.prepared = b.prepared || l.subscribed[relay.Local].Load()
	b.known = b.known || l.subscribed[relay.Remote].Load()
	b.judge(err)
	switch {
	case b.o.RoundRobin:
		b.at = (b.at + 1) % len(b.o.Addresses)
	default:
		b.at = 0
	}
	return err
}

// judge counts how often a message was refused.
func (b *Bridge) judge(err error) {
	refused, ok := errors.AsType[*relay.RefusedError](err)
	switch {
	case !ok:
	case b.refusal.times > 0 && b.refusal.RefusedError == *refused:
		if refused.By == relay.Remote || b.home.Writable() == nil {
			b.refusal.times++
		}
	default:
		b.refusal = refusal{RefusedError: *refused, times: 1}
	}
}

// leaveOut is the packet identifier of a message that is given up, and who refuses it; 0: none.
func (b *Bridge) leaveOut() (id uint16, by relay.Side) {
	tries := triesThere
	if b.refusal.By == relay.Local {
		tries = triesHere
	}
	if b.refusal.times < tries {
		return 0, 0
	}
	return b.refusal.ID, b.refusal.By
}

// prepare sees to it that the session at the door is there, so that what is published waits for the other server.
func (b *Bridge) prepare(ctx context.Context) {
	if b.prepared || !b.goesOut() {
		return
	}
	near, err := b.dialLocal(ctx, 1)
	if err != nil {
		b.set("", err)
		return
	}
	l := newLink(b, near, nil)
	if err := l.prepare(ctx); err != nil {
		b.set("", err)
		return
	}
	b.prepared = true
}

func (b *Bridge) goesOut() bool {
	for _, t := range b.o.Topics {
		if t.Direction&relay.Out != 0 {
			return true
		}
	}
	return false
}

// backlog looks at how much waits to go out.
func (b *Bridge) backlog() int64 {
	s, err := b.home.Session(b.o.LocalClientID)
	if err != nil {
		return 0 // it is not there yet, or nobody can tell
	}
	b.m.backlog.With(b.o.Name).Set(float64(s.Backlog))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.status.Backlog = s.Backlog
	return s.Backlog
}

// stale are the filters of the session at the door that the topics do not say.
func (b *Bridge) stale() (filters []string) {
	s, err := b.home.Session(b.o.LocalClientID)
	if err != nil {
		return nil
	}
	wanted := map[string]bool{}
	for i := range b.o.Topics {
		if t := &b.o.Topics[i]; t.Direction&relay.Out != 0 {
			wanted[t.Local()] = true
		}
	}
	for _, filter := range s.Filters {
		if !wanted[filter] {
			filters = append(filters, filter)
		}
	}
	return filters
}

// set notes the state, if one is given, and what is wrong; nil leaves what was.
func (b *Bridge) set(state string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.mu.status
	if state != "" && s.State != state {
		s.State, s.Since = state, time.Now().UTC()
	}
	if err != nil {
		s.Problem = err.Error()
		s.Attempts++
	}
}

func (b *Bridge) connected(address string, l *link) {
	b.home.Logger.Info("a bridge is connected", "bridge", b.o.Name, "address", address,
		"session", l.far.Server().SessionPresent)
	b.m.connected.With(b.o.Name).Set(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.mu.status
	s.State, s.Since, s.Address, s.Problem, s.Attempts = StateConnected, time.Now().UTC(), address, "", 0
	s.Refused = nil
	if b.mu.link = l; b.mu.paused {
		l.leave()
	}
}

// tell logs why a bridge is not connected: the first time, and then when another reason comes.
func (b *Bridge) tell(err error) {
	b.mu.Lock()
	known := b.mu.status.Problem == err.Error()
	b.mu.Unlock()
	log := b.home.Logger.Warn
	if known {
		log = b.home.Logger.Debug
	}
	log("a bridge is not connected", "bridge", b.o.Name, "error", err)
}

// done adds what a link did to the counts.
func (b *Bridge) done(e *relay.Effects) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.mu.status
	if n := e.Passed[relay.Remote]; n > 0 {
		s.In += uint64(n)
		b.m.passed.With(b.o.Name, "in").Add(float64(n))
	}
	if n := e.Passed[relay.Local]; n > 0 {
		s.Out += uint64(n)
		b.m.passed.With(b.o.Name, "out").Add(float64(n))
	}
	for _, r := range relay.Reasons() {
		if n := e.Dropped[r]; n > 0 {
			s.Dropped[r.String()] += uint64(n)
			b.m.dropped.With(b.o.Name, r.String()).Add(float64(n))
		}
	}
	s.Refused = append(s.Refused, e.Refused...)
}

func (b *Bridge) missed(records int64) {
	b.home.Logger.Warn("retention took records before a bridge could send them", "bridge", b.o.Name, "records", records)
	b.m.missed.With(b.o.Name).Add(float64(records))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.status.Missed += uint64(records)
}

func (b *Bridge) status() Status {
	b.backlog()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.mu.status
	s.Topics, s.Refused = append([]string{}, s.Topics...), append([]string(nil), s.Refused...)
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

// Status tells how the bridge stands.
func (b *Bridge) Status() Status { return b.status() }

// Pause ends the connections until Resume, or until the node starts again. The sessions stay.
func (b *Bridge) Pause() Status { return b.pause(true) }

// Resume ends a pause, and has a bridge that waits, or was to connect once, connect now.
func (b *Bridge) Resume() Status { return b.pause(false) }

func (b *Bridge) pause(yes bool) Status {
	b.mu.Lock()
	b.mu.paused = yes
	l := b.mu.link
	if !yes && b.mu.status.State == StateEnded {
		b.mu.status.State = StateConnecting
	}
	b.mu.Unlock()
	if yes && l != nil {
		l.leave()
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return b.status()
}

func (b *Bridge) isPaused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.paused
}

func (b *Bridge) isEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.status.State == StateEnded
}

// Tested is what a test of a bridge found at an address.
type Tested struct {
	Address string   `json:"address"`
	TookMs  float64  `json:"took_ms"`
	Version string   `json:"version"`
	QoS     byte     `json:"maximum_qos"`
	Retain  bool     `json:"retain"`
	Refused []string `json:"refused,omitempty"` // filters that are not granted
	Problem string   `json:"problem,omitempty"`
}

// Test connects to each address, and to our door, as the bridge would, but with another client identifier and a
// session that ends, and asks for the subscriptions.
func (b *Bridge) Test(ctx context.Context) []Tested {
	all := []Tested{b.test(ctx, "local", relay.Local)}
	for _, address := range b.o.Addresses {
		all = append(all, b.test(ctx, address, relay.Remote))
	}
	return all
}

func (b *Bridge) test(ctx context.Context, address string, side relay.Side) Tested {
	t := Tested{Address: address}
	begun := time.Now()
	refused, server, version, err := b.try(ctx, address, side)
	t.TookMs = float64(time.Since(begun).Microseconds()) / 1000
	if err != nil {
		t.Problem = err.Error()
		return t
	}
	t.Version, t.QoS, t.Retain, t.Refused = version, server.MaximumQoS, server.Retain, refused
	return t
}

func (b *Bridge) try(ctx context.Context, address string, side relay.Side) (
	refused []string, server client.Server, version string, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	o := b.localOptions(b.o.MaxInflight)
	if side == relay.Remote {
		if o, err = b.remoteOptions(); err != nil {
			return nil, server, "", err
		}
	}
	o.ClientID += "-test"
	o.Resume, o.Will, o.OnMessage = false, nil, nil
	o.Props.SetSessionExpiry(0)
	c, err := client.Dial(ctx, address, o)
	if err != nil {
		return nil, server, "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	filters := slices.DeleteFunc(relay.Filters(b.o.Topics, side, c.Server().MaximumQoS),
		func(s packet.Subscription) bool { return !s.NoLocal }) // a share would take messages from the others
	if len(filters) == 0 {
		return nil, c.Server(), versionName(o.Version), nil
	}
	for i := range filters {
		filters[i].RetainHandling = 2
	}
	reasons, err := c.Subscribe(ctx, packet.Properties{}, filters...)
	if err != nil {
		return nil, server, "", err
	}
	for i, reason := range reasons {
		if reason.Failed() && i < len(filters) {
			refused = append(refused, string(filters[i].Filter))
		}
	}
	return refused, c.Server(), versionName(o.Version), nil
}

package groups

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/handout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Members of other nodes: each node has one link for all of its members. What a member has and has not done with ends
// with the link, and goes to others.

const (
	// silence is how long a link may say nothing: the node at its other end says something every few seconds.
	silence = 30 * time.Second
	// storing is how long a claim has to be stored, and what the last member leaves.
	storing = 30 * time.Second
	// maxQueued is about how much may wait to be written to a link, and maxHeld how much a member may be given before it
	// is done with some: one message may be larger.
	maxQueued, maxHeld = 4 << 20, 1 << 20
)

// link is a link to a node that has members.
type link struct {
	groups *Groups
	conn   net.Conn
	wake   chan struct{} // holds a token: there is something to write
	claims sync.WaitGroup

	mu      sync.Mutex // a leaf
	out     []byte
	guests  map[uint64]*guest
	last    uint64 // id of a message
	hungry  bool   // a guest said Later because much waits to be written
	refused bool   // the end: nothing more is put into out
}

// guest is a member of another node. All but what Join says is guarded by the lock of the link.
type guest struct {
	link   *link
	number uint64
	window int
	max    int // bytes of a PUBLISH
	member *Member
	sub    *session.Subscription // under no lock: the reader of the link has it

	given  map[uint64]given // by id: what it has
	held   int              // bytes of that
	full   bool             // it said Later
	gone   bool
	hidden map[string]time.Time // names of topics that it may not see, until when that is believed
}

// given is a message that a member has.
type given struct {
	from session.Place
	qos  byte
	size int
}

var _ Link = (*guest)(nil)

// ServeLink serves a link of a node with members until it ends, or End, and closes it; before Serve it does so at once.
// Only where nodes share sessions.
func (g *Groups) ServeLink(c net.Conn) {
	l := &link{groups: g, conn: c, wake: make(chan struct{}, 1), guests: make(map[uint64]*guest)}
	defer func() { _ = c.Close() }()
	if !g.enter(l) {
		return
	}
	defer g.working.Done()
	var writing sync.WaitGroup
	ctx, cancel := context.WithCancel(g.ctx)
	writing.Go(func() { l.write(ctx) })
	if err := l.read(ctx); !g.ends() && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		g.opt.Logger.Debug("a link of members of shared subscriptions ends", "remote", c.RemoteAddr(), "error", err)
	}
	_ = c.Close()
	cancel()
	l.leave()
	writing.Wait()
	l.claims.Wait()
	g.exit(l)
}

func (g *Groups) enter(l *link) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed || !g.mu.served {
		return false
	}
	g.mu.links[l] = struct{}{}
	g.working.Add(1)
	return true
}

func (g *Groups) exit(l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.mu.links, l)
}

// read does what the other node says, until the link ends. Errors: always why.
func (l *link) read(ctx context.Context) error {
	r := bufio.NewReaderSize(l.conn, 16<<10)
	for began := false; ; began = true {
		if err := l.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		f, err := handout.Read(r)
		if err != nil {
			return err
		}
		hello, is := f.(*handout.Hello)
		if is == began || is && hello.Version != handout.Version {
			return fault.New(fault.Unsupported, "groups.ServeLink", "a link that does not begin as it is to")
		}
		l.do(ctx, f)
	}
}

func (l *link) do(ctx context.Context, f handout.Frame) {
	switch f := f.(type) {
	case *handout.Serves:
		l.groups.announce(l, f)
	case *handout.Claim:
		l.claim(ctx, f)
	case *handout.Unclaim:
		l.groups.unclaim(l, f)
	case *handout.Join:
		l.join(f)
	case *handout.Unsubscribe:
		if m := l.guest(f.Member); m != nil {
			l.groups.Unsubscribe(m.sub)
		}
	case *handout.Leave:
		if m := l.guest(f.Member); m != nil {
			m.leave()
		}
	case *handout.Done:
		if m := l.guest(f.Member); m != nil {
			m.done(f.IDs)
		}
	case *handout.Refuse:
		if m := l.guest(f.Member); m != nil {
			m.refuse(f.ID, f.Topic)
		}
	case *handout.Ping:
		l.put(&handout.Ping{})
	}
}

// claim answers a claim once it is stored.
func (l *link) claim(ctx context.Context, f *handout.Claim) {
	shard := int(f.Shard)
	if shard >= l.groups.opt.Sharded {
		l.put(&handout.Answer{Request: f.Request, Error: "there is no such shard"})
		return
	}
	one := l.groups.claim(name{f.Group.Share, f.Group.Filter}, shard)
	l.claims.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, storing)
		defer cancel()
		a := &handout.Answer{Request: f.Request}
		if err := l.groups.settle(ctx, one, shard); err != nil {
			a.Error = err.Error()
		}
		l.put(a)
	})
}

// join makes a member, or gives it other options.
func (l *link) join(f *handout.Join) {
	sub := &session.Subscription{Filter: names.Share(f.Group.Share, f.Group.Filter), QoS: f.QoS, ID: uint32(f.ID),
		RetainAsPublished: f.RetainAsPublished}
	m := l.guest(f.Member)
	var old *session.Subscription
	if m == nil {
		m = &guest{link: l, number: f.Member, window: int(f.Window), max: int(f.MaxPacket), given: make(map[uint64]given)}
	} else {
		old = m.sub
	}
	m.sub = sub
	member := l.groups.Join(sub, old, Joining{Link: m, Client: f.Client, Version: packet.Version(f.Version), Share: 1})
	l.mu.Lock()
	m.member = member
	l.guests[f.Member] = m
	full := m.full // what was said before it was known who said it woke nobody
	m.full = false
	l.mu.Unlock()
	if full {
		member.Roomy()
	}
}

func (l *link) guest(number uint64) *guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guests[number]
}

// leave has all members leave.
func (l *link) leave() {
	l.mu.Lock()
	l.refused, l.out = true, nil
	all := make([]*guest, 0, len(l.guests))
	for _, m := range l.guests {
		all = append(all, m)
	}
	l.mu.Unlock()
	for _, m := range all {
		m.leave()
	}
}

// over tells whether the link has ended.
func (l *link) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// put has a frame be written.
func (l *link) put(f handout.Frame) {
	l.mu.Lock()
	l.putLocked(f)
	l.mu.Unlock()
	l.flush()
}

func (l *link) putLocked(f handout.Frame) {
	if !l.refused {
		l.out = handout.Append(l.out, f)
	}
}

func (l *link) flush() {
	select {
	case l.wake <- struct{}{}:
	default: // a token is there
	}
}

// write writes what is put, until ctx ends or the link does.
func (l *link) write(ctx context.Context) {
	var spare []byte
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		b := l.take(spare)
		if _, err := l.conn.Write(b); err != nil {
			_ = l.conn.Close() // the reader sees it
			return
		}
		if spare = b[:0]; cap(spare) > maxQueued {
			spare = nil
		}
		for _, m := range l.fed() {
			m.Roomy()
		}
	}
}

// take is all that waits; spare is memory for what comes next.
func (l *link) take(spare []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.out
	l.out = spare
	return b
}

// fed is the members that can be given more since what waited was written.
func (l *link) fed() (all []*Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hungry {
		return nil
	}
	l.hungry = false
	for _, m := range l.guests {
		if m.full {
			m.full = false
			all = append(all, m.member)
		}
	}
	return all
}

// Deliver implements fanout.Offered.
func (m *guest) Deliver(r *fanout.Run) fanout.Verdict {
	l := m.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := r.Next(); d != nil; d = r.Next() {
		switch {
		case m.gone || l.refused:
			return fanout.Gone
		case len(l.out) >= maxQueued:
			l.hungry, m.full = true, true
			return fanout.Later
		case len(m.given) >= m.window, len(m.given) > 0 && m.held+len(d.Frame) > maxHeld:
			m.full = true
			return fanout.Later
		}
		l.last++
		m.given[l.last] = given{from: d.From, qos: d.QoS, size: len(d.Frame)}
		m.held += len(d.Frame)
		l.putLocked(&handout.Message{Member: m.number, ID: l.last, Payload: uint64(d.Payload), Publish: d.Frame})
		r.Take()
	}
	return fanout.Taken
}

// Flush implements fanout.Offered.
func (m *guest) Flush() { m.link.flush() }

// believed is how long a member is taken not to see a topic after it said so, and maxHidden for how many of them.
const believed, maxHidden = 10 * time.Second, 1000

// May implements Link. What the client may see is known where it is connected: until that says otherwise, it may.
func (m *guest) May(topic []byte, size int) bool {
	if size > m.max {
		return false
	}
	m.link.mu.Lock()
	defer m.link.mu.Unlock()
	until, is := m.hidden[string(topic)]
	return !is || time.Now().After(until)
}

// done takes messages off what the member has.
func (m *guest) done(ids []uint64) {
	var places []session.Place
	l := m.link
	l.mu.Lock()
	for _, id := range ids {
		if one, is := m.given[id]; is {
			m.drop(id, one)
			if one.qos > 0 {
				places = append(places, one.from)
			}
		}
	}
	roomy := m.rouse()
	l.mu.Unlock()
	if len(places) > 0 {
		m.member.Acknowledge(places...)
	}
	if roomy {
		m.member.Roomy()
	}
}

// rouse tells whether the member can be given messages again, which said Later. It needs the lock of the link, as drop
// does.
func (m *guest) rouse() bool {
	roomy := m.full && len(m.given) <= m.window/2 && m.held <= maxHeld/2
	m.full = m.full && !roomy
	return roomy
}

func (m *guest) drop(id uint64, one given) {
	delete(m.given, id)
	m.held -= one.size
}

// refuse gives a message to others that the member may not see.
func (m *guest) refuse(id uint64, topic string) {
	l := m.link
	l.mu.Lock()
	one, is := m.given[id]
	if is {
		m.drop(id, one)
		if len(m.hidden) >= maxHidden || m.hidden == nil {
			m.hidden = make(map[string]time.Time)
		}
		m.hidden[topic] = time.Now().Add(believed)
	}
	roomy := m.rouse()
	l.mu.Unlock()
	if is && one.qos > 0 {
		m.member.Refuse(one.from)
	}
	if roomy {
		m.member.Roomy()
	}
}

// leave ends the member.
func (m *guest) leave() {
	l := m.link
	l.mu.Lock()
	m.gone = true
	delete(l.guests, m.number)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(l.groups.ctx, storing)
	defer cancel()
	m.member.Leave(ctx)
	l.groups.Unsubscribe(m.sub)
}

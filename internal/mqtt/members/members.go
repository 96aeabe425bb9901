// Package members is the members of shared subscriptions whose sessions are on this node, where nodes share sessions:
// their groups are on the node that has the first shard (package groups), which may be this one, and is reached by a
// link (docs/design/0014).
//
//	m := members.New(members.Options{Dial: dial})
//	seats, err := roster.Open(ctx, roster.Options{Sharing: m, ...})
//	go m.Run(ctx)
//	one := m.Join(sub, nil, members.Joining{Link: link, ...})   // before the SUBACK
//	err = one.Settle(ctx)                                       // before the subscription is stored
//	one.Acknowledge(from)
//	one.Leave(ctx)                                              // the connection ended
//
// A link that ends is made anew. What members had by the one before goes to others: an acknowledgement of it means
// nothing any more.
//
// Goroutines: one makes the link and reads it, one writes it, one hands messages to members. Where no session has a
// shared subscription there is a link only for a moment, when a shard comes.
package members

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/handout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Options of Members. Dial is needed.
type Options struct {
	// Dial makes a link to the node with the groups, as soon as there is one. Errors: why it could not, until ctx ended.
	Dial func(ctx context.Context) (net.Conn, error)
	// Beat is how often a link says that it is there: some times in 30 s. Default 5 s.
	Beat time.Duration
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Members are all members of a node. It is the roster's Sharing.
type Members struct {
	opt    Options
	wanted chan struct{} // holds a token: there is something for a link
	served chan struct{} // holds a token: a member is in list

	mu struct {
		sync.Mutex
		shards  map[int]*shard
		at      map[*session.Subscription]place
		members map[uint64]*Member
		bySub   map[*session.Subscription]*Member
		last    uint64  // number of a member
		links   uint32  // that there were
		line    *line   // nil: there is none
		changed signals // closed when line changes
		list    []*Member
	}
}

// signals are closed to tell who waits.
type signals = chan struct{}

// shard is a shard that this node has: how many sessions there are subscribed to each group.
type shard struct {
	last   uint64 // see roster.Sharing
	serves bool
	groups map[handout.Name]int
}

// place is where a subscription counts.
type place struct {
	shard int
	group handout.Name
}

var _ roster.Sharing = (*Members)(nil)

// New makes members. Run must follow.
func New(opt Options) *Members {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Beat == 0 {
		opt.Beat = 5 * time.Second
	}
	m := &Members{opt: opt, wanted: make(chan struct{}, 1), served: make(chan struct{}, 1)}
	m.mu.shards, m.mu.at = make(map[int]*shard), make(map[*session.Subscription]place)
	m.mu.members, m.mu.bySub = make(map[uint64]*Member), make(map[*session.Subscription]*Member)
	m.mu.changed = make(signals)
	return m
}

// Len is the number of subscriptions of sessions here to groups, wherever those are.
func (m *Members) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mu.at)
}

// Restored implements roster.Sharing.
func (m *Members) Restored(number int, state *session.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for sub := range state.All {
		if sub.Shared() {
			m.countLocked(m.shardLocked(number), number, sub)
		}
	}
}

func (m *Members) shardLocked(number int) *shard {
	s := m.mu.shards[number]
	if s == nil {
		s = &shard{groups: make(map[handout.Name]int)}
		m.mu.shards[number] = s
	}
	return s
}

// countLocked counts a subscription in, unless it is.
func (m *Members) countLocked(s *shard, number int, sub *session.Subscription) {
	if _, is := m.mu.at[sub]; !is {
		group := nameOf(sub)
		m.mu.at[sub] = place{number, group}
		s.groups[group]++
	}
}

func nameOf(sub *session.Subscription) handout.Name {
	share, filter, _ := names.SplitShare(sub.Filter)
	return handout.Name{Share: share, Filter: filter}
}

// Serves implements roster.Sharing.
func (m *Members) Serves(number int, last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shardLocked(number)
	s.serves, s.last = true, last
	m.tellLocked(s.claims(number))
	m.want() // a group may have claims of the shard that are too many
}

// claims is what is told of a shard that is here.
func (s *shard) claims(number int) *handout.Serves {
	f := &handout.Serves{Shard: uint64(number), Last: s.last}
	for group := range s.groups {
		f.Groups = append(f.Groups, group)
	}
	return f
}

// Gone implements roster.Sharing.
func (m *Members) Gone(number int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.shards, number)
	for sub, at := range m.mu.at {
		if at.shard == number {
			delete(m.mu.at, sub)
		}
	}
}

// Ended implements roster.Sharing.
func (m *Members) Ended(state *session.State) {
	for sub := range state.All {
		if sub.Shared() {
			m.Unsubscribe(sub)
		}
	}
}

// Unsubscribe ends a subscription, once nothing of it is stored. What its member has in hand stays there until its
// connection ends [MQTT-3.10.4-3].
func (m *Members) Unsubscribe(sub *session.Subscription) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one := m.mu.bySub[sub]; one != nil {
		delete(m.mu.bySub, sub)
		m.tellLocked(&handout.Unsubscribe{Member: one.number})
		one.unsubscribed = true
	}
	at, is := m.mu.at[sub]
	if !is {
		return
	}
	delete(m.mu.at, sub)
	s := m.mu.shards[at.shard]
	if s.groups[at.group]--; s.groups[at.group] > 0 {
		return
	}
	delete(s.groups, at.group)
	if s.serves {
		m.tellLocked(&handout.Unclaim{Shard: uint64(at.shard), Group: at.group})
	}
}

// tellLocked tells the node with the groups, if there is a link; who makes one tells all.
func (m *Members) tellLocked(f handout.Frame) {
	if m.mu.line != nil {
		m.mu.line.put(f)
	}
}

// want asks for a link.
func (m *Members) want() {
	select {
	case m.wanted <- struct{}{}:
	default: // a token is there
	}
}

// Link is a member's way to its client. Its methods must not block.
type Link interface {
	fanout.Offered
	// May tells whether the client may see a message and takes one of its size.
	May(topic []byte, size int) bool
}

// Joining is a member with a connection.
type Joining struct {
	Link      Link
	Client    string // its identifier
	Shard     int    // of its session
	Version   packet.Version
	Share     uint16 // the number that the connection gives the subscription; not 0
	Window    int    // the most messages above QoS 0 that its client takes before it acknowledges some
	MaxPacket int    // the largest PUBLISH in bytes
}

// Join makes the client of a connection, which is subscribed, a member. old is the subscription that sub replaces, or
// nil: its member stays who it is. It does not wait.
func (m *Members) Join(sub, old *session.Subscription, j Joining) *Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, is := m.mu.at[old]; is { // the name is the same
		delete(m.mu.at, old)
		m.mu.at[sub] = at
	} else if s := m.mu.shards[j.Shard]; s != nil { // else its session moves away just now
		m.countLocked(s, j.Shard, sub)
	}
	one := m.mu.bySub[old]
	if one == nil {
		m.mu.last++
		one = &Member{members: m, number: m.mu.last, joining: j}
		m.mu.members[one.number] = one
	}
	delete(m.mu.bySub, old)
	m.mu.bySub[sub] = one
	one.sub = sub
	m.tellLocked(one.join())
	m.want() // the link may be about to end
	return one
}

// Member is a client of a group that has a connection. All but its first fields is guarded by the lock of Members.
type Member struct {
	members *Members
	number  uint64
	joining Joining

	sub          *session.Subscription
	unsubscribed bool
	waits        []*handout.Message // for room
	listed       bool               // in Members.list
}

// join is what is told of a member. It needs the lock.
func (m *Member) join() *handout.Join {
	return &handout.Join{
		Member: m.number, Group: nameOf(m.sub), Client: m.joining.Client, Version: byte(m.joining.Version),
		QoS: min(m.sub.QoS, MaxQoS), RetainAsPublished: m.sub.RetainAsPublished, ID: uint64(m.sub.ID),
		Window: uint64(max(min(m.joining.Window, mostGiven), 1)), MaxPacket: uint64(m.joining.MaxPacket),
	}
}

const (
	// MaxQoS is the highest QoS by which a group gives messages out. To have one with QoS 2 be a session's and its group's
	// no more takes one unit for both, and these are in shards of several nodes.
	MaxQoS = 1
	// mostGiven is the most messages that a member is given before it is done with some.
	mostGiven = 256
)

// Leave ends the member: its connection ended.
func (m *Member) Leave(context.Context) {
	all := m.members
	all.mu.Lock()
	defer all.mu.Unlock()
	m.waits = nil
	delete(all.mu.members, m.number)
	if all.mu.bySub[m.sub] == m {
		delete(all.mu.bySub, m.sub)
	}
	all.tellLocked(&handout.Leave{Member: m.number})
}

// Roomy tells that the client takes messages again, after its link said Later. It may be called from any goroutine.
func (m *Member) Roomy() {
	m.members.mu.Lock()
	defer m.members.mu.Unlock()
	if len(m.waits) > 0 {
		m.members.listLocked(m)
	}
}

// Acknowledge tells that the client has done with messages, or does not want them [MQTT-4.8.2-6].
func (m *Member) Acknowledge(from ...session.Place) {
	all := m.members
	all.mu.Lock()
	defer all.mu.Unlock()
	done := &handout.Done{Member: m.number}
	for _, at := range from {
		if at.Partition == all.mu.links { // else by a link of before: others have it
			done.IDs = append(done.IDs, uint64(at.Offset))
		}
	}
	if len(done.IDs) > 0 {
		all.tellLocked(done)
	}
}

// LetGo is of messages with QoS 2, of which there are none.
func (m *Member) LetGo(session.Place) bool { return false }

// Unclog follows LetGo.
func (m *Member) Unclog() {}

// Durable is for groups of this node's sessions only: others know since when they are kept.
func (m *Member) Durable(uint64, []session.Place) {}

// Settle returns when the group knows for good that a session of the shard is subscribed: it is kept from then on. It
// comes before the subscription is stored. Errors: Timeout when ctx ends; Fenced, the session moves away; what the node
// with the groups says.
func (m *Member) Settle(ctx context.Context) error {
	for {
		answer, over, changed, err := m.claim()
		if err != nil {
			return err
		}
		select {
		case err, is := <-answer:
			if is {
				return err
			}
		case <-over:
		case <-changed:
		case <-ctx.Done():
			return fault.New(fault.Timeout, "members.Settle", "the node with the groups of shared subscriptions is not there")
		}
	}
}

// claim asks for an answer. over is closed when none can come any more; where there is no link, changed is when there
// is one.
func (m *Member) claim() (answer <-chan error, over, changed <-chan struct{}, err error) {
	all := m.members
	all.mu.Lock()
	defer all.mu.Unlock()
	at, is := all.mu.at[m.sub]
	if !is {
		return nil, nil, nil, fault.New(fault.Fenced, "members.Settle", "%w", roster.ErrElsewhere)
	}
	l := all.mu.line
	if l == nil {
		return nil, nil, all.mu.changed, nil
	}
	all.mu.last++
	got := make(chan error, 1)
	l.answers[all.mu.last] = got
	l.put(&handout.Claim{Request: all.mu.last, Shard: uint64(at.shard), Group: at.group})
	return got, l.ended, nil, nil
}

// listLocked has messages that wait be handed to a member.
func (m *Members) listLocked(one *Member) {
	if !one.listed {
		one.listed = true
		m.mu.list = append(m.mu.list, one)
	}
	select {
	case m.served <- struct{}{}:
	default: // a token is there
	}
}

// Run keeps a link from when it is wanted on, and hands out what comes, until ctx ends.
func (m *Members) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	serving.Go(func() { m.serve(ctx) })
	defer serving.Wait()
	const pause = 200 * time.Millisecond
	again := time.NewTimer(pause)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-m.wanted:
		case <-ctx.Done():
			return nil
		}
		c, err := m.opt.Dial(ctx)
		idle := false
		if err != nil {
			m.opt.Logger.Debug("no link to the node with the groups of shared subscriptions", "error", err)
		} else {
			idle = m.keep(ctx, c)
		}
		if !idle {
			m.want()
		}
		again.Reset(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// serve hands messages to members, until ctx ends.
func (m *Members) serve(ctx context.Context) {
	var run fanout.Run
	for {
		select {
		case <-m.served:
		case <-ctx.Done():
			return
		}
		for _, one := range m.takeList() {
			for one.serve(&run) {
			}
		}
	}
}

func (m *Members) takeList() []*Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.mu.list
	m.mu.list = nil
	for _, one := range list {
		one.listed = false
	}
	return list
}

// mostAtOnce is how many messages a member is offered together.
const mostAtOnce = 64

// serve offers the client what waits. More tells that there is more that it may take.
func (m *Member) serve(run *fanout.Run) (more bool) {
	all := m.members
	all.mu.Lock()
	some, link := slices.Clone(m.waits[:min(len(m.waits), mostAtOnce)]), all.mu.links
	all.mu.Unlock()
	if len(some) == 0 {
		return false
	}
	var refused *handout.Refuse
	list := make([]*fanout.Delivery, 0, len(some))
	for _, f := range some {
		d := &fanout.Delivery{CatchUp: true} // it waits for room
		d.From = session.Place{Partition: link, Share: m.joining.Share, Offset: int64(f.ID)}
		if err := d.SetBytes(f.Publish, int(f.Payload)); err != nil || !m.joining.Link.May(d.Topic, len(d.Frame)) {
			refused = &handout.Refuse{Member: m.number, ID: f.ID, Topic: string(d.Topic)}
			break
		}
		list = append(list, d)
	}
	verdict, taken := fanout.Taken, 0
	if len(list) > 0 {
		verdict = m.joining.Link.Deliver(run.Offer(list...))
		taken = len(list) - len(run.Rest())
		m.joining.Link.Flush()
	}

	all.mu.Lock()
	defer all.mu.Unlock()
	if all.mu.links != link || len(m.waits) < taken { // the link has ended, or the member
		return false
	}
	done := &handout.Done{Member: m.number}
	for i, f := range some[:taken] {
		if list[i].QoS == 0 {
			done.IDs = append(done.IDs, f.ID)
		}
	}
	if len(done.IDs) > 0 {
		all.tellLocked(done)
	}
	if refused != nil && taken == len(list) {
		all.tellLocked(refused)
		taken++
	}
	if m.waits = m.waits[taken:]; verdict == fanout.Gone {
		m.waits = nil
	}
	return verdict == fanout.Taken && len(m.waits) > 0
}

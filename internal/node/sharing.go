package node

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/log/spool"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/tenure"
	"github.com/firthmq/firth/internal/peer"
)

// sharedSessions is what a node has to know that serves some shards of the sessions, while other gateways serve the
// others.
type sharedSessions struct {
	moved chan struct{} // holds a token: a shard has come or gone

	mu      sync.Mutex
	changed chan struct{}       // closed when somebody has other shards
	failed  map[int]bool        // that were lost by a write, or did not come: the group is asked first
	links   map[*handedOver]int // connections that other gateways serve, and their shards
	leaving bool                // all is let go of
}

// sharedRefresh is how often topics are looked for that other gateways have made for their devices: how long it takes
// at most until a subscriber here gets what is published there to a topic that is new.
const sharedRefresh = 2 * time.Second

// sharesSessions tells whether several gateways serve sessions at a time.
func (n *Node) sharesSessions() bool {
	return n.cfg.Log.Kafka.Gateways == sharedGateways && n.cfg.isGateway()
}

// share has this node take its place among gateways that share sessions, and returns when it is known who has which.
func (n *Node) share(ctx context.Context, options cluster.Options) (*cluster.Place, error) {
	shards, err := cluster.Partitions(ctx, options, roster.TopicName)
	if err != nil {
		return nil, err
	}
	if shards == 0 {
		shards = mqtt.DefaultShards
	}
	if shards > placement.MaxShards {
		return nil, fault.New(fault.Unsupported, "node", "%s has %d partitions: gateways share %d at most",
			roster.TopicName, shards, placement.MaxShards)
	}
	if err := n.openPeers(ctx); err != nil {
		return nil, err
	}
	s := n.standing
	s.shared = &sharedSessions{moved: make(chan struct{}, 1), changed: make(chan struct{}), failed: map[int]bool{},
		links: map[*handedOver]int{}}
	if err := n.takePlace(ctx, options, cluster.Sharing{Shards: shards, Yields: true}); err != nil {
		return nil, err
	}
	for {
		table := s.place.Table()
		if known, _ := table.Find(n.instanceName); known == s.self {
			return s.place, nil
		}
		select {
		case <-s.place.News():
		case err := <-s.place.Lost():
			return nil, err
		case <-ctx.Done():
			return nil, fault.New(fault.Closed, "node.Start", "ended before it had a place among the gateways: %w", ctx.Err())
		}
	}
}

// openShared opens a log that other gateways write, too.
func (n *Node) openShared(ctx context.Context, log *cluster.Cluster) error {
	if _, err := n.fs.List(spoolFolder); !fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "data", "the folder %s may hold messages of a gateway that served alone",
			spoolFolder).WithHint("begin once with %s: one, which sends them, and remove the folder", gatewaysKey)
	}
	// What another folder may still hold of sessions is old from now on: whichever gateway says so last.
	if err := spool.Serve(ctx, log, n.instanceName); err != nil && !fault.Is(err, fault.Fenced) {
		return err
	}
	n.keeper = frozen{log}
	return nil
}

// frozen is a log of which state that has one writer is read, and not written: other gateways have read it, too, and
// would not hear of a change.
type frozen struct{ *cluster.Cluster }

// isFrozen tells whether a topic holds such state: all of our own but those that go by shards, or that are followed.
func isFrozen(topic string) bool {
	switch topic {
	case roster.TopicName, hinge.RetainedTopic, access.TopicName, mqtt.BansTopic, authority.TopicName:
		return false
	}
	return strings.HasPrefix(topic, rule.InternalPrefix)
}

func errFrozen(topic string) error {
	return fault.New(fault.Unsupported, "log", "%s is not changed while gateways share sessions (%s: %s)", topic,
		gatewaysKey, sharedGateways).
		WithHint("stop all gateways, change it on one with %s: one, and begin them again", gatewaysKey)
}

// Append implements stream.Log.
func (f frozen) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	topics := f.Topics()
	for i := range u.Writes {
		if t := topics.Place(u.Writes[i].Partition).Topic; t != nil && isFrozen(t.Name) {
			return errFrozen(t.Name)
		}
	}
	return f.Cluster.Append(u, to, ticket)
}

// CreateTopic implements stream.Admin.
func (f frozen) CreateTopic(ctx context.Context, spec stream.TopicSpec) (*stream.Topic, error) {
	if isFrozen(spec.Name) {
		return nil, errFrozen(spec.Name)
	}
	return f.Cluster.CreateTopic(ctx, spec)
}

// sharding is how the device door serves some shards of the sessions; nil: it serves all.
func (n *Node) sharding() *mqtt.Sharding {
	if !n.sharesSessions() {
		return nil
	}
	return &mqtt.Sharding{Shards: n.standing.place.Shards, Moved: n.shardMoved, HandOver: n.handOver}
}

// sharedBans is how bans are known that other gateways change, too; nil: none does.
func (n *Node) sharedBans() *mqtt.SharedBans {
	if !n.sharesSessions() {
		return nil
	}
	return &mqtt.SharedBans{AcceptDamage: n.acceptsDamage(), Passed: n.clocks.passed}
}

// mostDelayed is how many messages may be delayed: none where gateways share sessions, for each would publish them.
func (n *Node) mostDelayed() int {
	if n.sharesSessions() {
		return orNone(0)
	}
	return orNone(n.cfg.Limits.Delayed)
}

// serveShards has the door serve the shards that the group gives this node, from now on, and the devices that other
// gateways hand over.
func (n *Node) serveShards(context.Context) error {
	if !n.sharesSessions() {
		return nil
	}
	if have, given := n.mqtt.Shards(), n.standing.place.Shards; have != given {
		return fault.New(fault.Invalid, "node", "%s has %d partitions, and gateways share %d", roster.TopicName, have, given).
			WithHint("stop all gateways, and begin them again")
	}
	for _, d := range n.cfg.doors() {
		way := n.ways[d.label()]
		if way == nil {
			continue
		}
		from := &opened{Listener: n.standing.peers.Opened(d.label()), node: n, door: d}
		n.opened("links to "+d.label(), n.run("links to "+d.label(), func(ctx context.Context) error {
			return way.ServeOpened(ctx, from)
		}))
	}
	links := n.standing.peers.Opened(mqtt.GroupsListener)
	n.opened("links of shared subscriptions", n.run("links of shared subscriptions", func(ctx context.Context) error {
		return n.mqtt.ServeGroups(ctx, links)
	}))
	stop := n.run("shards", n.followShards)
	n.opened("shards", func(ctx context.Context) error { return errors.Join(stop(ctx), n.leaveShards(ctx)) })
	return nil
}

// opened is the devices that other gateways hand over, whose certificates are looked at here.
type opened struct {
	net.Listener
	node *Node
	door door
}

// Accept implements net.Listener.
func (o *opened) Accept() (net.Conn, error) {
	for {
		n, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, err := o.carry(n)
		if err == nil {
			return c, nil
		}
		o.node.log.Warn("refused a device that another gateway has handed over", "listener", o.door.label(),
			"remote", n.RemoteAddr(), "error", err)
		_ = n.Close() // its gateway ends the connection
	}
}

func (o *opened) carry(c net.Conn) (net.Conn, error) {
	var told *secure.Told
	if c, ok := c.(*peer.Conn); ok {
		told = (*secure.Told)(c.TLS())
	}
	switch {
	case told == nil && !o.door.tls:
		return c, nil
	case told == nil || !o.door.tls:
		return nil, errors.New("one of the two gateways has TLS there, and the other one has not")
	}
	return o.node.tls.sources[sourceName(&o.door)].Carry(c, told)
}

// shardMoved is told by the door.
func (n *Node) shardMoved(shard int, serves bool, err error) {
	s := n.standing
	s.shared.mu.Lock()
	if s.shared.failed[shard] = err != nil; err == nil {
		delete(s.shared.failed, shard)
	}
	s.shared.mu.Unlock()
	if !serves {
		s.place.Release(shard)
	}
	s.shared.tell()
	select {
	case s.shared.moved <- struct{}{}:
	default: // a token is there
	}
}

// tell has those look again who wait for a shard.
func (s *sharedSessions) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// shardPause is when shards are looked at again that are on their way, or could not be had.
const shardPause = 200 * time.Millisecond

// followShards has the door gain and lose shards as the group says, until ctx ends or the place is lost.
func (n *Node) followShards(ctx context.Context) error {
	s := n.standing
	again := time.NewTimer(shardPause)
	defer again.Stop()
	for {
		if !n.settleShards(ctx) {
			again.Reset(shardPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.place.Lost():
			return err
		case <-s.place.News():
			s.shared.endLinks(s.place.Table())
			s.shared.tell()
		case <-s.shared.moved:
		case <-again.C:
		}
	}
}

// settleShards has the door gain what is this node's, and lose what is not. True: all is as it is to be.
func (n *Node) settleShards(ctx context.Context) (settled bool) {
	place := n.standing.place
	settled = true
	for _, shard := range place.Mine() {
		switch n.mqtt.ShardState(shard) {
		case tenure.Serving:
		case tenure.Absent:
			settled = false
			if !n.standing.shared.hasFailed(shard) || place.Has(ctx, shard) {
				n.mqtt.Gain(shard)
			}
		default:
			settled = false
		}
	}
	for _, shard := range place.Yielding() {
		settled = false
		if n.mqtt.ShardState(shard) == tenure.Absent {
			place.Release(shard)
		} else {
			n.mqtt.Lose(shard)
		}
	}
	return settled
}

func (s *sharedSessions) hasFailed(shard int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[shard]
}

// leaveShards has the door let go of all shards: devices are told to go, without their wills, and what is to be stored
// is, before the place is given to others.
func (n *Node) leaveShards(ctx context.Context) error {
	s := n.standing.shared
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	s.tell()
	for shard := range n.mqtt.Shards() {
		n.mqtt.Lose(shard)
	}
	again := time.NewTicker(shardPause)
	defer again.Stop()
	for shard := 0; shard < n.mqtt.Shards(); {
		if n.mqtt.ShardState(shard) == tenure.Absent {
			shard++
			continue
		}
		select {
		case <-s.moved:
		case <-again.C:
		case <-ctx.Done():
			return fault.New(fault.Timeout, "node.Close", "sessions were let go of without their last words: %w", ctx.Err())
		}
	}
	return nil
}

// handedOver is a link to the gateway that serves a device.
type handedOver struct {
	net.Conn
	shared *sharedSessions
	by     peer.Fingerprint // the gateway's
}

// Close implements net.Conn.
func (h *handedOver) Close() error {
	h.shared.mu.Lock()
	delete(h.shared.links, h)
	h.shared.mu.Unlock()
	return h.Conn.Close()
}

// endLinks ends the connections of devices whose shards another gateway has by now.
func (s *sharedSessions) endLinks(table placement.Table) {
	s.mu.Lock()
	var over []*handedOver
	for h, shard := range s.links {
		has, ok := table.Holder(shard)
		if shard == mqtt.AnyShard {
			ok = table.Knows(h.by)
			has.Fingerprint = h.by
		}
		if !ok || has.Fingerprint != h.by {
			over = append(over, h)
		}
	}
	s.mu.Unlock()
	for _, h := range over {
		_ = h.Close() // the device sees it
	}
}

// handOver opens a link to the gateway that has a shard, once there is one. See mqtt.Sharding.
func (n *Node) handOver(ctx context.Context, shard int, from mqtt.Origin) (net.Conn, error) {
	s := n.standing
	for {
		s.shared.mu.Lock()
		changed, leaving := s.shared.changed, s.shared.leaving
		s.shared.mu.Unlock()
		if n.mqtt.HasShard(shard) {
			return nil, nil
		}
		to, elsewhere := n.holder(shard)
		switch {
		case leaving:
			return nil, errors.New("this gateway ends")
		case elsewhere && from.Came:
			return nil, errors.New("two gateways do not agree who has it")
		case elsewhere:
			link, err := n.openLink(ctx, changed, shard, from, to)
			if err == nil {
				return link, nil
			}
			n.log.Debug("a device could not be handed over", "gateway", to.Name, "error", err)
		}
		timer := time.NewTimer(shardPause)
		select {
		case <-changed:
		case <-timer.C: // a gateway that ends is there until the group says otherwise
		case <-ctx.Done():
		}
		if timer.Stop(); ctx.Err() != nil {
			return nil, errors.New("no gateway has it now")
		}
	}
}

// holder is the other gateway that has a shard, or any; false: none has, or it is this one's.
func (n *Node) holder(shard int) (to placement.Node, elsewhere bool) {
	table := n.standing.place.Table()
	if shard != mqtt.AnyShard {
		to, ok := table.Holder(shard)
		return to, ok && to.Name != n.instanceName
	}
	if len(n.standing.place.Mine()) > 0 {
		return to, false
	}
	i := slices.IndexFunc(table.Owner, func(owner int) bool { return owner >= 0 })
	if i < 0 {
		return to, false
	}
	return table.Holder(i)
}

// openLink opens a link to a gateway, until somebody has other shards: a gateway that is gone may say nothing.
func (n *Node) openLink(
	ctx context.Context, changed <-chan struct{}, shard int, from mqtt.Origin, to placement.Node,
) (net.Conn, error) {
	s := n.standing
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := s.peers.HandOver(ctx, peer.Device{Door: from.Listener, Client: from.Client, TLS: (*peer.TLS)(from.TLS)},
		peer.Elsewhere(to.Address, to.Fingerprint))
	if err != nil {
		return nil, err
	}
	h := &handedOver{Conn: c, shared: s.shared, by: to.Fingerprint}
	s.shared.mu.Lock()
	s.shared.links[h] = shard
	s.shared.mu.Unlock()
	s.shared.endLinks(s.place.Table()) // it may have changed before the link was known
	return h, nil
}

// checkShared looks at what cannot be where gateways share sessions.
func (l *loader) checkShared() {
	c := l.config
	cannot := func(key, why string) {
		l.report(l.origin(key), "%s: cannot be with %s: %s: %s", key, gatewaysKey, sharedGateways, why)
	}
	if c.Audit.Enabled {
		cannot("audit.enabled", "the audit is one chain of records, which has one writer; set it to false")
	}
	if len(c.Bridges) > 0 {
		cannot("bridges", "each gateway would have the same ones")
	}
	if c.isSet("limits.delayed") && c.Limits.Delayed > 0 {
		cannot("limits.delayed", "each gateway would publish the same messages")
	}
}

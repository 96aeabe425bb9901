package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/placement"
)

// What gateways that share a cluster call how shards are given out: as a whole, to who serves then, or one by one. One
// that wants the cluster for itself knows only leaseProtocol. The cluster does not let two of these into one group.
const (
	placeProtocol   = "shards"
	sharingProtocol = "sharing"
)

// Sharing is how gateways share the sessions of a cluster.
type Sharing struct {
	// Shards is how many there are.
	Shards int
	// Yields has a shard that goes to another gateway stay this node's until Release: the other one has it only then.
	// Default: a shard is gone with the table that takes it away.
	Yields bool
}

// mostBeat is how long a place waits at most between two signs of life, by which it also learns that others came.
const mostBeat = time.Second

// Place is the place of this node among the gateways of a cluster: it is a member of LeaseGroup, tells the others how
// it is reached, and learns who has which shard. Its goroutine is the member.
type Place struct {
	opt    Options
	log    *slog.Logger
	member *member
	self   placement.Node
	Sharing
	news chan struct{} // holds one token: the table has changed
	look chan struct{} // holds one token: the group has something to say
	lost chan error

	ctx    context.Context //nolint:containedctx // of the member, who has no caller
	cancel context.CancelFunc
	done   sync.WaitGroup

	beating sync.Mutex // one request of the member at a time; over mu

	mu         sync.Mutex
	name       string // that the group gave
	generation int32
	revision   uint32
	joined     bool      // in the present generation, as far as is known
	began      time.Time // when it was first asked for; zero: it was had since
	table      placement.Table
	mine       []int
	yielding   []int // that are another's to have, and that this node has not let go of yet
	claimed    []int // when it last asked
	ended      error // why it has no place any more
}

// Join asks for a place among the gateways of a cluster, where shards are given out. It does not wait for it: News
// tells. Opt is that of the keeper, with its Instance. Errors: Invalid.
func Join(ctx context.Context, opt Options, self placement.Node, how Sharing) (*Place, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	m, err := newMember(opt)
	if err != nil {
		return nil, convert("cluster.Join", err)
	}
	p := &Place{opt: opt, log: opt.Logger, member: m, self: self, Sharing: how, news: make(chan struct{}, 1),
		look: make(chan struct{}, 1), lost: make(chan error, 1), began: time.Now()}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.done.Go(p.memberLoop)
	return p, nil
}

// Partitions asks a cluster how many partitions a topic has; 0: it is not there. Errors: Invalid, IO, Denied, Timeout.
func Partitions(ctx context.Context, opt Options, topic string) (int, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return 0, err
	}
	client, err := opt.client()
	if err != nil {
		return 0, convert("cluster.Partitions", err)
	}
	defer client.Close()
	req := kmsg.NewPtrMetadataRequest()
	one := kmsg.NewMetadataRequestTopic()
	one.Topic = &topic
	req.Topics = append(req.Topics, one)
	resp, err := req.RequestWith(ctx, client)
	if err == nil && len(resp.Topics) == 1 {
		if err = kerr.ErrorForCode(resp.Topics[0].ErrorCode); err == nil {
			return len(resp.Topics[0].Partitions), nil
		}
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	return 0, convert("cluster.Partitions", err)
}

// News holds a token when Table and Mine may have changed.
func (p *Place) News() <-chan struct{} { return p.news }

// Lost gives the error by which this node has lost its place for good, or a shard that it had.
func (p *Place) Lost() <-chan error { return p.lost }

// Table is who has which shard, by the last word of the group. It is not changed after.
func (p *Place) Table() placement.Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.table
}

// Mine are the shards of this node, in ascending order.
func (p *Place) Mine() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mine
}

// Yielding are the shards that Release is awaited for, in ascending order. They are not among Mine.
func (p *Place) Yielding() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.yielding
}

// Release says that this node has let go of a shard. When it has of all that it is to, the group gives them to others.
func (p *Place) Release(shard int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, is := slices.BinarySearch(p.yielding, shard)
	if !is {
		return
	}
	p.yielding = slices.Delete(slices.Clone(p.yielding), at, at+1)
	if len(p.yielding) == 0 {
		p.askAgainLocked()
		wake(p.look)
	}
}

// askAgainLocked has the member ask for its place again, as one that has something new to say.
func (p *Place) askAgainLocked() {
	p.joined = false
	p.revision++
}

// heldLocked are the shards that no other gateway may have yet.
func (p *Place) heldLocked() []int {
	held := slices.Concat(p.mine, p.yielding)
	slices.Sort(held)
	return slices.Compact(held)
}

// Close gives the place back, so that others need not wait until it runs out.
func (p *Place) Close() {
	p.cancel()
	p.done.Wait()
	p.leave()
	p.member.close()
}

// memberLoop is the member: it asks for a place, and gives signs of life, until Close or until the place is lost.
func (p *Place) memberLoop() {
	beat := min(p.opt.Takeover/5, mostBeat)
	told := false
	for try := 0; p.ctx.Err() == nil; {
		err := p.step(p.ctx)
		switch {
		case err == nil && p.settled():
			try, told = 0, false
			p.rest(beat) // the loop sees that it ended
			continue
		case err == nil || errors.Is(err, kerr.RebalanceInProgress):
			continue
		case p.isOver(err):
			return
		case !told && p.ctx.Err() == nil:
			told = true
			p.log.Warn("no word from the group of gateways: trying on", "group", LeaseGroup, "error", err)
		}
		try++
		_ = clock.Pause(p.ctx, max(lasting(try), beat/5))
	}
}

// Look has the member ask the group now what is new, rather than at its next sign of life: another one has left.
func (p *Place) Look() { wake(p.look) }

// rest waits until the next sign of life is due.
func (p *Place) rest(beat time.Duration) {
	due := time.NewTimer(beat)
	defer due.Stop()
	select {
	case <-due.C:
	case <-p.look:
	case <-p.ctx.Done():
	}
}

func (p *Place) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.joined
}

// isOver takes in an answer that is no place, and tells whether the member ends by it.
func (p *Place) isOver(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		p.ended = fault.New(fault.Fenced, "cluster", "another process has taken the place of this node: %w", err)
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		p.ended = fault.New(fault.Exists, "cluster", "gateways with another way to share it, or the only one, serve this "+
			"cluster: %w", err).
			WithHint("all gateways of a cluster need the same log.kafka.gateways")
	case !p.began.IsZero() && (time.Since(p.began) > p.opt.Patience || !isLost(err) && !mayPass(err)):
		p.ended = convert("cluster.Join", err)
	case !isLost(err):
		return false
	case len(p.heldLocked()) > 0:
		p.ended = fault.New(fault.Fenced, "cluster", "this node was not heard of for %s, another may serve: %w",
			p.opt.Takeover, err)
	default: // it had nothing, and asks again
		p.name, p.joined = "", false
		return false
	}
	p.mine, p.yielding = nil, nil
	p.lost <- p.ended
	wake(p.news)
	return true
}

// step gives a sign of life, or asks for a place where there is none.
func (p *Place) step(ctx context.Context) error {
	p.beating.Lock()
	defer p.beating.Unlock()
	p.mu.Lock()
	joined, ended := p.joined, p.ended
	p.mu.Unlock()
	switch {
	case ended != nil:
		return ended
	case !joined:
		return p.join(ctx)
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = LeaseGroup, p.name, p.generation, &p.opt.Instance
	resp, err := req.RequestWith(ctx, p.member)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.RebalanceInProgress) {
		p.mu.Lock()
		p.joined = false
		p.mu.Unlock()
	}
	return err
}

// join asks for a place, waits until all others have, and takes in who has what.
func (p *Place) join(ctx context.Context) error {
	resp, err := p.ask(ctx)
	if errors.Is(err, kerr.MemberIDRequired) {
		p.setMember(resp.MemberID, p.generation)
		resp, err = p.ask(ctx)
	}
	if err != nil {
		return err
	}
	p.setMember(resp.MemberID, resp.Generation)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = LeaseGroup, p.name, p.generation, &p.opt.Instance
	req.ProtocolType, req.Protocol = new(leaseProtocolType), new(p.protocol())
	if resp.LeaderID == resp.MemberID && !resp.SkipAssignment {
		p.assign(resp, req)
	}
	given, err := req.RequestWith(ctx, p.member)
	if err == nil {
		err = kerr.ErrorForCode(given.ErrorCode)
	}
	if err != nil {
		return err
	}
	table, err := placement.ParseTable(given.MemberAssignment)
	if err != nil {
		return err
	}
	return p.take(table)
}

func (p *Place) setMember(name string, generation int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.generation = name, generation
}

func (p *Place) ask(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	p.mu.Lock()
	p.claimed = p.heldLocked()
	claim := placement.Claim{Node: p.self, Revision: p.revision, Generation: p.generation, Shards: p.claimed}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.InstanceID = LeaseGroup, p.name, &p.opt.Instance
	p.mu.Unlock()
	req.SessionTimeoutMillis = int32(p.opt.Takeover.Milliseconds())
	req.RebalanceTimeoutMillis = req.SessionTimeoutMillis
	req.ProtocolType = leaseProtocolType
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = p.protocol(), claim.AppendTo(nil)
	req.Protocols = append(req.Protocols, protocol)
	return p.member.join(ctx, req)
}

// protocol is what this gateway and others like it call how shards are given out.
func (p *Place) protocol() string {
	if p.Yields {
		return sharingProtocol
	}
	return placeProtocol
}

// assign is for the leader of the group: it gives out the shards. Who cannot be understood gets none, and learns who
// has them.
func (p *Place) assign(resp *kmsg.JoinGroupResponse, req *kmsg.SyncGroupRequest) {
	var claims []placement.Claim
	for _, m := range resp.Members {
		c, err := placement.ParseClaim(m.ProtocolMetadata)
		if err != nil {
			p.log.Error("a gateway speaks another version: it gets no sessions", "member", m.MemberID, "error", err)
			continue
		}
		claims = append(claims, c)
	}
	table := placement.Assign(p.Shards, claims)
	for _, m := range resp.Members {
		one := kmsg.NewSyncGroupRequestGroupAssignment()
		one.MemberID, one.MemberAssignment = m.MemberID, table.AppendTo(nil)
		req.GroupAssignment = append(req.GroupAssignment, one)
	}
}

// take takes in who has what. Whose address the others do not have right, or who has claimed a shard that it has not
// any more, asks again, so that the group gives out anew.
func (p *Place) take(table placement.Table) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := table.Of(p.self.Name)
	gained, lost := placement.Changes(p.mine, now)
	if p.Yields {
		p.yielding, _ = placement.Changes(now, p.heldLocked())
	}
	p.table, p.mine, p.began = table, now, time.Time{}
	known, _ := table.Find(p.self.Name)
	_, gone := placement.Changes(p.claimed, p.heldLocked())
	if p.joined = known == p.self && len(gone) == 0; !p.joined {
		p.askAgainLocked()
	}
	p.log.Info("the group of gateways has given out the sessions", "nodes", len(table.Nodes), "shards", len(p.mine),
		"gained", len(gained), "lost", len(lost))
	wake(p.news)
	return nil
}

// has asks the cluster whether this node still has the shards that it had. Without an answer it has not.
func (p *Place) has(ctx context.Context) bool {
	before := p.Mine()
	return len(before) > 0 && p.asked(ctx, func(now []int) bool {
		_, lost := placement.Changes(before, now)
		return len(lost) == 0
	})
}

// Has asks the cluster whether this node has a shard, or is to let go of it. Without an answer it has not.
func (p *Place) Has(ctx context.Context, shard int) bool {
	return p.asked(ctx, func(now []int) bool { return slices.Contains(now, shard) })
}

// asked asks the cluster for a word, and has what this node holds by that judged. Without one it is false.
func (p *Place) asked(ctx context.Context, judge func(held []int) bool) bool {
	for try := 0; ; try++ {
		err := p.step(ctx)
		p.mu.Lock()
		settled, held := p.joined, p.heldLocked()
		p.mu.Unlock()
		if err == nil && settled {
			return judge(held)
		}
		if err != nil && (isLost(err) || fault.Is(err, fault.Fenced)) || clock.Pause(ctx, lasting(try)) != nil {
			return false
		}
	}
}

// gone is why there is no place any more; nil: there is one, or none was asked for.
func (p *Place) gone() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// yields tells whether gateways share shards one by one.
func (p *Place) yields() bool { return p != nil && p.Yields }

// isUsed tells whether a transactional id is that of another gateway in the group, or of a shard that one has. Where
// all is one shard, who has it is the only one that writes.
func (p *Place) isUsed(id, shardPrefix string) bool {
	if p == nil || p.Shards == 1 && !p.Yields {
		return false
	}
	table := p.Table()
	if name, ok := strings.CutPrefix(id, unitsPrefix); ok {
		_, there := table.Find(name)
		return there && name != p.self.Name
	}
	shard, ok := shardOf(id, shardPrefix)
	has, there := table.Holder(shard)
	return ok && there && has.Name != p.self.Name
}

// shardOf is the shard of a transactional id; not ok: it is that of something else.
func shardOf(id, shardPrefix string) (shard int, ok bool) {
	number, ok := strings.CutPrefix(id, shardPrefix)
	if !ok || shardPrefix == "" {
		return 0, false
	}
	shard, err := strconv.Atoi(number)
	return shard, err == nil
}

// leave gives the place back.
func (p *Place) leave() {
	p.mu.Lock()
	name, ended := p.name, p.ended
	p.mu.Unlock()
	if name == "" || ended != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pulseWait)
	defer cancel()
	if err := leaveGroup(ctx, p.member, name, p.opt.Instance); err != nil {
		p.log.Info("the place could not be given back: others wait until it runs out", "error", err)
	}
}

// leaveGroup takes a member out of the group.
func leaveGroup(ctx context.Context, m *member, name, instance string) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = LeaseGroup, name // by its name up to version 2, then in a list
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID, one.InstanceID = name, &instance
	req.Members = append(req.Members, one)
	resp, err := req.RequestWith(ctx, m)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err == nil {
		for _, m := range resp.Members {
			err = errors.Join(err, kerr.ErrorForCode(m.ErrorCode))
		}
	}
	return err
}

package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// The lease is membership in a consumer group of one: the cluster itself says who serves it, and forgets a node that is
// not heard of for Options.Takeover. A node that comes back under its own name (group.instance.id) takes its own place
// at once. What the one before has left under way is fenced besides, by the transactional ids of the shards.

// LeaseGroup is the consumer group whose only member serves the cluster.
const LeaseGroup = "firth-gateways"

const (
	leaseProtocolType = "firth"
	leaseProtocol     = "one"
	idPrefix          = "firth-" // of transactional ids
	unitsPrefix       = idPrefix + "units-"
)

// shardID is the transactional id of a partition.
func shardID(topic record.UUID, index string) string { return idPrefix + topic.String() + "-" + index }

type lease struct {
	*member
	sync.Mutex // one sign of life at a time

	name       string // that the group gave
	generation int32
}

// takeLease makes this node the one that serves the cluster. One that serves it may be dead: it is waited for until
// the cluster would have forgotten it. Errors: Exists; IO, Denied, Timeout.
func (c *Cluster) takeLease(ctx context.Context) error {
	most := c.opt.Takeover + c.opt.Takeover/2
	deadline := time.Now().Add(most)
	told := false
	for try := 0; ; try++ {
		var other string
		err := c.insist(ctx, func(ctx context.Context) (err error) {
			if other, err = c.leaseHolder(ctx); err == nil && other == "" {
				other, err = c.join(ctx)
			}
			return err
		})
		if err != nil || other == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Exists, "cluster.Open", "another node serves this cluster: %s", other).
				WithHint("one gateway serves a cluster as yet: stop the other one first")
		}
		if !told {
			told = true
			c.log.Warn("another node serves this cluster: waiting, in case it has died", "node", other, "at most", most)
		}
		if err := clock.Pause(ctx, lasting(try)); err != nil {
			return err
		}
	}
}

// leaseHolder is who has the lease, for people; "": nobody, or this node before its restart.
func (c *Cluster) leaseHolder(ctx context.Context) (string, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{LeaseGroup}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return "", err
	}
	for i := range resp.Groups {
		g := &resp.Groups[i]
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return "", err
		}
		for _, m := range g.Members {
			if m.InstanceID == nil || *m.InstanceID != c.opt.Instance {
				return m.ClientID + " at " + strings.TrimPrefix(m.ClientHost, "/"), nil
			}
		}
	}
	return "", nil
}

// join becomes the member of the group, or tells which other one was faster.
func (c *Cluster) join(ctx context.Context) (other string, err error) {
	if c.lease == nil {
		m, err := newMember(c.opt)
		if err != nil {
			return "", err
		}
		c.lease = &lease{member: m}
	}
	l := c.lease
	l.name = ""
	resp, err := c.joinOnce(ctx, l)
	if errors.Is(err, kerr.MemberIDRequired) {
		l.name = resp.MemberID
		resp, err = c.joinOnce(ctx, l)
	}
	if err != nil {
		return "", err
	}
	l.name, l.generation = resp.MemberID, resp.Generation
	if resp.LeaderID != resp.MemberID { // or it is this node under the name of its last start
		if other, err = c.leaseHolder(ctx); err != nil || other != "" {
			c.leave()
			return other, err
		}
	}
	return "", c.sync(ctx, l)
}

func (c *Cluster) joinOnce(ctx context.Context, l *lease) (*kmsg.JoinGroupResponse, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.InstanceID = LeaseGroup, l.name, &c.opt.Instance
	req.SessionTimeoutMillis = int32(c.opt.Takeover.Milliseconds())
	req.RebalanceTimeoutMillis = req.SessionTimeoutMillis
	req.ProtocolType = leaseProtocolType
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = leaseProtocol
	req.Protocols = append(req.Protocols, p)
	return l.join(ctx, req)
}

func (c *Cluster) sync(ctx context.Context, l *lease) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = LeaseGroup, l.name, l.generation, &c.opt.Instance
	req.ProtocolType, req.Protocol = new(leaseProtocolType), new(leaseProtocol)
	one := kmsg.NewSyncGroupRequestGroupAssignment()
	one.MemberID = l.name
	req.GroupAssignment = append(req.GroupAssignment, one)
	resp, err := req.RequestWith(ctx, l.member)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	return err
}

// holdLoop is the holder: it gives signs of life until the keeper closes, or another node has the lease.
func (c *Cluster) holdLoop() {
	const beats = 5
	for clock.Pause(c.ctx, c.opt.Takeover/beats) == nil {
		err := c.beat(c.ctx)
		if !isLost(err) {
			continue // without an answer nobody else has got it from the same cluster
		}
		lost := fault.New(fault.Fenced, "cluster", "this node was not heard of for %s, another may serve the cluster: %w",
			c.opt.Takeover, err)
		c.health.Lock()
		c.health.lost = lost
		c.health.Unlock()
		c.usurped <- lost
		return
	}
}

// retake takes the id of a shard anew that the cluster has taken from this node by itself, as it does when a
// transaction was open for too long. While this node has the lease, the shard is its own. The lease is asked for again
// when the id is there: another who has got both in between is seen then, and takes his shard back in the same way.
func (c *Cluster) retake(ctx context.Context, l *lane) bool {
	if c.opt.Instance == "" || !c.hasLease(ctx, l) {
		return false
	}
	by := &l.transactional
	rival := by.rival
	by.rival, by.given = nil, false
	if by.take(ctx) != nil || c.queue.lost(l) != nil || !c.hasLease(ctx, l) {
		by.rival = rival
		return false
	}
	c.log.Warn("the cluster has ended a transaction that was open for too long: it is done again", "id", by.name)
	return true
}

// hasLease asks the cluster whether this node still has it, or what it needs for a lane where shards are shared: the
// shard, or for units without an owner, whose id is that of the node, its place. Without an answer it has not. What is
// owned and is no shard the group gives to nobody: who has taken it last has it.
func (c *Cluster) hasLease(ctx context.Context, l *lane) bool {
	if p := c.opt.Place; p.yields() {
		shard, given := shardOf(l.transactional.name, c.shardPrefix())
		if l.transactional.owned && !given {
			return false
		}
		return p.asked(ctx, func(held []int) bool { return !given || slices.Contains(held, shard) })
	} else if p != nil {
		return p.has(ctx)
	}
	for try := 0; ; try++ {
		err := c.beat(ctx)
		if err == nil {
			return true
		}
		if isLost(err) || clock.Pause(ctx, lasting(try)) != nil {
			return false
		}
	}
}

// beat is a sign of life.
func (c *Cluster) beat(ctx context.Context) error {
	c.lease.Lock()
	defer c.lease.Unlock()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = LeaseGroup, c.lease.name, c.lease.generation,
		&c.opt.Instance
	resp, err := req.RequestWith(ctx, c.lease.member)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if !errors.Is(err, kerr.RebalanceInProgress) {
		return err
	}
	joined, err := c.joinOnce(ctx, c.lease) // somebody has asked for a place: who was first keeps his
	if err != nil {
		return err
	}
	c.lease.generation = joined.Generation
	return c.sync(ctx, c.lease)
}

// Lost gives the error by which another node has taken the place of this one; the keeper should be closed then. Where
// there is a Place, that one tells.
func (c *Cluster) Lost() <-chan error { return c.usurped }

// leave gives the lease back, so that the next node has not to wait.
func (c *Cluster) leave() {
	if c.lease == nil {
		return
	}
	defer func() {
		c.lease.close()
		c.lease = nil
	}()
	if c.lease.name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pulseWait)
	defer cancel()
	if err := leaveGroup(ctx, c.lease.member, c.lease.name, c.opt.Instance); err != nil {
		c.log.Info("the lease could not be given back: the next node waits until it runs out", "error", err)
	}
}

// endLeftovers ends the transactions that the node before has left open, so that all that was acknowledged can be read.
// Those of other gateways that are there, and of their shards, are theirs.
// Errors: those of InitProducerID.
func (c *Cluster) endLeftovers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Patience)
	defer cancel()
	if err := c.queue.anybody.transactional.take(ctx); err != nil {
		return err
	}
	req := kmsg.NewPtrListTransactionsRequest()
	req.StateFilters = []string{"Ongoing", "PrepareCommit", "PrepareAbort"}
	for _, shard := range c.client.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.ListTransactionsResponse)
		if shard.Err != nil || !ok { // before Apache Kafka 3.0: those of shards end with their Own
			c.log.Info("open transactions cannot be listed", "broker", shard.Meta.NodeID, "error", shard.Err)
			continue
		}
		for _, t := range resp.TransactionStates {
			if !strings.HasPrefix(t.TransactionalID, idPrefix) || t.TransactionalID == c.queue.anybody.transactional.name ||
				c.opt.Place.isUsed(t.TransactionalID, c.shardPrefix()) {
				continue
			}
			c.log.Info("ending a transaction that was left open", "id", t.TransactionalID)
			p := producer{client: c.client, name: t.TransactionalID, timeout: c.opt.TransactionTimeout}
			if err := p.take(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// shardPrefix is what the transactional ids of shards begin with; "": there are none.
func (c *Cluster) shardPrefix() string {
	if t := c.Topics().ByName(c.opt.Shards); t != nil {
		return shardID(t.ID, "")
	}
	return ""
}

// isLost tells whether an answer says that the lease is another's, or may be.
func isLost(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) ||
		errors.Is(err, kerr.FencedInstanceID)
}

package mqtt

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/firthmq/firth/internal/mqtt/groups"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Where the groups of shared subscriptions are: here, for as long as this node has the first shard of the sessions. A
// node that has all sessions always has that one.

// besides makes the groups, each time that the first shard comes.
func (d *Door) besides() func(roster.Marks) roster.Beside {
	opt := groups.Options{
		Fanout: d.fanout, ByKey: d.opt.SharedByKey, QoS0: d.opt.QueueQoS0, Logger: d.opt.Logger,
		Metrics: groups.NewMetrics(d.opt.Metrics, d.groups.Load),
	}
	return func(m roster.Marks) roster.Beside {
		with := opt
		if d.members != nil {
			with.Sharded = d.seats.Shards()
		}
		g := groups.New(with, m)
		d.groups.Store(g)
		return ownGroups{g, d}
	}
}

// ownGroups are the groups while they are here.
type ownGroups struct {
	*groups.Groups
	door *Door
}

// End implements roster.Beside.
func (o ownGroups) End() {
	o.Groups.End()
	o.door.groups.CompareAndSwap(o.Groups, nil)
}

// runGroups ends the groups that are here when ctx does.
func (d *Door) runGroups(ctx context.Context) error {
	<-ctx.Done()
	if g := d.groups.Load(); g != nil {
		g.End()
	}
	return nil
}

// GroupsListener is the name by which nodes link to the one with the groups: no listener has it.
const GroupsListener = "$share"

// nobody is whose connection a link is.
var nobody = net.TCPAddr{IP: net.IPv4zero}

// dialGroups makes a link to the node with the groups, which may be this one.
func (d *Door) dialGroups(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opt.ConnectTimeout)
	defer cancel()
	if to := d.opt.Sharding.HandOver; to != nil && !d.HasShard(0) {
		if c, err := to(ctx, 0, Origin{Listener: GroupsListener, Client: &nobody}); err != nil || c != nil {
			return c, err
		}
	}
	g := d.groups.Load()
	if g == nil || !d.HasShard(0) {
		return nil, errors.New("no node has the groups now")
	}
	here, there := net.Pipe()
	go g.ServeLink(there)
	return here, nil
}

// ServeGroups serves the links of nodes whose clients are members of groups that are here, until l ends, which ctx
// does, too.
func (d *Door) ServeGroups(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		serving.Go(func() { d.serveGroups(ctx, c) })
	}
}

func (d *Door) serveGroups(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if g := d.groups.Load(); g != nil {
		g.ServeLink(c)
		return
	}
	_ = c.Close() // it comes again
}

// unshare ends a shared subscription.
func (d *Door) unshare(sub *session.Subscription) {
	if d.members != nil {
		d.members.Unsubscribe(sub)
	} else {
		d.groups.Load().Unsubscribe(sub)
	}
}

// sharedSubscriptions is how many shared subscriptions sessions here have.
func (d *Door) sharedSubscriptions() int {
	if d.members != nil {
		return d.members.Len()
	}
	return d.groups.Load().Subscriptions()
}

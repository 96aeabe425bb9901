package mqtt

import (
	"cmp"
	"context"
	"errors"
	"net"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/members"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/tenure"
	"github.com/firthmq/firth/internal/names"
)

// Sharding is of a door that serves the sessions of some shards, while other nodes serve the others. It begins without
// any. The groups of shared subscriptions are where the first shard is.
type Sharding struct {
	// Shards is how many there are, of all nodes together, in a log that has no sessions yet. A log that has keeps its
	// number. Default 64.
	Shards int
	// Moved is told when a shard has come, and when it is gone, with the reason if it was not Lose. Default: nobody is.
	Moved func(shard int, serves bool, err error)
	// Elsewhere is the server of a client whose session is on another node, as MQTT 5 clients are told it (a Server
	// Reference, section 4.11); "": it is not known. Default: it never is.
	Elsewhere func(clientID string) (server string)
	// HandOver opens a connection to the node that has a shard, or AnyShard, for a client whose CONNECT asks for it, and
	// which is judged there: the CONNECT and what follows are written to it, and what is read goes to the client. It may
	// wait, for as long as ctx says, until some node has the shard; nil without an error: this one has it by now. Default:
	// such clients are refused.
	HandOver func(ctx context.Context, shard int, from Origin) (net.Conn, error)
}

// DefaultShards is how many shards sessions are made in where nodes share them.
const DefaultShards = 64

// share has a roster share sessions, if there is a Sharding.
func (d *Door) share(to *roster.Options) {
	if s := d.opt.Sharding; s != nil {
		d.members = members.New(members.Options{Dial: d.dialGroups, Logger: d.opt.Logger})
		to.Sharing, to.Sharded, to.Moved, to.Shards = d.members, true, s.Moved, cmp.Or(s.Shards, DefaultShards)
	}
}

// Gain has the sessions of a shard be served here: soon, as Sharding.Moved tells. See roster.Gain.
func (d *Door) Gain(shard int) { d.seats.Gain(shard) }

// Lose has the sessions of a shard be served here no more: their connections end, without their wills. See roster.Lose.
func (d *Door) Lose(shard int) { d.seats.Lose(shard) }

// Shards is the number of shards, of all nodes together.
func (d *Door) Shards() int { return d.seats.Shards() }

// ShardOf is the shard of a client identifier.
func (d *Door) ShardOf(clientID string) int { return d.seats.ShardOf(clientID) }

// ShardState is how far this door is with a shard.
func (d *Door) ShardState(shard int) tenure.State { return d.seats.State(shard) }

// elsewhere is what a client is told whose session is on another node: where to go, if that is known, or that this
// server has nothing for it now.
func (d *Door) elsewhere(clientID string, known, unknown packet.ReasonCode) *packet.Error {
	e := &packet.Error{Reason: unknown, Detail: roster.ErrElsewhere.Error()}
	if s := d.opt.Sharding; s != nil && s.Elsewhere != nil {
		if e.Server = s.Elsewhere(clientID); e.Server != "" {
			e.Reason = known
		}
	}
	return e
}

// refusal is what a client is told that gets no session.
func (d *Door) refusal(clientID string, err error) error {
	if errors.Is(err, roster.ErrElsewhere) || d.opt.Sharding != nil && fault.Is(err, fault.Fenced) {
		return d.elsewhere(clientID, packet.UseAnotherServer, packet.ServerUnavailable)
	}
	return &packet.Error{Reason: connackReason(err), Detail: err.Error()}
}

// moved ends the connection because its session is another node's. Without a server to go to, a client is told that
// this one shuts down: then it comes again by the address that it knows.
func (l *link) moved() {
	cause := l.door.elsewhere(l.principal.ClientID, packet.ServerMoved, packet.ServerShuttingDown)
	l.close(cause.Reason, cause)
	l.end()
	l.driver.disconnect(packet.ServerMoved)
}

// referTo names the server that a client is to use, if the cause knows it.
func referTo(cause error, props *packet.Properties) (known bool) {
	e, ok := errors.AsType[*packet.Error](cause)
	if known = ok && e.Server != ""; known {
		props.SetServerReference([]byte(e.Server))
	}
	return known
}

// isShared tells whether a filter is that of a shared subscription.
func isShared(filter []byte) bool {
	_, _, shared := names.SplitShare(string(filter))
	return shared
}

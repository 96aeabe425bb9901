package mqtt

import (
	"context"
	"errors"
	"net"

	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// A client whose session is on another node. Which node that is stands in its CONNECT, so that this one has to read it;
// then the connection is handed over: the CONNECT and all that follows goes to the other node as it is, and what that
// one says to the client. It is the other node that judges who the client is.

// AnyShard is no shard in particular: of a client that leaves its identifier to the server.
const AnyShard = -1

// Origin is a connection that is to be handed over.
type Origin struct {
	Listener string       // by which it came
	Client   net.Addr     // whose it is
	TLS      *secure.Told // what its TLS told; nil: it speaks none
	Came     bool         // another node has handed it over to this one
}

// crossing is what a connection has of that its door shares sessions with other nodes.
type crossing struct {
	told *secure.Told
	came bool     // another node has handed it over
	link net.Conn // to the node that serves it; nil: this one does
}

// newCrossing is for a connection of a door; nil: that shares no sessions.
func (d *Door) newCrossing(n net.Conn) *crossing {
	if d.opt.Sharding == nil {
		return nil
	}
	x := &crossing{}
	if s := secureConn(n); s != nil {
		x.told = s.Told()
	}
	return x
}

// errHandedOver is that another node serves the client from its CONNECT on.
var errHandedOver = errors.New("the session is on another node, which goes on")

// handOver hands the connection over, if the session of its CONNECT is on another node. Errors: errHandedOver when it
// has; why it could not.
func (c *conn) handOver(hello *packet.Connect, frame []byte) error {
	d := c.door
	if c.crossing == nil || d.opt.Sharding.HandOver == nil || c.listener.opt.Inside {
		return nil
	}
	shard := AnyShard
	if len(hello.ClientID) > 0 {
		shard = d.seats.ShardOf(string(hello.ClientID))
	}
	if d.HasShard(shard) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.ConnectTimeout)
	defer cancel()
	from := Origin{Listener: c.listener.opt.Name, Client: c.wire.from(), TLS: c.crossing.told, Came: c.crossing.came}
	link, err := d.opt.Sharding.HandOver(ctx, shard, from)
	if err == nil && link != nil {
		_, err = link.Write(frame)
	}
	switch {
	case err != nil:
		if link != nil {
			_ = link.Close()
		}
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: "the session is on another node: " + err.Error()}
	case link == nil:
		return nil // it has come
	}
	c.known() // the other node counts it among its strangers
	c.setTimeout(0)
	c.crossing.told, c.crossing.link = nil, link
	go c.carryBack(link)
	return errHandedOver
}

// HasShard tells whether the sessions of a shard, or of any, are served here.
func (d *Door) HasShard(shard int) bool { return d.seats.Has(shard) }

// isElsewhere tells whether another node serves the client.
func (c *conn) isElsewhere() bool { return c.crossing != nil && c.crossing.link != nil }

// carry carries what the client says to the node that serves it. It may wait for that one.
func (c *conn) carry(b []byte, inPoller bool) (used int, err error) {
	if inPoller {
		return 0, errBlocks
	}
	if _, err := c.crossing.link.Write(b); err != nil {
		return len(b), errEnded
	}
	return len(b), nil
}

// carryBack carries what the other node says to the client, until one of them ends.
func (c *conn) carryBack(link net.Conn) {
	defer c.rescue()
	lent := c.door.buffers.take(bufferBytes)
	defer c.door.buffers.give(lent)
	b := lent.b[:cap(lent.b)]
	for {
		n, err := link.Read(b)
		if n > 0 {
			c.wire.put(func(out []byte) []byte { return append(out, b[:n]...) })
		}
		if err != nil || !c.wire.awaitRoom(minDeaf) {
			c.disconnect(packet.Success) // what the other node had to say is on its way
			return
		}
	}
}

// endCrossing ends the link to another node, if there is one.
func (c *conn) endCrossing() {
	if c.isElsewhere() {
		_ = c.crossing.link.Close() // the other node sees it
	}
}

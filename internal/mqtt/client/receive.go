package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// input is the read side: bytes [r, w) of buf are read and not yet handled.
type input struct {
	buf  []byte
	r, w int
	max  int // largest packet, in bytes
	dec  packet.Decoder
}

// frame is the next packet that is there, or nil.
func (in *input) frame() ([]byte, error) {
	n, err := packet.Frame(in.buf[in.r:in.w], in.max)
	if err != nil || n == 0 {
		return nil, err
	}
	in.r += n
	return in.buf[in.r-n : in.r], nil
}

// fill reads more. It makes room first: for the packet that has begun, if its length is known.
func (in *input) fill(conn net.Conn) error {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	need, err := packet.Length(in.buf[:in.w], in.max)
	if err != nil {
		return err
	}
	if in.w == len(in.buf) || need > len(in.buf) {
		// Twice the buffer at most: a length alone, without the bytes, takes no memory.
		in.buf = append(in.buf, make([]byte, min(max(need-len(in.buf), 1), len(in.buf)))...)
	}
	n, err := conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		in.stretch()
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fault.New(fault.Closed, "mqtt client", "the server closed the connection")
	}
	return err
}

// stretch doubles a buffer that one read has filled, up to 64 KiB: a busy connection reads more at a
// time, an idle one stays small.
func (in *input) stretch() {
	if in.w == len(in.buf) && len(in.buf) < turnBytes {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
}

// next waits for one packet.
func (in *input) next(conn net.Conn) (packet.Packet, error) {
	for {
		frame, err := in.frame()
		if err != nil {
			return nil, err
		}
		if frame != nil {
			return in.dec.Decode(frame)
		}
		if err := in.fill(conn); err != nil {
			return nil, err
		}
	}
}

// run is the reader: it reads, handles all packets that are there, writes what they called for, and
// reads again. At the end it settles every ticket.
func (c *Client) run(in *input) {
	err := c.handleAll(in) // what came together with CONNACK
	for err == nil {
		c.endTurn()
		if err = in.fill(c.conn); err == nil {
			c.read.Store(true)
			err = c.handleAll(in)
		}
	}
	c.fail(err)
	close(c.stop)
	c.writer.Wait()
	c.settleAll()
	close(c.done)
}

func (c *Client) handleAll(in *input) error {
	for {
		frame, err := in.frame()
		if err != nil || frame == nil {
			return err
		}
		p, err := in.dec.Decode(frame)
		if err != nil {
			return err
		}
		if err := c.handle(p); err != nil {
			return err
		}
	}
}

// handle acts on one packet from the server.
func (c *Client) handle(p packet.Packet) error {
	switch p := p.(type) {
	case *packet.Publish:
		return c.deliver(p)
	case *packet.Puback:
		return c.settle(p.PacketID, packet.PUBACK, p.Reason)
	case *packet.Pubrec:
		return c.received(p)
	case *packet.Pubcomp:
		return c.settle(p.PacketID, packet.PUBCOMP, p.Reason)
	case *packet.Pubrel:
		delete(c.seen, p.PacketID)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.mu.closing {
			c.mu.out = packet.AppendPubcomp(c.mu.out, c.o.Version, p.PacketID, packet.Success)
		}
		return nil
	case *packet.Suback:
		return c.answer(p.PacketID, p.Reasons)
	case *packet.Unsuback:
		return c.answer(p.PacketID, p.Reasons)
	case *packet.Pingresp:
		c.mu.Lock()
		c.mu.pinged = false
		c.mu.Unlock()
		return nil
	case *packet.Disconnect:
		return disconnected(p)
	}
	return fault.New(fault.Invalid, "mqtt client", "the server sent %s", p.Type())
}

// disconnected turns the server's DISCONNECT into the error that ends the connection.
func disconnected(p *packet.Disconnect) error {
	cause := &packet.Error{Reason: p.Reason, Detail: "the server ended the connection"}
	if len(p.Props.ReasonString) > 0 {
		cause.Detail += ": " + string(p.Props.ReasonString)
	}
	kind := fault.Closed
	if p.Reason == packet.NotAuthorized {
		kind = fault.Denied
	}
	return fault.Wrap(kind, "mqtt client", cause)
}

// deliver gives a message to its receiver and acknowledges it.
func (c *Client) deliver(p *packet.Publish) error {
	if err := c.name(p); err != nil {
		return err
	}
	again := false
	if p.QoS == 2 {
		if c.seen == nil {
			c.seen = make(map[uint16]struct{})
		}
		_, again = c.seen[p.PacketID]
		c.seen[p.PacketID] = struct{}{}
	}
	if !again && c.o.OnMessage != nil {
		c.o.OnMessage(p)
	}
	if p.QoS > 0 && (again || !c.o.ManualAck) {
		c.Ack(p.PacketID, p.QoS, packet.Success)
	}
	return nil
}

// name gives a message its topic where the server uses an alias for it, and remembers one that it sets (3.3.2.3.4). The
// server keeps to the Topic Alias Maximum of our CONNECT.
func (c *Client) name(p *packet.Publish) error {
	if !p.Props.Has(packet.PropTopicAlias) {
		return nil // the decoder has seen to it that there is a topic
	}
	alias := int(p.Props.TopicAlias)
	if alias == 0 || alias > len(c.aliases) {
		return fault.New(fault.Invalid, "mqtt client", "the server used topic alias %d, of %d", alias, len(c.aliases))
	}
	known := &c.aliases[alias-1]
	if len(p.Topic) > 0 {
		*known = bytes.Clone(p.Topic)
	} else if p.Topic = *known; p.Topic == nil {
		return fault.New(fault.Invalid, "mqtt client", "the server used topic alias %d before it set it", alias)
	}
	return nil
}

// received handles PUBREC: a failure ends the exchange, else the message is released.
func (c *Client) received(p *packet.Pubrec) error {
	if p.Reason.Failed() {
		return c.settle(p.PacketID, packet.PUBREC, p.Reason)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slotLocked(p.PacketID)
	if s == nil || s.waits != packet.PUBREC && s.waits != packet.PUBCOMP {
		return unexpected(packet.PUBREC, p.PacketID)
	}
	s.waits = packet.PUBCOMP
	if c.mu.closing {
		return nil
	}
	c.mu.out = packet.AppendPubrel(c.mu.out, c.o.Version, p.PacketID, packet.Success)
	return nil
}

func (c *Client) slotLocked(id uint16) *slot {
	if id == 0 || int(id) > len(c.mu.slots) {
		return nil
	}
	return &c.mu.slots[id-1]
}

func unexpected(t packet.Type, id uint16) error {
	return fault.New(fault.Invalid, "mqtt client", "%s for packet identifier %d, which is not in flight", t, id)
}

// settle ends the exchange of one message.
func (c *Client) settle(id uint16, got packet.Type, reason packet.ReasonCode) error {
	c.mu.Lock()
	s := c.slotLocked(id)
	if s == nil || s.waits != got {
		c.mu.Unlock()
		return unexpected(got, id)
	}
	ticket := s.ticket
	*s = slot{}
	c.mu.free = append(c.mu.free, id)
	c.mu.inflight--
	c.changedLocked()
	c.mu.Unlock()
	if c.o.OnAck != nil {
		c.o.OnAck(ticket, reason, nil)
	}
	return nil
}

// answer gives the answer to a SUBSCRIBE or UNSUBSCRIBE to whoever waits for it.
func (c *Client) answer(id uint16, reasons []packet.ReasonCode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to := c.mu.calls[id]; to != nil {
		delete(c.mu.calls, id)
		to <- slices.Clone(reasons) // one place, one answer: it never waits
	}
	return nil
}

// settleAll reports what will never be acknowledged, in the order of the packet identifiers.
func (c *Client) settleAll() {
	c.mu.Lock()
	slots, err := c.mu.slots, c.mu.err
	c.mu.slots, c.mu.free, c.mu.inflight = nil, nil, 0
	if c.mu.tick != nil {
		c.mu.tick.Stop()
	}
	c.changedLocked()
	c.mu.Unlock()
	for _, s := range slots {
		if s.waits != 0 && c.o.OnAck != nil {
			c.o.OnAck(s.ticket, packet.UnspecifiedError, err)
		}
	}
}

// keepAlive runs twice in each keep alive interval. It sends PINGREQ when nothing was written, or
// nothing read, since it last ran, and ends the connection when one got no answer.
func (c *Client) keepAlive() {
	wrote, read := c.wrote.Swap(false), c.read.Swap(false)
	c.mu.Lock()
	if c.mu.err != nil || c.mu.closing {
		c.mu.Unlock()
		return
	}
	if c.mu.pinged && !read {
		c.failLocked(fault.New(fault.Timeout, "mqtt client", "no answer to PINGREQ within %v", c.server.KeepAlive/2))
		c.mu.Unlock()
		return
	}
	ping := !wrote || !read
	if ping {
		c.mu.pinged = true
		c.mu.out = (&packet.Pingreq{}).AppendTo(c.mu.out, c.o.Version)
	}
	c.startWriteLocked()
	c.mu.tick.Reset(max(c.server.KeepAlive/2, time.Millisecond))
	c.mu.Unlock()
}

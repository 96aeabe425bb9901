package mqtt

import (
	"errors"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// maxConnect is the largest packet taken before a CONNECT was.
const maxConnect = 256 << 10

func (c *conn) packetLimit() int {
	if c.link.version == 0 {
		return min(maxConnect, c.listener.limits.MaxPacketBytes)
	}
	return c.listener.limits.MaxPacketBytes
}

// consume takes all whole packets off the front of buf and says how many bytes that were. It knows nothing of where the
// bytes come from. All PUBLISH packets in buf go to the log together, in one Append. In a poller it stops before a
// packet that may block, with errBlocks; before a message that comes too fast, with errSlowed; without room in the log
// before the first message that was not appended, with errCrowded. Any other error ends the connection; what came
// before the packet at fault is done all the same.
func (c *conn) consume(buf []byte, inPoller bool) (used int, err error) {
	if c.isElsewhere() {
		return c.carry(buf, inPoller)
	}
	t := c.door.takeTurn()
	defer c.door.giveTurn(t)
	t.dec.Version, t.inPoller = c.link.version, inPoller
	var n, done int // bytes of the packet in hand, and of those that were handled
	for {
		t.at = done
		if n, err = c.next(t, buf[done:]); n == 0 || err != nil {
			break
		}
		done += n
	}
	if used = done; err != nil && !waits(err) {
		used += n
	}
	if errors.Is(err, errHandedOver) {
		n, err := c.carry(buf[used:], inPoller)
		return used + n, err
	}
	if err != nil && c.link.version == 0 && !errors.Is(err, errRefused) && !waits(err) {
		err = errRefused // a bad fixed header before CONNECT: no answer
	}
	if wrong := c.link.flushAcknowledged(t); wrong != nil && (err == nil || waits(err)) {
		err = wrong
	}
	switch flushed := c.link.flush(t); {
	case errors.Is(flushed, errCrowded), errors.Is(err, errCrowded):
		used, err = messagesLast(buf, t.crowdedAt, done), errCrowded
	case flushed != nil && (err == nil || waits(err)):
		err = flushed
	}
	if t.starved && c.wire.sock != nil {
		c.wire.sock.quickAck()
	}
	return used, err
}

// next does what the packet at the front of buf asks, and says how long it is; 0: it is not whole.
func (c *conn) next(t *turn, buf []byte) (n int, err error) {
	// There are as many of these as messages go out.
	if kind, id, ok := packet.BareAck(buf); ok && c.link.version != 0 && c.wire.tap.Load() == nil {
		t.others++
		return packet.BareAckBytes, c.link.acknowledged(t, acknowledged{kind, id, false})
	}
	if n, err = t.dec.Frame(buf, c.packetLimit()); n == 0 || err != nil {
		return n, err
	}
	return n, c.packet(t, buf[:n])
}

// packet does what one packet asks, and has it traced unless it comes again.
func (c *conn) packet(t *turn, frame []byte) error {
	tap := c.wire.tap.Load()
	if tap == nil {
		return c.take(t, frame)
	}
	if !c.tapped {
		tap.take(true, frame)
	}
	err := c.take(t, frame)
	c.tapped = waits(err) || errors.Is(err, errCrowded)
	return err
}

// take does what one packet asks.
func (c *conn) take(t *turn, frame []byte) error {
	if c.link.version == 0 {
		if t.inPoller {
			return errBlocks
		}
		switch {
		case c.enrolling != nil:
			return c.enrol(t, frame)
		case c.auth != nil:
			return c.awaitAuth(t, frame)
		}
		return c.connect(t, frame)
	}
	p, err := t.dec.Decode(frame)
	if err != nil {
		return err
	}
	if p, ok := p.(*packet.Publish); ok {
		if c.pace != nil && !c.pace.allow(len(p.Payload), c.door.uptime()) {
			return errSlowed
		}
		return c.link.publish(t, p, &c.reader.routes)
	}
	if err = c.otherPacket(t, p); !errors.Is(err, errBlocks) && p.Type() != packet.PUBREL {
		t.others++ // a PUBREL is counted as a message is: when it goes to the log
	}
	return err
}

// otherPacket does what a packet besides CONNECT and PUBLISH asks.
func (c *conn) otherPacket(t *turn, p packet.Packet) error {
	switch p := p.(type) {
	case *packet.Puback:
		return c.link.acknowledged(t, acknowledged{packet.PUBACK, p.PacketID, p.Reason.Failed()})
	case *packet.Pubrec:
		return c.link.acknowledged(t, acknowledged{packet.PUBREC, p.PacketID, p.Reason.Failed()})
	case *packet.Pubcomp:
		return c.link.acknowledged(t, acknowledged{packet.PUBCOMP, p.PacketID, false})
	case *packet.Pubrel:
		return c.link.pubrel(t, p)
	case *packet.Pingreq: // its answer tells the client that what it acknowledged before was heard
		err := c.link.flushAcknowledged(t)
		c.wire.put(packet.AppendPingresp) // [MQTT-3.12.4-1]
		c.door.metrics.othersOut.Inc()
		return err
	}
	// The rest is rare, and comes after what was published and acknowledged before it.
	if err := c.link.flushAcknowledged(t); err != nil {
		return err
	}
	if err := c.link.flush(t); err != nil {
		return err
	}
	return c.rarePacket(t, p)
}

func (c *conn) rarePacket(t *turn, p packet.Packet) error {
	switch p := p.(type) {
	case *packet.Subscribe:
		if t.inPoller {
			return errBlocks
		}
		c.link.bridgeSubscriptions(p)
		c.link.rewriteSubscriptions(p)
		return c.link.subscribe(t, p)
	case *packet.Unsubscribe:
		if t.inPoller {
			return errBlocks
		}
		return c.link.unsubscribe(p)
	case *packet.Disconnect:
		return c.link.disconnect(p)
	case *packet.Auth:
		if t.inPoller {
			return errBlocks
		}
		return c.reauthenticate(p)
	default:
		return &packet.Error{Reason: packet.ProtocolError, Detail: "unexpected " + p.Type().String()}
	}
}

// messagesLast moves the PUBLISH and PUBREL packets in b[from:to], which wait for room in the log, to the end of it and
// says where they begin: the packets between them were handled.
func messagesLast(b []byte, from, to int) int {
	end := from
	for at := from; at < to; {
		n, err := packet.Length(b[at:to], packet.MaxSize)
		if err != nil || n == 0 {
			break // it was looked at before
		}
		if t := packet.Type(b[at] >> 4); t == packet.PUBLISH || t == packet.PUBREL {
			end += copy(b[end:], b[at:at+n])
		}
		at += n
	}
	begin := to - (end - from)
	copy(b[begin:to], b[from:end])
	return begin
}

// lookAhead handles the packets among those that wait which need not.
func (c *conn) lookAhead() (took bool, err error) {
	if len(c.reader.kept) == 0 || c.link.version == 0 {
		return false, nil
	}
	t := c.door.takeTurn()
	defer c.door.giveTurn(t)
	t.dec.Version = c.link.version
	frame := func(b []byte) (int, error) { return t.dec.Frame(b, c.packetLimit()) }
	took, err = c.reader.ahead(frame, func(b []byte) error { return c.packet(t, b) })
	return took, errors.Join(err, c.link.flushAcknowledged(t))
}

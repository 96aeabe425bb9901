package mqtt

import (
	"errors"
	"fmt"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// turn is the scratch memory of one consume. Turns are lent, so that idle connections hold none.
type turn struct {
	dec      packet.Decoder
	slots    []*slot // memory of the messages gathered
	used     int
	unit     stream.Unit // what goes to the log together
	ids      []uint16    // packet ids of those with QoS 1
	size     int         // bytes of payload gathered
	polite   bool        // nothing may block: errDefer instead
	starved  bool        // deliveries wait for more acknowledgements
	unixMs   int64
	grants   []session.Grant
	received [2]int // messages by QoS
}

// slot is one PUBLISH on its way into the log.
type slot struct {
	message  hinge.Message
	record   record.Record // for the log topic
	retained record.Record // for the retained messages, when writes is 2
	writes   int
	id       uint16 // 0: QoS 0
}

const (
	// turnSlots and turnBytes bound what one Append takes.
	turnSlots = 128
	turnBytes = 256 << 10
)

func (d *Door) takeTurn() *turn {
	t, ok := d.turns.Get().(*turn)
	if !ok {
		t = &turn{}
	}
	t.unixMs, t.polite, t.starved = d.opt.Clock().UnixMilli(), false, false
	return t
}

// giveTurn takes a turn back. Nothing that was read through it may be used any more.
func (d *Door) giveTurn(t *turn) {
	for qos, n := range t.received {
		if n > 0 {
			d.metrics.received[qos].Add(float64(n))
			t.received[qos] = 0
		}
	}
	t.reset()
	d.turns.Put(t)
}

func (t *turn) reset() {
	t.used, t.size, t.unit.Writes, t.ids = 0, 0, t.unit.Writes[:0], t.ids[:0]
}

// next is the slot for another message.
func (t *turn) next() *slot {
	if t.used == len(t.slots) {
		t.slots = append(t.slots, &slot{})
	}
	s := t.slots[t.used]
	t.used++
	s.writes, s.id = 0, 0
	return s
}

// maxConnect is the largest packet taken before a CONNECT was.
const maxConnect = 256 << 10

func (c *conn) packetLimit() int {
	if c.version == 0 {
		return min(maxConnect, c.door.opt.MaxPacketBytes)
	}
	return c.door.opt.MaxPacketBytes
}

// consume takes all whole packets off the front of buf and says how many bytes that were. It knows
// nothing of where the bytes come from. All PUBLISH packets in buf go to the log together, in one
// Append. A polite consume stops before a packet that may block, with errDefer. Any other error ends the
// connection; what came before the packet at fault is done all the same.
func (c *conn) consume(buf []byte, polite bool) (used int, err error) {
	t := c.door.takeTurn()
	defer c.door.giveTurn(t)
	t.dec.Version, t.polite = c.version, polite
	for {
		var n int
		n, err = t.dec.Frame(buf[used:], c.packetLimit())
		if n == 0 || err != nil {
			break
		}
		if err = c.packet(t, buf[used:used+n]); errors.Is(err, errDefer) {
			break
		}
		used += n
		if err != nil {
			break
		}
	}
	if err != nil && c.version == 0 && !errors.Is(err, errRefused) && !errors.Is(err, errDefer) {
		err = errRefused // a bad fixed header before CONNECT: no answer
	}
	if flushed := c.flush(t); flushed != nil && (err == nil || errors.Is(err, errDefer)) {
		err = flushed
	}
	if t.starved && c.sock != nil {
		c.sock.quickAck()
	}
	return used, err
}

// packet does what one packet asks.
func (c *conn) packet(t *turn, frame []byte) error {
	if c.version == 0 {
		if t.polite {
			return errDefer
		}
		return c.connect(t, frame)
	}
	p, err := t.dec.Decode(frame)
	if err != nil {
		return err
	}
	if p, ok := p.(*packet.Publish); ok {
		return c.publish(t, p)
	}
	switch p := p.(type) {
	case *packet.Puback:
		t.starved = c.acknowledged(p.PacketID)
		return nil
	case *packet.Pingreq:
		c.answer(packet.AppendPingresp)
		return nil
	}
	if t.polite {
		return errDefer
	}
	// The rest is rare, and comes after what was published before it.
	if err := c.flush(t); err != nil {
		return err
	}
	return c.rarePacket(t, p)
}

func (c *conn) rarePacket(t *turn, p packet.Packet) error {
	switch p := p.(type) {
	case *packet.Subscribe:
		return c.subscribe(t, p)
	case *packet.Unsubscribe:
		return c.unsubscribe(p)
	case *packet.Disconnect:
		return c.disconnect(p)
	case *packet.Pubrec:
		return c.pubrec(p)
	case *packet.Pubrel:
		return c.pubrel(p)
	case *packet.Pubcomp:
		return c.pubcomp(p)
	case *packet.Auth:
		// [MQTT-4.12.0-6]
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH without an authentication method in CONNECT"}
	default:
		return &packet.Error{Reason: packet.ProtocolError, Detail: "unexpected " + p.Type().String()}
	}
}

// answer puts a packet of a few bytes into the outbox.
func (c *conn) answer(appendTo func([]byte) []byte) {
	c.mu.Lock()
	c.put(appendTo(c.pending()))
	c.mu.Unlock()
	c.push()
}

// answerWith puts a packet of any size into the outbox. One that is larger than the client takes ends the connection
// instead [MQTT-3.1.2-24].
func (c *conn) answerWith(p packet.Packet) error {
	if err := tooLarge(p, c.version, c.mu.session.MaxPacket()); err != nil {
		return err
	}
	c.answer(func(b []byte) []byte { return p.AppendTo(b, c.version) })
	return nil
}

func tooLarge(p packet.Packet, v packet.Version, most int) error {
	if size := p.Size(v); size > most {
		return &packet.Error{Reason: packet.PacketTooLarge,
			Detail: fmt.Sprintf("%s of %d bytes, the client takes %d", p.Type(), size, most)}
	}
	return nil
}

// acknowledged takes a PUBACK. One for an id that is not in flight means nothing. Starved tells that deliveries go on
// with more of them only.
func (c *conn) acknowledged(id uint16) (starved bool) {
	c.mu.Lock()
	c.mu.session.Out.Ack(id)
	wake := c.roomLocked()
	starved = c.mu.starved
	c.mu.Unlock()
	if wake {
		c.wake()
	}
	return starved
}

// pubrec answers a PUBREC, which belongs to QoS 2 only: nothing was sent with it.
func (c *conn) pubrec(p *packet.Pubrec) error {
	c.mu.Lock()
	inFlight := c.mu.session.Out.Has(p.PacketID)
	c.mu.Unlock()
	if inFlight {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "PUBREC for a message of QoS 1"}
	}
	if !p.Reason.Failed() {
		c.answer(func(b []byte) []byte { return packet.AppendPubrel(b, c.version, p.PacketID, packet.PacketIDNotFound) })
	}
	return nil
}

// pubrel answers a PUBREL, which belongs to QoS 2 only: no message is open with it [MQTT-3.7.2-1].
func (c *conn) pubrel(p *packet.Pubrel) error {
	c.mu.Lock()
	waits := c.mu.session.Waits(p.PacketID)
	c.mu.Unlock()
	if waits {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "PUBREL for a message of QoS 1"}
	}
	c.answer(func(b []byte) []byte { return packet.AppendPubcomp(b, c.version, p.PacketID, packet.PacketIDNotFound) })
	return nil
}

// pubcomp takes a PUBCOMP, which belongs to QoS 2 only. It asks for no answer.
func (c *conn) pubcomp(p *packet.Pubcomp) error {
	c.mu.Lock()
	inFlight := c.mu.session.Out.Has(p.PacketID)
	c.mu.Unlock()
	if inFlight {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "PUBCOMP for a message of QoS 1"}
	}
	return nil
}

// disconnect takes a DISCONNECT: the connection ends without a word.
func (c *conn) disconnect(p *packet.Disconnect) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.mu.session.Disconnect(p); err != nil {
		return err
	}
	return errDisconnect
}

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// conn is one plain MQTT 3.1.1 connection.
type conn struct {
	net.Conn
	in     []byte // read and not yet taken
	buf    []byte
	readAt time.Time // when in was read
	out    []byte
	prefix []byte // a PUBLISH up to its packet id
	body   []byte // the payload
}

// connect connects a client without keep alive, to a clean session or to the one that the broker keeps for it.
func (e Entry) connect(ctx context.Context, address, id string, clean bool) (*conn, error) {
	c, err := e.dial(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	b := &conn{Conn: c, buf: make([]byte, 16<<10)}
	if err := b.greet(e.hello(id, clean)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return b, nil
}

// hello is a CONNECT.
func (e Entry) hello(id string, clean bool) []byte {
	var flags byte
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	rest := text(nil, id)
	if clean {
		flags |= 0x02
	}
	if e.User != "" {
		flags |= 0xc0
		rest = text(text(rest, e.User), e.Password)
	}
	b := binary.AppendUvarint([]byte{0x10}, uint64(10+len(rest)))
	return append(append(b, 0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0), rest...)
}

// greet sends a CONNECT and waits for the CONNACK.
func (c *conn) greet(hello []byte) error {
	c.out = append(c.out, hello...)
	if err := c.flush(); err != nil {
		return err
	}
	ack, err := c.frame()
	if err == nil && (ack[0] != 0x20 || len(ack) != 4 || ack[3] != 0) {
		err = fault.New(fault.Denied, "bench.Dial", "the broker refused the connection: % x", ack)
	}
	return err
}

// maxPacket bounds what the generators take, in bytes.
const maxPacket = 32 << 20

// frame reads one packet. It is valid until the next call.
func (c *conn) frame() ([]byte, error) {
	for {
		n, err := packet.Frame(c.in, maxPacket)
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= len(c.in) {
			f := c.in[:n]
			c.in = c.in[n:]
			return f, nil
		}
		if len(c.in) == len(c.buf) { // one packet fills it
			c.buf = make([]byte, 2*len(c.buf))
		}
		kept := copy(c.buf, c.in)
		n, err = c.Read(c.buf[kept:])
		if err != nil {
			return nil, fault.Wrap(fault.IO, "bench.Read", err)
		}
		c.in, c.readAt = c.buf[:kept+n], time.Now()
	}
}

// expect reads one packet of a kind, given by its first byte.
func (c *conn) expect(first byte, size int) ([]byte, error) {
	f, err := c.frame()
	if err != nil {
		return nil, err
	}
	if f[0] != first || len(f) < size {
		return nil, fault.New(fault.Invalid, "bench.Read", "% x where a packet %02x is due", f[:min(len(f), 16)], first)
	}
	return f, nil
}

// buffered tells whether a whole packet has been read already.
func (c *conn) buffered() bool {
	n, err := packet.Frame(c.in, maxPacket)
	return err == nil && n > 0 && n <= len(c.in)
}

// prepare makes the parts of a PUBLISH.
func (c *conn) prepare(topic string, qos byte, size int) {
	length := 2 + len(topic) + size
	if qos > 0 {
		length += 2
	}
	c.prefix = append(c.prefix[:0], 0x30|qos<<1)
	c.prefix = binary.AppendUvarint(c.prefix, uint64(length)) // MQTT's variable byte integer is LEB128
	c.prefix = append(c.prefix, byte(len(topic)>>8), byte(len(topic)))
	c.prefix = append(c.prefix, topic...)
	c.body = make([]byte, size)
}

// publish puts a message in the buffer; its payload begins with the time it was due, if it holds one. An id of 0 is
// QoS 0.
func (c *conn) publish(id uint16, due time.Time) {
	stamp(c.body, due)
	c.put(id)
}

// put puts a message in the buffer as it is.
func (c *conn) put(id uint16) {
	c.out = append(c.out, c.prefix...)
	if id > 0 {
		c.out = append(c.out, byte(id>>8), byte(id))
	}
	c.out = append(c.out, c.body...)
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fault.Wrap(fault.IO, "bench.Write", err)
	}
	return nil
}

// subscribe asks for a filter and waits for the SUBACK.
func (c *conn) subscribe(filter string, qos byte) error {
	c.out = append(c.out, 0x82, byte(5+len(filter)), 0, 1, 0, byte(len(filter)))
	c.out = append(append(c.out, filter...), qos)
	if err := c.flush(); err != nil {
		return err
	}
	ack, err := c.expect(0x90, 5)
	if err == nil && ack[4] > 2 {
		err = fault.New(fault.Denied, "bench.Subscribe", "the broker refused the subscription: % x", ack)
	}
	return err
}

// stampBytes is how much of a payload its time takes.
const stampBytes = 8

// stamp writes a time into the first bytes of a payload. A smaller one goes without: only who reads it needs the time.
func stamp(payload []byte, t time.Time) {
	if len(payload) >= stampBytes {
		binary.BigEndian.PutUint64(payload, uint64(t.UnixNano()))
	}
}

// age is how long before now the time in a payload was.
func age(payload []byte, now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - int64(binary.BigEndian.Uint64(payload)))
}

// take gives the payload of a PUBLISH, nil for any other packet, and sends what is due for it: PUBACK or PUBREC, and
// PUBCOMP for a PUBREL, together with those of all that came with it.
func (c *conn) take(f []byte) (payload []byte, err error) {
	switch f[0] >> 4 {
	case 3:
		if payload, err = c.acknowledge(f); err != nil {
			return nil, err
		}
	case 6:
		if len(f) < 4 {
			return nil, fault.New(fault.Invalid, "bench.Read", "% x where a PUBREL is due", f)
		}
		c.out = append(c.out, 0x70, 2, f[2], f[3])
	}
	if !c.buffered() {
		err = c.flush()
	}
	return payload, err
}

func (c *conn) acknowledge(f []byte) (payload []byte, err error) {
	_, n := binary.Uvarint(f[1:])
	at := 1 + n
	at += 2 + int(binary.BigEndian.Uint16(f[at:]))
	if qos := f[0] >> 1 & 3; qos > 0 {
		c.out = append(c.out, 0x30+qos<<4, 2, f[at], f[at+1]) // PUBACK 0x40, PUBREC 0x50
		at += 2
	}
	if len(f) < at+stampBytes {
		return nil, fault.New(fault.Invalid, "bench.Read", "a message of %d bytes that this load did not send", len(f)-at)
	}
	return f[at:], nil
}

// answered takes what a broker answers to a message: done is true with its last one. The PUBREL that is due for a
// PUBREC is put behind out.
func answered(qos byte, ack, out []byte) (id uint16, done bool, _ []byte, err error) {
	if len(ack) < 4 || ack[1] != 2 || qos == 1 && ack[0] != 0x40 || qos == 2 && ack[0] != 0x50 && ack[0] != 0x70 {
		return 0, false, out, fault.New(fault.Invalid, "bench.Read", "% x where the answer to a PUBLISH is due",
			ack[:min(len(ack), 4)])
	}
	id = binary.BigEndian.Uint16(ack[2:])
	if ack[0] == 0x50 {
		return id, false, append(out, 0x62, 2, ack[2], ack[3]), nil
	}
	return id, true, out, nil
}

// errNotInFlight tells of an answer to a message that was not sent or is done.
func errNotInFlight(id uint16) error {
	return fault.New(fault.Invalid, "bench.Publish", "an answer for packet id %d, which is not in flight", id)
}

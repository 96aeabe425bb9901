package cases

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// The protocol levels.
const (
	v31  = 3
	v311 = 4
	v5   = 5
)

// device is a raw MQTT connection: it sends any bytes and reads whole packets.
type device struct {
	t     *testing.T
	level byte
	conn  net.Conn
	in    *bufio.Reader
}

// dial opens a connection and sends nothing.
func (n *node) dial(level byte) *device {
	n.t.Helper()
	c, err := net.Dial("tcp", n.mqtt)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return &device{t: n.t, level: level, conn: c, in: bufio.NewReaderSize(c, 1<<16)}
}

// connect opens a connection with a clean session and wants it to be let in.
func (n *node) connect(level byte, clientID string) *device {
	n.t.Helper()
	d := n.dial(level)
	d.send(connect{level: level, flags: 2, clientID: clientID}.packet())
	if ack := d.read(); len(ack) < 4 || ack[0] != 0x20 || ack[3] != 0 {
		n.t.Fatalf("CONNACK % x", ack)
	}
	return d
}

// connect is a CONNECT, right or wrong.
type connect struct {
	first    byte // 0: 0x10
	name     string
	level    byte
	flags    byte
	props    []byte
	clientID string
	rest     []byte // will, user name, password
}

func (c connect) packet() []byte {
	if c.first == 0 {
		c.first = 0x10
	}
	if c.name == "" {
		c.name = "MQTT"
		if c.level == v31 {
			c.name = "MQIsdp"
		}
	}
	b := append(text(c.name), c.level, c.flags, 0, 60)
	if c.level == v5 {
		b = append(b, properties(c.props)...)
	}
	b = append(b, text(c.clientID)...)
	return packet(c.first, append(b, c.rest...))
}

func packet(first byte, body []byte) []byte {
	return append(append([]byte{first}, length(len(body))...), body...)
}

// length is a variable byte integer (section 1.5.5).
func length(n int) (b []byte) {
	for {
		digit := byte(n & 127)
		if n >>= 7; n == 0 {
			return append(b, digit)
		}
		b = append(b, digit|128)
	}
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func properties(p []byte) []byte { return append(length(len(p)), p...) }

// noProperties are those of a packet that may have some.
func (d *device) noProperties() []byte {
	if d.level == v5 {
		return []byte{0}
	}
	return nil
}

func (d *device) subscribe(filter string, options byte) []byte {
	return packet(0x82, append(append(append([]byte{0, 1}, d.noProperties()...), text(filter)...), options))
}

func (d *device) unsubscribe(filter string) []byte {
	return packet(0xa2, append(append([]byte{0, 2}, d.noProperties()...), text(filter)...))
}

// publish is a PUBLISH; flags are the low bits of its first byte, id is for QoS above 0.
func (d *device) publish(flags byte, topic string, id uint16, payload []byte) []byte {
	b := text(topic)
	if flags&6 != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return packet(0x30|flags, append(append(b, d.noProperties()...), payload...))
}

func (d *device) send(b ...[]byte) {
	d.t.Helper()
	for _, one := range b {
		if _, err := d.conn.Write(one); err != nil {
			d.t.Fatal(err)
		}
	}
}

// read reads the next packet, which must come.
func (d *device) read() []byte {
	d.t.Helper()
	p, err := d.next(patience)
	if err != nil {
		d.t.Fatalf("no packet: %v", err)
	}
	return p
}

// next reads a packet. Errors: os.ErrDeadlineExceeded for nothing in time, io.EOF at the end of the connection.
func (d *device) next(within time.Duration) ([]byte, error) {
	if err := d.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for size := 2; ; size++ {
		head, err := d.in.Peek(size)
		if err != nil {
			return nil, ended(err)
		}
		if head[size-1]&128 != 0 {
			continue
		}
		n := 0
		for i, digit := range head[1:] {
			n |= int(digit&127) << (7 * i)
		}
		p := make([]byte, size+n)
		_, err = io.ReadFull(d.in, p)
		return p, ended(err)
	}
}

// ended makes the ways in which a connection ends one.
func ended(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return io.EOF
}

// wantEnd wants the connection to end, after at most the last words given.
func (d *device) wantEnd(what string, lastWords []byte) {
	d.t.Helper()
	p, err := d.next(patience)
	if len(lastWords) > 0 {
		if string(p) != string(lastWords) {
			d.t.Errorf("%s: got % x, %v, want % x", what, p, err, lastWords)
			return
		}
		p, err = d.next(patience)
	}
	if !errors.Is(err, io.EOF) {
		d.t.Errorf("%s: got % x, %v, want the end of the connection", what, p, err)
	}
}

// ping sends PINGREQ and gives the packets that come before its answer: what was sent before has been dealt with then.
func (d *device) ping() (before [][]byte) {
	d.t.Helper()
	d.send([]byte{0xc0, 0})
	for {
		p := d.read()
		if p[0] == 0xd0 {
			return before
		}
		before = append(before, p)
	}
}

// body is a packet without its fixed header.
func body(p []byte) []byte {
	i := 1
	for p[i]&128 != 0 {
		i++
	}
	return p[i+1:]
}

// topicOf is the topic name of a PUBLISH.
func topicOf(p []byte) string {
	b := body(p)
	return string(b[2 : 2+binary.BigEndian.Uint16(b)])
}

// idOf is the packet identifier of a PUBLISH of QoS 1 or 2.
func idOf(p []byte) []byte {
	b := body(p)
	at := 2 + int(binary.BigEndian.Uint16(b))
	return b[at : at+2]
}

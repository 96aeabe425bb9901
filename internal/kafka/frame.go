package kafka

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	firstRead = 64 << 10 // a larger frame gets its memory as its bytes arrive
	growth    = 16       // how many times what has arrived the memory may be
)

// peek waits for the next request and gives its size and the fixed part of its header, reading no
// further than the read-ahead.
func (c *conn) peek() (size int, head wire.Header, err error) {
	if err := c.fill(wire.SizeLen); err != nil {
		return 0, head, err
	}
	size = int(int32(binary.BigEndian.Uint32(c.ahead[c.from:])))
	if size < wire.HeadLen { // junk is told at once, not when eight more bytes came
		return 0, head, fault.New(fault.Invalid, "kafka.read", "a request of %d bytes", size)
	}
	if err := c.fill(wire.SizeLen + wire.HeadLen); err != nil {
		return 0, head, err
	}
	head, _ = wire.Head(c.ahead[c.from+wire.SizeLen : c.to])
	return size, head, nil
}

// fill waits until n bytes are there, reading no further than the read-ahead.
func (c *conn) fill(n int) error {
	if c.to == c.from {
		c.from, c.to = 0, 0
		c.watch.set(idle)
	}
	for c.to-c.from < n {
		if c.from > 0 {
			c.to = copy(c.ahead, c.ahead[c.from:c.to])
			c.from = 0
		}
		more, err := c.nc.Read(c.ahead[c.to:])
		c.to += more
		if err != nil {
			return err
		}
		c.watch.set(reading)
	}
	return nil
}

// readFrame reads the request that peek saw: into buf if it is large enough, otherwise into memory of
// exactly its size.
func (c *conn) readFrame(size int, buf []byte) ([]byte, error) {
	c.from += wire.SizeLen
	if cap(buf) < size {
		buf = make([]byte, 0, min(size, firstRead))
	}
	buf = buf[:0:min(size, cap(buf))]
	here := min(cap(buf), c.to-c.from)
	buf = append(buf, c.ahead[c.from:c.from+here]...)
	c.from += here
	buf, err := c.receive(buf, size)
	if err == nil {
		c.watch.set(working)
	}
	return buf, err
}

// receive reads on until buf, which is not of no capacity, holds size bytes, or more where it has room for them.
// Memory is taken as the bytes arrive: who announces 100 MiB and sends nothing costs 64 KiB; for records up to 1 MiB,
// if those that came last on the connection took as much.
func (c *conn) receive(buf []byte, size int) ([]byte, error) {
	for len(buf) < size {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(size, len(buf)*growth))
			copy(grown, buf)
			buf = grown
		}
		c.watch.set(reading)
		n, err := c.nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && len(buf) < size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}

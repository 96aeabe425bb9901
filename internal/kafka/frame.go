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
	if c.to == c.from {
		c.from, c.to = 0, 0
		c.watch.set(idle)
	}
	for c.to-c.from < wire.SizeLen+wire.HeadLen {
		if c.from > 0 {
			c.to = copy(c.ahead, c.ahead[c.from:c.to])
			c.from = 0
		}
		n, err := c.nc.Read(c.ahead[c.to:])
		c.to += n
		if err != nil {
			return 0, head, err
		}
		c.watch.set(reading)
		if c.to-c.from >= wire.SizeLen { // junk is told at once, not when eight more bytes came
			if size = int(int32(binary.BigEndian.Uint32(c.ahead[c.from:]))); size < wire.HeadLen {
				return 0, head, fault.New(fault.Invalid, "kafka.read", "a request of %d bytes", size)
			}
		}
	}
	size = int(int32(binary.BigEndian.Uint32(c.ahead[c.from:])))
	if size < wire.HeadLen {
		return 0, head, fault.New(fault.Invalid, "kafka.read", "a request of %d bytes", size)
	}
	head, _ = wire.Head(c.ahead[c.from+wire.SizeLen : c.to])
	return size, head, nil
}

// readFrame reads the request that peek saw: into buf if it is large enough, otherwise into memory of
// exactly its size, which is taken as the bytes arrive: who announces 100 MiB and sends nothing costs
// 64 KiB.
func (c *conn) readFrame(size int, buf []byte) ([]byte, error) {
	c.from += wire.SizeLen
	if cap(buf) >= size {
		buf = buf[:size]
	} else {
		buf = make([]byte, min(size, firstRead))
	}
	got := copy(buf, c.ahead[c.from:c.to])
	c.from += got
	for {
		for got < len(buf) {
			c.watch.set(reading)
			n, err := c.nc.Read(buf[got:])
			got += n
			if err != nil && got < len(buf) {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		if got == size {
			c.watch.set(working)
			return buf, nil
		}
		grown := make([]byte, min(size, got*growth))
		copy(grown, buf)
		buf = grown
	}
}

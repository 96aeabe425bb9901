package kafka

import (
	"github.com/firthmq/firth/internal/kafka/wire"
)

const (
	windowBytes = 16 << 10 // read at once of what is not records
	// What is behind the last records of a request is read along with them if it is no more than this; behind large
	// ones this much of it, for the head of the next partition is in it.
	tailBytes = 64
	mostUsual = 1 << 20 // memory taken before its bytes arrive, for who has sent as much at once before
)

// body is what is left of a Produce request that is arriving.
type body struct {
	c      *conn
	left   int // bytes not taken
	b      []byte
	window *[windowBytes]byte // that b lies in, once one was needed
}

var _ wire.Source = (*body)(nil)

// begin takes over a request of which the head was read.
func (s *body) begin(c *conn, size int) {
	c.from += wire.SizeLen
	to := min(c.to, c.from+size)
	s.c, s.left, s.b = c, size, c.ahead[c.from:to]
	c.from = to
}

// end gives the window back.
func (s *body) end() {
	if s.window != nil {
		s.c.door.windows.Put(s.window)
	}
	*s = body{}
}

// Left implements wire.Source.
func (s *body) Left() int { return s.left }

// AppendTo implements wire.Source.
func (s *body) AppendTo(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		b, err := s.next(n)
		if err != nil {
			return dst, err
		}
		dst = append(dst, b...)
		n -= len(b)
	}
	return dst, nil
}

// next takes at most n bytes, of those that are here; it waits until there are some.
func (s *body) next(n int) ([]byte, error) {
	if len(s.b) == 0 {
		if s.window == nil {
			s.window, _ = s.c.door.windows.Get().(*[windowBytes]byte) // the pool holds nothing else
		}
		var err error
		if s.b, err = s.c.receive(s.window[:0:min(len(s.window), s.left)], 1); err != nil {
			return nil, err
		}
	}
	b := s.b[:min(n, len(s.b))]
	s.b, s.left = s.b[len(b):], s.left-len(b)
	return b, nil
}

// records takes n bytes into memory of their own.
func (s *body) records(n int) ([]byte, error) {
	here := min(n, len(s.b))
	if here == n {
		b := append(make([]byte, 0, n), s.b[:n]...)
		s.b, s.left = s.b[n:], s.left-n
		return b, nil
	}
	all := n
	if rest := s.left - n; rest <= tailBytes || n >= windowBytes {
		all += min(rest, tailBytes)
	}
	first := min(all, max(firstRead, s.c.usual))
	buf := append(make([]byte, 0, first), s.b...)
	buf, err := s.c.receive(buf, all)
	if err != nil {
		return nil, err
	}
	s.c.usual = min(all, mostUsual)
	s.b, s.left = buf[n:], s.left-n
	return buf[:n:n], nil
}

// skip passes over n bytes.
func (s *body) skip(n int) error {
	for n > 0 {
		b, err := s.next(n)
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

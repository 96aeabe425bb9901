package kafka

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// A large Produce request is not waited for: each batch gets memory of its own and goes to the log as soon as it
// is here. So the request costs no more than the log lets in for a commit, and in the log's cache no batch keeps
// the memory of a hundred others. If the connection breaks before the request is whole, what was appended stays,
// as it does when only the answer is lost.

const (
	windowBytes = 16 << 10
	pageResults = 64
)

// body is what is left of a request that is being streamed.
type body struct {
	c      *conn
	left   int // bytes not taken
	window []byte
	b      []byte // of the window, not taken
}

var _ wire.Source = (*body)(nil)

func (c *conn) stream(size int) *body {
	c.from += wire.SizeLen
	window := make([]byte, windowBytes)
	n := copy(window, c.ahead[c.from:min(c.to, c.from+size)])
	c.from += n
	return &body{c: c, left: size, window: window, b: window[:n]}
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

// next takes at most n bytes, of those that are in the window.
func (s *body) next(n int) ([]byte, error) {
	if len(s.b) == 0 {
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
	buf := append(make([]byte, 0, min(n, firstRead)), s.b[:here]...)
	s.b, s.left = s.b[here:], s.left-n
	return s.c.receive(buf, n)
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

// page holds the results of some partitions of a streamed request, where the log's receipts find them.
type page struct {
	call    *call
	used    int
	results [pageResults]wire.ProduceResult
	stamped [pageResults]record.Batch // those that the log's clock stamps
}

// Appended implements stream.Receipt: ticket is the place in the page.
func (g *page) Appended(ticket uint64, at stream.Placed, err error) {
	tell(&g.results[ticket], at, err)
	g.call.settle()
}

// result makes room for another result.
func (p *call) result() (g *page, at int) {
	if n := len(p.pages); n > 0 && p.pages[n-1].used < pageResults {
		g = p.pages[n-1]
	} else {
		g = &page{call: p}
		p.pages = append(p.pages, g)
	}
	at = g.used
	g.used++
	g.results[at] = noResult
	return g, at
}

// gather puts the results of all pages together.
func (p *call) gather() {
	for _, g := range p.pages {
		for i := range g.results[:g.used] {
			res := &g.results[i]
			if b := g.stamped[i]; b != nil && res.Code == wire.None {
				res.LogAppendTime = b.MaxTimestamp()
			}
		}
		p.results = append(p.results, g.results[:g.used]...)
	}
	p.pages = nil
}

// produceStream appends what a large Produce request holds while it arrives, and has its answer under way.
func (c *conn) produceStream(ctx context.Context, api *served, size int, start time.Time) error {
	in := c.stream(size)
	s, err := wire.StreamProduce(api.API, in)
	if err != nil {
		return err
	}
	c.setClientID(s.Header.ClientID)
	p := c.newCall()
	p.correlationID, p.start, p.req = s.Header.CorrelationID, start, s.Request
	p.left.Store(1)
	if err := c.appendStream(p, s, in); err != nil {
		return err
	}
	if err := in.skip(in.left); err != nil { // what nobody asked for
		return err
	}
	c.watch.set(working)
	p.req = s.Request
	if p.req.Acks == 0 {
		p.gather()
		return c.unanswered(p)
	}
	c.enqueue(p)
	p.settle()
	return ctx.Err()
}

// appendStream appends the batches of a request in order, each when it is here.
func (c *conn) appendStream(p *call, s *wire.ProduceStream, in *body) error {
	refused := checkRequest(&p.req)
	topics := c.door.log.Topics()
	var t *stream.Topic
	var topicCode wire.Code
	for {
		if more, err := s.Next(); err != nil {
			return err
		} else if !more {
			return s.Finish()
		}
		if s.NewTopic && refused == nil {
			t, topicCode = c.door.produceTopic(c, topics, &s.ProducePartition, p.req.Version)
		}
		g, at := p.result()
		res := &g.results[at]
		here := 0
		switch {
		case refused != nil:
			refuse(res, refused)
			res.Code = requestCode(&p.req)
		case topicCode != wire.None:
			res.Code = topicCode
		case s.Size > t.Settings.MaxMessageBytes:
			refuse(res, fault.New(fault.TooLarge, "kafka.Produce", "batch of %d bytes, max.message.bytes is %d",
				s.Size, t.Settings.MaxMessageBytes))
		default:
			if here = max(s.Size, 0); s.Size >= 0 {
				records, err := in.records(here)
				if err != nil {
					return err
				}
				s.Records = records
			}
			c.watch.set(working)
			g.append(t, at, &s.ProducePartition)
			s.Records = nil
		}
		if err := in.skip(max(s.Size, 0) - here); err != nil {
			return err
		}
		if err := s.Rest(); err != nil {
			return err
		}
	}
}

// append gives the batch of a partition to the log.
func (g *page) append(t *stream.Topic, at int, w *wire.ProducePartition) {
	f := fate{result: &g.results[at], ticket: uint64(at)}
	if g.call.req.Acks != 0 {
		f.to = g
	}
	g.call.c.door.appendOne(g.call, t, w, f)
	if t.Settings.LogAppendTime {
		g.stamped[at] = w.Records
	}
}

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Returning is a load of persistent sessions (MQTT 3.1.1): each subscribes and leaves, messages are published for it
// meanwhile, and then all come back for them.
type Returning struct {
	Entry
	Address     string
	Sessions    int    // each subscribes to Topic/<its number> with QoS 1
	Messages    int    // for each
	Together    int    // how many connect at a time; each stays until it has its messages
	PayloadSize int    // bytes, at least 8, which number the messages
	Topic       string // the first level of every topic
	Only        Part   // the part that is done, so that the server can be restarted between both; "": both
}

// Part is a part of the load of Returning.
type Part string

// The parts.
const (
	Leave Part = "leave" // sessions subscribe and leave, and messages are published for them
	Back  Part = "back"  // they come back and take them
)

// publishing is how many connections publish, and how many messages each of them has in flight.
const publishing, publishingAhead = 16, 64

// Run drives the load and measures the return: a message counts when it is delivered, a latency is from the CONNECT of
// a session to its last message. A message that is missing, twice there or in the wrong place is an error.
// Errors: IO, Denied, Invalid, Corrupt.
func (b Returning) Run(ctx context.Context) (*Result, error) {
	if b.Sessions < 1 || b.Messages < 1 || b.Together < 1 || b.PayloadSize < stampBytes || b.Topic == "" ||
		len(b.Topic) > 100 || b.Only != "" && b.Only != Leave && b.Only != Back {
		return nil, fault.New(fault.Invalid, "bench.Returning",
			"at least 1 session, 1 message, 1 at a time, %d bytes of payload, a topic, and leave, back or both are needed",
			stampBytes)
	}
	t := &tally{begin: time.Now()}
	work := fmt.Sprintf("return %d × %d, %d B", b.Sessions, b.Messages, b.PayloadSize)
	if b.Only != Back {
		if err := errors.Join(b.each(ctx, b.leave), b.publish(ctx, t)); err != nil {
			return nil, err
		}
		if b.Only == Leave {
			t.end = time.Now()
			return t.result(work+", leave", b.PayloadSize), nil
		}
		t = &tally{begin: time.Now()}
	}
	if err := b.comeBack(ctx, t); err != nil {
		return nil, err
	}
	t.end = time.Now()
	return t.result(work, b.PayloadSize), b.each(ctx, b.forget)
}

func (b Returning) id(i int) string    { return fmt.Sprintf("bench-r-%d", i) }
func (b Returning) topic(i int) string { return fmt.Sprintf("%s/%d", b.Topic, i) }

// each does something for every session, so many together.
func (b Returning) each(ctx context.Context, do func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	all := newCrew(ctx)
	for range min(b.Together, b.Sessions) {
		all.run(func(ctx context.Context) error {
			for i := int(next.Add(1) - 1); i < b.Sessions; i = int(next.Add(1) - 1) {
				if err := errors.Join(ctx.Err(), do(ctx, i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(all.wait(), ctx.Err())
}

// leave makes a session that has subscribed. What was kept of an earlier run goes first.
func (b Returning) leave(ctx context.Context, i int) error {
	if err := b.forget(ctx, i); err != nil {
		return err
	}
	c, err := b.connect(ctx, b.Address, b.id(i), false)
	if err != nil {
		return err
	}
	return errors.Join(c.subscribe(b.topic(i), 1), c.disconnect())
}

func (b Returning) forget(ctx context.Context, i int) error {
	c, err := b.connect(ctx, b.Address, b.id(i), true)
	if err != nil {
		return err
	}
	return c.disconnect()
}

// publish sends every session its messages: round after round, one to each.
func (b Returning) publish(ctx context.Context, t *tally) error {
	all := newCrew(ctx)
	for w := range publishing {
		all.run(func(ctx context.Context) error { return b.publishSome(ctx, w, t) })
	}
	return errors.Join(all.wait(), ctx.Err())
}

// publishSome sends to every 16th session.
func (b Returning) publishSome(ctx context.Context, w int, t *tally) error {
	c, err := b.connect(ctx, b.Address, fmt.Sprintf("bench-p-%d", w), true)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	ahead, sent := 0, 0
	defer func() { t.messages.Add(int64(sent)); t.total.Add(int64(sent)) }()
	for n := range b.Messages {
		for i := w; i < b.Sessions; i += publishing {
			c.prepare(b.topic(i), 1, b.PayloadSize)
			binary.BigEndian.PutUint64(c.body, uint64(n))
			c.put(uint16(1 + sent%publishingAhead))
			if sent, ahead = sent+1, ahead+1; ahead == publishingAhead {
				if err := c.settle(ahead); err != nil {
					return err
				}
				ahead = 0
			}
		}
	}
	return errors.Join(c.settle(ahead), c.disconnect())
}

// settle sends what there is and waits for so many PUBACKs.
func (c *conn) settle(n int) error {
	if err := c.flush(); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for range n {
		if _, err := c.expect(0x40, 4); err != nil {
			return err
		}
	}
	return nil
}

// comeBack has all connect, and each take what it missed, and leave.
func (b Returning) comeBack(ctx context.Context, t *tally) error {
	taking := newCrew(ctx)
	err := b.each(taking.ctx, func(ctx context.Context, i int) error {
		began := time.Now()
		c, err := b.connect(ctx, b.Address, b.id(i), false)
		if err == nil {
			taking.run(func(ctx context.Context) error { return b.take(ctx, c, i, began, t) })
		}
		return err
	})
	if err != nil {
		taking.cancel(err)
	}
	return errors.Join(taking.wait(), ctx.Err())
}

// take takes what a session missed, and leaves.
func (b Returning) take(ctx context.Context, c *conn, i int, began time.Time, t *tally) error {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	for n := 0; n < b.Messages; {
		f, err := c.frame()
		if err != nil {
			return fmt.Errorf("session %s has %d of its %d messages: %w", b.id(i), n, b.Messages, err)
		}
		again := f[0] == 0x3a // PUBLISH, QoS 1, DUP
		payload, err := c.take(f)
		if err != nil {
			return err
		}
		if payload == nil {
			continue
		}
		got := binary.BigEndian.Uint64(payload)
		if again && got < uint64(n) {
			continue
		}
		if got != uint64(n) {
			return fault.New(fault.Corrupt, "bench.Returning", "session %s got message %d where %d is due", b.id(i), got, n)
		}
		n++
	}
	t.acked(samples{uint32(time.Since(began) / 100)})
	t.messages.Add(int64(b.Messages))
	t.total.Add(int64(b.Messages))
	return c.disconnect()
}

// disconnect ends a connection in order and waits for the broker to close it, which leaves our port free at once.
func (c *conn) disconnect() error {
	c.out = append(c.out, 0xe0, 0)
	if err := c.flush(); err != nil {
		return errors.Join(err, c.Close())
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for n, err := c.Read(c.buf); err == nil && n > 0; n, err = c.Read(c.buf) {
	}
	return c.Close()
}

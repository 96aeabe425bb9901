package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// window is the packet ids of one connection: those that are free, and when the others were due.
type window struct {
	free []uint16
	sent []time.Time // by packet id
}

func newWindow(size int) *window {
	w := &window{sent: make([]time.Time, size+1)}
	for id := size; id > 0; id-- {
		w.free = append(w.free, uint16(id))
	}
	return w
}

// take gives an id for a message that was due then; there must be a free one.
func (w *window) take(due time.Time) uint16 {
	id := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	w.sent[id] = due
	return id
}

// give takes an id back and says when its message was due.
func (w *window) give(id uint16) (due time.Time, ok bool) {
	if int(id) >= len(w.sent) || w.sent[id].IsZero() {
		return time.Time{}, false
	}
	due, w.sent[id] = w.sent[id], time.Time{}
	w.free = append(w.free, id)
	return due, true
}

// QoS 0 messages go out in bunches, each with a PINGREQ behind it: a broker answers that when all before it
// is done, which is the only way to know what it has taken. A bunch is one write; few enough of them are on
// the way that a broker that delivers slowly is not measured by what the sockets hold.
const (
	blindBunch = 16 << 10 // bytes
	blindAhead = 32       // bunches
)

// publishBlind sends QoS 0 messages as fast as the broker takes them.
func (r *run) publishBlind(c *conn) error {
	_ = c.SetReadDeadline(r.end.Add(patience))
	bunches := make(chan int64, blindAhead) // how many messages are in each
	both := newCrew(context.Background())   // the end of the run closes the connection, which ends them
	both.run(func(context.Context) error { return r.countBunches(c, bunches) })
	both.run(func(ctx context.Context) error {
		defer close(bunches)
		return r.sendBunches(ctx, c, bunches)
	})
	return both.wait()
}

func (r *run) sendBunches(ctx context.Context, c *conn, bunches chan<- int64) error {
	for now := time.Now(); now.Before(r.end); now = time.Now() {
		var n int64
		for ; len(c.out) < blindBunch; n++ {
			c.publish(0, now)
		}
		c.out = append(c.out, 0xc0, 0)
		select {
		case bunches <- n:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// countBunches counts what the PINGRESPs say is taken.
func (r *run) countBunches(c *conn, bunches <-chan int64) error {
	for n := range bunches {
		if _, err := c.expect(0xd0, 2); err != nil {
			return err
		}
		r.total.Add(n)
		if r.within(c.readAt) {
			r.messages.Add(n)
		}
	}
	return nil
}

// slots is a window that a sender and a receiver share: free ids, and the nanosecond each was due.
type slots struct {
	free chan uint16
	sent []atomic.Int64
	done atomic.Bool // nothing is in flight and nothing will be
}

func newSlots(size int) *slots {
	s := &slots{free: make(chan uint16, size), sent: make([]atomic.Int64, size+1)}
	for id := range size {
		s.free <- uint16(id + 1)
	}
	return s
}

// publishPaced sends one message after the other when it is due, round and round the connections: one
// sender for all, so that a message needs one wake-up of an exact clock.
func (r *run) publishPaced(ctx context.Context) error {
	ackers := newCrew(ctx)
	all := make([]*slots, len(r.pubs))
	if r.QoS > 0 {
		for i, c := range r.pubs {
			all[i] = newSlots(r.InFlight)
			_ = c.SetReadDeadline(r.end.Add(patience))
			ackers.run(func(context.Context) error { return r.receiveAcks(c, all[i]) })
		}
	}
	sent, err := r.sendPaced(ackers.ctx, all)
	if err != nil {
		ackers.cancel(err)
	}
	if r.QoS == 0 {
		r.total.Store(sent)
		r.messages.Store(int64(r.Rate * r.Duration.Seconds()))
		return err
	}
	for i, s := range all { // a free window means that all is acknowledged: end the receiver
		if waitFree(ackers.ctx, s, r.InFlight) {
			s.done.Store(true)
			_ = r.pubs[i].SetReadDeadline(time.Now())
		}
	}
	return ackers.wait()
}

func waitFree(ctx context.Context, s *slots, size int) bool {
	for range size {
		select {
		case <-s.free:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (r *run) sendPaced(ctx context.Context, all []*slots) (sent int64, err error) {
	p := newPace(time.Now(), r.Rate)
	for due := p.due(0); due.Before(r.end); due = p.due(sent) {
		sleepUntil(due)
		i := int(sent) % len(r.pubs)
		var id uint16
		if s := all[i]; s != nil {
			select {
			case id = <-s.free:
				s.sent[id].Store(due.UnixNano())
			case <-ctx.Done():
				return sent, context.Cause(ctx)
			}
		}
		r.pubs[i].publish(id, due)
		if err := r.pubs[i].flush(); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, ctx.Err()
}

// receiveAcks takes the acknowledgements of one connection until its deadline.
func (r *run) receiveAcks(c *conn, s *slots) error {
	var taken samples
	var out []byte
	defer func() { r.acked(taken) }()
	for {
		ack, err := c.frame()
		if err != nil {
			if s.done.Load() {
				return nil
			}
			return err
		}
		id, last, release, err := answered(r.QoS, ack, out[:0])
		if out = release; err != nil {
			return err
		}
		if int(id) >= len(s.sent) {
			return errNotInFlight(id)
		}
		if !last {
			if _, err := c.Write(out); err != nil { // not by way of c.out: that is the sender's
				return fault.Wrap(fault.IO, "bench.Write", err)
			}
			continue
		}
		r.total.Add(1)
		if due := s.sent[id].Load(); r.within(c.readAt) {
			r.messages.Add(1)
			taken.add(time.Duration(c.readAt.UnixNano() - due))
		}
		s.free <- id
	}
}

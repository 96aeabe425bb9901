package bench

import (
	"context"
	"time"
)

// publishApart keeps as many messages in flight as it may, with a goroutine a connection.
func (r *run) publishApart(ctx context.Context) error {
	all := newCrew(ctx)
	for _, c := range r.pubs {
		all.run(func(context.Context) error { return r.keepInFlight(c) })
	}
	return all.wait()
}

func (r *run) keepInFlight(c *conn) error {
	w := newWindow(r.InFlight)
	var taken samples
	_ = c.SetReadDeadline(r.end.Add(patience))
	for now := time.Now(); ; now = c.readAt {
		for now.Before(r.end) && len(w.free) > 0 {
			c.publish(w.take(now), now)
		}
		if err := c.flush(); err != nil {
			return err
		}
		if len(w.free) == r.InFlight { // the time is over and all are acknowledged
			break
		}
		if err := r.takeAcks(c, w, &taken); err != nil {
			return err
		}
	}
	r.acked(taken)
	return nil
}

// takeAcks waits for one answer and takes all that came with it.
func (r *run) takeAcks(c *conn, w *window, taken *samples) error {
	var done, measured int64
	for first := true; first || c.buffered(); first = false {
		ack, err := c.frame()
		if err != nil {
			return err
		}
		id, last, out, err := answered(r.QoS, ack, c.out)
		if c.out = out; err != nil {
			return err
		}
		if !last {
			continue
		}
		due, ok := w.give(id)
		if !ok {
			return errNotInFlight(id)
		}
		if done++; r.within(c.readAt) {
			measured++
			taken.add(c.readAt.Sub(due))
		}
	}
	r.total.Add(done)
	r.messages.Add(measured)
	return nil
}

package mqtt

import (
	"context"
	"errors"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/sys"
)

// publishWill publishes the will of a session, in one unit with other writes.
func (d *Door) publishWill(ctx context.Context, state *session.State, w *session.Will, with *stream.Unit,
	to stream.Receipt) error {
	m := &delay.Message{Client: state.ClientID(), User: w.User, From: w.From, Publish: w.Message}
	return d.publishFor(ctx, "will", m, with, to)
}

// publishFor publishes a message for a client that need not be there, in one unit with other writes. One that may not
// be published, or that nobody could, is dropped and counted: then the other writes are made alone. It waits for room
// in the log. Errors: those of the log.
func (d *Door) publishFor(ctx context.Context, what string, m *delay.Message, with *stream.Unit,
	to stream.Receipt) error {
	p := &m.Publish
	t := d.takeTurn()
	defer d.giveTurn(t)
	l := &link{door: d, account: new(limit.Account), principal: d.absent(m.Client, m.User, m.From)}
	l.account.Open(d.budget)
	defer l.account.Close()
	r, err := l.admittedRoute(t, p, p.Topic, &routes{})
	others := len(with.Writes)
	switch {
	case sys.IsBridge(p.Topic, p.Payload) && l.mayPublish(p.Topic) == nil:
		d.status.bridge(p.Topic, p.Payload)
	case err == nil:
		l.gather(t, p, p.Topic, r, true) // the client may be back by then, with any subscription
		with.Writes = append(with.Writes, t.unit.Writes...)
	case isLasting(err):
		d.leaveOut(what, m, err)
	default:
		return err
	}
	if len(with.Writes) == 0 {
		return nil
	}
	err = stream.AppendWait(ctx, d.log, with, to, 1)
	if others > 0 && len(with.Writes) > others && fault.Is(err, fault.TooLarge) {
		d.leaveOut(what, m, err)
		with.Writes = with.Writes[:others]
		err = stream.AppendWait(ctx, d.log, with, to, 1)
	}
	return err
}

// leaveOut counts a message that is not published.
func (d *Door) leaveOut(what string, m *delay.Message, why error) {
	d.metrics.dropped(dropRefused).Inc()
	d.opt.Logger.Warn(what+" not published",
		"client", fault.Text(m.Client), "topic", fault.Text(m.Publish.Topic), "error", why)
}

// isLasting tells whether what a publish was refused for will be so the next time.
func isLasting(err error) bool {
	for _, kind := range []fault.Kind{fault.Denied, fault.Invalid, fault.Limited, fault.TooLarge} {
		if fault.Is(err, kind) {
			return true
		}
	}
	return errors.Is(err, errBlocks)
}

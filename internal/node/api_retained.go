package node

import (
	"context"
	"errors"

	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The retained messages as the API has them.

// apiRetained implements api.Retained.
type apiRetained struct{ apiMessages }

// Names implements api.Retained.
func (m apiRetained) Names(ctx context.Context, filter, after string, limit int) ([]string, error) {
	return m.n.mqtt.RetainedNames(ctx, filter, after, limit)
}

// Message implements api.Retained.
func (m apiRetained) Message(ctx context.Context, v api.Visitor, name string) (*api.RetainedMessage, error) {
	r, err := m.n.mqtt.RetainedMessage(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return m.show(v, r)
}

// show is what somebody may see of a retained message, and tells the audit that it does. Errors: Internal.
func (m apiRetained) show(v api.Visitor, r *mqtt.RetainedMessage) (*api.RetainedMessage, error) {
	of, err := asVisitor(v)
	if err != nil {
		return nil, err
	}
	if topic := m.n.mapping.Load().TopicOf([]byte(r.Topic)); m.n.audit.WantsSome() && m.n.audit.Wants(topic) {
		of.tellRead(topic)
	}
	bytes, hidden := r.Bytes, false
	if pass := of.who.pass; pass != nil {
		if set := m.n.guard.MaskName(pass, []byte(r.Topic), ""); set != nil {
			hidden = !r.Mask(set)
			bytes = r.Bytes
		}
	}
	p := r.Publish()
	return &api.RetainedMessage{Name: r.Topic, Since: r.Since, Bytes: bytes, Hidden: hidden, Message: messageOf(&p)}, nil
}

// Versions implements api.Retained.
func (m apiRetained) Versions(ctx context.Context, v api.Visitor, name string, most int) (
	[]api.RetainedVersion, error,
) {
	all, err := m.n.mqtt.RetainedHistory(ctx, name, most)
	if err != nil {
		return nil, err
	}
	now, err := m.n.mqtt.RetainedMessage(ctx, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	shown := make([]api.RetainedVersion, 0, len(all))
	for i, r := range all {
		one := api.RetainedVersion{At: api.Place{Partition: uint32(r.Partition), Offset: int64(r.Offset)},
			Current: i == 0 && now != nil && now.Since.Equal(r.Since)}
		of, err := m.show(v, r)
		if err != nil {
			return nil, err
		}
		one.RetainedMessage = *of
		shown = append(shown, one)
	}
	return shown, nil
}

// Clear implements api.Retained.
func (m apiRetained) Clear(ctx context.Context, v api.Visitor, name string) (at *api.Published, err error) {
	err = m.change(ctx, "retained.clear", name, func() error {
		if _, err := m.n.mqtt.RetainedMessage(ctx, name); err != nil {
			return err
		}
		at, err = m.put(ctx, v, packet.Publish{Topic: []byte(name), QoS: 1, Retain: true})
		return err
	})
	return at, err
}

// Restore implements api.Retained.
func (m apiRetained) Restore(ctx context.Context, v api.Visitor, name string, from *api.Place) (
	at *api.Published, err error,
) {
	err = m.change(ctx, "retained.restore", name, func() error {
		r, err := m.restorable(ctx, name, from)
		if err != nil {
			return err
		}
		at, err = m.put(ctx, v, r.Publish())
		return err
	})
	return at, err
}

// restorable is what is restored. Errors: NotFound; Timeout; those of the log.
func (m apiRetained) restorable(ctx context.Context, name string, from *api.Place) (*mqtt.RetainedMessage, error) {
	if from != nil {
		return m.n.mqtt.RetainedAt(name, stream.PartitionID(from.Partition), record.Offset(from.Offset))
	}
	r, err := m.n.mqtt.RetainedBefore(ctx, name)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fault.Wrap(fault.Timeout, "api", err)
	}
	return r, err
}

// put publishes as who asks.
func (m apiRetained) put(ctx context.Context, v api.Visitor, p packet.Publish) (*api.Published, error) {
	g, err := m.guest(v)
	if err != nil {
		return nil, err
	}
	return m.publish(ctx, g, &p)
}

// change makes a change that the audit has been told of.
func (m apiRetained) change(ctx context.Context, action, name string, do func() error) error {
	e := chain.Event{Action: action, Resource: chain.Resource{Kind: "retained", Name: name}}
	return m.n.audit.Change(ctx, e, do)
}

var _ api.Retained = apiRetained{}

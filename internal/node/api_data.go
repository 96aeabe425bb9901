package node

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// What the API asks of the doors for who has no connection to them.

// guestPass is the pass of who asks: of the operator none. Whom nobody has asked who it is may do everything as long as
// there are neither users nor rules, and is nobody from then on.
func (v *apiVisitor) guestPass() *access.Pass {
	if v.who.pass == nil && !v.who.token {
		return v.n.access.Admit(rule.Subject{User: rule.Anonymous, Listener: "http", Protocol: "http"})
	}
	return v.who.pass
}

// MayName implements api.Visitor.
func (v *apiVisitor) MayName(o rule.Operation, name string) error {
	if v.SeesName(o, name) {
		return nil
	}
	return v.refuse(o, audit.KindName, name, "topic name", "--name")
}

// SeesName implements api.Visitor.
func (v *apiVisitor) SeesName(o rule.Operation, name string) bool {
	return v.who.pass == nil || v.n.guard.MayName(v.who.pass, o, []byte(name), "")
}

// MayFilter implements api.Visitor.
func (v *apiVisitor) MayFilter(filter string) error {
	if v.who.pass == nil || v.n.guard.MayFilter(v.who.pass, filter) {
		return nil
	}
	return v.refuse(rule.Read, audit.KindFilter, filter, "topic filter", "--name")
}

// refuse tells the audit of what is refused.
func (v *apiVisitor) refuse(o rule.Operation, kind, name, what, flag string) error {
	on := chain.Resource{Kind: kind, Name: name}
	v.n.audit.Tell(audit.Refusal(v.who.by, o.String(), on))
	user := fault.Text(v.who.pass.Who().User)
	return v.refused(o, on, fault.New(fault.Denied, "api", "%s may not %s the %s %s", user, o, what, fault.Text(name)).
		WithHint("firth acl explain --as %s %s %s %s tells by which rule", user, o, flag, fault.Text(name)))
}

// asVisitor is who asks.
func asVisitor(v api.Visitor) (*apiVisitor, error) {
	if of, is := v.(*apiVisitor); is {
		return of, nil
	}
	return nil, fault.New(fault.Internal, "api", "a %T asks", v)
}

// apiMessages is the device door as the API has it. It implements api.Messages and api.Retained.
type apiMessages struct {
	n   *Node
	way *mqtt.Listener
}

// guest is who asks, as the device door knows it. Errors: Internal.
func (apiMessages) guest(v api.Visitor) (mqtt.Guest, error) {
	of, err := asVisitor(v)
	if err != nil {
		return mqtt.Guest{}, err
	}
	return mqtt.Guest{Pass: of.guestPass(), By: of.who.by}, nil
}

// Publish implements api.Messages.
func (m apiMessages) Publish(ctx context.Context, v api.Visitor, name string, say *api.Message) (
	*api.Published, error,
) {
	g, err := m.guest(v)
	if err != nil {
		return nil, err
	}
	p, err := publishOf(name, say)
	if err != nil {
		return nil, err
	}
	return m.publish(ctx, g, p)
}

func (m apiMessages) publish(ctx context.Context, g mqtt.Guest, p *packet.Publish) (*api.Published, error) {
	at, err := m.way.Publish(ctx, g, p)
	if err != nil {
		return nil, err
	}
	return &api.Published{Topic: at.Topic, Partition: at.Partition, Offset: int64(at.Offset), Delayed: at.Delayed}, nil
}

// publishOf is a message as a PUBLISH. Errors: Invalid.
func publishOf(name string, m *api.Message) (*packet.Publish, error) {
	payload, err := m.Payload.Value()
	if err != nil {
		return nil, err
	}
	p := &packet.Publish{Topic: []byte(name), Payload: payload, QoS: 1, Retain: m.Retain}
	if m.QoS != nil {
		if *m.QoS < 0 || *m.QoS > 2 {
			return nil, fault.New(fault.Invalid, "api", "qos %d is not from 0 to 2", *m.QoS)
		}
		p.QoS = byte(*m.QoS)
	}
	if m.Format != nil {
		if *m.Format < 0 || *m.Format > 1 {
			return nil, fault.New(fault.Invalid, "api", "payload_format %d is neither 0 nor 1", *m.Format)
		}
		p.Props.SetPayloadFormat(byte(*m.Format))
	}
	if m.Expiry != nil {
		p.Props.SetMessageExpiry(*m.Expiry)
	}
	if m.ContentType != "" {
		p.Props.SetContentType([]byte(m.ContentType))
	}
	if m.ResponseTopic != "" {
		p.Props.SetResponseTopic([]byte(m.ResponseTopic))
	}
	if m.Correlation != nil {
		data, err := m.Correlation.Value()
		if err != nil {
			return nil, err
		}
		p.Props.SetCorrelationData(data)
	}
	for _, u := range m.User {
		p.Props.AddUser(u.Name, u.Value)
	}
	return p, nil
}

// messageOf is a PUBLISH as the API shows it.
func messageOf(p *packet.Publish) api.Message {
	m := api.Message{Payload: api.BytesOf(p.Payload), QoS: new(int(p.QoS)), Retain: p.Retain,
		ContentType: string(p.Props.ContentType), ResponseTopic: string(p.Props.ResponseTopic)}
	if p.Payload == nil {
		m.Payload = api.BytesOf([]byte{})
	}
	if p.Props.Has(packet.PropPayloadFormat) {
		m.Format = new(int(p.Props.PayloadFormat))
	}
	if p.Props.Has(packet.PropMessageExpiry) {
		m.Expiry = new(p.Props.MessageExpiry)
	}
	if p.Props.Has(packet.PropCorrelationData) {
		m.Correlation = api.BytesOf(p.Props.CorrelationData)
	}
	for name, value := range p.Props.User.All() {
		m.User = append(m.User, api.Property{Name: string(name), Value: string(value)})
	}
	return m
}

// Follow implements api.Messages.
func (m apiMessages) Follow(ctx context.Context, v api.Visitor, o api.Following) (api.Follower, error) {
	g, err := m.guest(v)
	if err != nil {
		return nil, err
	}
	f, err := m.n.mqtt.Follow(ctx, g, mqtt.Follow{Filter: o.Filter, After: o.After, From: o.From, Retained: o.Retained})
	if err != nil {
		return nil, err
	}
	return apiFollower{f}, nil
}

// apiFollower is a follower as the API has it. It implements api.Follower.
type apiFollower struct{ *mqtt.Follower }

// Next implements api.Follower.
func (f apiFollower) Next(ctx context.Context, within time.Duration) (*api.Event, error) {
	one, err := f.Follower.Next(ctx, within)
	switch {
	case err != nil || one == nil:
		return nil, err
	case one.Missed > 0:
		return &api.Event{Missed: one.Missed}, nil
	}
	e := &api.Event{ID: one.ID, Name: string(one.Publish.Topic), Message: messageOf(&one.Publish), Hidden: one.Hidden,
		Bytes: len(one.Publish.Payload), Retained: one.Retained}
	if !one.Time.IsZero() {
		e.Time = &one.Time
	}
	if !one.Retained {
		e.Place = &api.Published{Topic: one.At.Topic, Partition: one.At.Partition, Offset: int64(one.At.Offset)}
	}
	return e, nil
}

// apiBackend is the back-end door as the API has it. It implements api.Backend.
type apiBackend struct{ door *kafka.Door }

// guest is who asks, as the back-end door knows it. Errors: Internal.
func (apiBackend) guest(v api.Visitor) (kafka.Guest, error) {
	of, err := asVisitor(v)
	if err != nil {
		return kafka.Guest{}, err
	}
	return kafka.Guest{Pass: of.guestPass(), By: of.who.by, Listener: "http"}, nil
}

// Produce implements api.Backend.
func (b apiBackend) Produce(ctx context.Context, v api.Visitor, topic string, to map[int32][]record.Record) (
	map[int32]api.Stored, error,
) {
	g, err := b.guest(v)
	if err != nil {
		return nil, err
	}
	done, err := b.door.Produce(ctx, g, topic, to)
	if err != nil {
		return nil, err
	}
	stored := make(map[int32]api.Stored, len(done))
	for index, one := range done {
		stored[index] = api.Stored{Offset: one.Offset, Err: one.Err}
	}
	return stored, nil
}

// CreateTopic implements api.Backend.
func (b apiBackend) CreateTopic(ctx context.Context, v api.Visitor, topic string, partitions int,
	config map[string]string) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.CreateTopic(ctx, g, topic, partitions, config)
}

// GrowTopic implements api.Backend.
func (b apiBackend) GrowTopic(ctx context.Context, v api.Visitor, topic string, partitions int) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.GrowTopic(ctx, g, topic, partitions)
}

// ConfigureTopic implements api.Backend.
func (b apiBackend) ConfigureTopic(ctx context.Context, v api.Visitor, topic string, config map[string]*string) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.ConfigureTopic(ctx, g, topic, config)
}

// DeleteTopic implements api.Backend.
func (b apiBackend) DeleteTopic(ctx context.Context, v api.Visitor, topic string) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.DeleteTopic(ctx, g, topic)
}

// DeleteRecords implements api.Backend.
func (b apiBackend) DeleteRecords(ctx context.Context, v api.Visitor, topic string, partition int,
	before record.Offset) (record.Offset, error) {
	g, err := b.guest(v)
	if err != nil {
		return 0, err
	}
	return b.door.DeleteRecords(ctx, g, topic, partition, before)
}

// CommitOffsets implements api.Backend.
func (b apiBackend) CommitOffsets(ctx context.Context, v api.Visitor, group string,
	to map[string]map[int32]int64) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.CommitOffsets(ctx, g, group, to)
}

// DeleteGroup implements api.Backend.
func (b apiBackend) DeleteGroup(ctx context.Context, v api.Visitor, group string) error {
	g, err := b.guest(v)
	if err != nil {
		return err
	}
	return b.door.DeleteGroup(ctx, g, group)
}

var (
	_ api.Messages = apiMessages{}
	_ api.Backend  = apiBackend{}
)

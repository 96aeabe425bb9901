package node

import (
	"context"

	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt"
)

// apiClients are the sessions of devices as the API has them. It implements api.Clients.
type apiClients struct{ n *Node }

func apiSession(line *mqtt.SessionLine, dropped uint64, gateway string) api.Session {
	return api.Session{Gateway: gateway, Client: line.Client, State: line.State, Since: line.Since, Remote: line.Remote,
		Listener: line.Listener, User: line.User, Version: line.Version, Expiry: line.Expiry,
		Subscriptions: line.Subscriptions, InFlight: line.InFlight, Behind: line.Behind, Dropped: int64(dropped)}
}

// EachSession implements api.Clients.
func (c apiClients) EachSession(visit func(*api.Session)) {
	var s api.Session
	c.n.mqtt.EachSession(func(line mqtt.SessionLine, dropped uint64) {
		s = apiSession(&line, dropped, c.n.gatewayName())
		visit(&s)
	})
}

// Backlogs implements api.Clients.
func (c apiClients) Backlogs() func(client string) (int64, error) { return c.n.mqtt.Backlogs().Of }

// EachRecipient implements api.Clients.
func (c apiClients) EachRecipient(of api.Sought, visit func(*api.Recipient)) error {
	t := c.n.keeper.Topics().ByName(of.Topic)
	if t == nil || of.Partition >= len(t.Partitions) {
		return fault.New(fault.NotFound, "topic "+fault.Text(of.Topic), "there is no partition %d of it", of.Partition)
	}
	sought := mqtt.Sought{Name: of.Name, Partition: t.Partitions[of.Partition], Offset: record.Offset(of.Offset),
		Time: of.Time}
	c.n.mqtt.EachRecipient(sought, func(r mqtt.Recipient) {
		visit(&api.Recipient{Client: r.Client, State: r.State, Filter: r.Filter, QoS: int(r.QoS), Stage: string(r.Stage),
			Next: int64(r.Next)})
	})
	return nil
}

// Session implements api.Clients.
func (c apiClients) Session(ctx context.Context, client string) (*api.SessionDetail, error) {
	d, err := c.n.session(ctx, client)
	if err != nil {
		return nil, err
	}
	dropped := uint64(0)
	for _, n := range d.Drops {
		dropped += n
	}
	s := &api.SessionDetail{Session: apiSession(&d.SessionLine, dropped, d.Gateway), KeepAlive: int(d.KeepAlive),
		Window: d.Window, Will: d.Will, Drops: d.Drops, Filters: []api.Subscription{}, Lag: []api.SessionLag{}}
	if s.Drops == nil {
		s.Drops = map[string]uint64{}
	}
	for _, f := range d.Filters {
		s.Filters = append(s.Filters, api.Subscription{Filter: f.Filter, QoS: int(f.QoS), From: f.From})
	}
	for _, l := range d.Lag {
		s.Lag = append(s.Lag, api.SessionLag{Topic: l.Topic, Partition: int(l.Partition), Next: int64(l.Next),
			End: int64(l.End), Lag: l.Lag})
	}
	return s, nil
}

// Events implements api.Clients.
func (c apiClients) Events(ctx context.Context, client string) (*api.SessionEvents, error) {
	all, silent, err := c.n.events(ctx, client)
	if err != nil {
		return nil, err
	}
	events := &api.SessionEvents{Items: make([]api.SessionEvent, 0, len(all)), Silent: silent}
	for _, e := range all {
		events.Items = append(events.Items, api.SessionEvent{Time: e.At, What: e.What, Text: e.Text, Reason: e.Code})
	}
	return events, nil
}

// Kick implements api.Clients.
func (c apiClients) Kick(ctx context.Context, client string, forget bool) (said *api.Kicked, err error) {
	e := chain.Event{Action: "session.kick", Resource: chain.Resource{Kind: "session", Name: client},
		After: audit.State(map[string]any{"client": client, "forget": forget})}
	err = c.n.audit.Change(ctx, e, func() error {
		k, err := c.n.kick(ctx, client, forget)
		if err == nil {
			said = &api.Kicked{Client: k.Client, Connected: k.Connected, Forgotten: k.Forgotten}
		}
		return err
	})
	return said, err
}

// apiGroups are the groups of Kafka clients as the API has them. It implements api.Groups.
type apiGroups struct{ door *kafka.Door }

func apiGroup(g *kafka.GroupLook) *api.GroupDetail {
	d := &api.GroupDetail{Group: api.Group{ID: g.ID, Type: g.Type, State: g.State, Protocol: g.Protocol,
		Members: g.Members}}
	for _, l := range g.Behind {
		d.Positions = append(d.Positions, api.GroupPosition{Topic: l.Topic, Partition: int(l.Partition),
			Committed: l.Committed, Next: l.Next, Lag: l.Lag})
	}
	return d
}

// EachGroup implements api.Groups.
func (g apiGroups) EachGroup(visit func(*api.GroupDetail)) {
	g.door.EachGroup(func(look *kafka.GroupLook) { visit(apiGroup(look)) })
}

// Group implements api.Groups.
func (g apiGroups) Group(id string) *api.GroupDetail {
	look := g.door.Group(id)
	if look == nil {
		return nil
	}
	return apiGroup(look)
}

package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
)

// What the audit is told of: who logs in, what is refused, and what is changed. While nobody has asked for users or
// rules nothing of it is.

// by is who the connection is of, as the audit has it. Only its reader may ask.
func (c *conn) by() audit.By {
	by := audit.By{Actor: chain.Actor{Principal: c.principal}}
	if p := c.pass.Load(); p != nil {
		by = p.By()
	}
	if by.Origin.Address == "" {
		by.Origin.Address = c.host[1:]
	}
	by.Origin.Client = c.clientID
	return by
}

// as notes who asks for what is done with a context.
func (c *conn) as(ctx context.Context) context.Context { return audit.As(ctx, c.by()) }

// may asks the guard, and tells the audit of a no; without a guard everything is allowed.
func (o *Options) may(c *conn, op Operation, on Resource, name string) bool {
	if o.sees(c, op, on, name) {
		c.pass.Load().Tried(op, on, name)
		return true
	}
	o.refused(c, op, on, name)
	return false
}

// sees is may where nothing is refused: what a client may not see is left out.
func (o *Options) sees(c *conn, op Operation, on Resource, name string) bool {
	return o.Guard == nil || c.operator || o.Guard.May(c.pass.Load(), op, on, name)
}

// refused tells the audit that a client may not do something. Any goroutine may.
func (o *Options) refused(c *conn, op Operation, on Resource, name string) {
	if p := c.pass.Load(); p != nil && o.Audit.On() {
		o.Audit.Tell(audit.Refusal(p.By(), op.String(), chain.Resource{Kind: on.String(), Name: name}))
	}
}

// tellLogin tells that a client has shown who it is, or has not.
func (c *conn) tellLogin(method, claims string, err error) {
	if !c.door.opt.Audit.On() {
		return
	}
	by := c.by()
	e := chain.Event{Type: chain.TypeLogin, Origin: by.Origin, Actor: by.Actor, Action: "connect",
		Outcome: chain.Success}
	if err != nil {
		e.Outcome, e.Reason = chain.Failure, err.Error()
		e.Actor = chain.Actor{CN: by.Actor.CN}
		if claims != "" {
			e.Actor.Principal = rule.UserPrefix + claims
		}
	}
	e.Actor.Method = method
	c.door.opt.Audit.Tell(e)
}

// alteration is a change that a client asks for.
type alteration struct {
	action        string
	on            chain.Resource
	before, after any // nil: there is nothing to tell
}

func topicOf(name string) chain.Resource { return chain.Resource{Kind: "topic", Name: name} }
func groupOf(id string) chain.Resource   { return chain.Resource{Kind: "group", Name: id} }

// places are offsets of partitions, as the audit has them.
type places map[partitionKey]int64

// mostPlaces bounds the places in a record.
const mostPlaces = 1000

// MarshalJSON implements json.Marshaler: by topic and partition, and how many more there are.
func (p places) MarshalJSON() ([]byte, error) {
	said := struct {
		Offsets map[string]map[int32]int64 `json:"offsets"`
		More    int                        `json:"more,omitempty"`
	}{map[string]map[int32]int64{}, max(len(p)-mostPlaces, 0)}
	keys := slices.SortedFunc(maps.Keys(p), func(a, b partitionKey) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.index, b.index))
	})
	for _, key := range keys[:min(len(keys), mostPlaces)] {
		if said.Offsets[key.topic] == nil {
			said.Offsets[key.topic] = map[int32]int64{}
		}
		said.Offsets[key.topic][key.index] = p[key]
	}
	return json.Marshal(said)
}

// offsetsOf are the committed offsets of a group, for the audit.
func (co *coordinator) offsetsOf(id string) places {
	all := places{}
	if !co.opt.Audit.On() {
		return all
	}
	og := co.enter(id, false)
	if og == nil {
		return all
	}
	defer co.release(og)
	for key := range og.mu.offsets {
		all[key] = og.mu.offsets[key].At
	}
	return all
}

// alter makes a change that the audit has been told of. Errors: those of the audit, and nothing is changed; those of
// do.
func (o *Options) alter(ctx context.Context, c *conn, a alteration, do func() error) error {
	return o.alterAs(c.as(ctx), a, do)
}

// alterAs is alter for who is known by the context.
func (o *Options) alterAs(ctx context.Context, a alteration, do func() error) error {
	if !o.Audit.On() {
		return do()
	}
	e := chain.Event{Action: a.action, Resource: a.on, Before: audit.State(a.before), After: audit.State(a.after)}
	return o.Audit.Change(ctx, e, do)
}

// telling is for a change that need not wait for its record: its outcome is told in one. The function that it gives may
// be called by any goroutine.
func (o *Options) telling(c *conn, a *alteration) func(wire.Code) {
	by := c.by()
	e := chain.Event{Type: chain.TypeChange, Actor: by.Actor, Origin: by.Origin, Action: a.action, Resource: a.on,
		Outcome: chain.Success, Before: audit.State(a.before), After: audit.State(a.after)}
	return func(done wire.Code) {
		if done != wire.None {
			e.Outcome, e.Reason = chain.Failure, fmt.Sprintf("error code %d", done)
		}
		o.Audit.Tell(e)
	}
}

// seats are members of a group, as the audit has them.
type seats struct {
	Members []seat `json:"members"`
	More    int    `json:"more,omitempty"`
}

// seat is a member of a group.
type seat struct {
	ID       string `json:"id"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client,omitempty"`
	Host     string `json:"host,omitempty"`
}

// mostSeats bounds the members in a record.
const mostSeats = 100

// removing is what the audit is to be told before members are removed; nil: nothing, for they leave. Who is not the
// client that joined, by its id and its address, or calls a member by its instance only, removes it.
func (co *coordinator) removing(c *conn, id string, whos []group.Who, reason string) *alteration {
	if !co.opt.Audit.On() {
		return nil
	}
	og := co.enter(id, false)
	if og == nil {
		return nil
	}
	var before seats
	all := og.mu.g.Len()
	for _, who := range whos {
		m, is := og.mu.g.Seat(who)
		switch {
		case !is, who.MemberID != "" && m.ClientID == bounded(c.clientID) && m.ClientHost == bounded(c.host):
		case len(before.Members) == mostSeats:
			before.More++
		default:
			before.Members = append(before.Members, seat{m.ID, m.InstanceID, m.ClientID, m.ClientHost})
		}
	}
	co.release(og)
	if len(before.Members) == 0 {
		return nil
	}
	after := struct {
		Left   int    `json:"left"`
		Reason string `json:"reason,omitempty"`
	}{max(all-len(before.Members)-before.More, 0), bounded(reason)}
	return &alteration{action: "group.remove_members", on: groupOf(id), before: before, after: after}
}

// configAfter are the settings of a topic behind a change.
func configAfter(config map[string]string, change *stream.TopicChange) map[string]string {
	after := map[string]string{}
	maps.Copy(after, config)
	for _, name := range change.Unset {
		delete(after, name)
	}
	maps.Copy(after, change.Set)
	return after
}

// tellData tells of records of a topic whose reads or writes are told. Any goroutine may.
func (o *Options) tellData(c *conn, what string, op Operation, topic string) {
	if !o.Audit.WantsSome() || !o.Audit.Wants(topic) {
		return
	}
	by := access.By(&rule.Subject{})
	if p := c.pass.Load(); p != nil {
		by = p.By()
	} else if c.operator {
		by.Actor = chain.Actor{Principal: c.principal}
	}
	if by.Origin.Address == "" {
		by.Origin.Address = c.host[1:]
	}
	o.Audit.Tell(chain.Event{Type: what, Actor: by.Actor, Origin: by.Origin, Action: op.String(),
		Resource: topicOf(topic), Outcome: chain.Success})
}

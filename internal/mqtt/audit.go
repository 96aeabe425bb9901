package mqtt

import (
	"cmp"
	"context"
	"fmt"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/ban"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
)

// What the audit is told of: who logs in, whose session goes to whom, and what is refused. While nobody has asked for
// users or rules nothing of it is.

// by is who the connection is of, as the audit has it.
func (c *conn) by() audit.By {
	if p := c.link.principal.pass; p != nil {
		return p.By()
	}
	who := c.subject(&c.link.principal)
	return access.By(&who)
}

// tellLogin tells that the client was let in.
func (c *conn) tellLogin(hello *packet.Connect) {
	p := c.link.principal.pass
	if p == nil || !c.door.opt.Audit.On() {
		return
	}
	by := c.by()
	switch {
	case c.auth != nil:
		by.Actor.Method = string(c.auth.method)
	case p.Method() != "":
		by.Actor.Method = p.Method()
	case hello.HasPassword && c.link.principal.UserName != "":
		by.Actor.Method = "password"
	default:
		by.Actor.Method = "none"
	}
	c.door.opt.Audit.Tell(chain.Event{Type: chain.TypeLogin, Actor: by.Actor, Origin: by.Origin, Action: "connect",
		Outcome: chain.Success})
}

// tellRefusedLogin tells that the client was not let in, if that is for who it is.
func (c *conn) tellRefusedLogin(hello *packet.Connect, reason packet.ReasonCode, cause error) {
	switch reason {
	case packet.NotAuthorized, packet.BadUserNameOrPassword, packet.BadAuthenticationMethod, packet.Banned,
		packet.ServerBusy, packet.ServerUnavailable:
	default:
		return
	}
	if hello == nil || !c.door.opt.Audit.On() {
		return
	}
	by := c.by()
	switch {
	case hello.HasPassword:
		by.Actor.Method = "password"
	case c.auth != nil:
		by.Actor.Method = string(c.auth.method)
		if by.Actor.Principal == "" && c.auth.claims != "" {
			by.Actor.Principal = rule.UserPrefix + c.auth.claims
		}
	}
	c.door.opt.Audit.Tell(chain.Event{Type: chain.TypeLogin, Actor: by.Actor, Origin: by.Origin, Action: "connect",
		Outcome: chain.Failure, Reason: cause.Error()})
}

// tellAgain tells that a client that was let in has authenticated again, or has failed to.
func (c *conn) tellAgain(cause error) {
	if c.link.principal.pass == nil || !c.door.opt.Audit.On() {
		return
	}
	by := c.by()
	by.Actor.Method = string(c.auth.method)
	e := chain.Event{Type: chain.TypeLogin, Actor: by.Actor, Origin: by.Origin, Action: "reauthenticate",
		Outcome: chain.Success}
	if cause != nil {
		e.Outcome, e.Reason = chain.Failure, cause.Error()
	}
	c.door.opt.Audit.Tell(e)
}

// tellTakeover tells that another connection loses its session to this one.
func (l *link) tellTakeover(before roster.Holder) {
	c, _ := l.driver.(*conn)
	loser, _ := before.(*conn)
	if c == nil || loser == nil || !c.door.opt.Audit.On() {
		return
	}
	by, was := c.by(), loser.by()
	l.door.opt.Audit.Tell(chain.Event{Type: chain.TypeTakeover, Actor: by.Actor, Origin: by.Origin, Action: "take over",
		Resource: chain.Resource{Kind: "session", Name: l.principal.ClientID}, Outcome: chain.Success,
		Reason: fmt.Sprintf("it was of %s, from %s", cmp.Or(was.Actor.Principal, rule.UserPrefix+rule.Anonymous),
			was.Origin.Address)})
}

// tellFlapping tells that the node bans a client of itself. That does not wait: the ban is in force at once.
func (d *Door) tellFlapping(who *Principal, one *ban.Ban) {
	if who.pass == nil || !d.opt.Audit.On() {
		return
	}
	d.opt.Audit.Tell(chain.Event{Type: chain.TypeChange, Actor: chain.Actor{Principal: audit.NodeItself},
		Origin: who.pass.By().Origin, Action: "ban.set", Outcome: chain.Success,
		Resource: chain.Resource{Kind: "ban", Name: string(one.Kind) + " " + one.Who}, Reason: one.Reason,
		After: audit.State(banLine(one))})
}

// tellRefused tells that the client may not do something to a topic name or filter; count is how often, 0: once.
func (d *Door) tellRefused(who *Principal, o rule.Operation, kind, name string, count int) {
	if who.pass == nil || !d.opt.Audit.On() {
		return
	}
	e := audit.Refusal(who.pass.By(), o.String(), chain.Resource{Kind: kind, Name: name})
	e.Count = count
	d.opt.Audit.Tell(e)
}

// tellWrite tells of a message to a topic whose writes are told.
func (l *link) tellWrite(topic string) { l.tellData(chain.TypeProduce, "write", topic) }

// tellRead tells of a message from a topic whose reads are told.
func (l *link) tellRead(d *fanout.Delivery) {
	if !l.door.opt.Audit.WantsSome() {
		return
	}
	t := l.door.opt.Log.Topics().Place(stream.PartitionID(d.From.Partition)).Topic
	if t != nil && l.door.opt.Audit.Wants(t.Name) {
		l.tellData(chain.TypeFetch, "read", t.Name)
	}
}

func (l *link) tellData(what, action, topic string) {
	by := audit.By{Origin: chain.Origin{Client: l.principal.ClientID}}
	switch who := &l.principal; {
	case who.operator != nil:
		by = *who.operator
	case who.pass != nil:
		by = who.pass.By()
	}
	l.door.opt.Audit.Tell(chain.Event{Type: what, Actor: by.Actor, Origin: by.Origin, Action: action,
		Resource: chain.Resource{Kind: "topic", Name: topic}, Outcome: chain.Success})
}

// makeTopic makes a log topic that the audit was told of.
func (d *Door) makeTopic(ctx context.Context, spec stream.TopicSpec) (t *stream.Topic, err error) {
	if !d.opt.Audit.On() {
		return d.opt.Log.CreateTopic(ctx, spec)
	}
	e := chain.Event{Action: "topic.create", Resource: chain.Resource{Kind: "topic", Name: spec.Name},
		Actor: chain.Actor{Principal: audit.NodeItself}, Reason: "a device publishes to it"}
	err = d.opt.Audit.Change(ctx, e, func() (err error) {
		t, err = d.opt.Log.CreateTopic(ctx, spec)
		return err
	})
	return t, err
}

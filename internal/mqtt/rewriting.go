package mqtt

import (
	"fmt"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
	"github.com/firthmq/firth/internal/names"
)

// Topics that are not as clients said them: rewritten ones, and filters that clients are subscribed to unasked.

// AutoSubscription is a filter that every client is subscribed to when it connects.
type AutoSubscription struct {
	Filter            string // template: ${clientid} and ${username} are those of the client
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// autoSubscription is one whose filter was read.
type autoSubscription struct {
	AutoSubscription
	filter *rewrite.Template
}

// Check tells what is wrong with it.
func (a *AutoSubscription) Check() error {
	_, err := a.compile()
	return err
}

func (a *AutoSubscription) compile() (autoSubscription, error) {
	filter, err := rewrite.ParseTemplate(a.Filter, 0)
	if err != nil {
		return autoSubscription{}, err
	}
	sample, _ := filter.Expand(rewrite.Who{Client: "c", User: "u"}, nil, nil)
	if err := names.CheckFilter(sample); err != nil {
		return autoSubscription{}, err
	}
	if a.QoS > 2 || a.RetainHandling > 2 {
		return autoSubscription{}, fmt.Errorf("QoS %d, retain handling %d: both are 0 to 2", a.QoS, a.RetainHandling)
	}
	return autoSubscription{*a, filter}, nil
}

// Rewriting is what becomes of the topics that clients name, and what they are subscribed to unasked. It is immutable.
type Rewriting struct {
	rules   *rewrite.Table // nil: topics are as clients say them
	unasked []autoSubscription
}

// NewRewriting reads the rules. Errors: Invalid.
func NewRewriting(rules []rewrite.Rule, unasked []AutoSubscription) (*Rewriting, error) {
	const op = "mqtt.NewRewriting"
	r := &Rewriting{}
	var err error
	if r.rules, err = rewrite.New(rules); err != nil {
		return nil, fault.New(fault.Invalid, op, "rewrite: %w", err)
	}
	for i := range unasked {
		a, err := unasked[i].compile()
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "auto-subscribe %d: %w", i+1, err)
		}
		r.unasked = append(r.unasked, a)
	}
	return r, nil
}

// SetRewriting has other rules hold for what clients say, and for who connects, from now on. Subscriptions that there
// are stay as they were made.
func (d *Door) SetRewriting(r *Rewriting) { d.rewriting.Store(r) }

// rewrite are the rules in force; nil: topics are as clients say them.
func (d *Door) rewrite() *rewrite.Table { return d.rewriting.Load().rules }

func (p *Principal) who() rewrite.Who { return rewrite.Who{Client: p.ClientID, User: p.UserName} }

// rewriteFilters has filters of the client be those that the rules make of them.
func (l *link) rewriteFilters(filters [][]byte) {
	rules := l.door.rewrite()
	if rules == nil {
		return
	}
	for i, filter := range filters {
		filters[i] = rules.Filter(filter, l.principal.who())
	}
}

// rewriteSubscriptions is rewriteFilters of a SUBSCRIBE. What becomes of a filter may be none: then it is refused.
func (l *link) rewriteSubscriptions(p *packet.Subscribe) {
	rules := l.door.rewrite()
	if rules == nil {
		return
	}
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		if one.Reason.Failed() {
			continue
		}
		one.Filter = rules.Filter(one.Filter, l.principal.who())
		if names.CheckFilter(one.Filter) != nil {
			one.Reason = packet.TopicFilterInvalid
		}
	}
}

// subscribeUnasked subscribes a client that connects to what it does not have of AutoSubscribe: it is called before the
// CONNACK goes out, so that what is published from then on comes. What the client may not subscribe to, and what its
// name makes no filter of, is left out. Errors: those of subscribe.
func (l *link) subscribeUnasked() error {
	d := l.door
	unasked := d.rewriting.Load().unasked
	if len(unasked) == 0 {
		return nil
	}
	var p packet.Subscribe
	for i := range unasked {
		a := &unasked[i]
		filter, ok := a.filter.Expand(l.principal.who(), nil, nil)
		if !ok || names.CheckFilter(filter) != nil {
			d.tell("a client is not subscribed: its name makes no topic filter", l.principal.ClientID,
				packet.TopicFilterInvalid, "filter", a.Filter)
			continue
		}
		if !l.subscribed(string(filter)) {
			p.Subscriptions = append(p.Subscriptions, packet.Subscription{Filter: filter, QoS: a.QoS, NoLocal: a.NoLocal,
				RetainAsPublished: a.RetainAsPublished, RetainHandling: a.RetainHandling})
		}
	}
	if len(p.Subscriptions) == 0 {
		return nil
	}
	t := d.takeTurn()
	defer d.giveTurn(t)
	return l.subscribe(t, &p)
}

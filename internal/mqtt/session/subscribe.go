package session

import (
	"bytes"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Subscription is a subscription in force. It is immutable: a new SUBSCRIBE of its filter makes another.
type Subscription struct {
	Filter            string
	ID                uint32 // subscription identifier; 0: none
	QoS               byte   // granted: 0 or 1
	NoLocal           bool
	RetainAsPublished bool
}

// Grant is the answer to one filter of a SUBSCRIBE.
type Grant struct {
	Reason   packet.ReasonCode
	Sub      *Subscription // nil when refused
	Old      *Subscription // what it replaces, or nil
	Retained bool          // retained messages are to be sent
}

// Subscribe answers every filter of a SUBSCRIBE in order [MQTT-3.8.4-6], appended to grants. A filter
// whose Reason is a failure already (refused by the guard) is refused with it, one of too many levels as invalid.
func (s *Session) Subscribe(p *packet.Subscribe, grants []Grant) []Grant {
	for i := range p.Subscriptions {
		grants = append(grants, s.subscribe(&p.Subscriptions[i], p.Props.SubscriptionID()))
	}
	return grants
}

func (s *Session) subscribe(one *packet.Subscription, id uint32) Grant {
	switch {
	case one.Reason.Failed():
		return Grant{Reason: one.Reason}
	case names.TooDeep(one.Filter):
		return Grant{Reason: packet.TopicFilterInvalid}
	case bytes.HasPrefix(one.Filter, []byte("$share/")):
		return Grant{Reason: packet.SharedSubscriptionsNotSupported}
	}
	old := s.subs[string(one.Filter)]
	if old == nil && len(s.subs) >= s.limits.MaxSubscriptions {
		return Grant{Reason: packet.QuotaExceeded}
	}
	sub := &Subscription{
		Filter: string(one.Filter), ID: id, QoS: min(one.QoS, 1),
		NoLocal: one.NoLocal, RetainAsPublished: one.RetainAsPublished,
	}
	if s.subs == nil {
		s.subs = make(map[string]*Subscription)
	}
	s.subs[sub.Filter] = sub // [MQTT-3.8.4-3]
	return Grant{
		Reason: packet.ReasonCode(sub.QoS), Sub: sub, Old: old,
		Retained: one.RetainHandling == 0 || one.RetainHandling == 1 && old == nil, // [MQTT-3.3.1-9] and on
	}
}

// Unsubscribe ends the subscription of a filter and returns it, or nil if there is none.
func (s *Session) Unsubscribe(filter []byte) *Subscription {
	sub := s.subs[string(filter)]
	delete(s.subs, string(filter))
	return sub
}

// Subscriptions is the number of filters.
func (s *Session) Subscriptions() int { return len(s.subs) }

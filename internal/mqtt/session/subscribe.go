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
	QoS               byte   // granted: 0 to MaxQoS
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
//
// Room is how many bytes they may add to what the session makes us hold; a filter beyond it is refused.
func (s *State) Subscribe(p *packet.Subscribe, room int, grants []Grant) []Grant {
	most := int(s.held) + room
	for i := range p.Subscriptions {
		grants = append(grants, s.subscribe(&p.Subscriptions[i], most, p.Props.SubscriptionID()))
	}
	return grants
}

func (s *State) subscribe(one *packet.Subscription, most int, id uint32) Grant {
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
	if old == nil && int(s.held)+holds(one.Filter) > most {
		return Grant{Reason: packet.QuotaExceeded}
	}
	sub := &Subscription{
		Filter: string(one.Filter), ID: id, QoS: min(one.QoS, MaxQoS),
		NoLocal: one.NoLocal, RetainAsPublished: one.RetainAsPublished,
	}
	if s.subs == nil {
		s.subs = make(map[string]*Subscription)
	}
	s.subs[sub.Filter] = sub // [MQTT-3.8.4-3]
	if old == nil {
		s.held += int32(holds(one.Filter))
	}
	return Grant{
		Reason: packet.ReasonCode(sub.QoS), Sub: sub, Old: old,
		Retained: one.RetainHandling == 0 || one.RetainHandling == 1 && old == nil, // [MQTT-3.3.1-9] and on
	}
}

// Unsubscribe ends the subscription of a filter and returns it, or nil if there is none.
func (s *State) Unsubscribe(filter []byte) *Subscription {
	sub := s.subs[string(filter)]
	if sub != nil {
		s.held -= int32(holds(filter))
		delete(s.subs, sub.Filter)
	}
	return sub
}

// holds is about how many bytes a subscription makes us hold: its filter, in the tables of the session and of the
// fanout, itself, and a node of the trie for each level.
func holds(filter []byte) int {
	const self, node = 300, 100
	return self + 3*len(filter) + node*(1+bytes.Count(filter, []byte("/")))
}

// Subscribed tells whether there is a subscription to a filter.
func (s *State) Subscribed(filter string) bool { return s.subs[filter] != nil }

// Subscriptions is the number of filters.
func (s *State) Subscriptions() int { return len(s.subs) }

package session

import (
	"strings"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Subscription is a subscription in force. But for Since, which belongs to the State, it is immutable: a new SUBSCRIBE
// of its filter makes another.
type Subscription struct {
	Filter            string
	Since             uint64 // mark at which it came into force; 0: none is known
	ID                uint32 // subscription identifier; 0: none
	QoS               byte   // granted: 0 to MaxQoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte    // 0 to 2
	Where             bool    // deliveries say where in the log they are, to MQTT 5
	Replay            *Replay // it begins in the past; nil: it does not. It belongs to the State
}

// Served is the subscription as it is served: its filter is that of the topic names.
func (s *Subscription) Served() *Subscription {
	if !strings.HasPrefix(s.Filter, "$") {
		return s
	}
	filter := Served([]byte(s.Filter))
	if len(filter) == len(s.Filter) {
		return s
	}
	served := *s
	served.Filter = string(filter)
	return &served
}

// Shared tells whether it is a shared subscription.
func (s *Subscription) Shared() bool {
	_, _, ok := names.SplitShare(s.Filter)
	return ok
}

// Record is what to store of it, beside its filter.
func (s *Subscription) Record() FilterRecord {
	f := FilterRecord{
		ID: s.ID, QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished,
		RetainHandling: s.RetainHandling, Since: s.Since, Where: s.Where,
	}
	if r := s.Replay; r != nil {
		f.From, f.Caught, f.Mark = r.From, r.caught, r.mark
	}
	return f
}

// Subscription is the subscription of a filter that was stored.
func (f *FilterRecord) Subscription(filter string) *Subscription {
	s := &Subscription{
		Filter: filter, ID: f.ID, QoS: min(f.QoS, MaxQoS), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
		RetainHandling: f.RetainHandling, Since: f.Since, Where: f.Where,
	}
	if f.From.Kind != FromNews {
		s.Replay = &Replay{From: f.From, mark: f.Mark, caught: f.Caught, told: true}
	}
	return s
}

// Grant is the answer to one filter of a SUBSCRIBE.
type Grant struct {
	Reason   packet.ReasonCode
	Sub      *Subscription // nil when refused
	Old      *Subscription // what it replaces, or nil
	Retained bool          // retained messages are to be sent
	Err      error         // why it was refused, in words for the client; nil: the reason says it
}

// Subscribe answers every filter of a SUBSCRIBE in order [MQTT-3.8.4-6], appended to grants. A filter
// whose Reason is a failure already (refused by the guard) is refused with it, one of too many levels as invalid.
//
// Now, milliseconds since 1970, is when -1h is an hour ago. Room is how many bytes they may add to what the session
// makes us hold; a filter beyond it is refused.
func (s *State) Subscribe(p *packet.Subscribe, now int64, room int, grants []Grant) []Grant {
	most := int(s.held) + room
	asked := readAsked(&p.Props, now)
	for i := range p.Subscriptions { // [MQTT-3.8.4-5] [MQTT-3.9.3-1]
		one := &p.Subscriptions[i]
		from, reason, err := asked.of(one, now)
		if err != nil && !one.Reason.Failed() {
			grants = append(grants, Grant{Reason: reason, Err: err})
			continue
		}
		sub := &Subscription{
			Filter: string(one.Filter), ID: p.Props.SubscriptionID(), QoS: min(one.QoS, MaxQoS), // [MQTT-3.2.2-10]
			NoLocal: one.NoLocal, RetainAsPublished: one.RetainAsPublished, RetainHandling: one.RetainHandling,
			Where: asked.where,
		}
		if from.Kind != FromNews {
			sub.Replay = &Replay{From: from, behind: 1, told: true} // until whoever serves it says ReplayBehind(-1)
		}
		grants = append(grants, s.subscribe(one, sub, most))
	}
	return grants
}

func (s *State) subscribe(one *packet.Subscription, sub *Subscription, most int) Grant {
	switch {
	case one.Reason.Failed():
		return Grant{Reason: one.Reason}
	case names.TooDeep(one.Filter):
		return Grant{Reason: packet.TopicFilterInvalid}
	}
	begins, old := sub.Replay != nil, s.find(sub.Filter)
	full := s.Subscriptions() >= s.limits.MaxSubscriptions || int(s.held)+holds(sub.Filter) > most
	switch {
	case full && old == nil:
		return Grant{Reason: packet.QuotaExceeded}
	case old != nil && old.Replay != nil && !begins && sub.NoLocal: // it goes on from its place, or something were lost
		return Grant{Reason: packet.ImplementationError, Err: errNoLocal}
	case old != nil && !begins:
		sub.Since, sub.Replay = old.Since, old.Replay // what is between the two is not lost [MQTT-3.8.4-4]
	}
	s.Resubscribe(sub) // [MQTT-3.8.4-3]
	return Grant{
		Reason: packet.ReasonCode(sub.QoS), Sub: sub, Old: old, // [MQTT-3.8.4-7] [MQTT-3.9.3-2]
		// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]. Who reads the history gets the messages themselves, and a share
		// gets none (section 4.8.2).
		Retained: !begins && (one.RetainHandling == 0 || one.RetainHandling == 1 && old == nil) && !sub.Shared(),
	}
}

// Resubscribe puts a subscription in force, as one that was stored, and returns what it replaces, or nil.
func (s *State) Resubscribe(sub *Subscription) (old *Subscription) {
	if old = s.subs.put(sub); old == nil {
		s.held += int32(holds(sub.Filter))
	}
	s.replaces(old, sub)
	return old
}

// find is the subscription of a filter, or nil.
func (s *State) find(filter string) *Subscription {
	if at := s.subs.find(filter); at >= 0 {
		return s.subs.list[at]
	}
	return nil
}

// Unsubscribe ends the subscription of a filter and returns it, or nil if there is none [MQTT-3.10.4-1].
func (s *State) Unsubscribe(filter []byte) *Subscription {
	sub := s.subs.remove(string(filter))
	if sub != nil {
		s.held -= int32(holds(sub.Filter))
		s.replaces(sub, nil)
	}
	return sub
}

// holds is about how many bytes a subscription makes us hold: its filter, in the tables of the session and of the
// fanout, itself, and a node of the trie for each level.
func holds(filter string) int {
	const self, node = 300, 100
	return self + 3*len(filter) + node*(1+strings.Count(filter, "/"))
}

// Subscribed tells whether there is a subscription to a filter.
func (s *State) Subscribed(filter string) bool { return s.subs.find(filter) >= 0 }

// Subscriptions is the number of filters.
func (s *State) Subscriptions() int { return len(s.subs.list) }

// All goes through the subscriptions in no order; use it with range. They must not change meanwhile.
func (s *State) All(yield func(*Subscription) bool) {
	for _, sub := range s.subs.list {
		if !yield(sub) {
			return
		}
	}
}

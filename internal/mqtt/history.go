package mqtt

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Event is something that happened to a session.
type Event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`             // a word: connected, disconnected, ...
	Text string    `json:"text,omitempty"`   // for people
	Code string    `json:"reason,omitempty"` // a reason code of MQTT 5 in words
}

// The words of events.
const (
	eventConnected    = "connected"
	eventTakeover     = "takeover"
	eventDisconnected = "disconnected"
	eventRefused      = "refused"
	eventKicked       = "kicked"
	eventExpired      = "expired"
	eventForgotten    = "forgotten"
	eventDropping     = "dropping"
	eventDropped      = "dropped"
	eventMissed       = "missed"
)

const (
	// EventsEach is how many events are kept of a client, and eventsAll of all: beyond that the clients go of which
	// nothing has been heard for the longest time.
	EventsEach = 100
	eventsAll  = 1 << 16
	// eventText bounds the text of an event, in bytes.
	eventText = 200
)

// history keeps the last events of sessions in memory. The zero value is empty. Nothing is locked inside of its lock.
type history struct {
	mu struct {
		sync.Mutex
		clients map[string]*past
		newest  *past // the head of a list, the one of which something was heard last
		oldest  *past
		count   int // events
	}
}

// past is the events of one client.
type past struct {
	client       string
	ring         []event
	next         int // where the oldest is, once the ring is full
	newer, older *past
}

// event is an Event as it is kept.
type event struct {
	at   int64 // milliseconds since 1970
	what string
	text string
	code packet.ReasonCode
}

// add notes an event. Known has it noted only for a client that has others: so strangers push nobody out.
func (h *history) add(client string, e event, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.mu.clients[client]
	switch {
	case p == nil && known:
		return
	case p == nil:
		if h.mu.clients == nil {
			h.mu.clients = make(map[string]*past)
		}
		p = &past{client: client}
		h.mu.clients[client] = p
	default:
		h.unlink(p)
	}
	h.link(p)
	if len(e.text) > eventText {
		e.text = e.text[:eventText]
	}
	if len(p.ring) == EventsEach {
		p.ring[p.next] = e
		p.next = (p.next + 1) % EventsEach
		return
	}
	p.ring = append(p.ring, e)
	for h.mu.count++; h.mu.count > eventsAll; {
		last := h.mu.oldest
		h.unlink(last)
		delete(h.mu.clients, last.client)
		h.mu.count -= len(last.ring)
	}
}

// link puts a past at the head of the list; unlink takes it out. They need the lock.
func (h *history) link(p *past) {
	p.older, p.newer = h.mu.newest, nil
	if p.older != nil {
		p.older.newer = p
	} else {
		h.mu.oldest = p
	}
	h.mu.newest = p
}

func (h *history) unlink(p *past) {
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		h.mu.newest = p.older
	}
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		h.mu.oldest = p.newer
	}
}

// of is the events of a client, the oldest first.
func (h *history) of(client string) (all []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.mu.clients[client]
	if p == nil {
		return nil
	}
	for i := range p.ring {
		e := &p.ring[(p.next+i)%len(p.ring)]
		one := Event{At: time.UnixMilli(e.at).UTC(), What: e.what, Text: e.text}
		if e.code != packet.Success {
			one.Code = e.code.String()
		}
		all = append(all, one)
	}
	return all
}

// note keeps an event of a client.
func (d *Door) note(client, what string, code packet.ReasonCode, text string) {
	d.history.add(client, event{at: d.opt.Clock().UnixMilli(), what: what, code: code, text: text}, what == eventRefused)
}

// Events are the last events of a client, the oldest first. Errors: NotFound, when nothing is known of it.
func (d *Door) Events(client string) ([]Event, error) {
	all := d.history.of(client)
	if all == nil {
		return nil, fault.New(fault.NotFound, "session "+fault.Text(client), "no events are known of it").
			WithHint("they are kept in memory, the last %d of a client, and are gone with a restart", EventsEach)
	}
	return all, nil
}

// dropCounts are how many messages of a connection were dropped, by reason.
type dropCounts [drops]atomic.Uint64

// drop counts a message that was dropped. The first of each reason is an event.
func (l *link) drop(why drop) {
	l.door.metrics.dropped(why).Inc()
	counts := l.drops.Load()
	if counts == nil {
		l.drops.CompareAndSwap(nil, &dropCounts{})
		counts = l.drops.Load()
	}
	if counts[why].Add(1) == 1 {
		l.door.note(l.principal.ClientID, eventDropping, packet.Success, dropNames[why])
	}
}

// dropped is how many messages were dropped, by reason; nil: none.
func (l *link) dropped() map[string]uint64 {
	counts := l.drops.Load()
	if counts == nil {
		return nil
	}
	all := make(map[string]uint64)
	for why := range counts {
		if n := counts[why].Load(); n > 0 {
			all[dropNames[why]] = n
		}
	}
	return all
}

// droppedFor is how many messages were dropped for a reason.
func (l *link) droppedFor(why drop) uint64 {
	if counts := l.drops.Load(); counts != nil {
		return counts[why].Load()
	}
	return 0
}

// noteBegin and noteEnd keep how a connection began and ended.
func (l *link) noteBegin(present, takeover bool) {
	what, text := eventConnected, "new session"
	if takeover {
		what = eventTakeover
	}
	if present {
		text = "session present"
	}
	l.door.note(l.principal.ClientID, what, packet.Success,
		fmt.Sprintf("%s, MQTT %s from %s", text, versionName(l.version), l.wire.remote()))
}

func (l *link) noteEnd(cause error, reason packet.ReasonCode) {
	if l.version == 0 {
		return
	}
	if n := l.droppedFor(dropDenied); n > 1 {
		l.door.tellRefused(&l.principal, rule.Read, audit.KindName, "", int(n)-1)
	}
	for why, n := range l.dropped() {
		l.door.note(l.principal.ClientID, eventDropped, packet.Success, fmt.Sprintf("%s: %d messages", why, n))
	}
	l.door.note(l.principal.ClientID, eventDisconnected, reason,
		fmt.Sprintf("%s, %v", cmp.Or(l.wire.remote(), "gone"), cause))
}

// Missed implements fanout.Misser: retention was faster than the client.
func (c *conn) Missed(p stream.PartitionID, from, to record.Offset) {
	c.link.noteMissed(p, fmt.Sprintf("retention took offsets %d to %d of", from, to-1))
	if c.listener.opt.Missed != nil {
		c.listener.opt.Missed(c.link.principal.ClientID, int64(to-from))
	}
}

// noteMissed keeps that something of a partition cannot be sent any more.
func (l *link) noteMissed(p stream.PartitionID, what string) {
	name := "?"
	place := l.door.opt.Log.Topics().Place(p)
	if place.Topic != nil {
		name = place.Topic.Name
	}
	l.door.note(l.principal.ClientID, eventMissed, packet.Success, fmt.Sprintf("%s %s/%d", what, name, place.Index))
}

// removed tells of a message in flight that the log has no more: retention took it, or compaction, as it does with a
// retained message that another has replaced. That other one is on its way to the session, if it is above QoS 0.
func (l *link) removed(from session.Place) {
	l.drop(dropRemoved)
	l.noteMissed(stream.PartitionID(from.Partition), fmt.Sprintf("in flight and removed: offset %d of", from.Offset))
}

// Missed implements fanout.Misser.
func (r *replay) Missed(p stream.PartitionID, from, to record.Offset) {
	if m, ok := r.link.driver.(fanout.Misser); ok {
		m.Missed(p, from, to)
	}
}

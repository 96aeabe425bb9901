package mqtt

import (
	"context"
	"maps"
	runtimemetrics "runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/sys"
	"github.com/firthmq/firth/internal/names"
)

// status tells of the broker to those who subscribe below $SYS, as Mosquitto does: at the SUBSCRIBE all that matches,
// with RETAIN, and then every SysInterval what has changed. It comes with QoS 0, and nothing of it goes through the
// log. While nobody subscribes nothing is done.
type status struct {
	door  *Door
	asked chan struct{} // holds a token: somebody subscribed
	some  atomic.Bool   // somebody has ever watched

	// The rest belongs to run.
	tree     sys.Tree
	heapMost int64 // bytes

	mu struct {
		sync.Mutex
		watchers map[*link]uint64 // and the number of their last SUBSCRIBE
		number   uint64
		asks     []statusAsk
		stale    bool              // nobody watched when the first of asks came
		bridges  map[string]string // what bridges of other servers said of themselves last, by topic, to be told
	}
}

// statusAsk is a SUBSCRIBE whose values with RETAIN are to come, or, without one, a session that is back: that gets
// what there is as news, for it does not know what has changed while it was away.
type statusAsk struct {
	link *link
	sub  *session.Subscription
}

func newStatus(d *Door) *status {
	s := &status{door: d, asked: make(chan struct{}, 1)}
	s.mu.watchers, s.mu.bridges = make(map[*link]uint64), make(map[string]string)
	return s
}

// watch has a session told of what changes, as long as it has subscriptions below $SYS.
func (s *status) watch(l *link, asks ...statusAsk) {
	if s.door.opt.SysInterval < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.some.Store(true)
	s.mu.stale = s.mu.stale || len(s.mu.watchers) == 0
	s.mu.number++
	s.mu.watchers[l] = s.mu.number
	s.mu.asks = append(s.mu.asks, asks...)
	s.wake()
}

func (s *status) wake() {
	select {
	case s.asked <- struct{}{}:
	default: // a token is there
	}
}

// run tells until ctx ends.
func (s *status) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	armed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.asked:
			s.tellBridges()
			s.answer()
		case <-timer.C:
			armed = false
			s.tell()
		}
		if !armed && s.watched() {
			timer.Reset(s.door.opt.SysInterval)
			armed = true
		}
	}
}

func (s *status) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.watchers) > 0
}

// answer sends those who subscribed, and those who are back, all values that match. They are no older than SysInterval.
func (s *status) answer() {
	asks, stale := s.takeAsks()
	if stale {
		s.tree.Update(s.counts(), s.door.uptime())
	}
	for _, a := range asks {
		switch {
		case a.sub == nil:
			a.link.sendStatus(a.link.statusSubscriptions(), s.tree.Values(), false)
		case a.link.subscribed(a.sub.Filter): // [MQTT-3.10.4-2]
			a.link.sendStatus([]*session.Subscription{a.sub}, s.tree.Values(), true)
		}
	}
}

// bridge has what a bridge of another server says of itself told. It is not kept beyond the end of ours.
func (s *status) bridge(topic, payload []byte) {
	if s.door.opt.SysInterval < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.mu.bridges[string(topic)]; known || len(s.mu.bridges) < sys.MaxBridges {
		s.mu.bridges[string(topic)] = string(payload)
	}
	s.wake()
}

// tellBridges tells those who watch at once: a bridge seldom comes or goes.
func (s *status) tellBridges() {
	s.mu.Lock()
	said := s.mu.bridges
	s.mu.bridges = make(map[string]string)
	s.mu.Unlock()
	for topic, payload := range said {
		v := sys.Value{Topic: topic, Payload: payload}
		if !s.tree.Bridge(v) {
			continue
		}
		for l := range s.all() {
			l.sendStatus(l.statusSubscriptions(), []sys.Value{v}, false)
		}
	}
}

func (s *status) takeAsks() (asks []statusAsk, stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asks, stale = s.mu.asks, s.mu.stale
	s.mu.asks, s.mu.stale = nil, false
	return asks, stale
}

// tell sends everybody what has changed, and forgets those who have no subscription any more.
func (s *status) tell() {
	changed := s.tree.Update(s.counts(), s.door.uptime())
	for l, number := range s.all() {
		subs := l.statusSubscriptions()
		if len(subs) == 0 || !l.sendStatus(subs, changed, false) {
			s.forget(l, number)
		}
	}
}

func (s *status) all() map[*link]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mu.watchers)
}

// forget tells a session no more, unless it has subscribed again.
func (s *status) forget(l *link, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.watchers[l] == number {
		delete(s.mu.watchers, l)
	}
}

// leave forgets a session whose connection has ended.
func (s *status) leave(l *link) {
	if !s.some.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.watchers, l)
}

// counts is what the metrics say now.
func (s *status) counts() sys.Counts {
	d := s.door
	m, stats, heap := &d.metrics, d.Stats(), heapBytes()
	s.heapMost = max(s.heapMost, heap)
	in, out := sum(m.received[:]), sum(m.sent[:])
	return sys.Counts{
		Version:       d.opt.Version,
		BytesReceived: value(m.bytesReceived), BytesSent: value(m.bytesSent),
		PacketsReceived: in + value(m.othersIn), PacketsSent: out + value(m.othersOut),
		PublishReceived: in, PublishSent: out, PublishDropped: value(m.dropped(dropOutbox)),
		PublishBytesReceived: value(m.payloadIn), PublishBytesSent: value(m.payloadOut),
		Sockets: value(m.connections), Connects: value(m.connects), Expired: int64(d.seats.Expired()),
		Connected: int64(stats.Clients), Disconnected: int64(stats.Away), Maximum: int64(d.seats.Most()),
		Subscriptions: int64(stats.Subscriptions), SharedSubscriptions: int64(d.sharedSubscriptions()),
		Retained: int64(stats.Retained), RetainedBytes: d.retained.Bytes(), Heap: heap, HeapMaximum: s.heapMost,
	}
}

func value(c telemetry.Counter) int64 { return int64(telemetry.Value(c)) }

func sum(all []telemetry.Counter) (n int64) {
	for _, c := range all {
		n += value(c)
	}
	return n
}

// heapBytes is how much memory of the heap is in use.
func heapBytes() int64 {
	one := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(one)
	return int64(one[0].Value.Uint64())
}

// statusSubscriptions are the subscriptions of the session below $SYS; none, when the connection has ended.
func (l *link) statusSubscriptions() (all []*session.Subscription) {
	state := l.term.Lock()
	if state == nil {
		return nil
	}
	defer l.term.Unlock()
	for sub := range state.All {
		if sys.Below(sub.Filter) {
			all = append(all, sub)
		}
	}
	return all
}

// watchStatus has what was subscribed to below $SYS sent.
func (l *link) watchStatus(grants []session.Grant) {
	var asks []statusAsk
	watches := false
	for i := range grants {
		g := &grants[i]
		if g.Sub == nil || !sys.Below(g.Sub.Filter) {
			continue
		}
		if watches = true; g.Retained {
			asks = append(asks, statusAsk{link: l, sub: g.Sub})
		}
	}
	if watches {
		l.door.status.watch(l, asks...)
	}
}

// sendStatus sends the values that some subscriptions match. What the client does not take is dropped. False: the
// connection has ended.
func (l *link) sendStatus(subs []*session.Subscription, values []sys.Value, retained bool) bool {
	var all []*fanout.Delivery
	for i := range values {
		if d := statusDelivery(subs, &values[i], l, retained); d != nil {
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		return true
	}
	var run fanout.Run
	verdict := l.driver.Deliver(run.Offer(all...))
	l.driver.Flush()
	return verdict != fanout.Gone
}

// statusDelivery is a value as a session gets it, once however many subscriptions match; nil: none does. It is there
// with RETAIN, for those who asked for that with Retain As Published or just now [MQTT-3.3.1-13].
func statusDelivery(subs []*session.Subscription, v *sys.Value, l *link, retained bool) *fanout.Delivery {
	form := fanout.Form{Version: l.version, Retain: retained}
	matches := false
	for _, sub := range subs {
		if !names.Match(sub.Filter, v.Topic) {
			continue
		}
		matches, form.Retain = true, form.Retain || sub.RetainAsPublished
		if sub.ID > 0 {
			form.IDs = append(form.IDs, sub.ID)
		}
	}
	if !matches {
		return nil
	}
	var m fanout.Message
	if !m.Set(&hinge.Message{Topic: []byte(v.Topic), Payload: []byte(v.Payload), Retain: true}, time.Time{}) {
		return nil
	}
	d := &fanout.Delivery{Answer: true} // it is not held back behind the answers to a SUBSCRIBE
	m.Deliver(d, form, nil)
	return d
}

package mqtt

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/names"
)

// Follower is a subscription of a guest, who takes its messages one by one and acknowledges none: where it stands it
// keeps by itself, as the id of the last message that it got. One that is slow falls behind as a session does, and
// reads the log: it loses nothing that retention leaves, and holds up nobody. Next and Close belong to one goroutine.
type Follower struct {
	link   link // its principal, to judge by; nothing else of it is used
	sub    *session.Subscription
	member *fanout.Member
	wakeup chan struct{} // holds one token
	at     Places        // where it goes on; nil: there are too many partitions to say so
	stored *storedWalk   // the retained messages that come first; nil: none do

	mu struct {
		sync.Mutex
		queue  []parcel
		bytes  int // of their frames
		full   bool
		closed bool
		missed int64 // records that retention took before it came to them
	}
}

// parcel is a message that waits to be taken.
type parcel struct {
	frame  []byte // a PUBLISH of MQTT 5
	id     int    // where its packet id is; 0: it has none
	from   session.Place
	answer bool // it is a retained one
}

// heldBytes is how much waits for a follower at most, and one message more.
const heldBytes = 64 << 10

// Follow is what a guest asks for.
type Follow struct {
	Filter   string
	After    string // the id of the last message that it got; "": it begins
	From     string // where it begins, as a subscription says it (session.ParseFrom); "": at what is news
	Retained bool   // the retained messages that match come first
}

// Followed is a message as a follower gets it, or what became of others.
type Followed struct {
	// ID is where it goes on behind this message; "": nobody can say.
	ID      string
	At      Stored
	Time    time.Time // it was published; zero: it is not known
	Publish packet.Publish
	// Retained says that it is a retained message that was there before.
	Retained bool
	// Hidden says that nothing of the payload may be seen.
	Hidden bool
	// Missed is how many records retention took before they could be looked at, of which some may have matched; then
	// there is nothing else.
	Missed int64
}

// Follow begins to follow a topic filter, which is none of $share and the like. Errors: Denied; Invalid; Limited;
// Closed; those of the log.
func (d *Door) Follow(ctx context.Context, g Guest, o Follow) (*Follower, error) {
	f := &Follower{link: link{door: d, principal: g.principal()}, wakeup: make(chan struct{}, 1)}
	if d.isDraining() {
		return nil, errDraining
	}
	filter, err := f.filter(o.Filter)
	if err != nil {
		return nil, err
	}
	f.sub = subscriptionOf(filter)
	if err := f.over(); err != nil {
		d.tellRefused(&f.link.principal, rule.Read, audit.KindFilter, filter, 0)
		return nil, err
	}
	begins, err := d.placesOf(ctx, filter, &o)
	if err != nil {
		return nil, err
	}
	if err := d.followers.add(f); err != nil {
		return nil, err
	}
	f.member = d.fanout.Join(f, packet.V5, "")
	if begins == nil {
		d.fanout.Subscribe(f.member, f.sub, nil)
	} else {
		f.at = begins
		d.fanout.Return(f.member, fanout.Returning{
			Subs: []*session.Subscription{f.sub}, At: begins.clone().of, QoS0: true,
			Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
		})
	}
	if o.Retained && o.After == "" {
		f.stored = &storedWalk{}
		if err := d.retained.CatchUp(ctx); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// filter is a filter that a guest gives, as rules rewrite it. Errors: Invalid.
func (f *Follower) filter(given string) (string, error) {
	filter := []byte(given)
	if rules := f.link.door.rewrite(); rules != nil && names.CheckFilter(filter) == nil {
		filter = rules.Filter(filter, f.link.principal.who())
	}
	if err := names.CheckFilter(filter); err != nil {
		return "", fault.New(fault.Invalid, "mqtt.Follow", "%s is no topic filter: %w", fault.Text(given), err)
	}
	if isDollar(filter) {
		return "", fault.New(fault.Invalid, "mqtt.Follow", "filters that begin with $ are not followed").
			WithHint("a filter such as sensors/# is")
	}
	return string(filter), nil
}

// over tells why the follower may not be here any more; nil: it may.
func (f *Follower) over() error {
	d, who := f.link.door, &f.link.principal
	if err := d.mayBeHere(who); err != nil {
		return err
	}
	if !d.maySubscribe(who, f.sub.Filter) {
		return fault.New(fault.Denied, "mqtt.Follow", "%s may not subscribe to %s", fault.Text(who.pass.Who().User),
			fault.Text(f.sub.Filter)).
			WithHint("firth acl explain --as %s read --name TOPIC tells by which rule", fault.Text(who.pass.Who().User))
	}
	return nil
}

// placesOf is where a follower begins; nil: at what is news, in more partitions than it can keep places of. Errors:
// Invalid; those of the log.
func (d *Door) placesOf(ctx context.Context, filter string, o *Follow) (Places, error) {
	if o.After != "" {
		return ParsePlaces(o.After)
	}
	var from session.From
	if o.From != "" {
		var err error
		if from, err = session.ParseFrom([]byte(o.From), d.opt.Clock().UnixMilli()); err != nil {
			return nil, fault.Wrap(fault.Invalid, "mqtt.Follow", err)
		}
	}
	partitions := d.fanout.Partitions(filter)
	switch {
	case len(partitions) <= placedAtOnce:
	case o.From == "":
		return nil, nil
	default:
		return nil, fault.New(fault.Unsupported, "mqtt.Follow", "messages of %d partitions may match, places are kept in %d",
			len(partitions), placedAtOnce).WithHint("give a filter of fewer topics, or follow what is news")
	}
	places := make(Places, len(partitions))
	for _, p := range partitions {
		at, err := d.placeIn(ctx, p, from)
		switch {
		case fault.Is(err, fault.NotFound): // it was deleted just now
		case err != nil:
			return nil, err
		default:
			places[p] = at
		}
	}
	return places, nil
}

// placeIn is where a follower begins in a partition. Errors: those of the log.
func (d *Door) placeIn(ctx context.Context, p stream.PartitionID, from session.From) (record.Offset, error) {
	if from.Kind != session.FromNews {
		return d.begins(ctx, from, p)
	}
	bounds, err := d.opt.Log.Bounds(p)
	return bounds.Stable, err
}

// Close ends it.
func (f *Follower) Close() {
	f.mu.Lock()
	f.mu.closed, f.mu.queue, f.mu.bytes = true, nil, 0
	f.mu.Unlock()
	f.link.door.fanout.Leave(f.member)
	f.link.door.followers.remove(f)
}

// wake has Next look again.
func (f *Follower) wake() {
	select {
	case f.wakeup <- struct{}{}:
	default: // it will
	}
}

var (
	_ fanout.Sink   = (*Follower)(nil)
	_ fanout.Misser = (*Follower)(nil)
)

// Deliver implements fanout.Sink: there is room for a message as long as not too much waits.
func (f *Follower) Deliver(r *fanout.Run) fanout.Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := r.Next(); d != nil; d = r.Next() {
		switch {
		case f.mu.closed:
			return fanout.Gone
		case len(f.mu.queue) > 0 && f.mu.bytes+len(d.Frame) > heldBytes:
			f.mu.full = true
			return fanout.Later
		}
		f.mu.queue = append(f.mu.queue, parcel{frame: bytes.Clone(d.Frame), id: d.ID, from: d.From})
		f.mu.bytes += len(d.Frame)
		r.Take()
	}
	return fanout.Taken
}

// Flush implements fanout.Sink.
func (f *Follower) Flush() { f.wake() }

// Behind implements fanout.Sink. Where it stands it keeps by itself.
func (*Follower) Behind(int) {}

// Missed implements fanout.Misser.
func (f *Follower) Missed(_ stream.PartitionID, from, to record.Offset) {
	f.mu.Lock()
	f.mu.missed += int64(to - from)
	f.mu.Unlock()
	f.wake()
}

// Next is the next message, for which it waits, but no longer than within: then it is nil. Errors: Denied, when it may
// follow no longer, as it is then whatever waits; Closed, when the server shuts down; those of ctx and the log.
func (f *Follower) Next(ctx context.Context, within time.Duration) (*Followed, error) {
	late := time.NewTimer(f.until(within))
	defer late.Stop()
	for {
		if err := f.over(); err != nil {
			return nil, err
		}
		if f.link.door.isDraining() {
			return nil, errDraining
		}
		one, err := f.take()
		if one != nil || err != nil {
			return one, err
		}
		select {
		case <-f.wakeup:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, f.over()
		}
	}
}

// until is how long to wait at most: a token ends in between.
func (f *Follower) until(within time.Duration) time.Duration {
	if pass := f.link.principal.pass; pass != nil && !pass.Ends().IsZero() {
		return max(min(within, time.Until(pass.Ends())), 10*time.Millisecond)
	}
	return within
}

// take takes the next message that may be seen; nil: there is none now. Errors: those of the log.
func (f *Follower) take() (*Followed, error) {
	for {
		h, missed, err := f.pop()
		switch {
		case err != nil:
			return nil, err
		case missed > 0:
			return &Followed{Missed: missed}, nil
		case h == nil:
			return nil, nil
		}
		if one := f.judge(h); one != nil {
			return one, nil
		}
	}
}

// pop takes what waits for longest: first the retained messages that were there, then what the log brings.
func (f *Follower) pop() (h *parcel, missed int64, err error) {
	if f.stored != nil {
		if h, err = f.link.door.nextStored(f.stored, f.sub.Filter); h != nil || err != nil {
			return h, 0, err
		}
		f.stored = nil
	}
	f.mu.Lock()
	missed, f.mu.missed = f.mu.missed, 0
	roomy := false
	if missed == 0 && len(f.mu.queue) > 0 {
		first := f.mu.queue[0]
		h = &first
		f.mu.queue[0] = parcel{}
		f.mu.queue = f.mu.queue[1:]
		f.mu.bytes -= len(h.frame)
		roomy = f.mu.full && f.mu.bytes <= heldBytes/2
		f.mu.full = f.mu.full && !roomy
	}
	f.mu.Unlock()
	if roomy {
		f.member.Wake()
	}
	if h != nil && f.at != nil {
		f.at[stream.PartitionID(h.from.Partition)] = record.Offset(h.from.Offset) + 1
	}
	return h, missed, nil
}

// judge is what the follower may see of a message; nil: nothing.
func (f *Follower) judge(h *parcel) *Followed {
	d, who := f.link.door, &f.link.principal
	pub := h.publish()
	if pub == nil {
		return nil // no frame of ours
	}
	if !d.may(who, rule.Read, pub.Topic) {
		d.metrics.dropped(dropDenied).Inc()
		d.tellRefused(who, rule.Read, audit.KindName, string(pub.Topic), 0)
		return nil
	}
	f.link.tellRead(&fanout.Delivery{From: h.from})
	one := &Followed{Publish: *pub, Retained: h.answer}
	if !h.answer {
		place := d.opt.Log.Topics().Place(stream.PartitionID(h.from.Partition))
		one.At = Stored{Partition: int(place.Index), Offset: record.Offset(h.from.Offset)}
		if place.Topic != nil {
			one.At.Topic = place.Topic.Name
		}
		one.Time = unlocate(&one.Publish)
		if f.at != nil {
			one.ID = f.at.String()
		}
	}
	if set := d.masks(who, pub.Topic); set != nil {
		one.Hidden = !maskPublish(&one.Publish, set)
		d.metrics.countMasked(!one.Hidden)
	}
	var went sent
	went.count(&fanout.Delivery{QoS: pub.QoS, Payload: len(one.Publish.Payload)})
	d.metrics.countSent(&went)
	return one
}

// publish is the message in a frame; nil: it is none.
func (h *parcel) publish() *packet.Publish {
	if h.id > 0 {
		h.frame[h.id+1] = 1 // it has no packet id, and no PUBLISH is without
	}
	dec := packet.Decoder{Version: packet.V5, Client: true}
	p, err := dec.Decode(h.frame)
	if pub, is := p.(*packet.Publish); is && err == nil {
		return pub
	}
	return nil
}

// unlocate takes out of a message where it is in the log (fanout.Form.Where), and gives its time.
func unlocate(p *packet.Publish) (at time.Time) {
	own, left := packet.UserProperties(nil), fanout.WhereProperties
	for name, value := range p.Props.User.All() {
		if left == 0 {
			own = own.Append(name, value)
			continue
		}
		if left--; left == 0 { // the last says when
			at, _ = time.Parse(time.RFC3339, string(value))
		}
	}
	p.Props.Remove(packet.PropUser)
	if len(own) > 0 {
		p.Props.SetUser(own)
	}
	return at
}

// storedWalk is how far a follower is in the retained messages that were there when it began.
type storedWalk struct {
	page  []string // names that are left
	after string
	ended bool
}

// storedPage is how many names are listed at a time.
const storedPage = 1000

// nextStored is the next retained message; nil: there are no more. Errors: those of the log.
func (d *Door) nextStored(w *storedWalk, filter string) (h *parcel, err error) {
	for h == nil {
		if len(w.page) == 0 {
			if w.ended {
				return nil, nil
			}
			w.page = d.retained.Names(filter, w.after, storedPage)
			w.ended = len(w.page) < storedPage
			continue
		}
		w.after, w.page = w.page[0], w.page[1:]
		_, err = d.retained.Get(w.after, func(m *hinge.Message, at record.Offset) { h = d.parcelOf(m, at) })
		if err != nil && !fault.Is(err, fault.Corrupt) { // damage is one message's
			return nil, err
		}
	}
	return h, nil
}

// parcelOf is a retained message as it waits for a follower; nil: it has expired.
func (d *Door) parcelOf(m *hinge.Message, at record.Offset) *parcel {
	var message fanout.Message
	if !message.Set(m, d.opt.Judge(m.Timestamp, d.opt.Clock())) {
		return nil
	}
	var one fanout.Delivery
	message.Deliver(&one, fanout.Form{Version: packet.V5, QoS: message.QoS(), Retain: true}, nil)
	return &parcel{frame: one.Frame, id: one.ID, answer: true,
		from: session.Place{Partition: uint32(d.retained.Partition()), Offset: int64(at)}}
}

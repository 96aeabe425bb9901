package mqtt

import (
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Guest is who publishes and follows without a connection of MQTT, by a Listener that has none: by HTTP.
type Guest struct {
	Pass *access.Pass // nil: the operator, who may do everything
	By   audit.By     // the operator, as the audit has it
}

// principal is who it is as a client is one. It has no client identifier.
func (g *Guest) principal() Principal {
	if g.Pass == nil {
		return Principal{operator: &g.By}
	}
	who := Principal{pass: g.Pass, UserName: g.Pass.Who().User}
	if who.UserName == rule.Anonymous {
		who.UserName = ""
	}
	return who
}

// mayBeHere tells why a guest may not be here any more; nil: it may.
func (d *Door) mayBeHere(who *Principal) error {
	if who.pass == nil {
		return nil
	}
	if err := who.pass.Over(); err != nil {
		return err
	}
	if d.Banned(who.UserName, who.pass.Who().Address) {
		return fault.New(fault.Denied, "mqtt", "%s is banned", fault.Text(who.pass.Who().User)).
			WithHint("firth ban list tells why, and until when")
	}
	return nil
}

// isDraining tells whether the door takes nothing new.
func (d *Door) isDraining() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.draining
}

var errDraining = fault.New(fault.Closed, "mqtt", "the server shuts down")

// Stored is where in the log a message is.
type Stored struct {
	Topic     string
	Partition int
	Offset    record.Offset
	// Delayed says that it waits there to be published.
	Delayed bool
}

// Publish publishes a message as a PUBLISH above QoS 0 does, whose acknowledgement is the answer: it is stored then,
// and as a retained one in force. Its packet id does not matter. Errors: Denied; Invalid; Limited; TooLarge; Closed;
// those of the log.
func (l *Listener) Publish(ctx context.Context, g Guest, p *packet.Publish) (at Stored, err error) {
	d, who := l.door, g.principal()
	if err := d.mayBeHere(&who); err != nil {
		return at, err
	}
	if d.isDraining() {
		return at, errDraining
	}
	if p, err = l.checked(p); err != nil {
		return at, err
	}
	if err := l.pause(ctx); err != nil {
		return at, err
	}
	done := guestReceipt{stored: make(chan error, 1)}
	partition, delayed, err := d.putFor(ctx, &who, p, &done)
	if err != nil {
		return at, err
	}
	select {
	case err = <-done.stored:
	case <-ctx.Done():
		err = fault.Wrap(fault.Timeout, "mqtt.Publish", ctx.Err())
	}
	if err != nil {
		return at, err
	}
	place := d.opt.Log.Topics().Place(partition)
	if at = (Stored{Partition: int(place.Index), Offset: done.offsets[0], Delayed: delayed}); place.Topic != nil {
		at.Topic = place.Topic.Name
	}
	if p.Retain && !delayed {
		err = d.retained.Await(ctx, done.offsets[1])
	}
	return at, err
}

// checked is a message as it would come in a packet: what no packet can say is refused. Errors: Invalid, TooLarge.
func (l *Listener) checked(p *packet.Publish) (*packet.Publish, error) {
	p.PacketID, p.Dup = 1, false
	if size := p.Size(packet.V5); size > l.opt.MaxPacketBytes {
		return nil, fault.New(fault.TooLarge, "mqtt.Publish", "the message takes %d bytes, %d are allowed", size,
			l.opt.MaxPacketBytes)
	}
	dec := packet.Decoder{Version: packet.V5}
	got, err := dec.Decode(p.AppendTo(nil, packet.V5))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "mqtt.Publish", err)
	}
	same, _ := got.(*packet.Publish) // it says so in its first byte
	if len(same.Topic) == 0 {
		return nil, fault.New(fault.Invalid, "mqtt.Publish", "the message has no topic name")
	}
	return same, nil
}

// pause holds a message back that comes too fast for the listener. Errors: Timeout.
func (l *Listener) pause(ctx context.Context) error {
	wait := l.all.take(l.door.uptime())
	if wait <= 0 {
		return nil
	}
	l.metrics.slowed.Inc()
	due := time.NewTimer(wait)
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "mqtt.Publish", ctx.Err())
	}
}

// putFor appends a message of a guest. Errors: those of toLog and the log.
func (d *Door) putFor(ctx context.Context, who *Principal, p *packet.Publish, to *guestReceipt) (
	partition stream.PartitionID, delayed bool, err error,
) {
	t := d.takeTurn()
	defer d.giveTurn(t)
	l := &link{door: d, account: new(limit.Account), principal: *who}
	l.account.Open(d.budget)
	defer l.account.Close()
	name := p.Topic
	if rules := d.rewrite(); rules != nil {
		name = rules.Name(name, who.who())
	}
	if delayed = delay.Delayed(name); delayed {
		err = l.delay(t, p, name)
	} else {
		var r *route
		if r, err = l.admittedRoute(t, p, name, &routes{}); err == nil {
			l.gather(t, p, name, r, false)
		}
	}
	if err != nil {
		d.metrics.dropped(dropRefused).Inc()
		return 0, delayed, err
	}
	s := t.slots[0]
	to.writes = len(t.unit.Writes)
	if err := stream.AppendWait(ctx, d.log, &t.unit, to, 1); err != nil {
		d.metrics.dropped(dropNotStored).Inc()
		return 0, delayed, err
	}
	t.count(s)
	return s.partition, delayed, nil
}

// guestReceipt is told where the writes of one unit are.
type guestReceipt struct {
	writes  int
	offsets []record.Offset // once it was told
	stored  chan error
}

// Appended implements stream.Receipt.
func (r *guestReceipt) Appended(_ uint64, at stream.Placed, err error) {
	for i := 0; err == nil && i < r.writes; i++ {
		r.offsets = append(r.offsets, at.Offset(i))
	}
	r.stored <- err
}

// followers are the guests who follow.
type followers struct {
	mu  sync.Mutex
	all map[*Follower]struct{}
}

// mostFollowers is how many there are at a time: each holds up to heldBytes.
const mostFollowers = 1000

// add takes one in. Errors: Limited.
func (f *followers) add(one *Follower) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) >= mostFollowers {
		return fault.New(fault.Limited, "mqtt.Follow", "%d follow already", mostFollowers)
	}
	if f.all == nil {
		f.all = make(map[*Follower]struct{})
	}
	f.all[one] = struct{}{}
	return nil
}

func (f *followers) remove(one *Follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, one)
}

// look has all of them look whether they may be here.
func (f *followers) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for one := range f.all {
		one.wake()
	}
}

// subscriptionOf is a subscription that gets all there is of a message.
func subscriptionOf(filter string) *session.Subscription {
	return &session.Subscription{Filter: filter, QoS: session.MaxQoS, RetainAsPublished: true, Where: true}
}

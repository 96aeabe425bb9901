package fanout

import (
	"cmp"
	"errors"
	"slices"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Sent is a message that a session was sent before.
type Sent struct {
	From session.Place
	QoS  byte // with which it was sent, or AsPublished
}

// AsPublished is the QoS of a message that was sent to nobody yet.
const AsPublished = 0xff

// Again reads messages once more that a session was sent and has not acknowledged, in the order in which they were
// sent. It waits for the disk, and belongs to one goroutine.
//
//	a := f.Again(sent, packet.V5, subs)
//	for a.Next(&d) { ... }         // d.Frame: 0: it is gone
//	err := a.Err()                 // nil: that were all
type Again struct {
	f       *Fanout
	version packet.Version
	subs    func(*hinge.Message) Wants
	sent    []Sent // that are left, behind those of the page
	page    []again
	next    int // in the page
	err     error

	memory []byte // of the frames of the page
	mapped hinge.Message
	msg    Message
}

// again is one message of a page.
type again struct {
	Sent
	read     bool // it is known what became of it
	delivery Delivery
}

const (
	// againPage is how many messages are looked for together, so that those that lie side by side are read at once.
	againPage = 64
	// againBytes is how much of the log is read at once, and about how much of messages is kept.
	againBytes = 64 << 10
)

// Wants is how the subscriptions that match a message want it.
type Wants struct {
	IDs         []uint32 // subscription identifiers
	AsPublished bool     // one has Retain As Published
	Where       bool     // one asks where they are in the log
}

// Again prepares to read messages for a client of a version. subs tells of the subscriptions that match a message.
func (f *Fanout) Again(sent []Sent, version packet.Version, subs func(*hinge.Message) Wants) *Again {
	return &Again{f: f, version: version, subs: subs, sent: sent}
}

// Next makes d the delivery of the next message, as it goes to the session again but for DUP and its packet id; it is
// valid until the next call. d.Frame is nil if the message is gone: compacted, or removed with others. False:
// there are no more, or Err says why it cannot be read now; then Next tries it again.
func (a *Again) Next(d *Delivery) bool {
	a.err = nil
	if a.next == len(a.page) && !a.turn() {
		return false
	}
	one := &a.page[a.next]
	if !one.read {
		if a.err = a.read(one); a.err != nil {
			return false
		}
	}
	*d = one.delivery
	d.From, d.QoS, d.CatchUp = one.From, one.QoS, true
	a.next++
	return true
}

// Err is why Next gave false, nil at the end. Errors: those of Log.Scan that may yet pass, and Closed.
func (a *Again) Err() error { return a.err }

// turn turns to the next page.
func (a *Again) turn() bool {
	clear(a.page)
	a.page, a.next, a.memory = a.page[:0], 0, a.memory[:0]
	if cap(a.memory) > keptBatch {
		a.memory = nil
	}
	n := min(len(a.sent), againPage)
	for _, s := range a.sent[:n] {
		a.page = append(a.page, again{Sent: s})
	}
	a.sent = a.sent[n:]
	return n > 0
}

// read reads a message, and those of the page that lie behind it in the same stretch of the log.
func (a *Again) read(one *again) error {
	p, from := stream.PartitionID(one.From.Partition), record.Offset(one.From.Offset)
	place := a.f.opt.Log.Topics().Place(p)
	if place.Topic == nil {
		one.read = true
		return nil
	}
	near := a.near(one)
	last := record.Offset(near[len(near)-1].From.Offset)
	table := a.f.opt.Mapping()
	k, kept := 0, len(a.memory)
	next, err := a.f.opt.Log.Scan(p, from, stream.ScanOptions{End: last + 1, MaxBytes: againBytes},
		func(v *record.View) bool {
			if v.Offset > from && len(a.memory)-kept >= againBytes {
				return false
			}
			for k < len(near) && record.Offset(near[k].From.Offset) < v.Offset {
				k++
			}
			for ; k < len(near) && record.Offset(near[k].From.Offset) == v.Offset; k++ {
				a.guarded(near[k], table, place.Topic, v)
			}
			return k < len(near)
		})
	if k == len(near) {
		next = last + 1
	}
	if err != nil {
		next, err = a.afterError(p, max(next, from), err)
	}
	for _, other := range near {
		other.read = other.read || record.Offset(other.From.Offset) < next
	}
	if one.read {
		return nil
	}
	return err
}

// near is those of the page, from one on, that are in its partition and not below it, by their offsets.
func (a *Again) near(one *again) []*again {
	var near []*again
	for i := a.next; i < len(a.page); i++ {
		other := &a.page[i]
		if !other.read && other.From.Partition == one.From.Partition && other.From.Offset >= one.From.Offset {
			near = append(near, other)
		}
	}
	slices.SortStableFunc(near, func(x, y *again) int { return cmp.Compare(x.From.Offset, y.From.Offset) })
	return near
}

// afterError tells up to where what could not be read is gone; an error: none of it is for sure.
func (a *Again) afterError(p stream.PartitionID, from record.Offset, err error) (record.Offset, error) {
	var damage *stream.Damage
	switch {
	case errors.As(err, &damage):
		a.f.metrics.corrupt.Inc()
		a.f.complain("again", "a message cannot be read: it is not sent again", p, "offset", from, "error", err)
		return max(damage.Next, from+1), nil
	case fault.Is(err, fault.OutOfRange):
		bounds, e := a.f.opt.Log.Bounds(p)
		if e == nil && (from < bounds.Start || from >= bounds.High) {
			return from + 1, nil
		}
		return from, errors.Join(err, e)
	case fault.Is(err, fault.NotFound):
		return never, nil
	}
	return from, err
}

// guarded makes a delivery of a record. A fault of ours over one record costs that record only.
func (a *Again) guarded(one *again, table *hinge.Table, topic *stream.Topic, v *record.View) {
	defer func() {
		if cause := recover(); cause != nil {
			one.delivery = Delivery{}
			a.f.poisoned(stream.PartitionID(one.From.Partition), v.Offset, cause)
		}
	}()
	one.read = true
	if !a.message(table, topic, v) {
		return
	}
	a.msg.SetSent(&a.mapped, a.f.judge(&a.mapped, a.f.opt.Clock()))
	wants := a.subs(&a.mapped)
	if one.QoS == AsPublished {
		one.QoS = a.msg.QoS()
	}
	if a.f.opt.Keys {
		a.msg.setKey(v.Key)
	}
	form := Form{Version: a.version, QoS: one.QoS, IDs: wants.IDs, Where: wants.Where && !topic.Internal()}
	answers := topic.Internal() && len(v.Value) > 0 // it may have answered a SUBSCRIBE
	form.Retain = a.mapped.Retain && (wants.AsPublished || answers)
	a.msg.In(topic.Name, a.f.opt.Log.Topics().Place(stream.PartitionID(one.From.Partition)).Index)
	one.delivery.From = one.From
	a.memory = a.msg.Deliver(&one.delivery, form, a.memory)
}

// message makes the message of a record. The retained ones have a topic of their own, in which the key is the name. The
// removal of one is a message only of a certificate, which comes live from there.
func (a *Again) message(table *hinge.Table, topic *stream.Topic, v *record.View) bool {
	if !topic.Internal() {
		return table.Message(topic.Name, v, &a.mapped)
	}
	if len(v.Value) == 0 && !hinge.IsCertificate(v.Key) || !table.Message(table.CatchAll(), v, &a.mapped) {
		return false
	}
	a.mapped.Topic, a.mapped.Retain = v.Key, true
	return true
}

package mqtt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Retained messages as people see them.

// RetainedLine is what a list says of a retained message.
type RetainedLine struct {
	Topic string    `json:"topic"`
	Bytes int       `json:"bytes"` // of its payload
	QoS   byte      `json:"qos"`
	Since time.Time `json:"since"` // it was published
}

// RetainedMessage is a retained message, or one that was.
type RetainedMessage struct {
	RetainedLine
	Payload       []byte      `json:"payload"` // base64 in JSON
	ContentType   string      `json:"content_type,omitempty"`
	ResponseTopic string      `json:"response_topic,omitempty"`
	Correlation   []byte      `json:"correlation_data,omitempty"`
	Format        *byte       `json:"payload_format,omitempty"`
	Expiry        *uint32     `json:"message_expiry,omitempty"` // seconds, from when it was published
	User          [][2]string `json:"user_properties,omitempty"`
	// Partition and Offset are where it is in the log.
	Partition stream.PartitionID `json:"-"`
	Offset    record.Offset      `json:"-"`
}

// Mask leaves of the message what may be seen of it. It is false where nothing of the payload is left, because it
// cannot be masked.
func (r *RetainedMessage) Mask(set *mask.Set) (shown bool) {
	p := r.Publish()
	shown = maskPublish(&p, set)
	r.Payload, r.User = p.Payload, nil
	r.Bytes = len(r.Payload)
	for name, value := range p.Props.User.All() {
		r.User = append(r.User, [2]string{string(name), string(value)})
	}
	return shown
}

func retainedLine(m *hinge.Message) RetainedLine {
	return RetainedLine{Topic: string(m.Topic), Bytes: len(m.Payload), QoS: m.QoS,
		Since: time.UnixMilli(m.Timestamp).UTC()}
}

func retainedMessage(m *hinge.Message) *RetainedMessage {
	r := &RetainedMessage{
		RetainedLine: retainedLine(m), Payload: bytes.Clone(m.Payload), ContentType: string(m.ContentType),
		ResponseTopic: string(m.ResponseTopic), Correlation: bytes.Clone(m.Correlation),
	}
	if m.HasPayloadFormat {
		format := m.PayloadFormat
		r.Format = &format
	}
	if m.HasExpiry {
		expiry := m.Expiry
		r.Expiry = &expiry
	}
	for name, value := range packet.UserProperties(m.UserProperties).All() {
		r.User = append(r.User, [2]string{string(name), string(value)})
	}
	return r
}

// Publish is the message as it is published again.
func (r *RetainedMessage) Publish() packet.Publish {
	p := packet.Publish{Topic: []byte(r.Topic), Payload: r.Payload, QoS: r.QoS, Retain: true}
	if r.ContentType != "" {
		p.Props.SetContentType([]byte(r.ContentType))
	}
	if r.ResponseTopic != "" {
		p.Props.SetResponseTopic([]byte(r.ResponseTopic))
	}
	if r.Correlation != nil {
		p.Props.SetCorrelationData(r.Correlation)
	}
	if r.Format != nil {
		p.Props.SetPayloadFormat(*r.Format)
	}
	if r.Expiry != nil {
		p.Props.SetMessageExpiry(*r.Expiry)
	}
	for _, u := range r.User {
		p.Props.AddUser(u[0], u[1])
	}
	return p
}

// Retained lists the retained messages that a filter matches, by topic name, behind one, at most limit of them. Errors:
// Invalid, Timeout, those of the log.
func (d *Door) Retained(ctx context.Context, filter, after string, limit int) ([]RetainedLine, error) {
	if err := names.CheckFilter([]byte(filter)); err != nil {
		return nil, fault.New(fault.Invalid, "mqtt.Retained", "%q is no topic filter: %w", filter, err)
	}
	if err := d.retained.CatchUp(ctx); err != nil {
		return nil, err
	}
	lines := []RetainedLine{}
	for _, name := range d.retained.Names(filter, after, limit) {
		_, err := d.retained.Get(name, func(m *hinge.Message, _ record.Offset) { lines = append(lines, retainedLine(m)) })
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// RetainedMessage is the retained message of a topic name. Errors: NotFound, Timeout, those of the log.
func (d *Door) RetainedMessage(ctx context.Context, topic string) (r *RetainedMessage, err error) {
	if err := d.retained.CatchUp(ctx); err != nil {
		return nil, err
	}
	found, err := d.retained.Get(topic, func(m *hinge.Message, at record.Offset) {
		r = retainedMessage(m)
		r.Partition, r.Offset = d.retained.Partition(), at
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.New(fault.NotFound, "retained "+fault.Text(topic), "there is no retained message").
			WithHint("firth retained list shows what there is; firth retained restore brings back what was cleared")
	}
	return r, nil
}

// ClearRetained clears the retained message of a topic name, as a PUBLISH without payload does, and gives it. Errors:
// NotFound, those of the log.
func (d *Door) ClearRetained(ctx context.Context, topic string) (*RetainedMessage, error) {
	r, err := d.RetainedMessage(ctx, topic)
	if err != nil {
		return nil, err
	}
	return r, d.publishRetained(ctx, packet.Publish{Topic: []byte(topic), QoS: 1, Retain: true})
}

// RestoreRetained publishes the retained message of a topic name again that was there before the one that is there now,
// or before a time, if that is not zero, as far as the log goes back. Errors: NotFound, those of the log.
func (d *Door) RestoreRetained(ctx context.Context, topic string, before time.Time) (*RetainedMessage, error) {
	if err := names.CheckName([]byte(topic)); err != nil {
		return nil, fault.New(fault.Invalid, "retained", "%q is no topic name: %w", topic, err)
	}
	r, err := d.retainedBefore(ctx, topic, before)
	if err != nil {
		return nil, err
	}
	return r, d.publishRetained(ctx, r.Publish())
}

// retainedBefore is what RestoreRetained restores.
func (d *Door) retainedBefore(ctx context.Context, topic string, before time.Time) (*RetainedMessage, error) {
	versions, err := d.retainedVersions(ctx, topic, before, keptVersions)
	if err != nil {
		return nil, err
	}
	there := false
	if before.IsZero() {
		if err := d.retained.CatchUp(ctx); err != nil {
			return nil, err
		}
		if there, err = d.retained.Get(topic, func(*hinge.Message, record.Offset) {}); err != nil {
			return nil, err
		}
	}
	if there && len(versions) > 0 {
		versions = versions[:len(versions)-1]
	}
	if len(versions) == 0 {
		return nil, fault.New(fault.NotFound, "retained "+fault.Text(topic), "the log has none that was there before").
			WithHint("it goes back as far as the retention of the topic lets it")
	}
	return versions[len(versions)-1], nil
}

// publishRetained publishes a message with RETAIN, and returns when it is stored and in force.
func (d *Door) publishRetained(ctx context.Context, p packet.Publish) error {
	done := retainedReceipt{write: 1, stored: make(chan retainedStored, 1)}
	if err := d.putRetained(ctx, p, &done); err != nil {
		return err
	}
	select {
	case stored := <-done.stored:
		if stored.err != nil {
			return stored.err
		}
		return d.retained.Await(ctx, stored.at)
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "retained", ctx.Err())
	}
}

// putRetained appends what publishRetained publishes.
func (d *Door) putRetained(ctx context.Context, p packet.Publish, to *retainedReceipt) error {
	if hinge.IsCertificate(p.Topic) {
		to.write = 0
		return d.putCertificate(ctx, &p, to)
	}
	var unit stream.Unit
	if err := d.publishFor(ctx, "retained message", &delay.Message{Publish: p}, &unit, to); err != nil {
		return err
	}
	if len(unit.Writes) == 0 {
		return fault.New(fault.Denied, "retained "+fault.Text(p.Topic), "the message may not be published")
	}
	return nil
}

// retainedReceipt is told where the write of a unit is that is for the retained messages.
type retainedReceipt struct {
	write  int
	stored chan retainedStored
}

type retainedStored struct {
	at  record.Offset
	err error
}

// Appended implements stream.Receipt.
func (r *retainedReceipt) Appended(_ uint64, at stream.Placed, err error) {
	stored := retainedStored{err: err}
	if err == nil {
		stored.at = at.Offset(r.write)
	}
	r.stored <- stored
}

// keptVersions is how many versions of a retained message are looked at of each partition: the newest.
const keptVersions = 4

// RetainedNames are the topic names with a retained message that a filter matches, sorted, behind one, at most limit of
// them. Errors: Invalid, Timeout, those of the log.
func (d *Door) RetainedNames(ctx context.Context, filter, after string, limit int) ([]string, error) {
	if err := names.CheckFilter([]byte(filter)); err != nil {
		return nil, fault.New(fault.Invalid, "mqtt.Retained", "%q is no topic filter: %w", filter, err)
	}
	if err := d.retained.CatchUp(ctx); err != nil {
		return nil, err
	}
	return d.retained.Names(filter, after, limit), nil
}

// RetainedHistory is what the log has of the retained messages of a topic name, the newest first, at most so many of
// each partition. Errors: Invalid, Timeout, those of the log.
func (d *Door) RetainedHistory(ctx context.Context, topic string, most int) ([]*RetainedMessage, error) {
	if err := names.CheckName([]byte(topic)); err != nil {
		return nil, fault.New(fault.Invalid, "retained", "%q is no topic name: %w", topic, err)
	}
	all, err := d.retainedVersions(ctx, topic, time.Time{}, most)
	if err != nil && ctx.Err() != nil {
		err = fault.Wrap(fault.Timeout, "retained "+fault.Text(topic), err)
	}
	slices.Reverse(all)
	return all[:min(most, len(all))], err
}

// RetainedBefore is the retained message of a topic name that was there before the one that is there now; or the last
// one, where none is. Errors: NotFound, Invalid, those of the log.
func (d *Door) RetainedBefore(ctx context.Context, topic string) (*RetainedMessage, error) {
	if err := names.CheckName([]byte(topic)); err != nil {
		return nil, fault.New(fault.Invalid, "retained", "%q is no topic name: %w", topic, err)
	}
	return d.retainedBefore(ctx, topic, time.Time{})
}

// RetainedAt is the retained message of a topic name that is at a place of the log. Errors: NotFound, those of the log.
func (d *Door) RetainedAt(topic string, p stream.PartitionID, at record.Offset) (r *RetainedMessage, err error) {
	none := fault.New(fault.NotFound, "retained "+fault.Text(topic), "the log has no such version of it").
		WithHint("it goes back as far as the retention of the topic lets it")
	place := d.opt.Log.Topics().Place(p)
	if place.Topic == nil || place.Topic.Internal() && p != d.retained.Partition() {
		return nil, none
	}
	look := d.versionsOf(place.Topic, topic)
	_, err = d.opt.Log.Scan(p, at, stream.ScanOptions{End: at + 1, MaxBytes: 1}, func(v *record.View) bool {
		if v.Offset == at {
			r = look(v)
		}
		return true
	})
	switch {
	case fault.Is(err, fault.OutOfRange), fault.Is(err, fault.NotFound), err == nil && r == nil:
		return nil, none
	case err != nil:
		return nil, err
	}
	r.Partition, r.Offset = p, at
	return r, nil
}

// retainedVersions are the retained messages that a topic name had, the newest last: those of the log, and those of the
// topic of the retained ones that have not been compacted yet. Errors: those of the log.
func (d *Door) retainedVersions(ctx context.Context, topic string, before time.Time, keep int) (
	[]*RetainedMessage, error,
) {
	until := int64(math.MaxInt64)
	if !before.IsZero() {
		until = before.UnixMilli()
	}
	var all []*RetainedMessage
	var partitions []stream.PartitionID
	if !hinge.IsCertificate([]byte(topic)) {
		partitions = d.fanout.Partitions(topic)
	}
	for _, p := range partitions {
		some, err := d.versionsIn(ctx, p, topic, versions{until, keep})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	copies, err := d.versionsIn(ctx, d.retained.Partition(), topic, versions{until, keep})
	if err != nil {
		return nil, err
	}
	return mergeVersions(all, copies), nil
}

// mergeVersions puts versions that lie in the log and copies of such in order, without the copies of those that are
// there. Several may be of one millisecond; what only a copy is left of is older than what the log has.
func mergeVersions(log, copies []*RetainedMessage) []*RetainedMessage {
	has := make([]bool, len(log)) // a copy was found of it
	all := slices.DeleteFunc(copies, func(c *RetainedMessage) bool {
		for i, l := range log {
			if !has[i] && l.Since.Equal(c.Since) && bytes.Equal(l.Payload, c.Payload) {
				has[i] = true
				return true
			}
		}
		return false
	})
	all = append(all, log...)
	slices.SortStableFunc(all, func(a, b *RetainedMessage) int { return a.Since.Compare(b.Since) })
	return all
}

// versions says which versions are looked for: stamped before a time, and the last of them.
type versions struct {
	until int64 // milliseconds since 1970
	keep  int
}

// versionsOf tells which records of a log topic are retained messages of a topic name, and gives them; nil: it is none.
func (d *Door) versionsOf(in *stream.Topic, topic string) func(v *record.View) *RetainedMessage {
	table := d.mapping.Load()
	logTopic := cmp.Or(map[bool]string{true: table.CatchAll()}[in.Internal()], in.Name)
	var m hinge.Message
	return func(v *record.View) *RetainedMessage {
		if in.Internal() && (string(v.Key) != topic || len(v.Value) == 0) || !table.Message(logTopic, v, &m) {
			return nil
		}
		if in.Internal() {
			m.Topic, m.Retain = v.Key, true
		}
		if string(m.Topic) != topic || !m.Retain || len(m.Payload) == 0 {
			return nil
		}
		return retainedMessage(&m)
	}
}

// versionsIn are the versions in a partition. What cannot be read is passed over.
func (d *Door) versionsIn(ctx context.Context, p stream.PartitionID, topic string, want versions) (
	kept []*RetainedMessage, err error,
) {
	place := d.opt.Log.Topics().Place(p)
	bounds, err := d.opt.Log.Bounds(p)
	if place.Topic == nil || err != nil {
		return nil, err
	}
	look := d.versionsOf(place.Topic, topic)
	visit := func(v *record.View) bool {
		r := look(v)
		if r == nil || r.Since.UnixMilli() >= want.until {
			return true
		}
		r.Partition, r.Offset = p, v.Offset
		if kept = append(kept, r); len(kept) > want.keep {
			kept = slices.Delete(kept, 0, 1)
		}
		return true
	}
	o := stream.ScanOptions{End: bounds.Stable, MaxBytes: 1 << 20}
	if !place.Topic.Internal() {
		o.Names = &stream.Names{Mapping: d.mapping.Load().Fingerprint(), Stems: [][]byte{[]byte(topic)},
			Match: func(name []byte) bool { return string(name) == topic }}
	}
	for next := bounds.Start; next < bounds.Stable && ctx.Err() == nil; {
		from := next
		next, err = d.opt.Log.Scan(p, from, o, visit)
		var damage *stream.Damage
		switch {
		case errors.As(err, &damage):
			next = max(damage.Next, next+1)
		case err != nil:
			return nil, err
		case next == from:
			return kept, nil
		}
	}
	return kept, ctx.Err()
}

package mqtt

import (
	"context"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Messages of devices lie in internal topics too: those that are retained, those that wait to be published, and wills.
// They are about whom their record in the log is about, or would be.

// SubjectOf tells whom a record of an internal topic is about.
type SubjectOf func(v *record.View) (subject []byte, ok bool)

// Subjects are the internal topics that hold messages, by name. A SubjectOf belongs to one goroutine.
func (d *Door) Subjects() map[string]SubjectOf {
	return map[string]SubjectOf{
		retain.TopicName: d.retainedSubject(), delay.TopicName: d.delayedSubject(), roster.TopicName: d.willSubject(),
	}
}

// subjectOf is where records of an MQTT topic name say whom they are about, and fills to.
func (d *Door) subjectOf(name []byte, to *hinge.Target) stream.Subject {
	if d.mapping.Load().Target(name, to) != nil {
		return stream.Subject{}
	}
	t := d.opt.Log.Topics().ByName(to.Topic)
	if t == nil {
		return stream.Subject{}
	}
	return t.Settings.Subject
}

func (d *Door) retainedSubject() SubjectOf {
	var to hinge.Target
	return func(v *record.View) ([]byte, bool) {
		subject := d.subjectOf(v.Key, &to)
		if subject.Key {
			return to.Key, to.Key != nil
		}
		return subject.Of(v)
	}
}

func (d *Door) delayedSubject() SubjectOf {
	of := d.messageSubject()
	return func(v *record.View) ([]byte, bool) {
		waits, err := delay.Read(v.Value)
		if err != nil {
			return nil, false
		}
		return of(&waits.Publish)
	}
}

func (d *Door) willSubject() SubjectOf {
	of := d.messageSubject()
	return func(v *record.View) ([]byte, bool) {
		key, err := session.ParseKey(v.Key)
		if err != nil || key.Kind != session.KindWill {
			return nil, false
		}
		w, err := session.ParseWill(v.Value)
		if err != nil {
			return nil, false
		}
		return of(&w.Will)
	}
}

// messageSubject tells whom a message is about that is not published yet. It belongs to one goroutine.
func (d *Door) messageSubject() func(p *packet.Publish) (subject []byte, ok bool) {
	var to hinge.Target
	var m hinge.Message
	var r record.Record
	return func(p *packet.Publish) ([]byte, bool) {
		subject := d.subjectOf(p.Topic, &to)
		if subject.Key || !subject.Named() {
			return to.Key, subject.Key && to.Key != nil
		}
		fill(&m, p, p.Topic)
		to.Record(&m, &r)
		for _, h := range slices.Backward(r.Headers) {
			if h.Key == subject.Header {
				return h.Value, h.Value != nil
			}
		}
		return nil, false
	}
}

// Forget clears the retained messages that are about somebody, and has delayed ones and wills not be published. What is
// in the log stays. Errors: those of the log.
func (d *Door) Forget(ctx context.Context, about func(subject []byte) bool) error {
	shown, err := d.mattering(ctx, retain.TopicName, d.retainedSubject(), about)
	if err != nil {
		return err
	}
	for name := range shown {
		if _, err := d.ClearRetained(ctx, name); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	of := d.messageSubject()
	if err := d.seats.DropWills(ctx, func(w *session.Will) bool {
		subject, ok := of(&w.Message)
		return ok && about(subject)
	}); err != nil {
		return err
	}
	waiting, err := d.mattering(ctx, delay.TopicName, d.delayedSubject(), about)
	if err != nil || len(waiting) == 0 {
		return err
	}
	var gone []record.Record
	for key := range waiting {
		gone = append(gone, record.Record{Timestamp: d.opt.Clock().UnixMilli(), Key: []byte(key)})
	}
	return stream.StoreState(ctx, d.opt.Log, delay.TopicName, gone)
}

// mattering are the keys of an internal topic whose last record is about somebody.
func (d *Door) mattering(ctx context.Context, topic string, of SubjectOf, about func([]byte) bool) (
	map[string]bool, error,
) {
	t := d.opt.Log.Topics().ByName(topic)
	if t == nil {
		return nil, nil
	}
	keys := make(map[string]bool)
	_, err := stream.Fold(ctx, d.opt.Log, t.Partitions[0], 0, func(v *record.View) error {
		subject, ok := of(v)
		keys[string(v.Key)] = v.Value != nil && ok && about(subject)
		return nil
	})
	maps.DeleteFunc(keys, func(_ string, its bool) bool { return !its })
	return keys, err
}

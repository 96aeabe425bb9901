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
	"github.com/firthmq/firth/internal/mqtt/retain"
)

// Messages of devices lie in internal topics too: those that are retained, and those that wait to be published. They
// are about whom their record in the log is about, or would be.

// SubjectOf tells whom a record of an internal topic is about.
type SubjectOf func(v *record.View) (subject []byte, ok bool)

// Subjects are the internal topics that hold messages, by name. A SubjectOf belongs to one goroutine.
func (d *Door) Subjects() map[string]SubjectOf {
	return map[string]SubjectOf{retain.TopicName: d.retainedSubject(), delay.TopicName: d.delayedSubject()}
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
	var to hinge.Target
	var m hinge.Message
	var r record.Record
	return func(v *record.View) ([]byte, bool) {
		waits, err := delay.Read(v.Value)
		if err != nil {
			return nil, false
		}
		subject := d.subjectOf(waits.Publish.Topic, &to)
		if subject.Key || !subject.Named() {
			return to.Key, subject.Key && to.Key != nil
		}
		fill(&m, &waits.Publish, waits.Publish.Topic)
		to.Record(&m, &r)
		for _, h := range slices.Backward(r.Headers) {
			if h.Key == subject.Header {
				return h.Value, h.Value != nil
			}
		}
		return nil, false
	}
}

// Forget clears the retained messages that are about somebody, and has delayed ones not be published. What is in the
// log stays. Errors: those of the log.
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

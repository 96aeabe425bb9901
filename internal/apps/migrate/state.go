package migrate

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/roster"
)

// Topics of Firth's own state are folds: of each key the last record counts. So they are brought up to date, not
// copied: what is in the cluster is compared with what should be, and what differs is written. To do so twice changes
// nothing.

// last is the last record of a key.
type last struct {
	offset record.Offset
	sum    [sha256.Size]byte
}

// lasts are those of the keys that have a value.
type lasts map[string]last

// translator gives the record that one of the node is in the cluster; not ok: it has none there.
type translator func(v *record.View) (r record.Record, ok bool, err error)

func asItIs(v *record.View) (record.Record, bool, error) { return recordOf(v), true, nil }

// fold reads the last records of all keys, translated.
func fold(ctx context.Context, log stream.Source, t *stream.Topic, translate translator) (lasts, error) {
	all := lasts{}
	for _, p := range t.Partitions {
		b, err := log.Bounds(p)
		if err != nil {
			return nil, err
		}
		folded, err := stream.Fold(ctx, log, p, b.Start, func(v *record.View) error {
			r, ok, err := translate(v)
			switch {
			case err != nil:
				return err
			case !ok:
			case r.Value == nil:
				delete(all, string(r.Key))
			default:
				all[string(r.Key)] = last{v.Offset, sumOf(&r)}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !folded.Complete() {
			return nil, fault.New(fault.Corrupt, "migrate", "%s cannot be read whole: %d lost, %d strange: %w", t.Name,
				folded.Lost, folded.Strange, folded.First).WithHint("firth log check says what is damaged")
		}
	}
	return all, nil
}

func sumOf(r *record.Record) [sha256.Size]byte {
	b := appendContent(nil, r.Timestamp, r.Key, r.Value)
	for i := range r.Headers {
		b = appendBytes(appendBytes(b, []byte(r.Headers[i].Key)), r.Headers[i].Value)
	}
	return sha256.Sum256(b)
}

// syncStates brings all topics of state up to date: sessions last, for they say what they have of the others.
func (m *mover) syncStates(ctx context.Context) error {
	slices.SortStableFunc(m.report.State, func(a, b State) int {
		switch {
		case a.Name == b.Name:
			return 0
		case a.Name == roster.TopicName:
			return 1
		case b.Name == roster.TopicName:
			return -1
		}
		return strings.Compare(a.Name, b.Name)
	})
	places := m.places()
	for i := range m.report.State {
		s := &m.report.State[i]
		translate := translator(asItIs)
		if s.Name == roster.TopicName {
			translate = places.session
		}
		here, there, err := m.sync(ctx, s, translate)
		if err != nil {
			return err
		}
		if s.Name == hinge.RetainedTopic {
			places.moved(m.Source.Topics().ByName(s.Name), m.Target.Topics().ByName(s.Name), here, there)
		}
	}
	return nil
}

// sync brings one up to date, and gives the last records of both sides. Errors: Corrupt, when they are not the same
// afterwards.
func (m *mover) sync(ctx context.Context, s *State, translate translator) (here, there lasts, err error) {
	from := m.Source.Topics().ByName(s.Name)
	to, err := stream.EnsureState(ctx, m.Target, s.Name)
	if err != nil {
		return nil, nil, err
	}
	if len(from.Partitions) != 1 || len(to.Partitions) != 1 {
		return nil, nil, fault.New(fault.Unsupported, "migrate", "%s has %d partitions, and %d in the cluster: one is known",
			s.Name, len(from.Partitions), len(to.Partitions))
	}
	if here, err = fold(ctx, m.Source, from, translate); err != nil {
		return nil, nil, err
	}
	if there, err = fold(ctx, m.Target, to, asItIs); err != nil {
		return nil, nil, err
	}
	w := &stateWriter{m: m, p: to.Partitions[0]}
	d := difference{here: here, there: there, translate: translate, w: w}
	if err := d.write(ctx, from.Partitions[0]); err != nil {
		return nil, nil, err
	}
	s.Keys, s.Written = len(here), w.written
	if w.written == 0 {
		return here, there, nil
	}
	if there, err = fold(ctx, m.Target, to, asItIs); err != nil {
		return nil, nil, err
	}
	return here, there, compare(s.Name, here, there)
}

// difference is what the two sides have not in common.
type difference struct {
	here, there lasts
	translate   translator
	w           *stateWriter
}

// write writes what should be in the cluster and is not, in the order of the node's log, and removes what should not
// be.
func (d *difference) write(ctx context.Context, p stream.PartitionID) error {
	var gone []string
	for key := range d.there {
		if _, is := d.here[key]; !is {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	now := time.Now().UnixMilli()
	for _, key := range gone {
		if err := d.w.put(ctx, record.Record{Timestamp: now, Key: []byte(key)}); err != nil {
			return err
		}
	}
	source := d.w.m.Source
	b, err := source.Bounds(p)
	if err != nil {
		return err
	}
	for next := b.Start; next < b.Stable; {
		var some []record.Record
		var bad error
		next, err = source.Scan(p, next, stream.ScanOptions{End: b.Stable}, func(v *record.View) bool {
			var r record.Record
			var ok bool
			r, ok, bad = d.translate(v)
			if bad != nil {
				return false
			}
			one, is := d.here[string(r.Key)]
			if ok && is && one.offset == v.Offset && d.there[string(r.Key)].sum != one.sum {
				some = append(some, r)
			}
			return true
		})
		if bad != nil || err != nil {
			return firstOf(bad, err)
		}
		for i := range some {
			if err := d.w.put(ctx, some[i]); err != nil {
				return err
			}
		}
	}
	return d.w.flush(ctx)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// stateWriter appends records, some at a time.
type stateWriter struct {
	m       *mover
	p       stream.PartitionID
	some    []record.Record
	bytes   int
	written int
}

func (w *stateWriter) put(ctx context.Context, r record.Record) error {
	const records, bytes = 1000, 512 << 10
	w.some = append(w.some, r)
	if w.bytes += r.EncodedSize(); len(w.some) < records && w.bytes < bytes {
		return nil
	}
	return w.flush(ctx)
}

func (w *stateWriter) flush(ctx context.Context) error {
	if len(w.some) == 0 {
		return nil
	}
	unit := stream.Unit{}
	for i := range w.some {
		unit.Writes = append(unit.Writes, stream.Write{Partition: w.p, Record: &w.some[i]})
	}
	if err := stream.StoreUnit(ctx, w.m.Target, &unit); err != nil {
		return err
	}
	w.written += len(w.some)
	w.some, w.bytes = nil, 0
	return w.m.wrote()
}

func compare(name string, here, there lasts) error {
	different := 0
	for key, one := range here {
		if there[key].sum != one.sum {
			different++
		}
	}
	if different > 0 || len(here) != len(there) {
		return fault.New(fault.Corrupt, "migrate", "%s is not the same on both sides: %d keys, and %d in the cluster, %d of "+
			"them are not the same", name, len(here), len(there), different).
			WithHint("does something else write to it? Run it again")
	}
	return nil
}

package migrate

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Sessions say where they stand by the ids of topics and by offsets (docs/format/sessions.md). Both are others in the
// cluster.

// places are where partitions of the node are in the cluster.
type places struct {
	topics   map[record.UUID]place
	retained record.UUID                     // of the node
	offsets  map[record.Offset]record.Offset // of retained messages, which are not copied one by one
}

// place is where a topic is.
type place struct {
	topic record.UUID
	lower []int64
}

func (m *mover) places() *places {
	p := &places{topics: map[record.UUID]place{}, offsets: map[record.Offset]record.Offset{}}
	for _, t := range m.topics {
		p.topics[t.from.ID] = place{t.to.ID, t.state.Lower}
	}
	return p
}

// moved notes where the retained messages are.
func (p *places) moved(from, to *stream.Topic, here, there lasts) {
	p.retained = from.ID
	p.topics[from.ID] = place{to.ID, []int64{0}}
	for key, one := range here {
		p.offsets[one.offset] = there[key].offset
	}
}

// session translates a record of sessions. What is said of a topic that is gone is left out. Errors: Unsupported,
// Corrupt.
func (p *places) session(v *record.View) (r record.Record, ok bool, err error) {
	key, err := session.ParseKey(v.Key)
	if err != nil {
		return r, false, err
	}
	r = recordOf(v)
	switch key.Kind {
	case session.KindMark, session.KindPlace, session.KindReplay, session.KindShared:
	default:
		return r, true, nil
	}
	if key.Topic == (record.UUID{}) { // the last checkpoint of all
		return r, true, nil
	}
	at, known := p.topics[key.Topic]
	if !known || int(key.Index) >= len(at.lower) {
		return r, false, nil
	}
	isRetained := key.Topic == p.retained
	key.Topic = at.topic
	r.Key = key.AppendTo(nil)
	if r.Value == nil {
		return r, true, nil
	}
	r.Value, err = p.value(&key, v.Value, at.lower[key.Index], isRetained)
	return r, err == nil, err
}

// value translates what stands under a key.
func (p *places) value(key *session.Key, value []byte, lower int64, isRetained bool) ([]byte, error) {
	switch {
	case key.Kind == session.KindPlace && isRetained:
		r, err := session.ParsePlace(value)
		return p.retainedPlace(&r), err
	case lower == 0 && !isRetained:
		return value, nil
	}
	switch key.Kind {
	case session.KindMark:
		return lowerMark(value, lower)
	case session.KindPlace:
		return lowerPlace(value, lower)
	case session.KindReplay:
		r, err := session.ParseReplay(value)
		r.Next = max(r.Next-lower, 0)
		return r.AppendTo(nil), err
	case session.KindShared:
		s, err := share.Parse(value)
		if err != nil {
			return nil, err
		}
		s.Shift(lower)
		return s.AppendTo(nil), nil
	}
	return nil, fault.New(fault.Unsupported, "migrate", "a record of kind %q", byte(key.Kind))
}

func lowerMark(value []byte, lower int64) ([]byte, error) {
	r, err := session.ParseMark(value)
	for i := range r {
		r[i].Offset = max(r[i].Offset-lower, 0)
	}
	return r.AppendTo(nil), err
}

func lowerPlace(value []byte, lower int64) ([]byte, error) {
	r, err := session.ParsePlace(value)
	r.Next = max(r.Next-lower, 0)
	kept := r.Flights[:0]
	for _, f := range r.Flights {
		if f.From.Offset -= lower; f.From.Offset >= 0 { // else the node has removed it
			kept = append(kept, f)
		}
	}
	r.Flights = kept
	return r.AppendTo(nil), err
}

// retainedPlace has flights of retained messages point to where they are in the cluster. One that another message has
// taken the place of is not there: its subscriber got the other one live.
func (p *places) retainedPlace(r *session.PlaceRecord) []byte {
	kept := r.Flights[:0]
	for _, f := range r.Flights {
		if at, is := p.offsets[record.Offset(f.From.Offset)]; is {
			f.From.Offset = int64(at)
			kept = append(kept, f)
		}
	}
	r.Next, r.Flights = 0, kept
	return r.AppendTo(nil)
}

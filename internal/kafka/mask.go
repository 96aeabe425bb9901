package kafka

import (
	"bytes"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
)

// maskedBatch bounds what the records of a batch may take that is masked, in bytes without compression, before and
// after. One that takes more has no records for who may not see all of them.
const maskedBatch = 8 << 20

// masks are what a client may not see of a topic that it may read; nil: it may see all of it.
func (o *Options) masks(c *conn, topic string) *mask.Set {
	if o.Guard == nil {
		return nil
	}
	return o.Guard.MaskTopic(c.pass.Load(), topic)
}

// masksSome tells whether there may be somebody who may not see all of a topic.
func (o *Options) masksSome(topic string) bool { return o.Guard != nil && o.Guard.MaskSome(topic) }

// veil masks the batches of one answer to a client that may not see all of them.
type veil struct {
	c       *conn
	set     *mask.Set
	masker  *mask.Masker
	scratch record.Scratch
	builder record.Builder
	work    []byte // of the records of a batch that is compressed again
	headers []byte
}

func newVeil(c *conn, set *mask.Set) *veil {
	return &veil{c: c, set: set, masker: set.Masker(), scratch: record.Scratch{MaxDecompressed: maskedBatch}}
}

// mask is a batch as the client may see it, in memory of its own: with the offsets, times, producer, flags and
// compression that it has. Markers are as they are. What cannot be masked is not there: of a record the payload is
// empty, of a batch that cannot be read there are no records, as if compaction had taken them. Errors: Limited, Closed.
func (v *veil) mask(b record.Batch) (record.Batch, error) {
	if b.Attributes().Control() {
		return b, nil
	}
	packed := b.Attributes().Codec() != record.None
	needs := 2 * len(b)
	if packed {
		needs = 3 * maskedBatch // decompressed, masked, compressed
	}
	if err := v.c.holding.take(needs); err != nil {
		return nil, err
	}
	defer v.c.holding.give(needs)
	dst := v.work
	if !packed {
		dst = make([]byte, 0, len(b))
	}
	hidden := v.c.door.metrics.hidden
	v.builder.ResetLike(dst, b)
	seen := v.records(b, hidden)
	if packed {
		v.work = v.builder.Bytes()[:0]
	}
	if !seen {
		hidden.Inc()
		v.builder.ResetLike(nil, b)
	}
	out, err := v.builder.SealLike(b, &v.scratch)
	if err == nil && cap(out) > 2*len(out) {
		out = bytes.Clone(out)
	}
	return out, err
}

// records puts what may be seen of the records of a batch into the builder. It is false where that cannot be known, or
// is too much.
func (v *veil) records(b record.Batch, hidden telemetry.Counter) bool {
	var it record.Iter
	if it.Reset(b, &v.scratch) != nil {
		return false
	}
	headers := v.set.AboutHeaders()
	var r record.View
	for it.Next(&r) {
		v.masker.Reset()
		r.Key = v.masker.Key(r.Key)
		var shown bool
		if r.Value, shown = v.masker.Payload(r.Value); !shown {
			hidden.Inc()
		}
		if headers {
			v.headers = r.MapHeaders(v.headers[:0], v.masker.Header)
		}
		if v.builder.AppendView(&r); v.builder.Len() > maskedBatch {
			return false
		}
	}
	return it.Err() == nil
}

// cover masks what was found for a part, which is brought into memory for that: as much of it as an answer may hold
// there, or one batch.
func (f *fetch) cover(p *fetchPart) {
	const tries = 3 // what was found may be compacted, or removed, meanwhile
	for range tries {
		f.bring(p)
		if f.bound(p); p.result.Code != wire.None || p.masked || p.bytes == 0 {
			return
		}
		if p.thin || p.stored.Size() > 0 { // it was found anew
			continue
		}
		if f.mask(p) != nil {
			break
		}
		return
	}
	f.refuse(p, wire.KafkaStorageError) // which has clients ask again
}

// bring brings what was found for a part into memory.
func (f *fetch) bring(p *fetchPart) {
	room := f.most - f.covered
	switch {
	case p.masked:
	case f.covered > 0 && p.bytes > room:
		f.bytes -= p.bytes // it is found the next time
		p.drop()
	case p.thin || p.stored.Size() > 0:
		f.readAgain(p, max(min(p.bytes, room), 1))
	}
}

// mask masks the batches of a part, and counts what they take more. Errors: Limited, Closed, Invalid.
func (f *fetch) mask(p *fetchPart) error {
	v := newVeil(f.c, p.masks)
	for i, b := range p.batches {
		masked, err := v.mask(b)
		if err != nil {
			return err
		}
		if n := len(masked); n > smallBytes {
			if err := f.c.holding.take(n); err != nil {
				return err
			}
			f.counted += n
		}
		p.batches[i] = masked
		f.covered += len(masked)
	}
	p.masked = true
	return nil
}

// mask gives batches as the client may see them. Errors: NotFound; those of veil.mask.
func (f *shareFetch) mask(p *sharePart, batches []record.Batch) ([]record.Batch, error) {
	t := f.log.Topics().ByID(p.topic)
	if t == nil {
		return nil, fault.New(fault.NotFound, "kafka.ShareFetch", "the topic is gone")
	}
	set := f.opt.masks(f.c, t.Name)
	if set == nil {
		return batches, nil
	}
	v, shown := newVeil(f.c, set), make([]record.Batch, 0, len(batches))
	for _, b := range batches {
		masked, err := v.mask(b)
		if err != nil {
			return nil, err
		}
		shown = append(shown, masked)
	}
	return shown, nil
}

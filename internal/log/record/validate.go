package record

import (
	"fmt"
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Rules are what a topic asks of a producer's batch besides its form.
type Rules struct {
	MaxBytes int  // largest batch, as it is compressed
	Keyed    bool // each record has a key: compaction goes by it
	Timed    bool // timestamps lie in [Earliest, Latest]; -1, no timestamp, always may
	Earliest int64
	Latest   int64
}

// Flaw is what is wrong with one record of a batch.
type Flaw struct {
	Index int32 // from 0
	What  string
}

// MaxFlaws is how many records of one batch are named at most.
const MaxFlaws = 1000

// Refused is the error for a batch whose records break a rule, with the kind Invalid around it. It names them
// (KIP-467).
type Refused struct {
	Flaws    []Flaw // by index, the first MaxFlaws
	Count    int    // how many records there are with a flaw, as far as was looked
	Untimely bool   // a timestamp is out of bounds
}

// Error names the first flaw.
func (r *Refused) Error() string {
	first := fmt.Sprintf("record %d: %s", r.Flaws[0].Index, r.Flaws[0].What)
	if r.Count > 1 {
		return fmt.Sprintf("%s, and %d more records", first, r.Count-1)
	}
	return first
}

func (r *Refused) add(index int64, what string) {
	r.Count++
	if len(r.Flaws) < MaxFlaws {
		r.Flaws = append(r.Flaws, Flaw{int32(index), what})
	}
}

// Validate judges a batch from a producer. Besides Check it holds it to Kafka's rules for producers: known codec, no
// control batch, count and offsets that agree, producer fields that agree. All records are looked at, in one pass,
// those of a compressed batch with the help of s, which may be nil otherwise. The base offset may be anything: the
// log gives it. Of a batch without producer id, epoch and sequence are ignored, as Kafka does: some clients send 0.
//
// The largest timestamp is that of the records, -1 if they have none: the header may say another. Who takes the batch
// in corrects it with SetMaxTimestamp.
// Errors: TooLarge, Corrupt (not one unharmed batch), Invalid (breaks a rule; with a Refused, where records do).
func (b Batch) Validate(r *Rules, s *Scratch) (maxTimestamp int64, err error) {
	const op = "record.Validate"
	if len(b) > r.MaxBytes {
		return -1, fault.New(fault.TooLarge, op, "batch of %d bytes, %d are allowed", len(b), r.MaxBytes).
			WithHint("raise max.message.bytes of the topic or let the producer make smaller batches")
	}
	if err := b.Check(); err != nil {
		return -1, err
	}
	if flaw := b.brokenRule(); flaw != "" {
		return -1, fault.New(fault.Invalid, op, "%s", flaw)
	}
	if b.Attributes().Codec() == LZ4 {
		if flaw := foreignLZ4(b[BatchOverhead:]); flaw != "" {
			return -1, fault.New(fault.Invalid, op, "lz4: %s, which Java clients cannot read", flaw)
		}
	}
	records, err := s.records(b)
	if err != nil {
		if fault.Is(err, fault.Corrupt) {
			return -1, fault.New(fault.Invalid, op, "%w", err)
		}
		return -1, err
	}
	return b.walk(records, r)
}

// brokenRule names the rule that the header breaks, if any. Timestamps are not asked: those of the records count.
func (b Batch) brokenRule() string {
	a := b.Attributes()
	switch {
	case a&reserved != 0:
		return "reserved attribute bits are set"
	case !a.Codec().Known():
		return "unknown compression codec"
	case a.Control():
		return "control batches are for the log only"
	case a.LogAppendTime() || a.DeleteHorizon():
		return "attribute bits that only the log may set"
	case b.Count() < 1:
		return "no records"
	case b.LastOffsetDelta() != b.Count()-1:
		return "last offset delta and count do not agree"
	case b.ProducerID() < -1:
		return "producer id below -1"
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return "producer id without epoch or sequence"
	case b.ProducerID() < 0 && a.Transactional():
		return "transactional batch without producer id"
	}
	return ""
}

// walk holds the records to their form (whole, numbered 0, 1, 2 ..., nothing behind the last) and to the rules, and
// gives the largest timestamp.
func (b Batch) walk(records []byte, r *Rules) (maxTimestamp int64, err error) {
	const op = "record.Validate"
	maxTimestamp = noTimestamp
	var v View
	var refused *Refused
	earliest, latest := r.bounds()
	keyed, base, count := r.Keyed, b.BaseTimestamp(), int64(b.Count())
	for i := range count {
		rest, flaw := v.decode(records)
		broken := flaw != ""
		at := base + v.Timestamp
		if at > maxTimestamp {
			maxTimestamp = at
		}
		untimely := (at < earliest || at > latest) && at != noTimestamp
		if broken || untimely || v.offsetDelta != i || keyed && v.Key == nil {
			if refused == nil {
				refused = &Refused{}
			}
			refused.add(i, r.flaw(&v, flaw, i, at))
			refused.Untimely = refused.Untimely || !broken && untimely
		}
		if broken {
			break // where the next record begins nobody knows
		}
		records = rest
	}
	switch {
	case refused != nil:
		return noTimestamp, fault.New(fault.Invalid, op, "%w", refused)
	case len(records) > 0:
		return noTimestamp, fault.New(fault.Invalid, op, "%d bytes behind the last of %d records", len(records), count)
	}
	return maxTimestamp, nil
}

// bounds are the times between which the rules allow.
func (r *Rules) bounds() (earliest, latest int64) {
	if !r.Timed {
		return math.MinInt64, math.MaxInt64
	}
	return r.Earliest, r.Latest
}

// flaw says what is wrong with the i-th record, stamped at, of which its form may be known to be.
func (r *Rules) flaw(v *View, form string, i, at int64) string {
	switch {
	case form != "":
		return form
	case v.offsetDelta != i:
		return "its offset is out of order"
	case r.Keyed && v.Key == nil:
		return "it has no key, and the topic is compacted"
	}
	return fmt.Sprintf("its timestamp %d is not in [%d, %d]", at, r.Earliest, r.Latest)
}

// noTimestamp is the timestamp of a record that has none.
const noTimestamp = -1

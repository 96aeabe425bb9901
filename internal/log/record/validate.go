package record

import "github.com/firthmq/firth/internal/kit/fault"

// Validate judges a batch from a producer, of at most maxBytes. Besides Check it holds it to Kafka's
// rules for producers: known codec, no control batch, count and offsets that agree, producer fields
// that agree, sane timestamps. The base offset may be anything: the log gives it. The records of an
// uncompressed batch are all looked at; those of a compressed one if deep, with the help of s, which
// may be nil otherwise. Of a batch without producer id, epoch and sequence are ignored, as Kafka does:
// some clients send 0.
// Errors: TooLarge, Corrupt (not one unharmed batch), Invalid (breaks a rule).
func (b Batch) Validate(maxBytes int, deep bool, s *Scratch) error {
	const op = "record.Validate"
	if len(b) > maxBytes {
		return fault.New(fault.TooLarge, op, "batch of %d bytes, %d are allowed", len(b), maxBytes).
			WithHint("raise max.message.bytes of the topic or let the producer make smaller batches")
	}
	if err := b.Check(); err != nil {
		return err
	}
	if flaw := b.brokenRule(); flaw != "" {
		return fault.New(fault.Invalid, op, "%s", flaw)
	}
	codec := b.Attributes().Codec()
	if codec != None && !deep {
		return nil
	}
	records, err := s.records(b)
	if err != nil {
		if fault.Is(err, fault.Corrupt) {
			return fault.New(fault.Invalid, op, "%w", err)
		}
		return err
	}
	return walk(records, b.Count())
}

// brokenRule names the rule that the header breaks, if any.
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
	case b.BaseTimestamp() < -1 || b.MaxTimestamp() < -1:
		return "timestamp before 1970"
	case b.ProducerID() < -1:
		return "producer id below -1"
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return "producer id without epoch or sequence"
	case b.ProducerID() < 0 && a.Transactional():
		return "transactional batch without producer id"
	}
	return ""
}

// walk holds the records to their form: whole, numbered 0, 1, 2 ..., nothing behind the last.
func walk(records []byte, count int32) error {
	const op = "record.Validate"
	var v View
	for i := range int64(count) {
		rest, flaw := v.decode(records)
		if flaw == "" && v.offsetDelta != i {
			flaw = "its offset is out of order"
		}
		if flaw != "" {
			return fault.New(fault.Invalid, op, "record %d of %d: %s", i, count, flaw)
		}
		records = rest
	}
	if len(records) > 0 {
		return fault.New(fault.Invalid, op, "%d bytes behind the last of %d records", len(records), count)
	}
	return nil
}

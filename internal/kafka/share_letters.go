package kafka

import (
	"context"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
)

// Dead letters (KIP-1191): a record that was rejected, or delivered too often, goes to the topic that the group names
// before the group is done with it: both are one write of the log. The letter says in its headers where the record
// lies, and has its key and value if the group says so and nobody sees its topic masked: who reads letters need not be
// who may see their records. It goes to the partition of the record's number, modulo those that there are. Where it
// cannot be written the group is done with the record all the same, or it would be held up for ever.

// LetterTopic is the header of a dead letter that names the topic of its record.
const LetterTopic = "__dlq.errors.topic"

// The other headers of a dead letter.
const (
	letterPartition  = "__dlq.errors.partition"
	letterOffset     = "__dlq.errors.offset"
	letterGroup      = "__dlq.errors.group"
	letterDeliveries = "__dlq.errors.delivery.count"
	letterMessage    = "__dlq.errors.message"
)

// letterSetting is the setting that a topic has which takes dead letters.
const letterSetting = "errors.deadletterqueue.group.enable"

// What letterMessage says.
const (
	saidRejected  = "Offset rejected by client."
	saidExhausted = "Offset delivery count exceeded the threshold."
)

// letters adds the dead letters of a share partition to a unit. Errors: those of the log that pass.
func (s *shares) letters(ctx context.Context, p *sharePart, dead []share.Dead, u *stream.Unit) error {
	cfg := s.groups.configs.of(p.group)
	to, err := s.letterBox(ctx, cfg.letters)
	if err != nil {
		s.drop(p, dead, err)
		return nil
	}
	source := s.log.Topics().ByID(p.topic)
	if source == nil {
		return nil // it is being removed
	}
	copies := cfg.copies && !s.opt.masksSome(source.Name)
	box := to.Partitions[int(p.index)%len(to.Partitions)]
	for _, d := range dead {
		originals := map[int64]*record.Record{}
		if copies {
			if originals, err = s.originals(ctx, p.id, d.Span, source.Settings.Subject); err != nil {
				return err
			}
		}
		for offset := d.First; offset <= d.Last; offset++ {
			r := originals[offset]
			if r == nil {
				r = &record.Record{}
			}
			r.Timestamp = wallMillis()
			r.Headers = append(letterHeaders(source.Name, p, offset, &d), r.Headers...)
			if r.EncodedSize()+record.BatchOverhead > to.Settings.MaxMessageBytes {
				r.Key, r.Value = nil, nil // where it lies stands in the headers
			}
			u.Writes = append(u.Writes, stream.Write{Partition: box, Record: r})
		}
	}
	return nil
}

func letterHeaders(topic string, p *sharePart, offset int64, d *share.Dead) []record.Header {
	why := saidExhausted
	if d.Rejected {
		why = saidRejected
	}
	return []record.Header{
		{Key: LetterTopic, Value: []byte(topic)},
		{Key: letterPartition, Value: strconv.AppendInt(nil, int64(p.index), 10)},
		{Key: letterOffset, Value: strconv.AppendInt(nil, offset, 10)},
		{Key: letterGroup, Value: []byte(p.group)},
		{Key: letterDeliveries, Value: strconv.AppendInt(nil, int64(d.Count), 10)},
		{Key: letterMessage, Value: []byte(why)},
	}
}

// letterBox is the topic for dead letters. One that is not there is made, as topics are that clients ask for. Errors:
// NotFound; Denied, a topic that does not take them; those of making one.
func (s *shares) letterBox(ctx context.Context, name string) (*stream.Topic, error) {
	const op = "kafka.deadLetters"
	t := s.log.Topics().ByName(name)
	switch {
	case name == "":
		return nil, fault.New(fault.NotFound, op, "the group has no dead-letter topic any more")
	case t == nil && s.opt.DisableAutoCreate:
		return nil, fault.New(fault.NotFound, op, "there is no topic %q", name).
			WithHint("create it with %s=true", letterSetting)
	case t == nil:
		return s.log.CreateTopic(ctx, stream.TopicSpec{
			Name: name, Partitions: s.opt.DefaultPartitions, Config: map[string]string{letterSetting: "true"},
		})
	case !t.Settings.DeadLetters:
		return nil, fault.New(fault.Denied, op, "topic %q takes no dead letters", name).
			WithHint("set %s=true for it", letterSetting)
	}
	return t, nil
}

// drop tells that dead letters cannot be written.
func (s *shares) drop(p *sharePart, dead []share.Dead, err error) {
	n := int64(0)
	for _, d := range dead {
		n += d.Last - d.First + 1
	}
	s.metrics.letters.With("dropped").Add(float64(n))
	if held, ok := s.lines.Pass(p.group); ok {
		s.opt.Logger.Warn("kafka: records of a share group cannot go to its dead-letter topic", "group", p.group,
			"records", n, "error", err, "hint", fault.HintOf(err), "more", held)
	}
}

// originals are the records in a run of offsets that the log has, with key and value only. Errors: IO, Closed; what is
// damaged or gone is left out.
func (s *shares) originals(
	ctx context.Context, id stream.PartitionID, run share.Span, subject stream.Subject,
) (map[int64]*record.Record, error) {
	all := map[int64]*record.Record{}
	scratch := new(record.Scratch)
	for at := run.First; at <= run.Last && ctx.Err() == nil; {
		batches, err := s.log.Read(id, record.Offset(at), shareChunk, nil)
		if fault.Is(err, fault.IO) || fault.Is(err, fault.Closed) {
			return nil, err
		}
		if err != nil || len(batches) == 0 {
			break
		}
		for _, b := range batches {
			at = int64(b.LastOffset()) + 1
			if int64(b.BaseOffset()) > run.Last || b.Attributes().Control() {
				continue
			}
			var it record.Iter
			if it.Reset(b, scratch) != nil {
				continue
			}
			for v := (record.View{}); it.Next(&v); {
				if offset := int64(v.Offset); offset >= run.First && offset <= run.Last {
					r := &record.Record{Key: cloneNullable(v.Key), Value: cloneNullable(v.Value)}
					if who, ok := subject.Of(&v); ok && !subject.Key {
						r.Headers = []record.Header{{Key: subject.Header, Value: cloneNullable(who)}}
					}
					all[offset] = r
				}
			}
		}
	}
	return all, ctx.Err()
}

// cloneNullable copies bytes; null stays null.
func cloneNullable(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

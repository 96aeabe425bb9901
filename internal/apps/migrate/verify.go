package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// summer makes checksums of records.
type summer struct {
	hash   hash.Hash
	memory []byte
}

// add adds what clients see of a record.
func (s *summer) add(offset record.Offset, v *record.View) {
	b := binary.BigEndian.AppendUint64(s.memory[:0], uint64(offset))
	b = appendContent(b, v.Timestamp, v.Key, v.Value)
	for key, value := range v.Headers {
		b = appendBytes(appendBytes(b, key), value)
	}
	s.hash.Write(b)
	s.memory = b
}

func appendContent(b []byte, stamp int64, key, value []byte) []byte {
	return appendBytes(appendBytes(binary.BigEndian.AppendUint64(b, uint64(stamp)), key), value)
}

// appendBytes appends bytes with their length before them, so that null is not empty.
func appendBytes(b, one []byte) []byte {
	n := int64(-1)
	if one != nil {
		n = int64(len(one))
	}
	return append(binary.BigEndian.AppendUint64(b, uint64(n)), one...)
}

// digest is what the records of a partition come to.
type digest struct {
	records int64
	sum     [sha256.Size]byte
	keys    map[string][sha256.Size]byte // of a topic that is compacted: what its last records come to
}

// stretch is what is compared of a partition: [from, to), with offsets taken to be lower.
type stretch struct {
	log             stream.Source
	p               stream.PartitionID
	from, to, lower record.Offset
	compacted       bool
}

func (s *stretch) digest(ctx context.Context) (d digest, err error) {
	sum := &summer{hash: sha256.New()}
	d.keys = make(map[string][sha256.Size]byte)
	for next := s.from; next < s.to; {
		if err := ctx.Err(); err != nil {
			return d, fault.Wrap(fault.Timeout, "migrate", err)
		}
		next, err = s.log.Scan(s.p, next, stream.ScanOptions{End: s.to, MaxBytes: scanBytes}, func(v *record.View) bool {
			if !s.compacted {
				d.records++
				sum.add(v.Offset-s.lower, v)
				return true
			}
			one := &summer{hash: sha256.New(), memory: sum.memory}
			one.add(v.Offset-s.lower, v)
			if sum.memory = one.memory; v.Value == nil {
				delete(d.keys, string(v.Key))
				return true
			}
			d.keys[string(v.Key)] = [sha256.Size]byte(one.hash.Sum(nil))
			return true
		})
		if err != nil {
			return d, err
		}
	}
	if s.compacted {
		d.records = int64(len(d.keys))
	}
	sum.hash.Sum(d.sum[:0])
	return d, nil
}

func (d *digest) same(o *digest) bool {
	if d.records != o.records || !bytes.Equal(d.sum[:], o.sum[:]) {
		return false
	}
	for key, sum := range d.keys {
		if o.keys[key] != sum {
			return false
		}
	}
	return true
}

func (m *mover) verifyAll(ctx context.Context) error {
	if err := m.each(ctx, m.verify); err != nil {
		return err
	}
	for _, t := range m.topics {
		if err := m.keep(ctx, topicKey+t.from.Name, t.state); err != nil {
			return err
		}
		if t.from.Settings.LogAppendTime && m.Final {
			change := stream.TopicChange{Set: map[string]string{stampSetting: "LogAppendTime"}}
			if _, err := m.Target.AlterTopic(ctx, t.from.Name, change); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify compares what both sides have of a partition, beyond what was compared before.
func (m *mover) verify(ctx context.Context, t *topic, i int) error {
	compacted := t.from.Settings.Compact || t.to.Settings.Compact
	lower := record.Offset(t.state.Lower[i])
	there, err := m.Target.Bounds(t.to.Partitions[i])
	if err != nil {
		return err
	}
	to := t.bounds[i].Stable
	if there.High != to-lower {
		return fault.New(fault.Corrupt, "migrate", "%s[%d] ends at %d in the cluster, and not at %d", t.from.Name, i,
			there.High, to-lower).WithHint("somebody else writes to the topic: delete it in the cluster, and begin again")
	}
	here, err := m.Source.Bounds(t.from.Partitions[i]) // retention goes on, on both sides
	if err != nil {
		return err
	}
	from := max(here.Start, there.Start+lower)
	if !compacted {
		from = max(from, record.Offset(t.state.Verified[i]))
	}
	if from >= to {
		return nil
	}
	var a, b digest
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() {
		s := stretch{m.Source, t.from.Partitions[i], from, to, lower, compacted}
		a, errA = s.digest(ctx)
	})
	both.Go(func() {
		s := stretch{m.Target, t.to.Partitions[i], from - lower, to - lower, 0, compacted}
		b, errB = s.digest(ctx)
	})
	both.Wait()
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if !a.same(&b) {
		return fault.New(fault.Corrupt, "migrate", "%s[%d] is not the same on both sides: %d records with checksum %x on "+
			"the node, %d with %x in the cluster", t.from.Name, i, a.records, a.sum[:8], b.records, b.sum[:8])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t.report.Verified += a.records
	t.state.Verified[i] = int64(to)
	return nil
}

package cluster

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Exact copies records to the offsets that they have elsewhere.
//
// Records go there by a producer whose id outlives the process. Its numbers in a partition rise by one a record, and
// the leader takes a batch only if its numbers follow the last: so a batch of a copier that was killed, and comes late,
// is refused, or ours is, and nothing is there twice. Offsets without a record that may be read are filled by
// transactions that are aborted: their records, and the marker of the end, which takes an offset too.
type Exact struct {
	c      *Cluster
	client *kgo.Client
	name   string
	id     int64
}

// Exact begins to copy, under the id of the copier of before, or a new one for -1. Name is part of transactional ids,
// for which others are fenced. Errors: IO, Denied, Timeout.
func (c *Cluster) Exact(ctx context.Context, name string, id int64) (*Exact, error) {
	cl, err := c.opt.producer(false)
	if err != nil {
		return nil, convert("cluster.Exact", err)
	}
	e := &Exact{c: c, client: cl, name: name, id: id}
	if id < 0 {
		p := producer{client: cl}
		if err := c.insist(ctx, p.take); err != nil {
			cl.Close()
			return nil, convert("cluster.Exact", err)
		}
		e.id = p.id
	}
	return e, nil
}

// ID is the producer id of the copier, for the next one of its kind.
func (e *Exact) ID() int64 { return e.id }

// Close ends it.
func (e *Exact) Close() { e.client.Close() }

// Copied is a partition that is copied to. After an error of Append or Pad nobody knows where it ends: another is made.
// It belongs to one goroutine.
type Copied struct {
	e   *Exact
	p   *part
	by  producer // of records
	pad producer // of fillers
	end record.Offset
}

// Partition looks where the copy of a partition ends, and fences who copied to it before. Errors: NotFound, IO, Denied,
// Timeout.
func (e *Exact) Partition(ctx context.Context, id stream.PartitionID) (*Copied, error) {
	const op = "cluster.Exact"
	p := e.c.parts.Load().find(id)
	if p == nil {
		return nil, noPartition(op, id)
	}
	d := &Copied{e: e, p: p, pad: producer{
		client: e.client, name: idPrefix + e.name + "-" + p.topicID.String() + "-" + strconv.Itoa(int(p.index)),
		timeout: e.c.opt.TransactionTimeout, owned: true,
	}}
	ctx, cancel := context.WithTimeout(ctx, e.c.opt.Patience)
	defer cancel()
	if err := d.pad.take(ctx); err != nil { // what it has left open is aborted, and has its marker
		return nil, convert(op, err)
	}
	// The number is asked for before the end: a batch that comes between the two makes the next one too low, not double.
	last, err := d.lastSequence(ctx)
	if err == nil && last < 0 {
		last, err = d.lookBack(ctx)
	}
	if err != nil {
		return nil, err
	}
	d.by = producer{client: e.client, id: e.id, given: true, ready: true, sequences: map[*part]int32{p: 0}}
	if last >= 0 {
		d.by.sequences[p] = int32((int64(last) + 1) & (1<<31 - 1))
	}
	// The leader knows the number of a batch before all replicas have it: so with what they lack yet.
	d.end, _, err = e.c.listOffset(ctx, op, p, latest, unreplicated)
	if err == nil {
		err = d.replicated(ctx)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// replicated waits until all replicas have what the leader had: what is there can be read then.
func (d *Copied) replicated(ctx context.Context) error {
	for try := 0; ; try++ {
		at, _, err := d.e.c.listOffset(ctx, "cluster.Exact", d.p, latest, 0)
		if err != nil || at >= d.end {
			return err
		}
		if err := clock.Pause(ctx, lasting(try)); err != nil {
			return convert("cluster.Exact", err)
		}
	}
}

// lastSequence is the number of the last record of the producer in the partition, by what its leader knows of
// producers; -1: nothing.
func (d *Copied) lastSequence(ctx context.Context) (last int32, err error) {
	last = -1
	err = d.e.c.retry(ctx, "cluster.Exact", d.p, func(leader int32) (int16, error) {
		req := kmsg.NewPtrDescribeProducersRequest()
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic, t.Partitions = d.p.topic, []int32{d.p.index}
		req.Topics = append(req.Topics, t)
		got, err := d.e.c.client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return 0, err
		}
		resp, _ := got.(*kmsg.DescribeProducersResponse) // the response to its request
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errNoAnswer
		}
		found := &resp.Topics[0].Partitions[0]
		for i := range found.ActiveProducers {
			if one := &found.ActiveProducers[i]; one.ProducerID == d.e.id {
				last = one.LastSequence
			}
		}
		return found.ErrorCode, nil
	})
	return last, err
}

// lookBack is lastSequence by what lies in the partition: not every cluster tells of a producer without a transaction.
func (d *Copied) lookBack(ctx context.Context) (last int32, err error) {
	const op, further = "cluster.Exact", 64
	b, err := d.e.c.askBounds(d.p)
	if err != nil {
		return -1, err
	}
	last = -1
	for back := record.Offset(1); last < 0; back *= further {
		from := max(b.Stable-back, b.Start)
		for at := from; at < b.Stable; {
			err := d.e.c.retry(ctx, op, d.p, func(leader int32) (int16, error) {
				got, err := fetch(ctx, d.e.c.client, leader, []position{{d.p, at}}, fetching{maxBytes: stream.ScanBytes})
				if err != nil {
					return 0, err
				}
				code := throttled
				for _, found := range got {
					if code = found.ErrorCode; code == 0 {
						at = d.sequencesIn(found.RecordBatches, at, &last)
					}
				}
				return code, nil
			})
			if err != nil {
				return -1, err
			}
		}
		if from == b.Start {
			break
		}
	}
	return last, nil
}

// sequencesIn looks for the last number of the producer in what a broker sent, and gives the offset behind it.
func (d *Copied) sequencesIn(batches []byte, at record.Offset, last *int32) record.Offset {
	next := at
	for {
		b, rest, err := record.Next(batches)
		if b == nil || err != nil {
			break // a piece
		}
		if b.ProducerID() == d.e.id {
			*last = b.LastSequence()
		}
		next, batches = max(next, b.LastOffset()+1), rest
	}
	if next == at { // all that was there is compacted away
		next = math.MaxInt64
	}
	return next
}

// End is where the copy ends: the offset of the next record.
func (d *Copied) End() record.Offset { return d.end }

// Room is how many bytes of records a batch takes.
func (d *Copied) Room() int64 {
	const most = 1 << 20
	return min(d.p.limit.Load(), most) - record.BatchOverhead
}

// Append copies records to the end. They are one batch: more than Room only if it is one record. Errors: TooLarge,
// Exists, when somebody else has written there, Fenced, IO, Denied, Timeout.
func (d *Copied) Append(ctx context.Context, records []record.Record) error {
	const op = "cluster.Append"
	base, err := d.put(ctx, &d.by, records)
	switch {
	case err != nil:
		return convert(op, err)
	case base < d.end: // its numbers are those of a batch that came late: nothing is there twice
		return fault.New(fault.IO, op, "%s[%d]: a batch for offset %d is at %d already", d.p.topic, d.p.index, d.end, base)
	case base != d.end:
		return fault.New(fault.Exists, op, "%s[%d]: a batch for offset %d is at %d", d.p.topic, d.p.index, d.end, base).
			WithHint("somebody else writes to the topic: delete it in the cluster, and begin again")
	}
	d.end += record.Offset(len(records))
	return nil
}

// put sends a batch, and gives the offset of its first record.
func (d *Copied) put(ctx context.Context, by *producer, records []record.Record) (base record.Offset, err error) {
	b := newBatch(d.p)
	b.builder.Reset(b.memory, records[0].Timestamp)
	for i := range records {
		b.builder.Append(&records[i])
	}
	b.seal(by)
	leader := d.p.leader.Load()
	if leader < 0 {
		wake(d.e.c.refresh)
		return 0, errNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, d.e.c.opt.Patience)
	defer cancel()
	by.ask(ctx, leader, []*batch{b}, d.e.c.opt.answerWait(true))
	switch base = b.base; {
	case b.err != nil:
		wake(d.e.c.refresh)
		return 0, b.err // its request may still be under way: the memory is not used again
	case base < 0:
		return 0, kerr.DuplicateSequenceNumber
	}
	by.sequences[d.p] = b.sequence()
	release([]*batch{b})
	return base, nil
}

// Fillers: as small as a record can be, with a key, for a topic that is compacted takes none without.
const (
	fillerBytes   = 10
	fillersAtOnce = 8 // batches of a transaction, so that it does not take long
)

// Pad has the copy end at an offset, without a record before it that may be read. Stamp, in milliseconds since 1970,
// is that of the fillers. Errors: as of Append.
func (d *Copied) Pad(ctx context.Context, to record.Offset, stamp int64) error {
	for d.end < to {
		if err := d.padSome(ctx, to, stamp); err != nil {
			return convert("cluster.Pad", err)
		}
	}
	return nil
}

// padSome fills as much as one transaction does.
func (d *Copied) padSome(ctx context.Context, to record.Offset, stamp int64) error {
	if err := d.pad.begin(ctx); err != nil {
		return err
	}
	joining := []*batch{{p: d.p}}
	if s, err := d.pad.join(ctx, joining); s != done {
		d.pad.ready = false
		return errors.Join(errUnsettled, err)
	}
	most := int(d.Room() / fillerBytes)
	end := d.end
	for range fillersAtOnce {
		n := min(int64(to-end)-1, int64(most)) // the marker takes the last
		if n <= 0 {
			break
		}
		fillers := make([]record.Record, n)
		for i := range fillers {
			fillers[i] = record.Record{Timestamp: stamp, Key: []byte{}}
		}
		base, err := d.put(ctx, &d.pad, fillers)
		if err != nil {
			return err
		}
		if base != end {
			return fault.New(fault.Exists, "cluster.Pad", "%s[%d]: fillers for offset %d are at %d", d.p.topic, d.p.index,
				end, base)
		}
		end += record.Offset(n)
	}
	if s, err := d.pad.end(ctx, false); s != done {
		return errors.Join(errUnsettled, err)
	}
	return d.marked(ctx, end+1)
}

// errUnsettled is of a transaction of which nobody knows how far it got.
var errUnsettled = errors.New("a transaction of fillers did not end")

// marked waits for the marker of the end of a transaction, which comes after the answer that it has ended.
func (d *Copied) marked(ctx context.Context, end record.Offset) error {
	ctx, cancel := context.WithTimeout(ctx, d.e.c.opt.Patience)
	defer cancel()
	for try := 0; ; try++ {
		at, _, err := d.e.c.listOffset(ctx, "cluster.Pad", d.p, latest, 0)
		switch {
		case err != nil:
			return err
		case at == end:
			d.end = end
			return nil
		case at > end:
			return fault.New(fault.Exists, "cluster.Pad", "%s[%d] ends at %d, and not at %d", d.p.topic, d.p.index, at, end)
		}
		if err := clock.Pause(ctx, lasting(try)); err != nil {
			return err
		}
	}
}

// Trim removes the records of a partition before an offset. Errors: NotFound, Denied, Limited (the topic is only
// compacted), IO, Timeout.
func (c *Cluster) Trim(ctx context.Context, id stream.PartitionID, to record.Offset) error {
	const op = "cluster.Trim"
	p := c.parts.Load().find(id)
	if p == nil {
		return noPartition(op, id)
	}
	return c.retry(ctx, op, p, func(leader int32) (int16, error) {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = int32(c.opt.answerWait(false).Milliseconds())
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic = p.topic
		one := kmsg.NewDeleteRecordsRequestTopicPartition()
		one.Partition, one.Offset = p.index, int64(to)
		t.Partitions = append(t.Partitions, one)
		req.Topics = append(req.Topics, t)
		got, err := c.client.Broker(int(leader)).Request(ctx, req)
		if err != nil {
			return 0, err
		}
		resp, _ := got.(*kmsg.DeleteRecordsResponse) // the response to its request
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errNoAnswer
		}
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	})
}

// GroupOffset is what a consumer group has committed for a partition.
type GroupOffset struct {
	Topic     string
	Partition int32
	At        int64
	Metadata  string
}

// CommitOffsets commits offsets for a group that has no members. Errors: Denied, IO, Timeout, Exists, when it has.
func (c *Cluster) CommitOffsets(ctx context.Context, group string, all []GroupOffset) error {
	const op = "cluster.CommitOffsets"
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	at := map[string]int{}
	for _, o := range all {
		i, ok := at[o.Topic]
		if !ok {
			i = len(req.Topics)
			at[o.Topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = o.Topic
			if known := c.Topics().ByName(o.Topic); known != nil {
				t.TopicID = known.ID
			}
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.Partition, o.At, -1, new(o.Metadata)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	err := c.insist(ctx, func(ctx context.Context) error {
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for i := range resp.Topics {
			for _, p := range resp.Topics[i].Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) {
		return fault.New(fault.Exists, op, "group %s has members in the cluster", group).
			WithHint("stop its consumers until the migration is done: else they begin where nobody has committed")
	}
	return convert(op, err)
}

// Committed is what a group has committed, by topic and partition. Errors: Denied, IO, Timeout.
func (c *Cluster) Committed(ctx context.Context, group string) (all []GroupOffset, err error) {
	err = c.insist(ctx, func(ctx context.Context) error {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group, req.Topics = group, nil
		one := kmsg.NewOffsetFetchRequestGroup()
		one.Group, one.Topics = group, nil
		req.Groups = append(req.Groups, one)
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		all = all[:0]
		for i := range resp.Topics { // up to version 7
			for _, p := range resp.Topics[i].Partitions {
				all = append(all, GroupOffset{Topic: resp.Topics[i].Topic, Partition: p.Partition, At: p.Offset})
			}
		}
		for i := range resp.Groups {
			err := kerr.ErrorForCode(resp.Groups[i].ErrorCode)
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				return err
			}
			for _, t := range resp.Groups[i].Topics {
				for _, p := range t.Partitions {
					all = append(all, GroupOffset{Topic: c.nameOf(t.Topic, t.TopicID), Partition: p.Partition, At: p.Offset})
				}
			}
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(err, kerr.GroupIDNotFound) {
			return err
		}
		return nil
	})
	return all, convert("cluster.Committed", err)
}

// nameOf is the name of a topic that an answer has by its name or, from some version on, by its id.
func (c *Cluster) nameOf(name string, id record.UUID) string {
	if t := c.Topics().ByID(id); name == "" && t != nil {
		return t.Name
	}
	return name
}

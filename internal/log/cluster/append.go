package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// queue is what waits for the appender, in the order of the Appends.
type queue struct {
	sync.Mutex
	units   []*unit
	bytes   int64 // of units that wait or are under way
	line    stream.Line
	owners  map[stream.PartitionID]*owner
	retired []*lane // of owners that others have followed: the appender closes them
	closing bool
	crowded atomic.Bool // a unit was turned away, and there has been no more room since
}

// owner is who holds a shard on this node.
type owner struct {
	stream.Owner
	lane   *lane
	fenced bool // the cluster has said so: it has another on some node
}

// unit is what one Append was given, copied.
type unit struct {
	records []kgo.Record
	places  []place // of the records
	owner   stream.Owner
	to      stream.Receipt
	ticket  uint64
	bytes   int64
	spans   bool  // it stands together only in a transaction
	err     error // why it was lost
}

// place is where a record goes and about what it takes there.
type place struct {
	p     *part
	bytes int64
}

// Offset implements stream.Placed.
func (u *unit) Offset(write int) record.Offset { return record.Offset(u.records[write].Offset) }

// Append implements stream.Log.
func (c *Cluster) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	const op = "log.Append"
	parts := c.parts.Load()
	var bytes, content int64
	headers := 0
	for i := range u.Writes {
		w := &u.Writes[i]
		p := parts.find(w.Partition)
		if p == nil {
			return noPartition(op, w.Partition)
		}
		size := int64(w.Record.EncodedSize())
		if limit := p.limit.Load(); size+record.BatchOverhead > limit {
			return fault.New(fault.TooLarge, op, "record of %d bytes, max.message.bytes is %d", size, limit)
		}
		bytes += size + record.BatchOverhead
		content += contentBytes(w.Record)
		headers += len(w.Record.Headers)
	}
	if err := c.enter(u, bytes); err != nil {
		return err
	}
	// Between here and put nobody counts but the bytes: copying does not hold the queue.
	mine := &unit{owner: u.Owner, to: to, ticket: ticket, bytes: bytes}
	mine.copy(parts, u.Writes, make([]byte, 0, content), make([]kgo.RecordHeader, 0, headers))
	return c.put(mine)
}

// Crowded implements stream.Log.
func (c *Cluster) Crowded() bool { return c.queue.crowded.Load() }

// contentBytes is what has to be copied of a record.
func contentBytes(r *record.Record) int64 {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Value)
	}
	return int64(n)
}

// enter takes room in the queue for a unit, in its turn and by the owner of its shard.
func (c *Cluster) enter(u *stream.Unit, bytes int64) error {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	err := c.enterLocked(u, bytes)
	if u.Turn == nil {
		return err
	}
	if err == stream.ErrCrowded { //nolint:errorlint // it was made a few lines further down
		q.line.Wait(u.Turn, bytes)
		poke(c.work) // it may be all that the appender has to do
	} else {
		q.line.Pass(u.Turn)
	}
	return err
}

func (c *Cluster) enterLocked(u *stream.Unit, bytes int64) error {
	const op = "log.Append"
	q := &c.queue
	if q.closing {
		return fault.New(fault.Closed, op, "the log is closing")
	}
	if u.Owner.Epoch != 0 {
		if err := q.holds(u.Owner); err != nil {
			return err
		}
	}
	if bytes > 0 && (q.bytes > 0 && q.bytes+bytes > c.opt.QueueBytes || q.line.Ahead(u.Turn)) {
		q.crowded.Store(true)
		return stream.ErrCrowded
	}
	q.bytes += bytes
	return nil
}

// holds tells whether an owner still has its shard, as far as this node knows. It needs the queue's lock.
func (q *queue) holds(o stream.Owner) error {
	now := q.owners[o.Shard]
	switch {
	case now == nil:
		return fault.New(fault.Fenced, "log.Append", "shard %d has no owner here", o.Shard)
	case now.Epoch != o.Epoch:
		return fault.New(fault.Fenced, "log.Append", "shard %d: epoch %d, another has %d", o.Shard, o.Epoch, now.Epoch)
	case now.fenced:
		return fault.New(fault.Fenced, "log.Append", "shard %d has another owner in the cluster", o.Shard)
	}
	return nil
}

// put puts a unit that has entered into the queue.
func (c *Cluster) put(u *unit) error {
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	if q.closing {
		q.bytes -= u.bytes
		return fault.New(fault.Closed, "log.Append", "the log is closing")
	}
	q.units = append(q.units, u)
	poke(c.work)
	return nil
}

// copy takes the records in, into memory that has room for them.
func (u *unit) copy(parts *table, ws []stream.Write, content []byte, headers []kgo.RecordHeader) {
	u.records, u.places = make([]kgo.Record, len(ws)), make([]place, len(ws))
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		at := len(content)
		content = append(content, b...)
		return content[at:len(content):len(content)]
	}
	sum := int64(record.BatchOverhead)
	for i := range ws {
		r, p := ws[i].Record, parts.find(ws[i].Partition)
		at := len(headers)
		for j := range r.Headers {
			headers = append(headers, kgo.RecordHeader{Key: r.Headers[j].Key, Value: keep(r.Headers[j].Value)})
		}
		u.records[i] = kgo.Record{
			Topic: p.topic, Partition: p.index, Timestamp: time.UnixMilli(r.Timestamp),
			Key: keep(r.Key), Value: keep(r.Value), Headers: headers[at:len(headers):len(headers)],
		}
		size := int64(r.EncodedSize())
		u.places[i] = place{p: p, bytes: size}
		sum += size
		u.spans = u.spans || p != u.places[0].p
	}
	u.spans = u.spans || len(ws) > 0 && sum > u.places[0].p.limit.Load()
}

// callTurns tells those who waited that there is room. It must not be called with the queue's lock held.
func callTurns(turns []*stream.Turn) {
	for _, t := range turns {
		t.Roomy()
	}
}

// Own implements stream.Log: the transactional id of a shard fences its owner of before, on whatever node.
func (c *Cluster) Own(ctx context.Context, shard stream.PartitionID) (stream.Owner, error) {
	const op = "log.Own"
	p := c.parts.Load().find(shard)
	if p == nil {
		return stream.Owner{}, noPartition(op, shard)
	}
	l := &lane{opt: &c.opt, shard: true, id: fmt.Sprintf("firth-%s-%d", p.topicID, p.index)}
	if err := l.open(); err != nil {
		return stream.Owner{}, convert(op, err)
	}
	if _, _, err := l.client.ProducerID(ctx); err != nil {
		l.close()
		return stream.Owner{}, convert(op, err)
	}
	q := &c.queue
	q.Lock()
	defer q.Unlock()
	next := &owner{Owner: stream.Owner{Shard: shard, Epoch: 1}, lane: l}
	if before := q.owners[shard]; before != nil {
		next.Epoch = before.Epoch + 1
		q.retired = append(q.retired, before.lane)
	}
	if q.closing {
		q.retired = append(q.retired, l)
		return stream.Owner{}, fault.New(fault.Closed, op, "the log is closing")
	}
	if q.owners == nil {
		q.owners = make(map[stream.PartitionID]*owner)
	}
	q.owners[shard] = next
	poke(c.work)
	return next.Owner, nil
}

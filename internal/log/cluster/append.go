package cluster

import (
	"context"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// unit is what one Append was given, copied.
type unit struct {
	records []record.Record
	places  []place         // of the records
	offsets []record.Offset // that they have got
	lane    *lane
	to      stream.Receipt
	ticket  uint64
	bytes   int64
	encoded int64 // at most, in a batch
	spans   bool  // it stands together only in a transaction
	err     error // why it was lost
}

// recordMemory is about what a record costs in memory besides its content, while it waits.
const recordMemory = 128

// place is where a record goes and about what it takes there.
type place struct {
	p     *part
	bytes int64
}

// Offset implements stream.Placed.
func (u *unit) Offset(write int) record.Offset { return u.offsets[write] }

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
		bytes += size + record.BatchOverhead + recordMemory
		content += contentBytes(w.Record)
		headers += len(w.Record.Headers)
	}
	l, err := c.queue.enter(u, bytes, c.opt.QueueBytes)
	if err != nil {
		return err
	}
	// The unit is counted from here on, so that copying does not hold the queue.
	mine := &unit{lane: l, to: to, ticket: ticket, bytes: bytes}
	mine.copy(parts, u.Writes, make([]byte, 0, content), make([]record.Header, 0, headers))
	c.queue.put(mine)
	return nil
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

// copy takes the records in, into memory that has room for them.
func (u *unit) copy(parts *table, ws []stream.Write, content []byte, headers []record.Header) {
	u.records, u.places, u.offsets = make([]record.Record, len(ws)), make([]place, len(ws)), make([]record.Offset, len(ws))
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		at := len(content)
		content = append(content, b...)
		return content[at:len(content):len(content)]
	}
	for i := range ws {
		r, p := ws[i].Record, parts.find(ws[i].Partition)
		at := len(headers)
		for j := range r.Headers {
			headers = append(headers, record.Header{Key: r.Headers[j].Key, Value: keep(r.Headers[j].Value)})
		}
		u.records[i] = record.Record{
			Timestamp: r.Timestamp, Key: keep(r.Key), Value: keep(r.Value), Headers: headers[at:len(headers):len(headers)],
		}
		size := int64(r.EncodedSize())
		u.places[i] = place{p: p, bytes: size}
		u.encoded += size
		u.spans = u.spans || p != u.places[0].p
	}
	u.spans = u.spans || len(ws) > 0 && u.encoded+record.BatchOverhead > u.places[0].p.limit.Load()
}

// callTurns tells those who waited that there is room. It must not be called with the queue's lock held.
func callTurns(turns []*stream.Turn) {
	for _, t := range turns {
		t.Roomy()
	}
}

// Own implements stream.Log: the transactional id of a shard fences its owner of before, on whatever node. An owner of
// before on this node has lost the shard even if this fails.
func (c *Cluster) Own(ctx context.Context, shard stream.PartitionID) (stream.Owner, error) {
	const op = "log.Own"
	p := c.parts.Load().find(shard)
	if p == nil {
		return stream.Owner{}, noPartition(op, shard)
	}
	l, err := c.newLane(shardID(p.topicID, strconv.Itoa(int(p.index))))
	if err != nil {
		return stream.Owner{}, convert(op, err)
	}
	l.transactional.owned, l.transactional.timeout = true, c.opt.OwnerTimeout
	ctx, cancel := context.WithTimeout(ctx, c.opt.Patience)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	c.queue.dispossess(shard)
	err = l.transactional.take(ctx)
	if _, given := shardOf(l.transactional.name, c.shardPrefix()); err == nil && given && c.opt.Place.yields() {
		err = c.insist(ctx, c.loadAll) // who had it has stored where sessions stand in topics that may be new here
	}
	if err != nil {
		l.client.Close()
		return stream.Owner{}, convert(op, err)
	}
	owner, err := c.queue.own(shard, l, func() { c.senders.Go(func() { c.send(l) }) })
	if err != nil {
		l.client.Close()
	}
	return owner, err
}

package kafka

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce (0): v0-13.
//
// Behaviour
//   - The batches of a request are appended in its order, each as it came: the log writes only base
//     offset and leader epoch into them and, with message.timestamp.type=LogAppendTime, the time.
//   - acks 1 and -1 are answered when the batches are as durable as their topics ask. acks 0 gets no
//     response; if something fails, the connection is closed, as Kafka does, so that the client notices.
//     Any other value is INVALID_REQUIRED_ACKS.
//   - Several requests of a connection are under way at once and share commits; answers keep the order.
//   - One batch for each partition: a second one is INVALID_RECORD. Nothing of a partition in error is
//     stored. The log's own topics are INVALID_TOPIC_EXCEPTION.
//   - Each batch is appended as soon as it is here, in memory of its own, so that a request is never in memory as a
//     whole, and no batch keeps that of a hundred others. If the connection breaks before the request is whole, what
//     was appended stays, as it does when only the answer is lost.
//   - With compression.type other than producer a batch that came with another codec is compressed by that one; the
//     result must keep to max.message.bytes, too.
//   - An idempotent batch that was stored already is answered with its first offset.
//   - The largest timestamp of a batch is that of its records, as in Kafka: where the header says another it is
//     corrected, because retention and lookups by time go by it.
//   - A record stamped further from the log's clock than the topic allows is INVALID_TIMESTAMP, unless the log
//     stamps its records (KIP-937): one from a clock years ahead would be kept for as long. Records that break a
//     rule are named in record_errors (KIP-467), the first 1,000 of them.
//   - A transactional batch is taken in the epoch that its producer has now, up to version 11 for partitions that were
//     added to the transaction: else INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE or TRANSACTION_ABORTABLE.
//   - The timeout of the request is not used: the log answers when the disk does.
//
// Versions: 0-2 carry message sets from before record batches and are answered UNSUPPORTED_VERSION for
// each partition; they are advertised because older librdkafka asks for it (KAFKA-18659, KIP-896).
// 3 transactional id, 5 log start offset, 7 zstd, 8 errors with a message (KIP-467), 9 flexible, 10
// leader hints (KIP-951, never needed on one node), 11 TRANSACTION_ABORTABLE, 12 the first batch brings its partition
// into the transaction (KIP-890), 13 topics by id (KIP-516).

// call is one request under way that is answered later: a Produce or, with an api, another.
type call struct {
	c             *conn
	api           *served       // nil: Produce
	resp          kmsg.Response // of the other, once it is done
	size          int           // of its request, which the budget counts
	next          *call
	kept          []byte // the request without its records: names and indexes, until the answer is written
	req           wire.ProduceRequest
	correlationID int32
	first         page // most requests need no other
	few           [fewResults]outcome
	last          *page
	results       []wire.ProduceResult // gathered from the pages, for the answer
	throttle      int32                // milliseconds, as the answer tells them
	left          atomic.Int32         // receipts to come, and one while batches are being appended
	done          bool                 // all results are in; under conn.mu
	start         time.Time
}

// Versions of Produce and transactions.
const (
	abortableVersion = 11 // from which clients know TRANSACTION_ABORTABLE
	implicitVersion  = 12 // from which the first batch brings its partition into the transaction
)

const (
	fewResults  = 2
	pageResults = 64
)

// page holds the results of some partitions of a request, where the receipts of the log find them: how many there
// will be is not known before the last has arrived.
type page struct {
	call     *call
	next     *page
	used     int
	outcomes []outcome
}

// outcome is what became of one batch.
type outcome struct {
	result  wire.ProduceResult
	stamped record.Batch // the log's clock stamps it
}

var _ stream.Receipt = (*page)(nil)

// Appended implements stream.Receipt: ticket is the place in the page. It comes from the log's own goroutine: a panic
// in it must cost no more than this connection.
func (g *page) Appended(ticket uint64, at stream.Placed, err error) {
	defer g.call.c.survive()
	o := &g.outcomes[ticket]
	if err != nil {
		refuse(&o.result, err)
	} else if o.result.BaseOffset = int64(at.Offset(0)); o.stamped != nil {
		o.result.LogAppendTime = o.stamped.MaxTimestamp()
	}
	o.stamped = nil
	g.call.settle()
}

// outcome makes room for another result.
func (p *call) outcome() (g *page, at int) {
	if p.last == nil {
		p.first = page{call: p, outcomes: p.few[:]}
		p.last = &p.first
	}
	if g = p.last; g.used == len(g.outcomes) {
		g.next = &page{call: p, outcomes: make([]outcome, pageResults)}
		p.last, g = g.next, g.next
	}
	at = g.used
	g.used++
	g.outcomes[at] = outcome{result: noResult}
	return g, at
}

var noResult = wire.ProduceResult{BaseOffset: -1, LogAppendTime: -1, LogStart: -1}

// gather puts the results of all pages together.
func (p *call) gather() []wire.ProduceResult {
	p.results = p.results[:0]
	if p.last == nil {
		return nil
	}
	for g := &p.first; g != nil; g = g.next {
		for i := range g.outcomes[:g.used] {
			p.results = append(p.results, g.outcomes[i].result)
		}
	}
	return p.results
}

// settle notes that one thing the call waits for is there.
func (p *call) settle() {
	if p.left.Add(-1) == 0 {
		p.c.settled(p)
	}
}

// refuse makes res the answer for an error.
func refuse(res *wire.ProduceResult, err error) {
	res.Code = produceCode(err)
	res.BaseOffset, res.LogAppendTime = -1, -1
	res.Message = err.Error()
	if refused, ok := errors.AsType[*record.Refused](err); ok {
		for _, f := range refused.Flaws {
			res.Records = append(res.Records, wire.RecordError{Index: f.Index, Message: f.What})
		}
	}
	if hint := fault.HintOf(err); hint != "" {
		res.Message += ": " + hint
	}
}

// errZstd is the fault of a codec that the version of the request does not know (KIP-110).
var errZstd = fault.New(fault.Unsupported, "kafka.Produce", "zstd needs Produce v7")

// produceCode is code, but for what it means to a producer.
func produceCode(err error) wire.Code {
	switch kind := fault.KindOf(err); {
	case errors.Is(err, errZstd):
		return wire.UnsupportedCompressionType
	case errors.Is(err, store.ErrUnknownProducer):
		return wire.InvalidProducerIDMapping
	case errors.Is(err, store.ErrNotInTransaction):
		return wire.InvalidTxnState
	case untimely(err):
		return wire.InvalidTimestamp
	case kind == fault.Invalid:
		return wire.InvalidRecord
	case kind == fault.Unsupported:
		return wire.UnsupportedForMessageFormat
	default:
		return code(err)
	}
}

// untimely tells whether a batch was refused for the time of a record.
func untimely(err error) bool {
	refused, ok := errors.AsType[*record.Refused](err)
	return ok && refused.Untimely
}

// produce appends what a Produce request holds while it arrives, and has its answer under way.
func (c *conn) produce(ctx context.Context, api *served, size int, start time.Time) error {
	in := &c.body
	in.begin(c, size)
	defer in.end()
	p, s := c.newCall(), &c.producing
	if err := s.Begin(api.API, in, p.kept[:0]); err != nil {
		return err
	}
	c.setClientID(s.Header.ClientID)
	p.correlationID, p.start, p.req = s.Header.CorrelationID, start, s.Request
	p.left.Store(1)
	if err := c.appendAll(p, s, in); err != nil {
		return err
	}
	if err := in.skip(in.left); err != nil { // what nobody asked for
		return err
	}
	c.watch.set(working)
	p.req, p.kept = s.Request, s.Kept()
	p.throttle = max(c.charge(produceRate, float64(size)), c.chargeTime())
	if p.req.Acks == 0 {
		return c.unanswered(p)
	}
	c.enqueue(p)
	p.settle()
	return ctx.Err()
}

// unanswered ends a call with acks=0.
func (c *conn) unanswered(p *call) error {
	defer c.recycle(p)
	results := p.gather()
	for i := range results {
		if res := &results[i]; res.Code != wire.None {
			return fault.New(fault.Closed, "kafka.Produce", "an unacknowledged produce failed with error %d %s",
				res.Code, res.Message)
		}
	}
	return nil
}

// appendAll appends the batches of a request in order, each when it is here.
func (c *conn) appendAll(p *call, s *wire.ProduceStream, in *body) error {
	refused, denied := checkRequest(&p.req), c.door.checkTxn(c, &p.req)
	if p.req.Old() {
		c.outdated(wire.Find(wire.Produce), p.req.Version, c.clientID)
	}
	topics := c.door.log.Topics()
	var t *stream.Topic
	var topicCode wire.Code
	for {
		if more, err := s.Next(); err != nil {
			return err
		} else if !more {
			return s.Finish()
		}
		if s.NewTopic && refused == nil {
			t, topicCode = c.door.produceTopic(c, topics, &s.ProducePartition, p.req.Version)
		}
		g, at := p.outcome()
		res, taken := &g.outcomes[at].result, 0
		switch {
		case refused != nil:
			refuse(res, refused)
			res.Code = requestCode(&p.req)
		case denied != wire.None:
			res.Code = denied
		case topicCode != wire.None:
			res.Code = topicCode
		case s.Size > t.Settings.MaxMessageBytes:
			refuse(res, fault.New(fault.TooLarge, "kafka.Produce", "batch of %d bytes, max.message.bytes is %d",
				s.Size, t.Settings.MaxMessageBytes))
		default:
			var err error
			if taken, err = c.take(g, at, t, in); err != nil {
				return err
			}
		}
		if err := in.skip(max(s.Size, 0) - taken); err != nil {
			return err
		}
		if err := s.Rest(); err != nil {
			return err
		}
	}
}

// take receives the batch of a partition into memory of its own and gives it to the log, which counts it from there
// on. It tells how much it took.
func (c *conn) take(g *page, at int, t *stream.Topic, in *body) (taken int, err error) {
	s := &c.producing
	s.Records = nil
	if s.Size >= 0 {
		if err := c.holding.take(s.Size); fault.Is(err, fault.Limited) {
			res := &g.outcomes[at].result
			refuse(res, err)
			res.Code = wire.KafkaStorageError // clients try again after it
			return 0, nil
		} else if err != nil {
			return 0, err
		}
		defer c.holding.give(s.Size)
		if s.Records, err = in.records(s.Size); err != nil {
			return 0, err
		}
	}
	c.watch.set(working)
	work := c.starts()
	c.door.appendOne(g, at, t, &s.ProducePartition)
	c.ends(work)
	s.Records = nil
	return max(s.Size, 0), nil
}

// checkRequest refuses what is wrong with a request as a whole.
func checkRequest(req *wire.ProduceRequest) error {
	const op = "kafka.Produce"
	switch {
	case req.Old():
		return fault.New(fault.Unsupported, op, "message sets from before record batches are not served")
	case req.Acks < -1 || req.Acks > 1:
		return fault.New(fault.Invalid, op, "acks is %d; -1, 0 and 1 are allowed", req.Acks)
	}
	return nil
}

// checkTxn refuses a request whose transactional id the client may not use, or nobody has; wire.None: go on.
func (d *Door) checkTxn(c *conn, req *wire.ProduceRequest) wire.Code {
	if req.TransactionalID == nil {
		return wire.None
	}
	return d.txns.mayTxn(c, OpWrite, string(req.TransactionalID))
}

// requestCode is the error code for what checkRequest refuses.
func requestCode(req *wire.ProduceRequest) wire.Code {
	switch {
	case req.Old():
		return wire.UnsupportedVersion
	}
	return wire.InvalidRequiredAcks
}

// produceTopic finds the topic that a client wants to write, if it may.
func (d *Door) produceTopic(
	c *conn, topics *stream.Topics, w *wire.ProducePartition, version int16,
) (*stream.Topic, wire.Code) {
	var t *stream.Topic
	if version >= 13 {
		if t = topics.ByID(record.UUID(w.TopicID)); t == nil {
			return nil, wire.UnknownTopicID
		}
	} else if t = topics.ByName(string(w.Topic)); t == nil {
		return nil, d.missing(c, OpWrite, string(w.Topic))
	}
	switch {
	case !d.may(c, OpWrite, OnTopic, t.Name):
		return nil, wire.TopicAuthorizationFailed
	case t.Internal():
		d.opt.refused(c, OpWrite, OnTopic, t.Name)
		return nil, wire.InvalidTopic
	}
	d.opt.tellData(c, chain.TypeProduce, OpWrite, t.Name)
	return t, wire.None
}

// appendOne judges one batch and gives it to the log.
func (d *Door) appendOne(g *page, at int, t *stream.Topic, w *wire.ProducePartition) {
	p, res := g.call, &g.outcomes[at].result
	if w.Index < 0 || int(w.Index) >= len(t.Partitions) {
		res.Code = wire.UnknownTopicOrPartition
		return
	}
	id := t.Partitions[w.Index]
	batch, err := d.judge(t, w.Records, &p.req, p.start)
	if err != nil {
		refuse(res, err)
		return
	}
	if name := p.req.TransactionalID; name != nil && batch.Attributes().Transactional() &&
		!d.txns.producerOf(string(name), batch.ProducerID()) {
		res.Code = wire.InvalidProducerIDMapping // the right to one transactional id is none to another
		return
	}
	if t.Settings.LogAppendTime {
		g.outcomes[at].stamped = batch
	}
	if bounds, err := d.log.Bounds(id); err == nil {
		res.LogStart = int64(bounds.Start)
	}
	d.metrics.batches.Inc()
	write := store.BatchWrite{Partition: id, Batch: batch, Implicit: p.req.Version >= implicitVersion}
	var to stream.Receipt
	if p.req.Acks != 0 {
		to = g
		p.left.Add(1)
	}
	if err := d.produce.AppendBatch(write, to, uint64(at)); err != nil {
		refuse(res, err)
		if errors.Is(err, store.ErrNotInTransaction) && p.req.Version >= abortableVersion {
			res.Code = wire.TransactionAbortable
		}
		if to != nil {
			p.left.Add(-1)
		}
	}
}

// judge takes the one batch out of the records of a partition and holds it to the rules for producers.
func (d *Door) judge(
	t *stream.Topic, records []byte, req *wire.ProduceRequest, now time.Time,
) (record.Batch, error) {
	const op = "kafka.Produce"
	if len(records) == 0 {
		return nil, fault.New(fault.Invalid, op, "no record batch")
	}
	batch, rest, err := record.Next(records)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fault.New(fault.Invalid, op, "more than one record batch for a partition")
	}
	if batch.Magic() != 2 {
		return nil, fault.New(fault.Unsupported, op, "record batches of version %d are not served, 2 is", batch.Magic())
	}
	if err := d.validate(t, batch, now); err != nil {
		return nil, err
	}
	if batch.Attributes().Codec() == record.Zstd && req.Version < 7 {
		return nil, errZstd
	}
	if batch.Attributes().Transactional() && req.TransactionalID == nil {
		return nil, fault.New(fault.Invalid, op, "a transactional batch without a transactional id")
	}
	if codec := t.Settings.Codec; t.Settings.Recompress && batch.Attributes().Codec() != codec {
		s, _ := d.scratches.Get().(*record.Scratch) // the pool holds nothing else
		defer d.scratches.Put(s)
		return s.Recompress(batch, codec, t.Settings.MaxMessageBytes)
	}
	return batch, nil
}

// validate looks at every record, decompressed if need be, as Kafka does: what is stored, every consumer can read. The
// header then tells the largest timestamp that the records have: retention and lookups go by it.
func (d *Door) validate(t *stream.Topic, batch record.Batch, now time.Time) error {
	var s *record.Scratch
	if batch.Attributes().Codec() != record.None {
		s, _ = d.scratches.Get().(*record.Scratch) // the pool holds nothing else
		defer d.scratches.Put(s)
	}
	rules := rulesOf(t, now)
	largest, err := batch.Validate(&rules, s)
	if err == nil && !t.Settings.LogAppendTime {
		batch.SetMaxTimestamp(largest)
	}
	return err
}

// rulesOf is what a topic asks of the batches of producers at a time (KIP-937).
func rulesOf(t *stream.Topic, now time.Time) record.Rules {
	at := now.UnixMilli()
	return record.Rules{
		MaxBytes: t.Settings.MaxMessageBytes, Keyed: needsKeys(t), Timed: !t.Settings.LogAppendTime,
		Earliest: at - t.Settings.TimestampBeforeMaxMs, Latest: at + min(t.Settings.TimestampAfterMaxMs, math.MaxInt64-at),
	}
}

// needsKeys tells whether each record of a topic must have a key: compaction goes by it.
func needsKeys(t *stream.Topic) bool { return t.Settings.Compact }

// newCall takes a call from the connection's own list, or makes one.
func (c *conn) newCall() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.mu.free
	if p == nil {
		return &call{c: c}
	}
	c.mu.free, p.next = p.next, nil
	c.mu.spare--
	return p
}

// recycle puts a call back. Nothing may refer to it any more.
func (c *conn) recycle(p *call) {
	p.few, p.first, p.last = [fewResults]outcome{}, page{}, nil
	p.req, p.done, p.throttle = wire.ProduceRequest{}, false, 0
	if p.api != nil {
		c.holding.give(p.size)
		p.api, p.resp, p.size = nil, nil, 0
	}
	clear(p.results)
	if p.results = p.results[:0]; cap(p.results) > pageResults {
		p.results = nil
	}
	if cap(p.kept) > keepRequest {
		p.kept = nil
	}
	c.mu.Lock()
	if c.mu.spare < keepCalls {
		c.mu.spare++
		p.next, c.mu.free = c.mu.free, p
	}
	c.mu.Unlock()
}

// enqueue puts a call behind those under way.
func (c *conn) enqueue(p *call) {
	c.mu.Lock()
	if c.mu.last == nil {
		c.mu.calls = p
	} else {
		c.mu.last.next = p
	}
	c.mu.last = p
	c.mu.unsent++
	if p.api == nil {
		c.mu.producing++
	}
	c.mu.Unlock()
}

// settled notes that a call has all its results. If it is the oldest, the flusher goes to work. It is
// called from the log's own goroutine and does not block.
func (c *conn) settled(p *call) {
	c.mu.Lock()
	p.done = true
	start := c.mu.calls == p && !c.mu.flushing && !c.mu.closed
	if start {
		c.mu.flushing = true
	}
	c.mu.Unlock()
	if start {
		go c.flush()
	}
}

// flush answers the calls that are done, oldest first, many in one write, and ends when the oldest call
// is not done. There is one flusher at most: close waits for it.
func (c *conn) flush() {
	ended := false
	defer func() {
		if !ended {
			c.flushBroke()
		}
	}()
	defer c.survive()
	for {
		first, n, produced := c.takeDone()
		if n == 0 {
			ended = true
			return
		}
		c.sent = c.sent[:0]
		for p := first; p != nil; {
			next := p.next
			p.next = nil
			c.sent = p.appendTo(c.sent)
			c.recycle(p)
			p = next
		}
		err := c.write(c.sent)
		if cap(c.sent) > keepBuffer {
			c.sent = nil
		}
		c.mu.Lock()
		c.mu.unsent -= n
		c.mu.producing -= produced
		c.mu.failed = c.mu.failed || err != nil
		c.calm.Broadcast()
		c.mu.Unlock()
		if err != nil {
			c.fail()
		}
	}
}

// appendTo appends the answer of a call that is done.
func (p *call) appendTo(dst []byte) []byte {
	if p.api != nil {
		p.api.seconds.observe(p.start)
		throttle(p.resp, p.throttle)
		return wire.AppendResponse(dst, p.api.API, p.correlationID, p.resp)
	}
	p.c.door.produceSeconds.observe(p.start)
	at := len(dst)
	dst = wire.AppendProduceResponse(dst, &p.req, p.correlationID, p.gather())
	if p.throttle > 0 {
		wire.PutThrottle(dst[at:], wire.Find(wire.Produce), p.req.Version, p.throttle)
	}
	return dst
}

// flushBroke ends a flusher that a panic threw out of its loop.
func (c *conn) flushBroke() {
	c.mu.Lock()
	c.mu.flushing, c.mu.failed = false, true
	c.calm.Broadcast()
	c.mu.Unlock()
}

// takeDone takes the done calls off the front. With none, the flusher is over: a call that is done later
// starts another.
func (c *conn) takeDone() (first *call, n, produced int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last *call
	for p := c.mu.calls; p != nil && p.done; p = p.next {
		last = p
		n++
		if p.api == nil {
			produced++
		}
	}
	if n == 0 {
		c.mu.flushing = false
		c.calm.Broadcast()
		return nil, 0, 0
	}
	first = c.mu.calls
	if c.mu.calls = last.next; c.mu.calls == nil {
		c.mu.last = nil
	}
	last.next = nil
	return first, n, produced
}

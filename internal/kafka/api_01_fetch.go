package kafka

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// Fetch (1): v4-18.
//
// Behaviour
//   - Whole batches as they lie in the log, written to the socket without a copy. The batch that holds
//     the offset asked for is the first. There is no down-conversion.
//   - What is not in memory any more goes from its file to the socket in chunks, each checked before it is
//     sent (api_01_fetch_send.go): the answer costs memory for a chunk or one batch, not for its size.
//     A damaged batch is not served: what lies before it is, then CORRUPT_MESSAGE.
//   - The order of the partitions in the request counts. Partition and total bounds hold, but the first
//     batch of a response is there however large it is (KIP-74). The total is at most 55 MiB.
//   - With less than min bytes there, the fetch parks until enough was appended to its partitions or max
//     wait is over (at most 5 minutes). The connection answers nothing else meanwhile. A parked fetch keeps
//     no records, only how many bytes there are and where.
//   - An error in a partition ends the wait at once; asked for the same again within max wait, the fetch waits as
//     one without errors does, so that a client that goes on asking does not spin.
//   - What an answer holds in memory while it is written is bounded: beyond 4 MiB, or 256 KiB when the budget
//     of the door is half used, records are looked up again when it is their turn.
//   - By name up to v12, by topic id from v13 (KIP-516). The leader epoch of the client is checked
//     (KIP-320): FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
//   - Fetch sessions (KIP-227) are in api_01_fetch_session.go: from a request that says what changes, one of all
//     partitions of its session is made, and of the answer what the client was told already is left out.
//   - A reader of committed records gets nothing from the last stable offset on, where the oldest open transaction
//     begins, and a list of the aborted transactions in what it gets, in the order of their offsets (KIP-98). It
//     waits for min bytes of these. Replicas are refused: NOT_LEADER_OR_FOLLOWER.
//   - Who may not see all of a topic gets its batches masked (mask.go), and fewer of them in an answer: bounds count
//     what was read. Offsets, times and transactions stay.
//
// Versions: 4 isolation, 5 log start offset, 7 sessions, 9 leader epoch, 10 zstd, 11 rack, 12 flexible,
// 13 topic ids, 15 replica state (KIP-903), 16 leader hints (KIP-951), 17 and 18 for replicas.

const (
	maxFetchBytes = 55 << 20        // fetch.max.bytes of a Kafka broker
	maxFetchWait  = 5 * time.Minute // of a parked fetch
	keepFetched   = 256             // partitions that a connection keeps memory for

	pinnedBytes = 4 << 20   // of records in memory that an answer holds
	tightBytes  = 256 << 10 // the same when memory is short

	errorBrake = 50 * time.Millisecond // between two answers with an error, whatever max wait says
)

// The states of a fetch. Who moves it to running owns it until it parks or ends.
const (
	noFetch int32 = iota
	fetchRunning
	fetchRunningNews // running, and there was news meanwhile
	fetchParked
)

// fetch is the Fetch of a connection: at most one is under way, and its memory is used again.
type fetch struct {
	c             *conn
	state         atomic.Int32
	deadline      atomic.Int64 // when it answers what it has, as Door.now tells it; 0: none is under way
	timer         *time.Timer
	req           wire.FetchRequest
	resp          wire.FetchResponse
	correlationID int32
	start         time.Time
	parts         []fetchPart
	pending       [][]byte // pieces of the response that are to be written next
	parked        int      // parts that are in the purgatory
	bytes         int      // found
	pinned        int      // of them in memory, and held
	covered       int      // bytes of batches that were masked
	most          int      // that may be pinned
	counted       int      // in the budget of the door
	use           sessionUse
	rate          allowance     // of bytes
	largest       int           // answer that there may be, in bytes of records
	throttled     int32         // milliseconds, for the time it took
	wide          bool          // the last one asked for many partitions
	failed        bool          // a partition has an error
	braked        bool          // which is not answered before the wait is over
	erred         time.Duration // when errors were answered last, as Door.now tells it; 0: never
	errors        uint64        // which ones: their errorSum
	begun         bool          // something of the response went out
	ahead         store.Readahead
	scratch       []record.Batch
	unsent        int // bytes of records in memory that are pending
}

// fetchPart is one partition of a fetch and what was found for it: bytes of whole batches, from one offset up to
// another. Where it is thin, they are looked up again when they are written; else they are here.
type fetchPart struct {
	id         stream.PartitionID
	result     wire.FetchResult
	from, next record.Offset // next: to read on from
	maxBytes   int
	bytes      int
	thin       bool
	silent     bool           // not in the answer: the session knows it
	stale      bool           // nothing came since it was looked at last
	masks      *mask.Set      // what the client may not see; nil: it may see all
	masked     bool           // the batches are as it may see them
	cleaned    uint64         // as often the partition had been compacted when something was found first
	stored     store.Stretch  // in a file, before the batches
	batches    []record.Batch // in memory
	waiter     waiter
}

// startFetch answers a Fetch at once, if there is enough to say, or parks it.
func (c *conn) startFetch(ctx context.Context, head wire.Header, body []byte, start time.Time) error {
	f := &c.fetch
	f.borrow()
	if err := f.req.Decode(head.Version, body); err != nil {
		return err
	}
	f.correlationID, f.start = head.CorrelationID, start
	code := f.refusal()
	if code == wire.None && f.req.Version >= 7 {
		code = c.door.sessions.begin(&f.req, &f.use)
	}
	if code == wire.None {
		code = f.begin(len(body))
	}
	if code != wire.None {
		if f.erred > 0 && c.door.now()-f.erred < errorBrake {
			_ = clock.Pause(ctx, errorBrake)
		}
		f.erred = c.door.now()
		defer f.release()
		return c.writeAll(f.resp.Refuse(&f.req, f.correlationID, code))
	}
	work := c.starts()
	f.rate, f.largest = c.mayFetch()
	f.resolve()
	wait := min(time.Duration(f.req.MaxWaitMillis)*time.Millisecond, maxFetchWait)
	if f.failed {
		wait = f.brake(wait)
	}
	enough := f.gather()
	c.ends(work)
	f.throttled = c.chargeTime()
	if enough || wait <= 0 || len(f.parts) == 0 {
		return f.respond()
	}
	f.thin()
	c.mu.Lock()
	c.mu.fetching = true
	c.mu.Unlock()
	f.state.Store(fetchRunning)
	f.deadline.Store(int64(c.door.now() + wait))
	f.park(wait)
	f.run(true)
	return nil
}

// brake has a fetch wait if the connection was told of the same errors less than max wait ago, and gives how long it
// waits.
func (f *fetch) brake(wait time.Duration) time.Duration {
	quiet := f.erred + max(wait, errorBrake) - f.c.door.now()
	if f.braked = quiet > 0 && f.errors == f.errorSum(); f.braked {
		wait = max(wait, min(quiet, errorBrake))
	}
	return wait
}

// errorSum is the same for the same errors of the same partitions at the same offsets.
func (f *fetch) errorSum() uint64 {
	h := fnv.New64a()
	for i := range f.req.Topics {
		rt := &f.req.Topics[i]
		for j := rt.First; j < rt.Last; j++ {
			if p := &f.parts[j]; p.result.Code != wire.None {
				_, _ = h.Write(rt.Name) // never fails, nor do those that follow
				_, _ = h.Write(rt.ID[:])
				var b [16]byte
				binary.BigEndian.PutUint32(b[:], uint32(p.result.Index))
				binary.BigEndian.PutUint16(b[4:], uint16(p.result.Code))
				binary.BigEndian.PutUint64(b[8:], uint64(p.from))
				_, _ = h.Write(b[:])
			}
		}
	}
	return h.Sum64()
}

// begin counts what the request, of which the names are kept, and its partitions take in memory. KafkaStorageError:
// there is no room for it.
func (f *fetch) begin(size int) wire.Code {
	n := size + len(f.req.Partitions)*int(unsafe.Sizeof(fetchPart{}))
	if f.c.holding.take(n) != nil {
		return wire.KafkaStorageError
	}
	if n > smallBytes {
		f.counted = n
	}
	return wire.None
}

// refusal is the error of the request as a whole.
func (f *fetch) refusal() wire.Code {
	if f.req.ReplicaID >= 0 {
		return wire.NotLeaderOrFollower
	}
	return wire.None
}

// resolve finds the partitions that are asked for.
func (f *fetch) resolve() {
	d := f.c.door
	topics := d.log.Topics()
	f.bytes, f.pinned, f.covered, f.failed, f.braked = 0, 0, 0, false, false
	if f.most = pinnedBytes; d.budget.tight() {
		f.most = tightBytes
	}
	f.parts = slices.Grow(f.parts[:0], len(f.req.Partitions))[:len(f.req.Partitions)]
	epoch := d.log.Epoch()
	for i := range f.req.Topics {
		rt := &f.req.Topics[i]
		t, missing := d.fetchTopic(f.c, topics, rt, f.req.Version)
		for j := rt.First; j < rt.Last; j++ {
			f.parts[j].resolve(&f.req.Partitions[j], t, missing, epoch)
			f.failed = f.failed || f.parts[j].result.Code != wire.None
		}
	}
}

// fetchTopic finds a topic that a client wants to read, if it may, or the error for all its partitions.
func (d *Door) fetchTopic(
	c *conn, topics *stream.Topics, rt *wire.FetchTopic, version int16,
) (*stream.Topic, wire.Code) {
	var t *stream.Topic
	if version >= 13 {
		if t = topics.ByID(record.UUID(rt.ID)); t == nil {
			return nil, wire.UnknownTopicID
		}
	} else if t = topics.ByName(string(rt.Name)); t == nil {
		return nil, d.missing(c, OpRead, string(rt.Name))
	}
	if !d.may(c, OpRead, OnTopic, t.Name) {
		return nil, wire.TopicAuthorizationFailed
	}
	return t, wire.UnknownTopicOrPartition
}

// resolve begins the answer for one partition.
func (p *fetchPart) resolve(req *wire.FetchPartition, t *stream.Topic, missing wire.Code, epoch int32) {
	p.result = wire.FetchResult{
		Index: req.Index, High: -1, Stable: -1, LogStart: -1, Aborted: p.result.Aborted[:0],
	}
	p.drop()
	p.silent, p.stale, p.masks = false, false, nil
	p.from, p.maxBytes = record.Offset(req.Offset), int(req.MaxBytes)
	p.next = p.from
	switch {
	case t == nil, req.Index < 0, int(req.Index) >= len(t.Partitions):
		p.result.Code = missing
	case req.LeaderEpoch >= 0 && req.LeaderEpoch < epoch:
		p.result.Code = wire.FencedLeaderEpoch
	case req.LeaderEpoch > epoch:
		p.result.Code = wire.UnknownLeaderEpoch
	default:
		p.id = t.Partitions[req.Index]
	}
}

// gather looks for what is new for each partition, within the bounds, and tells whether the fetch has what it wants.
// Each call goes on from where the last one ended; as long as it is not enough, it looks into the next file, too.
func (f *fetch) gather() bool {
	total := max(min(int(f.req.MaxBytes), f.largest), 0)
	least := min(int(f.req.MinBytes), total)
	for before := -1; f.bytes > before; {
		before = f.bytes
		for i := range f.parts {
			p := &f.parts[i]
			if p.result.Code == wire.None && !p.stale && (f.bytes == 0 || f.bytes < total) {
				f.find(p, total-f.bytes)
			}
		}
		if f.bytes >= least {
			break
		}
	}
	if f.braked {
		return f.bytes > 0 && f.bytes >= least
	}
	return f.failed || f.bytes >= least
}

// find looks what there is of one partition. The log gives one batch whatever its size, which only the first batch of
// a response may use (KIP-74).
func (f *fetch) find(p *fetchPart, left int) {
	limit := min(p.maxBytes-p.bytes, left)
	if f.bytes > 0 && limit < record.BatchOverhead {
		return
	}
	from := len(p.batches)
	batches, st, err := f.look(p, max(limit, 1))
	if err != nil {
		f.fail(p, err)
		return
	}
	p.batches = batches[:from]
	if size := st.Size(); size > 0 && (f.bytes == 0 || size <= limit) {
		if p.thin = p.thin || p.bytes > 0; !p.thin {
			p.stored = st
		}
		p.next = st.Next()
		p.bytes += size
		f.bytes += size
	}
	for _, b := range batches[from:] {
		if f.bytes > 0 && len(b) > limit {
			break
		}
		limit -= len(b)
		p.bytes += len(b)
		f.bytes += len(b)
		p.next = b.LastOffset() + 1
		if p.thin = p.thin || f.pinned > 0 && f.pinned+len(b) > f.most; !p.thin {
			p.batches = append(p.batches, b) // in its place: it lies there already
			f.pinned += len(b)
		}
	}
	clear(batches[len(p.batches):])
}

// look asks the log what there is of one partition: for a reader of committed records up to the last stable offset.
func (f *fetch) look(p *fetchPart, limit int) ([]record.Batch, store.Stretch, error) {
	log := f.c.door.log
	if !f.committed() {
		return log.Find(p.id, p.next, limit, p.batches)
	}
	if p.bytes == 0 {
		p.cleaned = log.Cleaned(p.id)
	}
	bounds, err := log.Bounds(p.id)
	if err != nil {
		return p.batches, store.Stretch{}, err
	}
	return log.FindBelow(p.id, p.next, bounds.Stable, limit, p.batches)
}

// committed tells whether the client reads committed records only.
func (f *fetch) committed() bool { return f.req.Isolation == 1 }

// fail makes an error the answer for a partition.
func (f *fetch) fail(p *fetchPart, err error) {
	f.refuse(p, f.readCode(err))
}

func (f *fetch) refuse(p *fetchPart, code wire.Code) {
	f.failed = true
	p.result.Code = code
	f.bytes -= p.bytes
	p.drop()
}

// drop lets go of what was found for a partition.
func (p *fetchPart) drop() {
	clear(p.batches)
	p.bytes, p.thin, p.masked, p.stored, p.batches = 0, false, false, store.Stretch{}, p.batches[:0]
}

// thin lets go of the records that were found and keeps only where they are: the fetch will wait.
func (f *fetch) thin() {
	for i := range f.parts {
		if p := &f.parts[i]; p.bytes > 0 {
			clear(p.batches)
			p.thin, p.stored, p.batches = true, store.Stretch{}, p.batches[:0]
		}
	}
	f.pinned = 0
}

// renew has a fetch find a part anew from its beginning.
func (f *fetch) renew(p *fetchPart) {
	f.bytes -= p.bytes
	limit := p.bytes
	p.drop()
	p.next = p.from
	f.find(p, limit)
}

// readCode is code, but a partition that is gone is one whose topic id is not known any more.
func (f *fetch) readCode(err error) wire.Code {
	if fault.Is(err, fault.NotFound) && f.req.Version >= 13 {
		return wire.UnknownTopicID
	}
	return code(err)
}

// respond writes the answer with what was found. Where records that are not in memory turn out to be damaged before
// anything went out, it is another answer: what is in front of the damage, or the error.
func (f *fetch) respond() error {
	f.begun = false
	f.judge()
	err := f.room()
	if fault.Is(err, fault.Limited) { // it was slowed, and there is still no room
		f.refuseAll()
		err = nil
	}
	if err == nil {
		f.resp.Throttle = max(f.throttled, f.c.chargeTo(fetchRate, f.rate, float64(f.bytes)))
		pieces, stored := f.encode()
		if stored {
			f.readAhead()
		}
		if err = f.send(pieces, stored); err != nil && !f.begun {
			f.reread()
			pieces, stored = f.encode()
			err = f.send(pieces, stored)
		}
	}
	if f.failed {
		f.erred, f.errors = f.c.door.now(), f.errorSum()
	}
	if f.use.session != nil && err == nil {
		f.use.session.toldAll(&f.use, f.parts)
	}
	f.release()
	f.c.door.fetchSeconds.observe(f.start)
	return err
}

// judge takes what was found from a client that may not have it any more: its rights may be others than when it asked.
func (f *fetch) judge() {
	topics := f.c.door.log.Topics()
	for i := range f.parts {
		p := &f.parts[i]
		if p.bytes == 0 {
			continue
		}
		at := topics.Place(p.id)
		switch {
		case at.Topic == nil:
		case f.c.door.may(f.c, OpRead, OnTopic, at.Topic.Name):
			f.c.door.opt.tellData(f.c, chain.TypeFetch, OpRead, at.Topic.Name)
			p.masks = f.c.door.opt.masks(f.c, at.Topic.Name)
		default:
			f.refuse(p, wire.TopicAuthorizationFailed)
		}
	}
}

// room counts what the answer holds while it is written, once there is room for it in the budget of the door.
func (f *fetch) room() error {
	n := f.pinned
	for i := range f.parts {
		if p := &f.parts[i]; p.thin || p.stored.Size() > 0 {
			n += min(f.most, f.bytes-f.pinned, largeChunk)
			break
		}
	}
	if err := f.c.holding.take(n); err != nil {
		return err
	}
	if n > smallBytes {
		f.counted += n
	}
	return nil
}

// refuseAll makes the answer one without records, which has clients ask again.
func (f *fetch) refuseAll() {
	f.failed = true
	for i := range f.parts {
		p := &f.parts[i]
		p.drop()
		if p.result.Code == wire.None {
			p.result.Code = wire.KafkaStorageError
		}
	}
	f.bytes, f.pinned = 0, 0
}

// reread reads what was not in memory into it: a part of it is damaged, and what lies before that is good.
func (f *fetch) reread() {
	for i := range f.parts {
		p := &f.parts[i]
		if p.result.Code != wire.None || !p.thin && p.stored.Size() == 0 && p.result.Stored == 0 {
			continue
		}
		f.readAgain(p, p.bytes)
	}
}

// readAgain reads what was found for a part into memory, at most limit bytes of it, or one batch.
func (f *fetch) readAgain(p *fetchPart, limit int) {
	f.bytes -= p.bytes
	end := p.next
	p.drop()
	batches, err := f.c.door.log.Read(p.id, p.from, limit, p.batches)
	if err != nil {
		f.fail(p, err)
		return
	}
	for _, b := range batches {
		if b.BaseOffset() >= end {
			break
		}
		p.bytes += len(b)
		p.next = b.LastOffset() + 1
		p.batches = append(p.batches, b) // in its place: it lies there already
	}
	clear(batches[len(p.batches):])
	f.bytes += p.bytes
}

// readAhead has what will be sent from files brought into memory.
func (f *fetch) readAhead() {
	for i := range f.parts {
		if st := &f.parts[i].stored; st.Size() > 0 {
			f.ahead.Want(st)
		}
	}
	f.ahead.Start()
}

// encode makes the response of what was found, and tells whether there are records in it that are not in memory.
func (f *fetch) encode() (pieces [][]byte, stored bool) {
	for i := range f.parts {
		p := &f.parts[i]
		if p.masks != nil {
			f.cover(p)
		} else {
			f.bound(p)
		}
		if p.result.Stored = p.stored.Size(); p.thin {
			clear(p.batches)
			p.batches, p.result.Stored = p.batches[:0], p.bytes
		}
		stored = stored || p.result.Stored > 0
	}
	topics, code := f.choose()
	if code != wire.None {
		return f.resp.Refuse(&f.req, f.correlationID, code), false
	}
	f.resp.Begin(&f.req, f.correlationID, topics)
	for i := range f.req.Topics {
		rt := &f.req.Topics[i]
		told := f.told(rt)
		if told == 0 {
			continue
		}
		f.resp.Topic(rt, told)
		for j := rt.First; j < rt.Last; j++ {
			if p := &f.parts[j]; !p.silent {
				wire.Partition(&f.resp, &p.result, p.batches)
			}
		}
	}
	return f.resp.Done(), stored
}

// bound fills in where the partition begins and ends now, which is never before what was read.
func (f *fetch) bound(p *fetchPart) {
	if p.result.Code != wire.None && p.result.Code != wire.OffsetOutOfRange {
		return
	}
	bounds, err := f.c.door.log.Bounds(p.id)
	if err != nil {
		f.fail(p, err)
		return
	}
	if p.thin && bounds.Start > p.from {
		f.renew(p) // what it waited for was removed
	}
	p.result.High, p.result.Stable = int64(bounds.High), int64(bounds.Stable)
	p.result.LogStart = int64(bounds.Start)
	if p.result.Aborted = p.result.Aborted[:0]; f.committed() && p.bytes > 0 {
		f.skipped(p)
	}
}

// skipped lists the aborted transactions that have something in what was read. Compaction takes records and
// transactions away together: what was found before it is found anew.
func (f *fetch) skipped(p *fetchPart) {
	log := f.c.door.log
	aborted, err := log.Aborted(p.id, p.from, p.next, nil)
	for err == nil && p.bytes > 0 && log.Cleaned(p.id) != p.cleaned {
		if f.renew(p); p.result.Code != wire.None {
			return
		}
		aborted, err = log.Aborted(p.id, p.from, p.next, aborted[:0])
	}
	if err != nil {
		f.fail(p, err)
		return
	}
	for i := range aborted {
		one := wire.AbortedTxn{ProducerID: aborted[i].ProducerID, First: int64(aborted[i].First)}
		p.result.Aborted = append(p.result.Aborted, one)
	}
}

// release lets go of the batches, so that the log's memory is not held by idle connections.
func (f *fetch) release() {
	f.leave()
	clear(f.scratch[:cap(f.scratch)])
	if f.scratch = f.scratch[:0]; cap(f.scratch) > keepFetched {
		f.scratch = nil
	}
	f.resp.Release(keepBuffer)
	clear(f.pending[:cap(f.pending)])
	if f.pending = f.pending[:0]; cap(f.pending) > keepFetched {
		f.pending = nil
	}
	for i := range f.parts {
		p := &f.parts[i]
		p.drop()
		p.waiter.sleeper = nil
		if cap(p.batches) > keepFetched {
			p.batches = nil
		}
	}
	f.lend()
}

// wideFetch is the memory of a fetch of many partitions. A connection does not keep it for itself.
type wideFetch struct {
	parts  []fetchPart
	topics []wire.FetchTopic
	asked  []wire.FetchPartition
	told   []*sessionPart
}

// borrow takes memory for many partitions if the last fetch of the connection had as many.
func (f *fetch) borrow() {
	if !f.wide {
		return
	}
	f.wide = false
	if w, _ := f.c.door.wide.Get().(*wideFetch); w != nil { // the pool holds nothing else
		f.parts, f.req.Topics, f.req.Partitions, f.use.parts = w.parts, w.topics, w.asked, w.told
	}
}

// lend lets others have what grew to many partitions.
func (f *fetch) lend() {
	if cap(f.parts) <= keepFetched {
		if f.req.Release(keepFetched); cap(f.use.parts) > keepFetched {
			f.use.parts = nil
		}
		return
	}
	clear(f.req.Topics[:cap(f.req.Topics)]) // the names
	f.c.door.wide.Put(&wideFetch{parts: f.parts, topics: f.req.Topics, asked: f.req.Partitions, told: f.use.parts})
	f.wide, f.parts, f.req.Topics, f.req.Partitions, f.use.parts = true, nil, nil, nil, nil
}

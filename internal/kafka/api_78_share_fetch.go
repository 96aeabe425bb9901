package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareFetch, versions 1 and 2.
//
// Behaviour
//   - A member of a share group (KIP-932) acquires records of the partitions of its session, first those that others
//     have released, then new ones: nobody else gets them until its lock ends (share.record.lock.duration.ms). The
//     answer has the batches of the log that hold them, and which of their offsets the member has.
//   - Markers and, where share.isolation.level is read_committed, aborted records are given to nobody. Gaps that
//     compaction left in a batch are part of what is acquired: the member says that there is nothing (type 0).
//   - Who may not see all of a topic gets its batches masked, as by Fetch.
//   - Acknowledgements that come with it are answered once they are on stable storage.
//   - Where there is nothing to acquire, or less than min bytes, it waits: for new records, for released ones, or for
//     room (share.partition.max.record.locks), at most max wait and at most 5 minutes. The connection answers nothing
//     else meanwhile.
//   - Sessions: epoch 0 opens one, -1 closes it and gives back what the member has, others go on. Codes:
//     SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH, SHARE_SESSION_LIMIT_REACHED.
//   - A group that is not there, or is of another kind: GROUP_ID_NOT_FOUND.
//
// Versions: 1 max records and batch size (KIP-1206); 2 the acquire mode: record_limit gives no more than max records,
// batch_optimized goes on to the end of a batch; renewals (KIP-1222), with which nothing is fetched.

const (
	shareChunk = 512 << 10 // most that is read of the log at a time
	firstChunk = 64 << 10  // read where it is not known what records take
	usualMost  = 500       // records, where the client does not say

	byRecordLimit = 1 // acquire mode
)

// shareFetch is one ShareFetch under way.
type shareFetch struct {
	*shares
	c       *conn
	req     *kmsg.ShareFetchRequest
	resp    *kmsg.ShareFetchResponse
	session *shareSession
	config  *groupConfig
	topics  map[record.UUID]int // places in the response

	records int // acquired
	bytes   int // in the answer
	largest int // that there may be
	least   int // that are wanted
	failed  bool
	scratch []record.Batch
}

func (s *shares) shareFetch(
	ctx context.Context, c *conn, req *kmsg.ShareFetchRequest,
) (*kmsg.ShareFetchResponse, error) {
	resp := kmsg.NewPtrShareFetchResponse()
	who := shareMember{wire.Plain(req.GroupID), wire.Plain(req.MemberID)}
	config := s.groups.configs.of(who.group)
	resp.AcquisitionLockTimeoutMillis = int32(config.lock.Milliseconds())
	refuse := func(code wire.Code) (*kmsg.ShareFetchResponse, error) {
		resp.ErrorCode = code
		return resp, nil
	}
	topics := fetchedTopics(req)
	renewal := req.Version >= 2 && req.IsRenewAck
	if code := s.judge(c, who, req.ShareSessionEpoch); code != wire.None {
		return refuse(code)
	}
	if req.ShareSessionEpoch == shareOpens && acknowledges(topics) { // nothing can have been acquired
		return refuse(wire.InvalidRequest)
	}
	if renewal && (req.MaxBytes != 0 || req.MinBytes != 0 || req.MaxRecords != 0 || req.MaxWaitMillis != 0) {
		return refuse(wire.InvalidRequest)
	}
	session, code := s.enterSession(c, who, req.ShareSessionEpoch)
	if code != wire.None {
		return refuse(code)
	}
	f := &shareFetch{
		shares: s, c: c, req: req, resp: resp, session: session, config: config, topics: map[record.UUID]int{},
	}
	acks := s.acknowledge(c, session, topics, renewal)
	if req.ShareSessionEpoch == shareCloses {
		s.close(session)
	} else {
		session.update(topics, forgottenBy(req))
		if !renewal {
			if err := f.run(ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, a := range acks {
		p := f.partition(a.topic, a.index)
		p.AcknowledgeErrorCode = a.code(ctx)
	}
	rate, _ := c.mayFetch()
	resp.ThrottleMillis = c.chargeTo(fetchRate, rate, float64(f.bytes))
	return resp, nil
}

// fetchedTopics is what a request says of topics.
func fetchedTopics(req *kmsg.ShareFetchRequest) []sharedTopic {
	all := make([]sharedTopic, len(req.Topics))
	for i := range req.Topics {
		rt := &req.Topics[i]
		all[i] = sharedTopic{id: rt.TopicID, partitions: make([]sharedPartition, len(rt.Partitions))}
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			one := &all[i].partitions[j]
			one.index = rp.Partition
			for _, b := range rp.AcknowledgementBatches {
				one.acks = append(one.acks, shareAcks{b.FirstOffset, b.LastOffset, b.AcknowledgeTypes})
			}
		}
	}
	return all
}

// forgottenBy tells of a partition whether a request says that it is not fetched from any more.
func forgottenBy(req *kmsg.ShareFetchRequest) func(record.UUID, int32) bool {
	gone := map[sharedPlace]bool{}
	for i := range req.ForgottenTopicsData {
		t := &req.ForgottenTopicsData[i]
		for _, index := range t.Partitions {
			gone[sharedPlace{topic: t.TopicID, index: index}] = true
		}
	}
	return func(topic record.UUID, index int32) bool { return gone[sharedPlace{topic: topic, index: index}] }
}

// judge judges a request of a member by itself.
func (s *shares) judge(c *conn, who shareMember, epoch int32) wire.Code {
	if code := s.available(); code != wire.None {
		return code
	}
	if code := s.groups.mayGroup(c, OpRead, who.group); code != wire.None {
		return code
	}
	switch {
	case who.member == "" || len(who.member) > maxShareMember || epoch < shareCloses:
		return wire.InvalidRequest
	case !s.groups.shareGroup(who.group):
		return wire.GroupIDNotFound
	}
	return wire.None
}

// acknowledges tells whether a request says what became of records.
func acknowledges(topics []sharedTopic) bool {
	return slices.ContainsFunc(topics, func(t sharedTopic) bool {
		return slices.ContainsFunc(t.partitions, func(p sharedPartition) bool { return len(p.acks) > 0 })
	})
}

// enterSession opens the session of a member, or goes on with it.
func (s *shares) enterSession(c *conn, who shareMember, epoch int32) (*shareSession, wire.Code) {
	if epoch == shareOpens {
		return s.open(c, who)
	}
	return s.session(who, epoch)
}

// run acquires what there is, and waits for it if there is nothing.
func (f *shareFetch) run(ctx context.Context) error {
	_, f.largest = f.c.mayFetch()
	f.largest = max(min(f.largest, int(f.req.MaxBytes)), 1)
	f.least = max(min(int(f.req.MinBytes), f.largest), 1)
	if f.req.MaxRecords <= 0 {
		f.req.MaxRecords = usualMost
	}
	wait := min(time.Duration(f.req.MaxWaitMillis)*time.Millisecond, maxFetchWait)
	parts := f.resolve(ctx)
	if len(parts) > 0 && !f.failed && wait > 0 {
		if err := f.await(ctx, parts, wait); err != nil {
			return err
		}
	}
	if f.records == 0 && f.stands(f.session) {
		f.gather(ctx, parts)
	}
	f.tellRest()
	return nil
}

// await acquires what there is as soon as it is as much as is wanted.
func (f *shareFetch) await(ctx context.Context, parts []*sharePart, wait time.Duration) error {
	if f.enough(parts) {
		if f.gather(ctx, parts); f.records > 0 || f.failed {
			return nil
		}
	}
	w := newShareWait()
	defer f.park(w, parts)()
	f.c.waits.Store(w)
	defer f.c.waits.Store(nil)
	late := make(chan struct{})
	over := time.AfterFunc(wait, func() { close(late) })
	defer over.Stop()
	for {
		if !f.stands(f.session) { // the member left, or opened another one
			return nil
		}
		if f.enough(parts) {
			if f.gather(ctx, parts); f.records > 0 || f.failed {
				return nil
			}
		}
		done, err := f.c.sleep(ctx, w, late)
		if done || err != nil {
			return err
		}
	}
}

// resolve finds the partitions of the session, and answers for those that cannot be fetched from.
func (f *shareFetch) resolve(ctx context.Context) (parts []*sharePart) {
	topics := f.log.Topics()
	for _, one := range f.session.next() {
		t := topics.ByID(one.topic)
		var code wire.Code
		switch {
		case t == nil:
			code = wire.UnknownTopicID
		case !f.groups.may(f.c, OpRead, OnTopic, t.Name):
			code = wire.TopicAuthorizationFailed
		case one.index < 0 || int(one.index) >= len(t.Partitions):
			code = wire.UnknownTopicOrPartition
		}
		if code == wire.None {
			p, err := f.part(ctx, shareKey{f.session.group, one.topic, one.index}, t.Partitions[one.index])
			if err == nil {
				parts = append(parts, p)
				continue
			}
			code = shareCode(err)
		}
		f.failed = true
		f.partition(one.topic, one.index).ErrorCode = code
	}
	return parts
}

// shareCode is code, but a partition that is gone is one whose topic id is not known any more.
func shareCode(err error) wire.Code {
	if fault.Is(err, fault.NotFound) {
		return wire.UnknownTopicID
	}
	return code(err)
}

// enough tells whether what there is to acquire is as much as is wanted.
func (f *shareFetch) enough(parts []*sharePart) bool {
	if f.least <= 1 {
		return true
	}
	found := 0
	for _, p := range parts {
		p.mu.Lock()
		full, from := p.mu.q.Full(f.config.locks), p.mu.q.From()
		p.mu.Unlock()
		if full {
			continue
		}
		batches, _, err := f.read(p, from, f.least-found)
		if err != nil {
			return true // which is told
		}
		for _, b := range batches {
			found += len(b)
		}
		clear(batches)
		if found >= f.least {
			return true
		}
	}
	return false
}

// read reads batches of the log from an offset on, up to the end that the group sees.
func (f *shareFetch) read(p *sharePart, from int64, limit int) (batches []record.Batch, start int64, err error) {
	bounds, err := f.log.Bounds(p.id)
	if err != nil {
		return nil, 0, err
	}
	end := bounds.High
	if f.config.committed {
		end = bounds.Stable
	}
	from = max(from, int64(bounds.Start))
	if record.Offset(from) >= end {
		return nil, int64(bounds.Start), nil
	}
	batches, err = f.log.Read(p.id, record.Offset(from), limit, f.scratch[:0])
	f.scratch = batches
	for n := len(batches); n > 0 && batches[n-1].BaseOffset() >= end; n-- {
		batches = batches[:n-1]
	}
	return batches, int64(bounds.Start), err
}

// gather acquires what there is, within the bounds.
func (f *shareFetch) gather(ctx context.Context, parts []*sharePart) {
	for _, p := range parts {
		if f.records >= int(f.req.MaxRecords) || f.bytes >= f.largest || f.failed && f.records > 0 {
			return
		}
		if !f.mayStill(p) {
			f.failed = true
			f.partition(p.topic, p.index).ErrorCode = wire.TopicAuthorizationFailed
			continue
		}
		if err := f.acquire(ctx, p); err != nil {
			f.failed = true
			f.partition(p.topic, p.index).ErrorCode = shareCode(err)
		}
	}
}

// mayStill judges a partition again: the fetch may have waited.
func (f *shareFetch) mayStill(p *sharePart) bool {
	t := f.log.Topics().ByID(p.topic)
	return t == nil || f.groups.may(f.c, OpRead, OnTopic, t.Name) && f.groups.may(f.c, OpRead, OnGroup, f.session.group)
}

// acquire acquires what there is of one partition.
func (f *shareFetch) acquire(ctx context.Context, p *sharePart) error {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return fault.Wrap(fault.Closed, "kafka.ShareFetch", ctx.Err())
	}
	defer func() { p.turn <- struct{}{} }()
	for at := int64(0); ctx.Err() == nil; {
		more, next, err := f.step(p, at)
		if err != nil || !more {
			return err
		}
		at = next
	}
	return nil
}

// step reads a piece of the log, from an offset or behind it, and acquires what it has. more tells to go on at next:
// there may be more. What was released before at meanwhile is for the next fetch: the records of an answer are in the
// order of their offsets, or a client takes those before for gaps, and is done with them.
func (f *shareFetch) step(p *sharePart, at int64) (more bool, next int64, err error) {
	p.mu.Lock()
	full, from := p.mu.q.Full(f.config.locks), p.mu.q.From()
	p.mu.Unlock()
	if full || from < at {
		return false, 0, nil
	}
	batches, start, err := f.read(p, from, min(f.largest-f.bytes, f.chunk(p)))
	defer clear(f.scratch)
	if err != nil {
		return false, 0, err
	}
	p.learn(batches)
	if start > from {
		f.trim(p, start)
	}
	if len(batches) == 0 {
		return false, 0, nil
	}
	shown, err := f.mask(p, batches)
	if err != nil {
		return false, 0, err
	}
	a := share.Acquire{
		Member: f.session.member, Until: f.now() + f.config.lock.Milliseconds(),
		From: max(from, start), To: int64(batches[len(batches)-1].LastOffset()) + 1,
		Most: int(f.req.MaxRecords) - f.records, Whole: f.req.ShareAcquireMode != byRecordLimit, Locks: f.config.locks,
	}
	if a.Batches, err = f.spans(p, batches); err != nil {
		return false, 0, err
	}
	p.mu.Lock()
	var got []share.Delivery
	if !p.mu.gone && f.reserveLocked(p, p.mu.q.More(min(int(a.To-a.From), a.Locks))) {
		got = p.mu.q.Acquire(&a)
		f.countLocked(p)
	}
	f.watchLocked(p)
	moved := p.mu.q.From() != from
	p.mu.Unlock()
	f.answer(p, shown, got)
	return moved && f.records < int(f.req.MaxRecords) && f.bytes < f.largest, a.To, nil
}

// chunk is how much of the log is worth to be read for the records that are still wanted: no more would be given out.
func (f *shareFetch) chunk(p *sharePart) int {
	if p.each == 0 {
		return firstChunk
	}
	return min((int(f.req.MaxRecords)-f.records)*p.each, shareChunk)
}

// learn notes what records take that were read. Who calls it has the turn.
func (p *sharePart) learn(batches []record.Batch) {
	size, offsets := 0, int64(0)
	for _, b := range batches {
		size, offsets = size+len(b), offsets+int64(b.LastOffset()-b.BaseOffset())+1
	}
	if offsets > 0 {
		p.each = int(int64(size)/offsets) + 1
	}
}

// trim is done with what the log has no more.
func (f *shareFetch) trim(p *sharePart, start int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.q.Trim(start) && !p.mu.gone {
		f.changedLocked(p)
	}
}

// spans are the batches that hold records for the group.
func (f *shareFetch) spans(p *sharePart, batches []record.Batch) ([]share.Span, error) {
	last := batches[len(batches)-1].LastOffset()
	ends, err := f.log.Aborted(p.id, batches[0].BaseOffset(), last+1, nil)
	if err != nil {
		return nil, err
	}
	aborted := func(b record.Batch) bool {
		for i := range ends {
			a := &ends[i]
			if a.ProducerID == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() <= a.Last {
				return true
			}
		}
		return false
	}
	spans := make([]share.Span, 0, len(batches))
	for _, b := range batches {
		a := b.Attributes()
		if a.Control() || f.config.committed && a.Transactional() && aborted(b) {
			continue
		}
		spans = append(spans, share.Span{First: int64(b.BaseOffset()), Last: int64(b.LastOffset())})
	}
	return spans, nil
}

// answer puts what was acquired into the response.
func (f *shareFetch) answer(p *sharePart, batches []record.Batch, got []share.Delivery) {
	if len(got) == 0 {
		return
	}
	part := f.partition(p.topic, p.index)
	next := 0
	for _, b := range batches {
		for next < len(got) && got[next].Last < int64(b.BaseOffset()) {
			next++
		}
		if next < len(got) && got[next].First <= int64(b.LastOffset()) {
			if f.bytes += len(b); len(part.Records) == 0 { // mostly the only one; the log's bytes are not changed
				part.Records = slices.Clip(b)
			} else {
				part.Records = append(part.Records, b...)
			}
		}
	}
	for _, d := range got {
		n := int(d.Last - d.First + 1)
		f.records += n
		f.metrics.acquired.Add(float64(n))
		size := int64(n)
		if f.req.BatchSize > 0 {
			size = int64(f.req.BatchSize)
		}
		for first := d.First; first <= d.Last; first += size {
			one := kmsg.NewShareFetchResponseTopicPartitionAcquiredRecord()
			one.FirstOffset, one.LastOffset = first, min(first+size-1, d.Last)
			one.DeliveryCount = int16(min(d.Count, 1<<15-1))
			part.AcquiredRecords = append(part.AcquiredRecords, one)
		}
	}
}

// partition is the place of a partition in the response, made if it is not there.
func (f *shareFetch) partition(topic record.UUID, index int32) *kmsg.ShareFetchResponseTopicPartition {
	at, is := f.topics[topic]
	if !is {
		at = len(f.resp.Topics)
		f.topics[topic] = at
		t := kmsg.NewShareFetchResponseTopic()
		t.TopicID = topic
		f.resp.Topics = append(f.resp.Topics, t)
	}
	t := &f.resp.Topics[at]
	for i := range t.Partitions {
		if t.Partitions[i].Partition == index {
			return &t.Partitions[i]
		}
	}
	p := kmsg.NewShareFetchResponseTopicPartition()
	p.Partition, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = index, -1, -1
	p.Records = []byte{} // null breaks Kafka's own client
	t.Partitions = append(t.Partitions, p)
	return &t.Partitions[len(t.Partitions)-1]
}

// tellRest has the answer tell of partitions that are new to the session, or had an error before.
func (f *shareFetch) tellRest() {
	var answered []sharedPlace
	for _, one := range f.session.next() {
		if !one.told {
			f.partition(one.topic, one.index)
		}
	}
	for i := range f.resp.Topics {
		t := &f.resp.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			answered = append(answered, sharedPlace{t.TopicID, p.Partition, p.ErrorCode == wire.None})
		}
	}
	f.session.tell(answered)
}

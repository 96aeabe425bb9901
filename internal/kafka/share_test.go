package kafka

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sharer is a member of a share group, as tests speak for it.
type sharer struct {
	c         *client
	group, id string
	epoch     int32 // of the member
	session   int32
	topics    []*stream.Topic
	mode      int8
	most      int32
	wait      int32
	min       int32
}

// share has a member join a group and open its session with the next fetch.
func (h *house) share(group, id string, topics ...*stream.Topic) *sharer {
	h.t.Helper()
	m := &sharer{c: h.dial(), group: group, id: id, topics: topics}
	wantCode(h.t, "join of "+id, m.beat().ErrorCode, wire.None)
	return m
}

func (m *sharer) beat() *kmsg.ShareGroupHeartbeatResponse {
	m.c.t.Helper()
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = m.group, m.id, m.epoch
	for _, t := range m.topics {
		req.SubscribedTopicNames = append(req.SubscribedTopicNames, t.Name)
	}
	resp := askFor[*kmsg.ShareGroupHeartbeatResponse](m.c, 1, req)
	if resp.ErrorCode == wire.None {
		m.epoch = resp.MemberEpoch
	}
	return resp
}

// said is one batch of acknowledgements, of partition 0 of the first topic.
type said struct {
	first, last int64
	kinds       []int8
}

func (m *sharer) request(acks ...said) *kmsg.ShareFetchRequest {
	req := kmsg.NewPtrShareFetchRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch = &m.group, &m.id, m.session
	req.MaxBytes, req.MaxRecords, req.ShareAcquireMode = 50<<20, m.most, m.mode
	req.MaxWaitMillis, req.MinBytes = m.wait, m.min
	for i, t := range m.topics {
		rt := kmsg.NewShareFetchRequestTopic()
		rt.TopicID = t.ID
		for index := range t.Partitions {
			rp := kmsg.NewShareFetchRequestTopicPartition()
			rp.Partition = int32(index)
			for _, a := range acks {
				if i == 0 && index == 0 {
					b := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
					b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = a.first, a.last, a.kinds
					rp.AcknowledgementBatches = append(rp.AcknowledgementBatches, b)
				}
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func (m *sharer) send(req *kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
	m.c.t.Helper()
	resp := askFor[*kmsg.ShareFetchResponse](m.c, 2, req)
	if resp.ErrorCode == wire.None {
		m.session++
	}
	return resp
}

// fetch acquires, and gives what it got as "first-last×deliveries".
func (m *sharer) fetch(acks ...said) string {
	m.c.t.Helper()
	resp := m.send(m.request(acks...))
	wantCode(m.c.t, "share fetch", resp.ErrorCode, wire.None)
	var got []string
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			wantCode(m.c.t, "partition", p.ErrorCode, wire.None)
			wantCode(m.c.t, "acknowledgements", p.AcknowledgeErrorCode, wire.None)
			held := offsetsIn(m.c.t, p.Records)
			if p.Records == nil {
				m.c.t.Fatal("null in the place of records breaks Kafka's own client")
			}
			for _, a := range p.AcquiredRecords {
				got = append(got, fmt.Sprintf("%d-%d×%d", a.FirstOffset, a.LastOffset, a.DeliveryCount))
				for offset := a.FirstOffset; offset <= a.LastOffset; offset++ {
					if !held[offset] {
						m.c.t.Fatalf("%d was acquired, and is not in the answer", offset)
					}
				}
			}
		}
	}
	return strings.Join(got, " ")
}

func offsetsIn(t testing.TB, b []byte) map[int64]bool {
	t.Helper()
	all := map[int64]bool{}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		for offset := batch.BaseOffset(); offset <= batch.LastOffset(); offset++ {
			all[int64(offset)] = true
		}
		b = rest
	}
	return all
}

// acknowledge sends a ShareAcknowledge, and gives its code: that of the request, or of the partition.
func (m *sharer) acknowledge(acks ...said) wire.Code {
	m.c.t.Helper()
	return m.acknowledgeAs(false, acks...)
}

func (m *sharer) acknowledgeAs(renewal bool, acks ...said) wire.Code {
	m.c.t.Helper()
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.GroupID, req.MemberID, req.ShareSessionEpoch, req.IsRenewAck = &m.group, &m.id, m.session, renewal
	rt := kmsg.NewShareAcknowledgeRequestTopic()
	rt.TopicID = m.topics[0].ID
	rp := kmsg.NewShareAcknowledgeRequestTopicPartition()
	for _, a := range acks {
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = a.first, a.last, a.kinds
		rp.AcknowledgementBatches = append(rp.AcknowledgementBatches, b)
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp := askFor[*kmsg.ShareAcknowledgeResponse](m.c, 2, req)
	if resp.ErrorCode != wire.None {
		return resp.ErrorCode
	}
	m.session++
	if len(acks) == 0 {
		return wire.None
	}
	return resp.Topics[0].Partitions[0].ErrorCode
}

const accept, release, reject, renew int8 = 1, 2, 3, 4

func all(first, last int64, kind int8) said { return said{first, last, []int8{kind}} }

// setGroup sets settings of a group, and gives the code.
func (c *client) setGroup(group string, settings ...string) wire.Code {
	c.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for i := 0; i+1 < len(settings); i += 2 {
		cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		cfg.Name, cfg.Value = settings[i], new(settings[i+1])
		rr.Configs = append(rr.Configs, cfg)
	}
	req.Resources = append(req.Resources, rr)
	return askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, req).Resources[0].ErrorCode
}

// fill writes batches of so many records into partition 0 of a topic.
func (c *client) fill(topic *stream.Topic, sizes ...int) {
	c.t.Helper()
	for _, n := range sizes {
		resp := askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, batchOf(n, 10)))
		wantCode(c.t, "produce", produced(resp).ErrorCode, wire.None)
	}
}

func wantGot(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %q, not %q", what, got, want)
	}
}

// earliest has a group begin at the start of partitions.
func (h *house) earliest(group string, settings ...string) *client {
	h.t.Helper()
	c := h.dial()
	set := append([]string{"share.auto.offset.reset", "earliest"}, settings...)
	wantCode(h.t, "settings of "+group, c.setGroup(group, set...), wire.None)
	return c
}

// TestShareGroup: two members share a partition. What one has the other does not get, unless it is released, with its
// deliveries; what is accepted or rejected nobody gets again. [Kafka-ShareFetch] [Kafka-ShareAcknowledge].
func TestShareGroup(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("g")
	c.fill(topic, 10, 10, 10)
	a, b := h.share("g", "a", topic), h.share("g", "b", topic)
	a.most, b.most = 5, 100

	wantGot(t, "a batch is given out whole", a.fetch(), "0-9×1")
	wantGot(t, "the rest", b.fetch(), "10-29×1")
	wantGot(t, "there is no more", a.fetch(), "")
	wantCode(t, "not his", a.acknowledge(all(10, 11, accept)), wire.InvalidRecordState)
	wantCode(t, "beyond", a.acknowledge(all(29, 30, accept)), wire.InvalidRequest)
	wantCode(t, "out of order", a.acknowledge(all(5, 6, accept), all(2, 3, accept)), wire.InvalidRequest)
	wantCode(t, "no such kind", a.acknowledge(all(5, 6, 5)), wire.InvalidRequest)
	wantCode(t, "a renewal that is none", a.acknowledge(all(5, 6, renew)), wire.InvalidRequest)
	wantCode(t, "kinds for some", a.acknowledge(said{5, 8, []int8{1, 1}}), wire.InvalidRequest)
	mixed := said{0, 3, []int8{accept, release, reject, release}}
	wantCode(t, "some", a.acknowledge(mixed, all(4, 8, accept)), wire.None)
	wantCode(t, "twice", a.acknowledge(all(4, 8, accept)), wire.InvalidRecordState)
	b.mode = byRecordLimit
	b.most = 1
	wantGot(t, "what was released", b.fetch(all(10, 29, accept)), "1-1×2")
	b.most = 10
	wantGot(t, "and the other", b.fetch(), "3-3×2")
	wantCode(t, "what is below the start", a.acknowledge(all(0, 0, accept)), wire.None)

	wantCode(t, "leave", func() wire.Code { a.epoch = -1; return a.beat().ErrorCode }(), wire.None)
	wantGot(t, "what who left had", b.fetch(), "9-9×2")
	wantCode(t, "who left", a.beat().ErrorCode, wire.UnknownMemberID)
	wantCode(t, "its session", a.acknowledge(), wire.ShareSessionNotFound)
	b.c.nc.Close()
	d := h.share("g", "d", topic)
	until(t, "what a connection had that ended is given out", func() bool { return d.fetch() == "1-1×3 3-3×3 9-9×3" })
}

// TestShareSessions holds sessions to their epochs. [Kafka-ShareGroupHeartbeat].
func TestShareSessions(t *testing.T) {
	h := openHouse(t, Options{Shares: ShareOptions{MaxSessions: 2}})
	topic := h.topic("t", 1)
	h.earliest("g").fill(topic, 4)
	a, b, d := h.share("g", "a", topic), h.share("g", "b", topic), h.share("g", "d", topic)
	wantCode(t, "before it is opened", a.acknowledge(all(0, 0, accept)), wire.InvalidShareSessionEpoch)
	wantCode(t, "opened with acknowledgements", a.send(a.request(all(0, 0, accept))).ErrorCode, wire.InvalidRequest)
	a.session = 3
	wantCode(t, "not opened", a.send(a.request()).ErrorCode, wire.ShareSessionNotFound)
	a.session = 0
	wantGot(t, "opened", a.fetch(), "0-3×1")
	a.session = 5
	wantCode(t, "ahead", a.send(a.request()).ErrorCode, wire.InvalidShareSessionEpoch)
	wantCode(t, "ahead", a.acknowledge(all(0, 0, accept)), wire.InvalidShareSessionEpoch)
	wantGot(t, "another", b.fetch(), "")
	wantCode(t, "one too many", d.send(d.request()).ErrorCode, wire.ShareSessionLimitReached)
	a.session = -1
	wantCode(t, "closed, with the rest accepted", a.acknowledge(all(0, 1, accept)), wire.None)
	wantGot(t, "what it still had", b.fetch(), "2-3×2")
	wantGot(t, "there is room again", d.fetch(), "")

	renewing := b.request(all(2, 3, renew))
	renewing.IsRenewAck = true
	wantCode(t, "a renewal that fetches", b.send(renewing).ErrorCode, wire.InvalidRequest)
	renewing.MaxBytes, renewing.MaxRecords = 0, 0
	wantCode(t, "a renewal", b.send(renewing).Topics[0].Partitions[0].AcknowledgeErrorCode, wire.None)

	nobody := &sharer{c: h.dial(), group: "nowhere", id: "x", topics: a.topics}
	wantCode(t, "no group", nobody.send(nobody.request()).ErrorCode, wire.GroupIDNotFound)
	nobody.group, nobody.id = "g", strings.Repeat("x", 37)
	wantCode(t, "an id that is too long", nobody.send(nobody.request()).ErrorCode, wire.InvalidRequest)
	wantCode(t, "the same", nobody.beat().ErrorCode, wire.InvalidRequest)
	b.epoch = 77
	wantCode(t, "an epoch that was never told", b.beat().ErrorCode, wire.FencedMemberEpoch)
}

// TestShareGroupIsDescribed: what tools are shown of a share group, and that its name is of no other kind of group.
// [Kafka-ShareGroupDescribe].
func TestShareGroupIsDescribed(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 3)
	a, b := h.share("g", "a", topic), h.share("g", "b", topic)
	first, second := a.beat(), b.beat()
	n := len(first.Assignment.TopicPartitions[0].Partitions) + len(second.Assignment.TopicPartitions[0].Partitions)
	if n != 3 || first.HeartbeatIntervalMillis != 5000 {
		t.Fatalf("%+v and %+v", first, second)
	}
	c := h.dial()
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.GroupIDs = []string{"g", "other"}
	resp := askFor[*kmsg.ShareGroupDescribeResponse](c, 1, req)
	g := resp.Groups[0]
	if g.GroupState != "Stable" || g.Assignor != "simple" || len(g.Members) != 2 || g.GroupEpoch != 2 ||
		g.Members[0].SubscribedTopicNames[0] != "t" || g.Members[0].Assignment.TopicPartitions[0].Topic != "t" {
		t.Errorf("%+v", g)
	}
	wantCode(t, "none", resp.Groups[1].ErrorCode, wire.GroupIDNotFound)
	listed := askFor[*kmsg.ListGroupsResponse](c, 5, &kmsg.ListGroupsRequest{TypesFilter: []string{"share"}}).Groups
	if len(listed) != 1 || listed[0].Group != "g" || listed[0].GroupState != "Stable" ||
		listed[0].ProtocolType != "share" {
		t.Errorf("%+v", listed)
	}
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = "g", "m", 1000
	beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	got := askFor[*kmsg.ConsumerGroupHeartbeatResponse](c, 1, beat).ErrorCode
	wantCode(t, "a consumer", got, wire.GroupIDNotFound)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis = "g", "consumer", 10_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	wantCode(t, "a classic one", askFor[*kmsg.JoinGroupResponse](c, 3, join).ErrorCode, wire.InconsistentGroupProtocol)
	if _, code := c.offset("g", topic); code != wire.None && code != wire.GroupIDNotFound {
		t.Errorf("an offset: code %d", code)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorType, find.CoordinatorKeys = shareCoordinator, []string{"g:AAAAAAAAAAAAAAAAAAAAAA:0", "g"}
	found := askFor[*kmsg.FindCoordinatorResponse](c, 6, find).Coordinators
	wantCode(t, "a share partition", found[0].ErrorCode, wire.None)
	wantCode(t, "no share partition", found[1].ErrorCode, wire.InvalidRequest)
}

// TestShareOverRestart: what was acknowledged does not come again, what was not comes with its deliveries.
func TestShareOverRestart(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	h.earliest("g").fill(topic, 10)
	a := h.share("g", "a", topic)
	wantGot(t, "all", a.fetch(), "0-9×1")
	wantCode(t, "some", a.acknowledge(all(0, 2, accept), all(4, 4, accept), all(5, 6, release)), wire.None)
	wantGot(t, "again", a.fetch(), "5-6×2")
	wantCode(t, "once more", a.acknowledge(all(5, 5, release), all(6, 6, accept)), wire.None)
	disk = disk.CrashClone(nil) // the power fails
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	a = &sharer{c: h.dial(), group: "g", id: "a", epoch: 1, topics: []*stream.Topic{topic}}
	wantCode(t, "members join again", a.beat().ErrorCode, wire.UnknownMemberID)
	a.epoch = 0
	wantCode(t, "members join again", a.beat().ErrorCode, wire.None)
	a.c.fill(topic, 1)
	wantGot(t, "what was not acknowledged", a.fetch(), "3-3×2 5-5×3 7-9×2 10-10×1")
	wantCode(t, "all of it", a.acknowledge(all(3, 3, accept), all(5, 5, accept), all(7, 10, accept)), wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	a = h.share("g", "a", topic)
	wantGot(t, "nothing", a.fetch(), "")
	a.c.fill(topic, 1)
	wantGot(t, "what is new", a.fetch(), "11-11×1")
}

// TestShareStateInDeltas: a state with many holes is written in deltas, and read back.
func TestShareStateInDeltas(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	h.earliest("g").fill(topic, 1000)
	a := h.share("g", "a", topic)
	a.most = 1000
	wantGot(t, "all", a.fetch(), "0-999×1")
	for offset := int64(1); offset < 998; offset += 2 {
		wantCode(t, "every other one", a.acknowledge(all(offset, offset, accept)), wire.None)
	}
	p := h.door.shares.find(shareKey{"g", topic.ID, 0})
	p.mu.Lock()
	slots := p.mu.written.slots
	p.mu.Unlock()
	if slots != shareSlots {
		t.Errorf("%d deltas were written in a row", slots)
	}
	disk = disk.CrashClone(nil) // the power fails
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	a = h.share("g", "a", topic)
	a.most = 1000
	got := strings.Fields(a.fetch())
	if len(got) != 500 || got[0] != "0-0×2" || got[498] != "996-996×2" || got[499] != "998-999×2" {
		t.Errorf("%d runs: %v", len(got), got)
	}
}

// TestShareLocksEnd: who does not answer in time loses what it has, unless it renewed it, and after so many deliveries
// nobody gets it any more.
func TestShareLocksEnd(t *testing.T) {
	var now atomic.Int64
	h := openHouse(t, Options{steady: now.Load})
	topic := h.topic("t", 1)
	c := h.earliest("g", "share.record.lock.duration.ms", "1000", "share.delivery.count.limit", "2")
	c.fill(topic, 4)
	a, b := h.share("g", "a", topic), h.share("g", "b", topic)
	wantGot(t, "all", a.fetch(), "0-3×1")
	now.Add(700) // most of the lock
	wantCode(t, "renewed", a.acknowledgeAs(true, all(2, 3, renew)), wire.None)
	now.Add(299)
	wantGot(t, "nothing, before the lock ends", b.fetch(), "")
	now.Add(1)
	b.wait = 50_000
	wantGot(t, "what was not renewed", b.fetch(), "0-1×2")
	wantCode(t, "too late", a.acknowledge(all(0, 0, accept)), wire.InvalidRecordState)
	wantCode(t, "in time", a.acknowledge(all(2, 2, accept)), wire.None)
	now.Add(700)
	wantGot(t, "the other, when its lock ends", b.fetch(), "3-3×2")
	wantCode(t, "delivered too often", b.acknowledge(all(0, 1, release), all(3, 3, release)), wire.None)
	c.fill(topic, 1)
	wantGot(t, "only what is new", a.fetch(), "4-4×1")
	wantCode(t, "no more renewals", c.setGroup("g", "share.renew.acknowledge.enable", "false"), wire.None)
	wantCode(t, "a renewal", a.acknowledgeAs(true, all(4, 4, renew)), wire.InvalidRequest)
}

// TestShareLockEndsByItself: who waits for what another has locked gets it when the lock ends.
func TestShareLockEndsByItself(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("g", "share.record.lock.duration.ms", "1000")
	c.fill(topic, 4)
	a, b := h.share("g", "a", topic), h.share("g", "b", topic)
	began := time.Now()
	wantGot(t, "all", a.fetch(), "0-3×1")
	b.wait = 50_000
	wantGot(t, "all again", b.fetch(), "0-3×2")
	if took := time.Since(began); took < 950*time.Millisecond {
		t.Errorf("the lock ended after %v", took)
	}
}

// TestShareFetchWaits: a fetch with nothing to say waits for records, for enough of them, for released ones, for room.
func TestShareFetchWaits(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("g", "share.partition.max.record.locks", "100")
	a, b := h.share("g", "a", topic), h.share("g", "b", topic)
	a.wait, b.wait = 60_000, 60_000
	waits := func(m *sharer) int32 {
		id := m.c.send(m.version2())
		until(t, m.id+" waits", func() bool { return h.door.purgatory.parked.Load() > 0 })
		return id
	}
	gets := func(m *sharer, id int32) string {
		resp := m.c.receive(m.version2(), id).(*kmsg.ShareFetchResponse)
		m.session++
		if p := resp.Topics[0].Partitions[0]; len(p.AcquiredRecords) > 0 {
			return fmt.Sprintf("%d-%d", p.AcquiredRecords[0].FirstOffset, p.AcquiredRecords[0].LastOffset)
		}
		return ""
	}
	id := waits(a)
	c.fill(topic, 3)
	wantGot(t, "new records", gets(a, id), "0-2")
	id = waits(b)
	wantCode(t, "release", a.acknowledge(all(1, 1, release)), wire.None)
	wantGot(t, "a released record", gets(b, id), "1-1")
	c.fill(topic, 200)
	wantGot(t, "up to the locks", a.fetch(), "3-99×1")
	id = waits(b)
	wantCode(t, "accept", a.acknowledge(all(0, 0, accept)), wire.None)
	wantGot(t, "room", gets(b, id), "100-100")
	wantCode(t, "accept", a.acknowledge(all(2, 99, accept)), wire.None)
	b.session++ // what it says in between
	b.session--
	wantCode(t, "accept", b.acknowledge(all(1, 1, accept), all(100, 100, accept)), wire.None)
	wantGot(t, "the rest", a.fetch(), "101-200×1")
	wantCode(t, "accept", a.acknowledge(all(101, 200, accept)), wire.None)
	wantGot(t, "the rest", a.fetch(), "201-202×1")
	wantCode(t, "accept", a.acknowledge(all(201, 202, accept)), wire.None)
	a.min = int32(batchOf(1, 10).Size()) * 2
	id = waits(a)
	c.fill(topic, 1)
	c.fill(topic, 1)
	wantGot(t, "enough", gets(a, id), "203-204")
	a.min, a.wait = 1<<20, 100
	c.fill(topic, 1)
	wantGot(t, "what there is when the time is over", a.fetch(), "205-205×1")
}

// version2 is the next fetch of the member.
func (m *sharer) version2() *kmsg.ShareFetchRequest {
	req := m.request()
	req.SetVersion(2)
	return req
}

// TestShareReadsCommitted: markers are given to nobody, aborted records only to who reads uncommitted ones, and nothing
// beyond the last stable offset to who does not.
func TestShareReadsCommitted(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("committed", "share.isolation.level", "read_committed")
	h.earliest("all")
	x, y := c.initTxn("x", 1), c.initTxn("y", 1)
	write := func(who txnWho, sequence int32, values ...string) {
		wantCode(t, "produce", c.produceIn(who, 12, topic, 0, txnBatch(who, sequence, values...)), wire.None)
	}
	write(x, 0, "0", "1")                                            // 0, 1
	write(y, 0, "2")                                                 // 2
	c.fill(topic, 2)                                                 // 3, 4
	wantCode(t, "abort", c.endTxn(x, 3, false).ErrorCode, wire.None) // 5
	write(x, 2, "6")                                                 // 6
	a, b := h.share("committed", "a", topic), h.share("all", "b", topic)
	wantGot(t, "all but the marker", b.fetch(), "0-4×1 6-6×1")
	wantGot(t, "below the last stable offset, without what was aborted", a.fetch(), "")
	wantCode(t, "commit", c.endTxn(y, 3, true).ErrorCode, wire.None) // 7
	wantGot(t, "up to the next open one", a.fetch(), "2-4×1")
	wantCode(t, "commit", c.endTxn(x, 3, true).ErrorCode, wire.None) // 8
	wantGot(t, "the last", a.fetch(), "6-6×1")
	wantCode(t, "accept", a.acknowledge(all(2, 4, accept), all(6, 6, accept)), wire.None)
	wantGot(t, "nothing is open", fmt.Sprint(h.standing("committed", topic)), "[9 0]")
}

// standing is the start offset and the lag of partition 0.
func (h *house) standing(group string, topic *stream.Topic) [2]int64 {
	h.t.Helper()
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	req.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}
	g := askFor[*kmsg.DescribeShareGroupOffsetsResponse](h.dial(), 1, req).Groups[0]
	wantCode(h.t, "describe", g.ErrorCode, wire.None)
	for _, rt := range g.Topics {
		if rt.TopicID == topic.ID {
			return [2]int64{rt.Partitions[0].StartOffset, rt.Partitions[0].Lag}
		}
	}
	return [2]int64{-1, -1}
}

// TestShareDeadLetters: what is rejected, or delivered too often, goes to the dead-letter topic, in the write that ends
// it.
func TestShareDeadLetters(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{Logger: logtest.New(t, "cannot go to its dead-letter topic")})
	topic := h.topic("t", 1)
	c := h.earliest("g", "share.delivery.count.limit", "2", "errors.deadletterqueue.topic.name", "dlq.t",
		"errors.deadletterqueue.copy.record.enable", "true")
	wantCode(t, "another topic", c.setGroup("g", "errors.deadletterqueue.topic.name", "t"), wire.InvalidConfig)
	c.fill(topic, 5)
	a := h.share("g", "a", topic)
	wantGot(t, "all", a.fetch(), "0-4×1")
	wantCode(t, "some", a.acknowledge(all(0, 0, reject), all(1, 1, release), all(2, 4, accept)), wire.None)
	wantGot(t, "again", a.fetch(), "1-1×2")
	wantCode(t, "once more", a.acknowledge(all(1, 1, release)), wire.None)
	disk = disk.CrashClone(nil) // the power fails
	h.stop()

	h = openHouseOn(t, disk, Options{Logger: logtest.New(t, "cannot go to its dead-letter topic")})
	topic = h.store.Topics().ByName("t")
	var got []string
	box := h.store.Topics().ByName("dlq.t")
	if _, err := h.store.Scan(box.Partitions[0], 0, stream.ScanOptions{}, func(v *record.View) bool {
		one := string(v.Key) + "=" + string(v.Value)
		v.Headers(func(key, value []byte) bool { one += fmt.Sprintf(" %s:%s", key, value); return true })
		got = append(got, one)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"k0=vvvvvvvvvv __dlq.errors.topic:t __dlq.errors.partition:0 __dlq.errors.offset:0 __dlq.errors.group:g " +
			"__dlq.errors.delivery.count:1 __dlq.errors.message:Offset rejected by client.",
		"k1=vvvvvvvvvv __dlq.errors.topic:t __dlq.errors.partition:0 __dlq.errors.offset:1 __dlq.errors.group:g " +
			"__dlq.errors.delivery.count:2 __dlq.errors.message:Offset delivery count exceeded the threshold.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("letters:\n%s", strings.Join(got, "\n"))
	}
	a = h.share("g", "a", topic)
	wantGot(t, "nothing is left", a.fetch(), "")

	h.topic("dlq.closed", 1) // it does not say that it takes letters
	c = h.dial()
	wantCode(t, "settings", c.setGroup("g", "errors.deadletterqueue.topic.name", "dlq.closed"), wire.None)
	c.fill(topic, 1)
	wantGot(t, "one more", a.fetch(), "5-5×1")
	wantCode(t, "it is not held up", a.acknowledge(all(5, 5, reject)), wire.None)
	wantGot(t, "it is done with", fmt.Sprint(h.standing("g", topic)), "[6 0]")
}

// TestShareDeadLettersOfMasked: a dead letter of a topic that somebody sees masked says where its record lies, and has
// nothing of it.
func TestShareDeadLettersOfMasked(t *testing.T) {
	h := openVeiled(t, nil)
	c := h.earliest("g", "errors.deadletterqueue.topic.name", "dlq.t", "errors.deadletterqueue.copy.record.enable", "true")
	for _, tc := range [][2]string{{"masked", "null=null"}, {"bare", "k0=vvvvvvvvvv"}} {
		name, want := tc[0], tc[1]
		topic := h.topic(name, 1)
		c.fill(topic, 1)
		a := h.share("g", name, topic)
		a.fetch()
		wantCode(t, "reject", a.acknowledge(all(0, 0, reject)), wire.None)
		found := false
		box := h.store.Topics().ByName("dlq.t")
		if _, err := h.store.Scan(box.Partitions[0], 0, stream.ScanOptions{}, func(v *record.View) bool {
			if source, _ := v.Header(LetterTopic); string(source) != name {
				return true
			}
			found = true
			text := func(b []byte) string {
				if b == nil {
					return "null"
				}
				return string(b)
			}
			if got := text(v.Key) + "=" + text(v.Value); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if !found {
			t.Errorf("%s: no letter", name)
		}
	}
}

// TestShareOffsets: the offsets of a group without members are shown, set and deleted, durably.
// [Kafka-DescribeShareGroupOffsets] [Kafka-AlterShareGroupOffsets] [Kafka-DeleteShareGroupOffsets].
func TestShareOffsets(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("g")
	c.fill(topic, 10)
	alter := func(at int64) *kmsg.AlterShareGroupOffsetsResponse {
		req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
		req.GroupID = "g"
		req.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{
			Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: at}, {Partition: 7}},
		}}
		return askFor[*kmsg.AlterShareGroupOffsetsResponse](c, 0, req)
	}
	resp := alter(4)
	wantCode(t, "set", resp.ErrorCode, wire.None)
	wantCode(t, "set", resp.Topics[0].Partitions[0].ErrorCode, wire.None)
	wantCode(t, "no such partition", resp.Topics[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition)
	wantGot(t, "it begins there", fmt.Sprint(h.standing("g", topic)), "[4 6]")
	a := h.share("g", "a", topic)
	wantGot(t, "from there", a.fetch(), "4-9×1")
	wantCode(t, "accept", a.acknowledge(all(5, 6, accept)), wire.None)
	wantGot(t, "lag", fmt.Sprint(h.standing("g", topic)), "[4 4]")
	wantCode(t, "it has members", alter(0).ErrorCode, wire.NonEmptyGroup)
	remove := func() *kmsg.DeleteShareGroupOffsetsResponse {
		req := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
		req.GroupID, req.Topics = "g", []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}, {Topic: "none"}}
		return askFor[*kmsg.DeleteShareGroupOffsetsResponse](c, 0, req)
	}
	wantCode(t, "it has members", remove().ErrorCode, wire.NonEmptyGroup)
	a.epoch = -1
	wantCode(t, "leave", a.beat().ErrorCode, wire.None)
	wantCode(t, "set back", alter(1).Topics[0].Partitions[0].ErrorCode, wire.None)
	disk = disk.CrashClone(nil) // the power fails
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	c = h.dial()
	wantGot(t, "set back", fmt.Sprint(h.standing("g", topic)), "[1 9]")
	removed := remove()
	wantCode(t, "delete", removed.Topics[0].ErrorCode, wire.None)
	wantCode(t, "no topic", removed.Topics[1].ErrorCode, wire.UnknownTopicOrPartition)
	wantGot(t, "gone", fmt.Sprint(h.standing("g", topic)), "[-1 -1]")
	a = h.share("g", "a", topic)
	wantGot(t, "from the start again", a.fetch(), "0-9×1")
	wantCode(t, "members", c.deleteGroup("g"), wire.NonEmptyGroup)
	a.epoch = -1
	wantCode(t, "leave", a.beat().ErrorCode, wire.None)
	wantCode(t, "delete", c.deleteGroup("g"), wire.None)
	wantCode(t, "twice", c.deleteGroup("g"), wire.GroupIDNotFound)
	disk = disk.CrashClone(nil) // the power fails
	h.stop()

	h = openHouseOn(t, disk, Options{})
	if n := len(h.door.shares.all(func(*sharePart) bool { return true })); n != 0 || h.door.groups.shareGroup("g") {
		t.Errorf("%d share partitions are left of a group that was deleted", n)
	}
}

func (c *client) deleteGroup(id string) wire.Code {
	c.t.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{id}
	return askFor[*kmsg.DeleteGroupsResponse](c, 2, req).Groups[0].ErrorCode
}

// TestShareLogMovesOn: what retention or DeleteRecords has removed is done with; a topic that is deleted leaves
// nothing.
func TestShareLogMovesOn(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.earliest("g")
	c.fill(topic, 5, 5, 5)
	a := h.share("g", "a", topic)
	a.most = 5
	wantGot(t, "the first", a.fetch(), "0-4×1")
	wantCode(t, "released", a.acknowledge(all(0, 4, release)), wire.None)
	if _, err := h.store.TrimTo(t.Context(), topic.Partitions[0], 7); err != nil {
		t.Fatal(err)
	}
	a.mode, a.most = byRecordLimit, 100
	wantGot(t, "what is left", a.fetch(), "7-14×1")
	wantGot(t, "it begins there", fmt.Sprint(h.standing("g", topic)), "[7 8]")
	if err := h.store.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	resp := a.send(a.request(all(7, 14, accept)))
	p := resp.Topics[0].Partitions[0]
	wantCode(t, "it is gone", p.ErrorCode, wire.UnknownTopicID)
	wantCode(t, "it is gone", p.AcknowledgeErrorCode, wire.UnknownTopicID)
	until(t, "nothing is left of it", func() bool {
		return len(h.door.shares.all(func(*sharePart) bool { return true })) == 0
	})
	again := h.topic("t", 1)
	b := h.share("g", "b", again)
	b.c.fill(again, 1)
	wantGot(t, "a topic of the same name", b.fetch(), "0-0×1")
}

// TestGroupConfigs: settings of a group are kept, and obeyed.
func TestGroupConfigs(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	c := h.dial()
	for _, bad := range [][2]string{
		{"share.auto.offset.reset", "newest"}, {"share.auto.offset.reset", "by_duration:P1X"},
		{"share.record.lock.duration.ms", "10"}, {"share.isolation.level", "some"}, {"no.such.setting", "1"},
		{"share.partition.max.record.locks", "99"}, {"share.heartbeat.interval.ms", "45000"},
		{"share.renew.acknowledge.enable", "maybe"}, {"errors.deadletterqueue.topic.name", "x"},
	} {
		wantCode(t, bad[0]+"="+bad[1], c.setGroup("g", bad[0], bad[1]), wire.InvalidConfig)
	}
	set := []string{
		"consumer.session.timeout.ms", "60000", "consumer.heartbeat.interval.ms", "1234",
		"share.heartbeat.interval.ms", "777", "share.auto.offset.reset", "by_duration:P1DT2H3M4.5S",
	}
	wantCode(t, "settings", c.setGroup("g", set...), wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	c = h.dial()
	req := kmsg.NewPtrDescribeConfigsRequest()
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
	req.Resources = append(req.Resources, rr)
	shown := askFor[*kmsg.DescribeConfigsResponse](c, 4, req).Resources[0]
	if len(shown.Configs) != len(groupSettings) {
		t.Errorf("%d settings", len(shown.Configs))
	}
	for i := 0; i < len(set); i += 2 {
		at := slices.IndexFunc(shown.Configs, func(cfg kmsg.DescribeConfigsResponseResourceConfig) bool {
			return cfg.Name == set[i]
		})
		if cfg := &shown.Configs[at]; *cfg.Value != set[i+1] || cfg.Source != kmsg.ConfigSourceGroupConfig || cfg.IsDefault {
			t.Errorf("%+v", cfg)
		}
	}
	listed := kmsg.NewPtrListConfigResourcesRequest()
	listed.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	got := askFor[*kmsg.ListConfigResourcesResponse](c, 1, listed).ConfigResources
	if len(got) != 1 || got[0].Name != "g" {
		t.Errorf("%+v", got)
	}
	topic := h.topic("t", 1)
	wantCode(t, "join", h.share("s", "a", topic).beat().ErrorCode, wire.None)
	if resp := h.share("g", "a", topic).beat(); resp.HeartbeatIntervalMillis != 777 {
		t.Errorf("the interval of heartbeats is %d", resp.HeartbeatIntervalMillis)
	}
	wantCode(t, "settings", c.setGroup("consumers", "consumer.heartbeat.interval.ms", "1234"), wire.None)
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = "consumers", "m", 1000
	beat.SubscribedTopicNames, beat.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	resp := askFor[*kmsg.ConsumerGroupHeartbeatResponse](c, 1, beat)
	if resp.ErrorCode != wire.None || resp.HeartbeatIntervalMillis > 1234 {
		t.Errorf("%+v", resp)
	}
	if c, err := groupConfigOf(map[string]string{"share.auto.offset.reset": "by_duration:P1DT2H3M4.5S"}); err != nil ||
		c.reset.age != 26*time.Hour+3*time.Minute+4500*time.Millisecond {
		t.Errorf("%v, %v", c.reset, err)
	}
}

// TestShareFetchGoesForward: what is released while an answer is put together is for the next one. A client takes what
// comes out of order for gaps, and is done with it: records were lost so.
func TestShareFetchGoesForward(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	a := h.share("g", "a", topic)
	wantCode(t, "settings", a.c.setGroup("g", "share.auto.offset.reset", "earliest"), wire.None)
	a.c.fill(topic, 10)
	a.most = 10
	if got := a.fetch(); !strings.Contains(got, "0-9") {
		t.Fatalf("a has %s", got)
	}
	a.c.fill(topic, 10)
	req, s := kmsg.NewPtrShareFetchRequest(), h.door.shares
	req.MaxRecords, req.MaxBytes = 100, 1<<20
	f := &shareFetch{
		shares: s, req: req, resp: kmsg.NewPtrShareFetchResponse(), config: s.groups.configs.of("g"), largest: 1 << 20,
		session: &shareSession{shareMember: shareMember{"g", "b"}}, topics: map[record.UUID]int{},
	}
	p, err := s.part(t.Context(), shareKey{"g", topic.ID, 0}, topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	_, at, err := f.step(p, 0)
	if err != nil || f.records != 10 {
		t.Fatalf("b has %d records, %v", f.records, err)
	}
	wantCode(t, "release", a.acknowledge(all(0, 9, release)), wire.None)
	if more, _, err := f.step(p, at); more || err != nil || f.records != 10 {
		t.Errorf("b has %d records, %v", f.records, err)
	}
	if got := a.fetch(); !strings.Contains(got, "0-9") {
		t.Errorf("then a has %s", got)
	}
}

// TestShareAcknowledgementsThatAreLost: an acknowledgement that could not be stored, as the member was told, does not
// count: the member has the records still, and acknowledges them again.
func TestShareAcknowledgementsThatAreLost(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMemory())
	h := openHouseOn(t, faulty, Options{Logger: logtest.New(t, "commit failed", "housekeeping of the log failed")})
	topic := h.topic("t", 1)
	h.earliest("g").fill(topic, 10)
	a := h.share("g", "a", topic)
	wantGot(t, "acquired", a.fetch(), "0-9×1")
	wantCode(t, "accepted", a.acknowledge(all(0, 1, accept)), wire.None)

	faulty.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Kind: fault.IO})
	if code := a.acknowledge(all(2, 4, accept), all(5, 5, reject)); code == wire.None {
		t.Fatal("an acknowledgement was answered that is not on the disk")
	}
	faulty.Heal()
	until(t, "some of it is acknowledged again, once the log can be written", func() bool {
		return a.acknowledge(all(2, 2, accept)) == wire.None
	})
	wantCode(t, "the rest is given back", func() wire.Code { a.epoch = -1; return a.beat().ErrorCode }(), wire.None)
	wantGot(t, "what was not acknowledged again", h.share("g", "b", topic).fetch(), "3-9×2")
}

// TestShareSettingsOfTheBroker: tools are shown what share groups go by that have no settings of their own.
func TestShareSettingsOfTheBroker(t *testing.T) {
	h := openHouse(t, Options{Shares: ShareOptions{MaxSessions: 77}})
	want := map[string]string{
		"errors.deadletterqueue.topic.name.prefix": "dlq.", "group.share.delivery.count.limit": "5",
		"group.share.heartbeat.interval.ms": "5000", "group.share.max.share.sessions": "77",
		"group.share.partition.max.record.locks": "2000",
		"group.share.record.lock.duration.ms":    "30000", "group.share.session.timeout.ms": "45000",
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	broker := kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"}
	req.Resources = append(req.Resources, broker)
	for _, cfg := range askFor[*kmsg.DescribeConfigsResponse](h.dial(), 4, req).Resources[0].Configs {
		if value, is := want[cfg.Name]; is && *cfg.Value == value && cfg.ReadOnly {
			delete(want, cfg.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not shown, or otherwise: %v", want)
	}
}

// TestShareMemory: what groups have given out is bounded by bytes, over all of them; where one is done with its
// records, another one gets some.
func TestShareMemory(t *testing.T) {
	h := openHouse(t, Options{HeldBytes: 1 << 20})
	topic := h.topic("t", 1)
	h.dial().fill(topic, 2000)
	var members []*sharer
	for i := range 20 { // 32 KiB each, of 256
		group := fmt.Sprint("g", i)
		h.earliest(group)
		m := h.share(group, "a", topic)
		members = append(members, m)
		if got := m.fetch(); got == "" {
			break
		} else if got != "0-1999×1" {
			t.Fatalf("%s got %q", group, got)
		}
	}
	last := len(members) - 1
	if last < 2 || last > 8 {
		t.Fatalf("%d groups have 2,000 records each", last)
	}
	wantGot(t, "still no room", members[last].fetch(), "")
	for _, m := range members[:2] {
		wantCode(t, "done", m.acknowledge(all(0, 1999, accept)), wire.None)
	}
	until(t, "there is room", func() bool { return members[last].fetch() == "0-1999×1" })
}

// A fetch reads of the log about what it may give out, and no piece that is larger than all others may be.
func TestShareFetchReadsLittle(t *testing.T) {
	batchOf := func(records, size int) record.Batch {
		var b record.Builder
		b.Reset(nil, 0)
		for range records {
			b.Append(&record.Record{Value: make([]byte, size)})
		}
		return b.Seal(0, 0)
	}
	f, p := &shareFetch{req: &kmsg.ShareFetchRequest{MaxRecords: 500}}, &sharePart{}
	if got := f.chunk(p); got != firstChunk {
		t.Errorf("%d bytes of a partition that is not known", got)
	}
	p.learn([]record.Batch{batchOf(1000, 100), batchOf(200, 100)})
	if got := f.chunk(p); got < 500*100 || got > 500*120 {
		t.Errorf("%d bytes for 500 records of 100", got)
	}
	f.records = 499
	if got := f.chunk(p); got < 100 || got > 120 {
		t.Errorf("%d bytes for a record of 100", got)
	}
	p.learn([]record.Batch{batchOf(1, 300<<10)})
	p.learn(nil) // says nothing
	if f.records = 0; f.chunk(p) != shareChunk {
		t.Errorf("%d bytes for 500 records of 300 KiB", f.chunk(p))
	}
}

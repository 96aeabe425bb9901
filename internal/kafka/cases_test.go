package kafka

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The cases from the field (docs/conformance/faults.md) that are about what is answered, each with the right answer.

// K1: an id that is not zero decides, whatever the name beside it is; Java's admin sends "".
//
// [Kafka-Metadata].
func TestMetadataByIDWithAnEmptyName(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	for _, version := range []int16{10, 11, 12, 13} {
		for _, name := range []*string{nil, new(""), new("another")} {
			req := metadataFor()
			req.Topics = []kmsg.MetadataRequestTopic{{TopicID: topic.ID, Topic: name}}
			got := askFor[*kmsg.MetadataResponse](c, version, req).Topics[0]
			if got.ErrorCode != wire.None || got.Topic == nil || *got.Topic != "t" || got.TopicID != topic.ID ||
				len(got.Partitions) != 2 {
				t.Errorf("v%d, name %v: %+v", version, wire.Plain(name), got)
			}
			req.Topics[0].TopicID = record.UUID{9}
			got = askFor[*kmsg.MetadataResponse](c, version, req).Topics[0]
			if got.ErrorCode != wire.UnknownTopicID || got.TopicID[0] != 9 {
				t.Errorf("v%d, unknown id, name %v: %+v", version, wire.Plain(name), got)
			}
		}
		req := metadataFor("")
		wantCode(t, "an empty name and no id", askFor[*kmsg.MetadataResponse](c, version, req).Topics[0].ErrorCode,
			wire.InvalidTopic)
	}
	if h.store.Topics().ByName("another") != nil {
		t.Error("a topic was made that was named beside an id")
	}
}

// K1's kind: null and empty are not the same in nullable fields.
func TestNullAndEmpty(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("t", 1)
	c := h.dial()
	dirs := func(topics []kmsg.DescribeLogDirsRequestTopic) int {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Topics = topics
		return len(askFor[*kmsg.DescribeLogDirsResponse](c, 4, req).Dirs[0].Topics)
	}
	if all, none := dirs(nil), dirs([]kmsg.DescribeLogDirsRequestTopic{}); all == 0 || none != 0 {
		t.Errorf("DescribeLogDirs: %d topics for null, %d for none", all, none)
	}
	grow := func(a []kmsg.CreatePartitionsRequestTopicAssignment) wire.Code {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.ValidateOnly = true
		req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 2, Assignment: a}}
		return askFor[*kmsg.CreatePartitionsResponse](c, 3, req).Topics[0].ErrorCode
	}
	wantCode(t, "CreatePartitions, null", grow(nil), wire.None)
	none := grow([]kmsg.CreatePartitionsRequestTopicAssignment{})
	wantCode(t, "CreatePartitions, none", none, wire.InvalidReplicaAssignment)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{}}
	neither := askFor[*kmsg.DeleteTopicsResponse](c, 6, del).Topics[0].ErrorCode
	wantCode(t, "DeleteTopics, neither", neither, wire.InvalidRequest)
	pid := kmsg.NewPtrInitProducerIDRequest()
	pid.TransactionalID = new("")
	wantCode(t, "InitProducerId", askFor[*kmsg.InitProducerIDResponse](c, 4, pid).ErrorCode, wire.InvalidRequest)
	offsets := func(topics []kmsg.OffsetFetchRequestTopic) int {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group, req.Topics = "g", topics
		return len(askFor[*kmsg.OffsetFetchResponse](c, 7, req).Topics)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation, commit.Topics = "g", -1, commitOf("t", 0, 5)
	askFor[*kmsg.OffsetCommitResponse](c, 7, commit)
	if all, none := offsets(nil), offsets([]kmsg.OffsetFetchRequestTopic{}); all != 1 || none != 0 {
		t.Errorf("OffsetFetch: %d topics for null, %d for none", all, none)
	}
}

// K2: any number can be committed; clients say latest and earliest with -1 and -2.
//
// [Kafka-OffsetCommit].
func TestOffsetCommitTakesAnyNumber(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	for _, at := range []int64{7, -1, -2, -1 << 63, 1<<63 - 1} {
		must(t, "commit", m.commit(at, ""), wire.None)
		if got, _, _, code := m.committed(false); got != at || code != wire.None {
			t.Errorf("committed %d, fetched %d, code %d", at, got, code)
		}
	}
}

// K3: what is not the whole of a remembered batch is out of sequence: to clients DUPLICATE_SEQUENCE_NUMBER means that
// all of it is stored.
func TestProduceSequencesThatOverlap(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	send := func(first, last int32) wire.Code {
		b := sequenced(7, 0, first, int(last-first)+1)
		return produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, b))).ErrorCode
	}
	for _, s := range []struct {
		first, last int32
		want        wire.Code
	}{
		{0, 4, wire.None},
		{3, 9, wire.OutOfOrderSequenceNumber}, // 5 to 9 are new
		{1, 2, wire.OutOfOrderSequenceNumber},
		{0, 4, wire.None}, // again
		{5, 5, wire.None}, {6, 6, wire.None}, {7, 7, wire.None}, {8, 8, wire.None}, {9, 9, wire.None},
		{0, 4, wire.OutOfOrderSequenceNumber}, // older than the window
		{12, 12, wire.OutOfOrderSequenceNumber},
		{10, 10, wire.None},
	} {
		wantCode(t, fmt.Sprintf("%d to %d", s.first, s.last), send(s.first, s.last), s.want)
	}
	if _, n := h.readBack(topic.Partitions[0]); n != 11 {
		t.Errorf("%d records are stored", n)
	}
}

// K6: closed are the names that have a meaning, not all that begin with two underscores.
func TestReservedNames(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	create := func(name string) wire.Code {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Topics = append(req.Topics, newTopic(name, 1, 1))
		return askFor[*kmsg.CreateTopicsResponse](c, 7, req).Topics[0].ErrorCode
	}
	for _, name := range []string{
		"__debezium-heartbeat.x", "__CruiseControlMetrics", "__strimzi_canary", "__", "__firth",
	} {
		wantCode(t, "create "+name, create(name), wire.None)
		topic := h.store.Topics().ByName(name)
		wantCode(t, "write "+name, produced(askFor[*kmsg.ProduceResponse](c, 9,
			produceTo(topic, 0, -1, batchOf(1, 1)))).ErrorCode, wire.None)
		got := askFor[*kmsg.MetadataResponse](c, 12, creating(name, name+"2"))
		for _, one := range got.Topics {
			if one.ErrorCode != wire.None || one.IsInternal {
				t.Errorf("%+v", one)
			}
		}
	}
	for _, name := range []string{
		"__firth_x", "__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata",
		"__remote_log_metadata",
	} {
		wantCode(t, "create "+name, create(name), wire.InvalidTopic)
		wantCode(t, "ask for "+name, askFor[*kmsg.MetadataResponse](c, 12, creating(name)).Topics[0].ErrorCode,
			wire.InvalidTopic)
	}
}

// creating asks for topics, and to make those that are not there.
func creating(names ...string) *kmsg.MetadataRequest {
	req := metadataFor(names...)
	req.AllowAutoTopicCreation = true
	return req
}

// K7: two names that are one in Kafka's metrics cannot both be there.
func TestCollidingNames(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	create := func(dry bool, names ...string) (codes []wire.Code) {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.ValidateOnly = dry
		for _, name := range names {
			req.Topics = append(req.Topics, newTopic(name, 1, 1))
		}
		for _, one := range askFor[*kmsg.CreateTopicsResponse](c, 7, req).Topics {
			codes = append(codes, one.ErrorCode)
		}
		return codes
	}
	if got := create(false, "co.l", "co_l", "colx", "c.o_l"); got[0] != 0 || got[1] != wire.InvalidTopic ||
		got[2] != 0 || got[3] != 0 {
		t.Fatalf("codes %v", got)
	}
	wantCode(t, "dry", create(true, "co_l")[0], wire.InvalidTopic)
	wantCode(t, "asked for", askFor[*kmsg.MetadataResponse](c, 12, creating("co_l")).Topics[0].ErrorCode,
		wire.InvalidTopic)
	wantCode(t, "itself", create(false, "co.l")[0], wire.TopicAlreadyExists)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames = []string{"co.l"}
	askFor[*kmsg.DeleteTopicsResponse](c, 5, del)
	wantCode(t, "after the other is gone", create(false, "co_l")[0], wire.None)
	wantCode(t, "the other way", create(false, "co.l")[0], wire.InvalidTopic)
}

// K8: what names an offset names its leader epoch, also where nothing is there yet.
//
// [Kafka-ListOffsets] [Kafka-OffsetForLeaderEpoch].
func TestListOffsetsEpochs(t *testing.T) {
	fs := vfs.NewMemory()
	h := openHouseOn(t, fs, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	first := h.store.Epoch()
	for _, ts := range []int64{timeEarliest, timeLatest, timeLocal} {
		if p := h.offsetAt(c, topic, 0, ts); p.Offset != 0 || p.LeaderEpoch != first {
			t.Errorf("%d of an empty log: %+v", ts, p)
		}
	}
	h.put(c, topic, 0, batchOf(5, 10))
	h.stop()
	h = openHouseOn(t, fs, Options{})
	topic, c = h.store.Topics().ByName("t"), h.dial()
	end := func(epoch int32) (int32, int64) {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{
			Topic:      "t",
			Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{LeaderEpoch: epoch, CurrentLeaderEpoch: -1}},
		}}
		p := askFor[*kmsg.OffsetForLeaderEpochResponse](c, 4, req).Topics[0].Partitions[0]
		return p.LeaderEpoch, p.EndOffset
	}
	if epoch, at := end(h.store.Epoch()); epoch != h.store.Epoch() || at != 5 {
		t.Errorf("an epoch without records ends at %d in %d", at, epoch)
	}
	for _, none := range []int32{h.store.Epoch() + 1, -1} {
		if epoch, at := end(none); epoch != -1 || at != -1 {
			t.Errorf("epoch %d ends at %d in %d", none, at, epoch)
		}
	}
	h.put(c, topic, 0, batchOf(5, 10))
	second := h.store.Epoch()
	for ts, want := range map[int64]int32{
		timeEarliest: first, timeLocal: first, timeLatest: second, 1002: first, timeMax: first,
	} {
		if p := h.offsetAt(c, topic, 0, ts); p.LeaderEpoch != want {
			t.Errorf("%d: %+v, want epoch %d", ts, p, want)
		}
	}
	if _, err := h.store.TrimTo(t.Context(), topic.Partitions[0], 7); err != nil {
		t.Fatal(err)
	}
	if p := h.offsetAt(c, topic, 0, timeEarliest); p.Offset != 7 || p.LeaderEpoch != second {
		t.Errorf("the earliest after DeleteRecords: %+v", p)
	}
	empty := h.topic("empty", 1)
	if p := h.offsetAt(c, empty, 0, timeEarliest); p.LeaderEpoch != second {
		t.Errorf("of an empty topic: %+v", p)
	}
}

// F17, E12: the offset of a topic that was deleted stays gone when a topic of its name is there at the next start, even
// if nobody had the time to remove it.
func TestOffsetsOfATopicMadeAgain(t *testing.T) {
	fs := vfs.NewMemory()
	slow := func(co *coordinator) { co.look = time.Hour } // no sweep
	r := openRoom(t, fs, Options{}, slow)
	r.topic("t", 1)
	r.topic("kept", 1)
	m := &member{r: r, group: "g", level: 8, generation: -1}
	must(t, "commit", m.commit(7, ""), wire.None)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.Topics = "g", -1, commitOf("kept", 0, 3)
	must(t, "commit", ask[*kmsg.OffsetCommitResponse](r, 7, req).Topics[0].Partitions[0].ErrorCode, wire.None)
	if err := r.store.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	r.topic("t", 1)
	for range 2 {
		if at, _, _, code := m.committed(false); at != -1 || code != wire.None {
			t.Fatalf("offset %d of a topic that is gone, code %d", at, code)
		}
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Group, fetch.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "kept", Partitions: []int32{0}}}
		if p := ask[*kmsg.OffsetFetchResponse](r, 7, fetch).Topics[0].Partitions[0]; p.Offset != 3 {
			t.Fatalf("the other topic: %+v", p)
		}
		r.close()
		r = openRoom(t, fs, Options{}, slow)
		m.r = r
	}
}

// F02: OffsetCommit v1, which old Sarama sends, is served; the client's clock in it is not believed.
func TestOffsetCommitV1(t *testing.T) {
	h := openHouse(t, Options{})
	h.topic("t", 1)
	c := h.dial()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.Topics = "g", -1, commitOf("t", 0, 7)
	req.Topics[0].Partitions[0].Timestamp = 5 // long ago
	resp := askFor[*kmsg.OffsetCommitResponse](c, 1, req)
	wantCode(t, "v1", resp.Topics[0].Partitions[0].ErrorCode, wire.None)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	h.door.groups.sweep(h.door.groups.now(), h.store.Topics())
	if p := askFor[*kmsg.OffsetFetchResponse](c, 5, fetch).Topics[0].Partitions[0]; p.Offset != 7 {
		t.Errorf("%+v", p)
	}
}

// F08: versions that are not served are refused at once, counted by API and version, and told in one line a minute that
// says who sends them.
func TestOutdatedVersions(t *testing.T) {
	var log lockedBuffer
	set := telemetry.New()
	h := openHouse(t, Options{Metrics: set, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	topic := h.topic("t", 1)
	long := strings.Repeat("x", 30_000)
	for i, id := range []string{"netscaler-9", "netscaler-9", "netscaler-9", "other", long} {
		fetch := kmsg.NewPtrFetchRequest()
		frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(id)).AppendRequest(nil, fetch, 1)
		c := h.dial()
		if _, err := c.nc.Write(frame); err != nil {
			t.Fatal(err)
		}
		c.closed("Fetch v0")
		produce := produceTo(topic, 0, -1, batchOf(1, 1))
		frame = kmsg.NewRequestFormatter(kmsg.FormatterClientID(id)).AppendRequest(nil, produce, int32(i))
		c = h.dial()
		if _, err := c.nc.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.frame(); err != nil {
			t.Fatalf("Produce v0: %v", err)
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	counts := map[string]int{}
	for _, line := range lines {
		if len(line) > 600 {
			t.Errorf("a line of %d bytes", len(line))
		}
		for _, what := range []string{"Produce v0", "Fetch v0", "netscaler-9", "client_id=other", "xxxx"} {
			if strings.Contains(line, what) {
				counts[what]++
			}
		}
	}
	for what, want := range map[string]int{
		"Produce v0": 3, "Fetch v0": 3, "netscaler-9": 2, "client_id=other": 2, "xxxx": 2,
	} {
		if counts[what] != want {
			t.Errorf("%s is in %d lines, not %d:\n%s", what, counts[what], want, log.String())
		}
	}
	for _, line := range []string{
		`firth_kafka_unsupported_versions_total{api="Fetch",version="0"} 5`,
		`firth_kafka_unsupported_versions_total{api="Produce",version="0"} 5`,
	} {
		if !strings.Contains(exposition(t, set), line) {
			t.Errorf("no %s", line)
		}
	}
}

// lockedBuffer is a buffer that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// F19: beyond the limits of a group clients get the code that limits.md says, and the connection stays.
func TestGroupLimitsAreToldByCode(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	join := func(size int, id string) *kmsg.JoinGroupResponse {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", 30_000, 30_000
		req.ProtocolType, req.MemberID = "consumer", id
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, size)}}
		return askFor[*kmsg.JoinGroupResponse](c, 3, req)
	}
	wantCode(t, "metadata above 1 MiB", join(1<<20+1, "").ErrorCode, wire.InvalidRequest)
	me := join(1<<20-100, "")
	wantCode(t, "metadata below 1 MiB", me.ErrorCode, wire.None)
	sync := func(size int) wire.Code {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.Generation, req.MemberID = "g", me.Generation, me.MemberID
		req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{
			MemberID: me.MemberID, MemberAssignment: make([]byte, size),
		}}
		return askFor[*kmsg.SyncGroupResponse](c, 3, req).ErrorCode
	}
	wantCode(t, "assignments above 4 MiB", sync(4<<20+1), wire.InvalidRequest)
	wantCode(t, "assignments below 4 MiB", sync(4<<20-100), wire.None)
}

// F32: a wall clock that is set ends no session and lets no offset expire.
func TestGroupsIgnoreStepsOfTheWallClock(t *testing.T) {
	var wall atomic.Int64
	r := openRoom(t, vfs.NewMemory(), Options{}, func(co *coordinator) {
		co.wall = wall.Load
		co.look = time.Millisecond
		co.limits.SweepInterval = time.Millisecond
	})
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9}
	enterGroup(t, m)
	alone := &member{r: r, group: "alone", level: 9, generation: -1}
	must(t, "commit", alone.commit(5, ""), wire.None)
	for _, by := range []int64{-10_000, 10_000, 56 * 365 * 24 * 3600 * 1000, -3600_000} {
		wall.Add(by)
		before := r.co.turns.Load()
		eventually(t, "the clock has looked", func() bool { return r.co.turns.Load() > before+2 })
		must(t, "heartbeat", m.heartbeat(), wire.None)
		if at, _, _, _ := alone.committed(false); at != 5 {
			t.Fatalf("after a step of %d ms the offset is %d", by, at)
		}
	}
}

// E13: what breaks beside the connections costs its group a rebalance and no more: the clock goes on, the group is not
// locked for ever, and its offsets stay.
func TestAPanicOfTheClockCostsOneGroup(t *testing.T) {
	set := telemetry.New()
	log := logtest.New(t, "kafka: time of a group broke")
	r := openRoom(t, vfs.NewMemory(), Options{Metrics: set, Logger: log}, nil)
	r.topic("t", 1)
	m, other := &member{r: r, group: "g", level: 9}, &member{r: r, group: "other", level: 9}
	enterGroup(t, m)
	enterGroup(t, other)
	must(t, "commit", m.commit(5, ""), wire.None)
	r.co.mu.Lock()
	og := r.co.mu.groups["g"]
	r.co.mu.Unlock()
	og.mu.Lock()
	og.mu.g = nil // whatever is asked of it breaks
	og.mu.Unlock()
	r.co.alarms.Set(og, 1)
	eventually(t, "it broke, and the group began anew", func() bool {
		og.mu.Lock()
		defer og.mu.Unlock()
		return og.mu.g != nil
	})
	must(t, "heartbeat of a member of the group that broke", m.heartbeat(), wire.UnknownMemberID)
	must(t, "heartbeat in another group", other.heartbeat(), wire.None)
	again := &member{r: r, group: "g", level: 9}
	enterGroup(t, again)
	if at, _, _, _ := again.committed(false); at != 5 {
		t.Errorf("the offset is %d", at)
	}
	if !strings.Contains(exposition(t, set), "firth_kafka_panics_total 1") {
		t.Error("it was not counted")
	}
}

// K10: the times of groups are settings of the broker that clients see and change, also after a restart, and the
// configuration stands behind them.
//
// Long: one story of one setting after the other.
//
// [Kafka-DescribeConfigs] [Kafka-IncrementalAlterConfigs].
func TestGroupTimesAreBrokerSettings(t *testing.T) {
	fs := vfs.NewMemory()
	given := Options{Groups: GroupOptions{GroupTimes: GroupTimes{MinSession: 8 * time.Second}}}
	h := openHouseOn(t, fs, given)
	c := h.dial()
	show := func(name string) kmsg.DescribeConfigsResponseResourceConfig {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms = true
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{
			ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1", ConfigNames: []string{name},
		})
		r := askFor[*kmsg.DescribeConfigsResponse](c, 4, req).Resources[0]
		if r.ErrorCode != 0 || len(r.Configs) != 1 || r.Configs[0].ReadOnly {
			t.Fatalf("%s: %+v", name, r)
		}
		return r.Configs[0]
	}
	want := func(name, value string, source kmsg.ConfigSource) {
		t.Helper()
		if got := show(name); *got.Value != value || got.Source != source || got.ConfigSynonyms[0].Source != source {
			t.Errorf("%s: %s from %v, want %s from %v", name, *got.Value, got.Source, value, source)
		}
	}
	const least, most, delay = "group.min.session.timeout.ms", "group.max.session.timeout.ms",
		"group.initial.rebalance.delay.ms"
	want(least, "8000", kmsg.ConfigSourceStaticBrokerConfig)
	want(most, "1800000", kmsg.ConfigSourceDefaultConfig)
	want(delay, "0", kmsg.ConfigSourceDefaultConfig)
	alter := func(resource string, op kmsg.IncrementalAlterConfigOp, pairs ...string) wire.Code {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, resource
		for i := 0; i < len(pairs); i += 2 {
			cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			cfg.Name, cfg.Op = pairs[i], op
			if op == kmsg.IncrementalAlterConfigOpSet {
				cfg.Value = &pairs[i+1]
			}
			r.Configs = append(r.Configs, cfg)
		}
		req.Resources = append(req.Resources, r)
		return askFor[*kmsg.IncrementalAlterConfigsResponse](c, 1, req).Resources[0].ErrorCode
	}
	const set, del = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete
	join := func(session int32) wire.Code {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.ProtocolType = "g", session, "consumer"
		req.RebalanceTimeoutMillis = 1000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
		resp := askFor[*kmsg.JoinGroupResponse](c, 3, req)
		if resp.ErrorCode == wire.None {
			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Group, leave.MemberID = "g", resp.MemberID
			askFor[*kmsg.LeaveGroupResponse](c, 1, leave)
		}
		return resp.ErrorCode
	}
	wantCode(t, "6 s, 8 s is the least", join(6000), wire.InvalidSessionTimeout)
	wantCode(t, "set", alter("1", set, least, "5000", delay, "10"), wire.None)
	wantCode(t, "6 s, 5 s is the least", join(6000), wire.None)
	wantCode(t, "4 s", join(4000), wire.InvalidSessionTimeout)
	for what, code := range map[string]wire.Code{
		"the least above the most": alter("1", set, least, "2000000"), "no number": alter("", set, delay, "x"),
		"negative": alter("1", set, delay, "-1"), "read-only": alter("1", set, "log.dirs", "/x"),
		"an unknown one": alter("1", del, "nonsense", ""),
	} {
		wantCode(t, what, code, wire.InvalidConfig)
	}
	wantCode(t, "another broker", alter("2", set, delay, "1"), wire.InvalidRequest)
	every := kmsg.NewPtrDescribeConfigsRequest() // as kafka-configs.sh --entity-default asks, which showed nothing
	every.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker}}
	got := askFor[*kmsg.DescribeConfigsResponse](c, 4, every).Resources[0].Configs
	if len(got) != 2 || got[1].Name != least || *got[1].Value != "5000" ||
		got[1].Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("of all brokers: %+v", got)
	}
	want(least, "5000", kmsg.ConfigSourceDynamicBrokerConfig)
	h.stop()
	h = openHouseOn(t, fs, given)
	c = h.dial()
	want(least, "5000", kmsg.ConfigSourceDynamicBrokerConfig)
	want(delay, "10", kmsg.ConfigSourceDynamicBrokerConfig)
	wantCode(t, "after a restart", join(6000), wire.None)
	wantCode(t, "delete", alter("", del, least, ""), wire.None)
	want(least, "8000", kmsg.ConfigSourceStaticBrokerConfig)
	wantCode(t, "6 s again", join(6000), wire.InvalidSessionTimeout)
	all := kmsg.NewPtrAlterConfigsRequest()
	all.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1",
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: most, Value: new("60000")}}}}
	wantCode(t, "AlterConfigs", askFor[*kmsg.AlterConfigsResponse](c, 1, all).Resources[0].ErrorCode, wire.None)
	want(most, "60000", kmsg.ConfigSourceDynamicBrokerConfig)
	want(delay, "0", kmsg.ConfigSourceDefaultConfig)
	if err := h.door.SetGroupTimes(GroupTimes{MinSession: 2 * time.Minute}); err == nil {
		t.Error("a configuration under which the least is above the most is taken")
	}
	if err := h.door.SetGroupTimes(GroupTimes{MinSession: time.Second}); err != nil {
		t.Error(err)
	}
	wantCode(t, "2 s after a reload", join(2000), wire.None)
}

// F11: how old the start of the log is can be seen, also when it is from the future, and is forgotten with its topic.
func TestTheAgeOfTheLogsStartIsAGauge(t *testing.T) {
	set := telemetry.New()
	r := openRoom(t, vfs.NewMemory(), Options{Metrics: set}, func(co *coordinator) { co.look = time.Millisecond })
	age := func(topic string) (seconds float64, is bool) {
		_, rest, is := strings.Cut(exposition(t, set), `firth_topic_start_age_seconds{topic="`+topic+`"} `)
		_, _ = fmt.Sscan(rest, &seconds)
		return seconds, is
	}
	now := time.Now().UnixMilli()
	for name, at := range map[string]int64{"old": now - 3600_000, "future": now + 1800_000} {
		topic := r.topic(name, 2)
		done := make(receiptChan, 1)
		for _, stamp := range []int64{at, now} {
			rec := record.Record{Timestamp: stamp, Value: []byte("v")}
			if err := streamtest.Append(r.store, done, stream.Write{Partition: topic.Partitions[1], Record: &rec}); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]float64{"old": 3600, "future": -1800} {
		eventually(t, "the gauge of "+name, func() bool {
			got, is := age(name)
			return is && got >= want && got < want+60
		})
	}
	if err := r.store.DeleteTopic(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gauge of the topic is gone", func() bool { _, is := age("old"); return !is })
}

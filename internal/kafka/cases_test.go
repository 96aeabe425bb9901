package kafka

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The cases from the field (docs/conformance/faults.md) that are about what is answered, each with the right answer.

// K1: an id that is not zero decides, whatever the name beside it is; Java's admin sends "".
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

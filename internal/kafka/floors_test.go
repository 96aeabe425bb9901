package kafka

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every API below its lowest version, and above its highest, ends the connection with one line that says which versions
// there are; Produce 0 to 2, which are announced for old librdkafka, is answered UNSUPPORTED_VERSION.
func TestVersionsBeyondTheRanges(t *testing.T) {
	var log lockedBuffer
	h := openHouse(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	topic := h.topic("t", 1)
	for key, api := range h.door.apis {
		for _, version := range []int16{api.Min - 1, api.Max + 1} {
			if version < 0 || key == wire.ApiVersions {
				continue
			}
			before := log.lines(api.Name + " v")
			for range 2 { // the second is told within the minute
				c := h.dial()
				c.raw(be32(12), headOf(key, version), []byte{0, 1, 'x', 0})
				c.closed(api.Name)
			}
			if told := log.lines(api.Name+" v") - before; told != 1 {
				t.Errorf("%s v%d: %d lines:\n%s", api.Name, version, told, log.String())
			}
		}
	}
	for version := range int16(3) {
		resp := askFor[*kmsg.ProduceResponse](h.dial(), version, produceTo(topic, 0, -1, nil))
		wantCode(t, "old Produce", produced(resp).ErrorCode, wire.UnsupportedVersion)
	}
}

// lines counts the lines that have some text.
func (l *lockedBuffer) lines(text string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// A client of Kafka 2.1 or before, which uses the lowest version of everything, makes a topic, writes, reads, is in a
// group, commits, and cleans up.
//
// Long: one play from beginning to end.
func TestTheOldestVersions(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{newTopic("old", 1, 1)}
	wantCode(t, "create", askFor[*kmsg.CreateTopicsResponse](c, 2, create).Topics[0].ErrorCode, wire.None)
	meta := kmsg.NewPtrMetadataRequest()
	name := "old"
	meta.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	if all := askFor[*kmsg.MetadataResponse](c, 0, meta); len(all.Brokers) != 1 || all.Topics[0].ErrorCode != wire.None {
		t.Fatalf("%+v", all)
	}
	topic := h.store.Topics().ByName("old")
	id := askFor[*kmsg.InitProducerIDResponse](c, 0, kmsg.NewPtrInitProducerIDRequest())
	wantCode(t, "producer id", id.ErrorCode, wire.None)
	written := produced(askFor[*kmsg.ProduceResponse](c, 3, produceTo(topic, 0, -1, batchOf(3, 5))))
	wantCode(t, "produce", written.ErrorCode, wire.None)
	read := fetched(askFor[*kmsg.FetchResponse](c, 4, fetchFrom(topic, 0, 0, 0, 1)))
	if read.ErrorCode != wire.None || len(read.RecordBatches) == 0 || read.HighWatermark != 3 {
		t.Fatalf("%+v", read)
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.Topics = []kmsg.ListOffsetsRequestTopic{{
		Topic: "old", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}},
	}}
	if p := askFor[*kmsg.ListOffsetsResponse](c, 1, list).Topics[0].Partitions[0]; p.Offset != 3 || p.ErrorCode != 0 {
		t.Fatalf("%+v", p)
	}

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "g"
	wantCode(t, "coordinator", askFor[*kmsg.FindCoordinatorResponse](c, 0, find).ErrorCode, wire.None)
	join := askFor[*kmsg.JoinGroupResponse](c, 0, joinRequest("g"))
	wantCode(t, "join", join.ErrorCode, wire.None)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", join.MemberID, join.Generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: join.MemberID, MemberAssignment: []byte("x")}}
	if got := askFor[*kmsg.SyncGroupResponse](c, 0, sync); string(got.MemberAssignment) != "x" {
		t.Fatalf("%+v", got)
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "g", join.MemberID, join.Generation
	wantCode(t, "heartbeat", askFor[*kmsg.HeartbeatResponse](c, 0, beat).ErrorCode, wire.None)
	for version := int16(1); version <= 2; version++ {
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Group, commit.MemberID, commit.Generation = "g", join.MemberID, join.Generation
		commit.Topics = commitOf("old", 0, 2)
		got := askFor[*kmsg.OffsetCommitResponse](c, version, commit)
		wantCode(t, "commit", got.Topics[0].Partitions[0].ErrorCode, wire.None)
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "old", Partitions: []int32{0}}}
	if p := askFor[*kmsg.OffsetFetchResponse](c, 1, fetch).Topics[0].Partitions[0]; p.Offset != 2 {
		t.Fatalf("%+v", p)
	}
	groups := kmsg.NewPtrDescribeGroupsRequest()
	groups.Groups = []string{"g"}
	if g := askFor[*kmsg.DescribeGroupsResponse](c, 0, groups).Groups[0]; g.State != "Stable" || len(g.Members) != 1 {
		t.Fatalf("%+v", g)
	}
	if all := askFor[*kmsg.ListGroupsResponse](c, 0, kmsg.NewPtrListGroupsRequest()); len(all.Groups) != 1 {
		t.Fatalf("%+v", all)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = "g", join.MemberID
	wantCode(t, "leave", askFor[*kmsg.LeaveGroupResponse](c, 0, leave).ErrorCode, wire.None)
	gone := askFor[*kmsg.DeleteGroupsResponse](c, 0, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}})
	wantCode(t, "delete the group", gone.Groups[0].ErrorCode, wire.None)
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TopicNames = []string{"old"}
	wantCode(t, "delete", askFor[*kmsg.DeleteTopicsResponse](c, 1, drop).Topics[0].ErrorCode, wire.None)
}

// A client that means another cluster, or another broker of this one, is told to begin anew; one that says half of it
// is told so (KIP-1242).
func TestApiVersionsOfAnotherCluster(t *testing.T) {
	h := openHouse(t, Options{})
	ours := h.store.ClusterID()
	for _, k := range []struct {
		cluster *string
		node    int32
		want    wire.Code
	}{
		{nil, -1, wire.None},
		{&ours, 1, wire.None},
		{&ours, 2, wire.RebootstrapRequired},
		{new("another"), 1, wire.RebootstrapRequired},
		{&ours, -1, wire.InvalidRequest},
		{nil, 1, wire.InvalidRequest},
	} {
		req := softwareOf("raw")
		req.ClusterID, req.NodeID = k.cluster, k.node
		wantCode(t, "cluster", askFor[*kmsg.ApiVersionsResponse](h.dial(), 5, req).ErrorCode, k.want)
	}
}

// Who makes and deletes more topics and partitions than the quota allows is refused from there on, if the version knows
// how to say so, and what came before stands; older versions are served and throttled (KIP-599).
func TestStrictMutationQuota(t *testing.T) {
	h := openHouse(t, Options{})
	c := h.dial()
	slow := map[string]float64{"controller_mutation_rate": 1}
	wantCode(t, "alter", alter(c, entityOf(t, "user=ANONYMOUS"), slow), wire.None)
	create := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range []string{"a", "b", "c"} {
		create.Topics = append(create.Topics, newTopic(name, 100, 1))
	}
	made := askFor[*kmsg.CreateTopicsResponse](c, 6, create)
	codes := []wire.Code{made.Topics[0].ErrorCode, made.Topics[1].ErrorCode, made.Topics[2].ErrorCode}
	if codes[0] != wire.None || codes[1] != wire.ThrottlingQuotaExceeded || codes[2] != wire.ThrottlingQuotaExceeded ||
		made.ThrottleMillis < 60_000 || made.Topics[1].ErrorMessage == nil {
		t.Fatalf("%v, throttled for %d ms", codes, made.ThrottleMillis)
	}
	if topics := h.store.Topics(); topics.ByName("a") == nil || topics.ByName("b") != nil {
		t.Fatal("not what was answered")
	}
	c = h.dial()
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TopicNames = []string{"a"}
	gone := askFor[*kmsg.DeleteTopicsResponse](c, 5, drop)
	wantCode(t, "delete", gone.Topics[0].ErrorCode, wire.ThrottlingQuotaExceeded)
	c = h.dial()
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "a", Count: 101}}
	grown := askFor[*kmsg.CreatePartitionsResponse](c, 3, grow)
	wantCode(t, "grow", grown.Topics[0].ErrorCode, wire.ThrottlingQuotaExceeded)
	c = h.dial()
	older := askFor[*kmsg.DeleteTopicsResponse](c, 4, drop)
	wantCode(t, "delete, an older version", older.Topics[0].ErrorCode, wire.None)
	if older.ThrottleMillis < 60_000 {
		t.Errorf("an older version is throttled for %d ms", older.ThrottleMillis)
	}
}

// Reasons and ids of the newest versions.
func TestNewestVersions(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	del := askFor[*kmsg.DeleteGroupsResponse](c, 3, &kmsg.DeleteGroupsRequest{Groups: []string{"nobody"}}).Groups[0]
	if del.ErrorCode != wire.GroupIDNotFound || del.ErrorMessage == nil {
		t.Errorf("%+v", del)
	}
	a := c.initTxn("a", 5)
	commit := func(id [16]byte) kmsg.TxnOffsetCommitResponseTopic {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = "a", "g", a.id, a.epoch, -1
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Offset = 9
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{
			{TopicID: id, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}},
		}
		return askFor[*kmsg.TxnOffsetCommitResponse](c, 6, req).Topics[0]
	}
	wantCode(t, "an id of no topic", commit([16]byte{1}).Partitions[0].ErrorCode, wire.UnknownTopicID)
	if got := commit(topic.ID); got.TopicID != topic.ID || got.Partitions[0].ErrorCode != wire.None {
		t.Errorf("%+v", got)
	}
	wantCode(t, "end", c.endTxn(a, 5, true).ErrorCode, wire.None)
	if at, code := c.offset("g", topic); at != 9 || code != wire.None {
		t.Errorf("offset %d, code %d", at, code)
	}
}

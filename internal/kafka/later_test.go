package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joined makes a member of a group by raw requests.
func joined(t *testing.T, c *client, session int32) (member string, generation int32) {
	t.Helper()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", session, 10*session
	join.ProtocolType = "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	me := askFor[*kmsg.JoinGroupResponse](c, 3, join)
	wantCode(t, "join", me.ErrorCode, wire.None)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", me.MemberID, me.Generation
	wantCode(t, "sync", askFor[*kmsg.SyncGroupResponse](c, 3, sync).ErrorCode, wire.None)
	return me.MemberID, me.Generation
}

// Control is heard while data waits: a heartbeat behind a fetch that waits for records, on the same connection as old
// clients have it, keeps the session alive at once, and is answered in its turn.
//
// [Kafka-Heartbeat].
func TestHeartbeatIsHeardBehindAFetch(t *testing.T) {
	h := openHouse(t, Options{Groups: GroupOptions{GroupTimes: GroupTimes{MinSession: time.Millisecond}}})
	topic := h.topic("t", 1)
	c := h.dial()
	member, generation := joined(t, c, 60_000)
	og := h.door.groups.owned()[0]
	next := func() int64 {
		og.mu.Lock()
		defer og.mu.Unlock()
		return og.mu.g.Next()
	}
	before := next()
	fetch := fetchFrom(topic, 0, 0, 60_000, 1)
	fetch.Version = 12
	fetched := c.send(fetch)
	until(t, "the fetch waits", func() bool { return h.door.purgatory.parked.Load() == 1 })
	time.Sleep(2 * time.Millisecond) // so that the clock of the sessions has moved
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation, beat.Version = "g", member, generation, 3
	heard := c.send(beat)
	until(t, "the heartbeat is heard", func() bool { return next() > before })
	h.put(h.dial(), topic, 0, batchOf(1, 10))
	c.receive(fetch, fetched)
	resp, ok := c.receive(beat, heard).(*kmsg.HeartbeatResponse)
	if !ok || resp.ErrorCode != wire.None {
		t.Errorf("the heartbeat: %+v", resp)
	}
}

// While commits wait for the disk the connection reads on: heartbeats are heard, more commits are taken, and all are
// answered in order when the disk goes on.
//
// [Kafka-OffsetCommit].
func TestCommitsOfAConnectionArePipelined(t *testing.T) {
	const commits = 50
	disk := vfs.NewFaulty(vfs.NewMemory())
	h := openHouseOn(t, disk, Options{})
	h.topic("t", 1)
	c := h.dial()
	member, generation := joined(t, c, 60_000)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.Generation, commit.Version = "g", member, generation, 7
	commit.Topics = commitOf("t", 0, 0)
	c.receive(commit, c.send(commit)) // the topic of the groups is there
	block := make(chan struct{})
	disk.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpSync {
			<-block
		}
	})
	var ids []int32
	for i := range commits {
		commit.Topics[0].Partitions[0].Offset = int64(i)
		ids = append(ids, c.send(commit))
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation, beat.Version = "g", member, generation, 3
	heard := c.send(beat)
	og := h.door.groups.owned()[0]
	until(t, "all commits are under way", func() bool {
		og.mu.Lock()
		defer og.mu.Unlock()
		return len(og.mu.flying) >= commits-1
	})
	close(block)
	for _, id := range ids {
		resp, ok := c.receive(commit, id).(*kmsg.OffsetCommitResponse)
		if !ok || resp.Topics[0].Partitions[0].ErrorCode != wire.None {
			t.Fatalf("commit %d: %+v", id, resp)
		}
	}
	c.receive(beat, heard)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	if p := askFor[*kmsg.OffsetFetchResponse](c, 7, fetch).Topics[0].Partitions[0]; p.Offset != commits-1 {
		t.Errorf("the offset is %d", p.Offset)
	}
}

// BenchmarkOffsetCommits commits over one connection, a few at a time.
func BenchmarkOffsetCommits(b *testing.B) {
	disk, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	h := openHouseOn(b, disk, Options{})
	h.topic("t", 1)
	c := h.dial()
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation, commit.Version = "g", -1, 7
	commit.Topics = commitOf("t", 0, 0)
	const ahead = 64
	var ids []int32
	for b.Loop() {
		ids = append(ids, c.send(commit))
		if len(ids) == ahead {
			c.receive(commit, ids[0])
			ids = ids[1:]
		}
	}
	for _, id := range ids {
		c.receive(commit, id)
	}
}

// A JoinGroup that waits for the other members holds up what its connection asks for after it, as at Kafka, which
// serves one request of a connection at a time: a heartbeat sent behind it is of the generation that it brings.
func TestHeartbeatBehindAJoinWaitsForIt(t *testing.T) {
	h := openHouse(t, Options{})
	one, other := h.dial(), h.dial()
	join := func(member string) *kmsg.JoinGroupRequest {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.ProtocolType = 3, "g", member, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
		return req
	}
	first, generation := joined(t, one, 60_000)
	second := join("")
	waits := other.send(second)
	og := h.door.groups.owned()[0]
	state := func() (group.State, int) {
		og.mu.Lock()
		defer og.mu.Unlock()
		return og.mu.g.(*group.Group).State(), og.mu.g.Len()
	}
	until(t, "the second member waits for the first", func() bool {
		s, members := state()
		return s == group.PreparingRebalance && members == 2
	})
	wantCode(t, "join again", askFor[*kmsg.JoinGroupResponse](one, 3, join(first)).ErrorCode, wire.None)
	in, _ := other.receive(second, waits).(*kmsg.JoinGroupResponse)
	wantCode(t, "join of the second", in.ErrorCode, wire.None)

	for _, m := range []struct {
		c  *client
		id string
	}{{one, first}, {other, in.MemberID}} { // the first leads
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = "g", m.id, in.Generation
		wantCode(t, "sync", askFor[*kmsg.SyncGroupResponse](m.c, 3, sync).ErrorCode, wire.None)
	}
	again := join(first) // of the leader: the next generation begins, and waits for the second
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID, beat.Generation = 3, "g", first, generation+2
	joins, beats := one.send(again), one.send(beat)
	until(t, "the first joins again", func() bool {
		s, _ := state()
		return s == group.PreparingRebalance
	})
	in = askFor[*kmsg.JoinGroupResponse](other, 3, join(in.MemberID))
	wantCode(t, "join of the second again", in.ErrorCode, wire.None)
	got, _ := one.receive(again, joins).(*kmsg.JoinGroupResponse)
	if got.ErrorCode != wire.None || got.Generation != generation+2 {
		t.Fatalf("join again: %+v", got)
	}
	heard, _ := one.receive(beat, beats).(*kmsg.HeartbeatResponse)
	wantCode(t, "the heartbeat of the new generation", heard.ErrorCode, wire.None)
}

// What is looked for by time ends with the request: nobody reads files for a client that is gone.
func TestListOffsetsEndsWithItsRequest(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	h.put(h.dial(), topic, 0, batchOf(1, 10))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, at := range []int64{0, timeMax} {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = at
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version = 7
		ps := []kmsg.ListOffsetsRequestTopicPartition{rp}
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: ps}}
		resp, err := h.door.listOffsets(ctx, testConn(), req)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, "list offsets", resp.Topics[0].Partitions[0].ErrorCode, wire.RequestTimedOut)
	}
}

package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinWith joins a group, as a client before KIP-394, with so many bytes of metadata.
func (r *groupRoom) joinWith(group string, metadata int) (code wire.Code, member string, generation int32) {
	r.t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 60_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, metadata)}}
	resp := ask[*kmsg.JoinGroupResponse](r, 3, req)
	return resp.ErrorCode, resp.MemberID, resp.Generation
}

// TestMembersCountInTheBudget is E6: what members say of themselves, and what their leader assigns, stays as long as
// they do. It counts in limits.kafka_bytes; near a quarter of that the groups that have much are refused first.
func TestMembersCountInTheBudget(t *testing.T) {
	const mib = 1 << 20
	fs, set := vfs.NewMemory(), telemetry.New()
	r := openRoom(t, fs, Options{HeldBytes: 32 * mib, Metrics: set}, nil)
	type joined struct {
		group, id  string
		generation int32
	}
	var in []joined
	for i := range 100 {
		name := fmt.Sprint("group", i)
		code, id, generation := r.joinWith(name, mib-100)
		if code == wire.CoordinatorNotAvailable {
			break
		}
		if code != wire.None {
			t.Fatalf("join of %s: %v", name, code)
		}
		in = append(in, joined{name, id, generation})
	}
	if n := r.co.budget.groups(); len(in) < 6 || n < int64(len(in))*(mib-100) || n > 8*mib {
		t.Fatalf("%d groups with metadata of 1 MiB count as %d bytes of 8 MiB", len(in), n)
	}
	if code, _, _ := r.joinWith("small", 100); code != wire.None {
		t.Errorf("a small member of a new group: %v", code)
	}
	one := in[0]
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = one.group, one.id, one.generation
	a := kmsg.SyncGroupRequestGroupAssignment{MemberID: one.id, MemberAssignment: make([]byte, 2*mib)}
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	if code := ask[*kmsg.SyncGroupResponse](r, 3, sync).ErrorCode; code != wire.CoordinatorNotAvailable {
		t.Errorf("an assignment for which there is no room: %v", code)
	}
	sync.GroupAssignment[0].MemberAssignment = []byte("p0")
	if code := ask[*kmsg.SyncGroupResponse](r, 3, sync).ErrorCode; code != wire.None {
		t.Errorf("a small assignment: %v", code)
	}
	if text := exposition(t, set); !strings.Contains(text, `firth_kafka_short_of_memory_total{fate="group_refused"} 2`) {
		t.Errorf("not two refusals are counted:\n%s", text)
	}
	before := r.co.budget.groups()
	r.close()
	r = openRoom(t, fs, Options{HeldBytes: 32 * mib}, nil)
	if n := r.co.budget.groups(); n < mib-100 || n > before {
		t.Errorf("%d bytes count after a restart with one group that is stored, %d before", n, before)
	}
	away := kmsg.NewPtrLeaveGroupRequest()
	away.Group, away.MemberID = one.group, one.id
	if code := ask[*kmsg.LeaveGroupResponse](r, 2, away).ErrorCode; code != wire.None {
		t.Errorf("leave: %v", code)
	}
	if n := r.co.budget.held(); n != 0 {
		t.Errorf("%d bytes count when all have left", n)
	}
}

// TestIdsThatWereHandedOutCount has clients ask for member ids (KIP-394) that they never use.
func TestIdsThatWereHandedOutCount(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{HeldBytes: 1 << 20}, nil)
	refused := false
	for i := 0; i < 2000 && !refused; i++ {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis = fmt.Sprint("group", i%50), "consumer", 60_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		resp, err := tryAsk[*kmsg.JoinGroupResponse](context.Background(), r, 9, req)
		if err != nil {
			t.Fatal(err)
		}
		refused = resp.ErrorCode == wire.CoordinatorNotAvailable
	}
	if n := r.co.budget.groups(); !refused || n > 256<<10 {
		t.Errorf("%d bytes of ids, refused: %v", n, refused)
	}
}

// TestMetadataOfOffsetsCounts has clients commit offsets with as much metadata as they may.
func TestMetadataOfOffsetsCounts(t *testing.T) {
	fs := vfs.NewMemory()
	opt := Options{HeldBytes: 1 << 20}
	r := openRoom(t, fs, opt, nil)
	r.topic("t", 1)
	commit := func(group string, metadata string) wire.Code {
		t.Helper()
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Offset, rp.Metadata = 1, &metadata
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.Topics = group, -1, append(req.Topics, rt)
		return ask[*kmsg.OffsetCommitResponse](r, 7, req).Topics[0].Partitions[0].ErrorCode
	}
	much := strings.Repeat("m", 4096)
	in := 0
	for in < 200 && commit(fmt.Sprint("group", in), much) == wire.None {
		in++
	}
	if n := r.co.budget.groups(); in < 50 || in > 64 || n != int64(in*len(much)) {
		t.Fatalf("%d groups have metadata, which counts as %d bytes of 256 KiB", in, n)
	}
	for _, c := range []struct {
		group, metadata string
		want            wire.Code
	}{
		{"another", much, wire.OffsetMetadataTooLarge}, {"another", "", wire.None}, {"group0", much, wire.None},
		{"group0", "", wire.None}, {"another", much[:2048], wire.None},
	} {
		if code := commit(c.group, c.metadata); code != c.want {
			t.Errorf("%d bytes for %s: %v, want %v", len(c.metadata), c.group, code, c.want)
		}
	}
	before := r.co.budget.groups()
	r.close()
	r = openRoom(t, fs, opt, nil)
	if n := r.co.budget.groups(); n != before {
		t.Errorf("%d bytes after a restart, %d before", n, before)
	}
	req := kmsg.NewPtrDeleteGroupsRequest()
	for i := range in {
		req.Groups = append(req.Groups, fmt.Sprint("group", i))
	}
	req.Groups = append(req.Groups, "another")
	ask[*kmsg.DeleteGroupsResponse](r, 1, req)
	if n := r.co.budget.groups(); n != 0 {
		t.Errorf("%d bytes when all groups are deleted", n)
	}
}

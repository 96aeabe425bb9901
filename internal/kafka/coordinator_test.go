package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupRoom is a coordinator on a real store, asked as a client asks: through the bytes of the
// protocol.
type groupRoom struct {
	t     *testing.T
	store *store.Store
	co    *coordinator
	apis  table
	run   func()
	close func()

	broken bool // the disk fails: closing the store does so too
}

// openRoom opens a coordinator and lets it run; tune may change it before.
func openRoom(t *testing.T, fs vfs.FS, opt Options, tune func(*coordinator)) *groupRoom {
	t.Helper()
	r := openHeldRoom(t, fs, opt, tune)
	r.run()
	return r
}

// openHeldRoom opens a coordinator that writes nothing before run.
func openHeldRoom(t *testing.T, fs vfs.FS, opt Options, tune func(*coordinator)) *groupRoom {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if opt.Logger == nil {
		opt.Logger = logtest.New(t)
	}
	s, err := store.Open(ctx, store.Options{FS: fs, JournalBytes: 256 << 10, Logger: opt.Logger})
	if err != nil {
		t.Fatal(err)
	}
	co, err := openCoordinator(ctx, opt.withDefaults(), s, newTestBudget(cmp.Or(opt.HeldBytes, 64<<20), time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if tune != nil {
		tune(co)
	}
	co.txns = &transactions{} // nobody has any
	r := &groupRoom{t: t, store: s, co: co, apis: table{}}
	co.register(r.apis)
	ran := make(chan error, 1)
	r.run = sync.OnceFunc(func() { go func() { ran <- co.Run(ctx) }() })
	r.close = sync.OnceFunc(func() {
		r.run()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil && !r.broken {
			t.Error(err)
		}
	})
	t.Cleanup(r.close)
	return r
}

func (r *groupRoom) topic(name string, partitions int) *stream.Topic {
	r.t.Helper()
	topic, err := r.store.CreateTopic(context.Background(), stream.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		r.t.Fatal(err)
	}
	return topic
}

func testConn() *conn {
	return &conn{principal: Anonymous, clientID: "test", host: "/127.0.0.1", told: address{"127.0.0.1", 9092}}
}

// answerOf has an API answer a request, and waits for it where it comes later.
func answerOf(ctx context.Context, api *served, req kmsg.Request) (kmsg.Response, error) {
	if api.later == nil {
		return api.handle(ctx, testConn(), req)
	}
	told := make(chan kmsg.Response, 1)
	api.later(context.Background(), testConn(), req, func(resp kmsg.Response) { told <- resp })
	select {
	case resp := <-told:
		return resp, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask sends one request in one version, as bytes both ways.
func ask[R kmsg.Response](r *groupRoom, version int16, req kmsg.Request) R {
	r.t.Helper()
	resp, err := tryAsk[R](context.Background(), r, version, req)
	if err != nil {
		r.t.Fatalf("%T version %d: %v", req, version, err)
	}
	return resp
}

func tryAsk[R kmsg.Response](ctx context.Context, r *groupRoom, version int16, req kmsg.Request) (R, error) {
	var none R
	req.SetVersion(version)
	sent := kmsg.RequestForKey(req.Key())
	sent.SetVersion(version)
	if err := sent.ReadFrom(req.AppendTo(nil)); err != nil {
		return none, err
	}
	got, err := answerOf(ctx, r.apis[req.Key()], sent)
	if err != nil {
		return none, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if err := resp.ReadFrom(got.AppendTo(nil)); err != nil {
		return none, err
	}
	return resp.(R), nil
}

// member is a client in a group, at one version of everything, bounded by what each API has.
type member struct {
	r          *groupRoom
	group, id  string
	instance   *string
	generation int32
	level      int16
	leads      bool
	others     []string
}

func (m *member) version(key int16) int16 {
	api := wire.Find(key)
	return min(max(m.level, api.Min), api.Max)
}

// join joins until it is in a generation. It reports the last code if that does not come to be.
func (m *member) join() wire.Code {
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.InstanceID, req.ProtocolType = m.group, m.id, m.instance, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
		meta := kmsg.ConsumerMemberMetadata{Version: 0, Topics: []string{"t"}}
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: meta.AppendTo(nil)}}
		resp := ask[*kmsg.JoinGroupResponse](m.r, m.version(wire.JoinGroup), req)
		m.id = resp.MemberID
		switch resp.ErrorCode {
		case wire.MemberIDRequired:
			continue
		case wire.None:
			m.generation, m.leads, m.others = resp.Generation, resp.LeaderID == resp.MemberID, nil
			for _, o := range resp.Members {
				m.others = append(m.others, o.MemberID)
			}
			if v := m.version(wire.JoinGroup); v >= 7 && (resp.ProtocolType == nil || *resp.ProtocolType != "consumer") {
				m.r.t.Errorf("version %d: no protocol type", v)
			}
		}
		return resp.ErrorCode
	}
}

// sync gives every member its own id as assignment, if it leads, and returns what it gets.
func (m *member) sync() (wire.Code, string) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, m.id, m.instance, m.generation
	req.ProtocolType, req.Protocol = new("consumer"), new("range")
	if m.leads {
		for _, id := range m.others {
			a := kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(id)}
			req.GroupAssignment = append(req.GroupAssignment, a)
		}
	}
	resp := ask[*kmsg.SyncGroupResponse](m.r, m.version(wire.SyncGroup), req)
	return resp.ErrorCode, string(resp.MemberAssignment)
}

func (m *member) heartbeat() wire.Code {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, m.id, m.instance, m.generation
	return ask[*kmsg.HeartbeatResponse](m.r, m.version(wire.Heartbeat), req).ErrorCode
}

// commit commits offset at of partition 0 of topic t.
func (m *member) commit(at int64, metadata string) wire.Code {
	v := m.version(wire.OffsetCommit)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, m.id, m.instance, m.generation
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "t"
	if known := m.r.store.Topics().ByName("t"); known != nil {
		t.TopicID = known.ID
	}
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch, p.Metadata = at, 1, &metadata
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := ask[*kmsg.OffsetCommitResponse](m.r, v, req)
	return resp.Topics[0].Partitions[0].ErrorCode
}

// committed fetches the offset of partition 0 of topic t, or of all topics, in the form of the version.
func (m *member) committed(all bool) (at int64, epoch int32, metadata string, code wire.Code) {
	v := m.version(wire.OffsetFetch)
	req := kmsg.NewPtrOffsetFetchRequest()
	if v >= 8 {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = m.group
		if !all {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic, t.Partitions = "t", []int32{0}
			if known := m.r.store.Topics().ByName("t"); known != nil {
				t.TopicID = known.ID
			}
			g.Topics = append(g.Topics, t)
		}
		req.Groups = append(req.Groups, g)
		resp := ask[*kmsg.OffsetFetchResponse](m.r, v, req).Groups[0]
		if resp.ErrorCode != wire.None || len(resp.Topics) == 0 {
			return -1, -1, "", resp.ErrorCode
		}
		p := resp.Topics[0].Partitions[0]
		return p.Offset, p.LeaderEpoch, wire.Plain(p.Metadata), p.ErrorCode
	}
	req.Group = m.group
	if !all || v < 2 {
		req.Topics = append(req.Topics, kmsg.OffsetFetchRequestTopic{Topic: "t", Partitions: []int32{0}})
	}
	resp := ask[*kmsg.OffsetFetchResponse](m.r, v, req)
	if resp.ErrorCode != wire.None || len(resp.Topics) == 0 {
		return -1, -1, "", resp.ErrorCode
	}
	p := resp.Topics[0].Partitions[0]
	return p.Offset, p.LeaderEpoch, wire.Plain(p.Metadata), p.ErrorCode
}

func (m *member) leave() wire.Code {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.group, m.id
	one := kmsg.LeaveGroupRequestMember{MemberID: m.id, InstanceID: m.instance, Reason: new("the test is over")}
	req.Members = append(req.Members, one)
	v := m.version(wire.LeaveGroup)
	resp := ask[*kmsg.LeaveGroupResponse](m.r, v, req)
	if v >= 3 && resp.ErrorCode == wire.None {
		return resp.Members[0].ErrorCode
	}
	return resp.ErrorCode
}

func (m *member) describe() kmsg.DescribeGroupsResponseGroup {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{m.group}, true
	return ask[*kmsg.DescribeGroupsResponse](m.r, m.version(wire.DescribeGroups), req).Groups[0]
}

func (m *member) deleteGroup() wire.Code {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{m.group}
	return ask[*kmsg.DeleteGroupsResponse](m.r, m.version(wire.DeleteGroups), req).Groups[0].ErrorCode
}

// must checks a code.
func must(t *testing.T, what string, got, want wire.Code) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: code %d, want %d", what, got, want)
	}
}

// enterGroup brings members into one stable generation: each goes its own way, as clients do, and joins
// again whenever a heartbeat says so.
func enterGroup(t *testing.T, ms ...*member) {
	t.Helper()
	var mu sync.Mutex
	in := map[*member]int32{} // the generation that a member is well in
	together := func(m *member, generation int32) bool {
		mu.Lock()
		defer mu.Unlock()
		in[m] = generation
		for _, o := range ms {
			if in[o] != in[m] || generation < 0 {
				return false
			}
		}
		return true
	}
	var done atomic.Bool
	time.AfterFunc(time.Minute, func() { done.Store(true) })
	var wg sync.WaitGroup
	for _, m := range ms {
		m.group, in[m] = ms[0].group, -1
	}
	for _, m := range ms {
		wg.Go(func() {
			for synced := false; !done.Load(); {
				if synced && m.heartbeat() == wire.None {
					if together(m, m.generation) {
						done.Store(true)
					}
					time.Sleep(time.Millisecond) // between two heartbeats
					continue
				}
				together(m, -1)
				code := m.join()
				if code == wire.None {
					code, _ = m.sync()
				}
				synced = code == wire.None
			}
		})
	}
	wg.Wait()
	for _, m := range ms {
		if in[m] != in[ms[0]] || in[m] < 0 {
			t.Fatalf("the members did not get into one generation: %v", in)
		}
	}
}

// TestEveryVersion plays one member's life at every version of every group API.
//
// [Kafka-FindCoordinator] [Kafka-JoinGroup] [Kafka-SyncGroup] [Kafka-Heartbeat] [Kafka-LeaveGroup]
// [Kafka-OffsetCommit] [Kafka-OffsetFetch] [Kafka-DescribeGroups] [Kafka-ListGroups] [Kafka-DeleteGroups].
func TestEveryVersion(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	for level := int16(0); level <= 10; level++ {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			m := &member{r: r, group: fmt.Sprintf("group-%d", level), level: level}
			playLife(t, m)
		})
	}
}

func playLife(t *testing.T, m *member) {
	must(t, "find coordinator", findCode(m, 0), wire.None)
	if m.level >= 1 {
		must(t, "find a transaction's", findCode(m, 1), wire.None)
		must(t, "find a share group's", findCode(m, 2), wire.InvalidRequest)
	}
	must(t, "join", m.join(), wire.None)
	if !m.leads || !slices.Contains(m.others, m.id) {
		t.Fatalf("alone, and not the leader of itself: %+v", m)
	}
	must(t, "commit before sync", m.commit(1, ""), wire.RebalanceInProgress)
	code, assignment := m.sync()
	must(t, "sync", code, wire.None)
	if assignment != m.id {
		t.Fatalf("assignment %q, want %q", assignment, m.id)
	}
	must(t, "heartbeat", m.heartbeat(), wire.None)
	must(t, "commit", m.commit(42, "note"), wire.None)
	for _, all := range []bool{false, true} {
		at, epoch, metadata, code := m.committed(all)
		must(t, "fetch offsets", code, wire.None)
		wantEpoch := int32(-1)
		if m.version(wire.OffsetCommit) >= 6 && m.version(wire.OffsetFetch) >= 5 {
			wantEpoch = 1
		}
		if at != 42 || metadata != "note" || epoch != wantEpoch {
			t.Fatalf("committed 42 %q in epoch %d, fetched %d %q in epoch %d", "note", wantEpoch, at, metadata, epoch)
		}
	}
	d := m.describe()
	if d.State != "Stable" || d.Protocol != "range" || len(d.Members) != 1 ||
		string(d.Members[0].MemberAssignment) != m.id ||
		d.Members[0].ClientID != "test" || d.Members[0].ClientHost != "/127.0.0.1" {
		t.Fatalf("described as %+v", d)
	}
	if m.version(wire.DescribeGroups) >= 3 && d.AuthorizedOperations != 1<<OpRead|1<<OpDelete|1<<OpDescribe {
		t.Fatalf("authorized operations %b", d.AuthorizedOperations)
	}
	if got := listed(m, nil); got == nil {
		t.Fatal("the group is not listed")
	}
	if v := m.version(wire.ListGroups); v >= 4 &&
		(listed(m, []string{"stable"}).GroupState != "Stable" || listed(m, []string{"Empty"}) != nil) {
		t.Fatal("the filter by state does not work")
	}
	must(t, "delete while there is a member", m.deleteGroup(), wire.NonEmptyGroup)
	must(t, "leave", m.leave(), wire.None)
	must(t, "heartbeat after leaving", m.heartbeat(), wire.UnknownMemberID)
	must(t, "delete", m.deleteGroup(), wire.None)
	must(t, "delete twice", m.deleteGroup(), wire.GroupIDNotFound)
	if at, _, _, code := m.committed(false); at != -1 || code != wire.None {
		t.Fatalf("a deleted group has offset %d, code %d", at, code)
	}
	d = m.describe()
	if d.State != "Dead" || (m.version(wire.DescribeGroups) >= 6) != (d.ErrorCode == wire.GroupIDNotFound) {
		t.Fatalf("a deleted group is described as %+v", d)
	}
}

func findCode(m *member, kind int8) wire.Code {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys, req.CoordinatorType = m.group, []string{m.group}, kind
	v := m.version(wire.FindCoordinator)
	resp := ask[*kmsg.FindCoordinatorResponse](m.r, v, req)
	host, port, code := resp.Host, resp.Port, resp.ErrorCode
	if v >= 4 {
		one := resp.Coordinators[0]
		host, port, code = one.Host, one.Port, one.ErrorCode
	}
	if code == wire.None && (host != "127.0.0.1" || port != 9092) {
		m.r.t.Errorf("version %d: coordinator at %s:%d", v, host, port)
	}
	return code
}

func listed(m *member, states []string) *kmsg.ListGroupsResponseGroup {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter = states
	if m.level >= 5 {
		req.TypesFilter = []string{"Classic"}
	}
	resp := ask[*kmsg.ListGroupsResponse](m.r, m.version(wire.ListGroups), req)
	for i := range resp.Groups {
		if resp.Groups[i].Group == m.group {
			return &resp.Groups[i]
		}
	}
	return nil
}

// [Kafka-ListGroups].
func TestListGroupsByType(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 10, generation: -1}
	must(t, "commit", m.commit(1, ""), wire.None)
	req := kmsg.NewPtrListGroupsRequest()
	req.TypesFilter = []string{"consumer"}
	if resp := ask[*kmsg.ListGroupsResponse](r, 5, req); len(resp.Groups) != 0 {
		t.Errorf("a classic group is listed as %+v", resp.Groups)
	}
}

// Several members at once, as their clients race: they end in one generation, each with its own part.
func TestManyMembers(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	var ms []*member
	for i := range 8 {
		ms = append(ms, &member{r: r, group: "g", level: int16(3 + i%6)})
	}
	enterGroup(t, ms...)
	for _, m := range ms {
		if code, part := m.sync(); code != wire.None || part != m.id {
			t.Errorf("%s: code %d, assignment %q", m.id, code, part)
		}
	}
	must(t, "leave", ms[3].leave(), wire.None)
	must(t, "heartbeat", ms[0].heartbeat(), wire.RebalanceInProgress)
	enterGroup(t, slices.Delete(ms, 3, 4)...)
}

// [Kafka-OffsetCommit].
func TestCommitIsChecked(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9}
	enterGroup(t, m)
	outsider := &member{r: r, group: "g", level: 9, generation: -1}
	late := &member{r: r, group: "g", level: 9, id: m.id, generation: m.generation - 1}
	stranger := &member{r: r, group: "g", level: 9, id: "stranger", generation: m.generation}
	gone := &member{r: r, group: "no such group", level: 9, id: "x", generation: 3}
	must(t, "outsider", outsider.commit(1, ""), wire.UnknownMemberID)
	must(t, "late", late.commit(1, ""), wire.IllegalGeneration)
	must(t, "stranger", stranger.commit(1, ""), wire.UnknownMemberID)
	must(t, "of a group that was", gone.commit(1, ""), wire.GroupIDNotFound)
	gone.level = 8
	must(t, "of a group that was, by an older client", gone.commit(1, ""), wire.IllegalGeneration)
	must(t, "too much metadata", m.commit(1, strings.Repeat("x", 4097)), wire.OffsetMetadataTooLarge)
	must(t, "metadata", m.commit(1, strings.Repeat("x", 4096)), wire.None)
	must(t, "beyond the log end", m.commit(1<<40, ""), wire.None)
	must(t, "back", m.commit(0, ""), wire.None)
	if listed(gone, nil) != nil {
		t.Error("a commit that was refused made a group")
	}
	bad := kmsg.NewPtrOffsetCommitRequest()
	bad.Group, bad.Generation = "g2", -1
	bad.Topics = []kmsg.OffsetCommitRequestTopic{
		{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{
			{Partition: 0, Offset: 5}, {Partition: 1, Offset: 5}, {Partition: -1},
		}},
		{Topic: "nowhere", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 0, Offset: 5}}},
	}
	resp := ask[*kmsg.OffsetCommitResponse](r, 9, bad)
	must(t, "good", resp.Topics[0].Partitions[0].ErrorCode, wire.None)
	must(t, "no such partition", resp.Topics[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition)
	must(t, "negative partition", resp.Topics[0].Partitions[2].ErrorCode, wire.UnknownTopicOrPartition)
	must(t, "no such topic", resp.Topics[1].Partitions[0].ErrorCode, wire.UnknownTopicOrPartition)
	bad.Topics = bad.Topics[:1]
	bad.Topics[0].TopicID = [16]byte{1, 2, 3}
	resp = ask[*kmsg.OffsetCommitResponse](r, 10, bad)
	must(t, "no such topic id", resp.Topics[0].Partitions[0].ErrorCode, wire.UnknownTopicID)
}

func TestNamesOfGroups(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	nameless := &member{r: r, level: 9, generation: -1}
	must(t, "join", nameless.join(), wire.InvalidGroupID)
	must(t, "heartbeat", nameless.heartbeat(), wire.InvalidGroupID)
	must(t, "leave", nameless.leave(), wire.InvalidGroupID)
	code, _ := nameless.sync()
	must(t, "sync", code, wire.InvalidGroupID)
	must(t, "commit, which Kafka allows", nameless.commit(1, ""), wire.None)
	long := &member{r: r, level: 9, generation: -1, group: strings.Repeat("g", maxGroupName+1)}
	must(t, "join", long.join(), wire.InvalidGroupID)
	must(t, "commit", long.commit(1, ""), wire.InvalidGroupID)
}

func TestTooManyGroups(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, func(co *coordinator) { co.limits.MaxGroups = 1 })
	r.topic("t", 1)
	one, two := &member{r: r, group: "1", level: 9, generation: -1}, &member{r: r, group: "2", level: 9, generation: -1}
	must(t, "first", one.commit(1, ""), wire.None)
	must(t, "second commits", two.commit(1, ""), wire.CoordinatorNotAvailable)
	must(t, "second joins", two.join(), wire.CoordinatorNotAvailable)
	must(t, "delete", one.deleteGroup(), wire.None)
	must(t, "second commits", two.commit(1, ""), wire.None)
}

// commitOf asks to commit one offset.
func commitOf(topic string, partition int32, at int64) []kmsg.OffsetCommitRequestTopic {
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, at
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.OffsetCommitRequestTopicPartition{p}
	return []kmsg.OffsetCommitRequestTopic{t}
}

// A request that fails leaves nothing behind: no group, no memory.
func TestFailedJoinLeavesNoGroup(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.ProtocolType = "g", 1, "consumer"
	must(t, "join", ask[*kmsg.JoinGroupResponse](r, 9, req).ErrorCode, wire.InvalidSessionTimeout)
	if n := len(r.co.owned()); n != 0 {
		t.Errorf("%d groups", n)
	}
}

// The clock ends sessions: a member that is silent is out, and its group goes on without it.
func TestSilentMemberIsOut(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, func(co *coordinator) {
		co.setTimes(GroupTimes{MinSession: time.Millisecond}.withDefaults())
		co.look = time.Hour // only the alarm of the group tells the time
	})
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 50, 50, "consumer"
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	must(t, "join", ask[*kmsg.JoinGroupResponse](r, 3, req).ErrorCode, wire.None)
	m := &member{r: r, group: "g", level: 6}
	eventually(t, "the group is empty", func() bool { return m.describe().State == "Empty" })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks at a condition
	}
}

// A join that blocks ends with its connection, and with the door.
func TestBlockedJoinEnds(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	m := &member{r: r, group: "g", level: 3}
	enterGroup(t, m)
	join := func(ctx context.Context) error {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 10_000, 10_000, "consumer"
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		_, err := tryAsk[*kmsg.JoinGroupResponse](ctx, r, 3, req)
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() { gone <- join(ctx) }()
	eventually(t, "the newcomer waits", func() bool { return len(m.describe().Members) == 2 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the join ended with %v", err)
	}
	if n := len(m.describe().Members); n != 1 {
		t.Errorf("%d members after one never learned its id and went away", n)
	}
	go func() { gone <- join(context.Background()) }()
	eventually(t, "the newcomer waits", func() bool { return len(m.describe().Members) == 2 })
	r.close()
	if err := <-gone; err == nil {
		t.Error("the join went on without a door")
	}
}

// noGuard denies what is listed, as "operation name".
type noGuard map[string]bool

func (g noGuard) may(_ string, op Operation, _ Resource, name string) bool {
	return !g[fmt.Sprintf("%d %s", op, name)]
}

func TestGuardIsAsked(t *testing.T) {
	guard := noGuard{
		"3 secret": true, "8 secret": true, "7 secret": true, "6 secret": true,
		"8 " + ClusterResource: true, "3 closed": true, "8 closed": true,
	}
	r := openRoom(t, vfs.NewMemory(), Options{Guard: judges{guard}}, nil)
	r.topic("t", 1)
	r.topic("closed", 1)
	m := &member{r: r, group: "secret", level: 9, generation: -1}
	denied := wire.GroupAuthorizationFailed
	must(t, "join", m.join(), denied)
	code, _ := m.sync()
	must(t, "sync", code, denied)
	must(t, "heartbeat", m.heartbeat(), denied)
	must(t, "leave", m.leave(), denied)
	must(t, "commit", m.commit(1, ""), denied)
	_, _, _, code = m.committed(false)
	must(t, "fetch", code, denied)
	must(t, "find", findCode(m, 0), denied)
	must(t, "describe", m.describe().ErrorCode, denied)
	must(t, "delete", m.deleteGroup(), denied)
	m.group = "open"
	must(t, "commit", m.commit(7, ""), wire.None)
	m.group = "secret"
	if listed(m, nil) != nil {
		t.Error("a group that may not be seen is listed")
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "open", -1
	req.Topics = commitOf("closed", 0, 1)
	resp := ask[*kmsg.OffsetCommitResponse](r, 9, req)
	must(t, "a topic that may not be read", resp.Topics[0].Partitions[0].ErrorCode, wire.TopicAuthorizationFailed)
}

func TestLagGauge(t *testing.T) {
	set := telemetry.New()
	r := openRoom(t, vfs.NewMemory(), Options{Metrics: set}, func(co *coordinator) { co.look = time.Millisecond })
	topic := r.topic("t", 1)
	for i := range 10 {
		rec := record.Record{Timestamp: 1_000_000 * int64(i), Value: []byte("x")}
		done := make(receiptChan, 1)
		if err := streamtest.Append(r.store, done, stream.Write{Partition: topic.Partitions[0], Record: &rec}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	m := &member{r: r, group: "g", level: 9, generation: -1}
	must(t, "commit", m.commit(4, ""), wire.None)
	eventually(t, "the lag is 6", func() bool {
		return strings.Contains(exposition(t, set), `firth_consumer_group_lag_records{group="g",topic="t"} 6`)
	})
	age := func() float64 {
		_, rest, _ := strings.Cut(exposition(t, set), `firth_consumer_group_lag_seconds{group="g",topic="t"} `)
		seconds, err := strconv.ParseFloat(strings.SplitN(rest, "\n", 2)[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	if got, want := age(), float64(r.co.wall())/1000-4_000; got > want || got < want-60 {
		t.Errorf("the record at 4 is %.0f s old, told %.0f", want, got)
	}
	must(t, "commit", m.commit(10, ""), wire.None)
	eventually(t, "nothing is behind", func() bool { return age() == 0 })
}

type receiptChan chan error

func (c receiptChan) Appended(_ uint64, _ stream.Placed, err error) { c <- err }

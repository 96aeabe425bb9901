package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumer is a member of a consumer group, as a client of the consumer protocol is one: it gives up at once what it is
// told to.
type consumer struct {
	r        *groupRoom
	group    string
	id       string
	instance *string
	epoch    int32
	assigned []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic
}

// request is the next heartbeat of the member.
func (m *consumer) request() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = m.group, m.id, m.epoch, m.instance
	req.RebalanceTimeoutMillis = -1
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if m.epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, []string{"t"}
		return req
	}
	for _, t := range m.assigned {
		req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
	}
	return req
}

func (m *consumer) send(req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	m.r.t.Helper()
	resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](m.r, 1, req)
	if resp.ErrorCode == wire.None {
		m.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			m.assigned = resp.Assignment.Topics
		}
	}
	return resp
}

func (m *consumer) beat() wire.Code { m.r.t.Helper(); return m.send(m.request()).ErrorCode }

// partitions is how many the member has.
func (m *consumer) partitions() (n int) {
	for _, t := range m.assigned {
		n += len(t.Partitions)
	}
	return n
}

// settleConsumers has members heard of until each has its share of so many partitions.
func settleConsumers(t *testing.T, partitions int, ms ...*consumer) {
	t.Helper()
	until(t, "each member has its share", func() bool {
		total := 0
		for _, m := range ms {
			must(t, "heartbeat of "+m.id, m.beat(), wire.None)
			total += m.partitions()
		}
		return total == partitions && !slices.ContainsFunc(ms, func(m *consumer) bool {
			return m.partitions() < partitions/len(ms)
		})
	})
}

// What is wrong with a heartbeat by itself, and what is wrong with it for its group. [Kafka-ConsumerGroupHeartbeat].
func TestConsumerGroupHeartbeatIsChecked(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 2)
	type request = kmsg.ConsumerGroupHeartbeatRequest
	for what, c := range map[string]struct {
		change func(*request)
		want   wire.Code
	}{
		"no group":               {func(q *request) { q.Group = "" }, wire.InvalidRequest},
		"no member":              {func(q *request) { q.MemberID = "" }, wire.InvalidRequest},
		"an empty instance":      {func(q *request) { q.InstanceID = new("") }, wire.InvalidRequest},
		"an empty rack":          {func(q *request) { q.RackID = new("") }, wire.InvalidRequest},
		"an epoch below -2":      {func(q *request) { q.MemberEpoch = -3 }, wire.InvalidRequest},
		"-2 without an instance": {func(q *request) { q.MemberEpoch = -2 }, wire.InvalidRequest},
		"no rebalance timeout":   {func(q *request) { q.RebalanceTimeoutMillis = -1 }, wire.InvalidRequest},
		"no owned partitions":    {func(q *request) { q.Topics = nil }, wire.InvalidRequest},
		"partitions of a joiner": {func(q *request) {
			q.Topics = append(q.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{})
		}, wire.InvalidRequest},
		"no subscription":        {func(q *request) { q.SubscribedTopicNames = nil }, wire.InvalidRequest},
		"no such assignor":       {func(q *request) { q.ServerAssignor = new("sticky") }, wire.UnsupportedAssignor},
		"no regular expression":  {func(q *request) { q.SubscribedTopicRegex = new("(") }, wire.InvalidRegularExpression},
		"no such group":          {func(q *request) { q.MemberEpoch = 1 }, wire.GroupIDNotFound},
		"leaves no such group":   {func(q *request) { q.MemberEpoch = -1 }, wire.GroupIDNotFound},
		"a long name of a group": {func(q *request) { q.Group = string(make([]byte, 2000)) }, wire.InvalidGroupID},
	} {
		m := &consumer{r: r, group: "nobody's", id: "a"}
		req := m.request()
		c.change(req)
		if resp := m.send(req); resp.ErrorCode != c.want {
			t.Errorf("%s: code %d (%s), want %d", what, resp.ErrorCode, wire.Plain(resp.ErrorMessage), c.want)
		}
	}
	if all := r.co.owned(); len(all) != 0 {
		t.Errorf("requests that were refused made %d groups", len(all))
	}
	a, b := &consumer{r: r, group: "g", id: "a"}, &consumer{r: r, group: "g", id: "b"}
	settleConsumers(t, 2, a, b)
	late, stranger := *a, *b
	late.epoch, stranger.id = 99, "c"
	must(t, "of another epoch", late.beat(), wire.FencedMemberEpoch)
	must(t, "a stranger", stranger.beat(), wire.UnknownMemberID)
	old := (&consumer{r: r, group: "g"}).request()
	if resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](r, 0, old); resp.ErrorCode != wire.None ||
		wire.Plain(resp.MemberID) == "" || resp.HeartbeatIntervalMillis != 500 {
		t.Errorf("a client of version 0 is given an id and an interval: %+v", resp)
	}
}

func TestBeatInterval(t *testing.T) {
	const long = 5 * time.Second
	for _, c := range []struct {
		interval time.Duration
		answer   group.BeatAnswer
		want     time.Duration
	}{
		{long, group.BeatAnswer{Members: 2, Quiet: 5000}, long},
		{long, group.BeatAnswer{Members: 2, Quiet: 4999}, 500 * time.Millisecond},
		{long, group.BeatAnswer{Members: 2, Quiet: 1 << 40, Waits: true}, 500 * time.Millisecond},
		{long, group.BeatAnswer{Members: 1000}, time.Second},
		{long, group.BeatAnswer{Members: 9000}, long},
		{50 * time.Millisecond, group.BeatAnswer{Members: 2}, 5 * time.Millisecond},
	} {
		if got := beatInterval(c.interval, &c.answer); got != c.want {
			t.Errorf("each %v, %+v: %v, want %v", c.interval, c.answer, got, c.want)
		}
	}
}

// The administration of a consumer group, and of a classic one beside it. [Kafka-ConsumerGroupDescribe].
func TestConsumerGroupAdministration(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 4)
	a, b := &consumer{r: r, group: "g", id: "a", instance: new("i")}, &consumer{r: r, group: "g", id: "b"}
	settleConsumers(t, 4, a, b)
	enterGroup(t, &member{r: r, group: "classic", level: 9})

	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Groups, describe.IncludeAuthorizedOperations = []string{"g", "classic", "nosuch"}, true
	all := ask[*kmsg.ConsumerGroupDescribeResponse](r, 1, describe).Groups
	must(t, "a classic group", all[1].ErrorCode, wire.GroupIDNotFound)
	must(t, "no group", all[2].ErrorCode, wire.GroupIDNotFound)
	g := all[0]
	if g.State != "Stable" || g.Epoch != g.AssignmentEpoch || g.AssignorName != "uniform" || len(g.Members) != 2 ||
		g.AuthorizedOperations <= 0 {
		t.Fatalf("described as %+v", g)
	}
	if m := g.Members[0]; m.MemberID != "a" || wire.Plain(m.InstanceID) != "i" || m.MemberEpoch != a.epoch ||
		m.MemberType != 1 || len(m.Assignment.TopicPartitions) != 1 || m.Assignment.TopicPartitions[0].Topic != "t" ||
		len(m.TargetAssignment.TopicPartitions[0].Partitions) != 2 || !slices.Equal(m.SubscribedTopics, []string{"t"}) {
		t.Errorf("a member is described as %+v", m)
	}
	old := kmsg.NewPtrDescribeGroupsRequest()
	old.Groups = []string{"g"}
	must(t, "described as a classic group", ask[*kmsg.DescribeGroupsResponse](r, 6, old).Groups[0].ErrorCode,
		wire.GroupIDNotFound)
	if g := ask[*kmsg.DescribeGroupsResponse](r, 5, old).Groups[0]; g.State != "Dead" || g.ErrorCode != wire.None {
		t.Errorf("described as a classic group by version 5: %+v", g)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.TypesFilter, list.StatesFilter = []string{"Consumer"}, []string{"stable"}
	if gs := ask[*kmsg.ListGroupsResponse](r, 5, list).Groups; len(gs) != 1 || gs[0].Group != "g" ||
		gs[0].GroupType != "consumer" || gs[0].ProtocolType != "consumer" {
		t.Errorf("listed: %+v", gs)
	}

	must(t, "commit", (&member{r: r, group: "g", id: "b", generation: b.epoch, level: 9}).commit(3, ""), wire.None)
	for what, c := range map[string]struct {
		m    member
		want wire.Code
	}{
		"commit in a stale epoch":            {member{id: "b", generation: b.epoch - 1, level: 9}, wire.StaleMemberEpoch},
		"commit by a version without epochs": {member{id: "b", generation: b.epoch, level: 8}, wire.UnsupportedVersion},
		"commit of an outsider":              {member{generation: -1, level: 9}, wire.UnknownMemberID},
	} {
		c.m.r, c.m.group = r, "g"
		must(t, what, c.m.commit(4, ""), c.want)
	}
	must(t, "commit in a transaction", r.co.mayCommitInTxn("g", group.Who{MemberID: "b"}, b.epoch, nil), wire.None)
	must(t, "commit in a transaction, in a stale epoch", r.co.mayCommitInTxn("g", group.Who{MemberID: "b"}, b.epoch-1,
		[]txn.Offset{{Topic: "t"}}), wire.IllegalGeneration)
	for id, want := range map[string]wire.Code{"b": wire.None, "x": wire.UnknownMemberID} {
		must(t, "fetch by "+id, fetchAs(r, id, b.epoch).ErrorCode, want)
	}
	must(t, "fetch in a stale epoch", fetchAs(r, "b", b.epoch-1).ErrorCode, wire.StaleMemberEpoch)

	must(t, "offsets of a topic in use", deleteOffset(r), wire.GroupSubscribedToTopic)
	must(t, "delete a group with members", deleteOf(r, "g"), wire.NonEmptyGroup)
	for _, m := range []*consumer{a, b} {
		m.epoch = group.LeaveEpoch
		must(t, "leave", m.beat(), wire.None)
	}
	must(t, "delete", deleteOf(r, "g"), wire.None)
	must(t, "delete again", deleteOf(r, "g"), wire.GroupIDNotFound)
}

// The guard is asked for the group, for every topic that is named or shown, and hides others from expressions.
func TestConsumerGroupAsksTheGuard(t *testing.T) {
	guard := noGuard{"3 secret": true, "8 secret": true}
	r := openRoom(t, vfs.NewMemory(), Options{Guard: judges{guard}}, nil)
	r.topic("t", 1)
	hidden := r.topic("t-hidden", 1)
	must(t, "heartbeat", (&consumer{r: r, group: "secret", id: "a"}).beat(), wire.GroupAuthorizationFailed)
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Groups = []string{"secret"}
	must(t, "describe", ask[*kmsg.ConsumerGroupDescribeResponse](r, 1, describe).Groups[0].ErrorCode,
		wire.GroupAuthorizationFailed)

	a := &consumer{r: r, group: "g", id: "a"}
	req := a.request()
	req.SubscribedTopicNames, req.SubscribedTopicRegex = nil, new("t.*")
	must(t, "heartbeat", a.send(req).ErrorCode, wire.None)
	if a.partitions() != 2 {
		t.Errorf("%d partitions of an expression, want 2", a.partitions())
	}
	guard["8 t-hidden"] = true
	describe.Groups = []string{"g"}
	g := ask[*kmsg.ConsumerGroupDescribeResponse](r, 1, describe).Groups[0]
	if g.ErrorCode != wire.TopicAuthorizationFailed || len(g.Members) != 0 {
		t.Errorf("a group with a topic that may not be seen is described as %+v", g)
	}
	b := &consumer{r: r, group: "other", id: "b"}
	req = b.request()
	req.SubscribedTopicNames, req.SubscribedTopicRegex = nil, new("t.*")
	must(t, "heartbeat", b.send(req).ErrorCode, wire.None)
	if b.partitions() != 1 || b.assigned[0].TopicID == hidden.ID {
		t.Errorf("of an expression it has %+v", b.assigned)
	}
	req = (&consumer{r: r, group: "named", id: "c"}).request()
	req.SubscribedTopicNames = []string{"t-hidden"}
	must(t, "a topic that may not be seen", b.send(req).ErrorCode, wire.TopicAuthorizationFailed)
}

func fetchAs(r *groupRoom, memberID string, epoch int32) kmsg.OffsetFetchResponseGroup {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberID, g.MemberEpoch = "g", &memberID, epoch
	req.Groups = append(req.Groups, g)
	return ask[*kmsg.OffsetFetchResponse](r, 9, req).Groups[0]
}

func deleteOffset(r *groupRoom) wire.Code {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = "g"
	req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
	return ask[*kmsg.OffsetDeleteResponse](r, 0, req).Topics[0].Partitions[0].ErrorCode
}

func deleteOf(r *groupRoom, id string) wire.Code {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{id}
	return ask[*kmsg.DeleteGroupsResponse](r, 2, req).Groups[0].ErrorCode
}

// A consumer group goes on after a restart: members, epochs, assignments, offsets; and after a power cut at any moment
// no partition is with two members.
func TestConsumerGroupSurvivesRestart(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 6)
	a, b := &consumer{r: r, group: "g", id: "a", instance: new("i")}, &consumer{r: r, group: "g", id: "b"}
	settleConsumers(t, 6, a, b)
	must(t, "commit", (&member{r: r, group: "g", id: "b", generation: b.epoch, level: 9}).commit(3, ""), wire.None)
	r.close()

	r = openRoom(t, fs, Options{}, nil)
	a.r, b.r = r, r
	epochs := [2]int32{a.epoch, b.epoch}
	must(t, "heartbeat", a.beat(), wire.None)
	must(t, "heartbeat", b.beat(), wire.None)
	if a.partitions() != 3 || b.partitions() != 3 || epochs != [2]int32{a.epoch, b.epoch} {
		t.Errorf("after a restart %+v and %+v", a, b)
	}
	c := &consumer{r: r, group: "g", id: "c"}
	settleConsumers(t, 6, a, b, c)
	for _, m := range []*consumer{a, b, c} {
		m.epoch = group.LeaveEpoch
		must(t, "leave", m.beat(), wire.None)
	}
	r.close()

	r = openRoom(t, fs, Options{}, nil)
	if g := r.co.enter("g", false); g == nil || !g.mu.g.IsEmpty() || groupType(g.mu.g) != "consumer" {
		t.Error("the group is not there any more")
	} else {
		r.co.release(g)
	}
	must(t, "delete", deleteOf(r, "g"), wire.None)
	r.close()
	r = openRoom(t, fs, Options{}, nil)
	if all := r.co.owned(); len(all) != 0 {
		t.Errorf("%d groups after it was deleted", len(all))
	}
}

// A group goes from the classic protocol to the consumer protocol and back while real clients of both read: every
// record is read, whoever joins and leaves.
//
// Long: one play from beginning to end.
func TestClientsMigrate(t *testing.T) {
	const partitions, each = 6, 50
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", partitions, each)
	setConsumerTimes(t, d)
	ctx := limited(t)
	var mu sync.Mutex
	seen := map[string]bool{}
	reader := func(opts ...kgo.Opt) (cl *kgo.Client, stop func()) {
		cl = d.member(append(opts, kgo.Balancers(kgo.CooperativeStickyBalancer()))...)
		reading, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			for reading.Err() == nil {
				cl.PollRecords(reading, 50).EachRecord(func(r *kgo.Record) {
					mu.Lock()
					seen[fmt.Sprint(r.Partition, "/", r.Offset)] = true
					mu.Unlock()
				})
				_ = cl.CommitUncommittedOffsets(reading) // it may be refused while partitions move
			}
		})
		return cl, func() { cancel(); wg.Wait(); cl.Close() }
	}
	adm := kadm.NewClient(d.client())
	stable := func(kind string, members int) {
		t.Helper()
		until(t, fmt.Sprintf("a stable group of type %s with %d members", kind, members), func() bool {
			all, err := adm.ListGroupsByType(ctx, []string{kind}, "Stable")
			if err != nil || len(all) != 1 {
				return false
			}
			if kind == "classic" {
				g, err := adm.DescribeGroups(ctx, "g")
				return err == nil && len(g["g"].Members) == members
			}
			g, err := adm.DescribeConsumerGroups(ctx, "g")
			return err == nil && len(g["g"].Members) == members
		})
	}
	_, stopA := reader()
	_, stopB := reader()
	stable("classic", 2)
	_, stopC := reader(kgo.ServerSideBalancer())
	stable("consumer", 3)
	stopA()
	_, stopD := reader(kgo.ServerSideBalancer())
	stable("consumer", 3)
	d.more("t", each)
	stopC()
	stopD()
	stable("classic", 1)
	until(t, "every record is read", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == 2*partitions*each
	})
	stopB()
}

// setConsumerTimes has consumers send heartbeats often, as a client may ask for.
func setConsumerTimes(t *testing.T, d *groupDoor) {
	t.Helper()
	adm := kadm.NewClient(d.client())
	_, err := adm.AlterBrokerConfigs(limited(t), []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "group.consumer.heartbeat.interval.ms", Value: new("50")},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
}

// Members of the consumer protocol share a topic; a partition that is added is theirs within a heartbeat or two.
func TestClientsShareAConsumerGroup(t *testing.T) {
	const partitions, each = 6, 20
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", partitions, each)
	setConsumerTimes(t, d)
	ctx := limited(t)
	read := make(chan int64, 1000)
	for range 3 {
		cl := d.member(kgo.ServerSideBalancer())
		go func() {
			for ctx.Err() == nil {
				fetches := cl.PollFetches(ctx)
				if fetches.IsClientClosed() {
					return
				}
				fetches.EachRecord(func(r *kgo.Record) { read <- r.Offset })
			}
		}()
	}
	for range partitions * each {
		<-read
	}
	if _, err := kadm.NewClient(d.client()).CreatePartitions(ctx, 3, "t"); err != nil {
		t.Fatal(err)
	}
	d.more("t", 1)
	for range partitions + 3 {
		select {
		case <-read:
		case <-time.After(time.Minute):
			t.Fatal("a partition that was added is read by nobody")
		}
	}
}

// more puts so many more records into each partition of a topic.
func (d *groupDoor) more(name string, each int) {
	d.t.Helper()
	d.put(d.store.Topics().ByName(name), each)
}

// A commit that was on its way when the epoch of its member grew counts, for partitions that the member has kept since;
// for others it does not (KIP-1251).
func TestCommitOfAnEarlierEpoch(t *testing.T) {
	disk := vfs.NewMemory()
	r := openRoom(t, disk, Options{}, nil)
	r.topic("t", 2)
	a, b := &consumer{r: r, group: "g", id: "a"}, &consumer{r: r, group: "g", id: "b"}
	settleConsumers(t, 2, a)
	early := a.epoch
	settleConsumers(t, 2, a, b)
	if a.epoch <= early || a.partitions() != 1 {
		t.Fatalf("%+v", a)
	}
	kept := a.assigned[0].Partitions[0]
	commit := func(m *consumer, epoch, partition int32) wire.Code {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation, req.Topics = "g", m.id, epoch, commitOf("t", partition, 5)
		return ask[*kmsg.OffsetCommitResponse](r, 9, req).Topics[0].Partitions[0].ErrorCode
	}
	for range 2 {
		must(t, "kept", commit(a, early, kept), wire.None)
		must(t, "given away", commit(a, early, 1-kept), wire.StaleMemberEpoch)
		must(t, "before it came", commit(a, early-1, kept), wire.StaleMemberEpoch)
		must(t, "to come", commit(a, a.epoch+1, kept), wire.StaleMemberEpoch)
		must(t, "got", commit(b, b.epoch, 1-kept), wire.None)
		must(t, "before it got it", commit(b, early, 1-kept), wire.StaleMemberEpoch)
		in := []txn.Offset{{Topic: "t", TopicID: a.assigned[0].TopicID, Index: kept}}
		who := group.Who{MemberID: "a"}
		must(t, "in a transaction", r.co.mayCommitInTxn("g", who, early, in), wire.None)
		in[0].Index = 1 - kept
		must(t, "in a transaction, given away", r.co.mayCommitInTxn("g", who, early, in), wire.IllegalGeneration)
		r.close()
		r = openRoom(t, disk, Options{}, nil)
		a.r, b.r = r, r
	}
}

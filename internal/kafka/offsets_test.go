package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func exposition(t *testing.T, set *telemetry.Set) string {
	t.Helper()
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// Committers of several groups commit rising offsets while the power is cut at random moments: what
// each was told is there after the restart, and never more than it asked for.
func TestCommittedOffsetsSurvivePowerCut(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { cutPower(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func cutPower(t *testing.T, rng *rand.Rand) {
	const committers = 4
	fs := vfs.NewMemory()
	var told, asked [committers]atomic.Int64
	for round := range 3 {
		r := openRoom(t, fs, Options{}, nil)
		if round == 0 {
			r.topic("t", 1)
		}
		for i := range committers {
			m := &member{r: r, group: fmt.Sprint("g", i), level: 9}
			at, _, _, code := m.committed(false)
			must(t, "fetch", code, wire.None)
			if at < told[i].Load()-1 || at > asked[i].Load() {
				t.Fatalf("round %d: group %d has offset %d; %d was acknowledged and %d asked for",
					round, i, at, told[i].Load()-1, asked[i].Load())
			}
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range committers {
			wg.Go(func() {
				m := &member{r: r, group: fmt.Sprint("g", i), level: int16(5 + i), generation: -1}
				for {
					select {
					case <-stop:
						return
					default:
					}
					next := asked[i].Add(1)
					if code := m.commit(next, "x"); code != wire.None {
						t.Errorf("commit: code %d", code)
						return
					}
					told[i].Store(next + 1)
				}
			})
		}
		eventually(t, "some commits are acknowledged", func() bool { return told[0].Load() > int64(20*(round+1)) })
		var before [committers]int64
		for i := range committers {
			before[i] = told[i].Load()
		}
		crashed := fs.CrashClone(rng)
		close(stop)
		wg.Wait()
		r.close()
		for i := range committers {
			told[i].Store(before[i]) // what the clone must have
		}
		fs = crashed
	}
}

// After a restart the members of a group go on where they were, without a rebalance, and so does what
// tools see of it.
func TestRestartKeepsGroups(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	a, b := &member{r: r, group: "g", level: 9}, &member{r: r, level: 9, instance: new("b")}
	enterGroup(t, a, b)
	must(t, "commit", a.commit(5, "m"), wire.None)
	simple := &member{r: r, group: "simple", level: 9, generation: -1}
	must(t, "commit", simple.commit(6, ""), wire.None)
	ended := &member{r: r, group: "ended", level: 9, generation: -1}
	must(t, "commit", ended.commit(6, ""), wire.None)
	must(t, "delete", ended.deleteGroup(), wire.None)
	r.close()

	r = openRoom(t, fs, Options{}, nil)
	for _, m := range []*member{a, b, simple, ended} {
		m.r = r
	}
	must(t, "dynamic member", a.heartbeat(), wire.None)
	must(t, "static member", b.heartbeat(), wire.None)
	for _, m := range []*member{a, b} {
		if code, part := m.sync(); code != wire.None || part != m.id {
			t.Errorf("assignment %q of %q, code %d", part, m.id, code)
		}
	}
	if d := a.describe(); d.State != "Stable" || len(d.Members) != 2 || d.Protocol != "range" {
		t.Errorf("described as %+v", d)
	}
	if at, epoch, metadata, _ := a.committed(false); at != 5 || metadata != "m" || epoch != 1 {
		t.Errorf("offset %d %q epoch %d", at, metadata, epoch)
	}
	if at, _, _, _ := simple.committed(true); at != 6 {
		t.Errorf("offset %d of a group without members", at)
	}
	if listed(ended, nil) != nil {
		t.Error("a deleted group came back")
	}
	must(t, "commit", a.commit(6, ""), wire.None)

	// A static member that comes back takes its place without a rebalance.
	b.id = ""
	must(t, "static member joins", b.join(), wire.None)
	must(t, "the other one", a.heartbeat(), wire.None)
}

// Deleting a topic takes its offsets with it; one made later with the same name starts without.
func TestTopicGoesWithItsOffsets(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	must(t, "commit", m.commit(9, ""), wire.None)
	if err := r.store.DeleteTopic(context.Background(), "t"); err != nil {
		t.Fatal(err)
	}
	r.topic("t", 1)
	for _, all := range []bool{false, true} {
		if at, _, _, code := m.committed(all); at != -1 || code != wire.None {
			t.Fatalf("offset %d of a topic that was deleted, code %d", at, code)
		}
	}
	eventually(t, "the group has gone with its only offset", func() bool { return listed(m, nil) == nil })
	r.close()
	m.r = openRoom(t, fs, Options{}, nil)
	if at, _, _, _ := m.committed(false); at != -1 {
		t.Fatalf("offset %d came back after a restart", at)
	}
}

// Offsets of a group without members expire; those of a group with members do not.
func TestOffsetsExpire(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	r := openRoom(t, vfs.NewMemory(), Options{}, func(co *coordinator) {
		co.now = now.Load
		co.limits.OffsetsRetention = time.Hour
		co.limits.SweepInterval = time.Millisecond
		co.look = time.Millisecond
	})
	r.topic("t", 1)
	empty := &member{r: r, group: "empty", level: 9, generation: -1}
	must(t, "commit", empty.commit(1, ""), wire.None)
	own := kmsg.NewPtrOffsetCommitRequest() // asks for a retention of its own
	own.Group, own.Generation, own.RetentionTimeMillis = "own", -1, 2*time.Hour.Milliseconds()
	own.Topics = commitOf("t", 0, 3)
	must(t, "commit", ask[*kmsg.OffsetCommitResponse](r, 3, own).Topics[0].Partitions[0].ErrorCode, wire.None)
	kept := &member{r: r, group: "kept", level: 9}
	enterGroup(t, kept)
	must(t, "commit", kept.commit(2, ""), wire.None)

	// An hour passes in steps that keep the member alive.
	for range 620 {
		now.Add(6_000)
		must(t, "heartbeat", kept.heartbeat(), wire.None)
	}
	eventually(t, "the empty group is gone", func() bool { return listed(empty, nil) == nil })
	if at, _, _, _ := kept.committed(false); at != 2 {
		t.Errorf("offset %d in a group that lives", at)
	}
	if listed(&member{r: r, group: "own", level: 9}, nil) == nil {
		t.Error("an offset went before the time it asked for")
	}
	eventually(t, "all groups are gone", func() bool {
		now.Add(time.Minute.Milliseconds())
		return len(r.co.owned()) == 0
	})
}

// [Kafka-OffsetDelete].
func TestOffsetDelete(t *testing.T) {
	r := openRoom(t, vfs.NewMemory(), Options{}, nil)
	r.topic("t", 1)
	r.topic("other", 2)
	ask2 := func(topic string, partition int32) (whole, one wire.Code) {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = "g"
		parts := []kmsg.OffsetDeleteRequestTopicPartition{{Partition: partition}}
		req.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: parts}}
		resp := ask[*kmsg.OffsetDeleteResponse](r, 0, req)
		if len(resp.Topics) == 1 {
			one = resp.Topics[0].Partitions[0].ErrorCode
		}
		return resp.ErrorCode, one
	}
	whole, _ := ask2("t", 0)
	must(t, "no group", whole, wire.GroupIDNotFound)
	outside := &member{r: r, group: "g", level: 9, generation: -1}
	must(t, "commit", outside.commit(1, ""), wire.None)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "g", -1
	req.Topics = commitOf("other", 1, 3)
	must(t, "commit", ask[*kmsg.OffsetCommitResponse](r, 9, req).Topics[0].Partitions[0].ErrorCode, wire.None)

	m := &member{r: r, group: "g", level: 9} // subscribes to t
	enterGroup(t, m)
	_, one := ask2("t", 0)
	must(t, "subscribed", one, wire.GroupSubscribedToTopic)
	_, one = ask2("other", 1)
	must(t, "not subscribed", one, wire.None)
	_, one = ask2("other", 7)
	must(t, "no such partition", one, wire.UnknownTopicOrPartition)
	must(t, "join", m.join(), wire.None) // the leader: the group gathers anew
	_, one = ask2("t", 0)
	must(t, "subscribed, while the group gathers", one, wire.GroupSubscribedToTopic)
	must(t, "leave", m.leave(), wire.None)
	_, one = ask2("t", 0)
	must(t, "of an empty group", one, wire.None)
	if at, _, _, _ := m.committed(true); at != -1 {
		t.Errorf("offset %d is still there", at)
	}
}

// When the disk fails, the commit is refused and the offset stays what it was.
func TestCommitIsRefusedWhenTheDiskFails(t *testing.T) {
	fs := vfs.NewMemory()
	faulty := vfs.NewFaulty(fs)
	r := openRoom(t, faulty, Options{Logger: logtest.New(t, "commit failed", "housekeeping of the log failed")}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	must(t, "commit", m.commit(1, ""), wire.None)
	faulty.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Kind: fault.IO})
	r.broken = true
	if code := m.commit(2, ""); code == wire.None {
		t.Fatal("a commit was acknowledged that is not on the disk")
	}
	if at, _, _, _ := m.committed(false); at != 1 {
		t.Fatalf("offset %d, want the one that was acknowledged", at)
	}
	r.close()
}

// What the topic holds is understood by Kafka's own definitions, and what is of another kind of group
// is left alone.
func TestTopicIsKafkas(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9}
	enterGroup(t, m)
	must(t, "commit", m.commit(7, "m"), wire.None)
	topic := r.store.Topics().ByName(offsetsTopic)
	if topic == nil || len(topic.Partitions) != 1 || topic.Config["cleanup.policy"] != "compact" {
		t.Fatalf("topic %+v", topic)
	}
	batches, err := r.store.Read(topic.Partitions[0], 0, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	var offset *kmsg.OffsetCommitValue
	var meta *kmsg.GroupMetadataValue
	for _, b := range batches {
		var it record.Iter
		var v record.View
		if err := it.Reset(b, &record.Scratch{}); err != nil {
			t.Fatal(err)
		}
		for it.Next(&v) {
			key, known, err := group.DecodeKey(v.Key)
			if err != nil || !known || key.Group != "g" {
				t.Fatalf("key %x: %+v, %v", v.Key, key, err)
			}
			if key.Topic == "" {
				meta = &kmsg.GroupMetadataValue{}
				err = meta.ReadFrom(v.Value)
			} else {
				offset = &kmsg.OffsetCommitValue{}
				err = offset.ReadFrom(v.Value)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if offset == nil || offset.Version != 3 || offset.Offset != 7 || offset.Metadata != "m" {
		t.Errorf("offset %+v", offset)
	}
	if meta == nil || meta.Version != 3 || len(meta.Members) != 1 ||
		meta.Members[0].MemberID != m.id || wire.Plain(meta.Leader) != m.id {
		t.Errorf("group %+v", meta)
	}
}

// A commit that is on its way when its group is deleted goes with it.
func TestDeleteTakesWhatFlies(t *testing.T) {
	fs := vfs.NewMemory()
	r := openHeldRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	flying := func() int {
		og := r.co.enter("g", false)
		if og == nil {
			return 0
		}
		defer r.co.release(og)
		return len(og.mu.flying)
	}
	codes := make(chan wire.Code, 2)
	go func() { codes <- m.commit(5, "") }()
	eventually(t, "the commit is on its way", func() bool { return flying() == 1 })
	go func() { codes <- m.deleteGroup() }()
	eventually(t, "the deletion is on its way", func() bool { return flying() == 2 })
	r.run()
	for range 2 {
		must(t, "commit and delete", <-codes, wire.None)
	}
	if n := len(r.co.owned()); n != 0 {
		t.Errorf("%d groups", n)
	}
	r.close()
	m.r = openRoom(t, fs, Options{}, nil)
	if at, _, _, _ := m.committed(false); at != -1 {
		t.Errorf("offset %d came back", at)
	}
}

// A group can be deleted while commits fly: nothing of it comes back.
func TestDeleteAgainstCommits(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	for range 30 {
		must(t, "commit", m.commit(1, ""), wire.None)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				o := &member{r: r, group: "g", level: 9, generation: -1}
				if code := o.commit(int64(i), ""); code != wire.None && code != wire.CoordinatorNotAvailable {
					t.Errorf("commit: code %d", code)
				}
			})
		}
		wg.Go(func() {
			if code := m.deleteGroup(); code != wire.None && code != wire.GroupIDNotFound {
				t.Errorf("delete: code %d", code)
			}
		})
		wg.Wait()
	}
	m.deleteGroup()
	want, _, _, _ := m.committed(false)
	r.close()
	m.r = openRoom(t, fs, Options{}, nil)
	if at, _, _, _ := m.committed(false); at != want || at != -1 {
		t.Errorf("offset %d after a restart, %d before, none expected", at, want)
	}
}

// Records of other kinds of group and of versions from the future are left alone, and so is rubbish.
func TestStrangeRecordsAreLeftAlone(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "g", level: 9, generation: -1}
	must(t, "commit", m.commit(7, ""), wire.None)
	// Compaction would take the record that is understood: the strange ones have the same key.
	change := stream.TopicChange{Set: map[string]string{"min.compaction.lag.ms": "3600000"}}
	if _, err := r.store.AlterTopic(t.Context(), offsetsTopic, change); err != nil {
		t.Fatal(err)
	}
	p := r.store.Topics().ByName(offsetsTopic).Partitions[0]
	key, err := (&group.Key{Group: "g", Topic: "t"}).AppendOffset(nil)
	if err != nil {
		t.Fatal(err)
	}
	groupKey, err := (&group.Key{Kind: group.KindClassic, Group: "g"}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []record.Record{
		{Key: nil, Value: []byte("x")}, {Key: []byte{0, 3, 0, 1, 'g'}, Value: []byte{1}}, {Key: []byte{0, 1, 9, 9}},
		{Key: key, Value: []byte{0, 99, 1, 2, 3}}, {Key: key, Value: []byte{0}}, {Key: groupKey, Value: []byte{0, 3, 127}},
	} {
		rec.Timestamp = time.Now().UnixMilli()
		done := make(receiptChan, 1)
		if err := streamtest.Append(r.store, done, stream.Write{Partition: p, Record: &rec}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	m.r = openRoom(t, fs, Options{}, nil)
	if at, _, _, code := m.committed(false); at != 7 || code != wire.None {
		t.Errorf("offset %d, code %d", at, code)
	}
	if n := len(m.r.co.owned()); n != 1 {
		t.Errorf("%d groups", n)
	}
}

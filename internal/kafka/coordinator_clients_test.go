package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// groupDoor is a door on loopback, with records in topic t.
type groupDoor struct {
	t     *testing.T
	addr  string
	store *store.Store
	fs    *vfs.Memory
	close func()
}

func openGroupDoor(t *testing.T, fs *vfs.Memory) *groupDoor {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := store.Open(ctx, store.Options{FS: fs, JournalBytes: 1 << 20, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, Options{Store: s, Logger: logtest.New(t),
		Groups: GroupOptions{GroupTimes: GroupTimes{MinSession: 100 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := d.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	door := &groupDoor{t: t, addr: l.Addr().String(), store: s, fs: fs}
	door.close = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(door.close)
	return door
}

// fill makes a topic with records, numbered from 0 in each partition.
func (d *groupDoor) fill(name string, partitions, each int) {
	d.t.Helper()
	topic, err := d.store.CreateTopic(context.Background(), stream.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		d.t.Fatal(err)
	}
	d.put(topic, each)
}

// put puts so many records into each partition of a topic.
func (d *groupDoor) put(topic *stream.Topic, each int) {
	d.t.Helper()
	done := make(receiptChan, len(topic.Partitions)*each)
	for _, p := range topic.Partitions {
		for i := range each {
			r := record.Record{Timestamp: time.Now().UnixMilli(), Value: fmt.Appendf(nil, "%d", i)}
			if err := streamtest.Append(d.store, done, stream.Write{Partition: p, Record: &r}); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	for range len(topic.Partitions) * each {
		if err := <-done; err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *groupDoor) client(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(d.addr)}, opts...)...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(cl.Close)
	return cl
}

// member is a client in group g that reads topic t from its start.
func (d *groupDoor) member(opts ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	return d.client(append([]kgo.Opt{
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(30 * time.Second),
		kgo.RebalanceTimeout(30 * time.Second), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.DisableAutoCommit(), kgo.Balancers(kgo.RangeBalancer()),
	}, opts...)...)
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Three members read a topic while one of them leaves; every record is read, and what was committed is
// where it should be.
//
// Long: one play from beginning to end.
func TestClientsShareAGroup(t *testing.T) {
	const partitions, each = 6, 200
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", partitions, each)
	ctx := limited(t)

	type seenKey struct {
		partition int32
		offset    int64
	}
	var mu sync.Mutex
	seen := map[seenKey]int{}
	assigned := map[int]map[int32]bool{}
	read := func(who int, cl *kgo.Client, enough func() bool) {
		for !enough() {
			pollCtx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fetches := cl.PollRecords(pollCtx, 20)
			cancel()
			mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) {
				seen[seenKey{r.Partition, r.Offset}]++
				if assigned[who] == nil {
					assigned[who] = map[int32]bool{}
				}
				assigned[who][r.Partition] = true
			})
			mu.Unlock()
			err := cl.CommitUncommittedOffsets(ctx)
			if err != nil && !errors.Is(err, kerr.RebalanceInProgress) && !errors.Is(err, kerr.IllegalGeneration) {
				t.Errorf("member %d: commit: %v", who, err)
			}
			cl.AllowRebalance()
		}
	}
	allSeen := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == partitions*each || ctx.Err() != nil
	}
	var wg sync.WaitGroup
	for who := range 3 {
		cl := d.member(kgo.BlockRebalanceOnPoll(), kgo.Balancers(kgo.RangeBalancer(), kgo.RoundRobinBalancer()))
		wg.Go(func() {
			if who == 2 { // leaves after a while
				read(who, cl, func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(assigned[who]) > 0 || len(seen) == partitions*each || ctx.Err() != nil
				})
				cl.CloseAllowingRebalance()
				return
			}
			read(who, cl, allSeen)
		})
	}
	wg.Wait()
	if len(seen) != partitions*each {
		t.Fatalf("%d records were read, want %d", len(seen), partitions*each)
	}
	adm := kadm.NewClient(d.client())
	lags, err := adm.Lag(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	g := lags["g"]
	if err := g.Error(); err != nil {
		t.Fatal(err)
	}
	if got := g.Lag.Total(); got < 0 || got > partitions*each {
		t.Errorf("lag %d", got)
	}
}

// Old clients that speak the versions of Kafka 2.4 work too.
func TestOldClientsShareAGroup(t *testing.T) {
	for _, v := range []*kversion.Versions{kversion.V1_0_0(), kversion.V2_4_0(), kversion.V3_0_0(), kversion.Stable()} {
		t.Run(v.VersionGuess(), func(t *testing.T) {
			d := openGroupDoor(t, vfs.NewMemory())
			d.fill("t", 2, 10)
			ctx := limited(t)
			for round := range 2 {
				cl := d.member(kgo.MaxVersions(v))
				for n := 0; n < 10; {
					fetches := cl.PollRecords(ctx, 10-n)
					if err := fetches.Err(); err != nil {
						t.Fatal(err)
					}
					n += fetches.NumRecords()
				}
				if err := cl.CommitUncommittedOffsets(ctx); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				cl.Close()
			}
			offsets, err := kadm.NewClient(d.client()).FetchOffsets(ctx, "g")
			if err != nil {
				t.Fatal(err)
			}
			total := int64(0)
			offsets.Each(func(o kadm.OffsetResponse) { total += o.At })
			if total != 20 {
				t.Errorf("committed %d records in all, want 20", total)
			}
		})
	}
}

// A static member that restarts gets its partitions again and nobody else is disturbed.
func TestStaticMemberRestarts(t *testing.T) {
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", 4, 1)
	ctx := limited(t)
	var mu sync.Mutex
	revoked := 0
	start := func(instance string) *kgo.Client {
		return d.member(kgo.InstanceID(instance),
			kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) {
				mu.Lock()
				defer mu.Unlock()
				revoked++
			}))
	}
	a, b := start("a"), start("b")
	adm := kadm.NewClient(d.client())
	stable := func() kadm.DescribedGroup {
		var g kadm.DescribedGroup
		eventually(t, "two members, stable", func() bool {
			all, err := adm.DescribeGroups(ctx, "g")
			if err != nil {
				t.Fatal(err)
			}
			g = all["g"]
			return g.State == "Stable" && len(g.Members) == 2
		})
		return g
	}
	before := stable()
	go func() {
		for ctx.Err() == nil && !a.PollFetches(ctx).IsClientClosed() { // keeps a alive, as an application does
		}
	}()
	eventually(t, "b has its records", func() bool { return b.PollFetches(ctx).NumRecords() > 0 })
	mu.Lock()
	revokedBefore := revoked
	mu.Unlock()
	b.Close() // a static member does not leave
	c := start("b")
	eventually(t, "c has b's records", func() bool { return c.PollFetches(ctx).NumRecords() > 0 })
	after := stable()
	assignment := func(g kadm.DescribedGroup, instance string) string {
		for _, m := range g.Members {
			if m.InstanceID != nil && *m.InstanceID == instance {
				as, _ := m.Assigned.AsConsumer()
				if as != nil {
					return fmt.Sprint(as.Topics)
				}
			}
		}
		return "none"
	}
	for _, instance := range []string{"a", "b"} {
		if was, is := assignment(before, instance), assignment(after, instance); was != is {
			t.Errorf("%s had %s and has %s", instance, was, is)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if revoked > revokedBefore+1 { // b's own, when it was closed
		t.Errorf("%d members lost partitions", revoked-revokedBefore)
	}
}

// A member that vanishes without a word is out when its session ends, and another one takes over.
func TestMemberVanishes(t *testing.T) {
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", 2, 5)
	ctx := limited(t)
	dialed := make(chan net.Conn, 16)
	vanishing, cancelDial := context.WithCancel(ctx)
	dial := func(ctx context.Context, network, host string) (net.Conn, error) {
		if vanishing.Err() != nil {
			return nil, vanishing.Err()
		}
		c, err := (&net.Dialer{}).DialContext(ctx, network, host)
		if err == nil {
			dialed <- c
		}
		return c, err
	}
	a := d.member(kgo.SessionTimeout(500*time.Millisecond), kgo.Dialer(dial))
	for a.PollFetches(ctx).NumRecords() == 0 { // it may have been too late for a heartbeat
		if ctx.Err() != nil {
			t.Fatal("the first member read nothing")
		}
	}
	cancelDial()
	for len(dialed) > 0 {
		_ = (<-dialed).Close()
	}
	b := d.member()
	n := 0
	for n < 10 {
		fetches := b.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the second member read %d records of 10", n)
		}
		n += fetches.NumRecords()
	}
}

// What administrators do: commit, list, describe, reset and delete.
//
// Long: one play from beginning to end.
func TestAdministration(t *testing.T) {
	d := openGroupDoor(t, vfs.NewMemory())
	d.fill("t", 3, 10)
	ctx := limited(t)
	adm := kadm.NewClient(d.client())
	var commit kadm.Offsets
	for p := range int32(3) {
		commit.Add(kadm.Offset{Topic: "t", Partition: p, At: int64(p) + 1, LeaderEpoch: -1, Metadata: "by hand"})
	}
	if err := adm.CommitAllOffsets(ctx, "g", commit); err != nil {
		t.Fatal(err)
	}
	if err := adm.CommitAllOffsets(ctx, "h", commit); err != nil {
		t.Fatal(err)
	}
	many := adm.FetchManyOffsets(ctx, "g", "h", "nobody")
	for _, name := range []string{"g", "h"} {
		if err := many[name].Err; err != nil {
			t.Fatal(err)
		}
		for p := range int32(3) {
			if o, ok := many[name].Fetched.Lookup("t", p); !ok || o.At != int64(p)+1 || o.Metadata != "by hand" {
				t.Errorf("%s: partition %d: %+v, %v", name, p, o, ok)
			}
		}
	}
	if len(many["nobody"].Fetched) != 0 || many["nobody"].Err != nil {
		t.Errorf("a group that is not there: %+v", many["nobody"])
	}
	groups, err := adm.ListGroups(ctx)
	if err != nil || !slices.Equal(groups.Groups(), []string{"g", "h"}) {
		t.Fatalf("groups %v, %v", groups.Groups(), err)
	}
	lag, err := adm.Lag(ctx, "g")
	if err != nil || lag["g"].Lag.Total() != 30-(1+2+3) {
		t.Errorf("lag %d, %v", lag["g"].Lag.Total(), err)
	}
	back := kadm.Offsets{}
	back.Add(kadm.Offset{Topic: "t", Partition: 0, At: 0, LeaderEpoch: -1})
	if err := adm.CommitAllOffsets(ctx, "g", back); err != nil {
		t.Fatal(err)
	}
	var gone kadm.TopicsSet
	gone.Add("t", 1)
	if deleted, err := adm.DeleteOffsets(ctx, "g", gone); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	offsets, err := adm.FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := offsets.Lookup("t", 0); o.At != 0 {
		t.Errorf("reset to 0, is %d", o.At)
	}
	if _, still := offsets.Lookup("t", 1); still {
		t.Error("a deleted offset is still there")
	}

	cl := d.member(kgo.ConsumerGroup("h"))
	if n := cl.PollFetches(ctx).NumRecords(); n == 0 {
		t.Fatal("nothing read from the committed offsets")
	}
	if _, err := adm.DeleteGroup(ctx, "h"); !errors.Is(err, kerr.NonEmptyGroup) {
		t.Errorf("a group with a member: %v", err)
	}
	cl.Close()
	for _, name := range []string{"g", "h"} {
		if _, err := adm.DeleteGroup(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if groups, err = adm.ListGroups(ctx); err != nil || len(groups) != 0 {
		t.Errorf("groups %v, %v", groups.Groups(), err)
	}
}

// The door goes down and comes up again: a consumer goes on from what it has committed.
func TestClientOverRestart(t *testing.T) {
	fs := vfs.NewMemory()
	d := openGroupDoor(t, fs)
	d.fill("t", 1, 100)
	ctx := limited(t)
	cl := d.member(kgo.SessionTimeout(10 * time.Second)) // so long it is waited for after the crash
	first := cl.PollRecords(ctx, 40).Records()
	if len(first) == 0 {
		t.Fatal("nothing was read")
	}
	if err := cl.CommitRecords(ctx, first...); err != nil {
		t.Fatal(err)
	}
	cut := fs.CrashClone(nil) // the power fails; the client does not leave
	cl.Close()
	d.close()
	d = openGroupDoor(t, cut)
	cl = d.member()
	next := cl.PollRecords(ctx, 1).Records()
	if want := first[len(first)-1].Offset + 1; len(next) != 1 || next[0].Offset != want {
		t.Fatalf("goes on with %v, want offset %d", next, want)
	}
}

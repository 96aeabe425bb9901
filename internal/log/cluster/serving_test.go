package cluster_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

// serving are the options of a node that serves a cluster alone, and keeps its lease however busy the machine is.
func serving(f *kfake.Cluster, instance string) cluster.Options {
	return cluster.Options{Seeds: f.ListenAddrs(), Instance: instance, Takeover: time.Minute}
}

// TestOneNodeServes: a second node is refused while the first is there, and serves when it has gone.
func TestOneNodeServes(t *testing.T) {
	t.Parallel() // it waits
	f := fake(t)
	first, err := cluster.Open(t.Context(), serving(f, "a"))
	if err != nil {
		t.Fatal(err)
	}
	second := serving(f, "b")
	second.Takeover = time.Second // how long it waits for the first one to be forgotten
	if _, err := cluster.Open(t.Context(), second); !fault.Is(err, fault.Exists) {
		t.Errorf("a second node: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, serving(f, "b")).Refused(); err != nil {
		t.Error(err)
	}
}

// TestRestartTakesItsPlace: a node that was killed does not wait for itself, and what is left of it is fenced.
func TestRestartTakesItsPlace(t *testing.T) {
	t.Parallel() // it waits
	f := fake(t)
	opt := serving(f, "a")
	before := open(t, opt)
	topic := create(t, before, "a", 2, nil)
	owner, err := before.Own(t.Context(), topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	after := open(t, opt)
	if _, err := after.Own(t.Context(), after.Topics().ByName("a").Partitions[0]); err != nil {
		t.Fatal(err)
	}
	if err := streamtest.Append(after, nil, unit("new", after.Topics().ByName("a").Partitions...).Writes...); err != nil {
		t.Error(err)
	}
	told, u := newFates(), unit("old", topic.Partitions[0])
	u.Owner = owner
	if err := before.Append(u, told, 0); err != nil {
		t.Fatal(err)
	}
	told.wait(t, 1)
	if !fault.Is(told.errs[0], fault.Fenced) {
		t.Errorf("the node of before appends: %v", told.errs[0])
	}
}

// TestLeaseIsLost: a node whose place was taken says so.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel() // it waits
	f := fake(t)
	opt := serving(f, "a")
	opt.Takeover = 10 * time.Second // five signs of life in this time
	c := open(t, opt)
	leave(t, f, "a")
	var err error
	select {
	case err = <-c.Lost():
	case <-time.After(time.Minute):
	}
	if !fault.Is(err, fault.Fenced) || !fault.Is(c.Refused(), fault.Fenced) {
		t.Errorf("lost with %v, refused with %v", err, c.Refused())
	}
}

// TestTakeoverThatBrokersDoNotTake: the start ends, and says what bounds it.
func TestTakeoverThatBrokersDoNotTake(t *testing.T) {
	f := fake(t)
	opt := serving(f, "a")
	opt.Takeover = 24 * time.Hour
	if _, err := cluster.Open(t.Context(), opt); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("alone: %v", err)
	}
	p, err := cluster.Join(t.Context(), opt, placement.Node{Name: "a", Address: "a:1"}, cluster.Sharing{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	select {
	case err := <-p.Lost():
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("among others: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
}

// TestLongPatience: what a client of the cluster takes is no bound of the option.
func TestLongPatience(t *testing.T) {
	opt := serving(fake(t), "a")
	opt.Patience = 2 * time.Hour
	open(t, opt)
}

// TestOwnTopics: topics of our own get the settings that promises rest on, and those of devices what is configured.
func TestOwnTopics(t *testing.T) {
	f := fake(t)
	opt := serving(f, "a")
	opt.DefaultPartitions, opt.LargestMessage = 4, 2<<20
	opt.TopicDefaults = map[string]string{"retention.ms": "1000"}
	c := open(t, opt)
	own, err := stream.EnsureState(t.Context(), c, "__firth_things")
	if err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{
		"cleanup.policy": "compact", "min.insync.replicas": "2", "unclean.leader.election.enable": "false",
		"max.message.bytes": "16777216", "retention.ms": "-1",
	} {
		if own.Config[setting] != want {
			t.Errorf("%s is %q, not %q", setting, own.Config[setting], want)
		}
	}
	devices := create(t, c, "devices", 0, nil)
	if n := len(devices.Partitions); n != 4 || devices.Config["retention.ms"] != "1000" ||
		devices.Config["max.message.bytes"] != "2162688" {
		t.Errorf("a topic of devices has %d partitions and %v", n, devices.Config)
	}
}

// TestBrokenPromises: a cluster whose settings lose what was acknowledged is refused with what to do, or accepted.
func TestBrokenPromises(t *testing.T) {
	const name = "__firth_sessions"
	good := map[string]string{"cleanup.policy": "compact", "min.insync.replicas": "2", "max.message.bytes": "16777216"}
	for _, one := range []struct {
		change  map[string]string
		copies  int16
		setting string
		says    string
	}{
		{map[string]string{"cleanup.policy": "delete"}, 3, "cleanup.policy",
			"--alter --topic __firth_sessions --add-config cleanup.policy=compact"},
		{map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "60000"}, 3, "cleanup.policy",
			"retention.ms=60000"},
		{map[string]string{"min.insync.replicas": "1"}, 3, "min.insync.replicas", "--add-config min.insync.replicas=2"},
		{map[string]string{"unclean.leader.election.enable": "true"}, 3, "unclean.leader.election.enable",
			"--add-config unclean.leader.election.enable=false"},
		{map[string]string{"max.message.bytes": "1000000"}, 3, "max.message.bytes", "max.message.bytes=16777216"},
		{map[string]string{"min.insync.replicas": "1"}, 1, "replication.factor", "kafka-reassign-partitions.sh"},
		{nil, 3, "", ""},
	} {
		f := fake(t)
		cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		config := map[string]*string{}
		for _, some := range []map[string]string{good, one.change} {
			for setting, value := range some {
				config[setting] = &value
			}
		}
		_, err = kadm.NewClient(cl).CreateTopic(t.Context(), 1, one.copies, config, name)
		cl.Close()
		if err != nil {
			t.Fatal(err)
		}
		opt := serving(f, "a")
		c, err := cluster.Open(context.Background(), opt)
		if err == nil {
			c.Close()
		}
		if one.setting == "" {
			if err != nil {
				t.Errorf("good settings are refused: %v", err)
			}
			continue
		}
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), one.says) ||
			!strings.Contains(err.Error(), name+" has "+one.setting+"=") {
			t.Errorf("%v: %v", one.change, err)
		}
		opt.Accept = []string{one.setting}
		if open(t, opt).Refused() != nil {
			t.Errorf("%v is not accepted", one.change)
		}
	}
}

// TestHistoriesMayBeTrimmed: not every topic of our own is compacted.
func TestHistoriesMayBeTrimmed(t *testing.T) {
	opt := serving(fake(t), "a")
	opt.Histories = []string{"__firth_history"}
	c := open(t, opt)
	create(t, c, "__firth_history", 1, map[string]string{"cleanup.policy": "delete", "retention.ms": "1000"})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, opt)
}

// TestOldCluster is refused by what it lacks.
func TestOldCluster(t *testing.T) {
	f := fake(t, kfake.MaxVersions(kversion.V2_7_0()))
	_, err := cluster.Open(t.Context(), serving(f, "a"))
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "topic ids") {
		t.Errorf("Apache Kafka 2.7: %v", err)
	}
}

// TestUnitsWaitForTheCluster: with Hold nothing is lost while the cluster is away, and Refused says that it is.
func TestUnitsWaitForTheCluster(t *testing.T) {
	t.Parallel() // it waits
	f := fake(t)
	opt := serving(f, "a")
	opt.Hold, opt.Patience = time.Hour, 10*time.Second
	var way streamtest.Road
	opt.Client = []kgo.Opt{kgo.Dialer(way.Dial)}
	opt.Logger = logtest.New(t)
	c, err := cluster.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	topic := create(t, c, "a", 2, nil)
	owner, err := c.Own(t.Context(), topic.Partitions[1])
	if err != nil {
		t.Fatal(err)
	}
	way.Close(true)
	told := newFates()
	for i := range 10 {
		u := unit("x", topic.Partitions[i%2])
		if i > 7 {
			u.Owner = owner
		}
		if err := c.Append(u, told, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the cluster is away", func() bool { return fault.Is(c.Refused(), fault.IO) })
	way.Close(false)
	told.wait(t, 10)
	for i := range 10 {
		if err := told.errs[uint64(i)]; err != nil {
			t.Errorf("unit %d: %v", i, err)
		}
	}
	eventually(t, "it is back", func() bool { return c.Refused() == nil })
}

// eventually waits for a condition for as long as a busy machine may need.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(limit) {
			t.Fatalf("not in a minute: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestTransactionThatTookTooLong: the cluster ends one that stays open, and takes the id of the shard with it. Who has
// the lease takes it back, and does it again; who has none has lost the shard.
func TestTransactionThatTookTooLong(t *testing.T) {
	t.Parallel() // it waits
	for _, instance := range []string{"a", ""} {
		f := fake(t)
		opt := serving(f, instance)
		opt.Hold, opt.OwnerTimeout = time.Hour, time.Second
		c := open(t, opt)
		p := create(t, c, "a", 1, nil).Partitions[0]
		owner, err := c.Own(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		var asked, ended atomic.Bool
		f.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
			asked.Store(true)
			if ended.Load() {
				return nil, nil, false
			}
			f.KeepControl()
			resp := kmsg.NewPtrEndTxnResponse()
			resp.Version, resp.ErrorCode = r.GetVersion(), kerr.CoordinatorLoadInProgress.Code
			return resp, nil, true
		})
		told, u := newFates(), unit("x", p)
		u.Owner = owner
		if err := c.Append(u, told, 0); err != nil {
			t.Fatal(err)
		}
		// A busy machine may take so long for the batch that its end is not asked for any more.
		eventually(t, "the cluster has ended the transaction", func() bool {
			return len(told.more) > 0 || asked.Load() && len(underWay(t, f)) == 0
		})
		ended.Store(true)
		told.wait(t, 1)
		switch got := values(t, c, p); {
		case instance == "" && !fault.Is(told.errs[0], fault.Fenced):
			t.Errorf("without a lease: %v", told.errs[0])
		case instance != "" && (told.errs[0] != nil || len(got) != 1):
			t.Errorf("with a lease: %v, and %q is there", told.errs[0], got)
		}
	}
}

// TestTransactionOfNobodyThatTookTooLong: the cluster ends one without an owner that stays open, while nobody knows
// whether its end has arrived: nothing of it is there, and it is done again.
func TestTransactionOfNobodyThatTookTooLong(t *testing.T) {
	t.Parallel() // it waits
	f := fake(t)
	opt := serving(f, "a")
	opt.Hold, opt.TransactionTimeout = time.Hour, time.Second
	c := open(t, opt)
	ps := create(t, c, "a", 2, nil).Partitions
	var asked, ended atomic.Bool
	f.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		asked.Store(true)
		if ended.Load() {
			return nil, nil, false
		}
		f.KeepControl()
		resp := kmsg.NewPtrEndTxnResponse()
		resp.Version, resp.ErrorCode = r.GetVersion(), kerr.CoordinatorNotAvailable.Code
		return resp, nil, true
	})
	told := newFates()
	if err := c.Append(unit("x", ps...), told, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster has ended the transaction", func() bool {
		return len(told.more) > 0 || asked.Load() && len(underWay(t, f)) == 0
	})
	ended.Store(true)
	told.wait(t, 1)
	for _, p := range ps {
		if got := values(t, c, p); told.errs[0] != nil || len(got) != 1 {
			t.Errorf("%v, and %q is there", told.errs[0], got)
		}
	}
}

// TestLeaseGoesWhileShardIsRetaken: a node that finds its shard taken and still has the lease takes the shard anew.
// When another has got lease and shard before that has arrived, it keeps its unit back, and the other one goes on.
func TestLeaseGoesWhileShardIsRetaken(t *testing.T) {
	f := fake(t)
	opt := serving(f, "a")
	c := open(t, opt)
	topic := create(t, c, "a", 1, nil)
	var other *cluster.Cluster
	own := func(c *cluster.Cluster) stream.Owner {
		owner, err := c.Own(context.Background(), c.Topics().ByName("a").Partitions[0])
		if err != nil {
			t.Error(err)
		}
		return owner
	}
	appendAs := func(c *cluster.Cluster, owner stream.Owner, value string) error {
		told, u := newFates(), unit(value, c.Topics().ByName("a").Partitions[0])
		u.Owner = owner
		if err := c.Append(u, told, 0); err != nil {
			return err
		}
		told.wait(t, 1)
		return told.errs[0]
	}
	owner, stranger := own(c), open(t, cluster.Options{Seeds: f.ListenAddrs()})
	var next stream.Owner
	before(f, kmsg.EndTxn, func() {
		own(stranger)
		before(f, kmsg.InitProducerID, func() {
			leave(t, f, "a")
			opt.Instance = "b"
			if second, err := cluster.Open(context.Background(), opt); err != nil {
				t.Error(err)
			} else {
				other, next = second, own(second)
			}
		})
	})
	if err := appendAs(c, owner, "old"); !fault.Is(err, fault.Fenced) {
		t.Errorf("the node of before: %v", err)
	}
	if other == nil {
		t.Fatal("no other node has come between")
	}
	defer other.Close()
	if err := appendAs(other, next, "new"); err != nil {
		t.Errorf("the other node: %v", err)
	}
	if got := values(t, other, topic.Partitions[0]); len(got) != 1 || got[0] != "new" {
		t.Errorf("%q is there", got)
	}
}

// leave takes the lease from a node.
func leave(t *testing.T, f *kfake.Cluster, instance string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	group := kadm.LeaveGroup(cluster.LeaseGroup).InstanceIDs(instance)
	if left, err := kadm.NewClient(cl).LeaveGroup(context.Background(), group); err != nil || left.Error() != nil {
		t.Error(err, left.Error())
	}
}

// underWay are the transactions that are open.
func underWay(t *testing.T, f *kfake.Cluster) []string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	all, err := kadm.NewClient(cl).ListTransactions(t.Context(), nil, []string{"Ongoing"})
	if err != nil {
		t.Fatal(err)
	}
	return all.TransactionalIDs()
}

// TestOthersAreWeak: topics that somebody made with one replica are named at the start.
func TestOthersAreWeak(t *testing.T) {
	f := fake(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(t.Context(), 1, 1, nil, "weak", "frail"); err != nil {
		t.Fatal(err)
	}
	opt := serving(f, "a")
	var said bytes.Buffer
	opt.Logger = slog.New(slog.NewTextHandler(&said, nil))
	c, err := cluster.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "topics=frail,weak") {
		t.Error(said.String())
	}
}

package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(patient{m}, goleak.Cleanup(func(code int) {
		if kafka.stop != nil {
			kafka.stop()
		}
		os.Exit(code)
	}))
}

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

// open is a keeper on the cluster of a broker, closed with the test.
func open(t testing.TB, opt cluster.Options) *cluster.Cluster {
	t.Helper()
	opt.Logger = logtest.New(t)
	c, err := cluster.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func fake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	f, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// kept is a keeper on a cluster, and what other clients of that cluster do.
func kept(t *testing.T, seeds ...string) *streamtest.Kept {
	opt := cluster.Options{Seeds: seeds, RefreshInterval: 50 * time.Millisecond}
	c := open(t, opt)
	return &streamtest.Kept{
		Keeper: c,
		Hide:   func(p stream.PartitionID) { hide(t, c, p, seeds) },
		Trim:   func(p stream.PartitionID, start record.Offset) { trim(t, c, p, start, seeds) },
		Rival:  func() stream.Keeper { return open(t, opt) },
	}
}

func TestContractOnKfake(t *testing.T) {
	streamtest.Run(t, func(t *testing.T) *streamtest.Kept {
		f := fake(t)
		k := kept(t, f.ListenAddrs()...)
		k.FailRead = func() { // the connection breaks under the next fetch
			f.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, fmt.Errorf("no more of this"), true
			})
		}
		k.Cannot = map[string]string{
			"Damage":  "kfake keeps its batches in memory; Apache Kafka is damaged on its disk",
			"Compact": "kfake moves the start of a partition when it compacts; Apache Kafka does not, and is tried",
		}
		return k
	})
}

func TestContractOnKafka(t *testing.T) {
	b := apache(t)
	streamtest.Run(t, func(t *testing.T) *streamtest.Kept {
		k := kept(t, b.seed)
		t.Cleanup(func() { empty(t, k) }) // it runs before the keeper closes
		k.Compact = &streamtest.Compact{Config: map[string]string{"segment.ms": "100"}}
		k.Damage = func(p stream.PartitionID, content []byte) { damage(t, k, p, content, b.data) }
		k.Cannot = map[string]string{"FailRead": "a read of Apache Kafka cannot be made to fail from here; kfake's can"}
		return k
	})
}

// empty deletes all topics, for the next test.
func empty(t testing.TB, log stream.Keeper) {
	for _, topic := range log.Topics().All() {
		if err := log.DeleteTopic(context.Background(), topic.Name); err != nil && !topic.Internal() {
			t.Error(err)
		}
	}
}

// transactions counts the producers of hide: each has an id of its own.
var transactions atomic.Int64

// hide aborts a transaction that has written to the partition.
func hide(t *testing.T, log stream.Keeper, p stream.PartitionID, seeds []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	before, err := log.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(fmt.Sprintf("hide-%d-%d", os.Getpid(), transactions.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	at := log.Topics().Place(p)
	var records []*kgo.Record
	for i := range 3 {
		r := &kgo.Record{Topic: at.Topic.Name, Partition: at.Index, Value: fmt.Appendf(nil, "hidden %d", i)}
		records = append(records, r)
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	until(t, "the marker of an aborted transaction", func() bool {
		b, err := log.Bounds(p)
		return err == nil && b.Stable == b.High && b.High > before.High+3
	})
}

// until waits for what a cluster does in its own time.
func until(t *testing.T, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(time.Minute); !there(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// trim deletes the records before an offset.
func trim(t *testing.T, log stream.Keeper, p stream.PartitionID, start record.Offset, seeds []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	at := log.Topics().Place(p)
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: at.Topic.Name, Partition: at.Index, At: int64(start), LeaderEpoch: -1})
	done, err := kadm.NewClient(cl).DeleteRecords(context.Background(), to)
	if err == nil {
		err = done.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damage flips a bit of what the partition has on the disk of the broker.
func damage(t *testing.T, log stream.Keeper, p stream.PartitionID, content []byte, data string) {
	t.Helper()
	at := log.Topics().Place(p)
	names, err := filepath.Glob(filepath.Join(data, fmt.Sprintf("%s-%d", at.Topic.Name, at.Index), "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(b, content)
		if i < 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b[i] ^ 1}, int64(i)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%q is not in %s", content, strings.Join(names, ", "))
}

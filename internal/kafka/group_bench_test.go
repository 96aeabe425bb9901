package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// benchDoor is a door on a real disk.
func benchDoor(b *testing.B, times GroupTimes) (addr string, log *store.Store) {
	ctx, cancel := context.WithCancel(b.Context())
	disk, err := vfs.NewDisk(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(ctx, store.Options{FS: disk, Logger: logtest.New(b)})
	if err != nil {
		b.Fatal(err)
	}
	d, err := Open(ctx, Options{Store: s, Logger: logtest.New(b), Groups: GroupOptions{GroupTimes: times}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.Run(ctx) })
	wg.Go(func() { _ = d.Serve(ctx, l) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = s.Close()
	})
	return l.Addr().String(), s
}

// BenchmarkCommitsPipelined is OffsetCommits of one connection, 1,000 on their way at a time, each of one partition, of
// one group or of a hundred in turn.
func BenchmarkCommitsPipelined(b *testing.B) {
	for _, groups := range []int{1, 100} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) { benchCommits(b, groups) })
	}
}

func benchCommits(b *testing.B, groups int) {
	addr, log := benchDoor(b, GroupTimes{})
	if _, err := log.CreateTopic(b.Context(), stream.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	frames := make([][]byte, groups)
	for i := range frames {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.Version = fmt.Sprint("group", i), -1, 7
		req.Topics = commitOf("t", 0, 7)
		frames[i] = kmsg.NewRequestFormatter().AppendRequest(nil, req, int32(i))
	}
	places := make(chan struct{}, 1000)
	b.ResetTimer()
	go func() {
		out := bufio.NewWriterSize(conn, 64<<10)
		for i := range b.N {
			if len(places) == cap(places) {
				_ = out.Flush()
			}
			places <- struct{}{}
			_, _ = out.Write(frames[i%groups])
		}
		_ = out.Flush()
	}()
	in := bufio.NewReaderSize(conn, 64<<10)
	for range b.N {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(size[:]))); err != nil {
			b.Fatal(err)
		}
		<-places
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkRebalance is how long a group takes until every one of 200 members, which come at once, has its one
// partition, and until that is so again when ten have left; at the intervals of heartbeats that are the default, and at
// short ones.
func BenchmarkRebalance(b *testing.B) {
	const quick = 100 * time.Millisecond
	classic := kgo.Balancers(kgo.CooperativeStickyBalancer())
	for _, c := range []struct {
		name  string
		times GroupTimes
		opts  []kgo.Opt
	}{
		{"classic/3s", GroupTimes{}, []kgo.Opt{classic}},
		{"classic/100ms", GroupTimes{}, []kgo.Opt{classic, kgo.HeartbeatInterval(quick)}},
		{"consumer/5s", GroupTimes{}, []kgo.Opt{kgo.ServerSideBalancer()}},
		{"consumer/100ms", GroupTimes{ConsumerHeartbeat: quick}, []kgo.Opt{kgo.ServerSideBalancer()}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				joined, left := rebalanceOnce(b, c.times, c.opts)
				b.ReportMetric(joined.Seconds()*1000, "ms/joined")
				b.ReportMetric(left.Seconds()*1000, "ms/left")
			}
		})
	}
}

func rebalanceOnce(b *testing.B, times GroupTimes, opts []kgo.Opt) (joined, left time.Duration) {
	const members = 200
	addr, log := benchDoor(b, times)
	if _, err := log.CreateTopic(b.Context(), stream.TopicSpec{Name: "t", Partitions: members}); err != nil {
		b.Fatal(err)
	}
	held := make([]atomic.Int64, members)
	clients := make([]*kgo.Client, members)
	settled := func() bool {
		total := int64(0)
		for i, cl := range clients {
			if n := held[i].Load(); cl != nil && n == 0 {
				return false
			} else if cl != nil {
				total += n
			}
		}
		return total == members
	}
	start := time.Now()
	for i := range clients {
		count := func(sign int64) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, m map[string][]int32) { held[i].Add(sign * int64(len(m["t"]))) }
		}
		cl, err := kgo.NewClient(append([]kgo.Opt{
			kgo.SeedBrokers(addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
			kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1)),
		}, opts...)...)
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = cl
	}
	until(b, "all have joined", settled)
	joined = time.Since(start)
	start = time.Now()
	for i := range 10 {
		clients[i].CloseAllowingRebalance()
		clients[i] = nil
	}
	until(b, "ten have left", settled)
	left = time.Since(start)
	var wg sync.WaitGroup
	for _, cl := range clients[10:] {
		wg.Go(cl.CloseAllowingRebalance)
	}
	wg.Wait()
	return joined, left
}

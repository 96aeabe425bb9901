package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shelf is a house whose records are all in files: it wrote them, closed and opened again.
func shelf(t testing.TB, disk vfs.FS, partitions int, batches ...record.Batch) (*house, *stream.Topic) {
	t.Helper()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", partitions)
	c := h.dial()
	for p := range partitions {
		h.put(c, topic, int32(p), batches...)
	}
	h.stop()
	h = openHouseOn(t, disk, Options{})
	return h, h.store.Topics().ByName("t")
}

// run gives the bytes of batches as the log keeps them from offset 0 on.
func run(batches ...record.Batch) []byte {
	var all []byte
	var next record.Offset
	for _, b := range batches {
		b = bytes.Clone(b)
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(1)
		next = b.LastOffset() + 1
		all = append(all, b...)
	}
	return all
}

// What comes from files is byte for byte what was put in, for small batches and those larger than a chunk,
// beside new ones in memory; in a large chunk, and in a small one where others have the large ones.
func TestFetchStored(t *testing.T) {
	for chunk, others := range map[int]int{largeChunk: largeChunks - 1, smallChunk: largeChunks} {
		t.Run(fmt.Sprint("chunks of ", chunk), func(t *testing.T) { testFetchStored(t, chunk, others) })
	}
}

func testFetchStored(t *testing.T, chunk, others int) {
	batches := []record.Batch{
		batchOf(3, 100), batchOf(1, chunk+1000), batchOf(2, 10), batchOf(30, 4000), batchOf(30, 4000), batchOf(1, 1),
	}
	h, topic := shelf(t, vfs.NewMemory(), 3, batches...)
	for range others {
		h.door.chunks.take()
	}
	c := h.dial()
	fresh := batchOf(4, 50)
	h.put(c, topic, 1, fresh)
	want := run(batches...)
	for version := int16(4); version <= 18; version++ {
		req := fetchFrom(topic, 0, 0, 0, 1)
		for p := int32(1); p < 3; p++ {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchFrom(topic, p, 0, 0, 1).Topics[0].Partitions...)
		}
		parts := askFor[*kmsg.FetchResponse](c, version, req).Topics[0].Partitions
		for i, p := range parts {
			if p.ErrorCode != 0 || !bytes.Equal(p.RecordBatches, want) {
				t.Fatalf("v%d partition %d: code %d, %d bytes of %d", version, i, p.ErrorCode, len(p.RecordBatches), len(want))
			}
		}
		last := record.Batch(want)
		for rest := want; len(rest) > 0; {
			last, rest, _ = record.Next(rest)
		}
		p := fetched(askFor[*kmsg.FetchResponse](c, version, fetchFrom(topic, 1, int64(last.LastOffset())+1, 0, 1)))
		if got := record.Batch(p.RecordBatches); len(got) != len(fresh) || got.Check() != nil {
			t.Fatalf("v%d: the new batch: %d bytes, code %d", version, len(p.RecordBatches), p.ErrorCode)
		}
	}
}

// The bounds of a fetch hold for stored records as for those in memory (KIP-74).
func TestFetchStoredBounds(t *testing.T) {
	a, b := batchOf(4, 9000), batchOf(4, 19_000)
	h, topic := shelf(t, vfs.NewMemory(), 2, a, b)
	c := h.dial()
	for _, tc := range []struct {
		partMax, allMax int32
		want            [2]int
	}{
		{1 << 20, 1 << 20, [2]int{len(a) + len(b), len(a) + len(b)}},
		{int32(len(a) + len(b) - 1), 1 << 20, [2]int{len(a), len(a)}},
		{1 << 20, int32(len(a)), [2]int{len(a), 0}},
		{10, 1 << 20, [2]int{len(a), 0}},
		{0, 0, [2]int{len(a), 0}},
	} {
		req := fetchFrom(topic, 0, 0, 0, 1)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchFrom(topic, 1, 0, 0, 1).Topics[0].Partitions...)
		req.MaxBytes = tc.allMax
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = tc.partMax
		}
		parts := askFor[*kmsg.FetchResponse](c, 12, req).Topics[0].Partitions
		if got := [2]int{len(parts[0].RecordBatches), len(parts[1].RecordBatches)}; got != tc.want {
			t.Errorf("at most %d of a partition, %d in all: %v bytes, want %v", tc.partMax, tc.allMax, got, tc.want)
		}
	}
}

// A fetch that waits for more than there is answers with all of it in the end.
func TestFetchStoredWaits(t *testing.T) {
	a := batchOf(4, 1000)
	h, topic := shelf(t, vfs.NewMemory(), 1, a)
	c := h.dial()
	req := fetchFrom(topic, 0, 0, 60_000, int32(2*len(a)))
	req.Version = 12
	id := c.send(req)
	h.parked(1)
	h.put(h.dial(), topic, 0, a)
	p := fetched(c.receive(req, id).(*kmsg.FetchResponse))
	first := run(a, a)[:len(a)]
	if len(p.RecordBatches) != 2*len(a) || !bytes.Equal(p.RecordBatches[:len(a)], first) {
		t.Fatalf("%d bytes, code %d", len(p.RecordBatches), p.ErrorCode)
	}
}

// A damaged batch is never served. Where nothing of the answer has gone out yet, it says what lies before the
// damage, and the next one the error. Where it had promised the batch, it ends with the connection, and the
// client that asks again gets the same.
func TestFetchStoredDamage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		broken int
		closes bool
	}{{"the first batch", 0, false}, {"in the first chunk", 2, false}, {"in the second chunk", 7, true}} {
		t.Run(tc.name, func(t *testing.T) {
			disk := vfs.NewMemory()
			batches := nine(170_000)
			h, _ := shelf(t, disk, 1, batches...)
			h.stop()
			want, from := run(batches...), 0
			for i := range tc.broken {
				from += len(batches[i])
			}
			behind := from + len(batches[tc.broken])
			vfstest.Flip(t, disk, "log", want[from:behind], 200)
			h = openHouseOn(t, disk, Options{Logger: logtest.New(t, "damaged records cannot be read")})
			topic := h.store.Topics().ByName("t")
			ask := func(c *client, offset int) kmsg.FetchResponseTopicPartition {
				return fetched(askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, int64(offset), 0, 1)))
			}
			c := h.dial()
			if tc.closes {
				req := fetchFrom(topic, 0, 0, 0, 1)
				req.Version = 12
				c.send(req)
				if _, _, err := c.frame(); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("the answer ends with %v", err)
				}
				c = h.dial()
			}
			if p := ask(c, 0); tc.broken > 0 && (p.ErrorCode != 0 || !bytes.Equal(p.RecordBatches, want[:from])) {
				t.Fatalf("before the damage: code %d, %d bytes of %d", p.ErrorCode, len(p.RecordBatches), from)
			}
			p := ask(c, tc.broken)
			wantCode(t, "the damaged batch", p.ErrorCode, wire.CorruptMessage)
			if len(p.RecordBatches) > 0 {
				t.Fatalf("%d bytes beside an error", len(p.RecordBatches))
			}
			if p := ask(c, tc.broken+1); p.ErrorCode != 0 || !bytes.Equal(p.RecordBatches, want[behind:]) {
				t.Fatalf("behind the damage: code %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
			}
		})
	}
}

// nine gives batches of one record, size bytes and a few more each.
func nine(size int) []record.Batch {
	batches := make([]record.Batch, 9)
	for i := range batches {
		batches[i] = batchOf(1, size+i)
	}
	return batches
}

// storedPath is a connection, and a way to have it serve one Fetch of records in files.
func storedPath(t testing.TB, partitions int, batches ...record.Batch) (fetch func(), size int) {
	disk, err := vfs.NewDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, topic := shelf(t, disk, partitions, batches...)
	c := newConn(h.door, discard{}, usualName)
	req := fetchFrom(topic, 0, 0, 0, 1)
	for p := int32(1); p < int32(partitions); p++ {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchFrom(topic, p, 0, 0, 1).Topics[0].Partitions...)
	}
	req.Version, req.MaxBytes = 12, 32<<20
	body := req.AppendTo(nil)
	head := wire.Header{Key: wire.Fetch, Version: 12, CorrelationID: 1}
	ctx := t.Context()
	return func() {
		if err := c.startFetch(ctx, head, body, time.Now()); err != nil {
			t.Fatal(err)
		}
	}, partitions * len(run(batches...))
}

// However much a fetch of stored records asks for, it allocates next to nothing: the bytes go through one
// chunk that is used again.
func TestFetchStoredAllocs(t *testing.T) {
	for _, n := range []int{1, 12} {
		t.Run(fmt.Sprint(n, " batches"), func(t *testing.T) {
			batches := make([]record.Batch, n)
			for i := range batches {
				batches[i] = batchOf(10, 6000)
			}
			fetch, size := storedPath(t, 4, batches...)
			if bytes := alloctest.BytesPerRun(50, 2000, fetch); bytes > 2000 {
				t.Errorf("%d bytes are allocated for a fetch of %d", bytes, size)
			}
			if allocs := alloctest.PerRun(100, 4, fetch); allocs > 4 {
				t.Errorf("%v allocations for a fetch of %d bytes", allocs, size)
			}
		})
	}
}

func BenchmarkFetchStored(b *testing.B) {
	batches := make([]record.Batch, 8)
	for i := range batches {
		batches[i] = batchOf(100, 1024)
	}
	fetch, size := storedPath(b, 4, batches...)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		fetch()
	}
}

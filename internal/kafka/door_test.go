package kafka

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// house is a door on a store in memory that listens on loopback.
type house struct {
	t     testing.TB
	store *store.Store
	door  *Door
	addr  string
	stop  func()
	piece int // how many bytes clients write at once; 0: all
}

func openHouse(t testing.TB, opt Options) *house {
	t.Helper()
	return openHouseOn(t, vfs.NewMemory(), opt)
}

func openHouseOn(t testing.TB, fs vfs.FS, opt Options) *house {
	t.Helper()
	if opt.Logger == nil {
		opt.Logger = logtest.New(t)
	}
	return openHouseWith(t, store.Options{FS: fs, JournalBytes: 4 << 20, Logger: opt.Logger}, opt)
}

// openHouseWith opens a house on a log with options of its own.
func openHouseWith(t testing.TB, log store.Options, opt Options) *house {
	t.Helper()
	s := openStore(t, log)
	opt.Logger = log.Logger
	if opt.Guard != nil && opt.Logins == nil {
		opt.Logins = loginsOn(t, s)
	}
	return houseOn(t, s, opt)
}

func openStore(t testing.TB, log store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// houseOn opens a house on a log that is open, and closes it.
func houseOn(t testing.TB, s *store.Store, opt Options) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	opt.Store, opt.ClusterID = s, s.ClusterID()
	d, err := Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	all.Go(func() {
		if err := d.Serve(ctx, l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	h := &house{t: t, store: s, door: d, addr: l.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// openSmallHouse opens a house whose log keeps little in reserve, and gives its disk.
func openSmallHouse(t testing.TB) (*house, *vfs.Memory) {
	disk := vfs.NewMemory()
	full := logtest.New(t, "commit failed", "housekeeping of the log failed", "retention failed") // it will be
	return openHouseOn(t, disk, Options{Logger: full}), disk
}

// topic makes a topic that keeps records for ever, if its configuration says nothing else: those of batchOf are old.
func (h *house) topic(name string, partitions int, config ...string) *stream.Topic {
	h.t.Helper()
	spec := stream.TopicSpec{Name: name, Partitions: partitions, Config: map[string]string{"retention.ms": "-1"}}
	for i := 0; i+1 < len(config); i += 2 {
		spec.Config[config[i]] = config[i+1]
	}
	topic, err := h.store.CreateTopic(context.Background(), spec)
	if err != nil {
		h.t.Fatal(err)
	}
	return topic
}

// client is a connection that speaks raw requests.
type client struct {
	t    testing.TB
	nc   patient
	next int32

	piece int    // how many bytes it writes at once; 0: all
	id    string // its client id; "": raw
}

func (h *house) dial() *client {
	h.t.Helper()
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { nc.Close() })
	return &client{t: h.t, nc: patient{nc.(*net.TCPConn)}, piece: h.piece}
}

// patient is a connection on which a minute without a byte is an error, however long all of them take.
type patient struct{ *net.TCPConn }

func (c patient) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	return c.TCPConn.Read(b)
}

func (c patient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	return c.TCPConn.Write(b)
}

// send writes a request and returns its correlation id.
func (c *client) send(req kmsg.Request) int32 {
	c.t.Helper()
	c.next++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(cmp.Or(c.id, "raw"))).AppendRequest(nil, req, c.next)
	for len(frame) > 0 {
		n := len(frame)
		if c.piece > 0 {
			n = min(n, c.piece)
		}
		if _, err := c.nc.Write(frame[:n]); err != nil {
			c.t.Fatal(err)
		}
		frame = frame[n:]
	}
	return c.next
}

// frame reads one response and gives what follows the correlation id.
func (c *client) frame() (correlationID int32, rest []byte, err error) {
	var size [4]byte
	if _, err := io.ReadFull(c.nc, size[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:], nil
}

// receive reads the response to req and checks that it is its turn.
func (c *client) receive(req kmsg.Request, id int32) kmsg.Response {
	c.t.Helper()
	got, rest, err := c.frame()
	if err != nil {
		c.t.Fatalf("%T v%d: %v", req, req.GetVersion(), err)
	}
	if got != id {
		c.t.Fatalf("%T v%d: response %d, not %d", req, req.GetVersion(), got, id)
	}
	if req.IsFlexible() && req.Key() != wire.ApiVersions {
		rest = rest[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(rest); err != nil {
		c.t.Fatalf("%T v%d: %v", resp, req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, rest) {
		c.t.Fatalf("%T v%d: %x, kmsg writes %x", resp, req.GetVersion(), rest, again)
	}
	return resp
}

// askFor sends a request in one version and gives its response.
func askFor[R kmsg.Response](c *client, version int16, req kmsg.Request) R {
	c.t.Helper()
	req.SetVersion(version)
	resp, ok := c.receive(req, c.send(req)).(R)
	if !ok {
		c.t.Fatalf("not the response to %T", req)
	}
	return resp
}

// closed fails unless the server closes the connection.
func (c *client) closed(why string) {
	c.t.Helper()
	if _, _, err := c.frame(); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Fatalf("%s: the connection is not closed: %v", why, err)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatalf("%s: the connection is still open", why)
	}
}

// batchOf makes a batch of n records of one value size.
func batchOf(n, size int) record.Batch {
	var b record.Builder
	b.Reset(nil, 1000)
	for i := range n {
		b.Append(
			&record.Record{
				Timestamp: int64(1000 + i),
				Key:       fmt.Appendf(nil, "k%d", i),
				Value:     bytes.Repeat([]byte{'v'}, size),
			},
		)
	}
	return b.Seal(0, 0)
}

// produceTo is a Produce request of one batch.
func produceTo(topic *stream.Topic, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic.Name, topic.ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// produced is the answer for the first partition.
func produced(resp *kmsg.ProduceResponse) kmsg.ProduceResponseTopicPartition {
	return resp.Topics[0].Partitions[0]
}

// fetchFrom is a Fetch request of one partition.
func fetchFrom(topic *stream.Topic, partition int32, offset int64, wait, minBytes int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = wait, minBytes, 50<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic.Name, topic.ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, offset, 4<<20, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// fetched is the answer for the first partition.
func fetched(resp *kmsg.FetchResponse) kmsg.FetchResponseTopicPartition {
	return resp.Topics[0].Partitions[0]
}

func wantCode(t testing.TB, what string, got, want wire.Code) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: error code %d, not %d", what, got, want)
	}
}

// Every version of every API that is announced is answered, in bytes that kmsg reads to the last one.
func TestEveryVersionIsServed(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	versions := askFor[*kmsg.ApiVersionsResponse](c, 3, kmsg.NewPtrApiVersionsRequest())
	if len(versions.ApiKeys) != len(h.door.apis) || len(versions.ApiKeys) < 25 {
		t.Fatalf("%d APIs are announced", len(versions.ApiKeys))
	}
	for _, k := range versions.ApiKeys {
		for v := k.MinVersion; v <= k.MaxVersion; v++ {
			req := kmsg.RequestForKey(k.ApiKey)
			req.(interface{ Default() }).Default()
			switch r := req.(type) {
			case *kmsg.ProduceRequest:
				r = produceTo(topic, 0, -1, batchOf(1, 10))
				req = r
			case *kmsg.FetchRequest:
				req = fetchFrom(topic, 0, 0, 0, 1)
			case *kmsg.ApiVersionsRequest:
				r.ClientSoftwareName, r.ClientSoftwareVersion = "raw", "1"
			}
			req.SetVersion(v)
			c.receive(req, c.send(req))
		}
	}
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }
func (discard) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }
func (discard) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute: %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
}

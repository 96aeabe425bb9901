package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// The versions of the plain sockets: the last ones that go by the name of a topic and not by its id.
const (
	produceVersion = 9
	fetchVersion   = 12
	commitVersion  = 9
)

// socket is one plain Kafka connection.
type socket struct {
	net.Conn
	r    *bufio.Reader
	body []byte // of the last response
}

func (k Kafka) socket(ctx context.Context) (*socket, error) {
	c, err := k.dial(ctx, k.Brokers[0], nil)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	if err := k.login(s); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

// maxResponse bounds a response, in bytes.
const maxResponse = 256 << 20

// frame reads one response behind its length. It is valid until the next call.
func (s *socket) frame() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return nil, fault.Wrap(fault.IO, "bench.Read", err)
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n < 5 || n > maxResponse {
		return nil, fault.New(fault.Invalid, "bench.Read", "a response of %d bytes", n)
	}
	if cap(s.body) < n {
		s.body = make([]byte, n)
	}
	s.body = s.body[:n]
	if _, err := io.ReadFull(s.r, s.body); err != nil {
		return nil, fault.Wrap(fault.IO, "bench.Read", err)
	}
	return s.body, nil
}

// response reads one response behind its header of a flexible version. It is valid until the next call.
func (s *socket) response() (correlation int32, body []byte, err error) {
	if _, err := s.frame(); err != nil {
		return 0, nil, err
	}
	if s.body[4] != 0 {
		return 0, nil, fault.New(fault.Invalid, "bench.Read", "a response header with %d tags", s.body[4])
	}
	return int32(binary.BigEndian.Uint32(s.body)), s.body[5:], nil
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("firth-bench"))

// atCorrelation is where a request frame has its correlation id.
const atCorrelation = 8

// encode makes one Produce request with a full batch for each of the partitions. It gives the frame and
// how many records are in it.
func (k Kafka) encode(partitions []int32) (frame []byte, records int64) {
	now := time.Now().UnixMilli()
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(produceVersion)
	req.Acks, req.TimeoutMillis = int16(k.Acks), int32(patience.Milliseconds())
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = k.Topic
	r := record.Record{Timestamp: now, Value: make([]byte, k.RecordSize)}
	for _, p := range partitions {
		var b record.Builder
		b.Reset(make([]byte, 0, k.BatchSize), now)
		for b.Count() == 0 || b.Len()+r.EncodedSize() <= k.BatchSize {
			b.Append(&r)
		}
		records += int64(b.Count())
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p, b.Seal(0, -1)
		topic.Partitions = append(topic.Partitions, part)
	}
	req.Topics = append(req.Topics, topic)
	return formatter.AppendRequest(nil, req, 0), records
}

// startEncoded gives each connection its partitions.
func (l *kafkaLoad) startEncoded(crew *crew) {
	workers := min(l.Connections, len(l.ends))
	for i := range workers {
		var mine []int32
		for p := i; p < len(l.ends); p += workers {
			mine = append(mine, int32(p))
		}
		crew.run(func(ctx context.Context) error { return l.produceEncoded(ctx, mine) })
	}
}

// produceEncoded sends the same request again and again, some ahead of their responses.
func (l *kafkaLoad) produceEncoded(ctx context.Context, mine []int32) error {
	s, err := l.socket(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	_ = s.SetReadDeadline(l.end.Add(patience))
	frame, records := l.encode(mine)
	sent := make([]time.Time, l.InFlight) // by correlation id
	var taken samples
	next, done := 0, 0
	for now := time.Now(); ; now = time.Now() {
		for ; next-done < l.InFlight && now.Before(l.end) && l.claim(records); now = time.Now() {
			sent[next%l.InFlight] = now
			binary.BigEndian.PutUint32(frame[atCorrelation:], uint32(next))
			next++
			if _, err := s.Write(frame); err != nil {
				return fault.Wrap(fault.IO, "bench.Produce", err)
			}
		}
		if next == done {
			break
		}
		if err := s.produced(done); err != nil {
			return err
		}
		l.total.Add(records)
		if now = time.Now(); l.within(now) {
			l.messages.Add(records)
			taken.add(now.Sub(sent[done%l.InFlight]))
		}
		done++
	}
	l.acked(taken)
	return nil
}

// produced reads the response to a Produce request and wants all of it stored.
func (s *socket) produced(want int) error {
	correlation, body, err := s.response()
	if err != nil {
		return err
	}
	if correlation != int32(want) {
		return fault.New(fault.Invalid, "bench.Produce", "response %d where %d is due", correlation, want)
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(produceVersion)
	if err := resp.ReadFrom(body); err != nil {
		return fault.Wrap(fault.Invalid, "bench.Produce", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fault.Wrap(fault.IO, "bench.Produce", err)
			}
		}
	}
	return nil
}

// fetchRaw reads some partitions on one socket, one Fetch after the other: from their ends on, or the whole
// of them over and over.
func (l *kafkaLoad) fetchRaw(ctx context.Context, mine []int32, out *sink) error {
	s, err := l.socket(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	f := newFetcher(&l.Kafka, s, out)
	for _, p := range mine {
		if l.Mode != Consume {
			f.follow(p, l.ends[p])
		} else if l.ends[p] > l.starts[p] {
			f.cycle(p, l.starts[p], l.ends[p])
		}
	}
	if len(f.parts) == 0 {
		return fault.New(fault.NotFound, "bench.Consume", "the partitions %v are empty: produce first", mine)
	}
	for ctx.Err() == nil && len(f.parts) > 0 {
		if err := f.fetch(); err != nil {
			if ctx.Err() != nil {
				return nil // the end of the run closed the socket
			}
			return err
		}
	}
	return nil
}

// fetcher is where one socket is in the partitions it reads.
type fetcher struct {
	k     *Kafka
	s     *socket
	out   *sink
	parts map[int32]*position
	req   *kmsg.FetchRequest
	frame []byte
	sent  int32
	it    record.Iter
}

// position is the next offset of a partition; at the end it goes back to the start.
type position struct{ next, start, end int64 }

// newFetcher asks for up to 1 MiB of a partition and 16 MiB in all, as clients do.
func newFetcher(k *Kafka, s *socket, out *sink) *fetcher {
	f := &fetcher{k: k, s: s, out: out, parts: make(map[int32]*position), req: kmsg.NewPtrFetchRequest()}
	f.req.SetVersion(fetchVersion)
	f.req.MaxWaitMillis, f.req.MinBytes, f.req.MaxBytes = 500, 1, 16<<20
	f.req.Topics = []kmsg.FetchRequestTopic{kmsg.NewFetchRequestTopic()}
	f.req.Topics[0].Topic = k.Topic
	return f
}

// follow reads a partition from an offset on.
func (f *fetcher) follow(p int32, from int64) { f.cycle(p, from, -1) }

// cycle reads a partition from start to end and begins again.
func (f *fetcher) cycle(p int32, start, end int64) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.PartitionMaxBytes = p, 1<<20
	f.req.Topics[0].Partitions = append(f.req.Topics[0].Partitions, part)
	f.parts[p] = &position{next: start, start: start, end: end}
}

// leave reads a partition no more.
func (f *fetcher) leave(p int32) {
	delete(f.parts, p)
	t := &f.req.Topics[0]
	t.Partitions = slices.DeleteFunc(t.Partitions, func(r kmsg.FetchRequestTopicPartition) bool {
		return r.Partition == p
	})
}

// fetch does one request.
func (f *fetcher) fetch() error {
	parts := f.req.Topics[0].Partitions
	for i := range parts {
		parts[i].FetchOffset = f.parts[parts[i].Partition].next
	}
	f.sent++
	f.frame = formatter.AppendRequest(f.frame[:0], f.req, f.sent)
	if _, err := f.s.Write(f.frame); err != nil {
		return fault.Wrap(fault.IO, "bench.Fetch", err)
	}
	correlation, body, err := f.s.response()
	if err != nil {
		return err
	}
	now := time.Now()
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(fetchVersion)
	if err := resp.ReadFrom(body); err != nil || correlation != f.sent {
		return fault.New(fault.Invalid, "bench.Fetch", "response %d where %d is due: %v", correlation, f.sent, err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fault.Wrap(fault.IO, "bench.Fetch", err)
	}
	for _, t := range resp.Topics {
		for i := range t.Partitions {
			if err := f.take(&t.Partitions[i], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// take walks the batches of a partition. The last one may be cut off: it comes whole with the next fetch.
func (f *fetcher) take(p *kmsg.FetchResponseTopicPartition, now time.Time) error {
	at := f.parts[p.Partition]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil || at == nil {
		return fault.New(fault.IO, "bench.Fetch", "partition %d: %v", p.Partition, err)
	}
	buf := p.RecordBatches
	for len(buf) >= record.BatchOverhead && record.Batch(buf).Size() <= len(buf) {
		b, rest, err := record.Next(buf)
		if err != nil {
			return err
		}
		buf = rest
		if f.k.CheckCRC && b.ComputeCRC() != b.CRC() {
			return fault.New(fault.Corrupt, "bench.Fetch", "partition %d, offset %d: checksum", p.Partition, b.BaseOffset())
		}
		f.out.took(int64(b.Count()), now)
		if err := f.values(b, now); err != nil {
			return err
		}
		if at.next = int64(b.LastOffset()) + 1; at.end >= 0 && at.next >= at.end {
			at.next = at.start
			if f.k.Once {
				f.leave(p.Partition)
			}
			break // what follows was written after the run began, or was read already
		}
	}
	return nil
}

// values takes the times out of the records of a batch.
func (f *fetcher) values(b record.Batch, now time.Time) error {
	if !f.out.timed {
		return nil
	}
	var scratch record.Scratch
	if err := f.it.Reset(b, &scratch); err != nil {
		return err
	}
	var v record.View
	for f.it.Next(&v) {
		f.out.value(v.Value, now)
	}
	return f.it.Err()
}

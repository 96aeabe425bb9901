package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// readBack is the values of all records of a partition.
func (h *house) readBack(id stream.PartitionID) (batches []record.Batch, records int) {
	h.t.Helper()
	bounds, err := h.store.Bounds(id)
	if err != nil {
		h.t.Fatal(err)
	}
	for next := bounds.Start; next < bounds.High; {
		got, err := h.store.Read(id, next, 1<<20, nil)
		if err != nil || len(got) == 0 {
			h.t.Fatalf("at %d of %+v: %v", next, bounds, err)
		}
		for _, b := range got {
			records += int(b.Count())
			next = b.LastOffset() + 1
		}
		batches = append(batches, got...)
	}
	return batches, records
}

// eachWay has requests arrive whole, and piece by piece.
func eachWay(t *testing.T, play func(t *testing.T, piece int)) {
	t.Run("whole", func(t *testing.T) { play(t, 0) })
	t.Run("in pieces", func(t *testing.T) { play(t, 61) })
}

// openPieces opens a house whose clients write so many bytes at a time; 0: all at once.
func openPieces(t *testing.T, piece int) *house {
	h := openHouse(t, Options{})
	h.piece = piece
	return h
}

// A batch lies in the log as it came, but for its base offset and leader epoch.
//
// [Kafka-Produce].
func TestProduceKeepsBytes(t *testing.T) { eachWay(t, playProduceKeepsBytes) }

func playProduceKeepsBytes(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	c := h.dial()
	first, second := batchOf(3, 20), batchOf(2, 30)
	for i, b := range []record.Batch{first, second} {
		p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(topic, 0, -1, b)))
		wantCode(t, "produce", p.ErrorCode, wire.None)
		if p.BaseOffset != int64(3*i) || p.LogStartOffset != 0 || p.LogAppendTime != -1 {
			t.Fatalf("%+v", p)
		}
	}
	batches, n := h.readBack(topic.Partitions[0])
	if n != 5 || len(batches) != 2 || batches[1].BaseOffset() != 3 || batches[1].LeaderEpoch() != h.store.Epoch() {
		t.Fatalf("%d records in %d batches", n, len(batches))
	}
	if !bytes.Equal(batches[1][16:], second[16:]) {
		t.Fatal("the batch was changed")
	}
}

func TestProduceLogAppendTime(t *testing.T) { eachWay(t, playProduceLogAppendTime) }

func playProduceLogAppendTime(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	p := produced(askFor[*kmsg.ProduceResponse](h.dial(), 9, produceTo(topic, 0, 1, batchOf(2, 5))))
	if p.ErrorCode != 0 || p.LogAppendTime < before {
		t.Fatalf("%+v", p)
	}
	batches, _ := h.readBack(topic.Partitions[0])
	if err := batches[0].Check(); err != nil || !batches[0].Attributes().LogAppendTime() ||
		batches[0].MaxTimestamp() != p.LogAppendTime {
		t.Fatalf("%v %+v", err, batches[0].Attributes())
	}
}

// A time too far from the log's is refused, where the producer's clock counts (KIP-937).
// With compression.type a batch is stored compressed by that codec, whatever it came with.
func TestProduceCompressionType(t *testing.T) { eachWay(t, playProduceCompressionType) }

func playProduceCompressionType(t *testing.T, piece int) {
	h := openPieces(t, piece)
	c := h.dial()
	for name, stored := range map[string]record.Codec{
		"uncompressed": record.None, "gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd,
	} {
		topic := h.topic(name, 1, "compression.type", name, "max.message.bytes", "5000")
		for codec := record.None; codec <= record.Zstd; codec++ {
			var bu record.Builder
			bu.Reset(nil, 1000)
			bu.Append(&record.Record{Timestamp: 1000, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 2000)})
			b, err := bu.SealCompressed(0, 0, codec)
			if err != nil {
				t.Fatal(err)
			}
			p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(topic, 0, -1, b)))
			wantCode(t, fmt.Sprint(codec, " to ", name), p.ErrorCode, wire.None)
		}
		batches, records := h.readBack(topic.Partitions[0])
		for _, b := range batches {
			if got := b.Attributes().Codec(); got != stored {
				t.Errorf("%s: stored as %s", name, got)
			}
		}
		if records != 5 {
			t.Errorf("%s: %d records", name, records)
		}
	}
	var bu record.Builder
	bu.Reset(nil, 1000)
	bu.Append(&record.Record{Timestamp: 1000, Value: make([]byte, 6000)})
	b, err := bu.SealCompressed(0, 0, record.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	p := produced(askFor[*kmsg.ProduceResponse](c, 13, produceTo(h.store.Topics().ByName("uncompressed"), 0, -1, b)))
	wantCode(t, "too large once uncompressed", p.ErrorCode, wire.MessageTooLarge)
}

func TestProduceTimestamps(t *testing.T) { eachWay(t, playProduceTimestamps) }

func playProduceTimestamps(t *testing.T, piece int) {
	h := openPieces(t, piece)
	plain := h.topic("plain", 1)
	hour := h.topic("hour", 1, "message.timestamp.before.max.ms", "3600000", "message.timestamp.after.max.ms", "60000")
	stamped := h.topic("stamped", 1, "message.timestamp.type", "LogAppendTime")
	c := h.dial()
	for _, tc := range []struct {
		topic  *stream.Topic
		first  time.Duration // from now on; the second record is stamped now
		stored bool
	}{
		{plain, 50 * time.Minute, true},
		{plain, 61 * time.Minute, false},
		{plain, -50 * 365 * 24 * time.Hour, true},
		{hour, 50 * time.Second, true},
		{hour, 2 * time.Minute, false},
		{hour, -59 * time.Minute, true},
		{hour, -61 * time.Minute, false},
		{stamped, 1000 * time.Hour, true},
	} {
		now := time.Now()
		var b record.Builder
		b.Reset(nil, now.Add(tc.first).UnixMilli())
		b.Append(&record.Record{Timestamp: now.Add(tc.first).UnixMilli(), Value: []byte("v")})
		b.Append(&record.Record{Timestamp: now.UnixMilli(), Value: []byte("v")})
		_, before := h.readBack(tc.topic.Partitions[0])
		p := produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(tc.topic, 0, 1, b.Seal(0, 0))))
		_, after := h.readBack(tc.topic.Partitions[0])
		want := wire.InvalidTimestamp
		if tc.stored {
			want = wire.None
		}
		if p.ErrorCode != want || after > before != tc.stored {
			t.Errorf("%s, %v: error %d, want %d; %d records, then %d", tc.topic.Name, tc.first, p.ErrorCode, want, before, after)
		}
	}
	p := produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(hour, 0, 1, stampedAll(-1, -1, -1))))
	if p.ErrorCode != 0 {
		t.Errorf("no time: %+v", p)
	}
}

// stampedAll is a batch of records of such times.
func stampedAll(times ...int64) record.Batch {
	var b record.Builder
	b.Reset(nil, times[0])
	for _, at := range times {
		b.Append(&record.Record{Timestamp: at, Key: []byte("k"), Value: []byte("v")})
	}
	return b.Seal(0, 0)
}

// lying is a batch whose header tells another largest timestamp than its records.
func lying(header int64, times ...int64) record.Batch {
	b := stampedAll(times...)
	b.SetMaxTimestamp(header)
	return b
}

// K4, F01: what the header says of the times of the records is not believed: lookups find the records by their own
// times, and what is stored says the truth.
func TestProduceMaxTimestampIsThatOfTheRecords(t *testing.T) { eachWay(t, playProduceMaxTimestamp) }

func playProduceMaxTimestamp(t *testing.T, piece int) {
	h := openPieces(t, piece)
	c := h.dial()
	now := time.Now().UnixMilli()
	for i, header := range []int64{-1, 0, now - 90_000, now + 315_360_000_000, now} {
		topic := h.topic(fmt.Sprintf("t%d", i), 1)
		b := lying(header, now-100_000, now-50_000, now-70_000)
		wantCode(t, "produce", produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, 1, b))).ErrorCode, wire.None)
		for at, want := range map[int64]int64{now - 100_000: 0, now - 60_000: 1, now - 50_000: 1, now - 49_999: -1, -3: 1} {
			if got := h.offsetAt(c, topic, 0, at); got.Offset != want {
				t.Errorf("header %d: time %d is at offset %d, want %d", header, at, got.Offset, want)
			}
		}
		batches, _ := h.readBack(topic.Partitions[0])
		if err := batches[0].Check(); err != nil || batches[0].MaxTimestamp() != now-50_000 {
			t.Errorf("header %d: stored as %d, %v", header, batches[0].MaxTimestamp(), err)
		}
	}
}

// offsetAt asks ListOffsets for one partition.
func (h *house) offsetAt(
	c *client, topic *stream.Topic, index int32, at int64,
) kmsg.ListOffsetsResponseTopicPartition {
	h.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic.Name
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = index, at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return askFor[*kmsg.ListOffsetsResponse](c, 8, req).Topics[0].Partitions[0]
}

// K5, F11: the records that are refused are named (KIP-467), from version 8 on.
func TestProduceNamesRefusedRecords(t *testing.T) { eachWay(t, playProduceNamesRefusedRecords) }

func playProduceNamesRefusedRecords(t *testing.T, piece int) {
	h := openPieces(t, piece)
	c := h.dial()
	now := time.Now().UnixMilli()
	plain := h.topic("plain", 1)
	compacted := h.topic("compacted", 1, "cleanup.policy", "compact")
	var keyless record.Builder
	keyless.Reset(nil, now)
	for i := range 10 {
		r := record.Record{Timestamp: now, Value: []byte("v")}
		if i != 3 && i != 8 {
			r.Key = []byte("k")
		}
		keyless.Append(&r)
	}
	noKeys := keyless.Seal(0, 0)
	torn := tamper(func(b record.Batch) { b[61] = 0x7f }, true)
	for _, tc := range []struct {
		name  string
		topic *stream.Topic
		b     record.Batch
		code  wire.Code
		want  []int32
	}{
		{"in the future", plain, stampedAll(now, now*1000, now), wire.InvalidTimestamp, []int32{1}},
		{"under a header that says now", plain, lying(now, now, now, now*1000), wire.InvalidTimestamp, []int32{2}},
		{"without key", compacted, noKeys, wire.InvalidRecord, []int32{3, 8}},
		{"torn", plain, torn, wire.InvalidRecord, []int32{0}},
	} {
		for version := int16(3); version <= 12; version++ {
			p := produced(askFor[*kmsg.ProduceResponse](c, version, produceTo(tc.topic, 0, 1, tc.b)))
			var got []int32
			for _, e := range p.ErrorRecords {
				if got = append(got, e.RelativeOffset); e.ErrorMessage == nil {
					t.Errorf("%s v%d: no message", tc.name, version)
				}
			}
			want := tc.want
			if version < 8 {
				want = nil
			}
			if p.ErrorCode != tc.code || !slices.Equal(got, want) {
				t.Errorf("%s v%d: error %d of records %v, want %d of %v", tc.name, version, p.ErrorCode, got, tc.code, want)
			}
		}
	}
	for _, topic := range []*stream.Topic{plain, compacted} {
		if _, n := h.readBack(topic.Partitions[0]); n != 0 {
			t.Errorf("%d records of %s were stored", n, topic.Name)
		}
	}
}

// tamper changes a good batch and, if it says so, makes the checksum right again.
func tamper(change func(b record.Batch), sum bool) record.Batch {
	b := batchOf(3, 10)
	change(b)
	if sum {
		binary.BigEndian.PutUint32(b[17:], b.ComputeCRC())
	}
	return b
}

// What no producer may send is refused with its code, and nothing of it is stored.
//
// [Kafka-Produce].
func TestProduceBadBatches(t *testing.T) { eachWay(t, playProduceBadBatches) }

func playProduceBadBatches(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1, "max.message.bytes", "2000")
	compacted := h.topic("compacted", 1, "cleanup.policy", "compact")
	var keyless record.Builder
	keyless.Reset(nil, 0)
	keyless.Append(&record.Record{Value: []byte("no key")})
	noKey := keyless.Seal(0, 0)
	put16 := func(at int, v uint16) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint16(b[at:], v) }
	}
	put32 := func(at int, v uint32) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	put64 := func(at int, v uint64) func(record.Batch) {
		return func(b record.Batch) { binary.BigEndian.PutUint64(b[at:], v) }
	}
	cases := []struct {
		name  string
		topic *stream.Topic
		data  []byte
		want  wire.Code
	}{
		{"null records", topic, nil, wire.InvalidRecord},
		{"cut short", topic, batchOf(3, 10)[:50], wire.CorruptMessage},
		{"checksum", topic, tamper(func(b record.Batch) { b[70] ^= 1 }, false), wire.CorruptMessage},
		{"length lie", topic, tamper(put32(8, 1<<30), false), wire.CorruptMessage},
		{"negative length", topic, tamper(put32(8, 1<<31), false), wire.CorruptMessage},
		{"magic 0", topic, tamper(func(b record.Batch) { b[16] = 0 }, true), wire.UnsupportedForMessageFormat},
		{"magic 3", topic, tamper(func(b record.Batch) { b[16] = 3 }, true), wire.UnsupportedForMessageFormat},
		{"reserved bits", topic, tamper(put16(21, 1<<9), true), wire.InvalidRecord},
		{"control batch", topic, tamper(put16(21, 1<<5), true), wire.InvalidRecord},
		{"transactional without transaction", topic, tamper(put16(21, 1<<4), true), wire.InvalidRecord},
		{"unknown codec", topic, tamper(put16(21, 5), true), wire.InvalidRecord},
		{"last offset delta", topic, tamper(put32(23, 7), true), wire.InvalidRecord},
		{"negative delta", topic, tamper(put32(23, 1<<31), true), wire.InvalidRecord},
		{"no records", topic, tamper(put32(57, 0), true), wire.InvalidRecord},
		{
			"too many records",
			topic,
			tamper(func(b record.Batch) { put32(57, 1<<31-1)(b); put32(23, 1<<31-2)(b) }, true),
			wire.InvalidRecord,
		},
		{"timestamp before all time", topic, tamper(put64(27, 1<<63), true), wire.InvalidTimestamp},
		{"records that are none", topic, tamper(func(b record.Batch) { b[61] = 0x7f }, true), wire.InvalidRecord},
		{"gzip that is none", topic, tamper(put16(21, 1), true), wire.InvalidRecord},
		{"two batches", topic, append(batchOf(1, 1), batchOf(1, 1)...), wire.InvalidRecord},
		{"too large", topic, batchOf(1, 3000), wire.MessageTooLarge},
		{"no key in a compacted topic", compacted, noKey, wire.InvalidRecord},
	}
	c := h.dial()
	for _, tc := range cases {
		p := produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(tc.topic, 0, -1, tc.data)))
		wantCode(t, tc.name, p.ErrorCode, tc.want)
		if p.BaseOffset != -1 || p.ErrorMessage == nil || *p.ErrorMessage == "" {
			t.Fatalf("%s: %+v", tc.name, p)
		}
	}
	for _, topic := range []*stream.Topic{topic, compacted} {
		if _, n := h.readBack(topic.Partitions[0]); n != 0 {
			t.Fatalf("%d records of %s were stored", n, topic.Name)
		}
	}
}

// A bomb costs its bound and not its promise.
func TestProduceBomb(t *testing.T) { eachWay(t, playProduceBomb) }

func playProduceBomb(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	for _, codec := range []record.Codec{record.LZ4, record.Zstd} {
		var b record.Builder
		b.Reset(nil, 0)
		for range 9 {
			b.Append(&record.Record{Value: make([]byte, 8<<20)})
		}
		bomb, err := b.SealCompressed(0, 0, codec)
		if err != nil {
			t.Fatal(err)
		}
		p := produced(askFor[*kmsg.ProduceResponse](h.dial(), 9, produceTo(topic, 0, -1, bomb)))
		if p.ErrorCode == wire.None {
			t.Fatalf("%d bytes of %s that become 72 MiB are stored", len(bomb), codec)
		}
	}
}

func TestProduceRefusals(t *testing.T) { eachWay(t, playProduceRefusals) }

func playProduceRefusals(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	c := h.dial()
	ask := func(what string, version int16, req *kmsg.ProduceRequest, want wire.Code) {
		t.Helper()
		wantCode(t, what, produced(askFor[*kmsg.ProduceResponse](c, version, req)).ErrorCode, want)
	}
	good := batchOf(1, 1)
	ask("acks 2", 9, produceTo(topic, 0, 2, good), wire.InvalidRequiredAcks)
	ask("acks -2", 9, produceTo(topic, 0, -2, good), wire.InvalidRequiredAcks)
	ask("partition 1 of 1", 9, produceTo(topic, 1, -1, good), wire.UnknownTopicOrPartition)
	ask("partition -1", 9, produceTo(topic, -1, -1, good), wire.UnknownTopicOrPartition)
	ask("unknown topic", 9, produceTo(&stream.Topic{Name: "nope"}, 0, -1, good), wire.UnknownTopicOrPartition)
	ask("unknown id", 13, produceTo(&stream.Topic{ID: record.UUID{1}}, 0, -1, good), wire.UnknownTopicID)
	ask("internal topic", 9, produceTo(&stream.Topic{Name: "__firth_topics"}, 0, -1, good), wire.InvalidTopic)
	for _, version := range []int16{0, 1, 2} {
		ask("message set", version, produceTo(topic, 0, -1, good), wire.UnsupportedVersion)
	}
	inTxn := txnBatch(txnWho{id: 7}, 0, "v")
	outside := produceTo(topic, 0, -1, inTxn)
	ask("a transactional batch without a transactional id", 9, outside, wire.InvalidRecord)
	outside.TransactionID = new("tx")
	ask("a producer id that nobody has", 9, outside, wire.InvalidProducerIDMapping)
	var zstd record.Builder
	zstd.Reset(nil, 0)
	zstd.Append(&record.Record{Value: make([]byte, 100)})
	packed, err := zstd.SealCompressed(0, 0, record.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	ask("zstd before v7", 6, produceTo(topic, 0, -1, packed), wire.UnsupportedCompressionType)
	ask("zstd", 7, produceTo(topic, 0, -1, packed), wire.None)
	if _, n := h.readBack(topic.Partitions[0]); n != 1 {
		t.Fatalf("%d records", n)
	}
}

// sequenced is a batch of an idempotent producer.
func sequenced(id int64, epoch int16, sequence int32, n int) record.Batch {
	var b record.Builder
	b.Reset(nil, 0)
	b.SetProducer(id, epoch, sequence)
	for range n {
		b.Append(&record.Record{Value: []byte("v")})
	}
	return b.Seal(0, 0)
}

// KIP-98: a gap is refused, a repeat is answered as before, an old epoch is fenced.
//
// [Kafka-InitProducerId] [Kafka-Produce].
func TestProduceIdempotent(t *testing.T) { eachWay(t, playProduceIdempotent) }

func playProduceIdempotent(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	c := h.dial()
	init := askFor[*kmsg.InitProducerIDResponse](c, 4, kmsg.NewPtrInitProducerIDRequest())
	other := askFor[*kmsg.InitProducerIDResponse](c, 0, kmsg.NewPtrInitProducerIDRequest())
	if init.ErrorCode != 0 || init.ProducerID < 0 || init.ProducerEpoch != 0 || init.ProducerID == other.ProducerID {
		t.Fatalf("%+v %+v", init, other)
	}
	id := init.ProducerID
	steps := []struct {
		epoch    int16
		sequence int32
		want     wire.Code
		base     int64
	}{
		{0, 0, wire.None, 0},
		{0, 2, wire.None, 2},
		{0, 0, wire.None, 0}, // again
		{0, 2, wire.None, 2}, // again
		{0, 6, wire.OutOfOrderSequenceNumber, -1},
		{0, 4, wire.None, 4},
		{1, 0, wire.None, 6},
		{0, 6, wire.InvalidProducerEpoch, -1},
	}
	for _, s := range steps {
		p := produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, sequenced(id, s.epoch, s.sequence, 2))))
		what := fmt.Sprintf("epoch %d sequence %d", s.epoch, s.sequence)
		wantCode(t, what, p.ErrorCode, s.want)
		if p.BaseOffset != s.base {
			t.Fatalf("%s: offset %d, not %d", what, p.BaseOffset, s.base)
		}
	}
	if _, n := h.readBack(topic.Partitions[0]); n != 8 {
		t.Fatalf("%d records", n)
	}
}

// Many requests are sent before one answer is read: the answers come in order, and so do the records.
func TestProducePipelined(t *testing.T) { eachWay(t, playProducePipelined) }

func playProducePipelined(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 3)
	c := h.dial()
	const n = 3000
	go func() {
		for i := range n {
			req := produceTo(topic, int32(i%3), -1, batchOf(1+i%4, i%500))
			req.Version = int16(3 + i%10)
			if i%100 == 50 { // other requests among them
				meta := kmsg.NewPtrMetadataRequest()
				meta.Version = 1
				c.send(meta)
			}
			c.send(req)
		}
	}()
	last := int32(0)
	next := map[int32]int64{}
	for i := 0; i < n; {
		id, rest, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		if id != last+1 {
			t.Fatalf("response %d after %d", id, last)
		}
		last = id
		if i%100 == 50 && next[-1] == int64(i/100) {
			next[-1]++
			continue
		}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = int16(3 + i%10)
		if resp.IsFlexible() {
			rest = rest[1:]
		}
		if err := resp.ReadFrom(rest); err != nil {
			t.Fatal(err)
		}
		p := produced(resp)
		if p.ErrorCode != 0 || p.BaseOffset != next[p.Partition] || p.Partition != int32(i%3) {
			t.Fatalf("request %d: %+v, offset %d is next", i, p, next[p.Partition])
		}
		next[p.Partition] += int64(1 + i%4)
		i++
	}
}

// acks=0 is not answered; when it fails the connection goes.
func TestProduceUnacknowledged(t *testing.T) { eachWay(t, playProduceUnacknowledged) }

func playProduceUnacknowledged(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	c := h.dial()
	for range 10 {
		req := produceTo(topic, 0, 0, batchOf(2, 10))
		req.Version = 9
		c.send(req)
	}
	p := produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, 1, batchOf(1, 1))))
	if p.ErrorCode != 0 || p.BaseOffset != 20 {
		t.Fatalf("%+v", p)
	}
	bad := produceTo(topic, 7, 0, batchOf(1, 1))
	bad.Version = 9
	c.send(bad)
	c.closed("a failed produce with acks=0")
}

// A client that never reads its answers is held back and harms nobody.
func TestProduceUnread(t *testing.T) { eachWay(t, playProduceUnread) }

func playProduceUnread(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	greedy := h.dial()
	sent := make(chan error, 1)
	go func() {
		meta := kmsg.NewPtrMetadataRequest()
		meta.Version = 12
		for range 200_000 {
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, meta, 1)
			if _, err := greedy.nc.Write(frame); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	other := h.dial()
	for range 50 {
		p := produced(askFor[*kmsg.ProduceResponse](other, 9, produceTo(topic, 0, -1, batchOf(1, 10))))
		wantCode(t, "produce beside a client that does not read", p.ErrorCode, wire.None)
	}
	if err := greedy.nc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err == nil {
		t.Fatal("200,000 requests were taken from a client that reads nothing")
	}
}

func TestProduceDiskFull(t *testing.T) {
	h, disk := openSmallHouse(t)
	topic := h.topic("t", 1)
	c := h.dial()
	disk.SetCapacity(1)
	t.Cleanup(func() { disk.SetCapacity(1 << 40) })
	var p kmsg.ProduceResponseTopicPartition
	for i := 0; i < 2000 && p.ErrorCode == wire.None; i++ {
		p = produced(askFor[*kmsg.ProduceResponse](c, 9, produceTo(topic, 0, -1, batchOf(1, 10_000))))
	}
	wantCode(t, "produce on a full disk", p.ErrorCode, wire.KafkaStorageError)
	f := fetched(askFor[*kmsg.FetchResponse](c, 12, fetchFrom(topic, 0, 0, 0, 1)))
	if f.ErrorCode != 0 || len(f.RecordBatches) == 0 {
		t.Fatalf("reads do not go on: %+v", f)
	}
}

// An answer in flight when the client leaves harms nobody.
func TestProduceAndLeave(t *testing.T) { eachWay(t, playProduceAndLeave) }

func playProduceAndLeave(t *testing.T, piece int) {
	h := openPieces(t, piece)
	topic := h.topic("t", 1)
	for range 200 {
		c := h.dial()
		for range 5 {
			req := produceTo(topic, 0, -1, batchOf(1, 100))
			req.Version = 9
			c.send(req)
		}
		if err := c.nc.Close(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	p := produced(askFor[*kmsg.ProduceResponse](h.dial(), 9, produceTo(topic, 0, -1, batchOf(1, 10))))
	wantCode(t, "produce after them", p.ErrorCode, wire.None)
}

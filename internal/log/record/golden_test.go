package record

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// goldenRecords are the records that testdata/golden/Golden.java gave to Kafka's own library.
func goldenRecords() []Record {
	rs := make([]Record, 12)
	for i := range rs {
		r := &rs[i]
		r.Timestamp = 1_700_000_000_000 + int64(i%5)*10 - 7
		switch i % 3 {
		case 1:
			r.Key = []byte{}
		case 2:
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i%4 != 3 {
			r.Value = fmt.Appendf(nil, "value %d %s", i, strings.Repeat("x", i*5))
		}
		if i%2 == 1 {
			r.Headers = []Header{{"h", []byte{1, 2}}, {"null", nil}, {"h", []byte{}}}
		}
	}
	return rs
}

func golden(t *testing.T) map[string]Batch {
	t.Helper()
	text, err := os.ReadFile("testdata/golden/kafka-clients-4.1.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	batches := map[string]Batch{}
	for line := range strings.Lines(string(text)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		batches[name] = b
	}
	return batches
}

// TestGolden reads what Kafka's own library wrote.
func TestGolden(t *testing.T) {
	all := golden(t)
	var s Scratch
	for codec := None; codec <= Zstd; codec++ {
		name := "java-" + codec.String()
		b := all[name]
		if err := judge(b, 1<<20, &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Attributes().Codec() != codec || b.LeaderEpoch() != 5 || b.Magic() != 2 ||
			b.ProducerID() != -1 || b.ProducerEpoch() != -1 || b.BaseSequence() != -1 {
			t.Errorf("%s: header %x", name, b[:BatchOverhead])
		}
		wantRecords(t, b, &s, 42, goldenRecords())
	}
	if b := all["java-idempotent"]; judge(b, 1<<20, &s) != nil || b.ProducerID() != 77 || b.ProducerEpoch() != 3 ||
		b.BaseSequence() != 2147483640 || b.LastSequence() != 3 {
		t.Errorf("idempotent: header %x", b[:BatchOverhead])
	}
	if b := all["java-transactional"]; judge(b, 1<<20, &s) != nil || !b.Attributes().Transactional() {
		t.Errorf("transactional: header %x", b[:BatchOverhead])
	}
	stamped := goldenRecords()
	for i := range stamped {
		stamped[i].Timestamp = 1_700_000_001_234
	}
	wantRecords(t, all["java-logappend"], &s, 42, stamped)

	marker := all["java-commit-marker"]
	if err := marker.Check(); err != nil || !marker.Attributes().Control() {
		t.Errorf("marker: %v, header %x", err, marker[:BatchOverhead])
	}
	if err := judge(marker, 1<<20, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("marker from a client: %v, want Invalid", err)
	}
}

// TestGoldenWrite makes the same bytes as Kafka's own library, and Java's log append time.
func TestGoldenWrite(t *testing.T) {
	all, rs := golden(t), goldenRecords()
	if got, want := build(rs).Seal(42, 5), all["java-none"]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	bu := build(rs)
	bu.SetProducer(77, 3, 2147483640)
	if got, want := bu.Seal(42, 5), all["java-idempotent"]; !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	stamped := build(rs).Seal(42, 5)
	stamped.SetLogAppendTime(1_700_000_001_234)
	if want := all["java-logappend"]; !bytes.Equal(stamped, want) {
		t.Errorf("got  %x\nwant %x", stamped, want)
	}
}

var kgoCodecs = map[Codec]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
	LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

// TestKgoReads gives our batches to franz-go's consumer.
func TestKgoReads(t *testing.T) {
	rs := sample(300)
	for codec := range kgoCodecs {
		b, err := build(rs).SealCompressed(1000, 4, codec)
		if err != nil {
			t.Fatal(err)
		}
		part := kmsg.NewFetchResponseTopicPartition()
		part.RecordBatches, part.HighWatermark, part.LastStableOffset = b, 1300, 1300
		opts := kgo.ProcessFetchPartitionOpts{Offset: 1000, Topic: "t"}
		got, _ := kgo.ProcessFetchPartition(opts, &part, kgo.DefaultDecompressor(), nil)
		if got.Err != nil || len(got.Records) != len(rs) {
			t.Fatalf("%s: %d records, %v", codec, len(got.Records), got.Err)
		}
		for i, r := range got.Records {
			w := rs[i]
			if r.Offset != 1000+int64(i) || r.Timestamp.UnixMilli() != w.Timestamp || !sameBytes(r.Key, w.Key) ||
				!sameBytes(r.Value, w.Value) || len(r.Headers) != len(w.Headers) || r.LeaderEpoch != 4 {
				t.Fatalf("%s: record %d is %+v, want %+v", codec, i, r, w)
			}
		}
	}
}

// TestKgoWrites reads batches with kmsg's header and records packed by franz-go's producer.
func TestKgoWrites(t *testing.T) {
	rs := sample(300)
	plain := build(rs).Seal(0, 0)[BatchOverhead:]
	var s Scratch
	for codec, its := range kgoCodecs {
		c, err := kgo.DefaultCompressor(its)
		if err != nil {
			t.Fatal(err)
		}
		packed := plain
		if c != nil && codec != None {
			packed, _ = c.Compress(new(bytes.Buffer), plain)
		}
		kb := kmsg.RecordBatch{
			FirstOffset: 9, Length: int32(BatchOverhead - lengthEnd + len(packed)), PartitionLeaderEpoch: -1, Magic: 2,
			Attributes: int16(codec), LastOffsetDelta: 299, FirstTimestamp: rs[0].Timestamp, MaxTimestamp: rs[0].Timestamp + 6,
			ProducerID: math.MaxInt64, ProducerEpoch: math.MaxInt16, FirstSequence: 3, NumRecords: 300, Records: packed,
		}
		b := Batch(kb.AppendTo(nil))
		reseal(b)
		if err := judge(b, 1<<20, &s); err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
		if b.ProducerID() != math.MaxInt64 || b.ProducerEpoch() != math.MaxInt16 ||
			b.BaseSequence() != 3 || b.LastSequence() != 302 {
			t.Fatalf("%s: header %x", codec, b[:BatchOverhead])
		}
		wantRecords(t, b, &s, 9, rs)
	}
}

// TestDocExample holds the code to the example of docs/format/batch.md.
func TestDocExample(t *testing.T) {
	page, err := os.ReadFile("../../../docs/format/batch.md")
	if err != nil {
		t.Fatal(err)
	}
	var bu Builder
	bu.Reset(nil, 1_700_000_000_000)
	bu.Append(&Record{
		Timestamp: 1_700_000_000_000, Key: []byte("sensors/room1/temp"), Value: []byte("21.5"),
		Headers: []Header{{"unit", []byte("C")}},
	})
	b := bu.Seal(42, 5)
	for at := 0; at < len(b); at += 16 {
		if line := fmt.Sprintf("%04x  % x", at, []byte(b[at:min(at+16, len(b))])); !bytes.Contains(page, []byte(line)) {
			t.Errorf("the page does not have %q", line)
		}
	}
}

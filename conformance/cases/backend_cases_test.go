package cases

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Error codes of Kafka.
const (
	corruptMessage   = 2
	invalidTopic     = 17
	invalidTimestamp = 32
	outOfOrder       = 45
	invalidRecord    = 87
)

// year2019 is a time that no clock of a node has today.
const year2019 = 1_546_300_800_000

func zip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// TestK4: the times of a batch are those of its records, whatever its header says.
func TestK4(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("k4")
	now := time.Now().UnixMilli()
	for topic, tc := range map[string]struct {
		base, header, stored int64
	}{"without": {-1, 0, -1}, "now": {now, 0, now}, "minus1": {now, -1, now}, "far": {now, now + 1e12, now}} {
		c.create(topic, "retention.ms", "3600000")
		c.produce(topic, batch(entries(10, tc.base, []byte("v")), func(rb *kmsg.RecordBatch) { rb.MaxTimestamp = tc.header }))
		if got := maxTimestamp(c, topic); got != tc.stored {
			t.Errorf("%s: the stored header says %d, want %d", topic, got, tc.stored)
		}
	}
	c.create("past", "retention.ms", "3600000", "segment.bytes", "16384")
	for range 20 {
		c.produce("past", batch(entries(10, 1, make([]byte, 1000)), func(rb *kmsg.RecordBatch) { rb.MaxTimestamp = now }))
	}
	removed := func() bool { return c.offset("past", earliest).Offset > 0 }
	until(t, "records of 1970 under a header that says now are removed", removed)
	for _, topic := range []string{"without", "now", "minus1", "far"} {
		if at := c.offset(topic, earliest).Offset; at != 0 {
			t.Errorf("%s begins at %d after a pass of retention", topic, at)
		}
	}
}

// maxTimestamp fetches the first batch of a topic and gives the largest time in its header.
func maxTimestamp(c *client, topic string) int64 {
	c.t.Helper()
	var rb kmsg.RecordBatch
	if err := rb.ReadFrom(c.fetch(topic, 0).RecordBatches); err != nil {
		c.t.Fatal(err)
	}
	return rb.MaxTimestamp
}

// fetch reads partition 0 of a topic from an offset.
func (c *client) fetch(topic string, from int64) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = from, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MaxBytes, req.Topics = 100, 50<<20, append(req.Topics, rt)
	return ask[*kmsg.FetchResponse](c, 12, req).Topics[0].Partitions[0]
}

// TestF01: lookups by time and the bounds on times go by the records, not by the header above them.
func TestF01(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("f01")
	now := time.Now().UnixMilli()
	all := make([]entry, 100)
	for i := range all {
		all[i] = entry{now - 100_000 + int64(i)*1000, []byte("k"), fmt.Append(nil, i)}
	}
	for name, pack := range map[string]func([]byte) []byte{"plain": nil, "gzip": zip} {
		codec := int16(0)
		if pack != nil {
			codec = 1
		}
		for lie, header := range map[string]int64{"minus1": -1, "small": all[10].at} {
			topic := name + lie
			c.create(topic)
			c.produce(topic, packed(all, codec, pack, func(rb *kmsg.RecordBatch) { rb.MaxTimestamp = header }))
			if p := c.offset(topic, all[50].at); p.Offset != 50 {
				t.Errorf("%s: record 50 is found at %d", topic, p.Offset)
			}
			if p := c.offset(topic, newest); p.Offset != 99 {
				t.Errorf("%s: the newest record is at %d", topic, p.Offset)
			}
		}
		far := entries(10, now, []byte("v"))
		far[5].at += 315_360_000_000
		c.create(name + "far")
		lying := packed(far, codec, pack, func(rb *kmsg.RecordBatch) { rb.MaxTimestamp = now })
		if p := c.produced(9, name+"far", lying); p.ErrorCode != invalidTimestamp {
			t.Errorf("%s: a record ten years ahead under a header that says now: %d", name, p.ErrorCode)
		}
	}
}

// blamed are the indexes of the records that an answer names.
func blamed(p kmsg.ProduceResponseTopicPartition) (all []int32) {
	for _, r := range p.ErrorRecords {
		all = append(all, r.RelativeOffset)
	}
	return all
}

// TestK5: INVALID_RECORD names the records without a key in a compacted topic, not the whole batch (KIP-467).
func TestK5(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("k5")
	c.create("c", "cleanup.policy", "compact")
	all := entries(10, time.Now().UnixMilli(), []byte("v"))
	all[3].key, all[8].key = nil, nil
	if p := c.produced(9, "c", batch(all, nil)); p.ErrorCode != invalidRecord || !slices.Equal(blamed(p), []int32{3, 8}) {
		t.Errorf("code %d, records %v", p.ErrorCode, blamed(p))
	}
}

// TestF11: INVALID_TIMESTAMP names the records.
func TestF11(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("f11")
	c.create("d")
	all := entries(3, time.Now().UnixMilli(), []byte("v"))
	all[1].at *= 1_000_000
	if p := c.produced(8, "d", batch(all, nil)); p.ErrorCode != invalidTimestamp || !slices.Equal(blamed(p), []int32{1}) {
		t.Errorf("code %d, records %v", p.ErrorCode, blamed(p))
	}
}

// TestF10: the newest record is the newest of what is left, before and after a restart.
func TestF10(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("f10")
	c.create("a")
	at := func(times ...int64) []byte {
		all := make([]entry, len(times))
		for i, ms := range times {
			all[i] = entry{ms, []byte("k"), []byte("v")}
		}
		return batch(all, nil)
	}
	c.produce("a", at(1, 30, 3))
	c.produce("a", at(2, 30))
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = 2
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = "a", append(rt.Partitions, rp)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10_000
	if p := ask[*kmsg.DeleteRecordsResponse](c, 2, req).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Fatalf("DeleteRecords: %d", p.ErrorCode)
	}
	for _, when := range []string{"before", "after"} {
		if p := c.offset("a", newest); p.Timestamp != 30 || p.Offset != 4 {
			t.Errorf("%s a restart: time %d at %d, want 30 at 4", when, p.Timestamp, p.Offset)
		}
		if when == "before" {
			n.kill()
			n.launch()
			c = n.client("f10")
		}
	}
}

// TestF23: LZ4 that the Java client cannot read is refused.
func TestF23(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("f23")
	c.create("fleet")
	all := make([]entry, 1000)
	for i := range all {
		value := fmt.Appendf(nil, "msg-%d-%0*d", i, i%500+1, 0)
		all[i] = entry{1_700_000_000_000 + int64(i), []byte("fleet/dev1"), value}
	}
	frame := func(b []byte) []byte {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.ChecksumOption(false)); err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	for name, tc := range map[string]struct {
		pack func([]byte) []byte
		good bool
	}{
		"independent blocks": {frame, true},
		"linked blocks":      {func(b []byte) []byte { return linked(frame(b)) }, false},
		"two frames":         {func(b []byte) []byte { return append(frame(b[:len(b)/2]), frame(b[len(b)/2:])...) }, false},
		"a skippable frame in front": {func(b []byte) []byte {
			return append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), frame(b)...)
		}, false},
	} {
		p := c.produced(9, "fleet", packed(all, 3, tc.pack, nil))
		refused := p.ErrorCode == invalidRecord || p.ErrorCode == corruptMessage
		if tc.good && p.ErrorCode != 0 || !tc.good && !refused {
			t.Errorf("%s: %d", name, p.ErrorCode)
		}
	}
}

// linked says in the header of an LZ4 frame that its blocks depend on each other, and makes its checksum right.
func linked(frame []byte) []byte {
	const flags, descriptor, check = 4, 5, 6
	frame[flags] &^= 1 << 5
	frame[check] = byte(xxh32(frame[flags:check]) >> 8)
	return frame
}

// xxh32 is XXH32 with seed 0 of less than four bytes.
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p5 = 2654435761, 2246822519, 3266489917, 374761393
	h := uint32(p5) + uint32(len(b))
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}

// TestXXH32 holds the checksum to the header of a frame that a library wrote.
func TestXXH32(t *testing.T) {
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	w.Write([]byte("x"))
	w.Close()
	if b := out.Bytes(); binary.LittleEndian.Uint32(b) != 0x184d2204 || b[6] != byte(xxh32(b[4:6])>>8) {
		t.Errorf("% x: %x", b[:7], xxh32(b[4:6]))
	}
}

// TestK1: a topic id that is not zero decides, whatever the name beside it; the Java client sends "".
func TestK1(t *testing.T) {
	n := start(t)
	c := n.client("k1")
	c.create("k1")
	id := c.topicID("k1")
	for _, version := range []int16{12, 13} {
		for _, name := range []*string{nil, new(string)} {
			rt := kmsg.NewMetadataRequestTopic()
			rt.TopicID, rt.Topic = id, name
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = append(req.Topics, rt)
			r := ask[*kmsg.MetadataResponse](c, version, req).Topics[0]
			if r.ErrorCode != 0 || r.TopicID != id || r.Topic == nil || *r.Topic != "k1" {
				t.Errorf("v%d, name %v: %+v", version, name, r)
			}
		}
	}
}

// TestK2: any offset is kept: kafkajs commits -2 and -1 to start over.
func TestK2(t *testing.T) {
	n := start(t)
	c := n.client("k2")
	c.create("t")
	for _, offset := range []int64{-2, -1, 7} {
		code, err := c.commit(7, "g", "t", offset)
		if got := c.committed("g", "t"); code != 0 || err != nil || got != offset {
			t.Errorf("commit of %d: %d, %v, then %d", offset, code, err, got)
		}
	}
}

// TestK3: a batch that repeats a part of an earlier one is out of order, not a duplicate: nothing of it was stored.
func TestK3(t *testing.T) {
	n := start(t)
	c := n.client("k3")
	send := func(topic string, id *kmsg.InitProducerIDResponse, first int32, count int) int16 {
		return c.produced(9, topic, batch(entries(count, time.Now().UnixMilli(), []byte("v")), func(rb *kmsg.RecordBatch) {
			rb.ProducerID, rb.ProducerEpoch, rb.FirstSequence = id.ProducerID, id.ProducerEpoch, first
		})).ErrorCode
	}
	for name, tc := range map[string]struct {
		first int32
		count int
		want  int16
	}{
		"overlap": {3, 7, outOfOrder}, "part": {1, 2, outOfOrder}, "gap": {6, 1, outOfOrder},
		"whole": {0, 5, 0}, "next": {5, 2, 0},
	} {
		c.create(name)
		id := ask[*kmsg.InitProducerIDResponse](c, 1, kmsg.NewPtrInitProducerIDRequest())
		if code := send(name, id, 0, 5); code != 0 {
			t.Fatal(code)
		}
		if code := send(name, id, tc.first, tc.count); code != tc.want {
			t.Errorf("%s: %d, want %d", name, code, tc.want)
		}
	}
	c.create("old")
	id := ask[*kmsg.InitProducerIDResponse](c, 1, kmsg.NewPtrInitProducerIDRequest())
	for i := range int32(10) {
		if code := send("old", id, i, 1); code != 0 {
			t.Fatal(code)
		}
	}
	if code := send("old", id, 0, 1); code != outOfOrder {
		t.Errorf("a repeat older than the window: %d", code)
	}
}

// TestK6: only names that have a meaning are closed.
func TestK6(t *testing.T) {
	n := start(t)
	c := n.client("k6")
	for _, name := range []string{"__debezium-heartbeat.x", "__CruiseControlMetrics", "__strimzi_canary"} {
		if code := c.create(name); code != 0 {
			t.Errorf("CreateTopics %s: %d", name, code)
		}
		name += ".auto"
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation, req.Topics = true, append(req.Topics, rt)
		until(t, "auto-creation of "+name, func() bool {
			r := ask[*kmsg.MetadataResponse](c, 9, req).Topics[0]
			if r.ErrorCode == invalidTopic {
				t.Fatalf("auto-creation of %s: %d", name, r.ErrorCode)
			}
			return r.ErrorCode == 0
		})
	}
	for _, name := range []string{"__firth_x", "__consumer_offsets", "__transaction_state", "__share_group_state",
		"__cluster_metadata", "__remote_log_metadata"} {
		if code := c.create(name); code == 0 {
			t.Errorf("CreateTopics %s was let through", name)
		}
	}
	d := n.connect(v5, "k6")
	d.send(d.subscribe("#", 0))
	d.read()
	c.produce("__strimzi_canary", batch(entries(1, time.Now().UnixMilli(), []byte("v")), nil))
	d.send(d.publish(2, "seen", 1, nil))
	for {
		p := d.read()
		if p[0]>>4 != 3 {
			continue
		}
		if topicOf(p) != "seen" {
			t.Errorf("MQTT sees a record of an internal topic: %s", topicOf(p))
		}
		return
	}
}

// TestK7: names that collide in the metrics of Kafka cannot both be made.
func TestK7(t *testing.T) {
	n := start(t)
	c := n.client("k7")
	for i, name := range []string{"co.l", "co_l"} {
		if code := c.create(name); code != []int16{0, invalidTopic}[i] {
			t.Errorf("%s: %d", name, code)
		}
	}
}

// TestK8: the earliest offset has a leader epoch, in an empty log too.
func TestK8(t *testing.T) {
	n := start(t)
	c := n.client("k8")
	c.create("t")
	for _, what := range []string{"empty", "with a record"} {
		for _, at := range []int64{earliest, latest} {
			if p := c.offset("t", at); p.LeaderEpoch < 0 {
				t.Errorf("%s, %d: leader epoch %d", what, at, p.LeaderEpoch)
			}
		}
		c.produce("t", batch(entries(1, time.Now().UnixMilli(), []byte("v")), nil))
	}
}

// retainPassed waits until the node has looked once for what is too old: a topic that keeps nothing has lost some.
func retainPassed(t *testing.T, c *client) {
	t.Helper()
	topic := fmt.Sprint("honest-", time.Now().UnixNano())
	c.create(topic, "retention.ms", "1", "segment.bytes", "16384")
	for range 20 {
		c.produce(topic, batch(entries(10, time.Now().UnixMilli()-60_000, make([]byte, 1000)), nil))
	}
	until(t, "a pass of retention", func() bool { return c.offset(topic, earliest).Offset > 0 })
}

// TestF13: an idempotent producer that tries again after kill -9 has one copy, whatever the times of its records.
func TestF13(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.client("f13")
	times := map[string]int64{"now": time.Now().UnixMilli(), "y2019": year2019, "none": -1}
	batches := map[string][]byte{}
	for topic, at := range times {
		c.create(topic)
		id := ask[*kmsg.InitProducerIDResponse](c, 1, kmsg.NewPtrInitProducerIDRequest())
		for i := range int32(2) {
			batches[topic] = batch(entries(1, at, []byte("v")), func(rb *kmsg.RecordBatch) {
				rb.ProducerID, rb.ProducerEpoch, rb.FirstSequence = id.ProducerID, id.ProducerEpoch, i
			})
			c.produce(topic, batches[topic])
		}
	}
	n.kill()
	n.launch()
	c = n.client("f13")
	for _, when := range []string{"at once", "after a pass of the keeper"} {
		if when != "at once" {
			retainPassed(t, c)
		}
		for topic, again := range batches {
			p := c.produced(9, topic, again)
			if end := c.offset(topic, latest).Offset; p.ErrorCode != 0 || end != 2 {
				t.Errorf("%s, %s: code %d, the log ends at %d, want 2", topic, when, p.ErrorCode, end)
			}
		}
	}
}

// TestF02: OffsetCommit v1 of an old sarama is served.
func TestF02(t *testing.T) {
	n := start(t)
	c := n.client("f02")
	c.create("t")
	c.produce("t", batch(entries(8, year2019, []byte("v")), nil))
	for range 30 {
		code, err := n.client("old-sarama-77").commit(1, "g", "t", 7)
		if err != nil || code != 0 {
			t.Fatalf("OffsetCommit v1: %d, %v", code, err)
		}
	}
	if got := c.committed("g", "t"); got != 7 {
		t.Errorf("committed %d", got)
	}
}

// TestF08: what is too old for this server is refused with one line that says who asks for what, and counted.
func TestF08(t *testing.T) {
	n := start(t)
	n.client("f08").create("t")
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x13\x52\xc3\xe6\x10\x00\x00" + // a message set
		"\xff\xff\xff\xff\x00\x00\x00\x05hello")
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
	produce := kmsg.NewPtrProduceRequest()
	produce.Acks, produce.TimeoutMillis, produce.Topics = 1, 5000, append(produce.Topics, rt)
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 1 << 20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = "t", append(ft.Partitions, fp)
	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxWaitMillis, fetch.MinBytes, fetch.Topics = 100, 1, append(fetch.Topics, ft)
	for api, req := range map[string]kmsg.Request{"Produce": produce, "Fetch": fetch} {
		for range 100 {
			if _, err := n.client("netscaler-9").try(0, req); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%s v0: %v", api, err)
			}
		}
		until(t, "a line about "+api, func() bool { return len(n.lines("netscaler-9", api, "v0")) > 0 })
		counted := 0.0
		for name, value := range n.metrics() {
			if strings.Contains(name, `"`+api+`"`) && strings.Contains(name, "version") {
				counted += value
			}
		}
		if lines := n.lines("netscaler-9", api); len(lines) != 1 || counted < 100 {
			t.Errorf("%s v0, 100 times: counted %v, lines:\n%s", api, counted, strings.Join(lines, ""))
		}
	}
}

// TestF17: a topic made again has no committed offsets, after a restart neither; and a fetch by the old id has a brake.
func TestF17(t *testing.T) {
	for _, how := range []string{"kill", "stop"} {
		t.Run(how, func(t *testing.T) {
			n := start(t)
			c := n.client("f17")
			c.create("t")
			c.create("other")
			for range 7 {
				c.produce("t", batch(entries(1, 1, []byte("old")), nil))
			}
			if code, err := c.commit(7, "g", "t", 7); code != 0 || err != nil {
				t.Fatal(code, err)
			}
			old := c.topicID("t")
			c.delete("t")
			c.create("t")
			for range 20 {
				c.produce("t", batch(entries(1, 1, []byte("new")), nil))
			}
			before := c.committed("g", "t")
			if how == "kill" {
				n.kill()
			} else {
				n.stop()
			}
			n.launch()
			c = n.client("f17")
			if after := c.committed("g", "t"); before != -1 || after != -1 {
				t.Errorf("the group has the offset %d, after the restart %d, want none", before, after)
			}
			begin := time.Now()
			for range 4 {
				ask[*kmsg.FetchResponse](c, 13, fetchIDs(500, old, c.topicID("other")))
			}
			if took := time.Since(begin); took < 1500*time.Millisecond {
				t.Errorf("four fetches with a dead topic id beside an idle topic took %v: max.wait is 500 ms", took)
			}
		})
	}
}

// fetchIDs is a fetch of partition 0 of topics by their ids.
func fetchIDs(waitMs int32, ids ...[16]byte) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = waitMs, 1, 1<<20
	for _, id := range ids {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes = 1 << 20
		rt := kmsg.NewFetchRequestTopic()
		rt.TopicID, rt.Partitions = id, append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// TestF19: what is too large for a group is answered with a code, and the connection stays.
func TestF19(t *testing.T) {
	n := start(t)
	join := func(c *client, group, member string, metadata int) (*kmsg.JoinGroupResponse, error) {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", make([]byte, metadata)
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType, req.Protocols = group, member, "consumer", append(req.Protocols, p)
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 30_000, 10_000
		resp, err := c.try(5, req)
		if err != nil {
			return nil, err
		}
		return resp.(*kmsg.JoinGroupResponse), nil
	}
	c := n.client("f19")
	if r, err := join(c, "j", "", 1<<20+1<<14); err != nil || r.ErrorCode == 0 {
		t.Errorf("JoinGroup with 1.01 MiB of metadata: %v, %v", r, err)
	}
	if r, err := join(c, "s", "", 10); err != nil {
		t.Fatalf("the connection does not stay: %v", err)
	} else if r, err = join(c, "s", r.MemberID, 10); err != nil || r.ErrorCode != 0 {
		t.Fatalf("JoinGroup: %+v, %v", r, err)
	} else {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = r.MemberID, make([]byte, 4<<20+1<<17)
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.Generation, req.MemberID = "s", r.Generation, r.MemberID
		req.GroupAssignment = append(req.GroupAssignment, a)
		resp, err := c.try(3, req)
		if err != nil || resp.(*kmsg.SyncGroupResponse).ErrorCode == 0 {
			t.Errorf("SyncGroup with 4.1 MiB: %s, %v", fmt.Sprintf("%.100v", resp), err)
		}
	}
	c.create("still here")
}

package cases

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/conformance/outside"
)

// client is a raw Kafka connection: requests of kmsg at any version, one at a time.
type client struct {
	t    *testing.T
	conn net.Conn
	form *kmsg.RequestFormatter
	last int32 // correlation id
}

func (n *node) client(id string) *client {
	n.t.Helper()
	c, err := net.Dial("tcp", n.kafka)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return &client{t: n.t, conn: c, form: kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))}
}

// try sends a request and reads its answer. Errors: io.EOF when the connection ends instead.
func (c *client) try(version int16, req kmsg.Request) (kmsg.Response, error) {
	req.SetVersion(version)
	c.last++
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	frame, err := outside.Ask(c.conn, c.form.AppendRequest(nil, req, c.last))
	if err != nil {
		return nil, ended(err)
	}
	if id := int32(binary.BigEndian.Uint32(frame)); id != c.last {
		return nil, errors.New("an answer to another request")
	}
	resp, answer := req.ResponseKind(), frame[4:]
	if resp.IsFlexible() && resp.Key() != 18 {
		answer = answer[1:] // no tags
	}
	return resp, resp.ReadFrom(answer)
}

// ask sends a request that must be answered.
func ask[R kmsg.Response](c *client, version int16, req kmsg.Request) R {
	c.t.Helper()
	resp, err := c.try(version, req)
	if err != nil {
		c.t.Fatalf("%T v%d: %v", req, version, err)
	}
	return resp.(R)
}

// create makes a topic with settings name, value, ... and gives the error code.
func (c *client) create(topic string, settings ...string) int16 {
	c.t.Helper()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
	for i := 0; i < len(settings); i += 2 {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = settings[i], &settings[i+1]
		rt.Configs = append(rt.Configs, rc)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10_000
	return ask[*kmsg.CreateTopicsResponse](c, 5, req).Topics[0].ErrorCode
}

// produced sends a batch to partition 0 of a topic and gives the answer of that partition.
func (c *client) produced(version int16, topic string, batch []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 30_000, append(req.Topics, rt)
	return ask[*kmsg.ProduceResponse](c, version, req).Topics[0].Partitions[0]
}

// produce sends a batch that must be taken.
func (c *client) produce(topic string, batch []byte) {
	c.t.Helper()
	if p := c.produced(9, topic, batch); p.ErrorCode != 0 {
		c.t.Fatalf("Produce to %s: %d", topic, p.ErrorCode)
	}
}

// The times of ListOffsets that are places.
const (
	latest   = -1
	earliest = -2
	newest   = -3
)

// offset asks ListOffsets about partition 0 of a topic.
func (c *client) offset(topic string, at int64) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp = at
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.Topics = -1, append(req.Topics, rt)
	return ask[*kmsg.ListOffsetsResponse](c, 7, req).Topics[0].Partitions[0]
}

// entry is one record.
type entry struct {
	at         int64 // milliseconds since 1970
	key, value []byte
}

// batch makes a record batch; change may tell lies in its header before the checksum is taken.
func batch(entries []entry, change func(*kmsg.RecordBatch)) []byte {
	return packed(entries, 0, nil, change)
}

// packed makes a batch whose records are compressed by pack, with the codec's number in attributes.
func packed(entries []entry, codec int16, pack func([]byte) []byte, change func(*kmsg.RecordBatch)) []byte {
	rb := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: codec, LastOffsetDelta: int32(len(entries) - 1),
		FirstTimestamp: entries[0].at, MaxTimestamp: entries[0].at, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(len(entries))}
	for i, e := range entries {
		rb.MaxTimestamp = max(rb.MaxTimestamp, e.at)
		r := kmsg.Record{TimestampDelta64: e.at - rb.FirstTimestamp, OffsetDelta: int32(i), Key: e.key, Value: e.value}
		bare := r.AppendTo(nil)
		r.Length = int32(len(bare) - len(binary.AppendVarint(nil, 0)))
		rb.Records = r.AppendTo(rb.Records)
	}
	if pack != nil {
		rb.Records = pack(rb.Records)
	}
	if change != nil {
		change(&rb)
	}
	b := rb.AppendTo(nil)
	const crcAt, dataAt = 17, 21
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[dataAt:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// entries are n records of one time with keys.
func entries(n int, at int64, value []byte) []entry {
	all := make([]entry, n)
	for i := range all {
		all[i] = entry{at, []byte("k"), value}
	}
	return all
}

// commit commits an offset of partition 0 for a group without members and gives the error code.
func (c *client) commit(version int16, group, topic string, offset int64) (int16, error) {
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.Topics = group, -1, append(req.Topics, rt)
	resp, err := c.try(version, req)
	if err != nil {
		return 0, err
	}
	return resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode, nil
}

// committed is the offset that a group has in partition 0.
func (c *client) committed(group, topic string) int64 {
	c.t.Helper()
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Topics = group, append(req.Topics, rt)
	p := ask[*kmsg.OffsetFetchResponse](c, 5, req).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		c.t.Fatalf("OffsetFetch: %d", p.ErrorCode)
	}
	return p.Offset
}

// topicID is the id of a topic by its name.
func (c *client) topicID(topic string) [16]byte {
	c.t.Helper()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, rt)
	return ask[*kmsg.MetadataResponse](c, 12, req).Topics[0].TopicID
}

func (c *client) delete(topic string) {
	c.t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames, req.TimeoutMillis = []string{topic}, 10_000
	if r := ask[*kmsg.DeleteTopicsResponse](c, 4, req).Topics[0]; r.ErrorCode != 0 {
		c.t.Fatalf("DeleteTopics: %d", r.ErrorCode)
	}
}

package kafka

import (
	"context"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What guests ask for. Each is one request of Kafka: what it says of rights, limits and errors holds. The versions are
// those that clients of today use.

// guestOp is the operation in errors.
const guestOp = "kafka"

// answerTo asks, and gives the answer as what it is. Errors: those of ask.
func answerTo[Resp kmsg.Response](ctx context.Context, d *Door, g *Guest, req kmsg.Request) (resp Resp, err error) {
	version := min(wire.Find(req.Key()).Max, req.MaxVersion())
	if most, is := byName[req.Key()]; is {
		version = min(version, most)
	}
	req.SetVersion(version)
	got, err := d.ask(ctx, g, req)
	if err != nil {
		return resp, err
	}
	resp, is := got.(Resp)
	if !is {
		return resp, fault.New(fault.Internal, guestOp, "a %T is no answer to a %T", got, req)
	}
	return resp, nil
}

// byName is the last version that calls topics by their names, of requests that do not in later ones.
var byName = map[int16]int16{wire.Produce: 12, wire.OffsetCommit: 9}

// errNoAnswer is about an answer that does not tell of what was asked for.
var errNoAnswer = fault.New(fault.Internal, guestOp, "the answer does not tell of what was asked for")

// Produced is what became of the records for one partition.
type Produced struct {
	Offset record.Offset // of the first
	Err    error         // nil: they are stored
}

// Produce stores records in partitions of a topic, those for one partition together and in their order. What became of
// each partition is told apart. Errors: those of ask.
func (d *Door) Produce(ctx context.Context, g Guest, topic string, to map[int32][]record.Record) (
	map[int32]Produced, error,
) {
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for _, index := range slices.Sorted(maps.Keys(to)) {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = index, sealed(to[index])
		rt.Partitions = append(rt.Partitions, rp)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 30_000, []kmsg.ProduceRequestTopic{rt}
	resp, err := answerTo[*kmsg.ProduceResponse](ctx, d, &g, req)
	if err != nil {
		return nil, err
	}
	done := map[int32]Produced{}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			done[p.Partition] = Produced{record.Offset(p.BaseOffset), guestError(guestOp, p.ErrorCode, p.ErrorMessage)}
		}
	}
	for index := range to {
		if _, told := done[index]; !told {
			return nil, errNoAnswer
		}
	}
	return done, nil
}

// sealed is records as one batch. There is at least one.
func sealed(records []record.Record) []byte {
	var b record.Builder
	b.Reset(nil, records[0].Timestamp)
	for i := range records {
		b.Append(&records[i])
	}
	return b.Seal(0, -1)
}

// CreateTopic makes a topic. 0 partitions are as many as is the default. Errors: Exists; Denied; Invalid; Limited;
// those of ask.
func (d *Door) CreateTopic(ctx context.Context, g Guest, topic string, partitions int, config map[string]string) error {
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, int32(partitions), -1
	if partitions == 0 {
		rt.NumPartitions = -1
	}
	for _, name := range slices.Sorted(maps.Keys(config)) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, new(config[name])
		rt.Configs = append(rt.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = []kmsg.CreateTopicsRequestTopic{rt}
	resp, err := answerTo[*kmsg.CreateTopicsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return err
	case len(resp.Topics) != 1:
		return errNoAnswer
	}
	return guestError(guestOp, resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
}

// GrowTopic has a topic have so many partitions, which are more than it had. Errors: as of CreateTopic, and NotFound.
func (d *Door) GrowTopic(ctx context.Context, g Guest, topic string, partitions int) error {
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, int32(partitions)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = []kmsg.CreatePartitionsRequestTopic{rt}
	resp, err := answerTo[*kmsg.CreatePartitionsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return err
	case len(resp.Topics) != 1:
		return errNoAnswer
	}
	return guestError(guestOp, resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
}

// ConfigureTopic changes settings of a topic; nil takes one back to its default. Those that are not named stay. Errors:
// as of GrowTopic.
func (d *Door) ConfigureTopic(ctx context.Context, g Guest, topic string, config map[string]*string) error {
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for _, name := range slices.Sorted(maps.Keys(config)) {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		if c.Name, c.Value = name, config[name]; c.Value == nil {
			c.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		rr.Configs = append(rr.Configs, c)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{rr}
	resp, err := answerTo[*kmsg.IncrementalAlterConfigsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return err
	case len(resp.Resources) != 1:
		return errNoAnswer
	}
	return guestError(guestOp, resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
}

// DeleteTopic deletes a topic. Errors: Denied; NotFound; Invalid; Limited; those of ask.
func (d *Door) DeleteTopic(ctx context.Context, g Guest, topic string) error {
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Topics, req.TopicNames = []kmsg.DeleteTopicsRequestTopic{rt}, []string{topic}
	resp, err := answerTo[*kmsg.DeleteTopicsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return err
	case len(resp.Topics) != 1:
		return errNoAnswer
	}
	return guestError(guestOp, resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
}

// DeleteRecords deletes the records of a partition before an offset; -1: all there are. It gives the first that is
// left. Errors: OutOfRange; as of DeleteTopic.
func (d *Door) DeleteRecords(ctx context.Context, g Guest, topic string, partition int, before record.Offset) (
	record.Offset, error,
) {
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = int32(partition), int64(before)
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.DeleteRecordsRequestTopicPartition{rp}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics, req.TimeoutMillis = []kmsg.DeleteRecordsRequestTopic{rt}, 30_000
	resp, err := answerTo[*kmsg.DeleteRecordsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return 0, err
	case len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1:
		return 0, errNoAnswer
	}
	p := &resp.Topics[0].Partitions[0]
	return record.Offset(p.LowWatermark), guestError(guestOp, p.ErrorCode, nil)
}

// CommitOffsets has a group without members go on at offsets, by topic and partition: all of them, or none. Errors:
// Exists, when it has members; Denied; NotFound; those of ask.
func (d *Door) CommitOffsets(ctx context.Context, g Guest, id string, to map[string]map[int32]int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = id, -1
	for _, topic := range slices.Sorted(maps.Keys(to)) {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		for _, index := range slices.Sorted(maps.Keys(to[topic])) {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = index, to[topic][index]
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := answerTo[*kmsg.OffsetCommitResponse](ctx, d, &g, req)
	if err != nil {
		return err
	}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if err := guestError(guestOp, p.ErrorCode, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteGroup ends a group without members, with its offsets. Errors: Exists, when it has members; Denied; NotFound;
// those of ask.
func (d *Door) DeleteGroup(ctx context.Context, g Guest, id string) error {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{id}
	resp, err := answerTo[*kmsg.DeleteGroupsResponse](ctx, d, &g, req)
	switch {
	case err != nil:
		return err
	case len(resp.Groups) != 1:
		return errNoAnswer
	}
	return guestError(guestOp, resp.Groups[0].ErrorCode, resp.Groups[0].ErrorMessage)
}

package kafka

import (
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// topic finds a topic for an operation, or says why not.
func (d *Door) topic(c *conn, topics *stream.Topics, name string, op Operation) (*stream.Topic, wire.Code) {
	t := topics.ByName(name)
	if t == nil {
		return nil, d.missing(c, op, name)
	}
	if !d.may(c, op, OnTopic, name) {
		return nil, wire.TopicAuthorizationFailed
	}
	return t, wire.None
}

// missing is the error for a topic that does not exist: who may not touch it does not learn that.
func (d *Door) missing(c *conn, op Operation, name string) wire.Code {
	if !d.may(c, op, OnTopic, name) {
		return wire.TopicAuthorizationFailed
	}
	return wire.UnknownTopicOrPartition
}

// partition finds a partition of a topic that topic found, passing its error on.
func partition(t *stream.Topic, topicCode wire.Code, index int32) (stream.PartitionID, wire.Code) {
	switch {
	case topicCode != wire.None:
		return 0, topicCode
	case index < 0 || int(index) >= len(t.Partitions):
		return 0, wire.UnknownTopicOrPartition
	}
	return t.Partitions[index], wire.None
}

// existing says whether there is a partition, for who may do anything to it.
func existing(topics *stream.Topics, name string, index int32) wire.Code {
	t := topics.ByName(name)
	if t == nil {
		return wire.UnknownTopicOrPartition
	}
	_, code := partition(t, wire.None, index)
	return code
}

// epochCode holds the leader epoch that a client goes by against ours (KIP-320); -1: it has none.
func (d *Door) epochCode(epoch int32) wire.Code {
	switch ours := d.log.Epoch(); {
	case epoch < 0 || epoch == ours:
		return wire.None
	case epoch < ours:
		return wire.FencedLeaderEpoch
	}
	return wire.UnknownLeaderEpoch
}

// words is an error for a person, with its hint.
func words(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		s += ": " + hint
	}
	return &s
}

// clusterOperations and topicOperations are what there is to do to a cluster and a topic.
var (
	clusterOperations = []Operation{
		OpCreate, OpAlter, OpDescribe, OpClusterAction, OpDescribeConfigs, OpAlterConfigs, OpIdempotentWrite,
	}
	topicOperations = []Operation{
		OpRead, OpWrite, OpCreate, OpDelete, OpAlter, OpDescribe, OpDescribeConfigs, OpAlterConfigs,
	}
)

// operations is the set of what a client may do, as bits by operation (KIP-430).
func (d *Door) operations(c *conn, all []Operation, on Resource, name string) int32 {
	var set int32
	for _, op := range all {
		if d.sees(c, op, on, name) {
			set |= 1 << op
		}
	}
	return set
}

package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics (19): v2-7.
//
// Behaviour
//   - A topic is answered when it is on stable storage. validate_only checks everything and makes
//     nothing.
//   - Partitions -1 is the default of the log, replication factor must be -1 or 1: there is one node. A
//     manual assignment must name the partitions from 0 on and this node for each.
//   - All faults of the settings are told at once, in one INVALID_CONFIG.
//   - A topic named twice is answered once, INVALID_REQUEST: clients refuse an answer that names it
//     twice. The names of the log's own topics, and those that differ from that of another topic in points and
//     underscores only, are INVALID_TOPIC_EXCEPTION.
//
// Versions: 4 default counts (KIP-464), 5 flexible, and the settings come back (KIP-525), 7 topic ids.

// createTopics answers CreateTopics.
func (d *Door) createTopics(
	ctx context.Context, c *conn, req *kmsg.CreateTopicsRequest,
) (*kmsg.CreateTopicsResponse, error) {
	resp := kmsg.NewPtrCreateTopicsResponse()
	seen := map[string]int{}
	for i := range req.Topics {
		seen[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		if seen[rt.Topic] == 0 {
			continue // named twice, and answered
		}
		answer := kmsg.NewCreateTopicsResponseTopic()
		answer.Topic, answer.NumPartitions, answer.ReplicationFactor = rt.Topic, -1, -1
		if seen[rt.Topic] > 1 {
			answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new("the topic is named twice")
			seen[rt.Topic] = 0
		} else if err := d.createTopic(ctx, c, rt, creation{req.ValidateOnly, req.Version >= 6}, &answer); err != nil {
			answer.ErrorCode, answer.ErrorMessage = createCode(err), words(err)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp, nil
}

// coded is an error with a code of its own, where its kind says too little.
type coded struct {
	error
	code wire.Code
}

func (e coded) Unwrap() error { return e.error }

// refusal is a coded error.
func refusal(code wire.Code, format string, args ...any) error {
	return coded{fmt.Errorf(format, args...), code}
}

// createCode is the code of an error of createTopic.
func createCode(err error) wire.Code {
	if e, ok := errors.AsType[coded](err); ok {
		return e.code
	}
	return code(err)
}

// creation is how topics are to be made.
type creation struct {
	dry    bool // not at all: what would come of it is asked
	strict bool // not beyond the quota
}

// createTopic makes one topic and fills in its answer.
func (d *Door) createTopic(
	ctx context.Context, c *conn, rt *kmsg.CreateTopicsRequestTopic, how creation, answer *kmsg.CreateTopicsResponseTopic,
) error {
	if !d.sees(c, OpCreate, OnCluster, ClusterResource) && !d.may(c, OpCreate, OnTopic, rt.Topic) {
		return refusal(wire.TopicAuthorizationFailed, "not allowed")
	}
	if err := checkNewName(rt.Topic); err != nil {
		return coded{err, wire.InvalidTopic}
	}
	topics := d.log.Topics()
	if topics.ByName(rt.Topic) != nil {
		return refusal(wire.TopicAlreadyExists, "topic %q already exists", rt.Topic)
	}
	if other := topics.Colliding(rt.Topic); other != nil {
		return refusal(wire.InvalidTopic, "topics %q and %q differ in . and _ only", rt.Topic, other.Name)
	}
	spec := stream.TopicSpec{Name: rt.Topic, Config: map[string]string{}}
	var err error
	if spec.Partitions, err = d.countPartitions(rt); err != nil {
		return err
	}
	var faults []error
	for _, cfg := range rt.Configs {
		if cfg.Value == nil {
			faults = append(faults, fmt.Errorf("topic setting %s: null is no value", cfg.Name))
			continue
		}
		spec.Config[cfg.Name] = *cfg.Value
	}
	if faults = append(faults, checkConfig(spec.Config)...); len(faults) > 0 {
		return coded{errors.Join(faults...), wire.InvalidConfig}
	}
	if err := d.checkFloor(spec.Config); err != nil {
		return err
	}
	if how.dry {
		n := cmp.Or(spec.Partitions, d.opt.DefaultPartitions)
		d.describeNew(c, &stream.Topic{Name: spec.Name, Config: spec.Config}, n, answer)
		return nil
	}
	if err := c.change(cmp.Or(spec.Partitions, d.opt.DefaultPartitions), how.strict); err != nil {
		return err
	}
	t, err := d.makeTopic(ctx, c, spec)
	if err != nil {
		return newTopicError(err)
	}
	answer.TopicID = t.ID
	d.describeNew(c, t, len(t.Partitions), answer)
	return nil
}

// makeTopic makes a topic that the audit has been told of. Errors: those of CreateTopic.
func (d *Door) makeTopic(ctx context.Context, c *conn, spec stream.TopicSpec) (t *stream.Topic, err error) {
	a := alteration{action: "topic.create", on: topicOf(spec.Name), after: topicState{spec.Partitions, spec.Config}}
	err = d.opt.alter(ctx, c, a, func() (err error) {
		t, err = d.log.CreateTopic(ctx, spec)
		return err
	})
	return t, err
}

// topicState is a topic as the audit has it.
type topicState struct {
	Partitions int               `json:"partitions,omitempty"`
	Config     map[string]string `json:"config,omitempty"`
}

// newTopicError gives an error of the log about a new topic its code: name and settings are checked, so
// what is invalid is the number of partitions.
func newTopicError(err error) error {
	if errors.Is(err, stream.ErrName) { // another client was faster
		return coded{err, wire.InvalidTopic}
	}
	if fault.Is(err, fault.Invalid) {
		return coded{err, wire.InvalidPartitions}
	}
	return err
}

// countPartitions is the number of partitions that is asked for; 0: the default.
func (d *Door) countPartitions(rt *kmsg.CreateTopicsRequestTopic) (int, error) {
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return 0, refusal(wire.InvalidRequest, "counts and a manual assignment exclude each other")
		}
		return d.countAssigned(rt.ReplicaAssignment)
	}
	switch {
	case rt.NumPartitions == -1:
	case rt.NumPartitions < 1:
		return 0, refusal(wire.InvalidPartitions, "%d partitions, at least 1 is needed", rt.NumPartitions)
	}
	if rt.ReplicationFactor != -1 && rt.ReplicationFactor != 1 {
		return 0, refusal(
			wire.InvalidReplicationFactor, "replication factor %d on one node, 1 or -1 is allowed", rt.ReplicationFactor,
		)
	}
	return int(max(rt.NumPartitions, 0)), nil
}

// countAssigned holds a manual assignment to the one node there is.
func (d *Door) countAssigned(all []kmsg.CreateTopicsRequestTopicReplicaAssignment) (int, error) {
	seen := map[int32]bool{}
	for _, a := range all {
		seen[a.Partition] = true
		if len(a.Replicas) != 1 || a.Replicas[0] != d.opt.NodeID {
			return 0, refusal(
				wire.InvalidReplicaAssignment, "partition %d must be assigned to node %d only", a.Partition, d.opt.NodeID,
			)
		}
	}
	for i := range int32(len(all)) {
		if !seen[i] {
			return 0, refusal(wire.InvalidReplicaAssignment, "partitions must be numbered from 0, each once")
		}
	}
	return len(all), nil
}

// describeNew says what came out of a CreateTopics, as far as the client may know.
func (d *Door) describeNew(c *conn, t *stream.Topic, partitions int, answer *kmsg.CreateTopicsResponseTopic) {
	if !d.sees(c, OpDescribeConfigs, OnTopic, t.Name) {
		answer.ConfigErrorCode = wire.TopicAuthorizationFailed
		return
	}
	answer.NumPartitions, answer.ReplicationFactor = int32(partitions), 1
	for _, def := range stream.TopicSettings() {
		value, source := d.topicSetting(t, &def)
		cfg := kmsg.NewCreateTopicsResponseTopicConfig()
		cfg.Name, cfg.Value, cfg.Source = def.Name, &value, int8(source)
		answer.Configs = append(answer.Configs, cfg)
	}
}

// checkNewName is Kafka's rule for names, and that those of the log are the log's.
func checkNewName(name string) error {
	if err := stream.CheckTopicName(name); err != nil {
		return err
	}
	if stream.Reserved(name) {
		return fault.New(fault.Denied, "topic name", "%s is for the log itself", name)
	}
	return nil
}

// checkConfig finds every fault of the settings, by name.
func checkConfig(config map[string]string) []error {
	var faults []error
	for _, name := range sortedNames(config) {
		if _, err := stream.DecodeSettings(nil, map[string]string{name: config[name]}); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

package main

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// consumerGroup asks for a group of the consumer protocol (KIP-848); is is false if there is none of that name, or the
// broker is older than that.
func consumerGroup(
	ctx context.Context, adm *kadm.Client, name string,
) (g kadm.DescribedConsumerGroup, is bool, err error) {
	all, err := adm.DescribeConsumerGroups(ctx, name)
	if err == nil {
		g = all[name]
		err = g.Err
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound), errors.Is(err, kerr.UnsupportedVersion):
		return g, false, nil
	case err != nil:
		return g, false, kafkaError("group "+name, err, "")
	}
	return g, true, nil
}

// describeConsumers describes a group of the consumer protocol: a line for every partition that it has committed, or
// that a member has.
func describeConsumers(
	ctx context.Context, adm *kadm.Client, g *kadm.DescribedConsumerGroup,
) (*groupDescription, error) {
	committed, err := adm.FetchOffsets(ctx, g.Group)
	if err != nil {
		return nil, kafkaError("group "+g.Group, err, "")
	}
	partitions := committed.Offsets().TopicsSet()
	members := map[string]map[int32]*kadm.ConsumerGroupMember{}
	for i := range g.Members {
		m := &g.Members[i]
		partitions.Merge(m.Assignment)
		for topic, indexes := range m.Assignment {
			if members[topic] == nil {
				members[topic] = map[int32]*kadm.ConsumerGroupMember{}
			}
			for index := range indexes {
				members[topic][index] = m
			}
		}
	}
	d := &groupDescription{
		Name: g.Group, State: g.State, Assignor: g.AssignorName, Members: len(g.Members), Offsets: []lagLine{},
	}
	if len(partitions) == 0 {
		return d, nil
	}
	starts, err := adm.ListStartOffsets(ctx, partitions.Topics()...)
	if err != nil {
		return nil, kafkaError("group "+g.Group, err, "")
	}
	ends, err := adm.ListEndOffsets(ctx, partitions.Topics()...)
	if err != nil {
		return nil, kafkaError("group "+g.Group, err, "")
	}
	for _, t := range partitions.Sorted() {
		for _, index := range t.Partitions {
			line := lagLine{Topic: t.Topic, Partition: index, Committed: -1, Lag: -1}
			if o, is := committed.Lookup(t.Topic, index); is {
				line.Committed = o.At
			}
			start, knowsStart := starts.Lookup(t.Topic, index)
			end, knowsEnd := ends.Lookup(t.Topic, index)
			if knowsStart && knowsEnd && start.Err == nil && end.Err == nil {
				line.Start, line.End = start.Offset, end.Offset
				line.Lag = max(0, line.End-max(line.Committed, line.Start))
			}
			if m := members[t.Topic][index]; m != nil {
				line.Member, line.Host = m.MemberID, m.ClientHost
			}
			d.Lag += max(line.Lag, 0)
			d.Offsets = append(d.Offsets, line)
		}
	}
	return d, nil
}

package migrate

import (
	"context"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// offsetsTopic holds what consumer groups have committed, on the node as at Kafka; topicIDHeader says for which topic
// of that name (docs/format/internal-topics.md).
const (
	offsetsTopic  = "__consumer_offsets"
	topicIDHeader = "topic-id"
)

// spot is a partition by its name.
type spot struct {
	topic string
	index int32
}

// committed reads what groups have committed, by group.
func (m *mover) committed(ctx context.Context) (map[string]map[spot]group.Offset, error) {
	all := map[string]map[spot]group.Offset{}
	t := m.Source.Topics().ByName(offsetsTopic)
	if t == nil {
		return all, nil
	}
	for _, p := range t.Partitions {
		b, err := m.Source.Bounds(p)
		if err != nil {
			return nil, err
		}
		folded, err := stream.Fold(ctx, m.Source, p, b.Start, func(v *record.View) error { return m.commit(all, v) })
		if err != nil {
			return nil, err
		}
		if !folded.Complete() {
			return nil, fault.New(fault.Corrupt, "migrate", "%s cannot be read whole: %w", offsetsTopic, folded.First)
		}
	}
	return all, nil
}

func (m *mover) commit(all map[string]map[spot]group.Offset, v *record.View) error {
	key, known, err := group.DecodeKey(v.Key)
	if err != nil || !known || key.Kind != group.KindOffset {
		return err // of the group itself: its members come again
	}
	at := spot{key.Topic, key.Partition}
	if v.Value == nil {
		delete(all[key.Group], at)
		return nil
	}
	offset, err := group.DecodeOffset(v.Value)
	if err != nil {
		return err
	}
	t := m.Source.Topics().ByName(key.Topic)
	if id, is := v.Header(topicIDHeader); t == nil || is && string(id) != string(t.ID[:]) {
		delete(all[key.Group], at) // of a topic that is gone
		return nil
	}
	if all[key.Group] == nil {
		all[key.Group] = map[spot]group.Offset{}
	}
	all[key.Group][at] = offset
	return nil
}

// commitGroups commits, in the cluster, what groups have committed on the node, and looks whether it is there.
func (m *mover) commitGroups(ctx context.Context) error {
	all, err := m.committed(ctx)
	if err != nil {
		return err
	}
	moved := map[string]*topic{}
	for _, t := range m.topics {
		moved[t.from.Name] = t
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var offsets []cluster.GroupOffset
		for at, o := range all[name] {
			t := moved[at.topic]
			if t == nil || int(at.index) >= len(t.state.Lower) {
				continue
			}
			offsets = append(offsets, cluster.GroupOffset{
				Topic: at.topic, Partition: at.index, At: max(o.At-t.state.Lower[at.index], 0), Metadata: o.Metadata,
			})
		}
		if len(offsets) == 0 {
			continue
		}
		if err := m.commitGroup(ctx, name, offsets); err != nil {
			return err
		}
		m.report.Groups = append(m.report.Groups, Group{Name: name, Offsets: len(offsets)})
	}
	return nil
}

func (m *mover) commitGroup(ctx context.Context, name string, offsets []cluster.GroupOffset) error {
	if wrong, err := m.uncommitted(ctx, name, offsets); err != nil || wrong == nil {
		return err
	}
	if err := m.Target.CommitOffsets(ctx, name, offsets); err != nil {
		return err
	}
	if err := m.wrote(); err != nil {
		return err
	}
	wrong, err := m.uncommitted(ctx, name, offsets)
	if err == nil && wrong != nil {
		err = fault.New(fault.Corrupt, "migrate", "group %s has not committed %d for %s[%d] in the cluster", name, wrong.At,
			wrong.Topic, wrong.Partition)
	}
	return err
}

// uncommitted is an offset that a group has not committed in the cluster, or nil.
func (m *mover) uncommitted(
	ctx context.Context, name string, offsets []cluster.GroupOffset,
) (*cluster.GroupOffset, error) {
	there, err := m.Target.Committed(ctx, name)
	if err != nil {
		return nil, err
	}
	at := map[spot]int64{}
	for _, o := range there {
		at[spot{o.Topic, o.Partition}] = o.At
	}
	for i, o := range offsets {
		if got, is := at[spot{o.Topic, o.Partition}]; !is || got != o.At {
			return &offsets[i], nil
		}
	}
	return nil, nil //nolint:nilnil // as it says
}

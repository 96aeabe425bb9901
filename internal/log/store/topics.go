package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicsTopic holds one record for each topic, by name: the set of topics is its fold. The format is a
// page in docs/format/internal-topics.md.
const TopicsTopic = "__firth_topics"

// topicsPartition is the id of its only partition.
const topicsPartition stream.PartitionID = 0

// topicRecord is the value of a record of the topics topic.
type topicRecord struct {
	Name       string               `json:"name"`
	ID         string               `json:"id"`
	Partitions []stream.PartitionID `json:"partitions"`
	Config     map[string]string    `json:"config,omitempty"`
	Changed    int64                `json:"changed"` // unix milliseconds
}

// registry is the fold of the topics topic.
type registry struct {
	byName map[string]topicRecord
	nextID uint32 // the next partition id: ids are never used twice
}

// apply folds one record in.
func (r *registry) apply(key, value []byte) error {
	if r.byName == nil {
		r.byName = make(map[string]topicRecord)
		r.nextID = max(r.nextID, uint32(topicsPartition)+1)
	}
	if value == nil {
		delete(r.byName, string(key))
		return nil
	}
	var t topicRecord
	if err := json.Unmarshal(value, &t); err != nil {
		return fault.New(fault.Corrupt, "store.Topics", "record of topic %q: %w", key, err)
	}
	if _, err := record.ParseUUID(t.ID); err != nil || t.Name != string(key) {
		return fault.New(fault.Corrupt, "store.Topics", "record of topic %q names %q, id %q", key, t.Name, t.ID)
	}
	for _, p := range t.Partitions {
		r.nextID = max(r.nextID, uint32(p)+1)
	}
	r.byName[t.Name] = t
	return nil
}

// records are the values of all topics, for a checkpoint.
func (r *registry) records() [][]byte {
	var values [][]byte
	for _, name := range slices.Sorted(maps.Keys(r.byName)) {
		t := r.byName[name]
		values = append(values, t.encode())
	}
	return values
}

func (t *topicRecord) encode() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic("store: a topic record cannot be encoded: " + err.Error()) // strings and numbers always can
	}
	return b
}

// foldTopics applies a batch of the topics topic to the set of topics and the table of partitions. The
// announcer calls it, just before the batch becomes readable.
func (s *Store) foldTopics(b record.Batch) {
	s.registryMu.Lock()
	changed, err := s.registry.fold(b)
	s.registryMu.Unlock()
	if err != nil {
		s.opt.Logger.Error("a record of the topics topic is not understood and passed over", "error", err)
	}
	s.change(changed)
}

// fold applies a batch and names the topics in it.
func (r *registry) fold(b record.Batch) (changed []string, err error) {
	var it record.Iter
	var scratch record.Scratch
	if err := it.Reset(b, &scratch); err != nil {
		return nil, err
	}
	for v := (record.View{}); it.Next(&v); {
		if bad := r.apply(v.Key, v.Value); bad != nil {
			err = bad
		}
		changed = append(changed, string(v.Key))
	}
	if flaw := it.Err(); flaw != nil {
		err = flaw
	}
	return changed, err
}

// change makes the snapshot and the table fit the registry where topics changed; install does it for all.
func (s *Store) change(names []string) {
	now, parts := s.Topics(), make(table, max(int(s.registry.nextID), 1))
	copy(parts, *s.parts.Load())
	changed := make(map[string]*stream.Topic, len(names))
	var gone []*partition.Partition
	for _, name := range names {
		if _, done := changed[name]; done || name == TopicsTopic {
			continue
		}
		if old := now.ByName(name); old != nil {
			for _, id := range old.Partitions {
				gone, parts[id] = append(gone, parts[id]), nil
			}
		}
		changed[name] = nil
		if t, ok := s.registry.byName[name]; ok {
			changed[name] = s.place(&t, s.parts.Load(), parts)
		}
	}
	for _, p := range gone {
		if p != nil && parts.find(p.ID) == nil {
			p.Delete()
		}
	}
	s.parts.Store(&parts)
	s.topics.Store(now.With(changed))
}

// place puts the partitions of a topic into the table, new ones and those it had.
func (s *Store) place(t *topicRecord, old *table, parts table) *stream.Topic {
	topic, err := s.topic(t)
	if err != nil {
		s.opt.Logger.Error("topic has a setting that is not understood; defaults are in force",
			"topic", t.Name, "error", err)
	}
	for _, id := range t.Partitions {
		p := old.find(id)
		if p == nil {
			p = partition.New(id, topic.Settings)
		}
		p.SetSettings(topic.Settings)
		parts[id] = p
	}
	return topic
}

// install makes the snapshot and the table fit the registry. Partitions of topics that are gone are let go.
func (s *Store) install() {
	old := s.parts.Load()
	parts := make(table, max(int(s.registry.nextID), 1))
	topics := []*stream.Topic{s.topicsTopic()}
	parts[topicsPartition] = old.find(topicsPartition)
	for _, t := range s.registry.byName {
		topics = append(topics, s.place(&t, old, parts))
	}
	for id, p := range *old {
		if p != nil && parts.find(stream.PartitionID(id)) == nil {
			p.Delete()
		}
	}
	s.parts.Store(&parts)
	s.topics.Store(stream.NewTopics(topics))
}

// topic is a topic as the snapshot shows it.
func (s *Store) topic(t *topicRecord) (*stream.Topic, error) {
	id, err := record.ParseUUID(t.ID)
	if err != nil {
		return nil, err
	}
	settings, err := stream.DecodeSettings(s.opt.TopicDefaults, t.Config)
	if err != nil {
		settings, _ = stream.DecodeSettings(nil, nil) // the built-in defaults are valid; a test holds them to it
	}
	return &stream.Topic{Name: t.Name, ID: id, Partitions: t.Partitions, Config: t.Config, Settings: settings}, err
}

// topicsTopic is the topics topic itself: it exists always and is never deleted from.
func (s *Store) topicsTopic() *stream.Topic {
	t := topicRecord{
		Name: TopicsTopic, ID: record.UUID{15: 1}.String(), Partitions: []stream.PartitionID{topicsPartition},
		Config: map[string]string{"cleanup.policy": "compact"},
	}
	topic, err := s.topic(&t)
	if err != nil {
		s.opt.Logger.Error("topics topic", "error", err)
	}
	return topic
}

// CreateTopic implements stream.Admin.
func (s *Store) CreateTopic(ctx context.Context, spec stream.TopicSpec) (*stream.Topic, error) {
	const op = "create topic"
	if err := stream.CheckTopicName(spec.Name); err != nil {
		return nil, err
	}
	if spec.Partitions == 0 {
		spec.Partitions = s.opt.DefaultPartitions
	}
	if spec.Partitions < 1 {
		return nil, fault.New(fault.Invalid, op, "%d partitions", spec.Partitions)
	}
	if err := s.checkSettings(spec.Config); err != nil {
		return nil, err
	}
	s.topicsMu.Lock()
	defer s.topicsMu.Unlock()
	if s.Topics().ByName(spec.Name) != nil {
		return nil, fault.New(fault.Exists, op, "topic %q exists", spec.Name)
	}
	if other := s.Topics().Colliding(spec.Name); other != nil {
		return nil, fault.New(fault.Invalid, op, "%w: %q and %q are one in the metrics of Kafka, which refuses the second",
			stream.ErrName, spec.Name, other.Name)
	}
	ids, err := s.takeIDs(spec.Partitions)
	if err != nil {
		return nil, err
	}
	t := topicRecord{
		Name: spec.Name, ID: newUUID().String(), Partitions: ids, Config: spec.Config, Changed: s.opt.Clock().UnixMilli(),
	}
	return s.putTopic(ctx, t, false)
}

// takeIDs gives n partition ids that were never used. The caller holds topicsMu, so that the next change
// sees what this one took once it is in the log.
func (s *Store) takeIDs(n int) ([]stream.PartitionID, error) {
	parts := *s.parts.Load()
	used := 0
	for _, p := range parts {
		if p != nil {
			used++
		}
	}
	if used+n > s.opt.MaxPartitions {
		return nil, fault.New(fault.Limited, "create topic", "%d partitions more than the limit of %d for all topics",
			used+n-s.opt.MaxPartitions, s.opt.MaxPartitions)
	}
	ids := make([]stream.PartitionID, n)
	for i := range ids {
		ids[i] = stream.PartitionID(len(parts) + i)
	}
	return ids, nil
}

// putTopic writes a topic's record and waits until it is in force.
func (s *Store) putTopic(ctx context.Context, t topicRecord, urgent bool) (*stream.Topic, error) {
	if err := s.writeTopic(ctx, t.Name, t.encode(), urgent); err != nil {
		return nil, err
	}
	return s.Topics().ByName(t.Name), nil
}

// writeTopic writes a record of the topics topic. An urgent one is taken by a full disk too: with it topics are
// deleted, and keep less.
func (s *Store) writeTopic(ctx context.Context, name string, value []byte, urgent bool) error {
	r := record.Record{Timestamp: s.opt.Clock().UnixMilli(), Key: []byte(name), Value: value}
	return s.await(context.WithoutCancel(ctx), func(to stream.Receipt) error {
		g, err := s.openGroup(nil, stream.Owner{}, 0, urgent)
		if err != nil {
			return err
		}
		unit := g.receipt(to, 0)
		unit.place(g.add(s.parts.Load().find(topicsPartition), &stream.Write{Record: &r}, r.EncodedSize()))
		s.closeUnit(g, &unit)
		return nil
	})
}

// DeleteTopic implements stream.Admin.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	s.topicsMu.Lock()
	defer s.topicsMu.Unlock()
	if name == TopicsTopic {
		return fault.New(fault.Denied, "delete topic", "topic %q is needed by the log", name)
	}
	if s.Topics().ByName(name) == nil {
		return fault.New(fault.NotFound, "delete topic", "no topic %q", name)
	}
	return s.writeTopic(ctx, name, nil, true)
}

// checkSettings tells what is wrong with the settings of a topic. Errors: Invalid.
func (s *Store) checkSettings(config map[string]string) error {
	settings, err := stream.DecodeSettings(s.opt.TopicDefaults, config)
	if err != nil {
		return err
	}
	return settings.CheckFloor()
}

// AlterTopic implements stream.Admin.
func (s *Store) AlterTopic(ctx context.Context, name string, change stream.TopicChange) (*stream.Topic, error) {
	const op = "alter topic"
	s.topicsMu.Lock()
	defer s.topicsMu.Unlock()
	old := s.Topics().ByName(name)
	if old == nil || name == TopicsTopic {
		return nil, fault.New(fault.NotFound, op, "no topic %q that can be changed", name)
	}
	t := topicRecord{
		Name: name, ID: old.ID.String(), Partitions: slices.Clone(old.Partitions), Config: maps.Clone(old.Config),
		Changed: s.opt.Clock().UnixMilli(),
	}
	if t.Config == nil {
		t.Config = make(map[string]string)
	}
	maps.Copy(t.Config, change.Set)
	for _, name := range change.Unset {
		delete(t.Config, name)
	}
	if err := s.checkSettings(t.Config); err != nil {
		return nil, err
	}
	if change.Partitions != 0 {
		if change.Partitions < len(t.Partitions) {
			return nil, fault.New(fault.Invalid, op, "topic %q has %d partitions: they can only grow",
				name, len(t.Partitions))
		}
		ids, err := s.takeIDs(change.Partitions - len(t.Partitions))
		if err != nil {
			return nil, err
		}
		t.Partitions = append(t.Partitions, ids...)
	}
	return s.putTopic(ctx, t, change.Partitions == 0)
}

func newUUID() (id record.UUID) {
	if _, err := rand.Read(id[:]); err != nil {
		panic("store: no randomness: " + err.Error()) // crypto/rand never fails on a supported system
	}
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80
	return id
}

// waiter is a receipt that somebody waits for.
type waiter struct {
	err  error
	done chan struct{}
}

// Appended implements stream.Receipt.
func (w *waiter) Appended(_ uint64, _ stream.Placed, err error) {
	w.err = err
	close(w.done)
}

// await appends and waits until it is durable.
func (s *Store) await(ctx context.Context, appendTo func(to stream.Receipt) error) error {
	w := &waiter{done: make(chan struct{})}
	if err := appendTo(w); err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "log.Append", ctx.Err())
	}
}

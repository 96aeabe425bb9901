package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// ownSettings begin the names of settings that only our own keeper knows. They are not sent.
const ownSettings = "firth."

// registry gives partitions their numbers and remembers what metadata of a broker that is behind would undo.
type registry struct {
	numbers map[spot]stream.PartitionID
	next    stream.PartitionID
	missed  map[record.UUID]int      // in how many answers in a row a topic was missing
	looks   int                      // at all topics
	dead    map[record.UUID]struct{} // deleted here
}

// spot is what a partition is called everywhere.
type spot struct {
	topic record.UUID
	index int32
}

// missedIsGone is in how many answers a topic has to be missing to be gone: a single broker may be behind.
const missedIsGone = 2

func (r *registry) number(topic record.UUID, index int32) stream.PartitionID {
	if r.numbers == nil {
		r.numbers = make(map[spot]stream.PartitionID)
	}
	at := spot{topic, index}
	id, ok := r.numbers[at]
	if !ok {
		id = r.next
		r.next++
		r.numbers[at] = id
	}
	return id
}

// found is a topic as the cluster describes it.
type found struct {
	name    string
	id      record.UUID
	leaders []int32           // by index; -1: none
	config  map[string]string // set for this topic; nil: not asked for
	inForce map[string]string
	copies  int  // replicas of the partition that has the fewest
	vague   bool // it is there, and the broker cannot say more now
}

// settings decodes what is in force. What Firth does not know, or would not allow, has its default here.
func (f *found) settings() stream.Settings {
	known := make(map[string]string, len(f.inForce))
	for name, value := range f.inForce {
		if _, err := stream.DecodeSettings(nil, map[string]string{name: value}); err == nil {
			known[name] = value
		}
	}
	s, err := stream.DecodeSettings(nil, known)
	if err != nil {
		s, _ = stream.DecodeSettings(nil, nil) // each of them was valid; the defaults are
	}
	return s
}

// load asks the cluster for topics and their settings.
func (c *Cluster) load(ctx context.Context, names ...string) ([]*found, error) {
	all, err := c.find(ctx, names)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(f *found) bool { return f.vague })
	return all, c.describe(ctx, all)
}

// find asks the cluster for topics, or for all.
func (c *Cluster) find(ctx context.Context, names []string) ([]*found, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, convert("cluster.Topics", err)
	}
	c.learn(resp)
	var all []*found
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || t.IsInternal || t.ErrorCode == kerr.UnknownTopicOrPartition.Code {
			continue // the offsets and transactions of the cluster are its own affair
		}
		if t.ErrorCode != 0 {
			all = append(all, &found{name: *t.Topic, vague: true})
			continue
		}
		if t.TopicID == [16]byte{} {
			return nil, fault.New(fault.Unsupported, "cluster.Topics", "the cluster has no topic ids").
				WithHint("topic ids came with Apache Kafka 2.8 (KIP-516)")
		}
		f := &found{name: *t.Topic, id: t.TopicID, leaders: make([]int32, len(t.Partitions))}
		for j := range t.Partitions {
			if p := &t.Partitions[j]; p.Partition >= 0 && int(p.Partition) < len(f.leaders) {
				f.leaders[p.Partition] = p.Leader
				if f.copies == 0 || len(p.Replicas) < f.copies {
					f.copies = len(p.Replicas)
				}
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// describe adds the settings.
func (c *Cluster) describe(ctx context.Context, all []*found) error {
	var names []string
	for _, s := range stream.TopicSettings() {
		if !strings.HasPrefix(s.Name, ownSettings) {
			names = append(names, s.Name)
		}
	}
	const atOnce = 500
	for some := range slices.Chunk(all, atOnce) {
		req, byName := kmsg.NewPtrDescribeConfigsRequest(), make(map[string]*found)
		for _, f := range some {
			byName[f.name] = f
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, f.name, names
			req.Resources = append(req.Resources, r)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return convert("cluster.Topics", err)
		}
		for i := range resp.Resources {
			r := &resp.Resources[i]
			f := byName[r.ResourceName]
			if f == nil {
				continue
			}
			f.take(r.Configs)
			if err := brokerError(r.ErrorCode, r.ErrorMessage); err != nil {
				c.log.Warn("the settings of a topic cannot be read: those of Kafka are taken to be in force", "topic", f.name,
					"error", err)
				f.inForce["max.message.bytes"] = kafkaMaxMessageBytes
			}
		}
	}
	return nil
}

// kafkaMaxMessageBytes is Kafka's default, which is less than ours.
const kafkaMaxMessageBytes = "1048588"

func (f *found) take(configs []kmsg.DescribeConfigsResponseResourceConfig) {
	f.config, f.inForce = make(map[string]string), make(map[string]string)
	for i := range configs {
		one := &configs[i]
		if one.Value == nil {
			continue
		}
		f.inForce[one.Name] = *one.Value
		if one.Source == kmsg.ConfigSourceDynamicTopicConfig {
			f.config[one.Name] = *one.Value
		}
	}
}

// loadAll makes the snapshot fit the cluster.
func (c *Cluster) loadAll(ctx context.Context) error {
	c.topicsMu.Lock()
	defer c.topicsMu.Unlock()
	all, err := c.find(ctx, nil)
	if err != nil {
		return err
	}
	if err := c.describe(ctx, c.due(all)); err != nil {
		return err
	}
	c.judgeTopics(all)
	c.take(all)
	return nil
}

// due lists the topics whose settings are to be asked for: new ones and, now and then, all.
func (c *Cluster) due(all []*found) []*found {
	const every = 6
	c.registry.looks++
	now, total := c.Topics(), c.registry.looks%every == 1
	return slices.DeleteFunc(slices.Clone(all), func(f *found) bool {
		t := now.ByName(f.name)
		return f.vague || !total && t != nil && t.ID == f.id && len(t.Partitions) >= len(f.leaders)
	})
}

// take makes the snapshot fit an answer about all topics.
func (c *Cluster) take(all []*found) {
	changed := c.merge(all)
	here := make(map[string]bool, len(all))
	for _, f := range all {
		here[f.name] = true
	}
	missed := make(map[record.UUID]int)
	for _, t := range c.Topics().All() {
		if here[t.Name] {
			continue
		}
		if missed[t.ID] = c.registry.missed[t.ID] + 1; missed[t.ID] < missedIsGone {
			continue
		}
		changed[t.Name] = nil
	}
	c.registry.missed = missed
	c.install(changed)
}

// merge finds what changed in topics and takes in who leads their partitions.
func (c *Cluster) merge(all []*found) map[string]*stream.Topic {
	changed := make(map[string]*stream.Topic)
	now, parts := c.Topics(), c.parts.Load()
	for _, f := range all {
		if _, dead := c.registry.dead[f.id]; dead || f.vague {
			continue
		}
		t := now.ByName(f.name)
		known := t != nil && t.ID == f.id
		if known {
			for i, id := range t.Partitions {
				if p := parts.find(id); p != nil && i < len(f.leaders) {
					p.leader.Store(f.leaders[i])
				}
			}
			if f.config == nil {
				continue
			}
		}
		next := &stream.Topic{Name: f.name, ID: f.id, Config: f.config, Settings: f.settings()}
		for i := range f.leaders {
			next.Partitions = append(next.Partitions, c.registry.number(f.id, int32(i)))
		}
		if known && len(t.Partitions) > len(next.Partitions) {
			next.Partitions = t.Partitions // partitions never go: that broker is behind
		}
		if known && len(t.Partitions) == len(next.Partitions) && t.Settings == next.Settings &&
			maps.Equal(t.Config, next.Config) {
			continue
		}
		changed[f.name] = next
		c.seat(f, next)
	}
	return changed
}

// seat makes the partitions of a topic that have none yet.
func (c *Cluster) seat(f *found, t *stream.Topic) {
	parts := slices.Clone(*c.parts.Load())
	for len(parts) < int(c.registry.next) {
		parts = append(parts, nil)
	}
	for i, id := range t.Partitions {
		p := parts[id]
		if p == nil {
			p = &part{id: id, topic: t.Name, topicID: t.ID, index: int32(i)}
			p.leader.Store(f.leaders[i])
			parts[id] = p
		}
		p.limit.Store(int64(t.Settings.MaxMessageBytes))
	}
	c.parts.Store(&parts)
}

// install swaps the snapshot. Partitions of topics that are gone are let go.
func (c *Cluster) install(changed map[string]*stream.Topic) {
	wake(c.refollow) // leaders may have changed too
	if len(changed) == 0 {
		return
	}
	now, parts := c.Topics(), slices.Clone(*c.parts.Load())
	for name, next := range changed {
		old := now.ByName(name)
		if old == nil || next != nil && next.ID == old.ID {
			continue
		}
		for i, id := range old.Partitions {
			parts[id] = nil
			delete(c.registry.numbers, spot{old.ID, int32(i)})
		}
	}
	c.topics.Store(now.With(changed))
	c.parts.Store(&parts)
	c.watchers.Tell(stream.News.TopicsChanged)
}

// refreshLoop is the refresher: it looks for what was changed elsewhere, now and then and when somebody has met it.
func (c *Cluster) refreshLoop() {
	for {
		wait, cancel := context.WithTimeout(c.ctx, c.opt.RefreshInterval)
		select {
		case <-c.ctx.Done():
			cancel()
			return
		case <-c.refresh:
		case <-wait.Done():
		}
		cancel()
		if err := c.loadAll(c.ctx); err != nil && c.ctx.Err() == nil {
			c.log.Warn("the topics of the cluster cannot be looked up", "error", err)
		}
		if clock.Pause(c.ctx, lasting(2)) != nil {
			return
		}
	}
}

// settled looks at topics until the cluster shows what was asked of it. It needs topicsMu.
func (c *Cluster) settled(ctx context.Context, name string, shows func(*found) bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Patience)
	defer cancel()
	for try := 0; ; try++ {
		all, err := c.load(ctx, name)
		if err == nil {
			c.install(c.merge(all))
			var f *found
			if len(all) > 0 {
				f = all[0]
			}
			if shows(f) {
				return nil
			}
			err = fault.New(fault.Timeout, "cluster.Topics", "topic %q is not as it was asked for yet", name)
		}
		if clock.Pause(ctx, lasting(try)) != nil {
			return err
		}
	}
}

// known is a topic of the snapshot, or of the cluster if it is newer than that. It needs topicsMu.
func (c *Cluster) known(ctx context.Context, op, name string) (*stream.Topic, error) {
	if t := c.Topics().ByName(name); t != nil {
		return t, nil
	}
	if stream.CheckTopicName(name) == nil {
		all, err := c.load(ctx, name)
		if err != nil {
			return nil, err
		}
		c.install(c.merge(all))
	}
	if t := c.Topics().ByName(name); t != nil {
		return t, nil
	}
	return nil, fault.New(fault.NotFound, op, "no topic %q", name)
}

// CreateTopic implements stream.Admin.
func (c *Cluster) CreateTopic(ctx context.Context, spec stream.TopicSpec) (*stream.Topic, error) {
	const op = "create topic"
	if err := stream.CheckTopicName(spec.Name); err != nil {
		return nil, err
	}
	if spec.Partitions < 0 {
		return nil, fault.New(fault.Invalid, op, "%d partitions", spec.Partitions)
	}
	if _, err := stream.DecodeSettings(nil, spec.Config); err != nil {
		return nil, err
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, c.asTopic(spec))
	req.TimeoutMillis = int32(c.opt.Patience.Milliseconds())
	c.topicsMu.Lock()
	defer c.topicsMu.Unlock()
	if other := c.Topics().Colliding(spec.Name); other != nil {
		return nil, fault.New(fault.Invalid, op, "%w: %q and %q are one in the metrics of Kafka, which refuses the second",
			stream.ErrName, spec.Name, other.Name)
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil && len(resp.Topics) == 1 {
		err = brokerError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
	}
	if errors.Is(err, kerr.InvalidTopicException) { // it collides with one that is not known here yet
		return nil, fault.New(fault.Invalid, op, "%w: %w", stream.ErrName, err)
	}
	led := func(f *found) bool { return f != nil && !slices.Contains(f.leaders, -1) }
	if errors.Is(err, kerr.TopicAlreadyExists) { // made elsewhere: who asked for it finds it now
		return nil, convert(op, errors.Join(err, c.settled(ctx, spec.Name, led)))
	}
	if err != nil {
		return nil, convert(op, err)
	}
	err = c.settled(ctx, spec.Name, led)
	return c.Topics().ByName(spec.Name), err
}

// brokerError is an error code with what the cluster says of it.
func brokerError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err != nil && message != nil {
		return &answer{kind: err, text: *message}
	}
	return err
}

// answer is an error code with the broker's own words.
type answer struct {
	kind error
	text string
}

// Error implements error.
func (a *answer) Error() string { return a.text }

// Unwrap gives the error code.
func (a *answer) Unwrap() error { return a.kind }

// DeleteTopic implements stream.Admin.
func (c *Cluster) DeleteTopic(ctx context.Context, name string) error {
	const op = "delete topic"
	if stream.Reserved(name) {
		return fault.New(fault.Denied, op, "topic %q holds the state of Firth or of the cluster", name)
	}
	c.topicsMu.Lock()
	defer c.topicsMu.Unlock()
	topic, err := c.known(ctx, op, name)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = int32(c.opt.Patience.Milliseconds())
	one := kmsg.NewDeleteTopicsRequestTopic()
	one.TopicID = topic.ID
	req.Topics, req.TopicNames = append(req.Topics, one), []string{name} // by id or, before version 6, by name
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil && len(resp.Topics) == 1 {
		err = brokerError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicID) && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return convert(op, err)
	}
	if c.registry.dead == nil {
		c.registry.dead = make(map[record.UUID]struct{})
	}
	c.registry.dead[topic.ID] = struct{}{}
	c.install(map[string]*stream.Topic{name: nil})
	if err != nil { // somebody else was faster
		return convert(op, err)
	}
	return c.settled(ctx, name, func(f *found) bool { return f == nil || f.id != topic.ID })
}

// AlterTopic implements stream.Admin. Partitions and settings are two requests: the second may fail when the first
// was granted.
func (c *Cluster) AlterTopic(ctx context.Context, name string, change stream.TopicChange) (*stream.Topic, error) {
	const op = "alter topic"
	c.topicsMu.Lock()
	defer c.topicsMu.Unlock()
	topic, err := c.known(ctx, op, name)
	if err != nil {
		return nil, err
	}
	if _, err := stream.DecodeSettings(nil, change.Set); err != nil {
		return nil, err
	}
	for _, setting := range change.Unset {
		if stream.FindSetting(setting) == nil {
			return nil, fault.New(fault.Invalid, op, "unknown setting %q", setting)
		}
	}
	count := len(topic.Partitions)
	if change.Partitions != 0 && change.Partitions < count {
		return nil, fault.New(fault.Invalid, op, "topic %q has %d partitions, and they cannot become %d", name, count,
			change.Partitions)
	}
	if change.Partitions > count {
		if err := c.grow(ctx, name, change.Partitions); err != nil {
			return nil, convert(op, err)
		}
	}
	if err := c.set(ctx, name, change); err != nil {
		return nil, convert(op, err)
	}
	err = c.settled(ctx, name, func(f *found) bool {
		if f == nil || len(f.leaders) < change.Partitions || slices.Contains(f.leaders, -1) {
			return false
		}
		for setting, value := range change.Set {
			if f.config[setting] != value && !strings.HasPrefix(setting, ownSettings) {
				return false
			}
		}
		return !slices.ContainsFunc(change.Unset, func(s string) bool { _, set := f.config[s]; return set })
	})
	return c.Topics().ByName(name), err
}

// grow adds partitions.
func (c *Cluster) grow(ctx context.Context, name string, total int) error {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = int32(c.opt.Patience.Milliseconds())
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = name, int32(total)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil && len(resp.Topics) == 1 {
		err = brokerError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
	}
	return err
}

// set changes settings.
func (c *Cluster) set(ctx context.Context, name string, change stream.TopicChange) error {
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
	add := func(setting string, op kmsg.IncrementalAlterConfigOp, value *string) {
		if strings.HasPrefix(setting, ownSettings) {
			return
		}
		one := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		one.Name, one.Op, one.Value = setting, op, value
		r.Configs = append(r.Configs, one)
	}
	for setting, value := range change.Set {
		add(setting, kmsg.IncrementalAlterConfigOpSet, &value)
	}
	for _, setting := range change.Unset {
		add(setting, kmsg.IncrementalAlterConfigOpDelete, nil)
	}
	if len(r.Configs) == 0 {
		return nil
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil && len(resp.Resources) == 1 {
		err = brokerError(resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
	}
	return err
}

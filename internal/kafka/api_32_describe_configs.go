package kafka

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs (32): v1-4.
//
// Behaviour
//   - A topic shows every setting there is, with its value in force and where that comes from: the topic,
//     the configuration of this node, or the built-in default. Synonyms list the ones behind it.
//   - The broker shows what tools look for; all of it is read-only here, because it is set in the
//     configuration of the node. The cluster-wide default ("" as name) is what clients have set, of
//     either name: there is one broker. Loggers are empty.
//   - A group shows its settings (KIP-848, KIP-932, KIP-1191), whether there is one of the name or not.
//   - A subscription to metrics of clients (KIP-714) shows its settings.
//   - No names, null or empty, ask for all, others for those, without an error for one that does not exist.
//
// Versions: 1 sources and synonyms, 3 types and documentation (KIP-569), 4 flexible.

// describeConfigs answers DescribeConfigs.
func (d *Door) describeConfigs(
	_ context.Context, c *conn, req *kmsg.DescribeConfigsRequest,
) (*kmsg.DescribeConfigsResponse, error) {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for i := range req.Resources {
		rr := &req.Resources[i]
		answer := kmsg.NewDescribeConfigsResponseResource()
		answer.ResourceType, answer.ResourceName = rr.ResourceType, rr.ResourceName
		switch rr.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			d.describeTopicConfig(c, rr, &answer)
		case kmsg.ConfigResourceTypeBroker:
			d.describeBrokerConfig(c, rr, &answer)
		case kmsg.ConfigResourceTypeGroupConfig:
			d.describeGroupConfig(c, rr, &answer)
		case kmsg.ConfigResourceTypeClientMetrics:
			d.describeSubscription(c, rr, &answer)
		case kmsg.ConfigResourceTypeBrokerLogger:
		default:
			answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new(
				"there is no configuration of this type of resource",
			)
		}
		for j := range answer.Configs {
			strip(&answer.Configs[j], req)
		}
		resp.Resources = append(resp.Resources, answer)
	}
	return resp, nil
}

// strip takes out what the request did not ask for.
func strip(cfg *kmsg.DescribeConfigsResponseResourceConfig, req *kmsg.DescribeConfigsRequest) {
	if !req.IncludeSynonyms {
		cfg.ConfigSynonyms = nil
	}
	if !req.IncludeDocumentation {
		cfg.Documentation = nil
	}
}

// wants tells whether a resource is asked for a setting.
func wants(rr *kmsg.DescribeConfigsRequestResource, name string) bool {
	return len(rr.ConfigNames) == 0 || slices.Contains(rr.ConfigNames, name)
}

func (d *Door) describeTopicConfig(
	c *conn, rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	t, code := d.topic(c, d.log.Topics(), rr.ResourceName, OpDescribeConfigs)
	if code != wire.None {
		answer.ErrorCode = code
		return
	}
	for _, def := range stream.TopicSettings() {
		if !wants(rr, def.Name) {
			continue
		}
		value, source := d.topicSetting(t, &def)
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		cfg.Name, cfg.Value, cfg.Source = def.Name, &value, source
		cfg.IsDefault = source == kmsg.ConfigSourceDefaultConfig
		cfg.ConfigType, cfg.Documentation = kmsg.ConfigType(def.Type), new(def.Doc)
		if v, given := t.Config[def.Name]; given {
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.Name, v, kmsg.ConfigSourceDynamicTopicConfig))
		}
		if v, given := d.nodeDefault(&def); given {
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.Name, v, kmsg.ConfigSourceStaticBrokerConfig))
		}
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.Name, def.Default, kmsg.ConfigSourceDefaultConfig))
		answer.Configs = append(answer.Configs, cfg)
	}
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, &value, source
	return s
}

// topicSetting is the value in force of a setting of a topic, and where it comes from.
func (d *Door) topicSetting(t *stream.Topic, def *stream.Setting) (string, kmsg.ConfigSource) {
	if v, given := t.Config[def.Name]; given {
		return v, kmsg.ConfigSourceDynamicTopicConfig
	}
	if v, given := d.nodeDefault(def); given {
		return v, kmsg.ConfigSourceStaticBrokerConfig
	}
	return def.Default, kmsg.ConfigSourceDefaultConfig
}

// nodeDefault is what the configuration of the node says about a setting. What is as it would be anyway is
// not given: tools show only what is no default.
func (d *Door) nodeDefault(def *stream.Setting) (value string, given bool) {
	value, given = d.opt.TopicDefaults[def.Name]
	return value, given && value != def.Default
}

// brokerSetting is one setting of the broker as tools know it.
type brokerSetting struct {
	name, value string
	kind        kmsg.ConfigType
	doc         string
}

// brokerSettings are those that tools look for, in the order of their names.
func (d *Door) brokerSettings(c *conn) []brokerSetting {
	node := strconv.Itoa(int(d.opt.NodeID))
	told := "PLAINTEXT://" + joinHostPort(c.told)
	all := []brokerSetting{
		{"advertised.listeners", told, kmsg.ConfigTypeString, "where clients are told to connect to"},
		{
			"auto.create.topics.enable",
			strconv.FormatBool(!d.opt.DisableAutoCreate),
			kmsg.ConfigTypeBoolean,
			"a topic that is asked for is made",
		},
		{"broker.id", node, kmsg.ConfigTypeInt, "the id of this node"},
		{"default.replication.factor", "1", kmsg.ConfigTypeInt, "one node, one replica"},
		{"delete.topic.enable", "true", kmsg.ConfigTypeBoolean, "topics can be deleted"},
		{"listeners", told, kmsg.ConfigTypeString, "where this node listens, as this client sees it"},
		{"log.dirs", d.opt.LogDir, kmsg.ConfigTypeString, "the folder of the log"},
		{"max.connections", strconv.Itoa(d.opt.MaxConnections), kmsg.ConfigTypeInt, "connections open at once"},
		{
			"message.max.bytes",
			d.defaultOf("max.message.bytes"),
			kmsg.ConfigTypeInt,
			"largest record batch in bytes, where a topic says nothing else",
		},
		{"min.insync.replicas", "1", kmsg.ConfigTypeInt, "one node, one replica"},
		{"node.id", node, kmsg.ConfigTypeInt, "the id of this node"},
		{
			"num.partitions",
			strconv.Itoa(d.opt.DefaultPartitions),
			kmsg.ConfigTypeInt,
			"partitions of a topic that asks for none",
		},
		{"process.roles", "broker,controller", kmsg.ConfigTypeList, "one node is both"},
		{"socket.request.max.bytes", strconv.Itoa(d.opt.MaxRequestBytes), kmsg.ConfigTypeInt, "largest request in bytes"},
	}
	for _, name := range []string{"retention.ms", "retention.bytes", "segment.bytes", "cleanup.policy"} {
		def := stream.FindSetting(name)
		all = append(all, brokerSetting{"log." + name, d.defaultOf(name), kmsg.ConfigType(def.Type), def.Doc})
	}
	all = append(all, d.shareSettings()...)
	slices.SortFunc(all, func(a, b brokerSetting) int { return strings.Compare(a.name, b.name) })
	return all
}

// shareSettings are what share groups go by that have no settings of their own, and what bounds them.
func (d *Door) shareSettings() []brokerSetting {
	all := []brokerSetting{
		{
			"errors.deadletterqueue.topic.name.prefix", letterPrefix, kmsg.ConfigTypeString,
			"what the name of a dead-letter topic begins with",
		},
		{
			"group.share.max.share.sessions", strconv.Itoa(d.shares.limits.MaxSessions), kmsg.ConfigTypeInt,
			"members of share groups that may fetch at a time",
		},
	}
	for _, name := range []string{
		"delivery.count.limit", "heartbeat.interval.ms", "partition.max.record.locks", "record.lock.duration.ms",
		"session.timeout.ms",
	} {
		s := findGroupSetting("share." + name)
		all = append(all, brokerSetting{"group.share." + name, s.def, s.kind, s.doc + "; a group may have it otherwise"})
	}
	return all
}

// defaultOf is what a topic gets that says nothing else.
func (d *Door) defaultOf(name string) string {
	if v, given := d.opt.TopicDefaults[name]; given {
		return v
	}
	return stream.FindSetting(name).Default
}

func (d *Door) describeBrokerConfig(
	c *conn, rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	switch {
	case !d.may(c, OpDescribeConfigs, OnCluster, ClusterResource):
		answer.ErrorCode = wire.ClusterAuthorizationFailed
		return
	case rr.ResourceName == "":
		d.describeChanged(rr, answer)
		return
	case rr.ResourceName != strconv.Itoa(int(d.opt.NodeID)):
		answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new(
			"the only broker is "+strconv.Itoa(int(d.opt.NodeID)),
		)
		return
	}
	d.describeDynamic(rr, answer)
	for _, b := range d.brokerSettings(c) {
		if !wants(rr, b.name) {
			continue
		}
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		cfg.Name, cfg.Value, cfg.Source, cfg.ReadOnly = b.name, &b.value, kmsg.ConfigSourceStaticBrokerConfig, true
		cfg.ConfigType, cfg.Documentation = b.kind, &b.doc
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(b.name, b.value, cfg.Source))
		answer.Configs = append(answer.Configs, cfg)
	}
}

// sortedNames lists the keys of m in order.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

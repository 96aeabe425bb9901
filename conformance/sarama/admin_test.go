package sarama

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// TestTopics makes, shows, changes and removes topics. [Kafka-AlterConfigs] [Kafka-CreatePartitions]
// [Kafka-CreateTopics] [Kafka-DeleteTopics] [Kafka-DescribeConfigs] [Kafka-IncrementalAlterConfigs] [Kafka-Metadata]
func TestTopics(t *testing.T) {
	each(t, sarama.V1_0_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin, name := administer(t, v), named(t)
		detail := &sarama.TopicDetail{
			NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": new("3600000")},
		}
		check(t, "validate", admin.CreateTopic(name, detail, true))
		check(t, "create", admin.CreateTopic(name, detail, false))
		if err := admin.CreateTopic(name, detail, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
			t.Errorf("created twice: %v", err)
		}
		check(t, "partitions", admin.CreatePartitions(name, 3, nil, false))
		if err := admin.CreatePartitions(name, 2, nil, false); !errors.Is(err, sarama.ErrInvalidPartitions) {
			t.Errorf("fewer partitions: %v", err)
		}
		described, err := admin.DescribeTopics([]string{name, name + "-none"})
		check(t, "describe", err)
		for _, d := range described {
			if d.Name == name && (d.Err != sarama.ErrNoError || len(d.Partitions) != 3) ||
				d.Name != name && d.Err != sarama.ErrUnknownTopicOrPartition {
				t.Errorf("described: %+v", d)
			}
		}
		if v.IsAtLeast(sarama.V1_1_0_0) {
			settings(t, admin, name)
		}
		if v.IsAtLeast(sarama.V2_3_0_0) {
			incremental(t, admin, name)
		}
		check(t, "delete", admin.DeleteTopic(name))
		if err := admin.DeleteTopic(name); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

// settings lists the settings of a topic of three partitions, and replaces them.
func settings(t *testing.T, admin sarama.ClusterAdmin, name string) {
	t.Helper()
	list, err := admin.ListTopics()
	check(t, "list", err)
	retention := list[name].ConfigEntries["retention.ms"]
	if list[name].NumPartitions != 3 || retention == nil || *retention != "3600000" {
		t.Errorf("listed: %+v", list[name])
	}
	set := map[string]*string{"max.message.bytes": new("500000")}
	check(t, "alter", admin.AlterConfig(sarama.TopicResource, name, set, false))
	if got := setting(t, admin, name, "max.message.bytes"); got != "500000" {
		t.Errorf("max.message.bytes is %s", got)
	}
	if got := setting(t, admin, name, "retention.ms"); got == "3600000" {
		t.Error("retention.ms is what it was: AlterConfigs replaces all settings")
	}
}

func incremental(t *testing.T, admin sarama.ClusterAdmin, name string) {
	t.Helper()
	set := map[string]sarama.IncrementalAlterConfigsEntry{
		"cleanup.policy":    {Operation: sarama.IncrementalAlterConfigsOperationAppend, Value: new("compact")},
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationDelete},
	}
	check(t, "incremental", admin.IncrementalAlterConfig(sarama.TopicResource, name, set, false))
	if got := setting(t, admin, name, "cleanup.policy"); got != "delete,compact" && got != "compact,delete" {
		t.Errorf("cleanup.policy is %s", got)
	}
	if got := setting(t, admin, name, "max.message.bytes"); got == "500000" {
		t.Error("max.message.bytes is what it was")
	}
	resources := []*sarama.ConfigResource{
		{Type: sarama.TopicResource, Name: name}, {Type: sarama.BrokerResource, Name: "1"},
	}
	options := sarama.DescribeConfigsOptions{IncludeSynonyms: true, IncludeDocumentation: true}
	all, err := admin.DescribeConfigs(resources, options)
	check(t, "describe configs", err)
	for _, r := range all {
		if r.ErrorCode != sarama.ErrNoError || len(r.Configs) < 20 {
			t.Errorf("%s has %d settings: %v", r.Name, len(r.Configs), r.ErrorCode)
		}
		for _, c := range r.Configs {
			if c.Documentation == nil || *c.Documentation == "" {
				t.Errorf("%s of %s has no documentation", c.Name, r.Name)
			}
		}
	}
}

// setting is the value of a setting of a topic.
func setting(t *testing.T, admin sarama.ClusterAdmin, topic, name string) string {
	t.Helper()
	all, err := admin.DescribeConfig(sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name},
	})
	check(t, "describe config", err)
	if len(all) != 1 || all[0].Name != name {
		t.Fatalf("of %s come %+v", name, all)
	}
	return all[0].Value
}

// TestRecords removes records and looks offsets up. [Kafka-DeleteRecords] [Kafka-ListOffsets]
func TestRecords(t *testing.T) {
	each(t, sarama.V1_0_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin := administer(t, v)
		name := topic(t, admin, 1)
		fill(t, v, name, 0, 100)
		check(t, "delete records", admin.DeleteRecords(name, map[int32]int64{0: 40}))
		for at, want := range map[int64]int64{sarama.OffsetOldest: 40, sarama.OffsetNewest: 100, 1: 40} {
			got, err := admin.ListOffsets(map[string]map[int32]int64{name: {0: at}}, nil)
			check(t, "list offsets", err)
			if r := got[name][0]; r == nil || r.Err != sarama.ErrNoError || r.Offset != want {
				t.Errorf("offset of %d: %+v, want %d", at, r, want)
			}
		}
		if err := admin.DeleteRecords(name, map[int32]int64{0: 101}); err == nil {
			t.Error("records that are not there were removed")
		}
	})
}

// TestGroupAdmin lists, describes, moves and removes groups. [Kafka-DeleteGroups] [Kafka-DescribeGroups]
// [Kafka-FindCoordinator] [Kafka-ListGroups] [Kafka-OffsetDelete]
func TestGroupAdmin(t *testing.T) {
	each(t, sarama.V1_0_0_0, groupAdmin)
}

func groupAdmin(t *testing.T, v sarama.KafkaVersion) {
	admin := administer(t, v)
	name := topic(t, admin, 1)
	fill(t, v, name, 0, 10)
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{name: {0: {Offset: 7, Metadata: "moved", LeaderEpoch: -1}}}
	moved, err := admin.AlterConsumerGroupOffsets(name, offsets, nil)
	check(t, "alter offsets", err)
	if code := moved.Errors[name][0]; code != sarama.ErrNoError {
		t.Errorf("moved: %v", code)
	}
	committed(t, admin, name, 7)
	groups, err := admin.ListConsumerGroups()
	check(t, "list", err)
	if _, there := groups[name]; !there {
		t.Errorf("listed: %v", groups)
	}
	described, err := admin.DescribeConsumerGroups([]string{name, name + "-none"})
	check(t, "describe", err)
	for _, d := range described {
		if want := map[string]string{name: "Empty", name + "-none": "Dead"}[d.GroupId]; d.State != want {
			t.Errorf("described: %s is %q, want %q", d.GroupId, d.State, want)
		}
	}
	if _, err := admin.Coordinator(name); err != nil {
		t.Errorf("coordinator: %v", err)
	}
	if v.IsAtLeast(sarama.V2_4_0_0) {
		check(t, "delete offset", admin.DeleteConsumerGroupOffset(name, name, 0))
		committed(t, admin, name, -1)
	}
	_, err = admin.AlterConsumerGroupOffsets(name, offsets, nil)
	check(t, "alter offsets", err)
	if !v.IsAtLeast(sarama.V1_1_0_0) {
		return // sarama does not ask for it
	}
	check(t, "delete group", admin.DeleteConsumerGroup(name))
	if err := admin.DeleteConsumerGroup(name); !errors.Is(err, sarama.ErrGroupIDNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

// TestCluster asks for the cluster and what is on its disk. [Kafka-DescribeCluster] [Kafka-DescribeLogDirs]
func TestCluster(t *testing.T) {
	each(t, sarama.V1_1_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin := administer(t, v)
		name := topic(t, admin, 1)
		fill(t, v, name, 0, 100)
		brokers, controller, err := admin.DescribeCluster()
		check(t, "describe cluster", err)
		if len(brokers) != 1 || brokers[0].ID() != controller || brokers[0].Addr() != broker {
			t.Fatalf("brokers %v, controller %d", brokers, controller)
		}
		if c, err := admin.Controller(); err != nil || c.ID() != controller {
			t.Errorf("controller: %v, %v", c, err)
		}
		dirs, err := admin.DescribeLogDirs([]int32{controller})
		check(t, "describe log dirs", err)
		var size int64
		for _, dir := range dirs[controller] {
			for _, topic := range dir.Topics {
				if topic.Topic == name {
					size += topic.Partitions[0].Size
				}
			}
			if dir.ErrorCode != sarama.ErrNoError || dir.Path == "" {
				t.Errorf("directory: %+v", dir)
			}
			if v == sarama.MaxVersion && (dir.TotalBytes <= 0 || dir.UsableBytes <= 0) {
				t.Errorf("directory of %d bytes, %d free", dir.TotalBytes, dir.UsableBytes)
			}
		}
		if size < 100 {
			t.Errorf("100 records take %d bytes", size)
		}
	})
}

// TestBelowTheFloor asks with versions that Kafka 4 no longer serves (KIP-896): each is refused at once, and the client
// goes on with what is served.
func TestBelowTheFloor(t *testing.T) {
	admin := administer(t, sarama.V1_0_0_0)
	begin := time.Now()
	if list, err := admin.ListTopics(); err == nil { // DescribeConfigs 0
		t.Errorf("listed %v", list)
	}
	if dirs, err := admin.DescribeLogDirs([]int32{1}); err == nil { // DescribeLogDirs 0
		t.Errorf("described %v", dirs)
	}
	if took := time.Since(begin); took > 25*time.Second { // Sarama gives up after half a minute
		t.Errorf("it took %v to be refused", took)
	}
	if _, _, err := admin.DescribeCluster(); err != nil {
		t.Errorf("behind that: %v", err)
	}
}

// TestOneNode asks for what only more than one node could do. [Kafka-AlterPartitionReassignments] [Kafka-ElectLeaders]
// [Kafka-ListPartitionReassignments] [Kafka-UpdateFeatures]
func TestOneNode(t *testing.T) {
	each(t, sarama.V2_7_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin := administer(t, v)
		name := topic(t, admin, 2)
		check(t, "reassign", admin.AlterPartitionReassignments(name, [][]int32{{1}, {1}}))
		moving, err := admin.ListPartitionReassignments(name, []int32{0, 1})
		check(t, "list reassignments", err)
		for p, status := range moving[name] {
			if len(status.AddingReplicas)+len(status.RemovingReplicas) > 0 {
				t.Errorf("partition %d moves: %+v", p, status)
			}
		}
		elected, err := admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{name: {0}})
		check(t, "elect", err)
		if r := elected[name][0]; r == nil || r.ErrorCode != sarama.ErrElectionNotNeeded {
			t.Errorf("elected: %+v", r)
		}
		update := []sarama.FeatureUpdate{{Feature: "transaction.version", MaxVersionLevel: 99}}
		if results, err := admin.UpdateFeatures(update); err == nil && !slices.ContainsFunc(results,
			func(r sarama.UpdatableFeatureResult) bool { return r.ErrorCode != sarama.ErrNoError }) {
			t.Error("a feature was brought to a level that does not exist")
		}
	})
}

// TestQuotas sets, finds and removes a quota. [Kafka-AlterClientQuotas] [Kafka-DescribeClientQuotas]
func TestQuotas(t *testing.T) {
	each(t, sarama.V2_6_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin, name := administer(t, v), named(t)
		who := []sarama.QuotaEntityComponent{
			{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: name},
		}
		set := sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1e6}
		check(t, "set", admin.AlterClientQuotas(who, set, false))
		filter := []sarama.QuotaFilterComponent{
			{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: name},
		}
		found, err := admin.DescribeClientQuotas(filter, true)
		check(t, "describe", err)
		if len(found) != 1 || found[0].Values["producer_byte_rate"] != 1e6 {
			t.Errorf("found: %+v", found)
		}
		remove := sarama.ClientQuotasOp{Key: "producer_byte_rate", Remove: true}
		check(t, "remove", admin.AlterClientQuotas(who, remove, false))
		if found, err = admin.DescribeClientQuotas(filter, true); err != nil || len(found) != 0 {
			t.Errorf("found after it was removed: %+v, %v", found, err)
		}
	})
}

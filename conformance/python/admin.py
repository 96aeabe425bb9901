"""Every call of administration that confluent-kafka has and Firth serves, against firth. gate.py makes those of its groups.

[Kafka-AlterConfigs] [Kafka-CreatePartitions] [Kafka-CreateTopics] [Kafka-DeleteGroups] [Kafka-DeleteRecords]
[Kafka-DeleteTopics] [Kafka-DescribeCluster] [Kafka-DescribeConfigs] [Kafka-DescribeGroups] [Kafka-ElectLeaders]
[Kafka-ListGroups] [Kafka-ListOffsets] [Kafka-OffsetCommit] [Kafka-OffsetFetch]
"""

import os

import confluent_kafka as confluent
from confluent_kafka import ConsumerGroupState, ElectionType, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

KAFKA = os.environ["kafka"]
LIMIT = 180  # seconds for anything to happen


def ok(what):
    print(f"  ok: {what}", flush=True)


def result(futures):
    """The result of a call about one thing."""
    ((_, future),) = futures.items()
    return future.result(LIMIT)


def refused(code, call):
    """The call must fail with that code."""
    try:
        call()
    except KafkaException as e:
        assert e.args[0].code() == code, e
    else:
        raise AssertionError(f"it was not refused with {code}")


def fill(topic, count, **config):
    producer = confluent.Producer({"bootstrap.servers": KAFKA, **config})
    for i in range(count):
        producer.produce(topic, value=f"{i}", partition=0)
    assert producer.flush(LIMIT) == 0


def confluent_topics(admin):
    result(admin.create_topics([NewTopic("adm", num_partitions=2, replication_factor=1)], validate_only=True))
    result(admin.create_topics([NewTopic("adm", num_partitions=2, replication_factor=1)]))
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: result(admin.create_topics([NewTopic("adm", num_partitions=2)])))
    result(admin.create_partitions([NewPartitions("adm", 3)]))
    refused(KafkaError.INVALID_PARTITIONS, lambda: result(admin.create_partitions([NewPartitions("adm", 1)])))
    topic = result(admin.describe_topics(TopicCollection(["adm"])))
    assert len(topic.partitions) == 3 and not topic.is_internal and topic.partitions[2].leader.id == 1, topic.partitions
    assert "adm" in admin.list_topics(timeout=LIMIT).topics
    name = ConfigResource(ResourceType.TOPIC, "adm", set_config={"retention.ms": "3600000"})
    result(admin.alter_configs([name]))
    config = result(admin.describe_configs([ConfigResource(ResourceType.TOPIC, "adm")]))
    assert config["retention.ms"].value == "3600000" and not config["retention.ms"].is_default, config["retention.ms"]
    assert config["retention.ms"].synonyms, "no synonyms"
    config = result(admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")]))
    assert config["broker.id"].value == "1" and config["broker.id"].is_read_only, config["broker.id"]
    fill("adm", 100)
    at = result(admin.delete_records([TopicPartition("adm", 0, 40)]))
    assert at.low_watermark == 40, at
    for spec, want in [
        (OffsetSpec.earliest(), 40), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), None),
        (OffsetSpec.for_timestamp(1), 40),
    ]:
        offset = result(admin.list_offsets({TopicPartition("adm", 0): spec})).offset
        assert offset == want or want is None and 40 <= offset < 100, (spec, offset)
    elected = admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition("adm", 0)]).result(LIMIT)
    assert elected[TopicPartition("adm", 0)].code() == KafkaError.ELECTION_NOT_NEEDED, elected
    cluster = admin.describe_cluster().result(LIMIT)
    assert cluster.controller.id == 1 and len(cluster.nodes) == 1 and cluster.cluster_id, cluster
    ok("confluent-kafka: topics, partitions, configs, records, offsets, elections, cluster")


def confluent_groups(admin):
    group = confluent.ConsumerGroupTopicPartitions("adm-group", [TopicPartition("adm", 0, 50), TopicPartition("adm", 1, 0)])
    moved = result(admin.alter_consumer_group_offsets([group]))
    assert all(p.error is None for p in moved.topic_partitions), moved
    found = result(admin.list_consumer_group_offsets([confluent.ConsumerGroupTopicPartitions("adm-group")]))
    assert sorted((p.partition, p.offset) for p in found.topic_partitions) == [(0, 50), (1, 0)], found.topic_partitions
    listed = admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(LIMIT)
    assert "adm-group" in [g.group_id for g in listed.valid] and not listed.errors, listed
    assert "adm-group" in [g.id for g in admin.list_groups(timeout=LIMIT)]
    described = result(admin.describe_consumer_groups(["adm-group"]))
    assert described.state == ConsumerGroupState.EMPTY and described.coordinator.id == 1, described.state
    result(admin.delete_consumer_groups(["adm-group"]))
    refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: result(admin.delete_consumer_groups(["adm-group"])))
    result(admin.delete_topics(["adm"]))
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: result(admin.delete_topics(["adm"])))
    ok("confluent-kafka: groups and their offsets; topics and groups removed")


confluent_admin = AdminClient({"bootstrap.servers": KAFKA})
confluent_topics(confluent_admin)
confluent_groups(confluent_admin)

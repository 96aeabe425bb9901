"""What kafka-python's administration has and its own suite does not ask for, against firth.

[Kafka-AlterConfigs] [Kafka-CreatePartitions] [Kafka-DescribeCluster] [Kafka-DescribeProducers] [Kafka-DescribeTransactions]
[Kafka-IncrementalAlterConfigs] [Kafka-ListGroups] [Kafka-ListTransactions] [Kafka-OffsetCommit] [Kafka-OffsetDelete]
[Kafka-UpdateFeatures]
"""

import os

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import NoError
from kafka.structs import OffsetAndMetadata

KAFKA = os.environ["kafka"]
ZERO = TopicPartition("padm", 0)


def ok(what):
    print(f"  ok: {what}", flush=True)


def topics(admin):
    admin.create_topics({"padm": {"num_partitions": 1, "replication_factor": 1}})
    admin.create_partitions({"padm": 2})
    assert "padm" in admin.list_topics()
    (topic,) = admin.describe_topics(["padm"])
    assert len(topic["partitions"]) == 2, topic
    assert admin.describe_cluster()["controller_id"] == 1
    for incremental in (True, False):
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "padm", {"retention.ms": "3600000"})], incremental=incremental)
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "padm")], include_synonyms=True)
        assert found["topic"]["padm"]["retention.ms"]["value"] == "3600000", found
        admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, "padm", {"retention.ms": None})], incremental=incremental)
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "padm")])
        assert "retention.ms" not in found["topic"]["padm"], found
    features = admin.describe_features()
    assert features["transaction.version"]["finalized"] == (2, 2), features
    ok("kafka-python: topics, partitions, configs set and reset, cluster, features")


def groups(admin):
    moved = admin.alter_group_offsets("padm", {ZERO: OffsetAndMetadata(7, "moved", -1)})
    assert moved[ZERO] is NoError, moved
    assert admin.list_group_offsets("padm")["padm"][ZERO].offset == 7
    assert "padm" in [g["group_id"] for g in admin.list_groups()]
    reset = admin.reset_group_offsets("padm", {ZERO: OffsetSpec.EARLIEST})
    assert reset[ZERO]["error"] is NoError and reset[ZERO]["offset"] == 0, reset
    gone = admin.delete_group_offsets("padm", [ZERO])
    assert gone[ZERO] is NoError and not admin.list_group_offsets("padm")["padm"], gone
    ok("kafka-python: offsets of groups moved, reset and removed")


def transactions(admin):
    producer = KafkaProducer(bootstrap_servers=KAFKA, transactional_id="padm")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send("padm", partition=0, value=b"open").get(60)
    (listed,) = [t for node in admin.list_transactions().values() for t in node if t.transactional_id == "padm"]
    assert listed.state.value == "Ongoing", listed
    described = admin.describe_transactions(["padm"])["padm"]
    assert described.producer_id == listed.producer_id, described
    state = admin.describe_producers([ZERO])[ZERO]
    assert [p.producer_id for p in state.active_producers] == [listed.producer_id], state
    assert not admin.find_hanging_transactions(), "a transaction under way counts as one that hangs"
    producer.abort_transaction()
    producer.close()
    ok("kafka-python: transactions listed and described, producers described")


client = KafkaAdminClient(bootstrap_servers=KAFKA)
topics(client)
groups(client)
transactions(client)

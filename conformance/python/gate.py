"""confluent-kafka (librdkafka) and paho-mqtt against firth: each alone, and across the two doors.

[Kafka-AddOffsetsToTxn] [Kafka-AddPartitionsToTxn] [Kafka-ApiVersions] [Kafka-ConsumerGroupDescribe] [Kafka-ConsumerGroupHeartbeat] [Kafka-CreatePartitions] [Kafka-CreateTopics] [Kafka-DescribeCluster]
[Kafka-DescribeConfigs] [Kafka-EndTxn] [Kafka-Fetch] [Kafka-IncrementalAlterConfigs] [Kafka-InitProducerId]
[Kafka-ListOffsets] [Kafka-Metadata] [Kafka-OffsetCommit] [Kafka-OffsetFetch] [Kafka-Produce] [Kafka-TxnOffsetCommit]
"""

import os
import queue
import time

import paho.mqtt.client as mqtt
from confluent_kafka import Consumer, ConsumerGroupType, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

KAFKA = os.environ["kafka"]
MQTT_HOST, MQTT_PORT = os.environ["mqtt"].rsplit(":", 1)
LIMIT = 180  # seconds for anything to happen


def ok(what):
    print(f"  ok: {what}", flush=True)


def produce(topic, records, **config):
    """Produces (key, value) pairs and wants every one acknowledged."""
    producer = Producer({"bootstrap.servers": KAFKA, "acks": "all", **config})
    errors = []
    for key, value in records:
        producer.produce(topic, key=key, value=value, on_delivery=lambda e, _: e and errors.append(e))
        producer.poll(0)
    left = producer.flush(LIMIT)
    assert left == 0 and not errors, (left, errors[:3])


def consume(topic, group, count):
    """Reads count records with a group and commits."""
    consumer = Consumer(
        {
            "bootstrap.servers": KAFKA,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    got = []
    while len(got) < count:
        batch = consumer.consume(num_messages=min(500, count - len(got)), timeout=LIMIT)
        assert batch, f"{len(got)} of {count} records, then none for {LIMIT} s"
        for message in batch:
            assert message.error() is None, message.error()
            got.append(message)
    consumer.commit(asynchronous=False)
    consumer.close()
    return got


def check_admin():
    admin = AdminClient({"bootstrap.servers": KAFKA})
    admin.create_topics([NewTopic("py", num_partitions=2, config={"retention.ms": "3600000"})])["py"].result(LIMIT)
    admin.create_partitions([NewPartitions("py", 3)])["py"].result(LIMIT)
    assert len(admin.list_topics("py", timeout=LIMIT).topics["py"].partitions) == 3
    name = ConfigResource(ResourceType.TOPIC, "py")
    change = ConfigResource(
        ResourceType.TOPIC,
        "py",
        incremental_configs=[
            ConfigEntry("max.message.bytes", "500000", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    for future in admin.incremental_alter_configs([change]).values():
        future.result(LIMIT)
    for future in admin.describe_configs([name]).values():
        config = future.result(LIMIT)
        assert config["retention.ms"].value == "3600000", config["retention.ms"]
        assert config["max.message.bytes"].value == "500000", config["max.message.bytes"]
    assert len(admin.describe_cluster().result(LIMIT).nodes) == 1
    ok("confluent-kafka admin: topics, partitions, configs, cluster")


def check_records():
    total = 5000
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = f"py-{codec}"
        produce(
            topic,
            ((f"k{i % 20}", f"value {i}") for i in range(total)),
            **{"enable.idempotence": True, "compression.type": codec, "linger.ms": 5},
        )
        got = consume(topic, f"py-readers-{codec}", total)
        assert [m.value().decode() for m in got] == [f"value {i}" for i in range(total)]
        assert [m.offset() for m in got] == list(range(total))
    ok(f"confluent-kafka: {total} records, idempotent, in order, with every codec")

    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "py-readers-none"})
    (at,) = consumer.committed([TopicPartition("py-none", 0)], timeout=LIMIT)
    assert at.offset == total, at
    low, high = consumer.get_watermark_offsets(TopicPartition("py-none", 0), timeout=LIMIT)
    assert (low, high) == (0, total), (low, high)
    (by_time,) = consumer.offsets_for_times([TopicPartition("py-none", 0, 1)], timeout=LIMIT)
    assert by_time.offset == 0, by_time
    consumer.close()
    ok("confluent-kafka: committed offsets, watermarks, offsets by time")


def check_consumer_protocol():
    """Two members of group.protocol=consumer (KIP-848) share a topic; one leaves, and the other has all of it."""
    total = 400
    admin = AdminClient({"bootstrap.servers": KAFKA})
    admin.create_topics([NewTopic("py-new", num_partitions=4)])["py-new"].result(LIMIT)
    produce("py-new", ((f"k{i}", f"value {i}") for i in range(total)))
    shares = [0, 0]
    seen = set()

    def member():
        consumer = Consumer(
            {
                "bootstrap.servers": KAFKA,
                "group.id": "py-new",
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe(["py-new"])
        return consumer

    def poll(members):
        for i, consumer in enumerate(members):
            for message in consumer.consume(num_messages=100, timeout=0.1):
                assert message.error() is None, message.error()
                seen.add((message.partition(), message.offset()))
            shares[i] = len(consumer.assignment())

    def until(what, holds, members):
        end = time.monotonic() + LIMIT
        while not holds():
            assert time.monotonic() < end, (what, shares, len(seen))
            poll(members)

    a, b = member(), member()
    until("each has two partitions, and all is read", lambda: shares == [2, 2] and len(seen) == total, [a, b])
    a.commit(asynchronous=False)
    (described,) = admin.describe_consumer_groups(["py-new"]).values()
    group = described.result(LIMIT)
    assert group.type == ConsumerGroupType.CONSUMER and len(group.members) == 2, group
    assert sorted(len(m.assignment.topic_partitions) for m in group.members) == [2, 2], group.members
    a.close()
    until("the other one has all", lambda: shares[0] == 4, [b])
    b.close()
    ok("confluent-kafka: two members of the consumer protocol")


def transactional(name, **config):
    """A producer that has its transactional id, in a transaction."""
    producer = Producer({"bootstrap.servers": KAFKA, "transactional.id": name, **config})
    producer.init_transactions(LIMIT)
    producer.begin_transaction()
    return producer


def read_all(topic, isolation):
    """All that a reader finds up to the end that it may see."""
    consumer = Consumer(
        {
            "bootstrap.servers": KAFKA,
            "group.id": "py-tx-readers",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    got = []
    while True:
        message = consumer.poll(LIMIT)
        assert message is not None, (topic, isolation, got)
        if message.error() is None:
            got.append(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            consumer.close()
            return got
        else:
            raise KafkaException(message.error())


def check_transactions():
    """librdkafka announces partitions and offsets to a transaction: the protocol from before KIP-890."""
    producer = transactional("py-tx")
    other = transactional("py-tx-other")
    producer.produce("py-tx", value="a")
    producer.flush(LIMIT)
    other.produce("py-tx", value="b")
    other.commit_transaction(LIMIT)
    assert read_all("py-tx", "read_committed") == []
    assert read_all("py-tx", "read_uncommitted") == ["a", "b"]
    producer.abort_transaction(LIMIT)
    assert read_all("py-tx", "read_committed") == ["b"]
    for i in range(20):
        producer.begin_transaction()
        producer.produce("py-tx", value=f"c{i}")
        (producer.abort_transaction if i % 2 else producer.commit_transaction)(LIMIT)
    assert read_all("py-tx", "read_committed") == ["b"] + [f"c{i}" for i in range(0, 20, 2)]
    producer.begin_transaction()
    producer.commit_transaction(LIMIT)
    ok("confluent-kafka: transactions, committed, aborted and empty")

    group = {"bootstrap.servers": KAFKA, "group.id": "py-tx", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({**group, "isolation.level": "read_committed"})
    consumer.subscribe(["py-tx"])
    got = 0
    while got < 11:
        batch = consumer.consume(num_messages=11 - got, timeout=LIMIT)
        assert batch, got
        assert all(m.error() is None for m in batch), [m.error() for m in batch]
        producer.begin_transaction()
        for m in batch:
            producer.produce("py-tx-out", value=m.value())
        got += len(batch)
        at = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(at, consumer.consumer_group_metadata(), LIMIT)
        producer.commit_transaction(LIMIT)
    assert consumer.committed(consumer.assignment(), timeout=LIMIT)[0].offset == at[0].offset
    consumer.close()
    assert read_all("py-tx-out", "read_committed") == read_all("py-tx", "read_committed")
    ok("confluent-kafka: consume, transform, produce, with the offsets of a group")


def check_fencing():
    """Who is fenced, by a second instance or after the time of a transaction, is told that it is fatal."""
    old = transactional("py-tx-fenced")
    old.produce("py-tx-out", value="late")
    old.flush(LIMIT)
    young = transactional("py-tx-fenced")
    try:
        old.commit_transaction(LIMIT)
        raise AssertionError("a producer that was fenced has committed")
    except KafkaException as e:
        error = e.args[0]
        assert error.fatal() and error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED), error
    young.abort_transaction(LIMIT)

    slow = transactional("py-tx-slow", **{"transaction.timeout.ms": 5000})
    slow.produce("py-tx-slow", value="late")
    slow.flush(LIMIT)
    end = time.monotonic() + LIMIT
    watch = transactional("py-tx-watch")
    watch.produce("py-tx-slow", value="last")
    watch.commit_transaction(LIMIT)
    while read_all("py-tx-slow", "read_committed") != ["last"]:
        assert time.monotonic() < end, "a transaction is open after its time"
        time.sleep(0.1)
    try:
        slow.commit_transaction(LIMIT)
        raise AssertionError("a transaction that took too long was committed")
    except KafkaException as e:
        assert e.args[0].fatal(), e
    ok("confluent-kafka: fenced by a second instance, and after the transaction's time")


class Device:
    """A paho client whose calls wait for their acknowledgement."""

    def __init__(self, protocol):
        self.messages = queue.Queue()
        self.acks = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.on_message = lambda _c, _u, m: self.messages.put(m)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.acks.put(reason)
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.acks.put(reasons[0])
        self.client.connect(MQTT_HOST, int(MQTT_PORT))
        self.client.loop_start()
        assert not self.acks.get(timeout=LIMIT).is_failure

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        granted = self.acks.get(timeout=LIMIT)
        assert granted.value == qos, granted

    def publish(self, topic, payload, qos, properties=None):
        self.client.publish(topic, payload, qos, properties=properties).wait_for_publish(LIMIT)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def check_devices():
    for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
        device = Device(protocol)
        device.subscribe(f"paho{protocol}/#", 1)
        for i in range(200):
            device.publish(f"paho{protocol}/x", f"m{i}", 1)
        got = [device.messages.get(timeout=LIMIT).payload.decode() for _ in range(200)]
        assert got == [f"m{i}" for i in range(200)], got[:5]
        device.close()
    ok("paho-mqtt: QoS 1 in order, 3.1.1 and 5.0")


def check_across():
    device = Device(mqtt.MQTTv5)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    properties.UserProperty = ("site", "north")
    device.publish("plant/3/flow", b'{"l":4}', 1, properties)
    (record,) = consume("plant", "plant-readers", 1)
    headers = dict(record.headers())
    assert record.key() == b"plant/3/flow" and record.value() == b'{"l":4}', record.key()
    assert headers["site"] == b"north", headers
    device.subscribe("plant/+/valve", 1)
    produce("plant", [("plant/3/valve", "shut")])
    message = device.messages.get(timeout=LIMIT)
    assert (message.topic, message.payload) == ("plant/3/valve", b"shut"), message.topic
    device.close()
    ok("across: paho-mqtt to confluent-kafka and back")


check_admin()
check_records()
check_consumer_protocol()
check_transactions()
check_fencing()
check_devices()
check_across()

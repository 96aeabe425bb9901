"""What is measured: the rows, on which systems, and the goal of each."""
from dataclasses import dataclass, replace

from .load import (Bench, Beside, Besieged, CatchUp, ComeAndGo, Copy, Idle, KafkaPerformance, MosquittoClients, Rebalance,
                   Restart, Return, Share, Storm, ToSubscriber)
from .systems import (Before, Bridge, Encrypted, Firth, FirthTLS, Fleet, Guarded, Kafka, KafkaFlush, KafkaTLS, Mosquitto,
                      MosquittoKeeping, MosquittoSaving, MosquittoTLS, Nats, NatsSync)


@dataclass(frozen=True)
class Goal:
    """A bound for a figure of Firth: for ours divided by theirs, or, against nobody, for ours."""

    metric: str
    bound: float
    against: str = ""
    most: bool = False  # the bound is the most, not the least

    def times(self, value):
        """How many times the goal is met; 1 is just reached."""
        return (self.bound / value if value else float("inf")) if self.most else value / self.bound


def least(metric, bound, against=""):
    return Goal(metric, bound, against)


def most(metric, bound, against=""):
    return Goal(metric, bound, against, True)


@dataclass(frozen=True)
class Row:
    title: str
    load: object
    goals: tuple = ()
    systems: tuple = ()  # of those of the block; none: all
    latency: bool = False  # shown as percentiles
    beside: str = ""  # the row in which our own generator does the like

    def on(self, kind):
        return not self.systems or kind in self.systems


@dataclass(frozen=True)
class Block:
    """Rows that one visit to a system measures, from one clean start. The first system is compared with the others."""

    title: str
    systems: tuple
    rows: tuple
    goals: tuple = ()  # for ready, idle and peak of the visit itself
    quick: bool = True  # part of the quick form
    warm: bool = True  # a JVM is warmed first
    rounds: int = 99  # at most


def with_before(blocks):
    """The blocks with another build of Firth right behind ours, in every row."""
    def row(r):
        return replace(r, systems=(*r.systems, Before)) if r.systems else r
    return tuple(replace(b, systems=(b.systems[0], Before, *b.systems[1:]), rows=tuple(row(r) for r in b.rows))
                 for b in blocks)


def mqtt(*arguments, **rest):
    return Bench("mqtt", arguments, **rest)


def to_subscribers(qos, subscribers, *arguments):
    return mqtt("-q", qos, "--publishers", 1, "--subscribers", subscribers, *arguments, show="delivered")


def kafka(*arguments, **rest):
    return Bench("kafka", ("--partitions", 8, *arguments), **{"size": 1024, **rest})


def seam(*arguments, **rest):
    return Bench("seam", ("-q", 1, *arguments), **rest)


def guarded(block):
    """The block with rules in force, beside the same without: within 5 %."""
    def row(r):
        goal = most("p50", 1.05, Firth.name) if r.latency else least("rate", 0.95, Firth.name)
        return replace(r, title=f"guarded: {r.title}", goals=(goal,), systems=())
    return Block(f"The guard: {block.title}", (Guarded, Firth),
                 tuple(row(r) for r in block.rows if not isinstance(r.load, Idle)), quick=False, rounds=3)


THEIRS, SEALED = Mosquitto.name, MosquittoTLS.name
# Latencies come first: what a row in bulk leaves to be done, by the disk and by the host of a virtual machine, holds up
# single messages for a while.
PLAIN = (
    Block("MQTT, 100 B", (Firth, Mosquitto), (
        Row("memory of an idle connection, 5,000 of them", Idle(), (most("each", 4),)),
        Row("QoS 1 publish → ack at 5,000/s", mqtt("-q", 1, "--rate", 5000), (most("p50", 0.5), most("p99", 2)),
            latency=True),
        Row("publisher → subscriber at 2,000/s, QoS 0", to_subscribers(0, 1, "--rate", 2000), latency=True),
        Row("publisher → subscriber at 2,000/s, QoS 1", to_subscribers(1, 1, "--rate", 2000), latency=True),
        Row("10,000 clients come and go, 100 at a time", ComeAndGo()),
        Row("QoS 1 ingest, 16 publishers × 64 in flight", mqtt("-q", 1),
            (least("rate", 5, THEIRS), most("cpu", 0.25, THEIRS), most("disk", 2.5))),
        Row("QoS 1 ingest, 1,000 publishers × 1", mqtt("-q", 1, "--publishers", 1000, "--in-flight", 1),
            (least("rate", 1.5, THEIRS), most("cpu", 1, THEIRS))),
        Row("QoS 1 ingest, 16 publishers × 1", mqtt("-q", 1, "--in-flight", 1)),
        Row("QoS 0 ingest, 16 publishers", mqtt("-q", 0, counted=True),
            (least("rate", 3, THEIRS), most("cpu", 0.25, THEIRS), least("kept", 1))),
        Row("fan-in 16 → 1, QoS 0", mqtt("-q", 0, "--subscribers", 1, show="delivered"),
            (least("rate", 4, THEIRS), most("cpu", 0.25, THEIRS))),
        Row("fan-in 16 → 1, QoS 1", mqtt("-q", 1, "--subscribers", 1, show="delivered"),
            (least("rate", 4, THEIRS), most("cpu", 0.25, THEIRS))),
        Row("fan-out 1 → 100, QoS 0", to_subscribers(0, 100), (least("rate", 4, THEIRS), most("cpu", 0.25, THEIRS))),
        Row("fan-out 1 → 20, QoS 1", to_subscribers(1, 20)),
        Row("fan-out 1 → 100, QoS 1", to_subscribers(1, 100)),
    ), goals=(most("peak", 300),)),
    Block("MQTT to keep: a subscriber is away, 100 B", (Firth, NatsSync, Nats, MosquittoSaving), (
        Row("QoS 1 ingest, 16 publishers × 1, kept", mqtt("-q", 1, "--in-flight", 1, session=True),
            (least("rate", 15, NatsSync.name),)),
        Row("QoS 1 ingest, 16 publishers × 64 in flight, kept", mqtt("-q", 1, session=True)),
    )),
    Block("MQTT: exactly once and sessions, 100 B", (Firth, Mosquitto), (
        Row("QoS 2 ingest, 16 publishers × 64 in flight", mqtt("-q", 2),
            (least("rate", 4, THEIRS), most("cpu", 0.25, THEIRS))),
        Row("fan-in 16 → 1, QoS 1, persistent", mqtt("-q", 1, "--subscribers", 1, "--persistent", show="delivered"),
            (least("rate", 4, THEIRS),)),
        Row("fan-out 1 → 100, QoS 1, persistent", to_subscribers(1, 100, "--persistent"), (least("rate", 4, THEIRS),)),
        Row("shared group of 8, QoS 1",
            mqtt("-q", 1, "--subscribers", 8, "--share", "group", "--persistent", show="delivered"),
            (least("rate", 4, THEIRS),)),
        Row("fan-in 16 → 1, QoS 2, persistent", mqtt("-q", 2, "--subscribers", 1, "--persistent", show="delivered")),
    )),
    Block("MQTT to keep: QoS 2, a subscriber is away, 100 B", (Firth, MosquittoSaving), (
        Row("QoS 2 ingest, 16 publishers × 1, kept", mqtt("-q", 2, "--in-flight", 1, session=True),
            (least("rate", 2, MosquittoSaving.name),)),
    )),
    Block("MQTT: sessions come back", (Firth, MosquittoKeeping), (
        Row("10,000 sessions come back, 100 messages each", Return(), (least("rate", 5, MosquittoKeeping.name),)),
        Row("live messages at 1,000/s while 10,000 sessions come back", Beside(),
            (most("worse", 2), most("took", 60)), (Firth,)),
    ), quick=False, rounds=3),
    Block("Kafka", (Firth, Kafka, KafkaFlush), (
        Row("produce → consume at 2,000/s, 1 KiB", kafka("--mode", "latency", "--linger", "0s"),
            (most("p50", 1, Kafka.name), most("p99", 0.5, Kafka.name), most("p50", 0.2, KafkaFlush.name)), latency=True),
        Row("produce 1 KiB, 8 partitions, franz-go", kafka(),
            (least("rate", 1.3, Kafka.name), most("cpu", 0.6, Kafka.name), most("disk", 1.1))),
        Row("produce 1 KiB, 8 partitions, encoded before", kafka("--batches-encoded"),
            (least("rate", 1.5, Kafka.name),), (Firth, Kafka)),
        Row("produce 100 B, 8 partitions, franz-go", kafka(size=100),
            (least("rate", 1.3, Kafka.name), most("cpu", 0.6, Kafka.name)), (Firth, Kafka)),
        Row("produce 1 KiB, 1,000 partitions, 10,000 keys",
            Bench("kafka", ("--partitions", 1000, "--keys", 10_000), size=1024, show="whole"),
            (least("rate", 20, KafkaFlush.name),)),
        Row("produce and consume together, 1 KiB", kafka("--mode", "both", show="least"),
            (least("rate", 1.5, Kafka.name),), (Firth, Kafka)),
        Row("transactions 1 KiB, a commit each 100 ms, 8 partitions", kafka("--mode", "transact"),
            (least("rate", 1.5, Kafka.name), least("rate", 1, KafkaFlush.name))),
        Row("transactions of 10 records, 1 KiB, 8 partitions", kafka("--mode", "transact", "--txn-records", 10,
            "--linger", "0s"), (least("rate", 1, Kafka.name), least("rate", 20, KafkaFlush.name))),
        Row("offset commits, 100 groups of a member, 8 partitions each, franz-go",
            kafka("--mode", "commit", "--groups", 100, size=0), (least("rate", 3, Kafka.name),)),
        Row("offset commits, 100 groups of a member, 8 partitions each, encoded before",
            kafka("--mode", "commit", "--groups", 100, "--batches-encoded", size=0), (least("rate", 3, Kafka.name),)),
        Row("consume-transform-produce, exactly once, 1 KiB, 8 partitions", Copy(),
            (least("rate", 1.5, Kafka.name), least("rate", 1.5, KafkaFlush.name))),
        Row("share group of 8 members, 100 B, 8 partitions", Share(), (least("rate", 2, Kafka.name),), (Firth, Kafka)),
        Row("catch-up read 1 KiB, warm", CatchUp(), (least("rate", 1.2, Kafka.name), most("cpu", 0.5, Kafka.name)),
            (Firth, Kafka)),
        Row("catch-up read 1 KiB, warm, franz-go", CatchUp(client=True), (), (Firth, Kafka)),
        Row("catch-up read 1 KiB, cold", CatchUp(cold=True), (least("rate", 1.2, Kafka.name), most("cpu", 0.5, Kafka.name)),
            (Firth, Kafka)),
    ), goals=(most("ready", 100), most("idle", 30), most("peak", 300))),
    Block("Kafka: a group of 200 members", (Firth, Kafka), (
        Row("one leaves, one joins → stable, classic", Rebalance("classic"), (most("p50", 1, Kafka.name),), latency=True),
        Row("one leaves, one joins → stable, KIP-848", Rebalance("consumer"), (most("p50", 1, Kafka.name),), latency=True),
    ), quick=False, rounds=3),
    Block("Between MQTT and Kafka, 100 B", (Firth, Bridge), (
        Row("the seam at 2,000/s", seam("--rate", 2000, bridge=("-linger", "0s")),
            (most("p50", 0.2, Bridge.name), most("p99", 0.25, Bridge.name)), latency=True),
        Row("the seam, 16 publishers × 64 in flight", seam("--raw", show="delivered", bridge=("-linger", "1ms")),
            (least("rate", 10, Bridge.name),)),
        Row("from Kafka to an MQTT subscriber, QoS 0", ToSubscriber(), systems=(Firth,)),
    )),
    Block("Generators that are not ours: MQTT", (Firth, Mosquitto), (
        Row("4 × mosquitto_pub -l, QoS 1", MosquittoClients(), beside="QoS 1 ingest, 16 publishers × 64 in flight"),
        Row("4 × mosquitto_pub -l → mosquitto_sub, QoS 1", MosquittoClients(subscriber=True),
            beside="fan-in 16 → 1, QoS 1"),
    ), quick=False, rounds=3),
    Block("Generators that are not ours: Kafka", (Firth, Kafka), (
        Row("ProducerPerformance, 1 KiB", KafkaPerformance(), beside="produce 1 KiB, 8 partitions, franz-go"),
        Row("ConsumerPerformance, 1 KiB", KafkaPerformance(read=True), beside="catch-up read 1 KiB, warm, franz-go"),
    ), quick=False, rounds=3),
    Block("Encryption at rest, beside the same without", (Encrypted, Firth), (
        Row("encrypted: produce 1 KiB, 8 partitions", kafka("--batches-encoded"), (least("rate", 0.75, Firth.name),)),
        Row("encrypted: catch-up read 1 KiB, warm", CatchUp(), (least("rate", 0.75, Firth.name),)),
        Row("encrypted: catch-up read 1 KiB, cold", CatchUp(cold=True), (least("rate", 0.75, Firth.name),)),
        Row("encrypted: QoS 1 ingest, 16 publishers × 64 in flight", mqtt("-q", 1),
            (least("rate", 0.75, Firth.name),)),
    ), quick=False),
    Block("MQTT over TLS 1.3, 100 B", (FirthTLS, MosquittoTLS), (
        Row("TLS: memory of an idle connection, 5,000 of them", Idle(), (most("each", 1, SEALED),)),
        Row("TLS: devices welcomed, full handshakes, 16 at a time", Bench("connect", ()), (least("rate", 1, SEALED),)),
        Row("TLS: devices welcomed, resumed, 16 at a time", Bench("connect", ("--resume",)), (least("rate", 1, SEALED),)),
        Row("TLS: QoS 1 ingest, 16 publishers × 64 in flight", mqtt("-q", 1), (least("rate", 4, SEALED),)),
        Row("TLS: devices at 1,000/s beside 50,000 half-open handshakes", Besieged(), (most("worse", 2),), (FirthTLS,),
            latency=True),
    ), quick=False),
    Block("Kafka over TLS 1.3", (FirthTLS, KafkaTLS), (
        Row("TLS: produce 1 KiB, 8 partitions, encoded before", kafka("--batches-encoded"),
            (least("rate", 1.5, KafkaTLS.name), most("cpu", 0.6, KafkaTLS.name))),
        Row("TLS: catch-up read 1 KiB, warm", CatchUp(), (least("rate", 1.5, KafkaTLS.name), most("cpu", 0.6, KafkaTLS.name))),
    ), quick=False),
    Block("A fleet comes back", (Fleet,), (
        Row("10,000 devices come with TLS and passwords, traffic goes on", Storm(), (most("took", 20),)),
    ), quick=False, rounds=2),
    Block("Starts with 10 GB", (Firth, Kafka), (
        Row("start to ready with 10 GB", Restart(), (most("ready", 1000),)),
        Row("start to ready with 10 GB after kill -9", Restart(killed=True)),
    ), quick=False, warm=False, rounds=2),
)
BLOCKS = (*PLAIN, *(guarded(b) for b in PLAIN if b.title in ("MQTT, 100 B", "Kafka")))

"""What is measured at each point of a curve. A curve is a function of the settings How that yields points:
(x, {line: value}). Each point, or each curve where building up is part of it, has a server of its own."""
import random
import statistics
import time
from dataclasses import dataclass

from lab.load import firth_bench
from lab.systems import Firth

from .wire import MQTT, Kafka


@dataclass(frozen=True)
class How:
    quick: bool

    @property
    def seconds(self):
        return 1.5 if self.quick else 4

    def upto(self, *xs, quick):
        """The points of a curve: the quick form ends sooner."""
        return [x for x in xs if x <= quick] if self.quick else list(xs)


WIDE = ("limits.subscriptions=10000000", "limits.retained=10000000", "limits.partitions=1000000",
        "limits.connections=100000", "limits.kafka_connections=100000")


def rate(system, how, *arguments, size=100, topic="bench", kind="mqtt", warm=0.5, shown="messages"):
    result = firth_bench(system, kind, *arguments, seconds=how.seconds, warm=warm, size=size, topic=topic)
    return result[shown] / (result["elapsed"] / 1e9)


def resident(system):
    return system.usage()["rss"]


def calm(system, least=2.0):
    """Resident MiB once the memory that only the work needed had time to go back."""
    time.sleep(least)
    return resident(system)


def connections(how):
    for n in how.upto(1, 10, 100, 1000, 5000, 10_000, 19_000, quick=5000):
        with Firth(*WIDE) as system:
            empty = resident(system)
            clients = [MQTT(system.mqtt, f"idle-{i}", f"127.0.0.{2 + i // 5000}") for i in range(n)]
            idle = calm(system)
            for c in clients:
                c.close()
            ahead = 64 if n <= 100 else 8 if n <= 1000 else 1
            yield n, {"1 in flight each": rate(system, how, "-q", 1, "--publishers", n, "--in-flight", 1),
                      "1,024 in flight together": rate(system, how, "-q", 1, "--publishers", n, "--in-flight",
                                                       max(1, 1024 // n)) if ahead > 1 else None,
                      "idle": idle, "under load": system.usage()["peak"], "per idle connection": (idle - empty) * 1024 / n}


def subscriptions(how):
    """All of one topic of the log, so that every message is matched; 1,000 names, none known for long."""
    each = 10_000
    for n in how.upto(1, 100, 10_000, 100_000, 1_000_000, quick=100_000):
        with Firth(*WIDE) as system:
            empty, clients, began = resident(system), [], time.monotonic()
            for k in range(0, n, each):
                clients.append(MQTT(system.mqtt, f"s-{k}"))
                clients[-1].subscribe([f"bench/site-{i % 97}/device-{i:07d}/+" for i in range(k, min(n, k + each))])
            took = time.monotonic() - began
            idle = calm(system)
            yield n, {"publish, 1,000 names": rate(system, how, "-q", 1, "--publishers", 1000, "--in-flight", 1),
                      "publish and deliver, 16 names": rate(system, how, "-q", 1, "--subscribers", 1, shown="delivered"),
                      "resident": idle, "each subscription": (idle - empty) * (1 << 20) / n if n >= 10_000 else None,
                      "subscribe": n / took}
            for c in clients:
                c.close()


def partitions(how):
    for n in how.upto(1, 10, 100, 1000, 10_000, quick=1000):
        for kind in ("partitions", "topics"):
            with Firth(*WIDE) as system:
                with Kafka(system.kafka) as k:
                    began = time.monotonic()
                    if kind == "partitions":
                        k.create(["bench"], n)
                    else:
                        k.create(["bench", *(f"topic-{i}" for i in range(1, n))])
                    took = time.monotonic() - began
                got = {f"create, {kind}": took * 1000}
                load = ["--keys", 10_000] if kind == "partitions" else []
                got[f"produce, {kind}"] = rate(system, how, "--partitions", n, *load, kind="kafka", size=100)
                got[f"resident, {kind}"] = calm(system)
                system.end()
                got[f"start, {kind}"] = system.launch() * 1000
                yield n, got


def retained(how):
    for n in how.upto(1, 100, 10_000, 100_000, 1_000_000, quick=100_000):
        with Firth(*WIDE) as system:
            empty, began = resident(system), time.monotonic()
            with MQTT(system.mqtt, "retainer") as c:
                c.publish([device(i) for i in range(n)], b"x" * 100, retain=True)
            took = time.monotonic() - began
            idle = calm(system, 3)
            system.end()
            start = system.launch()
            with MQTT(system.mqtt, "reader") as c:
                one = statistics.median(timed(lambda: c.retained(device(random.randrange(n)), RETAINED)) for _ in range(200))
            with MQTT(system.mqtt, "all") as c:
                every = n / timed(lambda: c.retained("fleet/#", n * RETAINED))
            yield n, {"retain": n / took, "deliver all": every, "after publishing": idle, "after a start": calm(system),
                      "start": start * 1000, "subscribe to one": one * 1000,
                      "each": (idle - empty) * (1 << 20) / n if n >= 10_000 else None}


def timed(f):
    began = time.perf_counter()
    f()
    return time.perf_counter() - began


def device(i):
    return f"fleet/site-{i % 97:02d}/device-{i:07d}"


RETAINED = 2 + 2 + len(device(0)) + 100  # bytes of a PUBLISH of QoS 0 to such a name with 100 bytes


def groups(how):
    for n in how.upto(1, 10, 100, 1000, 10_000, quick=1000):
        with Firth(*WIDE) as system, Kafka(system.kafka) as k:
            k.create(["bench"])
            empty, names = resident(system), [f"group-{i}" for i in range(n)]
            k.commit(names, "bench", 0)
            idle, began, done = calm(system, 1), time.monotonic(), 0
            while time.monotonic() - began < how.seconds:
                k.commit([random.choice(names) for _ in range(100)], "bench", done)
                done += 100
            took = time.monotonic() - began
            alone = statistics.median(timed(lambda: k.commit([random.choice(names)], "bench", 1)) for _ in range(100))
            system.end()
            yield n, {"commits, 100 in flight": done / took, "resident": idle, "one commit": alone * 1000,
                      "start": system.launch() * 1000, "each group": (idle - empty) * 1024 / n if n >= 1000 else None}


def payload(how):
    with Firth("limits.packet=16MiB", "topics.defaults.max_message=64MiB", "limits.request=256MiB") as system:
        for size in how.upto(10, 100, 1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20, quick=1 << 20):
            ahead = max(1, min(64, (1 << 20) // size))
            publishers = 16 if size <= 100 << 10 else 4
            mqtt = rate(system, how, "-q", 1, "--publishers", publishers, "--in-flight", ahead, size=size, topic=f"m{size}")
            got = {"MQTT, QoS 1": mqtt, "MQTT, QoS 1 (bytes)": mqtt * size / 1e6}
            batch = max(131_072, 2 * size + 4096)
            kafka = rate(system, how, "--batches-encoded", "--batch-size", batch, "--partitions", 8 if size <= 1 << 20 else 1,
                         kind="kafka", size=size, topic=f"k{size}")
            got |= {"Kafka produce": kafka, "Kafka produce (bytes)": kafka * size / 1e6, "peak": system.usage()["peak"]}
            yield size, got


def log_size(how):
    """One log that grows; every figure is of the log as large as it is then, in a server just started."""
    mib = 1 << 20
    with Firth() as system:
        have = 0
        for size in how.upto(16 * mib, 64 * mib, 256 * mib, 1024 * mib, 4096 * mib, 10_240 * mib, quick=1024 * mib):
            firth_bench(system, "kafka", "--partitions", 8, "--batches-encoded", "--records", (size - have) // 1024,
                        seconds=300, size=1024, topic="large")
            have = size
            time.sleep(3)  # full journals become segments
            system.end()
            start = system.launch()
            with Kafka(system.kafka) as k:
                ends = [k.offset("large", p, -1)[1] for p in range(8)]
                oldest, newest = [], []
                for p in range(8):
                    oldest.append(k.offset("large", p, 0)[0])
                    newest.append(int(time.time() * 1000))
                at = [random.randrange(8) for _ in range(100)]
                middle = [timed(lambda p=p: k.fetch("large", p, random.randrange(ends[p]))) for p in at]
                by_time = [timed(lambda p=p: k.offset("large", p, random.randrange(oldest[p], newest[p]))) for p in at]
            read = rate(system, how, "--mode", "consume", "--batches-encoded", kind="kafka", size=1024, topic="large")
            yield size / mib, {"start": start * 1000, "fetch from the middle": statistics.median(middle) * 1000,
                               "find a time": statistics.median(by_time) * 1000, "read from the start": read,
                               "resident": resident(system)}


CURVES = (connections, subscriptions, partitions, retained, groups, payload, log_size)

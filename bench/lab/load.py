"""Loads: what a system is driven with, and what is taken down meanwhile. Each gives figures by name:

rate       messages a second: acknowledged, taken, delivered or read, as the load says
sent       messages a second that were published, where the rate is another
cpu        CPU time of the server, µs a message
generator  CPU time of the generator, µs a message
others     CPU time of everybody else (and steal), percent of the machine
disk       bytes written to disk a byte of payload taken in
rss, peak  resident memory of the server after the load and at most so far, MiB
p50, p99   ms
kept       messages found in the log for each that was sent
"""
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .systems import FIRTH, JARS, Bridge, connected

# The generator collects its garbage seldom, so that more of the machine is left to the server.
QUIET = dict(os.environ, GOGC="400")


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def firth_bench(system, kind, *arguments, seconds, warm=0.0, size=100, topic="bench"):
    """One run of our generator; gives its result."""
    command = [FIRTH, "bench", kind, *arguments, "-o", "json", "--duration", f"{seconds}s", "--warmup", f"{warm}s"]
    if kind != "connect":
        command += ["--size", size, "-t", topic]
    if kind in ("mqtt", "seam", "connect"):
        command += ["-p", system.mqtt]
    if system.certificate:
        command += ["--cafile", system.certificate]
    if kind in ("kafka", "seam"):
        command += ["-b", f"127.0.0.1:{system.kafka}"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=QUIET,
                          timeout=seconds + warm + 180)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"firth bench ended with {done.returncode}")
    return json.loads(done.stdout)


class Meter:
    """What server, generator and everybody else use between start and the end of a load."""

    def __init__(self, system):
        self.system, self.before = system, system.usage()
        self.children, self.busy, self.at = children(), machine.busy(), time.monotonic()

    def figures(self, messages, written_from=0):
        """messages: all since the start; written_from: bytes of payload that were taken in."""
        after, passed = self.system.usage(), time.monotonic() - self.at
        generator, cpu = children() - self.children, after["cpu"] - self.before["cpu"]
        others = machine.busy() - self.busy - generator - cpu
        messages = max(messages, 1)
        got = {"cpu": cpu * 1e6 / messages, "generator": generator * 1e6 / messages,
               "others": max(others, 0) * 100 / passed / os.cpu_count(), "rss": after["rss"], "peak": after["peak"]}
        if written_from:
            got["disk"] = (after["written"] - self.before["written"]) / written_from
        return got


def figures(result, meter, show, size):
    """The figures of a run of our generator."""
    n, total = result["messages"], result["total"]
    if show == "delivered":
        total, n = total * result["delivered"] / max(n, 1), result["delivered"]
    elif show == "least":
        n = min(n, result["delivered"])
    took = result["elapsed"]
    if show == "whole":
        n, took = result["total"], result["whole"]
    if not n:  # no figure to compare with
        raise RuntimeError("nothing counted within the time")
    got = {"rate": n / (took / 1e9)}
    if show == "delivered":
        got["sent"] = result["messages"] / (took / 1e9)
    got |= meter.figures(total, result["total"] * size)
    latency = result["latency"]
    if latency["Count"]:
        got |= {q.lower(): latency[q] / 1e6 for q in ("P50", "P90", "P99", "P999", "Worst")}
    return got


@dataclass(frozen=True)
class Bench:
    """firth bench. show: what counts as the rate: messages, those delivered, the lesser of both, or whole: all
    until the last acknowledgement, where these come in bunches of seconds."""

    kind: str
    arguments: tuple
    size: int = 100
    show: str = "messages"
    session: bool = False  # somebody who is away has subscribed, for whom messages have to be kept
    bridge: tuple = ()  # settings of the bridge that are best for this
    counted: bool = False  # what is in the log afterwards is compared with what was sent

    def run(self, system, how, topic):
        if self.session:
            remember(system, "away", "#")
        if self.bridge and isinstance(system, Bridge):
            system.tune(*self.bridge)
        meter = Meter(system)
        result = firth_bench(system, self.kind, *self.arguments, seconds=how.seconds, warm=how.warm, size=self.size,
                             topic=topic)
        got = figures(result, meter, self.show, self.size)
        if self.counted and system.kafka_door:
            got["kept"] = kept(system, topic, result["total"])
        return got


def kept(system, topic, sent):
    """How much of what was sent is in the log; what is still on the way to the disk gets 10 s."""
    until = time.monotonic() + 10
    while True:
        read = firth_bench(system, "kafka", "--mode", "consume", "--once", "--batches-encoded", seconds=60, topic=topic)
        if read["total"] >= sent or time.monotonic() > until:
            return read["total"] / max(sent, 1)


def remember(system, client, topic):
    """Makes a session that outlives its connection and has subscribed, once."""
    if client not in system.__dict__.setdefault("sessions", set()):
        subprocess.run(["mosquitto_sub", "-p", str(system.mqtt), "-i", client, "-c", "-q", "1", "-t", topic, "-E"],
                       check=True, timeout=20, stdout=subprocess.DEVNULL)
        system.sessions.add(client)


@dataclass(frozen=True)
class CatchUp:
    """Reads a topic of 1 KiB records from start to end: over and over, or once with nothing of it in memory."""

    client: bool = False  # franz-go rather than raw fetches
    cold: bool = False

    def run(self, system, how, _):
        fill(system, "catch-up", how.fill)
        reader = [] if self.client else ["--batches-encoded"]
        if self.cold:
            if not system.jvm:  # a JVM would have to be warmed again; it keeps no records of its own
                system.end()
                system.launch()
            machine.drop_cache(system.folder)
        meter = Meter(system)
        result = firth_bench(system, "kafka", "--mode", "consume", *reader, *(["--once"] if self.cold else []),
                             seconds=60 if self.cold else how.seconds, warm=0 if self.cold else how.warm, size=1024,
                             topic="catch-up")
        return figures(result, meter, "messages", 1024)


@dataclass(frozen=True)
class Copy:
    """Consumes that topic, and produces what it reads to another one, in transactions that commit its offsets, too."""

    members: int = 4

    def run(self, system, how, _):
        fill(system, "catch-up", how.fill)
        meter = Meter(system)
        result = firth_bench(system, "kafka", "--mode", "copy", "--connections", self.members, "--partitions", 8,
                             seconds=how.seconds, warm=how.warm, size=1024, topic="catch-up")
        return figures(result, meter, "messages", 1024)


@dataclass(frozen=True)
class Rebalance:
    """Members of a group leave and join; a sample is the time until the group is stable again."""

    protocol: str
    members: int = 200
    partitions: int = 400
    seconds: int = 30

    def run(self, system, how, topic):
        meter = Meter(system)
        result = firth_bench(system, "kafka", "--mode", "rebalance", "--members", self.members, "--partitions",
                             self.partitions, "--protocol", self.protocol, seconds=self.seconds, topic=topic)
        return figures(result, meter, "messages", 0)


@dataclass(frozen=True)
class Share:
    """The members of a share group take and accept what is in a topic, until it is taken or the time is over. They have
    their partitions when the time begins. A JVM does it once before, for the code is not that of a consumer."""

    members: int = 8
    size: int = 100

    def run(self, system, how, _):
        fill(system, "to-share", 2 * how.fill, self.size)
        take = lambda: firth_bench(system, "kafka", "--mode", "share", "--members", self.members, seconds=how.seconds,
                                   size=self.size, topic="to-share")
        if system.jvm:
            take()
        meter = Meter(system)
        return figures(take(), meter, "whole", 0)


def fill(system, topic, records, size=1024):
    """Makes a topic of so many records in 8 partitions, once."""
    done = system.__dict__.setdefault("filled", {})
    if topic not in done:
        firth_bench(system, "kafka", "--partitions", 8, "--batches-encoded", "--records", records, seconds=300,
                    size=size, topic=topic)
        os.sync()
        done[topic] = records


@dataclass(frozen=True)
class Idle:
    """Resident memory for each idle MQTT connection, KiB."""

    connections: int = 5000

    def run(self, system, *_):
        before, clients = system.usage()["rss"], []
        try:
            for i in range(self.connections):
                s = connected(system.mqtt, system.certificate)
                s.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05%05d" % i)
                clients.append(s)
            for s in clients:
                s.recv(4)
            time.sleep(3)  # what only the connecting needed is given back
            after = system.usage()["rss"]
        finally:
            for s in clients:
                s.close()
        time.sleep(1)
        return {"each": (after - before) * 1024 / self.connections}


@dataclass(frozen=True)
class ComeAndGo:
    """MQTT clients that connect, get their CONNACK and disconnect, some at a time."""

    clients: int = 10_000  # a local port each, for a minute: 28,000 are there
    together: int = 100

    def run(self, system, how, _):
        rounds = max(1, min(self.clients, int(how.seconds * 2000)) // self.together)
        meter, began = Meter(system), time.monotonic()
        for _ in range(rounds):
            clients = [socket.create_connection(("127.0.0.1", system.mqtt)) for _ in range(self.together)]
            for i, s in enumerate(clients):
                s.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05%05d" % i)
            for s in clients:
                if s.recv(4) != b"\x20\x02\x00\x00":
                    raise RuntimeError("a client was not accepted")
                s.sendall(b"\xe0\x00")
            for s in clients:
                s.close()
        n, took = rounds * self.together, time.monotonic() - began
        return {"rate": n / took, **meter.figures(n)}


@dataclass(frozen=True)
class Besieged:
    """The latency of devices at work while others, from many addresses, begin handshakes of TLS and say no more: worse is
    its 99th percentile beside that of a quiet time just before."""

    half_open: int = 50_000
    rate: int = 1000  # messages of the devices at work a second
    parts: int = 3  # processes that begin them: one may not open as many files

    def run(self, system, how, topic):
        seconds = max(5, how.seconds)
        devices = lambda: firth_bench(system, "mqtt", "-q", 1, "--rate", self.rate, seconds=seconds, warm=1, topic=topic)
        quiet = devices()["latency"]
        opening = self.half_open / 6000
        siege = [FIRTH, "bench", "connect", "--half-open", self.half_open // self.parts, "--sources", 1000, "-o", "json",
                 "--rate", 6000 // self.parts, "-p", system.mqtt, "--duration", f"{opening + seconds + 4:.0f}s"]
        with contextlib.ExitStack() as running:
            parts = [spawn(running, *siege, env=QUIET, stdout=subprocess.PIPE) for _ in range(self.parts)]
            time.sleep(opening)
            meter = Meter(system)
            result = devices()
            begun = [json.loads(p.communicate(timeout=60)[0]) for p in parts]
        got = figures(result, meter, "messages", 100)
        return got | {"quiet": quiet["P99"] / 1e6, "worse": result["latency"]["P99"] / quiet["P99"],
                      "begun": sum(b["messages"] for b in begun), "open": sum(b["delivered"] for b in begun)}


@dataclass(frozen=True)
class Storm:
    """All devices of a fleet lose their connections and come again at once, each with its password, while other traffic
    goes on: seconds until all are there."""

    together: int = 200
    rate: int = 1000  # messages of the others a second

    def run(self, system, how, topic):
        come = lambda: firth_bench(system, "connect", "--devices", system.devices, "--together", self.together, "--sources", 100,
                                   "-u", "device-%d", "-P", "secret-%d", seconds=1)
        come()  # the passwords were right once: their hashes are not computed again for an hour
        with contextlib.ExitStack() as running:
            traffic = spawn(running, FIRTH, "bench", "mqtt", "-q", 1, "--rate", self.rate, "-p", system.mqtt, "-t", topic, "-o",
                            "json", "--cafile", system.certificate, "--warmup", "1s", "--duration", "60s", env=QUIET)
            time.sleep(2)
            meter = Meter(system)
            result = come()
            if traffic.poll() is not None:
                raise RuntimeError("the other traffic has ended")
        return figures(result, meter, "messages", 0) | {"took": result["elapsed"] / 1e9}


@dataclass(frozen=True)
class Return:
    """Sessions that were away, for whom messages were published, come back and take them. It takes as long as it takes;
    a session without all of them in order fails the row."""

    sessions: int = 10_000
    messages: int = 100
    together: int = 500

    def run(self, system, how, topic):
        share = min(1, how.seconds)  # the quick form has fewer
        halves = [FIRTH, "bench", "return", "--sessions", int(self.sessions * share), "--messages", self.messages,
                  "--together", self.together, "-t", topic, "-p", system.mqtt, "-o", "json", "--only"]
        for half in ("leave", "back"):
            meter = Meter(system)
            done = subprocess.run([str(c) for c in [*halves, half]], capture_output=True, text=True, env=QUIET, timeout=900)
            if done.returncode:
                raise RuntimeError(done.stderr.strip())
        return figures(json.loads(done.stdout), meter, "messages", 0)


@dataclass(frozen=True)
class Beside(Return):
    """Live messages while sessions that were away come back to a broker that was started again: worse is their 99th
    percentile beside that of a quiet time just before, took how long all needed to have what they missed."""

    rate: int = 1000  # live messages a second

    def run(self, system, how, topic):
        share = min(1, how.seconds)
        sessions = [FIRTH, "bench", "return", "--sessions", int(self.sessions * share), "--messages", self.messages,
                    "--together", self.together, "-t", topic, "-p", system.mqtt, "-o", "json", "--only"]
        run = lambda half: json.loads(subprocess.run([str(c) for c in [*sessions, half]], capture_output=True, text=True,
                                                     check=True, env=QUIET, timeout=900).stdout)
        run("leave")
        system.end()
        system.launch()
        with contextlib.ExitStack() as running:
            live = spawn(running, FIRTH, "bench", "live", "--rate", self.rate, "-p", system.mqtt, "-o", "json", env=QUIET,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            time.sleep(2)
            print("quiet", file=live.stdin, flush=True)
            time.sleep(max(3, how.seconds))
            meter = Meter(system)
            print("back", file=live.stdin, flush=True)
            result = run("back")
            quiet, back = (p["latency"] for p in json.loads(live.communicate(timeout=60)[0]))
        return figures(result, meter, "messages", 0) | {
            "quiet": quiet["P99"] / 1e6, "p50": back["P50"] / 1e6, "p99": back["P99"] / 1e6,
            "worse": back["P99"] / quiet["P99"], "took": result["elapsed"] / 1e9}


@dataclass(frozen=True)
class ToSubscriber:
    """Records that our generator produces with Kafka as fast as it can, to an MQTT subscriber on a plain socket. They
    have QoS 0, as all that come without a header, so what counts is how many come."""

    def run(self, system, how, topic):
        produce = lambda *rest, **more: firth_bench(system, "kafka", "--partitions", 1, *rest, topic=topic, **more)
        produce("--records", 1, seconds=10)  # makes the topic
        with socket.create_connection(("127.0.0.1", system.mqtt), 20) as s, s.makefile("rb") as first:
            name = topic.encode()
            s.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02to")
            s.sendall(b"\x82" + bytes([5 + len(name)]) + b"\x00\x01\x00" + bytes([len(name)]) + name + b"\x00")
            first.read(9)  # CONNACK and SUBACK
            produce("--records", 1, seconds=10)
            one = 2 + first.read(2)[1]  # bytes of a PUBLISH: all are alike
            s.settimeout(0.5)
            drain(s)
            s.settimeout(20)
            got = []
            reader = threading.Thread(target=lambda: got.append(drain(s)))
            meter = Meter(system)
            reader.start()
            result = produce(seconds=how.seconds, warm=how.warm)
            s.settimeout(1)
            reader.join()
        delivered, took = got[0] / one, result["whole"] / 1e9
        return {"rate": delivered / took, "sent": result["total"] / took, **meter.figures(delivered, result["total"] * 100)}


def drain(s):
    """Reads until nothing comes for as long as the socket's timeout, or the end; gives the number of bytes."""
    memory, n = bytearray(1 << 20), 0
    with contextlib.suppress(TimeoutError):
        while more := s.recv_into(memory):
            n += more
    return n


@dataclass(frozen=True)
class Restart:
    """Milliseconds from exec to ready on a full log, which is not in memory: after a clean end, or kill -9."""

    killed: bool = False

    def run(self, system, how, _):
        fill(system, "restart", how.big)
        size = sum(p.stat().st_size for p in (system.folder / "data").rglob("*") if p.is_file())
        system.end(signal.SIGKILL if self.killed else signal.SIGTERM)
        machine.drop_cache(system.folder)
        return {"ready": system.launch() * 1000, "rss": system.usage()["rss"], "gib": size / (1 << 30)}


# Generators that we did not write.


@dataclass(frozen=True)
class KafkaPerformance:
    """Kafka's own ProducerPerformance, and ConsumerPerformance on what that has produced."""

    read: bool = False

    def run(self, system, how, _):
        topic, records = "performance", int(how.seconds * 150_000)
        at = ["--bootstrap-server", f"127.0.0.1:{system.kafka}", "--topic", topic]
        meter = Meter(system)
        if not self.read:
            firth_bench(system, "kafka", "--partitions", 8, "--batches-encoded", "--records", 1, seconds=5, size=1024,
                        topic=topic)
            said = self.java("ProducerPerformance", *at, "--num-records", records, "--warmup-records", records // 3,
                             "--record-size", 1024, "--throughput", -1, "--command-property", "acks=all",
                             "batch.size=131072", "linger.ms=5", "buffer.memory=67108864")
            last = [line for line in said.splitlines() if "records sent" in line][-1]
            rate = float(re.search(r"([\d.]+) records/sec", last).group(1))
            return {"rate": rate, **meter.figures(records, records * 1024)}
        said = self.java("ConsumerPerformance", *at, "--num-records", records, "--timeout", 60_000)
        head, row = ([v.strip() for v in line.split(",")] for line in said.strip().splitlines()[-2:])
        got = dict(zip(head, row))
        return {"rate": float(got["fetch.nMsg.sec"]), **meter.figures(float(got["data.consumed.in.nMsg"]))}

    @staticmethod
    def java(name, *arguments):
        done = subprocess.run(["java", "-Xmx512m", "-cp", f"{JARS}/*", f"org.apache.kafka.tools.{name}",
                               *(str(a) for a in arguments)], capture_output=True, text=True, timeout=240)
        if done.returncode or not done.stdout.strip():
            raise RuntimeError((done.stderr or done.stdout).strip()[-500:] or f"{name} said nothing")
        return done.stdout


@dataclass(frozen=True)
class MosquittoClients:
    """Four of mosquitto_pub -l with lines of 100 bytes, QoS 1, and a mosquitto_sub that reads all, or none."""

    subscriber: bool = False
    publishers: int = 4

    def run(self, system, how, topic):
        lines = min(int(how.seconds * 10_000), 60_000)  # its packet ids must not come round: it would end too early
        client, n = ["-p", str(system.mqtt), "-q", "1"], lines * self.publishers
        with tempfile.TemporaryDirectory(prefix="firth-bench.") as folder, contextlib.ExitStack() as running:
            text = Path(folder) / "lines"
            text.write_text(("x" * 99 + "\n") * lines)
            waiting = [subscriber(running, client, topic, n + 1, Path(folder) / "read")] if self.subscriber else []
            meter, began = Meter(system), time.monotonic()
            for i in range(self.publishers):
                with open(text, "rb") as source:
                    waiting.append(spawn(running, "mosquitto_pub", *client, "-l", "-t", f"{topic}/{i}", stdin=source))
            if any([p.wait(120) for p in waiting]):
                raise RuntimeError("one of mosquitto's clients failed")
            took = time.monotonic() - began
        return {"rate": n / took, **meter.figures(n, n * 99)}


def subscriber(running, client, topic, n, read):
    """Starts a mosquitto_sub for n messages and publishes one until it has got it, so that it has subscribed."""
    with open(read, "wb") as out:
        reader = spawn(running, "mosquitto_sub", *client, "-t", f"{topic}/#", "-C", n, stdout=out)
    until = time.monotonic() + 20
    while read.stat().st_size == 0:
        if time.monotonic() > until:
            raise RuntimeError("mosquitto_sub gets nothing")
        subprocess.run(["mosquitto_pub", *client, "-t", f"{topic}/hello", "-m", "hello"], check=True, timeout=20)
        time.sleep(0.1)
    return reader


def spawn(running, *command, **rest):
    """Starts a client that is killed if it still runs when the stack is left."""
    process = running.enter_context(subprocess.Popen([str(c) for c in command], **rest))
    running.callback(process.kill)
    return process

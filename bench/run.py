#!/usr/bin/env python3
"""The laboratory: measures Firth beside its peers on this machine and writes RESULTS.md.

Every round starts each system from a clean directory, one after the other (A B A B ...), and never one
while another runs. All are driven by the same generators (firth bench). What is shown is the median of the
rounds and their range; CPU time, memory and bytes written are the server's own, from /proc.

A new peer is a subclass of System and a place in BLOCKS. Only the standard library is needed.
"""
import argparse
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
FIRTH = REPO / "build" / "firth"
JARS = REPO / "build" / "kafka"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, request):
    """True when a server answers the request at all."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as s:
            s.settimeout(1)
            s.sendall(request)
            return len(s.recv(4)) == 4
    except OSError:
        return False


CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01%c"
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def output(command):
    return subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True).stdout.strip()


COMMIT = output(["git", "-C", REPO, "describe", "--always", "--dirty"])  # as of now: others may go on to work


class System:
    """One server. start() gives the seconds until it answered."""

    name = ""
    kafka_door = mqtt_door = False

    def __init__(self):
        self.kafka = self.mqtt = 0

    def prepare(self, folder):
        """Writes what is needed and gives the command."""
        raise NotImplementedError

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="firth-bench."))
        self.kafka, self.mqtt = free_port(), free_port()
        command = self.prepare(self.folder)
        with open(self.folder / "output", "wb") as output:
            began = time.monotonic()
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - began > 60:
                raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'output').read_text()[-2000:]}")
            time.sleep(0.002)
        return time.monotonic() - began

    def answers(self):
        doors = []
        if self.mqtt_door:
            doors.append(ask(self.mqtt, CONNECT % ord("r")))
        if self.kafka_door:
            doors.append(ask(self.kafka, API_VERSIONS))
        return all(doors)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            print(f"  {self.name} did not end within 30 s of SIGTERM: killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def usage(self):
        """CPU seconds, bytes written to disk, and resident MiB now and at most."""
        proc = Path("/proc") / str(self.process.pid)
        ticks = (proc / "stat").read_text().rsplit(")", 1)[1].split()
        fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        written = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())["write_bytes"]
        mib = lambda key: int(fields[key].split()[0]) / 1024
        cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
        return {"cpu": cpu, "written": int(written), "rss": mib("VmRSS"), "peak": mib("VmHWM")}


class Firth(System):
    name = "Firth"
    mqtt_door = kafka_door = True

    def prepare(self, folder):
        return [FIRTH, "serve", "--data", folder / "data", "--set", f"listen.mqtt=127.0.0.1:{self.mqtt}",
                "--set", f"listen.kafka=127.0.0.1:{self.kafka}", "--set", "listen.ws=", "--set", "listen.http="]

    @staticmethod
    def version():
        return f"commit {COMMIT}, acknowledges after fdatasync"


class Mosquitto(System):
    """In memory only, nothing bounded, no delay on the socket: its fastest settings."""

    name = "Mosquitto"
    mqtt_door = True

    def prepare(self, folder):
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.mqtt} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
                          "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n")
        return [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", config]

    @staticmethod
    def version():
        text = output([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-h"])
        return text.splitlines()[0].removeprefix("mosquitto version ") + ", memory only"


class Kafka(System):
    """A single KRaft node as it comes, 1 GiB of heap: it acknowledges before the data is on the disk."""

    name = "Kafka"
    kafka_door = True
    flush = ""

    def prepare(self, folder):
        controller = free_port()
        config = folder / "server.properties"
        config.write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.kafka}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
{self.flush}""")
        java = ["java", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-cp", f"{JARS}/*"]
        cluster = output([*java, "kafka.tools.StorageTool", "random-uuid"])
        output([*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", config])
        return [*java, "kafka.Kafka", config]

    @staticmethod
    def version():
        jar = next(JARS.glob("kafka_2.13-*.jar")).stem
        return jar.removeprefix("kafka_2.13-") + ", 1 GiB heap, acknowledges before the disk"


class KafkaFlush(Kafka):
    name = "Kafka, flush"
    flush = "log.flush.interval.messages=1\n"

    @staticmethod
    def version():
        return "the same with log.flush.interval.messages=1"


class Row:
    """One kind of load: the arguments of firth bench, and what of its result counts."""

    def __init__(self, title, *arguments, show="rate", size=100, warm=1.0):
        self.title, self.arguments, self.show, self.size, self.warm = title, arguments, show, size, warm

    def run(self, system, seconds, topic):
        kind, *rest = self.arguments
        command = [FIRTH, "bench", kind, *rest, "-o", "json", "--size", self.size, "-t", topic,
                   "--duration", f"{seconds}s", "--warmup", f"{self.warm}s"]
        if kind in ("mqtt", "seam"):
            command += ["-p", system.mqtt]
        if kind in ("kafka", "seam"):
            command += ["-b", f"127.0.0.1:{system.kafka}"]
        before = system.usage()
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                              timeout=seconds + self.warm + 60)
        after = system.usage()
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return self.figures(json.loads(done.stdout), before, after)

    def figures(self, result, before, after):
        n, total = result["messages"], result["total"]
        if self.show == "delivered":
            total, n = total * result["delivered"] / max(n, 1), result["delivered"]
        got = {"rate": n / (result["elapsed"] / 1e9), "cpu": (after["cpu"] - before["cpu"]) * 1e6 / max(total, 1)}
        got["disk"] = (after["written"] - before["written"]) / max(result["total"] * self.size, 1)
        if self.show == "latency":
            got["p50"], got["p99"] = (result["latency"][q] / 1e6 for q in ("P50", "P99"))
        return got


MQTT_ROWS = (
    Row("QoS 1 ingest, 16 publishers × 64 in flight", "mqtt", "-q", 1),
    Row("QoS 1 ingest, 1,000 publishers × 1", "mqtt", "-q", 1, "--publishers", 1000, "--in-flight", 1),
    Row("QoS 1 ingest, 16 publishers × 1", "mqtt", "-q", 1, "--in-flight", 1),
    Row("QoS 0 ingest, 16 publishers", "mqtt", "-q", 0),
    Row("QoS 1 publish → ack at 5,000/s", "mqtt", "-q", 1, "--rate", 5000, show="latency"),
    Row("fan-in 16 → 1, QoS 0", "mqtt", "-q", 0, "--subscribers", 1, show="delivered"),
    Row("fan-in 16 → 1, QoS 1", "mqtt", "-q", 1, "--subscribers", 1, show="delivered"),
    Row("fan-out 1 → 100, QoS 0", "mqtt", "-q", 0, "--publishers", 1, "--subscribers", 100, show="delivered"),
)
PARTS = ["--partitions", 8]
KAFKA_ROWS = (
    Row("produce 1 KiB, 8 partitions, franz-go", "kafka", *PARTS, size=1024),
    Row("produce 1 KiB, 8 partitions, encoded before", "kafka", *PARTS, "--batches-encoded", size=1024),
    Row("produce 100 B, 8 partitions, franz-go", "kafka", *PARTS, size=100),
    Row("catch-up read 1 KiB, encoded batches", "kafka", *PARTS, "--mode", "consume", "--batches-encoded", size=1024),
    Row("catch-up read 1 KiB, franz-go", "kafka", *PARTS, "--mode", "consume", size=1024),
    Row("produce and consume together, 1 KiB", "kafka", *PARTS, "--mode", "both", size=1024),
    Row("produce → consume at 2,000/s, 1 KiB", "kafka", *PARTS, "--mode", "latency", "--linger", "0s",
        show="latency", size=1024),
)
SEAM_ROWS = (
    Row("MQTT QoS 1 → Kafka consumer, 16 × 64", "seam", "-q", 1, "--raw", show="delivered"),
    Row("MQTT QoS 1 → Kafka consumer at 2,000/s", "seam", "-q", 1, "--rate", 2000, show="latency"),
)
# What is measured side by side: the first system is compared with each of the others.
BLOCKS = [
    ("MQTT, 100 B", [Firth, Mosquitto], MQTT_ROWS),
    ("Kafka", [Firth, Kafka, KafkaFlush], KAFKA_ROWS),
    ("From MQTT to Kafka, 100 B", [Firth], SEAM_ROWS),
]
IDLE = 5000  # connections


def idle_memory(system):
    """KiB of resident memory for each idle MQTT connection."""
    before, clients = system.usage()["rss"], []
    for i in range(IDLE):
        s = socket.create_connection(("127.0.0.1", system.mqtt))
        s.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05%05d" % i)
        clients.append(s)
    for s in clients:
        s.recv(4)
    time.sleep(3)  # what only the connecting needed is given back
    after = system.usage()["rss"]
    for s in clients:
        s.close()
    time.sleep(1)
    return (after - before) * 1024 / IDLE


def topic_of(rows, i):
    """A topic for each row; a catch-up read uses what the first row wrote."""
    return "row0" if "consume" in rows[i].arguments else f"row{i}"


def visit(kind, rows, args, results):
    """One system in one round: from a clean start through all rows."""
    system = kind()
    own = results[kind.name]

    def keep(title, figures):
        own.setdefault(title, []).append(figures)
        print(f"  {kind.name:<14} {title:<46}", {k: round(v, 3) for k, v in figures.items()}, flush=True)

    ready = system.start()
    try:
        time.sleep(1)
        keep("start", {"ready": ready * 1000, "idle": system.usage()["rss"]})
        if system.mqtt_door and rows is MQTT_ROWS:
            keep("connections", {"each": idle_memory(system)})
        if isinstance(system, Kafka):
            warm(system, args)
        for i, row in enumerate(rows):
            try:
                keep(row.title, row.run(system, args.seconds, topic_of(rows, i)))
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                own.setdefault(row.title + " failed", []).append(str(e).splitlines()[-1])
                print(f"  {kind.name} {row.title}: {e}", file=sys.stderr)
        keep("end", {"peak": system.usage()["peak"], "rss": system.usage()["rss"]})
    finally:
        system.stop()


def warm(system, args):
    """Loads a JVM until two runs differ by less than 5 %, at most args.warm times."""
    row, last = Row("warm", "kafka", *PARTS, size=1024, warm=0), 0
    for _ in range(args.warm):
        rate = row.run(system, 3, "warm")["rate"]
        if abs(rate - last) < 0.05 * rate:
            return
        last = rate


def spread(rounds, key, digits=None):
    """Median, and the range of the rounds."""
    values = sorted(r[key] for r in rounds)
    text = lambda v: f"{v:,.0f}" if digits is None else f"{v:.{digits}f}"
    middle = statistics.median(values)
    return text(middle) + (f" ({text(values[0])}–{text(values[-1])})" if len(values) > 1 else "")


def cell(row, own):
    rounds = own.get(row.title)
    if not rounds:
        failed = own.get(row.title + " failed")
        return f"failed: {failed[0]}" if failed else "–"
    if row.show == "latency":
        return f"p50 {spread(rounds, 'p50', 2)} ms, p99 {spread(rounds, 'p99', 2)} ms"
    return spread(rounds, "rate") + "/s"


def ratio(row, mine, theirs):
    """Rate over rate; for latencies theirs over ours. More than 1: the first system is better."""
    a, b = mine.get(row.title), theirs.get(row.title)
    if not a or not b:
        return "–"
    if row.show == "latency":
        return f"{statistics.median(r['p50'] for r in b) / statistics.median(r['p50'] for r in a):.2f} ×"
    return f"{statistics.median(r['rate'] for r in a) / statistics.median(r['rate'] for r in b):.2f} ×"


def cpu(row, own):
    return spread(own[row.title], "cpu", 2) if own.get(row.title) else "–"


def table(title, kinds, rows, results):
    names = [k.name for k in kinds]
    lines = [f"## {title}", "", "| work | " + " | ".join(names)
             + "".join(f" | {names[0]} : {n}" for n in names[1:]) + " | server CPU, µs a message | disk bytes a byte |",
             "|---" * (2 * len(names) + 2) + "|"]
    for row in rows:
        cells = [row.title] + [cell(row, results[n]) for n in names]
        cells += [ratio(row, results[names[0]], results[n]) for n in names[1:]]
        cells.append(" / ".join(cpu(row, results[n]) for n in names))
        cells.append(" / ".join(spread(results[n][row.title], "disk", 2) if results[n].get(row.title) else "–"
                                for n in names))
        lines.append("| " + " | ".join(cells) + " |")
    first = {"start to ready, ms": ("start", "ready"), "resident memory idle, MiB": ("start", "idle"),
             "resident memory after the load, MiB": ("end", "rss"), "the most it was, MiB": ("end", "peak")}
    if any(results[n].get("connections") for n in names):
        first[f"memory of an idle connection ({IDLE:,}), KiB"] = ("connections", "each")
    for label, (row, key) in first.items():
        got = [spread(results[n][row], key, 1) if results[n].get(row) else "–" for n in names]
        lines.append("| " + " | ".join([label, *got] + ["" for _ in names[1:]] + ["", ""]) + " |")
    return "\n".join(lines) + "\n"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(open("/proc/meminfo").readline().split()[1]) / (1 << 20)
    return f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def report(args, rounds, measured, loads):
    kinds = list(dict.fromkeys(k for _, systems, _ in measured for k in systems))
    text = ["# Results", "", f"Written by `bench/run.py {' '.join(sys.argv[1:])}` on {time.strftime('%Y-%m-%d')}: "
            f"{rounds} rounds, {args.seconds:g} s each row, medians (least–most).",
            f"Machine: {machine()}; the generators share its CPUs with the server.",
            "Load average (1 minute) before each visit, our own load included: "
            f"{min(loads):.1f} to {max(loads):.1f}.", ""]
    text += [f"- {k.name}: {k.version()}" for k in kinds] + [""]
    text += [table(title, systems, rows, results) for title, systems, rows, results in
             ((t, s, r, measured[(t, s, r)]) for t, s, r in measured)]
    args.out.write_text("\n".join(text))


def need_jars():
    if not any(JARS.glob("kafka_2.13-*.jar")):
        subprocess.run(["mvn", "-q", "-B", "-ntp", "-f", HERE / "kafka" / "pom.xml", "dependency:copy-dependencies",
                        f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds of 3 s: under 10 minutes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=int, default=8, help="most warm-up runs of 3 s for a JVM")
    parser.add_argument("--only", default="", help="blocks whose title contains this")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.warm = 2, 3, 2
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers and generators inherit it
    blocks = [(t, tuple(s), r) for t, s, r in BLOCKS if args.only in t]
    if any(issubclass(k, Kafka) for _, systems, _ in blocks for k in systems):
        need_jars()
    measured, loads = {b: {k.name: {} for k in b[1]} for b in blocks}, []
    for number in range(args.rounds):
        for title, systems, rows in blocks:
            print(f"round {number + 1} of {args.rounds}: {title}", flush=True)
            for kind in systems:
                loads.append(os.getloadavg()[0])
                try:
                    visit(kind, rows, args, measured[(title, systems, rows)])
                except Exception:  # the others are still worth measuring
                    traceback.print_exc()
            report(args, number + 1, measured, loads)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()

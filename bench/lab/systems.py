"""The systems that are measured: how each is set, started, found ready, and ended.

Every start() is in a clean directory of its own. A new peer is a subclass of System.
"""
import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

from . import machine

BENCH = Path(__file__).resolve().parent.parent
REPO = BENCH.parent
BUILD = REPO / "build"
FIRTH = Path(os.environ.get("FIRTH", BUILD / "firth"))  # another build of it can be named
JARS = BUILD / "kafka"
PEERS = BUILD / "peers"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01r"
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certify(folder):
    """Makes a server of this machine a key and a certificate that is its own authority: key.pem and cert.pem."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    os.chmod(folder / "key.pem", 0o600)
    return folder / "cert.pem"


def connected(port, certificate=None, timeout=20):
    """A connection to a server, by TLS if there is a certificate to trust."""
    s = socket.create_connection(("127.0.0.1", port), timeout)
    try:
        return ssl.create_default_context(cafile=certificate).wrap_socket(s, server_hostname="localhost") if certificate else s
    except OSError:
        s.close()
        raise


def ask(port, request, certificate=None):
    """True when a server answers the request at all."""
    try:
        with connected(port, certificate, 1 if certificate else 0.2) as s:
            s.settimeout(1)
            s.sendall(request)
            return len(s.recv(4)) == 4
    except OSError:
        return False


class System:
    """One server: a process with an MQTT door, a Kafka door, or both."""

    name = promise = ""
    kafka_door = mqtt_door = jvm = False
    certificate = None  # that its doors show, if they speak TLS

    def __init__(self):
        self.kafka, self.mqtt, self.folder, self.process = 0, 0, None, None

    def prepare(self):
        """Writes what is needed into self.folder and gives the command."""
        raise NotImplementedError

    def configure(self, name, text):
        """Writes a configuration into self.folder and gives its path."""
        config = self.folder / name
        config.write_text(text)
        return config

    @staticmethod
    def version():
        raise NotImplementedError

    def start(self):
        """Starts in a clean directory; gives the seconds from exec until every door has answered."""
        self.folder = Path(tempfile.mkdtemp(prefix="firth-bench."))
        self.kafka, self.mqtt = free_port(), free_port()
        self.command = self.prepare()
        return self.launch()

    def launch(self):
        """Starts on what is there."""
        with open(self.folder / "output", "ab") as out:
            began = time.monotonic()
            self.process = subprocess.Popen([str(c) for c in self.command], stdout=out, stderr=out)
        self.until(self.answers, began)
        return time.monotonic() - began

    def until(self, ready, began):
        while not ready():
            if self.process.poll() is not None or time.monotonic() - began > 120:
                self.stop()
                raise RuntimeError(f"{self.name} did not start: {self.said}")
            time.sleep(0.001)

    def answers(self):
        return ((not self.mqtt_door or ask(self.mqtt, CONNECT, self.certificate))
                and (not self.kafka_door or ask(self.kafka, API_VERSIONS, self.certificate)))

    def end(self, how=signal.SIGTERM):
        """Ends the process and leaves its files."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            print(f"  {self.name} did not end within 60 s of SIGTERM: killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Ends the process and removes its files."""
        if self.process:
            self.end()
        out = self.folder / "output"
        self.said = out.read_text(errors="replace")[-2000:] if out.exists() else ""
        shutil.rmtree(self.folder, ignore_errors=True)

    def usage(self):
        return machine.usage(self.process.pid)

    def __enter__(self):
        self.ready = self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Firth(System):
    """As it comes; settings are further KEY=VALUE for --set."""

    name, promise = "Firth", "as it comes; acknowledges after fdatasync"
    mqtt_door = kafka_door = True
    binary = FIRTH

    def __init__(self, *settings):
        super().__init__()
        self.settings = settings

    def prepare(self):
        own = [f"listen.mqtt=127.0.0.1:{self.mqtt}", f"listen.kafka=127.0.0.1:{self.kafka}", "listen.ws=", "listen.http="]
        return [self.binary, "serve", "--data", self.folder / "data", *(a for s in [*own, *self.settings] for a in ("--set", s))]

    @staticmethod
    def version():
        return "commit " + machine.output("git", "-C", REPO, "describe", "--always", "--dirty")


class Encrypted(Firth):
    """With a key for what it stores."""

    name = "Firth, encrypted"

    def prepare(self):
        keys = self.folder / "keys"
        if not keys.exists():
            subprocess.run([self.binary, "key", "generate", "--to", keys], check=True, capture_output=True)
        return [*super().prepare(), "--set", f"encryption.key_file={keys}"]


class FirthTLS(Firth):
    """With TLS on both doors, and no other."""

    name, promise = "Firth, TLS", "both doors by TLS 1.3; acknowledges after fdatasync"

    def prepare(self):
        self.certificate = certify(self.folder)
        own = [f"listen.mqtts=127.0.0.1:{self.mqtt}", f"listen.kafkas=127.0.0.1:{self.kafka}", "listen.mqtt=", "listen.kafka=",
               f"tls.certificate={self.certificate}", f"tls.key={self.folder / 'key.pem'}"]
        return [*super().prepare(), *(a for s in own for a in ("--set", s))]


class Administered(Firth):
    """With rules and users, who are told over HTTP when it serves. Who does not say who it is may do everything."""

    everything = [{"effect": "allow", "principal": "User:*", "operations": ["all"], "kind": kind, "pattern": pattern, "name": name}
                  for kind, pattern, name in (("topic", "literal", "*"), ("group", "literal", "*"), ("topic", "filter", "#"),
                                              ("cluster", "literal", "kafka-cluster"), ("transactional_id", "literal", "*"))]

    def prepare(self):
        self.http = free_port()
        own = ["access.anonymous=allow", f"listen.http=127.0.0.1:{self.http}"]
        return [*super().prepare(), *(a for s in own for a in ("--set", s))]

    def start(self):
        took = super().start()
        try:
            self.tell("rules", self.everything)
            self.administer()
        except Exception:
            self.stop()
            raise
        return took

    def administer(self):
        pass

    def tell(self, what, body):
        token = (self.folder / "data" / "admin.token").read_text().strip()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/admin/v1/{what}", json.dumps(body).encode(),
                                         {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()


class Guarded(Administered):
    """10,000 rules of 1,000 roles, and a hundred of them for everybody."""

    name, promise = "Firth, guarded", "10,000 rules and 1,000 roles in force; acknowledges after fdatasync"

    def administer(self):
        for first in range(0, 1000, 100):
            self.tell("rules", [self.rule("User:*" if role % 100 == 0 else f"Role:role-{role}", f"plants/{role}/{i}/+/state")
                                for role in range(first, first + 100) for i in range(10)])

    @staticmethod
    def rule(principal, filter_):
        return {"effect": "allow", "principal": principal, "operations": ["read", "write"], "kind": "topic",
                "pattern": "filter", "name": filter_}


class Fleet(Administered, FirthTLS):
    """10,000 devices have a password each. They come from a Mosquitto: its hashes are made sooner than ours."""

    name, promise = "Firth, 10,000 passwords", "10,000 users with a password each; acknowledges after fdatasync"
    devices = 10_000

    def administer(self):
        salt = b"firth-bench."
        hashed = lambda n: base64.b64encode(hashlib.pbkdf2_hmac("sha512", f"secret-{n}".encode(), salt, 101)).decode()
        for first in range(0, self.devices, 1000):
            self.tell("import", {"users": {f"device-{n}": f"$7$101${base64.b64encode(salt).decode()}${hashed(n)}"
                                           for n in range(first, first + 1000)}})


class Before(Firth):
    """Another build of Firth, beside which ours is judged; of() says which."""

    name = "Firth before"
    build = ""

    @classmethod
    def of(cls, build):
        """build: a binary, or anything that git takes for a commit, which is built."""
        path = Path(build)
        if path.is_file():
            cls.build, cls.binary = f"the binary {path.name}", path.resolve()
            return
        commit = machine.output("git", "-C", REPO, "rev-parse", "--short", "--verify", f"{build}^{{commit}}")
        if not commit:
            sys.exit(f"--against {build}: neither a file nor a commit")
        cls.build, cls.binary = f"commit {commit}", BUILD / "before" / f"firth-{commit}"
        if not cls.binary.exists():
            with tempfile.TemporaryDirectory(prefix="firth-before.") as source:
                archive = subprocess.run(["git", "-C", REPO, "archive", commit], check=True, capture_output=True).stdout
                subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
                subprocess.run(["go", "build", "-trimpath", "-o", cls.binary, "./cmd/firth"], check=True, cwd=source,
                               env=dict(os.environ, CGO_ENABLED="0"))

    @classmethod
    def version(cls):
        return cls.build


class Mosquitto(System):
    """In memory only, nothing bounded, no delay on the socket: its fastest settings."""

    name, promise = "Mosquitto", "memory only, nothing bounded, set_tcp_nodelay; a crash loses everything"
    mqtt_door = True
    keeping = "persistence false"
    sealing = ""

    def prepare(self):
        return [MOSQUITTO, "-c", self.configure("mosquitto.conf", f"""listener {self.mqtt} 127.0.0.1
{self.sealing}
allow_anonymous true
user root
{self.keeping}
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_type error
persistence_location {self.folder}/
""")]

    @staticmethod
    def version():
        return machine.output(MOSQUITTO, "-h").splitlines()[0].removeprefix("mosquitto version ")


class MosquittoTLS(Mosquitto):
    name, promise = "Mosquitto, TLS", "the same with TLS 1.3"

    def prepare(self):
        self.certificate = certify(self.folder)
        self.sealing = f"certfile {self.certificate}\nkeyfile {self.folder / 'key.pem'}"
        return super().prepare()


class MosquittoSaving(Mosquitto):
    """It can only write its whole state again: every 1,000 changes here. Each change would be no promise either,
    since it acknowledges before it saves and does not wait for the disk."""

    name = "Mosquitto, saving"
    promise = "persistence, its whole state saved every 1,000 changes; acknowledges before, a crash loses the rest"
    keeping = "persistence true\nautosave_on_changes true\nautosave_interval 1000"


class MosquittoKeeping(Mosquitto):
    """As it comes with persistence: what it kept is written when it ends, and every 30 minutes."""

    name = "Mosquitto, keeping"
    promise = "persistence, its whole state saved every 30 minutes and at the end; a crash loses the rest"
    keeping = "persistence true"


class Nats(System):
    """MQTT on JetStream as it comes: acknowledges before the disk, which it asks to keep up every 2 minutes."""

    name, promise = "NATS", "MQTT with JetStream, sync every 2 minutes; a power cut loses what was acknowledged"
    mqtt_door = True
    sync = ""

    def prepare(self):
        return [PEERS / "nats-server", "-c", self.configure("nats.conf", f"""server_name: bench
listen: 127.0.0.1:{free_port()}
jetstream {{ store_dir: "{self.folder}/data"{self.sync} }}
mqtt {{ listen: 127.0.0.1:{self.mqtt}, max_ack_pending: 65535 }}
""")]

    @staticmethod
    def version():
        return machine.output(PEERS / "nats-server", "--version").removeprefix("nats-server: v")


class NatsSync(Nats):
    name, promise = "NATS, sync", "the same with sync_interval: always; acknowledges after fsync"
    sync = ", sync_interval: always"


class Kafka(System):
    """A single KRaft node, 1 GiB of heap: it acknowledges before the data is on the disk."""

    name, promise = "Kafka", "one KRaft node, 1 GiB of heap, G1 with 8 MiB regions, warmed; acknowledges before the disk"
    kafka_door = jvm = True
    further = ""  # settings
    protocol = "PLAINTEXT"

    def prepare(self):
        controller = free_port()
        config = self.configure("server.properties", f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners={self.protocol}://127.0.0.1:{self.kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={self.protocol}://127.0.0.1:{self.kafka}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{self.protocol}:{self.protocol}
inter.broker.listener.name={self.protocol}
controller.listener.names=CONTROLLER
log.dirs={self.folder}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
{self.further}""")
        # As Kafka's own start script, and regions that hold a request of 1 MiB: without them it takes half as many.
        java = ["java", "-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35", "-XX:G1HeapRegionSize=8m", "-cp", f"{JARS}/*"]
        cluster = base64.urlsafe_b64encode(uuid.UUID(int=uuid.uuid4().int >> 8).bytes).decode().rstrip("=")
        subprocess.run([*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", config],
                       check=True, capture_output=True)
        return [*java, "kafka.Kafka", config]

    @staticmethod
    def version():
        jar = next(JARS.glob("kafka_2.13-*.jar")).stem
        return jar.removeprefix("kafka_2.13-")


class KafkaFlush(Kafka):
    name, promise = "Kafka, flush", "the same with log.flush.interval.messages=1; acknowledges after the disk"
    further = "log.flush.interval.messages=1\n"


class KafkaTLS(Kafka):
    name, promise = "Kafka, TLS", "the same with TLS 1.3"
    protocol = "SSL"

    def prepare(self):
        self.certificate = certify(self.folder)
        both = self.folder / "both.pem"
        both.write_text((self.folder / "key.pem").read_text() + self.certificate.read_text())
        self.further = (f"ssl.keystore.type=PEM\nssl.keystore.location={both}\nssl.truststore.type=PEM\n"
                      f"ssl.truststore.location={self.certificate}\n")
        return super().prepare()


class Bridge(System):
    """Mosquitto, a bridge and Kafka: three processes, measured as one."""

    name = "Mosquitto + bridge + Kafka"
    promise = "as above, bench/peers/bridge between them; a publisher is acknowledged before Kafka has it"
    kafka_door = mqtt_door = jvm = True

    def __init__(self):
        super().__init__()
        self.parts = [Mosquitto(), Kafka()]

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="firth-bench."))
        ready = 0.0
        try:
            for part in self.parts:
                ready += part.start()
        except Exception:
            self.stop()
            raise
        self.mqtt, self.kafka = self.parts[0].mqtt, self.parts[1].kafka
        return ready + self.tune()

    def tune(self, *settings):
        """Starts the bridge, again if it runs, with what is best for the work to come."""
        if self.process:
            self.end()
        self.command = [PEERS / "bridge", "-mqtt", f"127.0.0.1:{self.mqtt}", "-kafka", f"127.0.0.1:{self.kafka}",
                        *settings]
        (self.folder / "output").write_text("")
        return self.launch()

    def answers(self):
        return "ready" in (self.folder / "output").read_text()

    def stop(self):
        super().stop()
        for part in reversed(self.parts):
            if part.process:
                part.stop()

    def usage(self):
        all_of = [machine.usage(s.process.pid) for s in (self, *self.parts)]
        return {k: sum(u[k] for u in all_of) for k in all_of[0]}

    @staticmethod
    def version():
        return "as above"


def build(kinds):
    """Gets and builds the peers that are missing."""
    kinds = set(kinds)
    if any(k.jvm for k in kinds) and not list(JARS.glob("kafka-tools-4*.jar")):
        subprocess.run(["mvn", "-q", "-B", "-ntp", "-f", BENCH / "kafka" / "pom.xml", "dependency:copy-dependencies",
                        f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"], check=True)
    if kinds & {Nats, NatsSync, Bridge}:
        PEERS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-trimpath", "-o", f"{PEERS}{os.sep}", "./bridge",
                        "github.com/nats-io/nats-server/v2"], check=True, cwd=BENCH / "peers")

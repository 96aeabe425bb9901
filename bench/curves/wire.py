"""As much of an MQTT and of a Kafka client as the curves need: plain sockets, requests in a row before answers."""
import socket
import struct


BIND_ADDRESS_NO_PORT = 24  # of Linux: the port is chosen when it connects


class Closed(OSError):
    """The server has closed the connection."""


class Stream:
    def __init__(self, port, source=None):
        self.socket = socket.socket()
        self.socket.settimeout(120)
        if source:  # a port bound with it would be kept from all others, whatever their address
            self.socket.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got, self.at = b"", 0

    def send(self, *pieces):
        self.socket.sendall(b"".join(pieces))

    def take(self, size):
        while len(self.got) - self.at < size:
            more = self.socket.recv(1 << 18)
            if not more:
                raise Closed("closed by the server")
            self.got, self.at = self.got[self.at:] + more, 0
        self.at += size
        return self.got[self.at - size:self.at]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def text(s):
    s = s.encode()
    return struct.pack(">H", len(s)) + s


def packet(first, body):
    size, length = len(body), b""
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


class MQTT(Stream):
    """A client of MQTT 3.1.1."""

    def __init__(self, port, name, source=None):
        super().__init__(port, source)
        self.send(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(name)))
        ack = self.packet()
        if ack[0] != 0x20 or ack[1] != b"\x00\x00":
            raise RuntimeError(f"CONNACK {ack}")

    def packet(self):
        """The first byte and the body of the next packet."""
        first, size, shift = self.take(1)[0], 0, 0
        while True:
            byte = self.take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, self.take(size)

    def subscribe(self, filters, qos=1, each=1000):
        for i in range(0, len(filters), each):
            some = filters[i:i + each]
            self.send(packet(0x82, b"\x00\x01" + b"".join(text(f) + bytes([qos]) for f in some)))
            ack = self.packet()
            while ack[0] != 0x90:  # a retained message came before
                ack = self.packet()
            if max(ack[1][2:]) > 2:
                raise RuntimeError("a subscription was refused")

    def publish(self, names, payload, retain=False, ahead=1000):
        """QoS 1, at most ahead without an acknowledgement."""
        for i in range(0, len(names), ahead):
            some = names[i:i + ahead]
            self.send(*(packet(0x33 if retain else 0x32, text(n) + struct.pack(">H", k + 1) + payload)
                        for k, n in enumerate(some)))
            for _ in some:
                ack = self.packet()
                if ack[0] != 0x40:
                    raise RuntimeError(f"{ack} in place of a PUBACK")

    def retained(self, wanted, size):
        """Subscribes with QoS 0 and waits for so many bytes of retained messages, which are not looked into."""
        self.send(packet(0x82, b"\x00\x01" + text(wanted) + b"\x00"))
        size += 5  # the SUBACK
        while size > 0:
            more = len(self.socket.recv(1 << 20))
            if not more:
                raise Closed("closed by the server")
            size -= more


def nullable(s):
    return struct.pack(">h", -1) if s is None else text(s)


class Kafka(Stream):
    """A Kafka client of old versions of the requests, which are simple to write."""

    def ask(self, api, version, *bodies):
        """Sends all requests before it takes the answers."""
        self.send(*(struct.pack(">ihhih", len(b) + 10, api, version, i, -1) + b for i, b in enumerate(bodies)))
        return [self.take(struct.unpack(">i", self.take(4))[0])[4:] for _ in bodies]

    def create(self, topics, partitions=1, each=1000):
        for i in range(0, len(topics), each):
            some = topics[i:i + each]
            body = struct.pack(">i", len(some)) + b"".join(
                text(t) + struct.pack(">ihii", partitions, 1, 0, 0) for t in some) + struct.pack(">ib", 60_000, 0)
            answer, = self.ask(19, 2, body)
            at = 8
            for t in some:
                at += 2 + len(t)
                code, = struct.unpack_from(">h", answer, at)
                length, = struct.unpack_from(">h", answer, at + 2)
                if code:
                    raise RuntimeError(f"CreateTopics {t}: error {code}")
                at += 4 + max(length, 0)

    def offset(self, topic, partition, millis):
        """ListOffsets by time: -1 is the end, -2 the start."""
        answer, = self.ask(2, 1, struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">iiq", 1, partition, millis))
        code, stamp, offset = struct.unpack(">hqq", answer[-18:])
        if code:
            raise RuntimeError(f"ListOffsets: error {code}")
        return stamp, offset

    def fetch(self, topic, partition, offset, size=64 << 10):
        """The size of the records that a Fetch gave."""
        answer, = self.ask(1, 4, struct.pack(">iiiibi", -1, 0, 1, size, 0, 1) + text(topic)
                           + struct.pack(">iiqi", 1, partition, offset, size))
        at = 4 + 4 + 2 + len(topic) + 4 + 4
        code, = struct.unpack_from(">h", answer, at)
        records, = struct.unpack_from(">i", answer, at + 2 + 8 + 8 + 4)
        if code or records <= 0:
            raise RuntimeError(f"Fetch: error {code}, {records} bytes")
        return records

    def commit(self, groups, topic, offset):
        """An offset for each group, as a reader without membership."""
        tail = b"\xff\xff\xff\xff" + text("") + struct.pack(">qi", -1, 1) + text(topic) + struct.pack(
            ">iiqh", 1, 0, offset, -1)
        for answer in self.ask(8, 2, *(text(g) + tail for g in groups)):
            code, = struct.unpack(">h", answer[-2:])
            if code:
                raise RuntimeError(f"OffsetCommit: error {code}")

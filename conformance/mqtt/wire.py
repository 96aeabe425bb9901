"""A raw MQTT connection for the cases: it can say anything, right or wrong, and reads strictly.

Framing is by hand; properties are packed and unpacked by paho-mqtt, which is a codec that is not ours."""

import itertools
import os
import socket
import struct

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = os.environ["mqtt"].rsplit(":", 1)
LIMIT = 180  # seconds for anything to happen
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14
names = itertools.count(1)


class Closed(Exception):
    """The server has ended the connection."""


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("!H", len(b)) + b


def varint(n):
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (128 if n else 0))
        if not n:
            return bytes(out)


def frame(head, body):
    return bytes([head]) + varint(len(body)) + body


def props(kind, **values):
    p = Properties(kind)
    for name, value in values.items():
        setattr(p, name, value)
    return p.pack()


class Packet:
    def __init__(self, head, body, v):
        self.kind, self.flags, self.body, self.v = head >> 4, head & 15, body, v
        self.props, self.code, self.id = None, None, None
        getattr(self, f"read_{self.kind}", self.read_ack)()

    def take_props(self, kind, at):
        if self.v < 5 or at >= len(self.body):
            return at
        self.props, used = Properties(kind).unpack(self.body[at:])
        return at + used

    def read_ack(self):
        (self.id,) = struct.unpack("!H", self.body[:2])
        self.code = self.body[2] if len(self.body) > 2 else 0
        if len(self.body) > 3:
            self.take_props(self.kind, 3)

    def read_2(self):
        assert len(self.body) >= 2, "short CONNACK"
        assert self.body[0] in (0, 1), "reserved bits of the CONNACK flags [MQTT-3.2.2-1]"
        self.present, self.code = self.body[0], self.body[1]
        at = self.take_props(PacketTypes.CONNACK, 2)
        assert at == len(self.body), "bytes behind the CONNACK"

    def read_3(self):
        (n,) = struct.unpack("!H", self.body[:2])
        self.topic, at = self.body[2 : 2 + n].decode(), 2 + n
        self.qos, self.retain, self.dup = self.flags >> 1 & 3, self.flags & 1, self.flags >> 3
        assert self.qos < 3 and not (self.dup and not self.qos), f"PUBLISH flags {self.flags:#x}"
        if self.qos:
            (self.id,) = struct.unpack("!H", self.body[at : at + 2])
            assert self.id, "packet identifier 0 [MQTT-2.2.1-3]"
            at += 2
        self.payload = self.body[self.take_props(PacketTypes.PUBLISH, at) :]

    def read_9(self):
        (self.id,) = struct.unpack("!H", self.body[:2])
        at = self.take_props(self.kind, 2) if self.v == 5 else 2
        self.codes = list(self.body[at:])

    read_11 = read_9

    def read_13(self):
        assert not self.body and not self.flags, "PINGRESP with a body or flags"

    def read_14(self):
        self.code = self.body[0] if self.body else 0
        self.take_props(PacketTypes.DISCONNECT, 1)

    def get(self, name, default=None):
        return getattr(self.props, name, default) if self.props else default


class Raw:
    """One connection. v is 4 for MQTT 3.1.1 and 5 for MQTT 5."""

    def __init__(self, v, small_buffer=False, address=None):
        self.v, self.ids = v, itertools.count(1)
        self.sock = socket.socket()
        if small_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(LIMIT)
        host, port = (address or f"{HOST}:{PORT}").rsplit(":", 1)
        self.sock.connect((host, int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        try:
            self.sock.sendall(bytes.fromhex(data) if isinstance(data, str) else data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed from e

    def exactly(self, n):
        got = bytearray()
        while len(got) < n:
            try:
                b = self.sock.recv(n - len(got))
            except ConnectionResetError as e:
                raise Closed from e
            except TimeoutError as e:
                raise AssertionError(f"silence for {LIMIT} s") from e
            if not b:
                raise Closed
            got += b
        return bytes(got)

    def next(self, kind=None):
        head = self.exactly(1)[0]
        size = shift = 0
        while True:
            b = self.exactly(1)[0]
            size |= (b & 127) << shift
            shift += 7
            if b < 128:
                break
            assert shift < 28, "remaining length of more than four bytes"
        p = Packet(head, self.exactly(size), self.v)
        assert kind is None or p.kind == kind, f"packet {p.kind} code {p.code}, not {kind}"
        return p

    def hello(self, cid=None, clean=1, keep=0, will=None, flags=0, tail=b"", **values):
        """CONNECT. will is (topic, payload, qos, retain, properties)."""
        cid = f"c{next(names)}" if cid is None else cid
        body = text("MQTT") + bytes([self.v])
        f = flags | (clean << 1)
        payload = text(cid)
        if will:
            topic, data, qos, retain, wp = will
            f |= 4 | qos << 3 | retain << 5
            payload += props(PacketTypes.WILLMESSAGE, **wp) if self.v == 5 else b""
            payload += text(topic) + text(data)
        body += bytes([f]) + struct.pack("!H", keep)
        body += props(PacketTypes.CONNECT, **values) if self.v == 5 else b""
        return frame(0x10, body + payload + tail)

    def connect(self, *args, **kw):
        self.send(self.hello(*args, **kw))
        self.ack = self.next(CONNACK)
        assert self.ack.code == 0, f"CONNACK {self.ack.code:#x}"
        return self

    def publish_bytes(self, topic, payload=b"x", qos=0, retain=0, dup=0, id=None, **values):
        body = text(topic)
        if qos:
            id = id or next(self.ids)
            body += struct.pack("!H", id)
        body += props(PacketTypes.PUBLISH, **values) if self.v == 5 else b""
        body += payload if isinstance(payload, bytes) else payload.encode()
        return frame(0x30 | dup << 3 | qos << 1 | retain, body)

    def publish(self, topic, payload=b"x", qos=1, **kw):
        """Publishes and waits for the PUBACK of QoS 1."""
        self.send(self.publish_bytes(topic, payload, qos, **kw))
        if qos == 1:
            p = self.next(PUBACK)
            assert p.code in (0, 0x10), f"PUBACK {p.code:#x}"
            return p

    def subscribe_bytes(self, *filters, sid=None):
        """Filters are (filter, options) or just the filter, for QoS 1."""
        body = struct.pack("!H", next(self.ids))
        if self.v == 5:
            body += props(PacketTypes.SUBSCRIBE, **({"SubscriptionIdentifier": sid} if sid else {}))
        for f in filters:
            f, o = f if isinstance(f, tuple) else (f, 1)
            body += text(f) + bytes([o])
        return frame(0x82, body)

    def subscribe(self, *filters, sid=None):
        self.send(self.subscribe_bytes(*filters, sid=sid))
        return self.next(SUBACK).codes

    def unsubscribe(self, *filters):
        body = struct.pack("!H", next(self.ids)) + (b"\0" if self.v == 5 else b"")
        self.send(frame(0xA2, body + b"".join(map(text, filters))))
        return self.next(UNSUBACK).codes

    def message(self):
        """The next PUBLISH, acknowledged."""
        p = self.next(PUBLISH)
        if p.qos == 1:
            self.send(struct.pack("!BBH", 0x40, 2, p.id))
        return p

    def messages(self, end):
        """Payloads up to the message whose payload is end, which is left out."""
        got = []
        while (p := self.message()).payload != end:
            got.append(p.payload)
        return got

    def ping(self):
        self.send("c000")
        self.next(PINGRESP)

    def ends(self, code=None):
        """Wants the end of the connection; MQTT 5 says why by a DISCONNECT (or CONNACK) with code first."""
        seen = None
        try:
            while True:
                p = self.next()
                if p.kind in (DISCONNECT, CONNACK):
                    assert self.v == 5 or p.kind == CONNACK, "DISCONNECT from a server to a 3.1.1 client"
                    seen = p.code
        except Closed:
            pass
        if self.v == 5 and code is not None:
            want = code if isinstance(code, tuple) else (code,)
            assert seen in want, f"reason {seen}, not {[hex(c) for c in want]}"

    def bye(self):
        self.send("e000")
        self.ends()
        self.sock.close()

    def drop(self):
        """Ends the connection without a DISCONNECT."""
        self.sock.close()

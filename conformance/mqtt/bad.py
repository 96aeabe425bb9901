"""Bad input: what must be refused, how, and that nobody else feels it.

The tables of internal/mqtt/input_test.go hold the exact bytes of small errors; here is what needs the whole
binary: size, number, patience, WebSocket."""

import base64
import os
import socket
import struct
import time

from cases import both, case
from wire import CONNACK, HOST, LIMIT, Closed, Raw, frame, props, text, varint
from paho.mqtt.packettypes import PacketTypes

WS = int(os.environ["ws"].rsplit(":", 1)[1])


@case(*both, says="3: 268,435,455 announced, one byte sent: refused or ended in time, no memory taken")
def bad_length_announced(v, t):
    c = Raw(v).connect()
    c.send("30ffffff7f00")
    c.ends(0x95)


@case(*both, says="3: five bytes of remaining length")
def bad_length_five(v, t):
    c = Raw(v).connect()
    c.send("30ffffffff01")
    c.ends((0x81, 0x95))


@case(*both, says="5: unknown protocol versions get an answer or the end")
def bad_version(v, t):
    for level in (0, 2, 6, 127, 255):
        c = Raw(v)
        c.send(frame(0x10, text("MQTT") + bytes([level, 2, 0, 0]) + text("x")))
        try:
            head = c.exactly(2)
            assert head[0] == 0x20 and c.exactly(head[1])[1] in (1, 0x84)
            c.exactly(1)
            raise AssertionError("still connected")
        except Closed:
            pass


@case(*both, says="7: client identifiers with wildcards, .., line feeds and escapes harm nobody")
def bad_client_ids(v, t):
    for cid in (t + "+", t + "#", t + "/../x", t + "%00", t + "\n\x1b[31m", t + "\ufffe", t + "z" * 60000):
        c = Raw(v)
        c.send(c.hello(cid=cid))
        p = c.next(2)
        assert p.code in ((0, 2) if v == 4 else (0, 0x85, 0x81)), (cid[:20], p.code)


@case(*both, says="7, MQTT-1.5.4-1: client identifiers with surrogates or not UTF-8 end the connection")
def bad_client_id_utf8(v, t):
    for cid in (b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\0b", b"\xff"):
        c = Raw(v)
        c.send(c.hello(cid=cid))
        c.ends((0x81, 0x85))


@case(5, says="9, MQTT-3.3.2-2, 4.7.3-1: a will topic with wildcards or empty; one that begins with $ lets the client in")
def bad_will_topic(v, t):
    for topic in ("a/+", "#", "", b"a\0"):
        c = Raw(v)
        c.send(c.hello(will=(topic, "w", 0, 0, {})))
        c.ends((0x81, 0x82, 0x90))
    c = Raw(v)  # Mosquitto's bridges have such a will: they get in, and it is not published
    c.send(c.hello(will=("$SYS/x", "w", 0, 0, {})))
    assert c.next(CONNACK).code == 0


@case(4, says="9: the same for 3.1.1")
def bad_will_topic_311(v, t):
    for topic in ("a/+", "#", "", b"a\0"):
        c = Raw(v)
        c.send(c.hello(will=(topic, "w", 0, 0, {})))
        c.ends()


@case(*both, says="11: a topic of 65,535 slashes is published or refused, and no filter overflows on it")
def bad_levels(v, t):
    s = Raw(v).connect()
    s.subscribe((t + "/#", 0), (t + "/+" * 30000, 0), t + "/end")
    c = Raw(v).connect()
    c.send(c.publish_bytes(t + "/" * (65535 - len(t)), "deep", 0))
    p = Raw(v).connect()
    p.publish(t + "/end", "end")
    s.messages(b"end")


@case(*both, says="11, MQTT-3.3.2-2, 4.7.3-1: topic names with wildcards, U+0000, or empty end the connection")
def bad_topic(v, t):
    for name in (t + "/+", t + "/#", b"a\0b", b"\xff", ""):
        c = Raw(v).connect()
        c.send(c.publish_bytes(name, "x", 0))
        c.ends((0x81, 0x82, 0x90))


@case(*both, says="14: a packet identifier in flight again with another payload")
def bad_id_reused(v, t):
    c = Raw(v).connect()
    s = Raw(v).connect()
    s.subscribe(t)
    c.send(c.publish_bytes(t, "one", 1, id=5) + c.publish_bytes(t, "two", 1, id=5))
    try:
        assert {c.next().kind, c.next().kind} <= {4, 14}
    except Closed:
        pass
    assert s.message().payload == b"one"


@case(5, says="16, MQTT-3.3.4-9: more than Receive Maximum unacknowledged: 0x93, or never that many at once")
def bad_receive_maximum(v, t):
    c = Raw(v).connect()
    most = c.ack.get("ReceiveMaximum", 65535)
    try:
        c.send(b"".join(c.publish_bytes(t, "x", 1, id=n % 65535 + 1) for n in range(most * 3)))
        acks = 0
        while acks < most * 3:
            p = c.next()
            if p.kind == 14:
                assert p.code == 0x93, p.code
                return
            acks += 1
    except Closed:
        pass


@case(*both, says="16, 27: a client that never reads and never acknowledges delays nobody")
def bad_never_reads(v, t):
    dead = Raw(v, small_buffer=True).connect()
    dead.subscribe((t, 0))
    p, s = Raw(v).connect(), Raw(v).connect()
    s.subscribe(t)
    for n in range(200):
        p.publish(t, b"y" * 20000)
        s.message()
    p.ping()


@case(*both, says="17: 10,000 filters in one SUBSCRIBE: all answered, or the connection ended")
def bad_many_filters(v, t):
    c = Raw(v).connect()
    try:
        assert len(c.subscribe(*(f"{t}/{n}/+" for n in range(10_000)))) == 10_000
        c.drop()
    except (Closed, AssertionError) as e:
        assert isinstance(e, Closed) or "packet 14" in str(e), e


@case(5, says="17, 18: reserved bits, retain handling 3, identifier 0 and 268,435,456")
def bad_subscribe(v, t):
    for data in (
        struct.pack("!HB", 1, 0) + text(t) + b"\x40",
        struct.pack("!HB", 1, 0) + text(t) + b"\x30",
        struct.pack("!HB", 1, 0) + text(t) + b"\x03",
        struct.pack("!H", 1) + b"\x02\x0b\0" + text(t) + b"\0",
        struct.pack("!H", 1) + b"\x06\x0b\x80\x80\x80\x80\x01" + text(t) + b"\0",
        struct.pack("!HB", 1, 0),
        struct.pack("!HB", 0, 0) + text(t) + b"\0",
        struct.pack("!HB", 1, 0) + text(""),
    ):
        c = Raw(v).connect()
        c.send(frame(0x82, data))
        c.ends((0x81, 0x82))


@case(*both, says="17, MQTT-4.7.1-2, -3, 4.8.2-1, -2: bad filters are refused")
def bad_filters(v, t):
    bad = ["#/a", "a#", "+a", "a+/b", "a/b#"] + (["$share//x", "$share/+/x", "$share/g", "$share/g/"] if v == 5 else [])
    for f in bad:
        c = Raw(v).connect()
        try:
            assert c.subscribe(f) in ([0x80], [0x8F], [0x9E]), f
        except (Closed, AssertionError) as e:
            assert isinstance(e, Closed) or "packet 14" in str(e), (f, e)


@case(4, says="17: MQTT-3.8.3-4, -3, 2.3.1-1 of 3.1.1")
def bad_subscribe_311(v, t):
    for data in (
        struct.pack("!H", 1) + text(t) + b"\x04",
        struct.pack("!H", 1) + text(t) + b"\x03",
        struct.pack("!H", 1),
        struct.pack("!H", 0) + text(t) + b"\0",
        struct.pack("!H", 1) + text(t),
    ):
        c = Raw(v).connect()
        c.send(frame(0x82, data))
        c.ends()


@case(*both, says="20, 21: packets that only servers send, flags and bodies that are not allowed")
def bad_packets(v, t):
    for data in ("20020000", "9003000100", "d000", "b0020001", "c00100", "c100", "e100", "00", "4100", "60020001",
                 "4000", "400100", "a0020001"):
        c = Raw(v).connect()
        c.send(data if len(data) > 2 else "0000")
        c.ends((0x81, 0x82))


@case(5, says="22: DISCONNECT that raises the session expiry from 0; unknown reason")
def bad_disconnect(v, t):
    for data in ("e007000511000000ff", "e0017f"):
        c = Raw(v).connect()
        c.send(data)
        c.ends((0x81, 0x82))


@case(5, says="23: a packet larger than announced is refused with 0x95")
def bad_size(v, t):
    c = Raw(v).connect()
    most = c.ack.get("MaximumPacketSize")
    assert most, "no limit announced"
    c.send(b"\x30" + varint(most))
    c.ends(0x95)


@case(*both, says="23: an empty retained message for a topic that has none")
def bad_clear_nothing(v, t):
    Raw(v).connect().publish(t, "", retain=1)


@case(5, says="24: message expiry 0 is delivered at most at once, and never kept")
def bad_expiry_0(v, t):
    p = Raw(v).connect()
    p.publish(t, "gone", retain=1, MessageExpiryInterval=0)
    s = Raw(v).connect()
    s.subscribe(t, t + "/end")
    p.publish(t + "/end", "end")
    assert s.messages(b"end") == []


@case(5, says="25: user properties and correlation data of 64 KiB pass or are refused; nobody falls")
def bad_large_properties(v, t):
    c = Raw(v).connect()
    c.send(c.publish_bytes(t, "x", 1, CorrelationData=b"c" * 65535, UserProperty=[("k", "v" * 65535)] * 8))
    assert c.next().kind in (4, 14)
    c = Raw(v).connect()
    c.send(c.publish_bytes(t, "x", 1, UserProperty=[("k", "v")] * 20000))
    assert c.next().kind in (4, 14)


@case(5, says="25, 8: properties twice, unknown, of other packets, longer than the packet")
def bad_properties(v, t):
    for p in ("06240124012401", "0401010101", "02ff01", "027f00", "0321000a", "051100000000", "7f", "8080808001",
              "03080001", "0408000123", "0223", "020102", "0323ffff"):
        c = Raw(v).connect()
        c.send(frame(0x30, text(t) + bytes.fromhex(p)))
        c.ends((0x81, 0x82, 0x94))


@case(*both, says="27: a header, then one byte at a time: keep alive ends it, others feel nothing")
def bad_slow(v, t):
    c = Raw(v).connect(keep=1)
    c.send("30ff01")
    start = time.monotonic()
    try:
        while time.monotonic() - start < 20:
            c.send("00")
            time.sleep(0.2)  # fewer than the packet has
        raise AssertionError("a packet of one byte in 0.2 s kept the connection beyond its keep alive")
    except Closed:
        pass


@case(*both, says="28: TLS and HTTP on the plain port")
def bad_protocol(v, t):
    for data in (bytes.fromhex("16030100c2010000be0303") + os.urandom(180), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\0" * 100):
        c = Raw(v)
        c.send(data)
        try:
            c.exactly(1)
            raise AssertionError("an answer")
        except Closed:
            pass


@case(*both, says="31: 300 half-open connections and 200 takeovers of one client identifier")
def bad_storm(v, t):
    open_ = [Raw(v) for _ in range(300)]
    for _ in range(200):
        last = Raw(v).connect(cid=t)
        last.send(last.subscribe_bytes(t))
        open_.append(last)
    last.next(9)
    p = Raw(v).connect()
    p.publish(t, "one")
    assert last.message().payload == b"one"
    for c in open_:
        c.drop()


@case(*both, says="33: overlapping wildcards, +/+/+/... of every depth")
def bad_wildcards(v, t):
    s = Raw(v).connect()
    s.subscribe(*((t + "/+" * n + "/#", 0) for n in range(60)), t + "/end")
    p = Raw(v).connect()
    for n in range(20):
        p.publish(t + "/a" * 60, str(n))
    p.publish(t + "/end", "end")
    assert set(s.messages(b"end")) - {b""} == {str(n).encode() for n in range(20)}


@case(*both, says="34: publishing to $ topics reaches nobody")
def bad_dollar(v, t):
    for name in ("$SYS/" + t, "$share/g/x", "$__firth", "$internal/" + t):
        c = Raw(v).connect()
        s = Raw(v).connect()
        s.subscribe(name)
        s.subscribe(t)
        c.send(c.publish_bytes(name, "x", 0))
        c.drop()
        Raw(v).connect().publish(t, "end")
        assert s.messages(b"end") == []


# --- WebSocket (29)


def ws_dial(protocol="mqtt", origin=None):
    s = socket.create_connection((HOST, WS), LIMIT)
    head = f"GET /mqtt HTTP/1.1\r\nHost: {HOST}:{WS}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
    head += f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    head += f"Origin: {origin}\r\n" if origin else ""
    s.sendall((head + "\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (b := s.recv(1)):
        answer += b
    return s, answer.decode()


def ws_frame(data, op=2, fin=True, mask=True, size=None):
    n = len(data) if size is None else size
    low = n if n < 126 else 126 if n < 65536 else 127
    head = bytes([fin << 7 | op, mask << 7 | low])
    head += b"" if low < 126 else struct.pack("!H" if low == 126 else "!Q", n)
    key = b"\1\2\3\4"
    return head + (key + bytes(b ^ key[i % 4] for i, b in enumerate(data)) if mask else data)


def ws_over(s):
    """Wants the connection ended; what comes before is a close frame at most."""
    try:
        while b := s.recv(4096):
            assert b[0] & 15 == 8 or b[0] & 15 == 2, b[:8]
    except ConnectionResetError:
        pass


@case(*both, says="MQTT-6.0.0-3, -4: WebSocket with the subprotocol mqtt, packets in any frames")
def ws_good(v, t):
    s, answer = ws_dial()
    assert " 101 " in answer and "sec-websocket-protocol: mqtt" in answer.lower(), answer
    hello = Raw.hello(type("V", (), {"v": v})(), cid=t)
    for b in hello[:5]:
        s.sendall(ws_frame(bytes([b])))
    s.sendall(ws_frame(hello[5:8], fin=False) + ws_frame(hello[8:] + bytes.fromhex("c000"), op=0))
    got = b""
    while b"\xd0\0" not in got:
        b = s.recv(4096)
        assert b, got
        got += b
    assert got[2] == 0x20


@case(5, says="29: no subprotocol, wrong subprotocol, wrong origin")
def bad_ws_handshake(v, t):
    for kw in ({"protocol": "chat"}, {"protocol": None}, {"origin": "http://evil.example"}):
        s, answer = ws_dial(**kw)
        if " 101 " in answer:
            s.sendall(ws_frame(Raw.hello(type("V", (), {"v": v})(), cid=t)))
            ws_over(s)


@case(5, says="29, MQTT-6.0.0-1: text frames, unmasked frames, huge lengths, junk in a frame")
def bad_ws_frames(v, t):
    hello = Raw.hello(type("V", (), {"v": v})(), cid=t)
    for data in (ws_frame(hello, op=1), ws_frame(hello, mask=False), ws_frame(b"", size=2**63),
                 ws_frame(b"\0\0\0\0"), b"\xf2\x80\1\2\3\4", ws_frame(b"x" * 126, op=9)):
        s, _ = ws_dial()
        s.sendall(data)
        ws_over(s)


@case(5, says="29: a flood of pings harms nobody")
def bad_ws_pings(v, t):
    s, _ = ws_dial()
    try:
        s.sendall(ws_frame(Raw.hello(type("V", (), {"v": v})(), cid=t)) + ws_frame(b"p", op=9) * 5000)
    except OSError:
        pass
    Raw(v).connect().ping()


@case(*both, says="27, section 3.1.4: a CONNECT that never becomes whole, over TCP and WebSocket, is ended in time")
def bad_connect_slow(v, t):
    plain, (ws, _) = Raw(v), ws_dial()
    head = b"\x10\xff\x01" + text("MQTT") + bytes([v])
    plain.send(head)
    ws.sendall(ws_frame(head))
    start = time.monotonic()
    ended = set()
    while len(ended) < 2:
        assert time.monotonic() - start < LIMIT, f"still connected: {({'TCP', 'WebSocket'} - ended)}"
        time.sleep(0.25)
        for name, send, data in (("TCP", plain.sock.sendall, b"\0"), ("WebSocket", ws.sendall, ws_frame(b"\0"))):
            try:
                send(data)
            except OSError:
                ended.add(name)

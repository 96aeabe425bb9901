"""What the OASIS specifications of MQTT 3.1.1 and 5.0 ask of a server, as cases.

A case is a function whose name begins with its subject. @case(v, ...) runs it for each version given, as
`5.name` or `3.1.1.name`, with a topic prefix of its own: `t`."""

import time

from wire import PUBLISH, Closed, Raw

CASES = {}


def case(*versions, says):
    def add(f):
        for v in versions:
            CASES[f"{'5' if v == 5 else '3.1.1'}.{f.__name__}"] = (f, v, says)
        return f

    return add


both = (4, 5)


def pair(v, f, options=1, sid=None, **kw):
    """A publisher, and a subscriber of f."""
    sub = Raw(v).connect(**kw)
    assert sub.subscribe((f, options), sid=sid)[0] < 0x80
    return Raw(v).connect(), sub


# --- CONNECT and CONNACK


@case(*both, says="MQTT-3.2.2-1: a clean session is not present")
def connect_clean(v, t):
    assert Raw(v).connect().ack.present == 0


@case(*both, says="MQTT-3.1.3-6: an empty client identifier is given one")
def connect_empty_id(v, t):
    a, b = Raw(v).connect(cid=""), Raw(v).connect(cid="")
    a.ping()
    b.ping()
    if v == 5:  # [MQTT-3.2.2-16]
        assert a.ack.get("AssignedClientIdentifier") != b.ack.get("AssignedClientIdentifier")


@case(4, says="MQTT-3.1.3-8: empty client identifier without clean session is refused with 2")
def connect_empty_id_not_clean(v, t):
    c = Raw(v)
    c.send(c.hello(cid="", clean=0))
    assert c.next(2).code == 2
    c.ends()


@case(*both, says="MQTT-3.1.3-5: client identifiers of 23 letters and digits")
def connect_23(v, t):
    Raw(v).connect(cid=t[:4] + "Z" * 19).ping()


@case(*both, says="MQTT-3.1.4-3: a second connection ends the first")
def connect_takeover(v, t):
    a = Raw(v).connect(cid=t)
    b = Raw(v).connect(cid=t)
    a.ends(0x8E)
    b.ping()


@case(*both, says="MQTT-3.1.0-2: a second CONNECT ends the connection")
def connect_twice(v, t):
    c = Raw(v).connect()
    c.send(c.hello())
    c.ends(0x82)


@case(*both, says="section 3.1.4: packets may follow CONNECT at once")
def connect_pipelined(v, t):
    c = Raw(v)
    c.send(c.hello() + c.subscribe_bytes(t) + c.publish_bytes(t, "now", 1) + bytes.fromhex("c000"))
    kinds = {}
    while len(kinds) < 5:
        p = c.next()
        kinds[p.kind] = p
    assert set(kinds) == {2, 9, 4, 3, 13} and kinds[3].payload == b"now"


@case(*both, says="section 2.1: packets arrive in any pieces")
def connect_bytewise(v, t):
    c = Raw(v)
    for b in c.hello() + c.publish_bytes(t, "pieces", 1):
        c.send(bytes([b]))
    assert c.next(2).code == 0
    assert c.next(4).code in (0, 0x10)


@case(5, says="section 3.2.2.3: Receive Maximum and the other limits are legal where given")
def connack_limits(v, t):
    a = Raw(v).connect().ack
    assert a.get("ReceiveMaximum", 1) > 0 and a.get("MaximumPacketSize", 1) > 0
    assert a.get("MaximumQoS", 0) in (0, 1)


@case(5, says="section 3.1.2.10: keep alive 65535 and 0 are legal; Server Keep Alive is not 0")
def connack_keepalive(v, t):
    for keep in (0, 65535):
        c = Raw(v).connect(keep=keep)
        assert c.ack.get("ServerKeepAlive", 1) > 0
        c.ping()


@case(5, says="section 3.2.2.3.2: a shorter session expiry is told")
def connack_expiry(v, t):
    a = Raw(v).connect(cid=t, SessionExpiryInterval=0xFFFFFFFF)
    expiry = a.ack.get("SessionExpiryInterval", 0xFFFFFFFF)
    a.bye()
    assert Raw(v).connect(cid=t, clean=0).ack.present == (expiry > 0), expiry


@case(5, says="MQTT-3.1.2-29: without problem information no reason string in acknowledgements")
def problem_information_0(v, t):
    c = Raw(v).connect(RequestProblemInformation=0)
    c.send(c.publish_bytes("$SYS/x", "refused", 1))
    p = c.next(4)
    assert p.get("ReasonString") is None and p.get("UserProperty") is None


@case(*both, says="MQTT-3.1.2-24: the keep alive times one and a half ends the connection")
def keepalive(v, t):
    took = []
    while not took or took[-1] > 4 and len(took) < 12:  # the machine may be busy, but not always
        c, start = Raw(v), time.monotonic()
        c.connect(keep=1).ends(0x8D)
        took.append(time.monotonic() - start)
        assert took[-1] > 1.4, took
    assert took[-1] < 4, took


@case(*both, says="MQTT-3.12.4-1: PINGREQ is answered; any packet keeps the connection alive")
def keepalive_pings(v, t):
    c = Raw(v).connect(keep=6)
    for _ in range(20):  # for 10 s, of which 9 in silence would be too many
        time.sleep(0.5)
        c.ping()


# --- PUBLISH


@case(*both, says="MQTT-4.3.1, 4.3.2: QoS 0 and 1 arrive with the lower of both QoS")
def publish_qos(v, t):
    for granted in (0, 1):
        p, s = pair(v, f"{t}/{granted}", granted)
        for q in (0, 1):
            p.publish(f"{t}/{granted}", f"q{q}", q)
            m = s.message()
            assert (m.payload, m.qos) == (f"q{q}".encode(), min(q, granted)), (m.payload, m.qos)


@case(*both, says="MQTT-4.3.3: QoS 2 from publisher to subscriber")
def publish_qos2(v, t):
    s = Raw(v).connect()
    assert s.subscribe((t, 2)) == [2], "QoS 2 is not granted"
    p = Raw(v).connect()
    p.send(p.publish_bytes(t, "two", 2, id=7))
    assert p.next(5).id == 7
    p.send("62020007")
    assert p.next(7).id == 7
    m = s.next(3)
    assert (m.payload, m.qos) == (b"two", 2)


@case(5, says="MQTT-3.2.2-9: who takes QoS 2 announces no maximum")
def publish_qos2_announced(v, t):
    assert Raw(v).connect().ack.get("MaximumQoS") is None


@case(*both, says="MQTT-3.8.4-8, 3.2.2-9: a subscription with QoS 2 is granted what the server can")
def subscribe_qos2_granted(v, t):
    assert Raw(v).connect().subscribe((t, 2))[0] in (0, 1, 2)


@case(*both, says="MQTT-3.3.1-3: DUP is not passed on")
def publish_dup(v, t):
    p, s = pair(v, t)
    p.publish(t, "again", dup=1)
    m = s.message()
    assert m.payload == b"again" and not m.dup


@case(*both, says="MQTT-4.6.0-6: order of one publisher, topic and QoS")
def publish_order(v, t):
    p, s = pair(v, t)
    for n in range(200):
        p.send(p.publish_bytes(t, str(n), 1))
    for _ in range(200):
        p.next(4)
    assert [int(s.message().payload) for _ in range(200)] == list(range(200))


@case(*both, says="MQTT-4.6.0-2: PUBACK in the order of the PUBLISH packets")
def puback_order(v, t):
    c = Raw(v).connect()
    c.send(b"".join(c.publish_bytes(f"{t}/{n % 7}", "x", 1, id=n) for n in range(1, 101)))
    assert [c.next(4).id for _ in range(100)] == list(range(1, 101))


@case(*both, says="section 3.3.3: empty, binary and large payloads are kept as they are")
def publish_payloads(v, t):
    p, s = pair(v, t)
    for data in (b"", bytes(range(256)), b"z" * 300_000):
        p.publish(t, data)
        assert s.message().payload == data


@case(*both, says="MQTT-4.7.3-3, 1.5.4-3: long topics, spaces, U+FEFF and other planes are kept")
def publish_topics(v, t):
    p, s = pair(v, t + "/#")
    for name in (t + "/a b", t + "/\ufeffbom", t + "/\U00010ffd", t + "/" + "x" * 60000, t + "//", t + "/A"):
        p.publish(name)
        assert s.message().topic == name


@case(5, says="MQTT-3.3.2-4..20: the properties of a PUBLISH are passed on unaltered, in order")
def publish_properties(v, t):
    p, s = pair(v, t)
    users = [("a", "1"), ("b", "2"), ("a", "3"), ("", ""), ("a", "1")]
    p.publish(t, "p", PayloadFormatIndicator=1, ContentType="text/plain", ResponseTopic="r/1",
              CorrelationData=bytes(range(256)), UserProperty=users)
    m = s.message()
    got = [m.get(n) for n in ("PayloadFormatIndicator", "ContentType", "ResponseTopic", "CorrelationData")]
    assert got == [1, "text/plain", "r/1", bytes(range(256))], got
    assert [tuple(u) for u in m.get("UserProperty")] == users, m.get("UserProperty")
    assert m.get("TopicAlias") is None and m.get("MessageExpiryInterval") is None


@case(5, says="section 3.3.2.3: a 3.1.1 client gets and sends without properties")
def publish_across_versions(v, t):
    p, s = pair(5, t)
    old = Raw(4).connect()
    old.subscribe(t)
    p.publish(t, "new", ContentType="x")
    assert old.message().payload == b"new" and s.message().get("ContentType") == "x"
    old.send(old.publish_bytes(t, "old", 1))
    m = s.message()
    assert m.payload == b"old" and m.get("ContentType") is None


@case(5, says="MQTT-3.3.2-7..10, 3.3.4-1: topic aliases, replaced and per connection")
def alias(v, t):
    p, s = pair(v, t + "/#")
    assert p.ack.get("TopicAliasMaximum", 0) >= 2
    p.publish(t + "/a", "1", TopicAlias=1)
    p.publish("", "2", TopicAlias=1, ContentType="kept")
    p.publish(t + "/b", "3", TopicAlias=1)
    p.publish("", "4", TopicAlias=1)
    got = [s.message() for _ in range(4)]
    assert [m.topic for m in got] == [t + "/a", t + "/a", t + "/b", t + "/b"]
    assert got[1].get("ContentType") == "kept" and all(m.get("TopicAlias") is None for m in got)
    q = Raw(v).connect()
    q.send(q.publish_bytes("", "5", 1, TopicAlias=1))
    q.ends((0x82, 0x94))


@case(5, says="MQTT-3.3.2-6: message expiry is passed on less the time waited, and ends a retained message")
def expiry(v, t):
    p = Raw(v).connect()
    start = time.monotonic()
    p.publish(t + "/long", "l", retain=1, MessageExpiryInterval=1000)
    p.publish(t + "/max", "m", retain=1, MessageExpiryInterval=0xFFFFFFFF)
    p.publish(t + "/short", "s", retain=1, MessageExpiryInterval=1)
    time.sleep(2.2)
    s = Raw(v).connect()
    s.subscribe(t + "/#")
    p.publish(t + "/end", "end")
    got = {}
    while len(got) < 3:
        m = s.message()
        got[m.topic.rsplit("/", 1)[1]] = m
    assert set(got) == {"long", "max", "end"}, set(got)
    assert 998 - (time.monotonic() - start) <= got["long"].get("MessageExpiryInterval") <= 998
    assert got["max"].get("MessageExpiryInterval") > 0xFFFFFF00
    assert got["end"].get("MessageExpiryInterval") is None


@case(5, says="MQTT-3.3.4-9: no more unacknowledged QoS 1 messages than the client's Receive Maximum")
def receive_maximum_out(v, t):
    p, s = pair(v, t, ReceiveMaximum=2)
    for n in range(6):
        p.publish(t, str(n))
    a, b = s.next(3), s.next(3)
    s.ping()  # a third would have come first
    got = [a.payload, b.payload]
    for m in (a, b):
        s.send(bytes([0x40, 2]) + m.id.to_bytes(2, "big"))
    got += [s.message().payload for _ in range(4)]
    assert got == [str(n).encode() for n in range(6)]


@case(5, says="MQTT-3.1.2-24, -25: what is too large for the client is not sent, and is as if done")
def maximum_packet_size_out(v, t):
    p, s = pair(v, t, MaximumPacketSize=100, ReceiveMaximum=1)
    for data in (b"1", b"z" * 200, b"2", b"z" * 200, b"3"):
        p.publish(t, data)
    assert [s.message().payload for _ in range(3)] == [b"1", b"2", b"3"]


@case(5, says="section 3.3.2.3.2: payload format 1 may be checked; a bad one is delivered or refused with 0x99")
def payload_format_invalid(v, t):
    c = Raw(v).connect()
    c.send(c.publish_bytes(t, b"\xff\xfe", 1, PayloadFormatIndicator=1))
    assert c.next(4).code in (0, 0x10, 0x99)


# --- SUBSCRIBE and UNSUBSCRIBE

MATCH = [  # filter below the prefix, topic names that match, names that do not
    ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
    ("a/#", ["a", "a/b", "a/b/c", "a/"], ["ab", "A/b"]),
    ("+/+", ["/f", "x/y"], ["x", "x/y/z"]),
    ("+", ["x", ""], ["/f"]),
    ("a/+/c", ["a/b/c", "a//c"], ["a/b/d", "a/b/b/c"]),
    ("/+", ["/f"], ["f"]),
]


@case(*both, says="MQTT-4.7.1-1..3, 4.7.3-4: what filters match")
def match(v, t):
    for n, (f, yes, no) in enumerate(MATCH):
        root = f"{t}/{n}/"
        p, s = pair(v, root + f)
        s.subscribe(root + "end/end/end/end")
        for name in no + yes:
            p.publish(root + name, name)
        p.publish(root + "end/end/end/end", "\0")
        got = s.messages(b"\0")
        assert got == [x.encode() for x in yes], (f, got)


@case(*both, says="MQTT-4.7.2-1: # and + do not match names that begin with $")
def match_dollar(v, t):
    s = Raw(v).connect()
    s.subscribe("#", "+/x")
    p = Raw(v).connect()
    p.send(p.publish_bytes("$SYS/x", "hidden", 0))
    p.send(p.publish_bytes("$other/x", "hidden", 0))
    p.publish(t + "/end", "end" + t)
    while (m := s.message()).payload != ("end" + t).encode():
        assert not m.topic.startswith("$")


@case(*both, says="MQTT-3.3.5-1, 3.3.4-2: overlapping subscriptions: the highest QoS")
def overlap(v, t):
    s = Raw(v).connect()
    s.subscribe((t + "/#", 0), (t + "/+", 1), t + "/end")
    p = Raw(v).connect()
    p.publish(t + "/a", "a")
    p.publish(t + "/end", "end")
    got = []
    while not got or got[-1].payload != b"end":
        got.append(s.message())
    assert max(m.qos for m in got if m.payload == b"a") == 1


@case(5, says="MQTT-3.3.4-3..5: identifiers of all matching subscriptions")
def subscription_ids(v, t):
    s = Raw(v).connect()
    s.subscribe(t + "/#", sid=1)
    s.subscribe(t + "/+", sid=268_435_455)
    s.subscribe(t + "/no", sid=3)
    p = Raw(v).connect()
    p.publish(t + "/a", "a")
    p.publish(t + "/b/c", "end")
    ids = []
    while (m := s.message()).payload != b"end":
        ids += m.get("SubscriptionIdentifier")
    assert sorted(ids) == [1, 268_435_455], ids
    assert m.get("SubscriptionIdentifier") == [1]


@case(5, says="MQTT-3.8.4-3: a new subscription to the same filter replaces identifier and options")
def subscription_id_replaced(v, t):
    s = Raw(v).connect()
    s.subscribe((t, 0), sid=1)
    s.subscribe((t, 1), sid=2)
    p = Raw(v).connect()
    p.publish(t, "a")
    m = s.message()
    assert m.get("SubscriptionIdentifier") == [2] and m.qos == 1
    p.publish(t, "end")
    assert s.messages(b"end") == []


@case(5, says="MQTT-3.3.4-3: retained messages carry the identifier")
def subscription_id_retained(v, t):
    Raw(v).connect().publish(t, "r", retain=1)
    s = Raw(v).connect()
    s.subscribe(t, sid=9)
    assert s.message().get("SubscriptionIdentifier") == [9]


@case(*both, says="MQTT-3.8.4-6: one return code for each filter, in order")
def suback_codes(v, t):
    deep = t + "/x" * 300  # docs/limits.md: at most 200 levels
    got = Raw(v).connect().subscribe((t + "/0", 0), (t + "/1", 1), (t + "/0", 0), (deep, 0))
    bad = {got[3]} <= {0x8F, 0x80}
    assert got[:3] == [0, 1, 0] and bad, got


@case(5, says="MQTT-3.8.3-3: no local")
def no_local(v, t):
    c = Raw(v).connect()
    c.subscribe((t, 1 | 4), t + "/end")
    c.send(c.publish_bytes(t, "own", 0) + c.publish_bytes(t + "/end", "end", 0))
    assert c.messages(b"end") == []
    Raw(v).connect().publish(t, "other")
    assert c.message().payload == b"other"


@case(5, says="MQTT-3.8.3-3: no local, for a session that was away, and its will")
def no_local_later(v, t):
    p = Raw(v).connect()
    p.subscribe(t + "/will")

    def come(**kw):
        return Raw(v).connect(cid=t, SessionExpiryInterval=600, **kw)

    c = come(will=(t + "/will", "own will", 1, 0, {}), ReceiveMaximum=1)
    c.subscribe((t + "/#", 1 | 4))
    p.publish(t, "1")
    held = c.next(PUBLISH)  # what follows waits for its acknowledgement
    assert held.payload == b"1"
    c.publish(t, "own")
    p.publish(t, "2")
    c.drop()
    assert p.message().payload == b"own will"
    c = come(clean=0)
    assert c.ack.present
    p.publish(t + "/end", "end")
    assert c.messages(b"end") == [b"1", b"2"]


@case(5, says="MQTT-3.8.3-3: no local, for what is retained")
def no_local_retained(v, t):
    c, p = Raw(v).connect(), Raw(v).connect()
    c.publish(t + "/a", "own", retain=1)
    p.publish(t + "/b", "other", retain=1)
    c.subscribe((t + "/#", 1 | 4))
    assert c.message().payload == b"other"
    p.publish(t + "/end", "end")
    assert c.messages(b"end") == []


@case(5, says="MQTT-3.3.1-12, -13: retain as published")
def retain_as_published(v, t):
    p, s = pair(v, t, 1 | 8)
    q = Raw(v).connect()
    q.subscribe(t)
    p.publish(t, "kept", retain=1)
    assert s.message().retain == 1 and q.message().retain == 0
    p.publish(t, "plain")
    assert s.message().retain == 0


@case(5, says="MQTT-3.3.1-9..11: retain handling 0, 1 and 2")
def retain_handling(v, t):
    p = Raw(v).connect()
    p.publish(t + "/r", "r", retain=1)
    for handling, first, again in ((0, 1, 1), (1, 1, 0), (2, 0, 0)):
        s = Raw(v).connect()
        for count in (first, again):
            s.subscribe((t + "/r", 1 | handling << 4))
            for _ in range(count):
                m = s.message()
                assert (m.payload, m.retain) == (b"r", 1)
            s.subscribe((t + "/r2", 1))
            p.publish(t + "/r2", "end")
            assert s.messages(b"end") == [], (handling, count)


@case(*both, says="MQTT-3.10.4-1..4: UNSUBSCRIBE ends exactly that filter")
def unsubscribe(v, t):
    p, s = pair(v, t + "/a")
    s.subscribe(t + "/b")
    codes = s.unsubscribe(t + "/a", t + "/+", t + "/none")
    assert v == 4 or codes == [0, 0x11, 0x11], codes
    p.publish(t + "/a", "a")
    p.publish(t + "/b", "end")
    assert s.messages(b"end") == []


@case(*both, says="section 4.8.2: shared subscriptions")
def shared(v, t):
    a, b, p = Raw(v).connect(), Raw(v).connect(), Raw(v).connect()
    codes = a.subscribe(f"$share/g/{t}") + b.subscribe(f"$share/g/{t}")
    assert max(codes) < 0x80, codes
    for c in (a, b):
        c.subscribe(t + "/end")
    for n in range(10):
        p.publish(t, str(n))
    p.publish(t + "/end", "end")
    got = a.messages(b"end") + b.messages(b"end")
    assert sorted(got) == [str(n).encode() for n in range(10)], got


@case(5, says="section 3.2.2.3.13: Shared Subscription Available is announced, and kept")
def shared_announced(v, t):
    c = Raw(v).connect()
    assert c.ack.get("SharedSubscriptionAvailable") != 0
    assert c.subscribe(f"$share/g/{t}") == [1]


# --- retained messages


@case(*both, says="MQTT-3.3.1-5..8: retained: kept with QoS, replaced, flagged, once for each match")
def retained(v, t):
    p = Raw(v).connect()
    p.publish(t + "/a", "old", retain=1)
    p.publish(t + "/a", "new", retain=1)
    p.publish(t + "/a", "not kept")
    p.publish(t + "/b", "zero", 0, retain=1)
    p.publish(t + "/fence/1")
    s = Raw(v).connect()
    s.subscribe(t + "/+")
    got = {m.topic[-1]: (m.payload, m.qos, m.retain) for m in (s.message(), s.message())}
    assert got == {"a": (b"new", 1, 1), "b": (b"zero", 0, 1)}, got


@case(*both, says="MQTT-3.3.1-6, -7: an empty retained message clears, is delivered, is not kept")
def retained_clear(v, t):
    p = Raw(v).connect()
    p.publish(t + "/a", "r", retain=1)
    p.publish(t + "/b", "stays", retain=1)
    live = Raw(v).connect()
    live.subscribe((t + "/a", 1 | (0x20 if v == 5 else 0)))
    if v == 4:
        assert live.message().retain == 1
    p.publish(t + "/a", "", retain=1)
    m = live.message()
    assert (m.payload, m.retain) == (b"", 0)
    s = Raw(v).connect()
    s.subscribe(t + "/+")
    assert s.message().topic == t + "/b"
    p.publish(t + "/c", "end")
    assert s.messages(b"end") == []


@case(*both, says="MQTT-3.3.1-9: for a subscription that was there, retain is 0")
def retained_live(v, t):
    p, s = pair(v, t)
    p.publish(t, "r", retain=1)
    assert s.message().retain == 0


@case(*both, says="MQTT-3.8.4-3: subscribing again sends retained messages again")
def retained_resubscribe(v, t):
    p, s = pair(v, t)
    p.publish(t, "r", retain=1)
    s.message()
    s.subscribe(t)
    assert s.message().retain == 1


@case(5, says="section 3.3.1.3: properties of a retained message are kept")
def retained_properties(v, t):
    p = Raw(v).connect()
    p.publish(t, "r", retain=1, ContentType="c", UserProperty=[("k", "1"), ("k", "2")])
    s = Raw(v).connect()
    s.subscribe(t)
    m = s.message()
    assert m.get("ContentType") == "c" and len(m.get("UserProperty")) == 2


# --- wills


def willing(v, t, **wp):
    s = Raw(v).connect()
    s.subscribe(t + "/will", t + "/end")
    return s, Raw(v).connect(cid=t, will=(t + "/will", "gone", 1, 0, wp), keep=0)


@case(*both, says="MQTT-3.1.2-8: the will is published when the connection is lost")
def will_lost(v, t):
    s, c = willing(v, t)
    c.drop()
    m = s.message()
    assert (m.payload, m.qos, m.retain) == (b"gone", 1, 0)


@case(*both, says="MQTT-3.14.4-3, 3.1.2-10: DISCONNECT deletes the will")
def will_deleted(v, t):
    s, c = willing(v, t)
    c.bye()
    Raw(v).connect().publish(t + "/end", "end")
    assert s.messages(b"end") == []


@case(5, says="section 3.14.2.1: DISCONNECT with 0x04 keeps the will")
def will_kept(v, t):
    s, c = willing(v, t)
    c.send("e00104")
    assert s.message().payload == b"gone"


@case(*both, says="section 3.1.2.5: a protocol error publishes the will")
def will_error(v, t):
    s, c = willing(v, t)
    c.send("c100")
    assert s.message().payload == b"gone"


@case(*both, says="section 3.1.2.5: keep alive passed publishes the will")
def will_keepalive(v, t):
    s = Raw(v).connect()
    s.subscribe(t)
    Raw(v).connect(will=(t, "late", 0, 0, {}), keep=1)
    assert s.message().payload == b"late"


@case(*both, says="section 3.1.4: takeover of a session that ends publishes the will")
def will_takeover(v, t):
    s, c = willing(v, t)
    Raw(v).connect(cid=t)
    assert s.message().payload == b"gone"


@case(*both, says="MQTT-3.1.2-15: a retained will is retained")
def will_retained(v, t):
    s = Raw(v).connect()
    s.subscribe(t)
    Raw(v).connect(will=(t, "gone", 1, 1, {})).drop()
    assert s.message().retain == 0
    q = Raw(v).connect()
    q.subscribe(t)
    m = q.message()
    assert (m.payload, m.retain) == (b"gone", 1)


@case(5, says="section 3.1.3.2: the properties of the will; a delay ends with the session")
def will_properties(v, t):
    s, c = willing(v, t, WillDelayInterval=0xFFFFFFFF, ContentType="c", ResponseTopic="r",
                   CorrelationData=b"d", MessageExpiryInterval=50, PayloadFormatIndicator=1,
                   UserProperty=[("a", "1"), ("a", "2")])
    c.drop()
    m = s.message()
    assert (m.get("ContentType"), m.get("ResponseTopic"), m.get("CorrelationData")) == ("c", "r", b"d")
    assert len(m.get("UserProperty")) == 2 and m.get("PayloadFormatIndicator") == 1
    assert 45 <= m.get("MessageExpiryInterval") <= 50


@case(*both, says="MQTT-3.1.2-9: a will is published with its QoS")
def will_qos2(v, t):
    s = Raw(v).connect()
    assert s.subscribe((t, 2)) == [2]
    w = Raw(v).connect(will=(t, "w", 2, 0, {}))
    w.drop()
    assert s.next(3).qos == 2


# --- sessions


@case(*both, says="MQTT-3.1.2-4, 4.4.0-1: a session outlives its connection")
def session_kept(v, t):
    kw = {"SessionExpiryInterval": 60} if v == 5 else {}
    s = Raw(v).connect(cid=t, clean=0, **kw)
    s.subscribe(t)
    s.bye()
    Raw(v).connect().publish(t, "while away")
    s = Raw(v).connect(cid=t, clean=0, **kw)
    assert s.ack.present == 1, "no session present"
    assert s.message().payload == b"while away"


@case(5, says="MQTT-3.2.2-2, 3.1.2-23: a session with expiry 0 ends with its connection")
def session_over(v, t):
    s = Raw(v).connect(cid=t)
    s.subscribe(t)
    s.bye()
    s = Raw(v).connect(cid=t, clean=0)
    assert s.ack.present == 0
    s.subscribe(t + "/end")
    p = Raw(v).connect()
    p.publish(t, "x")
    p.publish(t + "/end", "end")
    assert s.messages(b"end") == []


@case(5, says="section 4.12: enhanced authentication")
def enhanced_auth(v, t):
    c = Raw(v)
    c.send(c.hello(AuthenticationMethod="SCRAM-SHA-256", AuthenticationData=b"n,,n=u,r=abc"))
    assert c.next().kind == 15, "no AUTH"


@case(5, says="MQTT-4.12.0-1: an authentication method that is not there is refused with 0x8C")
def enhanced_auth_refused(v, t):
    c = Raw(v)
    c.send(c.hello(AuthenticationMethod="no-such", AuthenticationData=b"x"))
    c.ends(0x8C)


@case(*both, says="MQTT-3.14.4-1: no packet after DISCONNECT")
def disconnect_then_silence(v, t):
    c = Raw(v).connect()
    c.send("e000")
    try:
        while True:
            assert c.next().kind not in (4, 9)
    except Closed:
        pass

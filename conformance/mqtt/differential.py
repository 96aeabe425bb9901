"""Firth and Mosquitto answer the same scripts, made by chance: differential.py SCRIPTS SEED.

A script is steps of three clients of MQTT 3.1.1 and 5 beside a witness. After each step both have to have given every
client the same answers and the same messages. `ours` and `theirs` are the addresses of the two.
"""
import collections
import os
import random
import struct
import sys

os.environ.setdefault("mqtt", os.environ["ours"])
from wire import (  # noqa: E402
    CONNACK, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Closed, Raw,
)

TOPICS = ["d/a", "d/b", "d/a/x", "d/b/x", "d/b/x/y", "d/a/"]
FILTERS = ["d/#", "d/+", "d/+/x", "d/a", "d/a/x", "+/b/#", "#", "+/+", "d/b/+/y", "d/a/#", "d//#"]


def wants(filter):
    """The topics that a filter matches."""
    def match(f, t):
        if f[:1] == ["#"]:
            return True
        return f == t or bool(f and t) and f[0] in ("+", t[0]) and match(f[1:], t[1:])
    return {t for t in TOPICS if match(filter.split("/"), t.split("/"))}


class Script:
    """The steps, as (client, what, arguments). What has been done is known, so that each makes sense."""

    def __init__(self, seed, steps):
        self.dice, self.steps, self.payloads, self.ends = random.Random(seed), [], 0, {}
        self.versions = {c: self.dice.choice((4, 5)) for c in "abc"}
        self.qos = {c: self.dice.randrange(3) for c in "abc"}
        self.up, self.subs = set(), {c: set() for c in "abc"}
        while len(self.steps) < steps:
            self.step(self.dice.choice("abc"))

    def payload(self):
        self.payloads += 1
        return f"m{self.payloads}"

    def step(self, c):
        dice = self.dice
        if c not in self.up:
            self.up.add(c)
            will = None
            if dice.random() < 0.4:
                will = (dice.choice(TOPICS), self.payload(), dice.randrange(3), dice.randrange(2), {})
            clean = int(dice.random() < 0.3)
            if clean:
                self.subs[c] = set()
            self.ends[c] = clean and self.versions[c] == 4
            self.steps.append((c, "connect", clean, will))
            return
        what = dice.choices(("publish", "subscribe", "unsubscribe", "disconnect", "abort", "clear"), (9, 5, 2, 1, 1, 1))[0]
        if what == "publish":
            rest = (dice.choice(TOPICS), self.payload(), dice.randrange(3), int(dice.random() < 0.3))
        elif what == "clear":
            what, rest = "publish", (dice.choice(TOPICS), "", 1, 1)
        elif what == "subscribe":
            filter = self.filter(c)
            rest = (filter, self.qos[c] | self.options(c, filter))
            self.subs[c].add(filter)
        elif what == "unsubscribe":
            rest = (dice.choice(FILTERS),)
            self.subs[c].discard(rest[0])
        else:
            self.up.discard(c)
            if self.ends[c]:
                self.subs[c] = set()
            rest = ()
        self.steps.append((c, what, *rest))


    def options(self, c, filter):
        """No Local and Retain As Published are the same for a filter each time: Mosquitto keeps the first. With No Local
        nothing retained is asked for: Mosquitto sends that, too, if the client published it itself."""
        if self.versions[c] == 4:
            return 0
        kept = random.Random(f"{c} {filter}")
        handling = self.dice.choice((0, 0, 16, 32))
        return kept.choice((0, 8)) | (kept.choice((0, 4)) and 4 | 32 or handling)

    def filter(self, c):
        """One that overlaps with no other of the client: Mosquitto delivers by each of those."""
        while True:
            filter = self.dice.choice(FILTERS)
            if all(f == filter or not wants(f) & wants(filter) for f in self.subs[c]):
                return filter


class Side:
    """One of the two brokers with the clients of one script."""

    def __init__(self, address, script, tag):
        self.address, self.script, self.tag = address, script, tag
        self.conns, self.wills, self.synced = {}, {}, set()
        self.witness = self.raw(5).connect(f"w{tag}", clean=1)
        self.witness.subscribe(("d/#", 1))

    def raw(self, v):
        return Raw(v, address=self.address)

    def close(self):
        for c in [*self.conns.values(), self.witness]:
            c.sock.close()
        for c in "abc":  # leave nothing to the next script
            self.raw(4).connect(c + self.tag, clean=1).sock.close()
        clean = self.raw(4).connect(f"w{self.tag}", clean=1)
        for topic in TOPICS:
            clean.publish(topic, b"", 1, retain=1)
        clean.sock.close()

    def do(self, step):
        """Does a step and gives what was answered."""
        c, what, *rest = step
        return getattr(self, what)(c, *rest)

    def connect(self, c, clean, will):
        v = self.script.versions[c]
        r = self.conns[c] = self.raw(v)
        self.wills[c], r.got = will, []
        r.send(r.hello(c + self.tag, clean, will=will, **({"SessionExpiryInterval": 600} if v == 5 else {})))
        ack = self.await_(r, CONNACK)
        if clean or not ack.present:
            self.synced.discard(c)
        if c not in self.synced:  # the subscription that tells when a step is over
            r.send(r.subscribe_bytes(("d/sync", self.script.qos[c])))
            self.await_(r, SUBACK)
            self.synced.add(c)
        return ack.code, ack.present

    def publish(self, c, topic, payload, qos, retain):
        r = self.conns[c]
        r.send(r.publish_bytes(topic, payload, qos, retain=retain))
        if qos == 1:
            return self.await_(r, PUBACK).code in (0, 0x10)
        if qos == 2:
            ack = self.await_(r, PUBREC)
            r.send(struct.pack("!BBH", 0x62, 2, ack.id))
            return ack.code in (0, 0x10) and self.await_(r, PUBCOMP).code
        r.send("c000")  # its answer tells that the message was taken
        self.await_(r, PINGRESP)
        return None

    def subscribe(self, c, filter, options):
        r = self.conns[c]
        r.send(r.subscribe_bytes((filter, options)))
        return self.await_(r, SUBACK).codes

    def unsubscribe(self, c, filter):
        r = self.conns[c]
        r.send(b"\xa2" + bytes([len(filter) + (5 if r.v == 5 else 4)]) + struct.pack("!H", next(r.ids))
               + (b"\0" if r.v == 5 else b"") + struct.pack("!H", len(filter)) + filter.encode())
        return self.await_(r, UNSUBACK).codes if r.v == 5 else self.await_(r, UNSUBACK).id > 0

    def disconnect(self, c):
        r = self.conns.pop(c)
        r.send("e000")
        self.until_closed(r)

    def abort(self, c):
        r = self.conns.pop(c)
        r.sock.close()
        if will := self.wills[c]:
            while self.take(self.witness)[1] != will[1].encode():
                pass

    def until_closed(self, r):
        try:
            while True:
                self.handle(r, r.next())
        except Closed:
            r.sock.close()

    def await_(self, r, kind):
        while (p := r.next()).kind != kind:
            self.handle(r, p)
        return p

    def handle(self, r, p):
        """Takes a packet that is not the one that is waited for."""
        if p.kind == PUBLISH:
            if p.qos:
                r.send(struct.pack("!BBH", 0x40 if p.qos == 1 else 0x50, 2, p.id))
            r.got.append((p.topic, bytes(p.payload), p.qos, p.retain))
        elif p.kind == PUBREL:
            r.send(struct.pack("!BBH", 0x70, 2, p.id))

    def take(self, r):
        """The next message."""
        r.got = getattr(r, "got", [])
        while not r.got:
            self.handle(r, r.next())
        return r.got.pop(0)

    def settle(self, number, due=None):
        """What each client was given in this step: everything up to the message that ends it, and more as long as that
        is less than due says, for retained messages come beside the others."""
        end = f"sync {number}".encode()
        self.witness.send(self.witness.publish_bytes("d/sync", end, 1))
        all = {}
        for c, r in self.conns.items():
            got, ended = [], False
            while not ended or due and len(got) < len(due[c]):
                try:
                    topic, payload, qos, retain = self.take(r)
                except AssertionError as silence:
                    raise AssertionError(f"client {c} has {got} of {due and due[c]}: {silence}") from silence
                if topic != "d/sync":
                    got.append((topic, payload.decode(), qos, retain))
                ended = ended or payload == end
            got += [m[:1] + (m[1].decode(),) + m[2:] for m in r.got if m[0] != "d/sync"]
            r.got = []
            all[c] = sorted(got)
        while self.take(self.witness)[1] != end:
            pass
        return all


def run(seed, steps):
    """Runs a script on both; gives the number of messages, or fails with the script."""
    script = Script(seed, steps)
    firth, mosquitto = (Side(os.environ[name], script, f"{seed}") for name in ("ours", "theirs"))
    messages, done = 0, []
    try:
        for number, step in enumerate(script.steps):
            done.append(step)
            theirs, ours = mosquitto.do(step), firth.do(step)
            assert ours == theirs, f"answer {ours}, not {theirs}"
            theirs = mosquitto.settle(number)
            ours = firth.settle(number, theirs)
            for c in theirs:
                a, b = collections.Counter(ours[c]), collections.Counter(theirs[c])
                assert a == b, f"client {c} has {dict(a - b)} and lacks {dict(b - a)}"
                messages += len(theirs[c])
    except (AssertionError, Closed) as wrong:
        print(f"seed {seed}, versions {script.versions}, step {len(done)} of\n  " + "\n  ".join(map(str, done)))
        print(f"{type(wrong).__name__}: {wrong}")
        raise SystemExit(1)
    finally:
        firth.close()
        mosquitto.close()
    return messages


def main():
    scripts, seed = int(sys.argv[1]), int(sys.argv[2])
    messages = sum(run(seed + n, 60) for n in range(scripts))
    print(f"{scripts} scripts from seed {seed} on, {messages} messages: the same")


if __name__ == "__main__":
    main()

"""Home Assistant's discovery with paho-mqtt, the client that Home Assistant has: 49 devices announce 1,104 entities in
retained messages, and whoever comes later gets them all.

discovery.py announce: the devices publish, and take four entities back. discovery.py find ROUND: what Home Assistant does
when it starts, behind a restart of the server.
"""

import json
import os
import queue
import sys

import paho.mqtt.client as mqtt

MQTT_HOST, MQTT_PORT = os.environ["mqtt"].rsplit(":", 1)
LIMIT = 180  # seconds for anything to happen
DEVICES = 49
ENTITIES = 1104
GONE = 4  # of them, taken back


def ok(what):
    print(f"  ok: {what}", flush=True)


def configs():
    """The topics and payloads, as Zigbee2MQTT and ESPHome make them."""
    for n in range(ENTITIES):
        device = n % DEVICES
        kind = ("sensor", "binary_sensor", "switch", "light", "climate")[n % 5]
        topic = f"homeassistant/{kind}/0x{device:016x}/{kind}_{n}/config"
        if n % 3 == 0:
            topic = f"homeassistant/{kind}/esp{device}_{n}/config"
        yield topic, json.dumps(
            {
                "name": f"Entität {n}",
                "unique_id": f"0x{device:016x}_{kind}_{n}",
                "state_topic": f"zigbee2mqtt/device-{device}",
                "availability": [{"topic": "zigbee2mqtt/bridge/state"}, {"topic": f"zigbee2mqtt/device-{device}/state"}],
                "value_template": "{{ value_json.value_%d }}" % n,
                "device": {"identifiers": [f"zigbee2mqtt_0x{device:016x}"], "name": f"device-{device}", "model": "x" * 200},
            },
            ensure_ascii=False,
        ).encode()


def connect(name, protocol, filters=(), will=None):
    """A client that is connected and subscribed; it puts what comes into its queue."""
    got, acks = queue.Queue(), queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol)
    client.on_message = lambda _c, _u, m: got.put(m)
    client.on_connect = lambda _c, _u, _f, reason, _p: acks.put([reason])
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: acks.put(reasons)
    if will:
        client.will_set(will, "offline", 1, retain=True)
    client.connect(MQTT_HOST, int(MQTT_PORT))
    client.loop_start()
    assert not acks.get(timeout=LIMIT)[0].is_failure
    if filters:
        client.subscribe([(f, 0) for f in filters])
        reasons = acks.get(timeout=LIMIT)
        assert [r.value for r in reasons] == [0] * len(filters), reasons
    return client, got


def close(client):
    client.disconnect()
    client.loop_stop()


def announce():
    listener, heard = connect("listener", mqtt.MQTTv311, ["homeassistant/#"])
    everything = list(configs())
    for device in range(DEVICES):
        client, _ = connect(f"device-{device}", (mqtt.MQTTv311, mqtt.MQTTv5)[device % 2], will=f"zigbee2mqtt/device-{device}/state")
        sent = [client.publish(f"zigbee2mqtt/device-{device}/state", "online", 1, retain=True)]
        sent += [client.publish(t, p, device % 2, retain=True) for t, p in everything[device::DEVICES]]
        for one in sent:
            one.wait_for_publish(LIMIT)
        close(client)
    gone, _ = connect("gone", mqtt.MQTTv311)
    for topic, _ in everything[:GONE]:
        gone.publish(topic, b"", 1, retain=True).wait_for_publish(LIMIT)
    live = [heard.get(timeout=LIMIT) for _ in range(ENTITIES + GONE)]
    assert not any(m.retain for m in live), "RETAIN is set in a live message"
    close(gone)
    close(listener)
    ok(f"discovery: {DEVICES} devices announce {ENTITIES} entities, {GONE} are taken back")


def found(got, want):
    """Every retained message that is wanted comes, once, and no other. A tuple is of payloads that may be."""
    came = {}
    for _ in want:
        m = got.get(timeout=LIMIT)
        assert m.retain and m.topic not in came, (m.topic, m.retain, len(came))
        came[m.topic] = m.payload
    wrong = [(t, came.get(t), p) for t, p in want.items() if came.get(t) not in (p if isinstance(p, tuple) else (p,))]
    assert not wrong, (len(came), wrong[:3])


def find(turn):
    want = dict(list(configs())[GONE:])
    both = ["homeassistant/+/+/config", "homeassistant/+/+/+/config"]
    for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
        assist, got = connect("home-assistant", protocol, both, will="homeassistant/status")
        everyone, all_of_it = connect("everyone", protocol, ["homeassistant/#"])
        found(got, want)
        if turn > 1 or protocol == mqtt.MQTTv5:  # the will, where the server was killed before it knew of the DISCONNECT
            found(all_of_it, {**want, "homeassistant/status": (b"online", b"offline")})
        else:
            found(all_of_it, want)
        device, births = connect("device", mqtt.MQTTv311, ["homeassistant/status"])
        assist.publish("homeassistant/status", "online", 1, retain=True).wait_for_publish(LIMIT)
        while births.get(timeout=LIMIT).retain:  # the one before is retained
            pass
        topic = list(want)[turn]
        device.publish(topic, want[topic], 1, retain=True).wait_for_publish(LIMIT)
        live = got.get(timeout=LIMIT)  # the next one: nothing came twice
        assert (live.topic, live.payload, live.retain) == (topic, want[topic], False), live.topic
        for client in (device, everyone, assist):
            close(client)
    ok(f"discovery: all {len(want)} retained entities are found after restart {turn}, once each, MQTT 3.1.1 and 5.0")


if sys.argv[1] == "announce":
    announce()
else:
    find(int(sys.argv[2]))

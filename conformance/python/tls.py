"""paho-mqtt over TLS: tls.py PORT tcp|websockets CA [CERTIFICATE KEY] publishes ten messages and receives them."""

import sys
import threading

import paho.mqtt.client as mqtt

port, transport, ca, *own = sys.argv[1:]
received = []
done = threading.Event()
ready = threading.Event()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport=transport, protocol=mqtt.MQTTv5)
client.tls_set(ca, *own)
client.ws_set_options(path="/mqtt")


def came(_client, _userdata, message):
    received.append(message.payload)
    if len(received) == 10:
        done.set()


client.on_message = came
client.on_connect = lambda c, *_: c.subscribe("tls/paho/" + transport, 1)
client.on_subscribe = lambda *_: ready.set()
client.connect("localhost", int(port))
client.loop_start()
assert ready.wait(180), "no SUBACK"
for n in range(10):
    client.publish("tls/paho/" + transport, b"%d" % n, 1)
assert done.wait(180), "%d of 10 came" % len(received)
assert received == [b"%d" % n for n in range(10)], received
client.disconnect()
client.loop_stop()

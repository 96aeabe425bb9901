"""confluent-kafka by OAUTHBEARER: oauth.py PORT PROTOCOL CA TOKEN-FILE TOPIC produces ten records and reads them back."""

import sys
import time

from confluent_kafka import Consumer, Producer

port, protocol, ca, file, topic = sys.argv[1:]
with open(file, encoding="ascii") as f:
    token = f.read().strip()
refreshed = []


def fresh(_config):
    refreshed.append(time.time())
    return token, time.time() + 300


common = {
    "bootstrap.servers": "localhost:" + port,
    "security.protocol": protocol,
    "ssl.ca.location": ca,
    "sasl.mechanism": "OAUTHBEARER",
    "oauth_cb": fresh,
}
producer = Producer(common)
for n in range(10):
    producer.produce(topic, b"%d" % n)
assert producer.flush(180) == 0, "not all were acknowledged"
consumer = Consumer(common | {"group.id": "oauth-" + topic, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
received = []
until = time.time() + 180
while len(received) < 10 and time.time() < until:
    message = consumer.poll(1)
    if message and not message.error():
        received.append(message.value())
consumer.close()
assert received == [b"%d" % n for n in range(10)], received
assert refreshed, "no token was asked for"

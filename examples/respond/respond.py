"""Answers the requests of devices as a Kafka client: consumes the topic of the log that has them, and produces each
response with the correlation data of its request to where the request says.

    pip install confluent-kafka
    python3 examples/respond/respond.py plant
    firth request -t plant/7/valve -m open
"""

import sys

from confluent_kafka import Consumer, Producer

BROKERS = "127.0.0.1:9092"


def respond(request):
    """The topic of the log, key, value and headers of the response; None: the record is no request."""
    headers = dict(request.headers() or [])
    to = headers.get("response-topic")
    if to is None:
        return None
    log_topic = to.decode().split("/")[0]  # a mapping of your own may say another one
    answer = [(k, headers[k]) for k in ["correlation-data"] if k in headers]
    return log_topic, to, b"done: " + (request.value() or b""), answer


def main(topic, brokers=BROKERS):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "respond-py", "auto.offset.reset": "latest"})
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0, "acks": "all"})
    consumer.subscribe([topic])
    try:
        while True:
            request = consumer.poll(1.0)
            if request is None:
                continue
            if request.error():
                print(request.error(), file=sys.stderr)
                continue
            response = respond(request)
            if response:
                log_topic, key, value, headers = response
                producer.produce(log_topic, key=key, value=value, headers=headers)
                producer.flush()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

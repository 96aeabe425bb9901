"""What kafka-python's tests import and its package on PyPI lacks: a server that somebody else has started."""
from kafka.cluster import ClusterMetadata


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port


class SpawnedService:
    def __init__(self, *_):
        raise NotImplementedError("the tests start no server of their own")


def keep_later_requests(cluster):
    """Version 3.0.12 takes an answer for the answer to every request for metadata, also to those that were made
    after it was sent: a consumer that subscribes meanwhile finds no topic until metadata.max.age.ms. A server need
    only be quick for that. Here the later request is kept."""
    ask, send, take = cluster.request_update, cluster.metadata_request, cluster.update_metadata

    def request_update(self):
        self.asked = getattr(self, "asked", 0) + 1
        return ask(self)

    def metadata_request(self):
        self.sent = getattr(self, "asked", 0)
        return send(self)

    def update_metadata(self, metadata):
        take(self, metadata)
        if getattr(self, "asked", 0) != getattr(self, "sent", 0):
            ask(self)

    cluster.request_update, cluster.metadata_request, cluster.update_metadata = \
        request_update, metadata_request, update_metadata


keep_later_requests(ClusterMetadata)

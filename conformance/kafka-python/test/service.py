"""What kafka-python's tests import and its package on PyPI lacks: a server that somebody else has started."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port


class SpawnedService:
    def __init__(self, *_):
        raise NotImplementedError("the tests start no server of their own")

"""The health service of a daemon, asked without generated code."""

try:
    import grpc
except ImportError:
    grpc = None

SERVING, NOT_SERVING = 1, 2


class Health:
    """Use as a context manager. `status("mount/<id>")` is SERVING or NOT_SERVING."""

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._check = self._channel.unary_unary("/grpc.health.v1.Health/Check")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def status(self, service):
        name = service.encode()
        answer = self._check(bytes([1 << 3 | 2, len(name)]) + name if name else b"", timeout=30)
        return answer[1] if answer else 0

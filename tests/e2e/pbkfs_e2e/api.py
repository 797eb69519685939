"""The API as a client that the build did not generate: stubs of python3-grpcio, made from proto/ at run time."""

import atexit
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import google
    import grpc
except ImportError:
    grpc = None

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTO = ROOT / "proto"
# A directory with stubs that another process of the test has made.
STUBS_VARIABLE = "PBKFS_E2E_STUBS"
CALL_SECONDS = 60

_stubs = None


def need(test):
    """Skips the test where the parts of such a client are missing."""
    test.need(grpc, "python3-grpcio or python3-protobuf is not installed")
    for program in ("protoc", "grpc_python_plugin"):
        test.need(shutil.which(program), f"{program} is not installed; install protobuf-compiler-grpc")


def stubs_directory():
    """Where the generated modules are; makes them once."""
    global _stubs
    if _stubs is None:
        _stubs = os.environ.get(STUBS_VARIABLE)
    if _stubs is None:
        _stubs = tempfile.mkdtemp(prefix="pbkfs-stubs-")
        atexit.register(shutil.rmtree, _stubs, ignore_errors=True)
        _generate(_stubs)
    return _stubs


def _generate(directory):
    files = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    reflection = pathlib.Path(__file__).with_name("reflection.proto")
    subprocess.run(["protoc", f"--proto_path={PROTO}", f"--proto_path={reflection.parent}",
                    f"--plugin=protoc-gen-grpc={shutil.which('grpc_python_plugin')}", f"--python_out={directory}",
                    f"--grpc_out={directory}", *files, reflection.name], check=True)


def module(name):
    """The generated module `name`, as "pbkfs.v1.mount_pb2"."""
    directory = stubs_directory()
    if directory not in sys.path:
        sys.path.append(directory)
        # The packages google and grpc are there already, without the parts that proto/ has.
        google.__path__.append(f"{directory}/google")
        grpc.__path__.append(f"{directory}/grpc")
    return importlib.import_module(name)


class Messages:
    """The messages of the API by name: MESSAGES.MountRequest(…)."""

    _modules = ("catalog", "daemon", "diff_service", "mount")

    def __getattr__(self, name):
        for part in self._modules:
            found = getattr(module(f"pbkfs.v1.{part}_pb2"), name, None)
            if found is not None:
                return found
        raise AttributeError(f"proto/pbkfs/v1 has no {name}")


MESSAGES = Messages()


def declared_services():
    """{full name: service descriptor} of what proto/pbkfs/v1 declares."""
    services = {}
    for path in sorted((PROTO / "pbkfs" / "v1").glob("*.proto")):
        descriptor = module(f"pbkfs.v1.{path.stem}_pb2").DESCRIPTOR
        services.update({service.full_name: service for service in descriptor.services_by_name.values()})
    return services


class Api:
    """The services of one daemon. Use as a context manager."""

    def __init__(self, address):
        # A pool of subchannels that is shared would keep the back-off of a daemon that was there before.
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.mount = module("pbkfs.v1.mount_pb2_grpc").MountServiceStub(self.channel)
        self.catalog = module("pbkfs.v1.catalog_pb2_grpc").CatalogServiceStub(self.channel)
        self.diff = module("pbkfs.v1.diff_service_pb2_grpc").DiffServiceStub(self.channel)
        self.daemon = module("pbkfs.v1.daemon_pb2_grpc").DaemonServiceStub(self.channel)
        self.health = module("grpc.health.v1.health_pb2_grpc").HealthStub(self.channel)
        self.reflection = module("reflection_pb2_grpc").ServerReflectionStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def health_of(self, service):
        """The status's name, or that of the code with which the call failed."""
        health = module("grpc.health.v1.health_pb2")
        try:
            answer = self.health.Check(health.HealthCheckRequest(service=service), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return error.code().name
        return health.HealthCheckResponse.ServingStatus.Name(answer.status)

    def watch_health(self, service, timeout=CALL_SECONDS):
        """The call, which yields the names of statuses as they change."""
        return self.health.Watch(module("grpc.health.v1.health_pb2").HealthCheckRequest(service=service),
                                 timeout=timeout)

    def reflect(self, **question):
        """The answer to one question of server reflection."""
        request = module("reflection_pb2").ServerReflectionRequest(**question)
        return next(self.reflection.ServerReflectionInfo(iter([request]), timeout=CALL_SECONDS))


class Refusal:
    """What a failed call tells: code, message, and the details of grpc-status-details-bin by their type's name."""

    def __init__(self, error):
        self.code = error.code().name
        self.message = error.details()
        self.status = None
        self.details = {}
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self.status = module("google.rpc.status_pb2").Status.FromString(value)
        for packed in self.status.details if self.status else ():
            name = packed.TypeName().rpartition(".")[2]
            detail = getattr(module("google.rpc.error_details_pb2"), name)()
            packed.Unpack(detail)
            self.details[name] = detail

    @property
    def reason(self):
        info = self.details.get("ErrorInfo")
        return info.reason if info else ""

    def __str__(self):
        return f"{self.code} {self.reason}: {self.message}"


def refusal_of(call, request, timeout=CALL_SECONDS):
    """The refusal of a call, or None where it succeeds."""
    try:
        call(request, timeout=timeout)
    except grpc.RpcError as error:
        return Refusal(error)
    return None

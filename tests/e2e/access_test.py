"""Who may call: users of the socket, certificates over TCP, what belongs to whom, and clients that behave badly."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading

from pbkfs_e2e import api, case, mounts
from pbkfs_e2e.certificates import Authority
from pbkfs_e2e.daemon import Daemon, build_dir, free_port, mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog
from pbkfs_e2e.workers import kill_worker, wait_for_worker

try:
    import grpc
except ImportError:
    grpc = None

FAILED, USAGE, UNREACHABLE = 1, 2, 6
CALLER, OTHER, MEMBER_GROUP = 64001, 64002, 64003
MAX_CONNECTIONS = 40
MAX_CALLS = 8

# Run by another user: connects many times, says nothing, or a part of something, and stays until its stdin is closed.
CROWD = """
import socket, sys
path, count, words = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
crowd = []
for i in range(count):
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    try:
        one.sendall(words[:i % (len(words) + 1)])
    except OSError:
        pass
    crowd.append(one)
print("there", flush=True)
sys.stdin.read()
"""

# Run by another user: as many streams as there may be, of which nothing is read, and one more.
STREAMS = """
import grpc, sys
channel = grpc.insecure_channel(sys.argv[1])
watch = channel.unary_stream("/pbkfs.v1.MountService/WatchStats")
streams = [watch(b"", timeout=240) for _ in range(int(sys.argv[2]))]
for stream in streams:
    stream.initial_metadata()
try:
    next(watch(b"", timeout=240))
    print("OK", flush=True)
except grpc.RpcError as error:
    print(error.code().name, b"CALL_LIMIT" in dict(error.trailing_metadata())["grpc-status-details-bin"], flush=True)
sys.stdin.read()
"""

# Run by another user: watches until the stream ends.
WATCHER = """
import grpc, sys
watch = grpc.insecure_channel(sys.argv[1]).unary_stream("/pbkfs.v1.MountService/WatchStats")
stream = watch(b"", timeout=240)
next(stream)
print("there", flush=True)
try:
    for _ in stream:
        pass
except grpc.RpcError as error:
    print(error.code().name, b"CALLER_NOT_ALLOWED" in dict(error.trailing_metadata())["grpc-status-details-bin"], flush=True)
sys.stdin.read()
"""

# Run by another user: headers of a megabyte, and more calls on one connection than may run.
GREEDY = """
import collections, grpc, sys
def new_call():
    channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.use_local_subchannel_pool", 1)])
    return channel.unary_unary("/pbkfs.v1.MountService/ListMounts")
codes = collections.Counter()
print("begun", flush=True)
call = new_call()
for future in [call.future(b"", timeout=120, metadata=(("x-long", "x" * (1 << 20)),)) for _ in range(20)]:
    codes["long " + future.code().name] += 1
call = new_call()  # The server may be about to end the connection of those.
for future in [call.future(b"", timeout=120) for _ in range(1000)]:
    codes[future.code().name] += 1
fair = {"long RESOURCE_EXHAUSTED", "long UNAVAILABLE", "OK", "RESOURCE_EXHAUSTED"}
print("fair" if codes.keys() <= fair and codes["OK"] else codes, flush=True)
sys.stdin.read()
"""

# The preface of HTTP/2, SETTINGS, and HEADERS that promise more than what comes.
HALF_A_CALL = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5) + b"\x00\x00\x40\x01\x04\x00\x00\x00\x01\x83"


class AccessCase(case.E2ECase):
    """A daemon with a configuration file; `self.open` is a socket that everybody can open."""

    tls = False

    def start_daemon(self):
        for program in ("service/pbkfsd", "client/pbkfs"):
            self.need((build_dir() / program).exists(), f"{program} is missing; build it, or set PBKFS_BUILD_DIR")
        # Others can't enter the build directory everywhere.
        self.client = self.work / "pbkfs"
        shutil.copy(build_dir() / "client" / "pbkfs", self.client)
        self.open = f"unix:{self.work}/open.sock"
        self.group = f"unix:{self.work}/group.sock"
        self.config = self.work / "pbkfs.conf"
        self.port = free_port() if self.tls else None
        self.write_config()
        self.daemon = Daemon(self.work, allow_roots=[self.work])
        self.addCleanup(self._stop_daemon)
        self.daemon.start("--config", str(self.config))

    def write_config(self):
        lines = [f'listeners {{ address: "{self.open}" mode: {0o666} }}',
                 f'listeners {{ address: "{self.group}" group: "{MEMBER_GROUP}" }}',
                 f"callers {{ uid: {CALLER} }}", f"callers {{ gid: {MEMBER_GROUP} }}",
                 f'callers {{ certificate: "app" owner {{ uid: {CALLER} gid: {CALLER} }} }}',
                 'callers { certificate: "boss" administrator: true }',
                 f"limits {{ max_connections: {MAX_CONNECTIONS} max_concurrent_calls: {MAX_CALLS} }}"]
        if self.tls:
            certificate, key = self.server
            lines.append(f'listeners {{ address: "127.0.0.1:{self.port}" tls {{ certificate_file: "{certificate}" '
                         f'key_file: "{key}" client_ca_file: "{self.authority.ca}" }} }}')
        self.config.write_text("\n".join(lines) + "\n")

    def cli_as(self, uid, *arguments, address=None, gid=None, groups=None):
        membership = ["--clear-groups"] if groups is None else ["--groups", groups]
        command = ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}", *membership, str(self.client),
                   "--address", address or self.open, *map(str, arguments)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    def call_as(self, uid, *arguments):
        done = self.cli_as(uid, "-o", "json", *arguments)
        self.assertEqual(0, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def assert_not_allowed(self, done, *mentions):
        self.assertEqual(FAILED, done.returncode, done.stderr)
        for text in ("CALLER_NOT_ALLOWED", *mentions):
            self.assertIn(text, done.stderr)


class LocalCallers(AccessCase):
    def test_the_kernel_says_who_calls(self):
        for path, mode, group in ((self.open, 0o666, 0), (self.group, 0o660, MEMBER_GROUP),
                                  (self.daemon.address, 0o660, 0)):
            found = os.stat(path.removeprefix("unix:"))
            self.assertEqual((mode, group), (found.st_mode & 0o777, found.st_gid), path)
        self.assertEqual(0, self.cli_as(CALLER, "list").returncode)
        self.assert_not_allowed(self.cli_as(OTHER, "list"), f"callers {{ uid: {OTHER} }}")
        self.assertEqual(UNREACHABLE, self.cli_as(CALLER, "list", address=self.group).returncode)
        for groups in (str(MEMBER_GROUP), f"9,{MEMBER_GROUP}"):
            done = self.cli_as(OTHER, "list", address=self.group, groups=groups)
            self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(0, self.cli_as(0, "list").returncode)
        # An unknown method, reflection and health are refused too, whatever the call says of itself.
        code = """
import grpc, sys
channel = grpc.insecure_channel(sys.argv[1])
for method in ("/pbkfs.v1.MountService/ListMounts", "/grpc.health.v1.Health/Check", "/no.Such/Method",
               "/pbkfs.v1.DaemonService/DebugDump"):
    try:
        channel.unary_unary(method)(b"", timeout=60, metadata=(("uid", "0"), ("x-forwarded-for", "fd:0")))
        print("OK")
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        print(error.code().name, b"CALLER_NOT_ALLOWED" in details)
"""
        self.need(grpc is not None, "python3-grpcio is missing")
        self.assertEqual(["PERMISSION_DENIED True"] * 4, self._python_as(OTHER, code))
        self.assertEqual(["OK", "OK", "UNIMPLEMENTED False", "PERMISSION_DENIED True"], self._python_as(CALLER, code))
        self.assertEqual(["OK", "OK", "UNIMPLEMENTED False", "OK"], self._python_as(0, code))

    def _python_as(self, uid, code):
        done = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c",
                               code, self.open], capture_output=True, text=True, timeout=120, cwd="/",
                              env={**os.environ, "GRPC_VERBOSITY": "NONE"})
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.splitlines()

    def test_mounts_and_diffs_belong_to_somebody(self):
        catalog = SyntheticCatalog(self, backups=1)
        own, foreign = self.work / "own", self.work / "foreign"
        for path, uid in ((own, CALLER), (foreign, OTHER)):
            path.mkdir()
            os.chown(path, uid, uid)
        theirs = self.daemon.mount(catalog.store, catalog.instance, None, self.work / "r", diff=self.work / "rd")

        def arguments(*extra, target=own / "t", diff=None, owner=f"{CALLER}:{CALLER}"):
            return mount_arguments(catalog.store, catalog.instance, None, target, diff=diff, owner=owner, extra=extra)
        refused = [("owner is not set", arguments(owner=None)),
                   ("owner is uid 0", arguments(owner="0:0")),
                   ("owner is", arguments(owner=f"{CALLER}:0")),
                   ("belongs to uid", arguments(target=foreign)),
                   ("belongs to uid", arguments(target=foreign / "t")),
                   ("belongs to uid", arguments(diff=foreign / "d")),
                   ("belongs to uid", mount_arguments(catalog.store, catalog.instance, None, self.work / "r",
                                                      diff=self.work / "rd"))]
        brought = own / "brought"
        brought.mkdir()
        os.chown(brought, CALLER, CALLER)
        refused.append(("only the daemon makes diffs", arguments(diff=brought)))
        for text, words in refused:
            for extra in ([], ["--dry-run"]):
                with self.subTest(text=text, words=words, extra=extra):
                    self.assert_not_allowed(self.cli_as(CALLER, *words, *extra), text)
        self.assertEqual([str(self.work / "r")], mounts.below(self.work))
        self.assertFalse((own / "t").exists())

        self.assertEqual("t", self.call_as(CALLER, *arguments())["mountId"])
        self.assertEqual((CALLER, CALLER), (os.stat(own / "t").st_uid, os.stat(own / "t").st_gid))
        self.assertEqual(["t"], [mount["mountId"] for mount in self.call_as(CALLER, "list")["mounts"]])
        self.assertEqual(["t"], [mount["mountId"] for mount in self.call_as(CALLER, "stats")["mounts"]])
        self.assertEqual(["t"], [diff["mountId"] for diff in self.call_as(CALLER, "diff", "list")["diffs"]])
        for words in (["stats", "r"], ["stats", "r", "--watch"], ["unmount", "r"], ["unmount", theirs["target"], "--force"],
                      ["diff", "check", self.work / "rd"], ["diff", "delete", "r"]):
            with self.subTest(words=words):
                self.assert_not_allowed(self.cli_as(CALLER, *words), "belongs to uid 0")
        self.assertEqual(2, len(self.daemon.call("list")["mounts"]))
        self.call_as(CALLER, "unmount", "t", "--delete-diff")
        self.daemon.unmount("r")
        self.assert_not_allowed(self.cli_as(CALLER, "diff", "delete", self.work / "rd"), "belongs to uid 0")
        self.assertTrue((self.work / "rd").exists())

        audit = [line for line in self.daemon.log_path.read_text().splitlines() if "MountService.Mount" in line]
        self.assertTrue(any(f"uid={CALLER}" in line and "pid=" in line and "result=OK" in line and "seconds=" in line
                            for line in audit), audit[-3:])

    def test_what_a_caller_may_take(self):
        api.need(self)
        self.config.write_text(self.config.read_text() + "defaults { diff_limit_bytes: 1000000 }\n")
        self.daemon.call("daemon", "reload")
        catalog = SyntheticCatalog(self, backups=1)
        own = self.work / "own"
        own.mkdir()
        os.chown(own, CALLER, CALLER)

        def plan(uid, **fields):
            """What a plan with `fields` gets: "OK", or why not."""
            request = api.MESSAGES.MountRequest(store=str(catalog.store), instance=catalog.instance, validate_only=True,
                                                target=str(own / "t"), owner={"uid": CALLER, "gid": CALLER}, **fields)
            return self._python_as(uid, f"""
import grpc, sys
try:
    grpc.insecure_channel(sys.argv[1]).unary_unary("/pbkfs.v1.MountService/Mount")(
        bytes.fromhex("{request.SerializeToString().hex()}"), timeout=60)
    print("OK")
except grpc.RpcError as error:
    print(error.code().name, error.details())
""")[0]
        for fields in ({}, {"threads": 32}, {"diff_limit_bytes": 1000000}):
            self.assertEqual("OK", plan(CALLER, **fields), fields)
        for fields, text in (({"threads": 33}, "threads: more than 32 is for administrators"),
                             ({"threads": 256}, "threads: more than 32"),
                             ({"diff_limit_bytes": 1000001}, "diff_limit_bytes: more than 1000000 is")):
            answer = plan(CALLER, **fields)
            self.assertTrue(answer.startswith("PERMISSION_DENIED"), answer)
            self.assertIn(text, answer)
            self.assertEqual("OK", plan(0, **fields))
        self.assertTrue(plan(0, threads=257).startswith("INVALID_ARGUMENT"))

    def test_links_that_change_during_calls(self):
        catalog = SyntheticCatalog(self, backups=1)
        own, outside = self.work / "own", pathlib.Path(str(self.work) + "-outside")
        outside.mkdir()
        self.addCleanup(shutil.rmtree, outside, ignore_errors=True)
        for name in ("a", "a/sub"):
            (own / name).mkdir(parents=True)
        (own / "b").symlink_to(outside)
        for path in (own, own / "a", own / "a" / "sub"):
            os.chown(path, CALLER, CALLER)
        (outside / "sub").mkdir()
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                for pair in (("a", "c"), ("b", "a"), ("c", "b")):
                    os.rename(own / pair[0], own / pair[1])
        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            for attempt in range(12):
                done = self.cli_as(CALLER, *mount_arguments(catalog.store, catalog.instance, None, own / "a" / "t",
                                                            diff=own / "a" / "sub" / f"d{attempt}",
                                                            owner=f"{CALLER}:{CALLER}", extra=["--id", "swapped"]))
                if done.returncode == 0:
                    stop.set()
                    swapper.join()
                    break
        finally:
            stop.set()
            swapper.join()
        self.assertEqual([], mounts.below(outside))
        self.assertEqual([outside / "sub"], list(outside.rglob("*")), "something was made where a link led")
        self.daemon.cli("unmount", "swapped", "--force")


class RemoteCallers(AccessCase):
    tls = True

    def start_daemon(self):
        self.need(shutil.which("openssl") is not None, "the program openssl is missing")
        self.need(grpc is not None, "python3-grpcio is missing")
        self.authority = Authority(self.work / "ca", "authority")
        self.foreign = Authority(self.work / "foreign-ca", "foreign")
        self.server = self.authority.issue("server")
        super().start_daemon()
        self.address = f"localhost:{self.port}"

    def tls_cli(self, certificate, *arguments, ca=None):
        return self.daemon.cli("--tls-ca", ca or self.authority.ca, "--tls-cert", certificate[0], "--tls-key",
                               certificate[1], *arguments, address=self.address)

    def _python(self, credentials):
        """The code of a call."""
        channel = (grpc.secure_channel(self.address, credentials) if credentials
                   else grpc.insecure_channel(self.address))
        with channel:
            try:
                channel.unary_unary("/pbkfs.v1.MountService/ListMounts")(b"", timeout=60)
                return "OK"
            except grpc.RpcError as error:
                return error.code().name

    def test_certificates(self):
        app, boss = self.authority.issue("app"), self.authority.issue("boss")
        by_dns = self.authority.issue("other-name", alternative="DNS:app")
        for certificate in (app, boss, by_dns):
            done = self.tls_cli(certificate, "list")
            self.assertEqual(0, done.returncode, done.stderr)
        stranger = self.authority.issue("stranger", alternative="email:app,URI:app:app")
        self.assert_not_allowed(self.tls_cli(stranger, "list"), 'certificate: "stranger"')
        for certificate in (self.authority.issue("app-old", common_name="app", days=-1), self.foreign.issue("app")):
            self.assertEqual(UNREACHABLE, self.tls_cli(certificate, "list").returncode)
        # A server that our authority did not sign is not spoken to.
        self.assertEqual(UNREACHABLE, self.tls_cli(app, "list", ca=self.foreign.ca).returncode)
        self.assertEqual("UNAVAILABLE", self._python(None), "plaintext at the port of TLS")
        ca = self.authority.ca.read_bytes()
        self.assertEqual("UNAVAILABLE", self._python(grpc.ssl_channel_credentials(ca)), "no certificate")
        self.assertEqual("OK", self._python(grpc.ssl_channel_credentials(ca, app[1].read_bytes(), app[0].read_bytes())))
        done = self.daemon.cli("list", address=self.address)
        self.assertEqual(USAGE, done.returncode)
        self.assertIn("PBKFS_TLS_CA", done.stderr)
        # The owner of a certificate is all that it may mount for.
        catalog = SyntheticCatalog(self, backups=1)
        words = mount_arguments(catalog.store, catalog.instance, None, self.work / "t")
        self.assert_not_allowed(self.tls_cli(app, *words), f"set owner to uid {CALLER}")
        done = self.tls_cli(app, *words, "--owner", f"{CALLER}:{CALLER}")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("certificate=app", self.daemon.log_path.read_text())
        self.assertEqual(0, self.tls_cli(app, "unmount", "t", "--delete-diff").returncode)

    def test_a_reload_takes_new_certificates_and_callers(self):
        app, theirs = self.authority.issue("app"), self.foreign.issue("app")
        certificate, key = self.server
        with grpc.secure_channel(self.address, grpc.ssl_channel_credentials(
                self.authority.ca.read_bytes(), app[1].read_bytes(), app[0].read_bytes())) as channel:
            call = channel.unary_unary("/pbkfs.v1.MountService/ListMounts")
            call(b"", timeout=60)
            # What does not fit changes nothing.
            good = key.read_bytes()
            key.write_bytes(theirs[1].read_bytes())
            done = self.daemon.cli("daemon", "reload")
            self.assertEqual(USAGE, done.returncode, done.stderr)
            self.assertIn("does not belong to the certificate", done.stderr)
            self.assertEqual(0, self.tls_cli(app, "list").returncode)
            # A caller who is taken out is refused on the connection that he has.
            key.write_bytes(good)
            self.write_config()
            self.config.write_text(self.config.read_text().replace('certificate: "app"', 'certificate: "nobody"'))
            self.daemon.call("daemon", "reload")
            with self.assertRaises(grpc.RpcError) as raised:
                call(b"", timeout=60)
            self.assertEqual(grpc.StatusCode.PERMISSION_DENIED, raised.exception.code())
        # Other files under the same names, and another authority for clients.
        self.write_config()
        new_certificate, new_key = self.foreign.issue("new-server")
        shutil.copy(new_certificate, certificate)
        shutil.copy(new_key, key)
        shutil.copy(self.foreign.ca, self.authority.ca)
        self.daemon.call("daemon", "reload")
        done = self.tls_cli(theirs, "list", ca=self.foreign.ca)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(UNREACHABLE, self.tls_cli(app, "list", ca=self.foreign.ca).returncode)

    def test_the_socket_outlives_the_worker(self):
        app = self.authority.issue("app")
        for _ in range(3):
            kill_worker(self.daemon.pid)
            socket.create_connection(("127.0.0.1", self.port)).close()
            done = self.tls_cli(app, "list")
            self.assertEqual(0, done.returncode, done.stderr)

    def takes(self, listener, port):
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        listener.listen()
        return True

    def test_a_worker_that_takes_over_goes_on_without_what_it_can_not_serve(self):
        """A certificate that is being renewed and a port that another program took are no reason to end mounts."""
        app, (certificate, _) = self.authority.issue("app"), self.server
        catalog = SyntheticCatalog(self, backups=1)
        self.daemon.mount(catalog.store, catalog.instance, None, self.work / "t")
        good = certificate.read_bytes()
        certificate.write_bytes(b"")
        os.kill(self.daemon.pid, signal.SIGSTOP)
        killed = kill_worker(self.daemon.pid)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                case.wait_until(lambda: self.takes(other, self.daemon.metrics_port), 60, "the port being free")
            finally:
                os.kill(self.daemon.pid, signal.SIGCONT)
            wait_for_worker(self.daemon.pid, other_than=killed)
            self.assertEqual("t", self.daemon.call("list")["mounts"][0]["mountId"])
            self.assertTrue((self.work / "t" / "PG_VERSION").read_text())
            self.assertEqual(UNREACHABLE, self.tls_cli(app, "list").returncode)
            log = self.daemon.log_path.read_text()
            self.assertIn(str(certificate), log)
            self.assertIn(str(self.daemon.metrics_port), log)
        certificate.write_bytes(good)
        done = self.tls_cli(app, "list")
        self.assertEqual(0, done.returncode, done.stderr)
        case.wait_until(self.daemon.is_ready, 60, "the metrics being served again")
        self.assertEqual(1, self.daemon.metrics()["pbkfs_worker_restarts_total"])
        self.daemon.unmount("t")


class BadClients(AccessCase):
    def _descriptors(self):
        return len(os.listdir(f"/proc/{wait_for_worker(self.daemon.pid)}/fd"))

    def _threads(self):
        return len(os.listdir(f"/proc/{wait_for_worker(self.daemon.pid)}/task"))

    def _crowd(self, uid, count, words):
        return self._start(uid, "there", CROWD, self.open.removeprefix("unix:"), str(count), words.hex())

    def _start(self, uid, answer, code, *arguments):
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--pdeathsig", "KILL",
                   "/usr/bin/python3", "-c", code, *arguments]
        crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        for cleanup in (crowd.stdout.close, crowd.wait, crowd.kill, crowd.stdin.close):
            self.addCleanup(cleanup)
        self.assertEqual(answer, crowd.stdout.readline().rstrip())
        return crowd

    def test_a_crowd_locks_nobody_out(self):
        self.assertEqual(0, self.cli_as(CALLER, "list").returncode)
        self.assert_not_allowed(self.cli_as(OTHER, "list"))
        before, threads = self._descriptors(), self._threads()
        crowds = [self._crowd(uid, 1000, words) for uid, words in ((CALLER, b""), (CALLER, HALF_A_CALL),
                                                                   (OTHER, HALF_A_CALL))]
        self.assertLess(self._descriptors() - before, 3 * MAX_CONNECTIONS, "each connection takes two descriptors")
        self.assertLess(self._threads() - threads, 20)
        for _ in range(3):
            self.assertEqual(0, self.daemon.cli("list").returncode)
        # Another user has room as well.
        done = self.cli_as(OTHER, "list", address=self.group, groups=str(MEMBER_GROUP))
        self.assertEqual(0, done.returncode, done.stderr)
        for crowd in crowds:
            crowd.stdin.close()
            crowd.wait()
            self.assertEqual(0, crowd.returncode)
        case.wait_until(lambda: self._descriptors() < before + MAX_CONNECTIONS // 4, 60, "the descriptors come back")
        self.assertEqual(0, self.cli_as(CALLER, "list").returncode)
        self.assertIn("max_connections", self.daemon.log_path.read_text())

    def test_streams_that_nobody_reads(self):
        self.need(grpc is not None, "python3-grpcio is missing")
        watcher = self._start(CALLER, "RESOURCE_EXHAUSTED True", STREAMS, self.open, str(MAX_CALLS - MAX_CALLS // 4))
        done = self.cli_as(CALLER, "list")
        self.assertEqual(FAILED, done.returncode, done.stderr)
        self.assertIn("CALL_LIMIT", done.stderr)
        self.assertEqual(0, self.daemon.cli("list").returncode, "administrators have calls of their own")
        watcher.kill()
        watcher.wait()
        case.wait_until(lambda: self.cli_as(CALLER, "list").returncode == 0, 60, "calls are there again")

    def test_a_stream_of_a_caller_who_is_taken_out_ends(self):
        self.need(grpc is not None, "python3-grpcio is missing")
        watcher = self._start(CALLER, "there", WATCHER, self.open)
        self.config.write_text(self.config.read_text().replace(f"callers {{ uid: {CALLER} }}\n", ""))
        self.daemon.call("daemon", "reload")
        self.assertEqual("PERMISSION_DENIED True", watcher.stdout.readline().rstrip())

    def test_huge_headers_and_more_calls_than_may_run(self):
        self.need(grpc is not None, "python3-grpcio is missing")
        threads = self._threads()
        greedy = [self._start(CALLER, "begun", GREEDY, self.open) for _ in range(2)]
        for _ in range(5):
            self.assertEqual(0, self.daemon.cli("list").returncode)
        for one in greedy:
            self.assertEqual("fair", one.stdout.readline().rstrip())
        self.assertLess(self._threads() - threads, 20)

    def test_a_request_that_is_too_long(self):
        self.need(grpc is not None, "python3-grpcio is missing")
        with grpc.insecure_channel(self.daemon.address) as channel:
            call = channel.unary_unary("/pbkfs.v1.MountService/ListMounts")
            with self.assertRaises(grpc.RpcError) as raised:
                call(b"\x7a\xff\xff\x7f" + bytes(0x1fffff), timeout=60)
            self.assertEqual(grpc.StatusCode.RESOURCE_EXHAUSTED, raised.exception.code())
            call(b"", timeout=60)


if __name__ == "__main__":
    case.main()

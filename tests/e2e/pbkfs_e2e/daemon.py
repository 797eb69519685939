"""pbkfsd as a fixture, and the client that talks to it."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

from pbkfs_e2e import processes

# Generous, because other tests may be using every core.
START_SECONDS = 30
STOP_SECONDS = 60
CLI_SECONDS = 120


def build_dir():
    """Where the programs were built."""
    root = pathlib.Path(__file__).resolve().parents[3]
    return pathlib.Path(os.environ.get("PBKFS_BUILD_DIR") or root / "build").resolve()


def is_sanitized():
    """Whether the programs were built with a sanitizer: then they take several times the memory."""
    cache = build_dir() / "CMakeCache.txt"
    return cache.is_file() and re.search(r"^PBKFS_SANITIZE:\w+=\w", cache.read_text(), re.MULTILINE) is not None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class CliError(AssertionError):
    """The client failed where the test needs it to succeed."""


class Daemon:
    """One pbkfsd with its own state directory, socket and metrics port, all below `work`."""

    def __init__(self, work, allow_roots):
        self.work = pathlib.Path(work)
        self.allow_roots = [str(root) for root in allow_roots]
        self.address = f"unix:{self.work}/pbkfsd.sock"
        self.state_dir = self.work / "state"
        self.log_path = self.work / "pbkfsd.log"
        self.metrics_port = None
        self.program = build_dir() / "service" / "pbkfsd"
        self.environment = None  # Variables in addition to the test's own.
        self.wrapper = []  # A command that executes the daemon in its own process, such as unshare or setpriv.
        self._process = None

    def start(self, *extra_arguments):
        # The free port can be taken by someone else before the daemon binds it: try again.
        for attempt in range(3):
            self.metrics_port = free_port()
            if self._start_once(extra_arguments):
                return
        raise AssertionError(f"pbkfsd does not start:\n{self.log_tail()}")

    def _start_once(self, extra_arguments):
        # pdeathsig: a test that is killed takes its daemon with it, which unmounts what it serves.
        command = ["setpriv", "--pdeathsig", "TERM", *self.wrapper, str(self.program),
                   "--listen", self.address, "--metrics", f"127.0.0.1:{self.metrics_port}",
                   "--state-dir", str(self.state_dir), *map(str, extra_arguments)]
        for root in self.allow_roots:
            command += ["--allow-root", root]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env={**os.environ, **(self.environment or {})})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._answers():
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _answers(self):
        path = self.address.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except OSError:
                return False
        return self.cli("list").returncode == 0

    def is_ready(self):
        """Whether /readyz says so: nothing of an earlier worker or daemon is left to do."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz", timeout=30):
                return True
        except OSError:
            return False

    @property
    def process(self):
        return self._process

    @property
    def pid(self):
        return self._process.pid

    def resident_bytes(self):
        """VmRSS of the daemon and of the processes below it."""
        return sum(_resident_bytes(pid) for pid in descendants(self.pid))

    def exit_code(self):
        """None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self):
        """SIGTERM, and the exit code. A daemon that does not end is killed and gives its signal's number."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def wait(self):
        """The exit code of a daemon that was told to end, or killed."""
        process, self._process = self._process, None
        return process.wait(STOP_SECONDS)

    def log_tail(self, lines=60):
        try:
            text = self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def cli(self, *arguments, address=None):
        """Runs `pbkfs` and returns the finished process; the test looks at the exit code."""
        command = [str(build_dir() / "client" / "pbkfs"), "--address", address or self.address,
                   *map(str, arguments)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=CLI_SECONDS)

    def call(self, *arguments):
        """Runs `pbkfs -o json …`, which must succeed, and returns the parsed answer."""
        done = self.cli("-o", "json", *arguments)
        if done.returncode != 0:
            raise CliError(f"pbkfs {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}"
                           f"--- daemon log ---\n{self.log_tail(15)}")
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise CliError(f"pbkfs {' '.join(map(str, arguments))} printed no JSON: {error}\n{done.stdout}") from error

    def mount(self, store, instance, backup, target, *, diff=None, settings=None, owner=None, extra=()):
        """Mounts and returns the Mount message."""
        return self.call(*mount_arguments(store, instance, backup, target, diff=diff, settings=settings,
                                          owner=owner, extra=extra))

    def unmount(self, mount_id, *extra):
        return self.call("unmount", mount_id, *extra)

    def check_diff(self, diff):
        """`pbkfs diff check` must be content."""
        self.call("diff", "check", diff)

    def stats(self, mount_id):
        """MountStats of one mount."""
        return self.call("stats", mount_id)["mounts"][0]

    def metrics(self):
        """{'name{label="value",…}': float} of /metrics."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = {}
        for line in lines:
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples


def descendants(pid):
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += processes.children(parent, task)
        except OSError:
            pass  # It ended meanwhile.
    return found


def _resident_bytes(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def mount_arguments(store, instance, backup, target, *, diff=None, settings=None, owner=None, extra=()):
    arguments = ["mount", "--store", store, "--instance", instance, "--target", target]
    if backup is not None:
        arguments += ["--backup", backup]
    if diff is not None:
        arguments += ["--diff", diff]
    if owner is not None:
        arguments += ["--owner", owner]
    for name, value in (settings or {}).items():
        arguments += ["--set", f"{name}={value}"]
    return [*arguments, *extra]


def series(samples, name, **labels):
    """The samples of one metric that carry all of `labels`, as {full name: value}."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return {key: value for key, value in samples.items()
            if (key == name or key.startswith(name + "{")) and all(label in key for label in wanted)}

"""The worker of a daemon: found, killed, waited for. It is the child of pbkfsd that has a socket to its keeper."""

import os
import pathlib
import signal
import subprocess
import threading
import time

from pbkfs_e2e import processes

START_SECONDS = 60


def worker_pid(keeper):
    """The process id of the worker, or None while there is none."""
    try:
        children = processes.children(keeper)
    except OSError:
        return None
    for child in children:
        try:
            arguments = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            state = processes.state(child)
        except OSError:
            continue
        if state != "Z" and any(argument.startswith(b"--worker-socket=") for argument in arguments):
            return child
    return None


def wait_for_worker(keeper, other_than=None):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        pid = worker_pid(keeper)
        if pid is not None and pid != other_than:
            return pid
        time.sleep(0.002)
    raise AssertionError(f"pbkfsd {keeper} has no worker")


def kill_worker(keeper, number=signal.SIGKILL):
    """Kills the worker; returns its process id."""
    pid = wait_for_worker(keeper)
    os.kill(pid, number)
    return pid


class Killer:
    """Kills the worker again and again, in a thread, until it is stopped."""

    def __init__(self, keeper, pause):
        self._keeper = keeper
        self._pause = pause  # A function: seconds until the next kill.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.kills = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        last = None
        while not self._stop.wait(self._pause()):
            last = wait_for_worker(self._keeper, other_than=last)
            os.kill(last, signal.SIGKILL)
            self.kills += 1


class Traced:
    """strace(1) injects something into system call `name` of process `pid`, and of all that it starts."""

    def __init__(self, pid, name, injection):
        self._command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={name}", "-p", str(pid),
                         "-e", f"inject={name}:{injection}"]
        self._strace = None

    def __enter__(self):
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        # It says so when it has all threads.
        line = self._strace.stderr.readline()
        if "attached" not in line:
            raise AssertionError(f"strace traces nothing: {line}{self._strace.stderr.read()}")
        return self

    def __exit__(self, *_):
        # SIGTERM would make it wait for threads that it has not reaped itself, now and then for ever.
        self._strace.kill()
        self._strace.communicate()


class KillAt(Traced):
    """The worker is killed when one of its threads makes system call `name` for the `number`th time."""

    def __init__(self, keeper, name, number):
        self.worker = wait_for_worker(keeper)
        super().__init__(self.worker, name, f"signal=KILL:when={number}")

    def killed(self):
        """Whether the worker is gone."""
        try:
            return processes.state(self.worker) in "ZX"
        except OSError:
            return True


class StopAt(Traced):
    """The worker is stopped when one of its threads has made system call `name` for the `number`th time, and goes on at
    the end."""

    def __init__(self, keeper, name, number):
        self.worker = wait_for_worker(keeper)
        super().__init__(self.worker, name, f"signal=STOP:when={number}")

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        os.kill(self.worker, signal.SIGCONT)

"""A control group with a limit of memory, whose processes the kernel kills when they need more."""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

EXHAUST_SECONDS = 60
# Of the process that takes the memory, in 1/1000 of the group's limit: where one that was killed is gone before its
# memory is free, the kernel kills this one and not what is smaller.
EXHAUST_OOM_SCORE = 60

# Takes memory until the kernel has killed a process of the group. What is in the file counts as the group's and as no
# process's: killing this one, which is small, is not what the kernel does first.
EXHAUST = """
import os, re, sys
counter, file = sys.argv[1], os.memfd_create("exhaust")
def kills():
    return re.search(r"oom_kill (\\d+)", open(counter).read())[1]
before = kills()
while kills() == before:
    os.write(file, b"x" * (1 << 20))
"""


class MemoryGroup:
    """Removed at the end of the test; what still runs in it then goes to the group above."""

    def __init__(self, test, limit):
        controllers = pathlib.Path("/sys/fs/cgroup/cgroup.controllers")  # There is one hierarchy: version 2.
        second = controllers.exists()
        parent = pathlib.Path("/sys/fs/cgroup" if second else "/sys/fs/cgroup/memory")
        self._path = parent / f"pbkfs-e2e-{os.getpid()}"
        try:
            if second:
                (parent / "cgroup.subtree_control").write_text("+memory")
            self._path.mkdir()
            test.addCleanup(self._remove)
            (self._path / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
        except OSError as error:
            raise unittest.SkipTest(f"no control group with a memory limit can be made here: {error}") from error
        # What could be swapped out would not be missed.
        swap = self._path / ("memory.swap.max" if second else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if second else str(limit))
        self._counter = self._path / ("memory.events" if second else "memory.oom_control")

    def entering(self):
        """A command that executes its arguments in the group."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._path)]

    def exhaust(self):
        """Takes memory away from the processes of the group until the kernel has killed the largest."""
        command = [*self.entering(), "choom", "-n", str(EXHAUST_OOM_SCORE), "--", sys.executable, "-c", EXHAUST,
                   self._counter]
        code = subprocess.run(command, check=False, timeout=EXHAUST_SECONDS).returncode
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(f"taking the memory of {self._path} ended with {code}")

    def _remove(self):
        for pid in (self._path / "cgroup.procs").read_text().split():
            (self._path.parent / "cgroup.procs").write_text(pid)
        self._path.rmdir()

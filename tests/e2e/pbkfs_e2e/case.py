"""The base of every end-to-end test: one private directory and one private daemon per test method."""

import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
import unittest

from pbkfs_e2e import catalogs, mounts
from pbkfs_e2e.daemon import Daemon, build_dir

# What `python3 x_test.py` exits with when nothing was tested; ctest shows it as skipped.
EXIT_ALL_SKIPPED = 77

FULL_TIER = os.environ.get("PBKFS_E2E_TIER", "quick") == "full"


def require_all():
    return os.environ.get("PBKFS_REQUIRE_ALL") == "1"


class E2ECase(unittest.TestCase):
    """Makes `self.work`, a short path that every user can enter, and starts `self.daemon` in it.

    Whatever the test leaves behind is stopped by process id, unmounted and removed.
    """

    maxDiff = 4000

    def setUp(self):
        self.need(os.geteuid() == 0, "mounting needs root; run the tests as root")
        self.need(os.path.exists("/dev/fuse"), "/dev/fuse is missing; load the fuse module")
        # Socket paths must stay below 108 bytes, so the name is short and TMPDIR is not followed.
        parent = os.environ.get("PBKFS_E2E_TMP", "/tmp")
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="pe2e-", dir=parent))
        self.addCleanup(self._remove_work)
        self.work.chmod(0o755)
        self.daemon = None
        self.start_daemon()

    def need(self, condition, cause):
        """Skips the test when a part is missing; fails it when PBKFS_REQUIRE_ALL=1 says that all must be there."""
        if condition:
            return
        if require_all():
            self.fail(f"{cause} (PBKFS_REQUIRE_ALL=1)")
        self.skipTest(cause)

    def start_daemon(self):
        programs = [build_dir() / "service" / "pbkfsd", build_dir() / "client" / "pbkfs"]
        for program in programs:
            self.need(program.exists(), f"{program} is missing; build it, or set PBKFS_BUILD_DIR")
        roots = [self.work]
        if catalogs.configured():
            roots.append(catalogs.unpacked_root())
        self.daemon = Daemon(self.work, allow_roots=roots)
        self.addCleanup(self._stop_daemon)
        self.daemon.start()

    def catalogs(self):
        """Every catalog that PBKFS_TEST_CATALOGS names."""
        self.need(catalogs.configured(), "PBKFS_TEST_CATALOGS is not set: no real catalogs to test with")
        found = catalogs.find()
        self.need(found, f"PBKFS_TEST_CATALOGS={os.environ.get('PBKFS_TEST_CATALOGS')} holds no catalog")
        return found

    def mkcatalog(self):
        """The program that writes catalogs."""
        program = build_dir() / "tests" / "support" / "mkcatalog"
        self.need(program.exists(), f"{program} is missing; build the target mkcatalog")
        return program

    def report(self, text):
        print(f"    {self.id().split('.')[-1]}: {text}", file=sys.stderr, flush=True)

    def _failed(self):
        outcome = getattr(self, "_outcome", None)
        return outcome is not None and not outcome.success

    def _stop_daemon(self):
        if self.daemon is None:
            return
        daemon, self.daemon = self.daemon, None
        died = daemon.exit_code()
        code = daemon.stop()
        left = mounts.below(self.work)
        if self._failed() or died is not None or code != 0 or left:
            print(f"--- daemon log of {self.id()} ---\n{daemon.log_tail()}", file=sys.stderr)
        if died is not None:
            self.fail(f"the daemon ended during the test with exit code {died}; its log is above")
        if code != 0:
            self.fail(f"the daemon answered SIGTERM with exit code {code}; its log is above")
        if left:
            self.fail(f"the daemon left mounts behind: {left}")

    def _remove_work(self):
        mounts.detach_below(self.work)
        shutil.rmtree(self.work, ignore_errors=True)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.monotonic()

    def __str__(self):
        return f"{time.monotonic() - self._start:.1f} s"


def seeded_random(test, name):
    """A random generator whose seed is printed, with the command that replays it."""
    seed = int(os.environ.get("PBKFS_E2E_SEED") or random.SystemRandom().randrange(1 << 32))
    method = test.id().removeprefix("__main__.")
    test.report(f"{name}: seed {seed}; replay: PBKFS_E2E_SEED={seed} /usr/bin/python3 {sys.argv[0]} {method}")
    return random.Random(seed)


def wait_until(condition, timeout, what):
    """Polls until `condition()` is true. Only for what has no event to wait for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout} s")
        time.sleep(0.02)


def main():
    """unittest.main() that tells ctest when every test was skipped."""
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun and len(result.skipped) >= result.testsRun:
        sys.exit(EXIT_ALL_SKIPPED)

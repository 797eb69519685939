"""The daemon ends when it is told to, whatever goes on: in time, with exit code 0, and with nothing left mounted."""

import os
import pathlib
import signal
import subprocess
import threading
import time

from pbkfs_e2e import case, mounts, workers
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.variants import VariantCatalog

# Far below STOP_SECONDS and the daemon's own limit of 45 s, which ends it with exit code 1.
STOP_SECONDS = 30
ROUNDS = 30 if case.FULL_TIER else 4
TARGETS = 3


class Namespace:
    """A process in a mount namespace of its own, made while the mounts of this one were there: it has copies of them
    that no unmount here takes away. Use as a context manager."""

    def __init__(self, script):
        # Its end of the pipe closes when the script says that it is ready.
        self._process = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                          f"{script}; echo; exec sleep 1000"], stdout=subprocess.PIPE)
        self._process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Stop(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = VariantCatalog(self)

    def mount(self, name="m"):
        self.daemon.mount(self.catalog.store, self.catalog.instance, None, self.work / name)

    def assert_stops(self):
        begin = time.monotonic()
        code = self.daemon.stop()
        seconds = time.monotonic() - begin
        self.assertEqual(0, code, self.daemon.log_tail())
        self.assertLess(seconds, STOP_SECONDS)
        self.assertEqual([], mounts.below(self.work))

    def test_a_worker_that_can_not_start_again(self):
        registry = self.daemon.state_dir / "mounts"
        registry.rmdir()
        registry.touch()
        os.kill(workers.wait_for_worker(self.daemon.pid), signal.SIGKILL)
        case.wait_until(lambda: self.daemon.log_path.read_text().count("the worker was") > 1, STOP_SECONDS,
                        "the next worker that fails")
        begin = time.monotonic()
        self.assertGreater(self.daemon.stop(), 0)
        self.assertLess(time.monotonic() - begin, STOP_SECONDS)

    def test_mounts_that_another_namespace_has_a_copy_of(self):
        self.mount()
        with Namespace("true"):
            self.assert_stops()

    def test_files_that_are_open_in_another_namespace(self):
        self.mount()
        with Namespace(f"exec 9< {self.work}/m/PG_VERSION"):
            self.assert_stops()

    def test_unmount_while_another_namespace_has_a_copy(self):
        self.mount()
        with Namespace("true"):
            self.daemon.unmount("m")
        self.assertEqual([], self.daemon.call("list").get("mounts", []))

    def test_unmount_while_another_namespace_uses_the_mount(self):
        self.mount()
        with Namespace(f"exec 9< {self.work}/m/PG_VERSION"):
            done = self.daemon.cli("unmount", "m")
            self.assertEqual(5, done.returncode, done.stderr)
            self.assertIn("another mount namespace", done.stderr)
            self.assertIn("sleep (pid ", done.stderr)
            self.daemon.unmount("m", "--force")
        self.assertEqual([], self.daemon.call("list").get("mounts", []))

    def test_sigterm_at_any_moment(self):
        chance = case.seeded_random(self, "moments")
        for round_number in range(ROUNDS):
            with self.subTest(round=round_number):
                if round_number:
                    self.daemon.start()
                self.run_round(chance)

    def run_round(self, chance):
        """Mounts, unmounts, readers and writers, a chain that is damaged and repaired below them, and SIGTERM."""
        ending = threading.Event()
        workers = [threading.Thread(target=self.mount_and_unmount, args=(f"t{number}", ending))
                   for number in range(TARGETS)]
        workers += [threading.Thread(target=self.read_and_write, args=(f"t{number}", ending))
                    for number in range(TARGETS)]
        workers.append(threading.Thread(target=self.change_the_chain, args=(ending,)))
        for worker in workers:
            worker.start()
        try:
            ending.wait(chance.uniform(0, 3))
            self.assert_stops()
        finally:
            ending.set()
            for worker in workers:
                worker.join()
            self.repair()

    def mount_and_unmount(self, name, ending):
        target = self.work / name
        while not ending.is_set():
            self.daemon.cli(*mount_arguments(self.catalog.store, self.catalog.instance, None, target))
            ending.wait(0.2)
            self.daemon.cli("unmount", name)

    def read_and_write(self, name, ending):
        """Whatever works; the daemon may be gone at any moment."""
        while not ending.is_set():
            for directory, _, files in os.walk(self.work / name):
                for file in files:
                    try:
                        path = pathlib.Path(directory) / file
                        path.read_bytes()
                        if "base" in directory:
                            with open(path, "r+b") as out:
                                out.write(b"x" * 8192)
                    except OSError:
                        pass
            ending.wait(0.01)

    def change_the_chain(self, ending):
        """A merge begins, and is over with nothing changed."""
        while not ending.wait(0.4):
            self.catalog.set_control(self.catalog.ids[0], "status", "MERGING")
            if not ending.wait(0.4):
                self.repair()

    def repair(self):
        self.catalog.set_control(self.catalog.ids[0], "status", "OK")


if __name__ == "__main__":
    case.main()

"""Random calls of the API by several clients, which are killed now and then, as is the worker. Afterwards the registry, the
daemon, the kernel and the keeper agree, and nothing leaks."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import time

from pbkfs_e2e import api, api_load, case, mounts, workers
from pbkfs_e2e.daemon import descendants, is_sanitized
from pbkfs_e2e.synthetic import SyntheticCatalog

CLIENTS = 4
CALLS = 1000 if case.FULL_TIER else 100
STORM_SECONDS = 600
ANSWER_SECONDS = 60
# Before a leak is looked for: threads of gRPC, caches and the allocator's arenas have what they need.
WARM_UP_CALLS = CALLS // 4
# gRPC keeps a few threads more or less; each mount, stream or connection that leaked would take one or more.
SPARE_THREADS = 4
SPARE_BYTES = (32 if is_sanitized() else 8) << 20


def never():
    """Calls until something happens that does not."""
    return 1 << 30


class ApiStorm(case.E2ECase):
    def setUp(self):
        super().setUp()
        api.need(self)
        # Every kill is one of the test's own.
        self.daemon.stop()
        # Each thread that allocates would keep an arena of some MiB that is nearly empty: noise that hides a leak.
        self.daemon.environment = {"MALLOC_ARENA_MAX": "1"}
        config = self.work / "pbkfsd.conf"
        config.touch()
        self.daemon.start("--restart-limit", "1000", "--config", config)
        self.catalog = SyntheticCatalog(self)
        self.journal = self.work / "journal"
        self.environment = {**os.environ, api.STUBS_VARIABLE: api.stubs_directory(),
                            "PYTHONPATH": str(pathlib.Path(api_load.__file__).parents[1])}

    def start_client(self, seed):
        client = subprocess.Popen([sys.executable, "-B", "-m", "pbkfs_e2e.api_load", self.daemon.address,
                                   self.catalog.store, self.work, str(seed), self.journal],
                                  stdin=subprocess.PIPE, env=self.environment)
        self.addCleanup(self.end_client, client)
        return client

    def end_client(self, client):
        client.stdin.close()
        client.wait(api.CALL_SECONDS + ANSWER_SECONDS)

    def calls(self):
        try:
            return self.journal.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def storm(self, seeds, calls, kill_worker_after):
        """Until `calls` more were made. Returns the clients and workers that were killed."""
        until = len(self.calls()) + calls
        clients = [self.start_client(seeds.getrandbits(32)) for _ in range(CLIENTS)]
        deadline = time.monotonic() + STORM_SECONDS
        next_worker = len(self.calls()) + kill_worker_after()
        next_client = len(self.calls()) + seeds.randint(20, 60)
        killed_clients = killed_workers = 0
        last = None
        while (made := len(self.calls())) < until:
            self.assertLess(time.monotonic(), deadline, f"{made} calls; the last: {self.calls()[-5:]}")
            if made >= next_worker:
                last = workers.wait_for_worker(self.daemon.pid, other_than=last)
                os.kill(last, 9)
                killed_workers += 1
                next_worker = made + kill_worker_after()
            if made >= next_client:
                victim = seeds.randrange(CLIENTS)
                clients[victim].kill()
                clients[victim].wait()
                clients[victim] = self.start_client(seeds.getrandbits(32))
                killed_clients += 1
                next_client = made + seeds.randint(20, 60)
            for client in clients:
                self.assertIsNone(client.poll(), "a client ended by itself; what it says is above")
            time.sleep(0.01)
        for client in clients:
            self.end_client(client)
        return killed_clients, killed_workers

    def check_agreement(self):
        """Registry, daemon, kernel and keeper."""
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the worker being ready")
        listed = self.daemon.call("list").get("mounts", [])
        names = {mount["mountId"]: mount["target"] for mount in listed}
        self.assertEqual({"MOUNT_STATE_ACTIVE"} if listed else set(), {mount["state"] for mount in listed}, listed)
        records = {}
        for path in (self.daemon.state_dir / "mounts").iterdir():
            record = json.loads(path.read_text())
            self.assertFalse(record.get("begun") or record.get("deleteDiff"), record)
            records[path.name.removesuffix(".json")] = record["request"]["target"]
        again = [line for line in self.daemon.log_path.read_text().splitlines() if "made again" in line]
        self.assertEqual(names, records, f"registry and daemon; {again[-8:]}")
        self.assertEqual(sorted(names.values()), sorted(mounts.below(self.work)), "kernel and daemon")
        self.assertEqual(len(names), self.open_files(self.daemon.pid)["/dev/fuse"], "keeper and daemon")
        for target in names.values():
            self.assertEqual("15\n", pathlib.Path(target, "PG_VERSION").read_text())
        for path in self.work.glob("m?"):
            self.assertIn(str(path), names.values(), "a target that was made for a mount stays behind")
        return names

    def open_files(self, pid):
        """{what is open: how often}; sockets and the like without their numbers."""
        found = collections.Counter()
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[os.readlink(f"/proc/{pid}/fd/{descriptor}").split(":[")[0]] += 1
            except FileNotFoundError:
                pass  # That of the listing.
        return found

    def unmount_all(self):
        for mount_id in self.check_agreement():
            self.daemon.unmount(mount_id, "--delete-diff")
        self.assertEqual({}, self.check_agreement())
        # Those that calls kept; each is whole.
        for diff in self.daemon.call("diff", "list").get("diffs", []):
            self.daemon.check_diff(diff["path"])
            self.daemon.call("diff", "delete", diff["path"])
        self.assertEqual([], list((self.daemon.state_dir / "diffs").iterdir()))

    def resources(self):
        """{of which process: (descriptors by what they are, threads, bytes)}, once calls and streams have ended."""
        worker = workers.wait_for_worker(self.daemon.pid)
        found = {}
        for name, pid in (("keeper", self.daemon.pid), ("worker", worker)):
            status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
            found[name] = (self.open_files(pid), int(status["Threads"]), int(status["VmRSS"].split()[0]) << 10)
        return found

    def assert_no_more(self, before, what):
        """Closed connections go in the background."""
        def grown():
            grown.found = []
            for name, (files, threads, size) in self.resources().items():
                files_before, threads_before, size_before = before[name]
                more = files - files_before
                if more or threads > threads_before + SPARE_THREADS or size > size_before + SPARE_BYTES:
                    grown.found.append(f"{name}: more open {dict(more)}, threads {threads_before} -> {threads}, "
                                       f"MiB {size_before >> 20} -> {size >> 20}")
            return not grown.found
        try:
            case.wait_until(grown, 15, "the end of what the calls used")
        except AssertionError:
            self.fail(f"{what}: {'; '.join(grown.found)}")

    def test_a_storm_of_calls(self):
        seeds = case.seeded_random(self, "storm")
        keeper_before = self.resources()["keeper"]
        clients, killed = self.storm(seeds, CALLS, lambda: seeds.randint(15, 45))
        self.unmount_all()
        self.assert_no_more({"keeper": keeper_before, "worker": self.resources()["worker"]}, "the keeper after kills")

        self.storm(seeds, WARM_UP_CALLS, kill_worker_after=never)
        self.unmount_all()
        warm = self.resources()
        more_clients, _ = self.storm(seeds, CALLS, kill_worker_after=never)
        self.unmount_all()
        self.assert_no_more(warm, f"{CALLS} calls of one worker")

        calls = self.calls()
        codes = collections.Counter(line.removeprefix("UNFAIR ").split()[1] for line in calls)
        self.report(f"{len(calls)} calls, {clients + more_clients} clients and {killed} workers killed; {dict(codes)}")
        unfair = [line for line in calls if line.startswith("UNFAIR")]
        self.assertEqual([], unfair[:5], f"{len(unfair)} answers that no caller expects")
        self.assertGreater(killed, 0)
        self.assertGreater(codes["OK"], len(calls) // 3)


if __name__ == "__main__":
    case.main()

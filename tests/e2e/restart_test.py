"""A daemon that can be killed: mounts survive the death of the worker, and the keeper's is cleaned up after."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import unittest

import grpc

from pbkfs_e2e import api, case, daemon, loop_images, mounts, postgres, processes, workers
from pbkfs_e2e.daemon import build_dir
from pbkfs_e2e.synthetic import SyntheticCatalog

PGBENCH_SECONDS = 60 if case.FULL_TIER else 10
# Generous: a loaded machine may be slow, but nothing may hang.
ANSWER_SECONDS = 60
MOUNT_CALLS = 'pbkfs_rpc_requests_total{method="MountService.Mount",code="OK"}'


def replace_program(program, source):
    """As a package manager does: a new file under the old name."""
    new = pathlib.Path(f"{program}.new")
    shutil.copy(source, new)
    new.rename(program)


class Restart(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)

    def mount(self, name, *extra, **options):
        return self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.work / name, extra=extra,
                                 **options)

    def kill_and_wait(self, number=signal.SIGKILL):
        """Kills the worker and waits until the next one answers the API."""
        killed = workers.kill_worker(self.daemon.pid, number)
        workers.wait_for_worker(self.daemon.pid, other_than=killed)
        case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")

    def counters(self):
        return {name: value for name, value in self.daemon.metrics().items()
                if re.search(r"_(total|count|sum|bucket)(\{|$)", name)}

    def restart_counter(self):
        return self.daemon.metrics()["pbkfs_worker_restarts_total"]

    def test_files_mounts_and_counters_survive_the_worker(self):
        made = self.mount("a", "--set", "work_mem=8MB")
        self.assertEqual("RESTART_PROTECTION_FULL", made["restartProtection"])
        target = self.work / "a"
        with open(target / "held", "w+b") as held:
            held.write(b"before")
            held.flush()
            (target / "held").unlink()
            written = int(self.daemon.stats("a")["io"]["writtenBytes"])
            for path in (target / "base").rglob("*"):
                if path.is_file():
                    path.read_bytes()
            counters = self.counters()
            for name in (MOUNT_CALLS, 'pbkfs_rpc_duration_seconds_count{method="MountService.Mount"}',
                         "pbkfs_mount_duration_seconds_count"):
                self.assertEqual(1, counters[name], name)
            self.assertGreater(sum(daemon.series(counters, "pbkfs_decoded_pages_total").values()), 0)
            self.kill_and_wait()
            held.write(b" after")
            held.flush()
            held.seek(0)
            self.assertEqual(b"before after", held.read())
        after = self.daemon.call("list")["mounts"]
        made.pop("catalogLocked"), after[0].pop("catalogLocked", None)
        self.assertEqual([made], after)
        self.assertGreaterEqual(int(self.daemon.stats("a")["io"]["writtenBytes"]), written + 6)
        now = self.counters()
        for name, value in counters.items():
            self.assertGreaterEqual(now[name], value, f"{name} went back")
        self.assertGreater(len(counters), 20)
        self.assertEqual(1, self.restart_counter())
        again = self.mount("a", "--set", "work_mem=8MB")
        self.assertEqual(made["createTime"], again["createTime"], "the same request gives the existing mount")
        self.daemon.unmount("a")
        self.assertEqual([], self.daemon.call("list").get("mounts", []))
        self.assertEqual([], list((self.daemon.state_dir / "mounts").iterdir()), "the registry is empty")

    def test_eight_mounts_go_on_quickly(self):
        names = [f"m{i}" for i in range(8)]
        for name in names:
            self.mount(name)
        files = [open(self.work / name / "postgresql.conf", "rb") for name in names]
        for file in files:
            self.addCleanup(file.close)
        content = files[0].read()
        times = []
        for _ in range(20 if case.FULL_TIER else 6):
            killed = workers.kill_worker(self.daemon.pid)
            start = time.monotonic()
            for name in names:
                # A name that nobody asked for yet: the kernel can't answer by itself.
                self.assertFalse((self.work / name / f"absent-{killed}").exists())
                if name == names[0]:
                    times.append(1000 * (time.monotonic() - start))
            for file in files:
                file.seek(0)
                self.assertEqual(content, file.read())
        self.report(f"from death to the first answer, 8 mounts: p50 {statistics.median(times):.0f} ms, "
                    f"maximum {max(times):.0f} ms")

    def test_kills_while_mounts_are_made_and_unmounted(self):
        randomness = case.seeded_random(self, "kills")
        # Less often than the daemon takes for a crash loop, most of the time within a mount or an unmount.
        with workers.Killer(self.daemon.pid, lambda: randomness.uniform(0.1, 1.3)) as killer:
            round_number = 0
            while killer.kills < (60 if case.FULL_TIER else 10):
                round_number += 1
                name = f"r{round_number % 3}"
                arguments = daemon.mount_arguments(self.catalog.store, "node", self.catalog.ids[-1], self.work / name)
                self.retry(*arguments)
                (self.work / name / "mark").write_text(str(round_number))
                self.assertEqual(str(round_number), (self.work / name / "mark").read_text())
                self.retry("unmount", name, *(["--delete-diff"] if round_number % 2 else []))
        self.report(f"{killer.kills} kills in {round_number} rounds")
        self.kill_and_wait()
        case.wait_until(lambda: not mounts.below(self.work), ANSWER_SECONDS, "all being unmounted")

    def retry(self, *arguments):
        """Runs the client until the daemon has answered it, as a caller does that gets UNAVAILABLE."""
        def attempt():
            done = self.daemon.cli(*arguments)
            if done.returncode in (4, 6):  # A restarted worker may still be at it.
                return None
            self.assertEqual(0, done.returncode, f"{arguments}: {done.stderr}\n{self.daemon.log_tail()}")
            return done
        return case.wait_until(attempt, ANSWER_SECONDS, f"an answer to {arguments}")

    def test_after_the_keeper_was_killed_the_next_start_mounts_again(self):
        self.mount("a", "--diff", self.work / "diff")
        (self.work / "a" / "kept").write_text("kept")
        with open(self.work / "a" / "PG_VERSION", "rb") as used:
            os.kill(self.daemon.pid, signal.SIGKILL)
            self.daemon.stop()
            case.wait_until(lambda: self.fails(used), ANSWER_SECONDS, "an error for who uses the mount")
        self.daemon.start()
        case.wait_until(lambda: (self.work / "a" / "kept").exists(), ANSWER_SECONDS, "the mount being made again")
        self.assertEqual("kept", (self.work / "a" / "kept").read_text())
        self.assertEqual("a", self.daemon.call("list")["mounts"][0]["mountId"])
        self.mount("a", "--diff", self.work / "diff")  # The same request again finds it.

    def test_a_record_of_a_newer_version_is_not_taken_for_a_missing_one(self):
        self.mount("a")
        record = self.daemon.state_dir / "mounts" / "a.json"
        written = record.read_text()
        with open(self.work / "a" / "held", "w+b", buffering=0) as held:
            held.write(b"held")
            record.write_text(json.dumps({**json.loads(written), "version": 99}))
            workers.kill_worker(self.daemon.pid)
            case.wait_until(lambda: "of a newer pbkfsd" in self.daemon.log_path.read_text(), ANSWER_SECONDS,
                            "a worker saying what it can't read")
            record.write_text(written)  # As the program does that has that version.
            case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")
            self.assertEqual(b"held", os.pread(held.fileno(), 4, 0))
        self.assertEqual("MOUNT_STATE_ACTIVE", self.daemon.call("list")["mounts"][0]["state"])

    def fails(self, file):
        try:
            os.fstat(file.fileno())
            os.pread(file.fileno(), 1, 1 << 30)
            os.listxattr(file.fileno())
            os.fstatvfs(file.fileno())
        except OSError:
            return True
        return False

    def test_a_stop_waits_for_who_uses_a_mount(self):
        self.mount("a")
        used = open(self.work / "a" / "PG_VERSION", "rb")
        process = self.daemon.process
        process.send_signal(signal.SIGTERM)
        case.wait_until(lambda: "waiting to stop" in self.daemon.log_tail(), ANSWER_SECONDS, "the user being named")
        self.assertIn(f"pid {os.getpid()}", self.daemon.log_tail())
        self.assertTrue(used.read())
        # What a worker can't do, the next one does.
        os.kill(workers.wait_for_worker(process.pid), signal.SIGKILL)
        used.seek(0)
        self.assertTrue(used.read())
        self.assertIsNone(process.poll())
        used.close()
        self.assertEqual(0, process.wait(ANSWER_SECONDS))
        self.assertEqual([], mounts.below(self.work))
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual([], self.daemon.call("list").get("mounts", []))

    def test_a_second_signal_detaches(self):
        self.mount("a")
        with open(self.work / "a" / "PG_VERSION", "rb"):
            process = self.daemon.process
            process.send_signal(signal.SIGTERM)
            case.wait_until(lambda: "waiting to stop" in self.daemon.log_tail(), ANSWER_SECONDS, "the user being named")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(0, process.wait(ANSWER_SECONDS))
            self.assertEqual([], mounts.below(self.work))
        self.daemon.stop()
        self.daemon.start()


class RestartLimits(case.E2ECase):
    """Daemons that are started in special ways."""

    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)

    def restart_daemon(self, *arguments, environment=None, program=None):
        self.daemon.stop()
        self.daemon.program = program or self.daemon.program
        self.daemon.environment = environment
        self.daemon.start(*arguments)

    def mount(self, name):
        return self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.work / name)

    def state(self, name):
        listed = self.daemon.cli("-o", "json", "list")
        if listed.returncode != 0:
            return None
        found = [mount for mount in self.daemon.call("list").get("mounts", []) if mount["mountId"] == name]
        return found[0] if found else None

    def wait_for_failure(self, name):
        return case.wait_until(lambda: (self.state(name) or {}).get("state") == "MOUNT_STATE_FAILED" and
                               self.state(name), ANSWER_SECONDS, f"mount {name} being FAILED")

    def test_workers_that_die_too_often_end_the_mounts_with_errors(self):
        self.restart_daemon("--restart-limit", "3")
        self.mount("a")
        for _ in range(4):
            killed = workers.kill_worker(self.daemon.pid)
            workers.wait_for_worker(self.daemon.pid, other_than=killed)
        failed = self.wait_for_failure("a")
        self.assertIn("died too often", failed["stateReason"])
        with self.assertRaises(OSError):
            (self.work / "a" / "anything").exists() or os.listdir(self.work / "a")
        self.daemon.unmount("a")
        self.assertFalse(mounts.is_mounted(self.work / "a"))
        self.mount("a")
        self.assertTrue((self.work / "a" / "PG_VERSION").exists())

    def test_without_resend_the_mount_ends_with_its_worker(self):
        self.restart_daemon(environment={"PBKFS_TEST_NO_RESEND": "1"})
        made = self.mount("a")
        self.assertEqual("RESTART_PROTECTION_NONE", made["restartProtection"])
        self.assertTrue(any("restart protection" in text for text in made["warnings"]))
        workers.kill_worker(self.daemon.pid)
        failed = self.wait_for_failure("a")
        self.assertIn("can't send its requests again", failed["stateReason"])
        with self.assertRaises(OSError):
            os.listdir(self.work / "a")
        self.daemon.unmount("a")

    def test_upgrade_and_an_upgrade_that_does_not_work(self):
        program = self.work / "pbkfsd"
        shutil.copy(self.daemon.program, program)
        self.restart_daemon(program=program)
        self.mount("a")
        self.assertEqual(1, self.daemon.metrics()[MOUNT_CALLS])
        keeper = self.daemon.pid
        with open(self.work / "a" / "held", "w+b", buffering=0) as held:
            held.write(b"one")
            replace_program(program, self.daemon.program)
            before = workers.wait_for_worker(keeper)
            os.kill(keeper, signal.SIGUSR2)
            case.wait_until(lambda: "goes on as the new program" in self.daemon.log_tail(), ANSWER_SECONDS,
                            "the keeper replacing itself")
            self.assertNotEqual(before, workers.wait_for_worker(keeper, other_than=before))
            self.assertEqual(str(program), os.readlink(f"/proc/{keeper}/exe"), "the keeper runs what is on the disk")
            with open(self.daemon.state_dir / "lock", "r+b") as lock, self.assertRaises(BlockingIOError):
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.write(b"two")

            # A program that says that it can take over, and does not.
            replace_program(program, shutil.which("true"))
            os.kill(keeper, signal.SIGUSR2)
            case.wait_until(lambda: "going back to the old one" in self.daemon.log_tail(), ANSWER_SECONDS,
                            "the old program coming back")
            held.write(b"three")
            held.seek(0)
            self.assertEqual(b"onetwothree", held.read())

            # One that does not even say so: the worker stays.
            replace_program(program, shutil.which("false"))
            case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")
            before = workers.wait_for_worker(keeper)
            os.kill(keeper, signal.SIGUSR2)
            case.wait_until(lambda: "no upgrade" in self.daemon.log_tail(), ANSWER_SECONDS, "the refusal")
            self.assertEqual(before, workers.wait_for_worker(keeper))
        killed = workers.kill_worker(keeper)
        workers.wait_for_worker(keeper, other_than=killed)
        case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")
        self.assertEqual(1, self.daemon.metrics()[MOUNT_CALLS], "what was shown before all that is kept")
        self.daemon.unmount("a")

    def test_upgrade_by_the_api(self):
        program = self.work / "pbkfsd"
        good = self.daemon.program
        shutil.copy(good, program)
        self.restart_daemon(program=program)
        self.mount("a")
        with open(self.work / "a" / "held", "w+b", buffering=0) as held:
            replace_program(program, shutil.which("false"))
            refusal = self.refusal_of_upgrade()
            self.assertEqual(("FAILED_PRECONDITION", "UPGRADE_REFUSED"), (refusal.code, refusal.reason))
            self.assertIn("refused: ", self.last_upgrade())

            replace_program(program, good)
            before = workers.wait_for_worker(self.daemon.pid)
            self.assertIsNone(self.refusal_of_upgrade())
            workers.wait_for_worker(self.daemon.pid, other_than=before)
            self.wait_for_upgrade("done: version")
            held.write(b"one")

            replace_program(program, shutil.which("true"))
            self.assertIsNone(self.refusal_of_upgrade())
            self.wait_for_upgrade("fell back to the old program")
            held.write(b"two")
            held.seek(0)
            self.assertEqual(b"onetwo", held.read())
        self.daemon.unmount("a")
        self.restart_daemon("--no-keeper", program=good)
        self.assertEqual("NO_KEEPER", self.refusal_of_upgrade().reason)

    def refusal_of_upgrade(self):
        with api.Api(self.daemon.address) as daemon:
            return api.refusal_of(daemon.daemon.Upgrade, api.MESSAGES.UpgradeRequest())

    def last_upgrade(self):
        """"" while no worker answers."""
        try:
            with api.Api(self.daemon.address) as daemon:
                return daemon.daemon.GetStatus(api.MESSAGES.GetStatusRequest(), timeout=30).last_upgrade
        except grpc.RpcError:
            return ""

    def wait_for_upgrade(self, outcome):
        case.wait_until(lambda: outcome in self.last_upgrade(), ANSWER_SECONDS, f"the upgrade being {outcome}")


class HeldRequests(case.E2ECase):
    """A file system that is frozen holds the requests of the mount whose diff it has."""

    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        loop_images.require_tools(self)
        image = loop_images.LoopImage.make("ext4", self.work / "image", self.work / "disk", 64 << 20).mount(self)
        self.disk = image.target
        self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.work / "a", diff=self.disk / "diff")
        self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.work / "b")

    def freeze(self):
        subprocess.run(["fsfreeze", "--freeze", self.disk], check=True)
        self.addCleanup(self.thaw)

    def thaw(self):
        subprocess.run(["fsfreeze", "--unfreeze", self.disk], check=False, capture_output=True)

    def start_held_write(self):
        """A process that is done when its write is answered; 0 = well."""
        script = "import os,sys; d=os.open(sys.argv[1], os.O_RDWR|os.O_CREAT); os.write(d, b'held'); os.fsync(d)"
        process = subprocess.Popen([sys.executable, "-c", script, self.work / "a" / "file"],
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        return process

    def oldest(self, mount):
        return self.daemon.metrics()[f'pbkfs_fuse_oldest_request_age_seconds{{mount="{mount}"}}']

    def test_a_request_that_is_held_is_named(self):
        self.freeze()
        writer = self.start_held_write()
        found = case.wait_until(lambda: re.search(r"a: a request is in flight for (\d+)s: (\w+) of inode (\d+)",
                                                  self.daemon.log_tail()), ANSWER_SECONDS, "the request being named")
        self.assertGreaterEqual(int(found[1]), 10)
        self.assertIn(found[2], ("create", "write", "fsync", "setattr"))
        self.assertGreater(int(found[3]), 0)
        self.assertGreaterEqual(self.oldest("a"), 10)
        figures = self.daemon.stats("a")["fuse"]
        self.assertEqual(found[2], figures["oldestRequestOp"])
        self.assertEqual(0, self.oldest("b"), "another mount has nothing to do with it")
        self.assertTrue((self.work / "b" / "PG_VERSION").read_bytes(), "another mount goes on")
        self.thaw()
        self.assertEqual(0, writer.wait(ANSWER_SECONDS))
        case.wait_until(lambda: self.oldest("a") == 0, ANSWER_SECONDS, "no request being in flight")

    @unittest.skipUnless(case.FULL_TIER, "half a minute")
    def test_a_worker_that_can_not_end_ends_the_mounts_with_errors(self):
        self.freeze()
        writer = self.start_held_write()
        case.wait_until(lambda: self.oldest("a") > 0.5, ANSWER_SECONDS, "the request being held")
        workers.kill_worker(self.daemon.pid)
        case.wait_until(lambda: "its users get errors" in self.daemon.log_tail(), ANSWER_SECONDS, "the keeper giving up")
        case.wait_until(lambda: self.listing_fails("b"), ANSWER_SECONDS, "an error for users of the other mount")
        self.assertTrue(mounts.is_mounted(self.work / "b"), "users see what lies below the mount")
        self.thaw()
        writer.wait(ANSWER_SECONDS)
        case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")
        for mount in self.daemon.call("list")["mounts"]:
            self.assertEqual("MOUNT_STATE_FAILED", mount["state"])
            self.daemon.unmount(mount["mountId"])

    def listing_fails(self, mount):
        try:
            os.listdir(self.work / mount)
        except OSError:
            return True
        return False


class Resources(case.E2ECase):
    """What keeper and worker ask the kernel for."""

    PF_MEMALLOC_NOIO = 0x00080000
    CAP_SYS_RESOURCE = 24

    def test_settings_of_the_processes(self):
        keeper = self.daemon.pid
        worker = workers.wait_for_worker(keeper)
        for pid in (keeper, worker):
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            soft, hard = re.search(r"Max open files +(\d+) +(\d+)", limits).groups()
            self.assertEqual(hard, soft)
        status = pathlib.Path("/proc/self/status").read_text()
        allowed = bool(int(re.search(r"CapEff:\s+(\w+)", status)[1], 16) >> self.CAP_SYS_RESOURCE & 1)
        own_score = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
        scores = [int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (keeper, worker)]
        self.assertEqual([-1000 if allowed else own_score, own_score], scores)
        # Each thread has it from the one that started it.
        for task in os.listdir(f"/proc/{worker}/task"):
            try:
                flags = int(processes.stat(worker, task)[6])
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended meanwhile, as gRPC's do.
            self.assertEqual(allowed, bool(flags & self.PF_MEMALLOC_NOIO), f"thread {task} has flags {flags:#x}")
        self.report(f"CAP_SYS_RESOURCE: {allowed}")

    def test_without_the_right_to_be_an_io_flusher(self):
        self.daemon.stop()
        self.daemon.wrapper = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"]
        self.daemon.start()
        catalog = SyntheticCatalog(self)
        self.daemon.mount(catalog.store, "node", catalog.ids[-1], self.work / "a")
        self.assertTrue((self.work / "a" / "PG_VERSION").read_bytes())


class RestartPostgres(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.major = postgres.installed_major()
        self.need(self.major and postgres.account(), "PostgreSQL is not installed")

    def make_backup(self):
        sockets = postgres.make_socket_dir(self.work / "production-socket")
        pgdata = postgres.make_cluster(self.work / "production", self.major)
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{sockets}'\nwal_level = replica\n")
        production = postgres.Server(pgdata, sockets, self.major)
        self.addCleanup(production.ensure_stopped)
        production.start()
        production.tool("pgbench", "-i", "-s", "2", "-q", "postgres")
        production.sql("CREATE EXTENSION amcheck; CHECKPOINT")
        store = self.work / "store"
        psql = " ".join(map(str, production.psql_command()))
        subprocess.run([self.mkcatalog(), "backup", "--catalog", store, "--instance", "production", "--pgdata", pgdata,
                        "--psql", psql, "--mode", "full", "--codec", "zlib"],
                       check=True, capture_output=True, text=True, timeout=300)
        production.stop()
        return store

    def test_pgbench_does_not_notice_that_the_worker_is_killed_each_second(self):
        store = self.make_backup()
        sockets = postgres.make_socket_dir(self.work / "clone-socket")
        mounted = self.daemon.mount(store, "production", None, self.work / "clone",
                                    owner=postgres.ACCOUNT, settings={**postgres.settings_for_clone(sockets), "fsync": "on"})
        clone = postgres.Server(self.work / "clone", sockets, self.major, mounted["startCommand"])
        self.addCleanup(clone.ensure_stopped)
        clone.start()
        with workers.Killer(self.daemon.pid, lambda: 1.0) as killer:
            bench = clone.tool("pgbench", "-c", "4", "-j", "2", "-T", str(PGBENCH_SECONDS), "-P", "1",
                               "--failures-detailed", "--log", "--log-prefix", self.work / "clone" / "pgbench_log",
                               "postgres")
        stalls = self.longest_transaction(self.work / "clone")
        case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "an answer of the API")
        resent = sum(daemon.series(self.daemon.metrics(), "pbkfs_requests_resent_total").values())
        transactions = next(line for line in bench.stdout.splitlines() if "number of transactions actually" in line)
        self.report(f"{killer.kills} kills, {resent:.0f} requests resent, longest transaction {stalls:.2f} s; "
                    f"{transactions}")
        self.assertIn("number of failed transactions: 0", bench.stdout)
        self.assertNotIn("aborted", bench.stdout + bench.stderr)
        self.assertGreaterEqual(killer.kills, PGBENCH_SECONDS // 2)
        self.assertGreater(resent, 0, "no request was in flight at any kill: the test proves nothing")
        log = clone.log_tail(100000)
        for word in ("ERROR", "PANIC", "FATAL"):
            self.assertNotIn(f"{word}:", log)
        self.check_sums(clone)
        # Every commit is there after a crash of PostgreSQL.
        history = clone.sql("SELECT count(*), sum(delta) FROM pgbench_history")
        clone.stop("immediate")
        clone.start()
        self.assertEqual(history, clone.sql("SELECT count(*), sum(delta) FROM pgbench_history"))
        self.check_sums(clone)
        clone.sql("SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
                  "WHERE a.amname = 'btree' AND c.relkind = 'i'")
        clone.stop()
        self.daemon.unmount("clone")

    def start_clone(self, target):
        sockets = postgres.make_socket_dir(self.work / "clone-socket")
        mounted = self.daemon.mount(self.make_backup(), "production", None, target, owner=postgres.ACCOUNT,
                                    settings={**postgres.settings_for_clone(sockets), "fsync": "on"})
        clone = postgres.Server(target, sockets, self.major, mounted["startCommand"])
        self.addCleanup(clone.ensure_stopped)
        clone.start()
        return clone

    def test_upgrades_under_load_and_one_that_does_not_work(self):
        program = self.work / "pbkfsd"
        self.daemon.stop()
        shutil.copy(self.daemon.program, program)
        self.daemon.program = program
        self.daemon.start()
        clone = self.start_clone(self.work / "clone")
        load = clone.start_tool("pgbench", "-n", "-c", "4", "-T", str(PGBENCH_SECONDS), "--failures-detailed",
                                "postgres", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for source, outcome in ((build_dir() / "service" / "pbkfsd", "goes on as the new program"),
                                (shutil.which("true"), "going back to the old one")):
            replace_program(program, source)
            os.kill(self.daemon.pid, signal.SIGUSR2)
            case.wait_until(lambda: outcome in self.daemon.log_tail(1000), ANSWER_SECONDS, outcome)
        self.assertIsNone(load.poll(), "the load ended before the upgrades")
        output, _ = load.communicate(timeout=300)
        self.assertEqual(0, load.returncode, output)
        self.assertIn("number of failed transactions: 0", output)
        self.check_sums(clone)
        clone.stop()
        case.wait_until(lambda: self.daemon.cli("unmount", "clone").returncode == 0, ANSWER_SECONDS, "the unmount")

    def check_sums(self, clone):
        sums = [clone.sql(f"SELECT sum({column}) FROM {table}") for column, table in
                (("abalance", "pgbench_accounts"), ("tbalance", "pgbench_tellers"), ("bbalance", "pgbench_branches"),
                 ("delta", "pgbench_history"))]
        self.assertEqual(1, len(set(sums)), sums)

    def longest_transaction(self, directory):
        """In seconds, out of pgbench's log of transactions."""
        longest = 0
        for path in directory.glob("pgbench_log*"):
            for line in path.read_text().splitlines():
                longest = max(longest, int(line.split()[2]))
        return longest / 1e6


if __name__ == "__main__":
    case.main()

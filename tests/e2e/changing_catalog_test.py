"""A catalog that changes under a mount: readers get the bytes of the mounted backup or EIO, never others, and the
mount's health tells within five seconds."""

import errno
import os
import random
import shutil
import subprocess
import threading
import time
import unittest

from pbkfs_e2e import api, case, postgres
from pbkfs_e2e.variants import VariantCatalog, read_past_the_page_cache

HEALTH_SECONDS = 5
# Beyond this the machine is too busy to tell anything.
POLL_SECONDS = 20
READERS = 2
QUERY = "SELECT count(*), sum(i), md5(string_agg(md5(filler), '' ORDER BY i)) FROM t"


class Readers:
    """Threads that read every known file of a mount over and over, and compare."""

    def __init__(self, root, expected):
        self._root, self._expected = root, expected
        self._stop = threading.Event()
        self._condition = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=[seed]) for seed in range(READERS)]
        self.problems = []
        self.refused = 0
        self.good = 0

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed):
        rng = random.Random(seed)
        paths = list(self._expected)
        while not self._stop.is_set():
            path = rng.choice(paths)
            outcome = compare(self._root, path, self._expected[path])
            with self._condition:
                if outcome is None:
                    self.good += 1
                elif outcome == errno.EIO:
                    self.refused += 1
                else:
                    self.problems.append(outcome)
                self._condition.notify_all()

    def wait(self, condition, timeout=POLL_SECONDS):
        with self._condition:
            return self._condition.wait_for(condition, timeout)


def compare(root, path, expected):
    """None where the bytes are right, EIO where that was the answer, or what is wrong."""
    try:
        have = read_past_the_page_cache(root / path)
    except OSError as error:
        return errno.EIO if error.errno == errno.EIO else f"{path}: {error}"
    return None if have == expected else f"{path}: other bytes than those of the mounted backup"


def drop_cached_pages(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


class ChangingCatalog(case.E2ECase):
    def setUp(self):
        super().setUp()
        api.need(self)
        self.api = api.Api(self.daemon.address)
        self.addCleanup(self.api.__exit__)

    def mount_history(self):
        self.catalog = VariantCatalog(self)
        self.newest = self.catalog.ids[-1]
        self.root = self.work / "m"
        self.daemon.mount(self.catalog.store, self.catalog.instance, self.newest, self.root)
        self.expected = self.catalog.content(self.newest)
        self.wait_for("SERVING")

    def wait_for(self, status, since=None, service="mount/m"):
        """Returns the seconds that it took; within HEALTH_SECONDS where `since` says when to count from."""
        case.wait_until(lambda: self.api.health_of(service) == status, POLL_SECONDS, status)
        seconds = time.monotonic() - since if since else 0
        self.assertLess(seconds, HEALTH_SECONDS + 1, "health changed too late (a second is for this test's own polls)")
        return seconds

    def check_refused(self, change):
        """`change()` makes the chain unusable while readers are at work."""
        with Readers(self.root, self.expected) as readers:
            self.assertTrue(readers.wait(lambda: readers.good >= 20), "the readers read nothing")
            begin = time.monotonic()
            change()
            seconds = self.wait_for("NOT_SERVING", begin)
            # Files that were copied into the diff at mount time stay readable; everything else is refused.
            refused_before = readers.refused
            stopped = readers.wait(lambda: readers.refused >= refused_before + 20)
        self.assertEqual([], readers.problems[:5])
        self.assertTrue(stopped, "NOT_SERVING, but reads go on without EIO (of the right bytes)")
        self.report(f"NOT_SERVING after {seconds:.1f} s; {readers.good} good reads, {readers.refused} EIO")
        self.assertIsNone(self.daemon.exit_code(), "the daemon died")
        wrong = [outcome for path, want in self.expected.items()
                 if (outcome := compare(self.root, path, want)) not in (None, errno.EIO)]
        self.assertEqual([], wrong)

    # The chain becomes unusable.

    def test_deleted_chain(self):
        self.mount_history()

        def delete():
            """In the order of pg_probackup: the newest first, files in descending order, the control file last."""
            for backup_id in reversed(self.catalog.ids):
                self.catalog.set_control(backup_id, "status", "DELETING")
                directory = self.catalog.directory / backup_id
                for path in sorted(directory.rglob("*"), reverse=True):
                    if path.name != "backup.control":
                        path.rmdir() if path.is_dir() else path.unlink()
                (directory / "backup.control").unlink()
                directory.rmdir()
        self.check_refused(delete)

    @unittest.skipUnless(case.FULL_TIER, "in the full tier")
    def test_removed_member(self):
        for position in (0, 1, -1):
            with self.subTest(position=position):
                self.mount_history()
                self.check_refused(lambda: self.catalog.remove(self.catalog.ids[position]))
                self.daemon.unmount("m", "--delete-diff")
                shutil.rmtree(self.catalog.store)
                shutil.rmtree(self.catalog.expected)

    def test_corrupt_after_a_validation(self):
        self.mount_history()
        self.check_refused(lambda: self.catalog.set_control(self.catalog.ids[1], "status", "CORRUPT"))

    def test_status_that_says_the_same_is_no_change(self):
        self.mount_history()
        with Readers(self.root, self.expected) as readers:
            readers.wait(lambda: readers.good >= 20)
            for backup_id, status in zip(self.catalog.ids, ("DONE", "OK", "DONE", "OK")):
                self.catalog.set_control(backup_id, "status", status)
            good_before = readers.good
            self.assertTrue(readers.wait(lambda: readers.good >= good_before + 200))
        self.assertEqual(([], 0), (readers.problems[:5], readers.refused))
        self.assertEqual("SERVING", self.api.health_of("mount/m"))

    def test_chain_replaced_by_another_with_the_same_ids(self):
        self.mount_history()
        other = VariantCatalog(self, "history-other", "other")
        self.assertEqual(self.catalog.ids, other.ids)
        directory, aside = self.catalog.directory, self.work / "aside"

        def replace():
            directory.rename(aside)
            other.directory.rename(directory)
            shutil.rmtree(aside)
        self.check_refused(replace)

    @unittest.skipUnless(case.FULL_TIER, "in the full tier")
    def test_members_replaced_in_place_by_others_with_the_same_ids(self):
        self.mount_history()
        other = VariantCatalog(self, "history-other", "other")

        def replace():
            for source in sorted(other.directory.rglob("*")):
                if source.is_file():
                    source.rename(self.catalog.directory / source.relative_to(other.directory))
        self.check_refused(replace)

    # Merges.

    def test_merge_by_stages(self):
        self.mount_history()
        stages = self.catalog.merge_stages(self)
        self.check_refused(lambda: self.catalog.merge_to(stages[0]))
        for stage in stages[1:]:
            with self.subTest(stage=stage):
                self.catalog.merge_to(stage)
                with Readers(self.root, self.expected) as readers:
                    done = readers.wait(lambda: readers.good + readers.refused + len(readers.problems) >= 100)
                    self.assertTrue(done, "readers hang")
                self.assertEqual([], readers.problems[:5])
        self.daemon.unmount("m", "--delete-diff")
        self.daemon.mount(self.catalog.store, self.catalog.instance, self.newest, self.root)
        wrong = [outcome for path, want in self.expected.items() if (outcome := compare(self.root, path, want))]
        self.assertEqual([], wrong, "the merged backup is not the one that was merged")

    @unittest.skipUnless(case.FULL_TIER, "in the full tier")
    def test_merge_while_readers_run_through_all_stages(self):
        self.mount_history()
        with Readers(self.root, self.expected) as readers:
            self.assertTrue(readers.wait(lambda: readers.good >= 20), "the readers read nothing")
            begin = time.monotonic()
            self.catalog.merge_to("finished")
            total = readers.good + readers.refused
            self.assertTrue(readers.wait(lambda: readers.good + readers.refused >= total + 300), "readers hang")
            self.wait_for("NOT_SERVING", begin)
        self.assertEqual([], readers.problems[:5])

    def test_stages_of_a_merge_mount_right_or_not_at_all(self):
        for stage in self.catalog_stages():
            with self.subTest(stage=stage):
                catalog = VariantCatalog(self, f"merge-{stage}", f"c-{stage}")
                for backup_id, readable in catalog.readable.items():
                    self.check_mount(catalog, backup_id, readable)

    def catalog_stages(self):
        stages = VariantCatalog.merge_stages(self)
        return stages if case.FULL_TIER else [stages[1], stages[-3], stages[-2], stages[-1]]

    def check_mount(self, catalog, backup_id, readable):
        target = self.work / "x"
        done = self.daemon.cli("mount", "--store", catalog.store, "--instance", catalog.instance, "--backup", backup_id,
                               "--target", target)
        if readable != "may":
            self.assertEqual(readable == "yes", done.returncode == 0, f"{backup_id}: {done.stderr}")
        if done.returncode != 0:
            self.assertIn(done.returncode, (3, 5), done.stderr)
            return
        try:
            wrong = [outcome for path, want in catalog.content(backup_id).items()
                     if (outcome := compare(target, path, want))]
            self.assertEqual([], wrong, f"{backup_id} of {catalog.store}")
        finally:
            self.daemon.unmount("x", "--delete-diff")

    # And comes back.

    def test_catalog_moved_away_and_back_serves_again(self):
        self.mount_history()
        for place in (self.catalog.store, self.catalog.directory, self.catalog.directory / self.catalog.ids[0]):
            with self.subTest(place=place.name):
                away = self.work / "away"
                with Readers(self.root, self.expected) as readers:
                    place.rename(away)
                    total = readers.good + readers.refused
                    readers.wait(lambda: readers.good + readers.refused >= total + 100)
                    away.rename(place)
                self.assertEqual([], readers.problems[:5])
                self.report(f"{place.name}: while away {readers.good} good reads, {readers.refused} EIO")
                self.wait_for("SERVING", time.monotonic())
                wrong = [outcome for path, want in self.expected.items() if (outcome := compare(self.root, path, want))]
                self.assertEqual([], wrong)

    def test_member_whose_control_file_comes_back_serves_again(self):
        self.mount_history()
        control = self.catalog.directory / self.catalog.ids[0] / "backup.control"
        aside = control.with_name("backup.control.aside")
        self.check_refused(lambda: control.rename(aside))
        aside.rename(control)
        self.wait_for("SERVING", time.monotonic())
        wrong = [outcome for path, want in self.expected.items() if (outcome := compare(self.root, path, want))]
        self.assertEqual([], wrong)


class ChangingCatalogUnderPostgres(case.E2ECase):
    ROWS = 60000

    def setUp(self):
        super().setUp()
        api.need(self)
        self.major = postgres.installed_major()
        self.need(self.major and postgres.account(), "PostgreSQL is not installed")
        self._back_up()

    def _back_up(self):
        sockets = postgres.make_socket_dir(self.work / "sp")
        pgdata = postgres.make_cluster(self.work / "production", self.major)
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"listen_addresses = ''\nunix_socket_directories = '{sockets}'\nfsync = off\n"
                       "shared_buffers = 1MB\nautovacuum = off\n")
        production = postgres.Server(pgdata, sockets, self.major)
        self.addCleanup(production.ensure_stopped)
        production.start()
        production.sql(f"CREATE TABLE t AS SELECT i, repeat(md5(i::text), 8) AS filler "
                       f"FROM generate_series(1, {self.ROWS}) i; VACUUM FREEZE t;")
        self.answer = production.sql(QUERY)
        self.table = production.sql("SELECT pg_relation_filepath('t')")
        self.store = self.work / "store"
        psql = " ".join(map(str, production.psql_command()))
        for mode in ("full", "delta"):
            subprocess.run([self.mkcatalog(), "backup", "--catalog", self.store, "--instance", "i", "--pgdata", pgdata,
                            "--psql", psql, "--mode", mode], check=True, capture_output=True, text=True, timeout=300)
        production.stop()

    def _mount_and_start(self):
        sockets = postgres.make_socket_dir(self.work / "sc")
        settings = {**postgres.settings_for_clone(sockets), "shared_buffers": "1MB", "restart_after_crash": "off"}
        mount = self.daemon.mount(self.store, "i", None, self.work / "clone", owner="postgres:postgres",
                                  settings=settings)
        server = postgres.Server(self.work / "clone", sockets, self.major, mount["startCommand"])
        self.addCleanup(server.ensure_stopped)
        server.start()
        self.assertEqual(self.answer, server.sql(QUERY))
        return server

    def _members(self):
        return sorted(path for path in (self.store / "backups" / "i").iterdir() if path.is_dir())

    def _set_status(self, status):
        for member in self._members():
            control = member / "backup.control"
            text = control.read_text().replace("status = OK", f"status = {status}")
            temporary = member / "backup.control.tmp"
            temporary.write_text(text)
            temporary.rename(control)

    def _check(self, change):
        server = self._mount_and_start()
        with api.Api(self.daemon.address) as daemon:
            begin = time.monotonic()
            change()
            case.wait_until(lambda: daemon.health_of("mount/clone") == "NOT_SERVING", POLL_SECONDS, "NOT_SERVING")
            seconds = time.monotonic() - begin
        self.assertLess(seconds, HEALTH_SECONDS + 1)
        refused = 0
        for _ in range(3):
            drop_cached_pages(self.work / "clone" / self.table)
            done = server.tool("psql", "-X", "-q", "-A", "-t", "-d", "postgres", "-c", QUERY, check=False)
            if done.returncode == 0:
                self.assertEqual(self.answer, done.stdout.rstrip("\n"), "PostgreSQL got other bytes")
            else:
                refused += 1
        self.assertEqual(3, refused, "PostgreSQL answers from a chain that is gone")
        self.report(f"NOT_SERVING after {seconds:.1f} s, then every query of cold pages failed")

    def test_server_gets_errors_from_a_deleted_chain(self):
        self._check(lambda: [shutil.rmtree(member) for member in self._members()])

    @unittest.skipUnless(case.FULL_TIER, "in the full tier")
    def test_server_gets_errors_from_a_chain_that_is_being_merged(self):
        self._check(lambda: self._set_status("MERGING"))

    @unittest.skipUnless(case.FULL_TIER, "in the full tier")
    def test_server_gets_errors_from_a_corrupt_chain(self):
        self._check(lambda: self._set_status("CORRUPT"))


if __name__ == "__main__":
    case.main()

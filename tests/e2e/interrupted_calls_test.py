"""The worker dies in the middle of a Mount, an Unmount or a DeleteDiff, at a chosen system call: nothing is left half done."""

import collections
import concurrent.futures
import os
import shutil
import signal

from pbkfs_e2e import case, mounts, workers
from pbkfs_e2e.daemon import Daemon, mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

# Generous: a loaded machine may be slow, but nothing may hang.
ANSWER_SECONDS = 60
# What a Mount and an Unmount change, or ask the keeper to change, they do with one of these.
CALLS = ("renameat", "mkdirat", "mkdir", "fchownat", "fdatasync", "fsync", "unlinkat", "sendmsg")
# In the quick tier: the registry, the keeper, and what an Unmount removes.
QUICK_CALLS = ("renameat", "sendmsg", "unlinkat")
# No call does one thing more often.
MOST = 60


class InterruptedCalls(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.need(shutil.which("strace"), "strace is not installed")
        # Every kill is one of the test's own.
        self.daemon.stop()
        self.daemon.start("--restart-limit", "1000")
        self.catalog = SyntheticCatalog(self)
        self.target = self.work / "a"
        self.diff = self.work / "diff"

    def wait_for_next_worker(self, last):
        workers.wait_for_worker(self.daemon.pid, other_than=last)
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the next worker having cleaned up")

    def kills_in(self, prepare, *arguments):
        """After prepare() runs the client, and kills the worker at one system call after the other; yields what the
        client said each time that it was killed."""
        for name in CALLS if case.FULL_TIER else QUICK_CALLS:
            for number in range(1, MOST):
                prepare()
                with workers.KillAt(self.daemon.pid, name, number) as kill:
                    done = self.daemon.cli(*arguments)
                    killed = kill.killed()
                if done.returncode == 0 and not killed:
                    self.report(f"{number - 1} kills at {name}")
                    break
                self.wait_for_next_worker(kill.worker)
                yield f"{name} {number}", done
            else:
                self.fail(f"no end of {name}")

    def check_nothing_is_left(self, where):
        self.assertEqual([], self.daemon.call("list").get("mounts", []), where)
        self.assertEqual([], list((self.daemon.state_dir / "mounts").iterdir()), where)
        self.assertFalse(mounts.is_mounted(self.target), where)
        self.assertFalse(self.target.exists(), where)
        self.assertFalse(self.diff.exists(), where)

    def mount(self):
        self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.target, diff=self.diff)

    def test_a_mount_whose_worker_died_is_complete_or_was_never_there(self):
        arguments = mount_arguments(self.catalog.store, "node", self.catalog.ids[-1], self.target, diff=self.diff)
        undone = complete = 0
        for where, done in self.kills_in(lambda: self.daemon.unmount("a", "--delete-diff"), *arguments):
            if self.daemon.call("list").get("mounts"):
                self.assertTrue((self.target / "PG_VERSION").exists(), where)
                self.daemon.unmount("a", "--delete-diff")
                complete += 1
            else:
                self.assertEqual(6, done.returncode, f"{where}: {done.stderr}")
                undone += 1
            self.check_nothing_is_left(where)
        self.report(f"{undone} mounts undone, {complete} complete")
        self.assertGreater(undone, 0)

    def test_an_unmount_whose_worker_died_still_deletes_the_diff(self):
        finished = 0
        for where, done in self.kills_in(self.mount, "unmount", "a", "--delete-diff"):
            self.assertIn(done.returncode, (0, 6), f"{where}: {done.stderr}")
            # Before the kernel was asked nothing has happened; after that the next worker does the rest.
            if self.daemon.call("list").get("mounts"):
                self.assertTrue((self.target / "PG_VERSION").exists(), where)
                self.assertTrue(self.diff.exists(), where)
            else:
                self.check_nothing_is_left(where)
                finished += 1
        self.report(f"{finished} unmounts finished by the next worker")
        self.assertGreater(finished, 1)
        self.daemon.unmount("a", "--delete-diff")

    def make_diff(self):
        """One that was written to."""
        if not self.diff.exists():
            self.mount()
            (self.target / "mine").write_text("mine")
            self.daemon.unmount("a")

    def check_the_diff_is_whole_or_deleted(self, where):
        """Returns what of both."""
        listed = [diff["state"] for diff in self.daemon.call("diff", "list", "--dir", self.diff).get("diffs", [])
                  if diff["path"] == str(self.diff)] if self.diff.exists() else []
        checked = self.daemon.cli("diff", "check", self.diff)
        self.mount()
        whole = (self.target / "mine").exists()
        self.daemon.unmount("a")
        self.daemon.check_diff(self.diff)
        if whole:
            self.assertEqual((["DIFF_STATE_CLEAN"], 0), (listed, checked.returncode), f"{where}: {checked.stderr}")
            return "whole"
        # Without its lock and its binding it is an empty directory.
        self.assertIn(listed, (["DIFF_STATE_HALF_DELETED"], []), where)
        self.assertIn(checked.returncode, (3, 5), f"{where}: {checked.stderr}")
        if listed:
            self.assertIn(f"pbkfs diff delete {self.diff}", checked.stderr)
        self.daemon.call("diff", "delete", self.diff)
        return "half deleted" if listed else "deleted"

    def test_a_diff_whose_deletion_died_is_whole_or_deleted(self):
        found = collections.Counter()
        for where, _ in self.kills_in(self.make_diff, "diff", "delete", self.diff):
            found[self.check_the_diff_is_whole_or_deleted(where)] += 1
        self.report(f"{dict(found)}")
        self.assertGreater(found["half deleted"], 1)

    def test_the_next_worker_ends_a_deletion_in_the_state_directory(self):
        diff = self.daemon.state_dir / "diffs" / "a"
        for number in range(1, MOST):
            self.daemon.mount(self.catalog.store, "node", self.catalog.ids[-1], self.target)
            self.daemon.unmount("a")
            with workers.KillAt(self.daemon.pid, "unlinkat", number) as kill:
                done = self.daemon.cli("diff", "delete", "a")
            if done.returncode == 0 and not kill.killed():
                break
            self.wait_for_next_worker(kill.worker)
            self.assertFalse(diff.exists(), number)
        self.report(f"{number - 1} kills")
        self.assertGreater(number, 5)

    def test_the_keeper_is_done_with_a_mount_before_the_next_worker_undoes_it(self):
        # Its mount(2) and umount(2) are slow, so that the next worker would look in between.
        arguments = mount_arguments(self.catalog.store, "node", self.catalog.ids[-1], self.target, diff=self.diff)
        slowly = workers.Traced(self.daemon.pid, "mount,umount2", "delay_enter=1000000")
        worker = workers.wait_for_worker(self.daemon.pid)
        with slowly, concurrent.futures.ThreadPoolExecutor() as pool:
            made = pool.submit(self.daemon.cli, *arguments)
            case.wait_until(self.target.exists, ANSWER_SECONDS, "the target of the mount")
            os.kill(worker, signal.SIGKILL)
            self.assertEqual(6, made.result().returncode, made.result().stderr)
            self.wait_for_next_worker(worker)
        self.check_nothing_is_left("killed while the keeper mounts")
        with workers.KillAt(self.daemon.pid, "renameat", 2) as kill, slowly:
            done = self.daemon.cli(*arguments)
            self.assertEqual(6, done.returncode, done.stderr)
            self.wait_for_next_worker(kill.worker)
        self.check_nothing_is_left("killed when it has mounted")

    def test_an_unmount_that_the_keeper_ends_after_the_death_of_the_worker_is_finished(self):
        self.mount()
        worker = workers.wait_for_worker(self.daemon.pid)
        with workers.Traced(self.daemon.pid, "umount2", "delay_enter=1000000"), \
                concurrent.futures.ThreadPoolExecutor() as pool:
            ended = pool.submit(self.daemon.cli, "unmount", "a", "--delete-diff")
            case.wait_until(lambda: self.daemon.call("list")["mounts"][0]["state"] == "MOUNT_STATE_DRAINING",
                            ANSWER_SECONDS, "the unmount having begun")
            os.kill(worker, signal.SIGKILL)
            self.assertEqual(6, ended.result().returncode, ended.result().stderr)
            self.wait_for_next_worker(worker)
            case.wait_until(lambda: not mounts.is_mounted(self.target), ANSWER_SECONDS, "the end of the keeper's umount(2)")
            case.wait_until(lambda: not self.daemon.call("list").get("mounts"), ANSWER_SECONDS, "the end of the mount")
        self.check_nothing_is_left("killed while the keeper unmounts")

    def use_meanwhile(self, backup):
        """A Mount of the newest backup begins, and is stopped when it has made the diff's directory; another daemon mounts
        `backup` with that diff, writes, and unmounts. What the client of the first one got."""
        (self.work / "other").mkdir()
        other = Daemon(self.work / "other", [self.work])
        other.start()
        self.addCleanup(other.stop)
        arguments = mount_arguments(self.catalog.store, "node", self.catalog.ids[-1], self.target, diff=self.diff)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            with workers.StopAt(self.daemon.pid, "mkdirat", 1):
                made = pool.submit(self.daemon.cli, *arguments)
                case.wait_until(self.diff.exists, ANSWER_SECONDS, "the system call that stops the worker")
                other.mount(self.catalog.store, "node", backup, self.work / "b", diff=self.diff)
                (self.work / "b" / "mine").write_text("mine")
                other.unmount("b")
            return made.result()

    def assert_it_was_kept(self, backup):
        self.assertEqual([], self.daemon.call("list").get("mounts", []))
        self.daemon.mount(self.catalog.store, "node", backup, self.target, diff=self.diff)
        self.assertEqual("mine", (self.target / "mine").read_text())

    def test_a_diff_that_another_daemon_makes_meanwhile_is_not_deleted(self):
        refused = self.use_meanwhile(self.catalog.ids[0])
        self.assertEqual(5, refused.returncode, refused.stderr)
        self.assertIn("DIFF_BOUND_ELSEWHERE", refused.stderr)
        self.assert_it_was_kept(self.catalog.ids[0])

    def test_a_diff_of_the_same_backup_that_another_daemon_makes_meanwhile_is_not_taken_for_new(self):
        refused = self.use_meanwhile(self.catalog.ids[-1])
        self.assertEqual(5, refused.returncode, refused.stderr)
        self.assertIn("DIFF_IN_USE", refused.stderr)
        self.assert_it_was_kept(self.catalog.ids[-1])

    def test_an_empty_diff_directory_is_empty_again(self):
        self.diff.mkdir(mode=0o700)
        with workers.KillAt(self.daemon.pid, "renameat", 2):
            done = self.daemon.cli(*mount_arguments(self.catalog.store, "node", self.catalog.ids[-1], self.target,
                                                    diff=self.diff))
        self.assertEqual(6, done.returncode, done.stderr)
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the next worker having cleaned up")
        self.assertEqual([], self.daemon.call("list").get("mounts", []))
        self.assertEqual([], list(self.diff.iterdir()))


if __name__ == "__main__":
    case.main()

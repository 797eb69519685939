"""What a daemon makes of the mounts of an earlier one: after a reboot, and beside another daemon."""

import json
import os
import shutil
import signal
import subprocess

from pbkfs_e2e import api, case, mounts, workers
from pbkfs_e2e.daemon import Daemon, mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

ANSWER_SECONDS = 60
PENDING = 4
OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


class Restore(case.E2ECase):
    def setUp(self):
        super().setUp()
        api.need(self)
        self.catalog = SyntheticCatalog(self)

    def mount_request(self, name, store=None, **fields):
        mount_id = fields.pop("mount_id", name)
        diff_dir = fields.pop("diff_dir", self.work / f"diff-{mount_id}")
        return api.MESSAGES.MountRequest(mount_id=mount_id, store=str(store or self.catalog.store), instance="node",
                                         target=str(self.work / name), diff_dir=str(diff_dir), **fields)

    def mount(self, name, **fields):
        with api.Api(self.daemon.address) as daemon:
            return daemon.mount.Mount(self.mount_request(name, **fields), timeout=api.CALL_SECONDS)

    def refusal(self, name, **fields):
        with api.Api(self.daemon.address) as daemon:
            return api.refusal_of(daemon.mount.Mount, self.mount_request(name, **fields))

    def record(self, name):
        return self.daemon.state_dir / "mounts" / f"{name}.json"

    def crash(self):
        """The power goes: neither keeper nor worker can do anything about their mounts."""
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait()

    def reboot(self):
        """After crash(): the next boot is another one, and has none of the mounts."""
        mounts.detach_below(self.work)
        for path in (self.daemon.state_dir / "mounts").glob("*.json"):
            record = json.loads(path.read_text())
            path.write_text(json.dumps({**record, "bootId": OTHER_BOOT}))

    def start(self):
        self.daemon.start()
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the mounts of the last daemon having been tried")

    def listed(self):
        return sorted(mount["mountId"] for mount in self.daemon.call("list").get("mounts", []))

    def test_a_table_of_mounts_after_a_reboot(self):
        own_store = self.work / "own-store"
        shutil.copytree(self.catalog.store, own_store)
        (self.work / "there").mkdir()
        for name in ("forgotten", "half", "half-used", "dropped"):
            self.mount(name)
        for name in ("back", "there", "occupied", "no-diff"):
            self.mount(name, restore=True)
        for name in ("forgotten", "back", "there", "no-diff"):
            (self.work / name / "kept").write_text(name)
        self.mount("read-only", restore=True, read_only=True)
        self.mount("no-backup", restore=True, store=own_store)
        self.crash()
        self.reboot()
        for name in ("half", "half-used"):
            binding = json.loads((self.work / f"diff-{name}" / "binding.json").read_text())
            self.change_record(name, begun=True, madeTarget=True, madeDiff=True, diffMaker=binding["maker"])
        self.use_elsewhere("half-used")
        self.change_record("dropped", deleteDiff=True)
        (self.work / "occupied" / "somebody-elses").write_text("file")
        shutil.move(self.work / "diff-no-diff", self.work / "away")
        shutil.move(own_store, self.work / "store-away")
        self.start()

        self.assertEqual(["back", "read-only", "there"], self.listed())
        for name in ("back", "there"):
            self.assertEqual(name, (self.work / name / "kept").read_text())
        with self.assertRaises(OSError):
            (self.work / "read-only" / "new").write_text("x")
        # Without `restore` it ended with the boot; its diff is kept for whoever mounts it again.
        self.assertFalse(self.record("forgotten").exists())
        self.assertFalse((self.work / "forgotten").exists(), "the target that was made for it")
        self.mount("forgotten")
        self.assertEqual("forgotten", (self.work / "forgotten" / "kept").read_text())
        # What had begun is undone, what was to be deleted is deleted.
        for name in ("half", "dropped"):
            self.assertFalse(self.record(name).exists(), name)
            self.assertFalse((self.work / name).exists(), name)
            self.assertFalse((self.work / f"diff-{name}").exists(), name)
        # … but for what somebody else has used since.
        self.assertFalse(self.record("half-used").exists())
        self.mount("half-used")
        self.assertEqual("half-used", (self.work / "half-used" / "kept").read_text())
        # What can't be made again is named, and waits.
        log = self.daemon.log_path.read_text()
        for name, cause in (("occupied", "TARGET_NOT_EMPTY"), ("no-diff", "diff-no-diff is gone"),
                            ("no-backup", "own-store")):
            line = next(line for line in log.splitlines() if f"mount {name} is not made again" in line)
            self.assertIn(cause, line)
            self.assertTrue(self.record(name).exists(), name)
        self.assertEqual(["somebody-elses"], os.listdir(self.work / "occupied"))
        self.assertFalse((self.work / "diff-no-diff").exists(), "no new diff where the old one was")

        # The cause is gone: the same request, and the next start, make the mount.
        shutil.move(self.work / "away", self.work / "diff-no-diff")
        self.mount("no-diff", restore=True)
        self.assertEqual("no-diff", (self.work / "no-diff" / "kept").read_text())
        shutil.move(self.work / "store-away", own_store)
        # Somebody who does not want it any more says so.
        answer = self.daemon.cli("unmount", "occupied", "--delete-diff")
        self.assertEqual("occupied was to be mounted again, and is forgotten; its diff is deleted\n", answer.stdout)
        self.assertFalse(self.record("occupied").exists())
        self.assertFalse((self.work / "diff-occupied").exists())
        self.daemon.stop()
        self.start()
        self.assertEqual(["back", "no-backup", "no-diff", "read-only", "there"], self.listed())

    def use_elsewhere(self, name):
        """Another daemon mounts the diff, writes, and unmounts."""
        (self.work / "other").mkdir()
        other = Daemon(self.work / "other", [self.work])
        other.start()
        self.addCleanup(other.stop)
        target = self.work / "elsewhere"
        other.mount(self.catalog.store, "node", None, target, diff=self.work / f"diff-{name}")
        (target / "kept").write_text(name)
        other.unmount("elsewhere")

    def change_record(self, name, **fields):
        record = json.loads(self.record(name).read_text())
        self.record(name).write_text(json.dumps({**record, **fields}))

    def test_a_mount_that_could_not_be_made_again_is_neither_lost_nor_begun_anew(self):
        place = self.work / "place"
        place.mkdir()
        self.mount("place/a", mount_id="a", restore=True)
        (place / "a" / "kept").write_text("kept")
        self.crash()
        self.reboot()
        diff, away = self.work / "diff-a", self.work / "away"
        diff.rename(away)
        self.start()
        for validate_only in (True, False):
            refusal = self.refusal("place/a", mount_id="a", restore=True, validate_only=validate_only)
            self.assertEqual("DIFF_NOT_FOUND", refusal.reason)
        self.assertTrue(self.record("a").exists())
        self.assertFalse(diff.exists())

        away.rename(diff)
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        self.addCleanup(mounts.detach, place)
        for other_diff in (diff, self.work / "other"):
            self.assertIn("Read-only file system", self.refusal("place/a", mount_id="a", diff_dir=other_diff).message)
            self.assertEqual(str(diff), json.loads(self.record("a").read_text())["diffPath"], other_diff)
        mounts.detach(place)
        self.mount("place/a", mount_id="a", restore=True)
        self.assertEqual("kept", (place / "a" / "kept").read_text())

    def test_a_mount_that_could_not_be_made_again_is_forgotten_by_its_target(self):
        self.mount("a", restore=True)
        self.crash()
        self.reboot()
        (self.work / "diff-a").rename(self.work / "away")
        self.start()
        answer = self.daemon.cli("unmount", self.work / "a")
        self.assertEqual("a was to be mounted again, and is forgotten", answer.stdout.split(";")[0])
        self.assertFalse(self.record("a").exists())

    def test_stale_mount_points_are_taken_over(self):
        self.mount("a")
        (self.work / "a" / "kept").write_text("a")
        self.crash()
        self.assertTrue(mounts.is_mounted(self.work / "a"), "the kernel's side is still there, and dead")
        self.start()
        self.assertEqual("a", (self.work / "a" / "kept").read_text())
        self.assertEqual(1, mounts.all_targets().count(str(self.work / "a")))

    def test_a_record_that_cannot_be_read_is_named_and_left(self):
        self.mount("a")
        self.daemon.unmount("a")
        for name, content in (("broken", "{"), ("newer", '{"version": 99}'), ("other", '{"version": 1}')):
            self.record(name).write_text(content)
        self.daemon.stop()
        self.start()
        self.assertEqual([], self.listed())
        for name in ("broken", "newer", "other"):
            self.assertIn(f"{name}.json is not used", self.daemon.log_path.read_text())
            self.assertTrue(self.record(name).exists())

    def test_what_a_mount_needs_is_nobody_elses_until_it_is_made_again(self):
        """Mounts are made again in their order, and the first one waits for a dead mount that does not answer."""
        for name in ("a", "m"):
            self.mount(name)
        self.crash()
        mounts.detach_below(self.work)
        other = Daemon(self.work / "other", [self.work])
        other.work.mkdir()
        other.start()
        self.addCleanup(other.stop)
        other.mount(self.catalog.store, "node", None, self.work / "a", diff=self.work / "other-diff")
        worker = workers.wait_for_worker(other.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            self.daemon.start()
            self.assertFalse(self.daemon.is_ready())
            for words in (("diff", "delete", self.work / "diff-m"), ("diff", "check", self.work / "diff-m", "--repair"),
                          ("unmount", "m"),
                          mount_arguments(self.catalog.store, "node", None, self.work / "n", diff=self.work / "diff-m")):
                done = self.daemon.cli(*words)
                self.assertFalse(self.daemon.is_ready(), "the test was too slow to see anything")
                self.assertEqual(PENDING, done.returncode, f"{words}: {done.stderr}")
        finally:
            os.kill(worker, signal.SIGCONT)
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the mounts having been tried")
        self.assertEqual(["m"], self.listed())
        other.unmount("a")

    def test_a_state_directory_has_one_daemon(self):
        self.mount("a")
        other = Daemon(self.work / "other", [self.work])
        other.work.mkdir()
        other.state_dir = self.daemon.state_dir
        with self.assertRaisesRegex(AssertionError, f"is in use by another pbkfsd \\(pid {self.daemon.pid}\\)"):
            other.start()
        self.assertEqual(["a"], self.listed())
        self.assertTrue((self.work / "a" / "PG_VERSION").exists())


if __name__ == "__main__":
    case.main()

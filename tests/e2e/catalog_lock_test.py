"""Mounted backups are registered with pg_probackup's shared lock, as their owner, and leave no trace afterwards.

The second locker here follows the format document, not the product's code.
"""

import contextlib
import os
import pathlib
import select
import signal
import subprocess

from pbkfs_e2e import case, mounts, workers
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

PRECONDITION = 5
OWNER = 54321  # Of the catalog; no account of the machine.
STRANGER = 54322


def process_alive(pid):
    """As user `OWNER` sees it: None = not allowed to say, which makes pg_probackup give up."""
    code = f"import os\ntry:\n    os.kill({pid}, 0)\nexcept ProcessLookupError:\n    raise SystemExit(1)\n"
    done = subprocess.run(["/usr/bin/python3", "-c", code], user=OWNER, group=OWNER, extra_groups=[], cwd="/",
                          capture_output=True)
    if b"PermissionError" in done.stderr:
        return None
    return done.returncode == 0


class CatalogLock(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        self._give_to(OWNER)
        self.directories = [self.catalog.directory / name for name in self.catalog.ids]

    def _give_to(self, uid):
        for path in [self.catalog.store, *self.catalog.store.rglob("*")]:
            os.chown(path, uid, uid)

    def mount(self, *extra, name="m"):
        return self.daemon.mount(self.catalog.store, self.catalog.instance, None, self.work / name,
                                 diff=self.work / f"diff-{name}", extra=extra)

    def refused(self, *extra):
        done = self.daemon.cli(*mount_arguments(self.catalog.store, self.catalog.instance, None, self.work / "m",
                                                diff=self.work / "diff-m", extra=extra))
        self.assertEqual(PRECONDITION, done.returncode, done.stderr)
        self.assertIn("CATALOG_LOCK_FAILED", done.stderr)
        self.assertFalse(mounts.is_mounted(self.work / "m"))

    def holders(self, directory):
        path = directory / "backup_ro.pid"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def lock_files(self):
        return [str(path) for directory in self.directories for path in directory.iterdir()
                if path.name.startswith(("backup.pid", "backup_ro.pid"))]

    def holder(self):
        """The one process that holds all members."""
        found = {tuple(self.holders(directory)) for directory in self.directories}
        self.assertEqual(1, len(found), found)
        pids = found.pop()
        self.assertEqual(1, len(pids), pids)
        return pids[0]

    @contextlib.contextmanager
    def another_process(self, uid=OWNER):
        """A live process of that user, as pg_probackup would be."""
        other = subprocess.Popen(["sleep", "1000"], user=uid, group=uid, extra_groups=[], cwd="/")
        try:
            yield other.pid
        finally:
            other.kill()
            other.wait()

    def write(self, directory, name, text, uid=OWNER):
        path = directory / name
        path.write_text(text)
        path.chmod(0o600)
        os.chown(path, uid, uid)
        return path

    def test_every_member_is_held_by_a_live_process_of_the_owner(self):
        self.assertTrue(self.mount()["catalogLocked"])
        pid = self.holder()
        self.assertIs(True, process_alive(pid), "pg_probackup must see the holder as alive, and be allowed to ask")
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        self.assertIn(f"Uid:\t{OWNER}\t{OWNER}\t{OWNER}\t{OWNER}", status)
        self.assertIn("Groups:\t \n", status)
        for directory in self.directories:
            self.assertFalse((directory / "backup.pid").exists(), "the exclusive lock is held for a moment only")
            file = (directory / "backup_ro.pid").stat()
            self.assertEqual((OWNER, OWNER, 0o600), (file.st_uid, file.st_gid, file.st_mode & 0o777))
        self.daemon.unmount("m")
        self.assertEqual([], self.lock_files())
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "a holder without locks has nothing to do")

    def test_mounts_of_one_backup_share_the_lock(self):
        self.mount(name="a")
        self.mount(name="b")
        self.holder()
        self.daemon.unmount("a")
        self.holder()
        self.daemon.unmount("b")
        self.assertEqual([], self.lock_files())

    def test_other_holders_stay_and_dead_ones_go(self):
        with self.another_process() as other:
            for directory in self.directories:
                self.write(directory, "backup_ro.pid", f"{other}\n4194303\n")
            self.write(self.directories[0], "backup.pid", "4194303\n")
            self.assertTrue(self.mount()["catalogLocked"])
            for directory in self.directories:
                pids = self.holders(directory)
                self.assertEqual(2, len(pids), pids)
                self.assertEqual(other, pids[0])
            self.daemon.unmount("m")
            for directory in self.directories:
                self.assertEqual([other], self.holders(directory))

    def test_a_backup_that_is_being_worked_on_does_not_hang_the_mount(self):
        for uid in (OWNER, STRANGER):
            with self.another_process(uid) as other:
                path = self.write(self.directories[1], "backup.pid", f"{other}\n", uid)
                if uid == OWNER:
                    self.refused("--catalog-lock", "required")
                else:
                    mount = self.mount()
                    self.assertFalse(mount.get("catalogLocked", False))
                    self.assertIn("catalog is not locked", " ".join(mount["warnings"]))
                    self.daemon.unmount("m")
                self.assertEqual(f"{other}\n", path.read_text(), "somebody else's lock")
                path.unlink()
                self.assertEqual([], self.lock_files())

    def test_an_empty_lock_file_of_the_past_is_stale(self):
        path = self.write(self.directories[0], "backup.pid", "")
        os.utime(path, (1e9, 1e9))
        self.assertTrue(self.mount("--catalog-lock", "required")["catalogLocked"])
        self.daemon.unmount("m")
        self.assertEqual([], self.lock_files())

    def test_a_read_only_catalog_is_mounted_without_lock(self):
        store = self.work / "ro"
        store.mkdir()
        subprocess.run(["mount", "--bind", self.catalog.store, store], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", store], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)
        self.catalog.store = store
        self.refused("--catalog-lock", "required")
        self.refused("--catalog-lock", "required", "--dry-run")
        mount = self.mount()
        self.assertFalse(mount.get("catalogLocked", False))
        self.assertIn("read-only", " ".join(mount["warnings"]))
        self.daemon.unmount("m")

    def test_a_directory_that_its_owner_may_not_write_is_mounted_without_lock(self):
        for directory in self.directories:
            directory.chmod(0o500)
        self.refused("--catalog-lock", "required")
        self.assertFalse(self.mount().get("catalogLocked", False))
        self.daemon.unmount("m")
        self.assertEqual([], self.lock_files())

    def test_off_touches_nothing(self):
        before = {path: path.stat().st_mtime_ns for path in self.directories}
        mount = self.mount("--catalog-lock", "off")
        self.assertFalse(mount.get("catalogLocked", False))
        self.assertNotIn("not locked", " ".join(mount.get("warnings", [])))
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in self.directories})
        self.daemon.unmount("m")

    def test_a_dry_run_changes_nothing(self):
        before = {path: path.stat().st_mtime_ns for path in self.directories}
        self.assertTrue(self.mount("--dry-run")["catalogLocked"])
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in self.directories})

    def test_a_holder_that_dies_shows_in_the_mount(self):
        self.mount()
        os.kill(self.holder(), signal.SIGKILL)
        case.wait_until(lambda: not self.daemon.call("list")["mounts"][0].get("catalogLocked", False), 10,
                        "the mount saying that its catalog is no longer locked")
        self.daemon.unmount("m")
        self.mount()
        self.daemon.unmount("m")
        self.assertEqual([], self.lock_files())

    def test_a_daemon_that_is_killed_leaves_no_lock(self):
        self.mount()
        self._kill_daemon()
        case.wait_until(lambda: not self.lock_files(), 10, "the holder giving back its locks")
        self.daemon.start()

    def test_what_a_killed_daemon_and_its_holder_left_is_removed_at_the_next_start(self):
        self.mount()
        pid = self.holder()
        os.kill(pid, signal.SIGSTOP)  # Else it would give back its locks when the daemon dies.
        self._kill_daemon()
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(len(self.directories), len(self.lock_files()))
        self.write(self.directories[0], "backup.pid", f"{pid}\n")
        with self.another_process() as other:
            self.write(self.directories[0], "backup_ro.pid", f"{pid}\n{other}\n")
            self.daemon.start()
            case.wait_until(lambda: self.holders(self.directories[0]) == [other], 60, "the dead holder being removed")
        (self.directories[0] / "backup_ro.pid").unlink()
        case.wait_until(lambda: self.lock_files() == [], 60, "the locks of the daemon that was killed being removed")

    def test_a_lock_that_can_not_be_removed_now_is_removed_at_a_later_start(self):
        self.mount()
        pid = self.holder()
        os.kill(pid, signal.SIGSTOP)
        self._kill_daemon()
        os.kill(pid, signal.SIGKILL)
        with self.another_process() as other:
            exclusive = self.write(self.directories[-1], "backup.pid", f"{other}\n")
            self.daemon.start()
            case.wait_until(lambda: "a lock of a former run stays" in self.daemon.log_path.read_text(), 60,
                            "the daemon giving up")
            self.assertEqual([str(exclusive), str(exclusive.with_name("backup_ro.pid"))], sorted(self.lock_files()))
            exclusive.unlink()
        self.daemon.stop()
        self.daemon.start()
        case.wait_until(lambda: self.lock_files() == [], 60, "the lock being removed by the next daemon")

    def _kill_daemon(self):
        worker = os.pidfd_open(workers.wait_for_worker(self.daemon.pid))
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.stop()
        # Until it is gone too, it keeps its record of the locks up to date.
        self.assertTrue(select.select([worker], [], [], 60)[0])
        os.close(worker)
        mounts.detach_below(self.work)
        # The next daemon would make the mount again, and lock for it.
        for record in (self.daemon.state_dir / "mounts").iterdir():
            record.unlink()


if __name__ == "__main__":
    case.main()

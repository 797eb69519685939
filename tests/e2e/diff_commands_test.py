"""pbkfs diff list, check and delete, and ephemeral mounts, as users run them."""

import os
import signal
import subprocess

from pbkfs_e2e import case, mounts
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

FAILED, USAGE, NOT_FOUND, PRECONDITION, DATA_LOSS = 1, 2, 3, 5, 7


class DiffCommands(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        self.target = self.work / "t"
        self.diff = self.daemon.state_dir / "diffs" / "t"

    def mount(self, *extra, diff=None):
        return self.daemon.mount(self.catalog.store, self.catalog.instance, None, self.target, diff=diff, extra=extra)

    def write_and_unmount(self, diff=None):
        self.mount(diff=diff)
        (self.target / "mine").write_bytes(b"x" * 20000)
        self.daemon.unmount("t")

    def listed(self, *arguments):
        """{path: diff} of `diff list`."""
        return {diff["path"]: diff for diff in self.daemon.call("diff", "list", *arguments).get("diffs", [])}

    def state(self, path):
        return self.listed()[str(path)]["state"].removeprefix("DIFF_STATE_")

    def check(self, *arguments):
        """The answer of `diff check`, whatever it says."""
        return self.daemon.cli("-o", "json", "diff", "check", *arguments)

    def codes(self, *arguments):
        return [finding["code"] for finding in self.daemon.call("diff", "check", *arguments).get("findings", [])]

    def assert_refused(self, done, code, reason, mentions=()):
        self.assertEqual(code, done.returncode, done.stderr)
        self.assertEqual("", done.stdout)
        for text in (reason, *mentions):
            self.assertIn(str(text), done.stderr)

    def kill_daemon(self):
        """SIGKILL for the daemon and whatever it started; another one, that makes no mount again, takes over the socket."""
        pids = [self.daemon.pid]
        for pid in pids:
            children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
            pids += map(int, children.stdout.split())
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.daemon.stop()
        mounts.detach_below(self.work)
        for record in (self.daemon.state_dir / "mounts").glob("*.json"):
            record.unlink()
        self.daemon.start()

    # The list.

    def test_list_follows_a_diff_through_its_life(self):
        self.assertEqual({}, self.listed())
        self.mount()
        diff = self.listed()[str(self.diff)]
        self.assertEqual(("DIFF_STATE_IN_USE", "t", True), (diff["state"], diff["mountId"], diff["inUse"]))
        self.assertEqual((self.catalog.instance, self.catalog.ids[-1]), (diff["instance"], diff["backupId"]))
        self.assertGreater(int(diff["allocatedBytes"]), 0)
        self.assertIn("lastUseTime", diff)
        self.daemon.unmount("t")
        diff = self.listed()[str(self.diff)]
        self.assertEqual(("DIFF_STATE_CLEAN", "", False), (diff["state"], diff["mountId"], diff["inUse"]))
        self.mount()
        self.kill_daemon()
        self.assertEqual("UNCLEAN", self.state(self.diff))
        self.assertIn("NOT_CLEAN", self.codes("t"))
        self.mount()
        self.assertEqual("IN_USE", self.state(self.diff))
        self.daemon.unmount("t")
        self.assertEqual("CLEAN", self.state(self.diff))
        table = self.daemon.cli("diff", "list")
        self.assertEqual(0, table.returncode)
        self.assertIn(str(self.diff), table.stdout)

    def test_list_of_other_directories(self):
        elsewhere = self.work / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "no-diff").mkdir()
        diff = elsewhere / "d"
        self.mount(diff=diff)
        self.assertIn(str(diff), self.listed())  # Because it is mounted.
        self.daemon.unmount("t")
        self.assertEqual({}, self.listed())
        self.assertEqual([str(diff)], list(self.listed("--dir", elsewhere)))
        self.assertEqual([str(diff)], list(self.listed("--dir", diff)))
        self.assert_refused(self.daemon.cli("diff", "list", "--dir", "/"), USAGE, "INVALID_FIELD")
        self.assert_refused(self.daemon.cli("diff", "list", "--dir", "/pe2e-not-allowed"), FAILED, "PATH_NOT_ALLOWED")

    def test_list_does_not_touch_a_mount(self):
        # A target beside diffs: to open it would be to wait for ourselves.
        self.mount(diff=self.work / "d")
        self.assertEqual([str(self.work / "d")], list(self.listed("--dir", self.work)))

    # Check.

    def test_check_of_a_good_diff(self):
        self.write_and_unmount()
        answer = self.daemon.call("diff", "check", "t")
        self.assertEqual("DIFF_VERDICT_OK", answer["verdict"], answer)
        self.assertFalse(answer["imageChecked"])
        answer = self.daemon.call("diff", "check", self.diff, "--store", self.catalog.store,
                                  "--instance", self.catalog.instance)
        self.assertEqual("DIFF_VERDICT_OK", answer["verdict"], answer)
        self.assertTrue(answer["imageChecked"])
        self.assertIn("ok", self.daemon.cli("diff", "check", "t").stdout)

    def test_check_finds_damage(self):
        self.write_and_unmount()
        log = self.diff / "log"
        damaged = bytearray(log.read_bytes())
        damaged[120] ^= 1
        log.write_bytes(damaged)
        done = self.check("t")
        self.assertEqual(DATA_LOSS, done.returncode, done.stderr)
        self.assertIn("LOG_DAMAGED", done.stdout)
        self.assertIn("DIFF_CORRUPT", done.stderr)
        # A mount says the same.
        mounted = self.daemon.cli(*mount_arguments(self.catalog.store, self.catalog.instance, None, self.target))
        self.assert_refused(mounted, DATA_LOSS, "DIFF_CORRUPT")
        # And it can be thrown away.
        self.daemon.call("diff", "delete", "t")
        self.assertFalse(self.diff.exists())

    def test_check_finds_a_data_file_that_was_cut(self):
        self.write_and_unmount()
        longest = max((self.diff / "data").iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(longest, longest.stat().st_size - 1)
        self.assertEqual(DATA_LOSS, self.check("t").returncode)

    def test_repair_removes_what_is_left_over(self):
        self.write_and_unmount()
        (self.diff / "log.new").write_bytes(b"x")
        (self.diff / "trash" / "5").write_bytes(b"x")
        self.assertEqual(["LEFTOVER", "TRASH"], self.codes("t"))
        self.assertTrue((self.diff / "log.new").exists(), "a check without --repair changed the diff")
        self.assertEqual(["LEFTOVER", "TRASH"], self.codes("t", "--repair"))
        self.assertEqual([], self.codes("t"))
        self.assertIn("DiffService.CheckDiff", self.daemon.log_tail(200))
        self.mount()
        self.assertEqual(20000, (self.target / "mine").stat().st_size)

    def test_check_with_another_catalog(self):
        self.write_and_unmount()
        other = SyntheticCatalog(self, name="other", relations=1, backups=1)
        done = self.check("t", "--store", other.store, "--instance", other.instance)
        self.assertIn(done.returncode, (NOT_FOUND, PRECONDITION), done.stderr)

    def test_what_can_not_be_checked(self):
        self.assert_refused(self.check("nobody"), NOT_FOUND, "DIFF_NOT_FOUND", ["nobody"])
        self.assert_refused(self.check(self.work / "nobody"), NOT_FOUND, "DIFF_NOT_FOUND")
        self.assert_refused(self.check("/pe2e-not-allowed"), FAILED, "PATH_NOT_ALLOWED")
        self.assert_refused(self.check(self.catalog.store), PRECONDITION, "DIFF_BOUND_ELSEWHERE")
        self.mount()
        self.assert_refused(self.check("t"), PRECONDITION, "DIFF_IN_USE", ["'t'"])
        for arguments in (["diff"], ["diff", "explode"], ["diff", "check"], ["diff", "list", "x"],
                          ["diff", "delete", "t", "--repair"], ["diff", "check", "t", "--store", "/x"]):
            with self.subTest(arguments=arguments):
                self.assertEqual(USAGE, self.daemon.cli(*arguments).returncode)
        self.assertIn("diff check", self.daemon.cli("diff", "--help").stdout)

    # Delete.

    def test_delete(self):
        self.mount()
        self.assert_refused(self.daemon.cli("diff", "delete", "t"), PRECONDITION, "DIFF_IN_USE", ["'t'"])
        self.assert_refused(self.daemon.cli("diff", "delete", self.diff), PRECONDITION, "DIFF_IN_USE")
        self.daemon.unmount("t")
        self.assertTrue(self.daemon.call("diff", "delete", "t")["deleted"])
        self.assertFalse(self.diff.exists())
        self.assert_refused(self.daemon.cli("diff", "delete", "t"), NOT_FOUND, "DIFF_NOT_FOUND")
        self.assertFalse(self.daemon.call("diff", "delete", "t", "--missing-ok")["deleted"])
        self.assertIn("DiffService.DeleteDiff", self.daemon.log_tail(200))

    def test_delete_takes_nothing_else(self):
        self.write_and_unmount()
        (self.diff / "precious").write_text("data")
        self.assert_refused(self.daemon.cli("diff", "delete", "t"), PRECONDITION, "DIFF_BOUND_ELSEWHERE", ["precious"])
        self.assertTrue((self.diff / "data").exists())
        self.assert_refused(self.daemon.cli("diff", "delete", self.catalog.store), PRECONDITION,
                            "DIFF_BOUND_ELSEWHERE")
        self.assertTrue((self.catalog.store / "backups").exists())

    # Ephemeral mounts.

    def test_ephemeral_mount_leaves_nothing(self):
        for diff in (None, self.work / "d"):
            with self.subTest(diff=diff):
                self.assertTrue(self.mount("--ephemeral", diff=diff)["ephemeral"])
                (self.target / "mine").write_bytes(b"x" * 20000)
                self.assertTrue(self.listed()[str(diff or self.diff)]["ephemeral"])
                self.assertTrue(self.daemon.unmount("t")["diffDeleted"])
                self.assertFalse((diff or self.diff).exists())
                self.assertFalse(self.target.exists())
        self.mount("--ephemeral")
        self.assertEqual(0, self.daemon.stop())
        self.assertFalse(self.diff.exists(), "a daemon that stopped left an ephemeral diff")
        self.daemon.start()

    def test_ephemeral_diff_of_a_dead_daemon_is_told_and_kept(self):
        self.mount("--ephemeral")
        (self.target / "mine").write_bytes(b"x" * 20000)
        self.kill_daemon()
        diff = self.listed()[str(self.diff)]
        self.assertTrue(diff["ephemeral"])
        self.assertFalse(diff["inUse"])
        self.assertIn("left behind", self.daemon.cli("diff", "list").stdout)
        # Who wants it mounts it again; then it is his.
        self.mount()
        self.assertEqual(20000, (self.target / "mine").stat().st_size)
        self.daemon.unmount("t")
        self.assertFalse(self.listed()[str(self.diff)]["ephemeral"])


if __name__ == "__main__":
    case.main()

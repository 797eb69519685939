"""pbkfsd --config: what is wrong in a file, what SIGHUP changes and what it refuses, and the mounts of a file."""

import os
import signal
import subprocess
import urllib.error
import urllib.request

from pbkfs_e2e import case, mounts
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

ANSWER_SECONDS = 60
USAGE = 2


class Config(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.daemon.stop()
        self.daemon.allow_roots = []
        self.catalog = SyntheticCatalog(self)
        self.config = self.work / "pbkfsd.conf"

    def write(self, *lines):
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, *lines):
        self.write(*lines)
        self.daemon.start("--config", self.config)

    def hang_up(self, event):
        """SIGHUP, and the line of the log that tells what became of it."""
        before = self.log().count(event)
        os.kill(self.daemon.pid, signal.SIGHUP)
        case.wait_until(lambda: self.log().count(event) > before, ANSWER_SECONDS, f"{event} in the log")
        return [line for line in self.log().splitlines() if event in line][-1]

    def log(self):
        return self.daemon.log_path.read_text(errors="replace")

    def mount_entry(self, name, **fields):
        more = "".join(f' {key}: {value}' for key, value in fields.items())
        return (f'mounts {{ mount_id: "{name}" store: "{self.catalog.store}" instance: "node" '
                f'target: "{self.work}/{name}" diff_dir: "{self.work}/diff-{name}"{more} }}')

    def listed(self):
        return {mount["mountId"]: mount for mount in self.daemon.call("list").get("mounts", [])}

    def not_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.daemon.metrics_port}/readyz", timeout=30):
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def test_what_is_wrong_in_a_file_is_told_with_its_line_and_field(self):
        def answer(*arguments):
            done = subprocess.run([self.daemon.program, "--state-dir", self.work / "other", *arguments],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual("", done.stdout)
            return done.returncode, done.stderr
        for lines, place, field in (
                (('log_level: "info"', "limits { max_mounts: many }"), "2:22: ", "max_mounts"),
                (('log_levle: "info"',), "1:10: ", "log_level"),
                (('allow_root: "relative"',), "1:1: ", "allow_root[0]"),
                (("", "limits {", "  max_mounts: 100000", "}"), "3:3: ", "limits.max_mounts"),
                (('mounts { store: "/b" instance: "i" }',), "1:1: ", "mounts[0].target")):
            self.write(*lines)
            code, text = answer("--config", self.config)
            self.assertEqual(USAGE, code, text)
            self.assertIn(f"{self.config}:{place}", text)
            self.assertIn(field, text)
        code, text = answer("--config", self.work / "absent")
        self.assertEqual(USAGE, code, text)
        self.assertIn(f"{self.work}/absent", text)
        self.assertFalse((self.work / "other").exists(), "a daemon that does not start makes nothing")

    def test_a_hangup_takes_over_what_can_change_and_names_what_cannot(self):
        self.start("limits { max_mounts: 4 }", f'allow_root: "{self.catalog.store}"')
        arguments = mount_arguments(self.catalog.store, "node", None, self.work / "a")
        self.assertIn("PATH_NOT_ALLOWED", self.daemon.cli(*arguments).stderr)

        self.write("limits { max_mounts: 1 max_request_bytes: 200000 }", f'allow_root: "{self.work}"', 'log_level: "debug"',
                   'log_format: "json"', "budgets { page_cache_bytes: 2000000 }")
        line = self.hang_up("reloaded")
        for changed in ("limits.max_mounts: 4 -> 1", f"allow_root: added {self.work}", "log_level: info -> debug"):
            self.assertIn(changed, line)
        for refused in ("log_format", "budgets", "limits.max_request_bytes"):
            self.assertIn(refused, line.partition("needs_restart")[2])
        self.daemon.call(*arguments)
        other = self.daemon.cli(*mount_arguments(self.catalog.store, "node", None, self.work / "b"))
        self.assertIn("MOUNT_LIMIT", other.stderr)

        # A file that is wrong changes nothing, and is named with its place.
        self.write("limits { max_mounts: 7 }", "limits_: 3")
        line = self.hang_up("reload_failed")
        self.assertIn(f"{self.config}:2:8: ", line)
        status = self.daemon.call("daemon", "status")
        self.assertEqual("debug", status["logLevel"])
        self.assertIn(str(self.work), status["allowedRoots"])
        self.daemon.unmount("a")

    def test_mounts_of_the_file(self):
        empty = self.work / "a"
        empty.mkdir()
        (self.work / "b").mkdir()
        (self.work / "b" / "somebody-elses").touch()
        root = f'allow_root: "{self.work}"'
        self.start(root, self.mount_entry("a"), self.mount_entry("b"), self.mount_entry("c", ephemeral="true"))
        case.wait_until(lambda: set(self.listed()) == {"a", "c"}, ANSWER_SECONDS, "the mounts of the file")
        case.wait_until(lambda: "b: " in self.not_ready(), ANSWER_SECONDS, "what failed being named at /readyz")
        self.assertIn("TARGET_NOT_EMPTY", next(line for line in self.log().splitlines()
                                               if "configured_mount_failed" in line))
        # By the same function as the call: the same request finds the mount.
        again = self.daemon.mount(self.catalog.store, "node", None, empty, diff=self.work / "diff-a")
        self.assertEqual(self.listed()["a"]["createTime"], again["createTime"])
        # The next reload tries again what failed; what is taken out of the file stays.
        (self.work / "b" / "somebody-elses").unlink()
        self.write(root, self.mount_entry("b"), self.mount_entry("c", ephemeral="true"))
        self.assertIn("a is no longer in the file", self.hang_up("reloaded"))
        self.assertEqual({"a", "b", "c"}, set(self.listed()))
        self.assertEqual("", self.not_ready())

    def test_a_dead_mount_of_a_daemon_whose_state_is_lost_is_taken_over(self):
        lines = (f'allow_root: "{self.work}"', self.mount_entry("a"))
        self.start(*lines)
        case.wait_until(self.listed, ANSWER_SECONDS, "the mount")
        (self.work / "a" / "kept").write_text("kept")
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait()
        self.assertTrue(mounts.is_mounted(self.work / "a"))
        (self.daemon.state_dir / "mounts" / "a.json").unlink()
        self.daemon.start("--config", self.config)
        case.wait_until(self.daemon.is_ready, ANSWER_SECONDS, "the mount being made again")
        self.assertEqual("kept", (self.work / "a" / "kept").read_text())
        self.assertEqual(1, mounts.all_targets().count(str(self.work / "a")))


if __name__ == "__main__":
    case.main()

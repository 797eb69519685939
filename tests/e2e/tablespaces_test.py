"""Tablespaces behind links, for servers that take no directories in pg_tblspc."""

import json
import os
import shutil
import signal
import tarfile

from pbkfs_e2e import case, mounts, postgres, workers
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.production import Production

SUM = "SELECT count(*), sum(i) FROM t"
LINKS = ["--tablespaces", "symlink"]
# The server refuses directories.
STRICT = {"allow_in_place_tablespaces": "off"}


class Tablespaces(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.place = self.own_directory("fast")
        self.production.server.sql(f"CREATE TABLESPACE fast LOCATION '{self.place}'")
        self.production.server.sql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 20000) i; CHECKPOINT")
        self.production.back_up()
        self.production.server.stop()  # Else its own work would be seen in its own place.
        self.diff = self.work / "diff"

    def own_directory(self, name):
        path = self.work / name
        path.mkdir(mode=0o700)
        user = postgres.account()
        os.chown(path, user.pw_uid, user.pw_gid)
        return path

    def mount(self, name, settings=None, extra=LINKS, diff=None):
        return self.production.mount(self.daemon, self.work / name, diff or self.diff, settings or STRICT, extra)

    def link(self, name):
        """The one link in pg_tblspc."""
        (link,) = (self.work / name / "pg_tblspc").iterdir()
        return link

    def assert_leads_into(self, name):
        link = self.link(name)
        self.assertEqual(str(self.work / name / "pbkfs_tblspc" / link.name), os.readlink(link))
        self.assertTrue(any(link.iterdir()), "the tablespace is there")

    def test_a_server_lives_on_links_that_follow_the_mount(self):
        before = sorted(str(path) for path in self.place.rglob("*"))
        server = self.mount("a")
        self.assert_leads_into("a")
        server.start()
        self.assertEqual("20000|200010000", server.sql(SUM))
        server.sql("INSERT INTO t VALUES (1); CREATE TABLE more TABLESPACE fast AS SELECT 1; CHECKPOINT")
        server.crash()
        server.start()
        self.assertEqual("20001|200010001", server.sql(SUM))
        self.copy_of(server)
        server.stop()
        self.assertEqual(before, sorted(str(path) for path in self.place.rglob("*")), "production's own place")

        # Elsewhere the links must not lead to the old target, where another clone may be by now.
        self.daemon.unmount("a")
        server = self.mount("b")
        self.assert_leads_into("b")
        server.start()
        self.assertEqual("20001|200010001", server.sql(SUM))
        server.sql("DROP TABLE t, more; DROP TABLESPACE fast; CHECKPOINT")
        server.stop()
        self.daemon.unmount("b")
        server = self.mount("c")
        server.start()
        self.assertEqual("0", server.sql("SELECT count(*) FROM pg_tablespace WHERE spcname = 'fast'"))
        server.stop()

    def copy_of(self, server):
        copy, moved = self.own_directory("copy"), self.own_directory("moved")
        link = os.readlink(self.link("a"))
        server.tool("pg_basebackup", "-D", copy, "-X", "stream", "-c", "fast", "-T", f"{link}={moved}")
        server.tool("pg_verifybackup", copy, connect=False)
        self.assertTrue(any(moved.iterdir()))
        for path in (copy, moved):
            shutil.rmtree(path)
        archives = self.own_directory("archives")
        server.tool("pg_basebackup", "-D", archives, "-X", "stream", "-c", "fast", "-F", "tar")
        with tarfile.open(archives / f"{self.link('a').name}.tar") as tablespace:
            self.assertTrue(any(member.isfile() and member.size > 0 for member in tablespace))
        with tarfile.open(archives / "base.tar") as base:
            twice = [member.name for member in base if member.name.startswith("pbkfs_tblspc/") and member.isfile()]
        self.assertEqual([], twice)

    def test_a_read_only_mount_at_another_target_has_links_of_its_own(self):
        self.mount("a")
        self.daemon.unmount("a")
        self.mount("b", extra=[*LINKS, "--read-only"])
        self.assert_leads_into("b")
        with self.assertRaises(OSError):
            (self.work / "b" / "new").touch()

    def warnings(self):
        (mount,) = self.daemon.call("list")["mounts"]
        return " ".join(mount.get("warnings", []))

    def assert_a_directory(self, name):
        self.assertTrue(self.link(name).is_dir() and not self.link(name).is_symlink())

    def test_a_diff_keeps_the_way_that_it_was_made_with(self):
        ways = {"directory": "directories", "symlink": "links"}
        # What the request sets says nothing of how the diff was made.
        for way, setting in [("directory", "on"), ("directory", "off"), ("symlink", "off"), ("symlink", "on")]:
            settings = {"allow_in_place_tablespaces": setting}
            self.mount("a", settings, extra=["--tablespaces", way])
            self.daemon.unmount("a")
            for again in ways:
                self.mount("b", settings, extra=["--tablespaces", again])
                self.assertEqual(way == "symlink", self.link("b").is_symlink())
                warning = f"the diff exists: its tablespaces stay {ways[way]}"
                self.assertEqual(way != again, warning in self.warnings(), self.warnings())
                self.assertEqual(way != again, "tablespaces stay" in self.warnings(), self.warnings())
                self.daemon.unmount("b")
            shutil.rmtree(self.diff)

    def crash_the_daemon(self):
        """It is killed with its mounts, and knows nothing of them afterwards."""
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait()
        mounts.detach_below(self.work)
        for path in (self.daemon.state_dir / "mounts").glob("*.json"):
            path.unlink()
        self.daemon.start()

    def interrupt(self):
        """Makes the diff one whose mount was interrupted at the end of its preparation."""
        self.crash_the_daemon()
        path = self.diff / "binding.json"
        binding = json.loads(path.read_text())
        for name in ("prepared", "guards", "tablespaceLinks", "targets", "checksum"):
            binding.pop(name, None)
        path.write_text(json.dumps(binding))

    def test_a_tablespace_that_was_made_in_the_mount_follows_it(self):
        for way in ("directory", "symlink"):
            setting = {"allow_in_place_tablespaces": "on" if way == "directory" else "off"}
            server = self.mount("a", setting, extra=["--tablespaces", way])
            server.start()
            inside = self.own_directory("a/own")
            server.sql(f"CREATE TABLESPACE inside LOCATION '{inside}'")
            server.sql(f"CREATE TABLESPACE outside LOCATION '{self.own_directory('outside')}'")
            server.sql("CREATE TABLE u TABLESPACE inside AS SELECT generate_series(1, 100) i")
            server.stop()
            self.daemon.unmount("a")
            # Somebody else's clone is where this one was.
            self.mount("a", setting, extra=["--tablespaces", way], diff=self.work / "another")
            server = self.mount("b", setting, extra=["--tablespaces", way])
            links = {os.readlink(path) for path in (self.work / "b" / "pg_tblspc").iterdir() if path.is_symlink()}
            self.assertLessEqual({str(self.work / "b" / "own"), str(self.work / "outside")}, links)
            self.assertEqual([], [link for link in links if link.startswith(f"{self.work / 'a'}/")])
            server.start()
            self.assertEqual("5050", server.sql("SELECT sum(i) FROM u"))
            server.stop()
            for name in ("a", "b"):
                self.daemon.unmount(name, "--delete-diff")
            shutil.rmtree(self.work / "outside")

    def test_a_kill_while_links_are_turned_leaves_none_to_the_old_target(self):
        self.need(shutil.which("strace"), "strace is not installed")
        self.daemon.stop()
        self.daemon.start("--restart-limit", "1000")
        arguments = mount_arguments(self.production.store, "main", None, self.work / "b", diff=self.diff,
                                    owner="postgres:postgres", extra=LINKS)
        self.mount("a")
        os.symlink(self.work / "a" / "own", self.work / "a" / "pg_tblspc" / "99999")
        self.daemon.unmount("a")
        kills = 0
        for call in ("fdatasync", "renameat") if case.FULL_TIER else ("fdatasync",):
            for number in range(1, 60):
                with workers.KillAt(self.daemon.pid, call, number) as kill:
                    done = self.daemon.cli(*arguments)
                    killed = kill.killed()
                if done.returncode == 0 and not killed:
                    break
                kills += 1
                workers.wait_for_worker(self.daemon.pid, other_than=kill.worker)
                case.wait_until(self.daemon.is_ready, 60, "the next worker having cleaned up")
                # Whether it was mounted by then or not, at a third place no link leads to the first or the second.
                self.daemon.unmount("b")
                self.mount("c")
                self.assert_all_lead_into("c", f"{call} {number}")
                self.daemon.unmount("c")
                self.mount("a")
                self.assert_all_lead_into("a", f"{call} {number}")
                self.daemon.unmount("a")
            self.daemon.unmount("b")
            self.mount("a")
            self.daemon.unmount("a")
        self.report(f"{kills} kills")
        self.assertGreater(kills, 4)

    def assert_all_lead_into(self, name, where):
        root = self.work / name
        links = [os.readlink(path) for path in (root / "pg_tblspc").iterdir()]
        self.assertEqual(2, len(links), where)
        self.assertEqual([], [link for link in links if not link.startswith(f"{root}/")], where)
        self.assertFalse(os.path.lexists(root / "pbkfs_link.new"), where)

    def test_what_was_interrupted_leaves_nothing_to_a_mount_that_asks_for_something_else(self):
        self.mount("a", {**STRICT, "work_mem": "7MB"}, [*LINKS, "--recovery-target", "immediate"])
        self.interrupt()
        server = self.mount("b", {"allow_in_place_tablespaces": "on"}, [])
        self.assert_a_directory("b")
        self.assertFalse((self.work / "b" / "pbkfs_tblspc").exists())
        self.assertFalse((self.work / "b" / "recovery.signal").exists())
        self.assertNotIn("7MB", (self.work / "b" / "postgresql.auto.conf").read_text())
        server.start()
        self.assertEqual("20000|200010000", server.sql(SUM))
        server.stop()
        self.interrupt()
        self.mount("a")
        self.assert_leads_into("a")

    def test_a_backup_of_a_clone_with_links_can_be_mounted_with_links(self):
        clone = self.mount("a")
        clone.start()
        store = self.work / "of-clone"
        backup = self.production.back_up(server=clone, store=store)
        clone.stop()
        diff = self.work / "second"
        for name, extra in [("b", LINKS), ("c", LINKS), ("d", [])]:
            if name == "d":
                shutil.rmtree(diff)
            self.daemon.mount(store, "main", backup, self.work / name, diff=diff, owner="postgres:postgres", extra=extra)
            link = self.link(name)
            if extra:
                self.assertEqual(str(self.work / name / "pbkfs_tblspc2" / link.name), os.readlink(link))
            self.assertTrue(any(link.iterdir()), "the tablespace is there")
            self.assertTrue((self.work / name / "pbkfs_tblspc" / link.name).is_dir(), "what the backup has is there")
            self.daemon.unmount(name)

    def test_a_mount_that_comes_back_with_the_daemon_has_its_links(self):
        server = self.mount("a", extra=[*LINKS, "--restore"])
        server.start()
        server.sql("INSERT INTO t VALUES (1)")
        server.stop()
        self.daemon.stop()
        self.assertFalse((self.work / "a" / "PG_VERSION").exists())
        self.daemon.start()
        case.wait_until(self.daemon.is_ready, 60, "the mount of the last daemon having been made again")
        self.assert_leads_into("a")
        server.start()
        self.assertEqual("20001|200010001", server.sql(SUM))
        server.stop()


if __name__ == "__main__":
    case.main()

"""Tablespaces behind links, for servers that take no directories in pg_tblspc."""

import os
import shutil

from pbkfs_e2e import case, postgres
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

    def mount(self, name, settings=None, extra=LINKS):
        return self.production.mount(self.daemon, self.work / name, self.diff, settings or STRICT, extra)

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

    def test_a_read_only_mount_at_another_target_has_links_of_its_own(self):
        self.mount("a")
        self.daemon.unmount("a")
        self.mount("b", extra=[*LINKS, "--read-only"])
        self.assert_leads_into("b")
        with self.assertRaises(OSError):
            (self.work / "b" / "new").touch()

    def test_a_diff_keeps_the_way_that_it_was_made_with(self):
        self.mount("a", extra=["--tablespaces", "directory"])
        self.assertTrue(self.link("a").is_dir() and not self.link("a").is_symlink())
        self.daemon.unmount("a")
        self.mount("b")
        self.assertFalse(self.link("b").is_symlink())
        mount = self.daemon.call("list")["mounts"][0]
        self.assertIn("the diff exists: its tablespaces stay directories", " ".join(mount["warnings"]))


if __name__ == "__main__":
    case.main()

"""WAL that would create a tablespace at production's path on the clone's host is refused, unless the request decides."""

import os

from pbkfs_e2e import case, mounts, postgres
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.production import INSTANCE, Production

PRECONDITION = 5

# Passes its input to psql; when the backup is about to end, somebody creates a tablespace.
PSQL_WITH_INTRUDER = """#!/usr/bin/python3
import subprocess, sys
psql = {psql!r}
session = subprocess.Popen(psql + sys.argv[1:], stdin=subprocess.PIPE, text=True)
for line in sys.stdin:
    if "pg_backup_stop" in line:
        subprocess.run(psql + ["-X", "-q", "-c", {statement!r}], check=True, stdin=subprocess.DEVNULL)
    session.stdin.write(line)
    session.stdin.flush()
session.stdin.close()
sys.exit(session.wait())
"""


class TablespaceWal(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.place = self.work / "fast disk"
        self.place.mkdir()
        user = postgres.account()
        os.chown(self.place, user.pw_uid, user.pw_gid)

    def back_up(self, statement):
        """A FULL; `statement` runs just before it ends."""
        wrapper = self.work / "psql"
        wrapper.write_text(PSQL_WITH_INTRUDER.format(
            psql=[str(word) for word in self.production.server.psql_command()], statement=statement))
        wrapper.chmod(0o755)
        return self.production.back_up(psql=[wrapper])

    def arguments(self, backup, *extra):
        return mount_arguments(self.production.store, INSTANCE, backup, self.work / "m", diff=self.work / "d",
                               extra=extra)

    def test_a_tablespace_that_is_created_during_the_backup(self):
        backup = self.back_up(f"CREATE TABLESPACE fast LOCATION '{self.place}'")
        for extra in ([], ["--dry-run"]):
            done = self.daemon.cli(*self.arguments(backup, *extra))
            self.assertEqual(PRECONDITION, done.returncode, done.stderr)
            self.assertIn("TABLESPACE_IN_WAL", done.stderr)
            self.assertIn(str(self.place), done.stderr)
            self.assertFalse(mounts.is_mounted(self.work / "m"))
            self.assertFalse((self.work / "d").exists())
        mount = self.daemon.call(*self.arguments(backup, "--allow-tablespace-wal"))
        self.assertIn(str(self.place), " ".join(mount["warnings"]))
        self.daemon.unmount("m")

    def test_a_tablespace_that_was_there_before(self):
        self.production.server.sql(f"CREATE TABLESPACE fast LOCATION '{self.place}'")
        self.production.server.sql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) i; CHECKPOINT")
        backup = self.back_up("INSERT INTO t SELECT generate_series(1, 1000)")
        mount = self.daemon.call(*self.arguments(backup))
        self.assertNotIn("WAL", " ".join(mount["warnings"]))
        self.daemon.unmount("m")


if __name__ == "__main__":
    case.main()

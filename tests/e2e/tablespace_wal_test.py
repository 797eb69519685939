"""WAL that would create a tablespace at production's path on the clone's host is refused, unless the request decides."""

import os
import shlex
import subprocess

from pbkfs_e2e import case, mounts, postgres
from pbkfs_e2e.daemon import mount_arguments

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
        self.major = postgres.installed_major()
        self.need(self.major and postgres.account(), "PostgreSQL is not installed")
        user = postgres.account()
        self.place = self.work / "fast disk"
        self.place.mkdir()
        os.chown(self.place, user.pw_uid, user.pw_gid)
        pgdata = postgres.make_cluster(self.work / "production", self.major)
        sockets = postgres.make_socket_dir(self.work / "sp")
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"listen_addresses = ''\nunix_socket_directories = '{sockets}'\nshared_buffers = 32MB\n")
        self.production = postgres.Server(pgdata, sockets, self.major)
        self.addCleanup(self.production.ensure_stopped)
        self.production.start()

    def back_up(self, statement):
        """A FULL; `statement` runs just before it ends."""
        wrapper = self.work / "psql"
        wrapper.write_text(PSQL_WITH_INTRUDER.format(psql=[str(word) for word in self.production.psql_command()],
                                                     statement=statement))
        wrapper.chmod(0o755)
        done = subprocess.run([self.mkcatalog(), "backup", "--catalog", self.work / "store", "--instance", "i",
                               "--pgdata", self.production.pgdata, "--psql", shlex.quote(str(wrapper)),
                               "--mode", "full"], capture_output=True, text=True, timeout=300)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.strip()

    def arguments(self, backup, *extra):
        return mount_arguments(self.work / "store", "i", backup, self.work / "m", diff=self.work / "d", extra=extra)

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
        self.production.sql(f"CREATE TABLESPACE fast LOCATION '{self.place}'")
        self.production.sql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) i; CHECKPOINT")
        backup = self.back_up("INSERT INTO t SELECT generate_series(1, 1000)")
        mount = self.daemon.call(*self.arguments(backup))
        self.assertNotIn("WAL", " ".join(mount["warnings"]))
        self.daemon.unmount("m")


if __name__ == "__main__":
    case.main()

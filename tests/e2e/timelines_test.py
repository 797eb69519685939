"""Recovery over several timelines, end to end: a production that was promoted twice, and archived all of it. STREAM
backups are recovered from that archive to later targets, on each timeline."""

import os
import shutil

from pbkfs_e2e import case, postgres
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.production import INSTANCE, Production

USAGE = 2
WAIT_SECONDS = 120


class Timelines(case.E2ECase):
    def setUp(self):
        super().setUp()
        postgres.adopt_orphans()
        self.production = Production(self)
        self.major = self.production.major
        self.archive = self.production.store / "wal" / INSTANCE
        self.sockets = postgres.make_socket_dir(self.work / "sc")
        self.count = 0

    # Production and its successors.

    def start_archiving(self):
        """From now on: the store and its archive exist."""
        self.archive.mkdir(parents=True)
        user = postgres.account()
        os.chown(self.archive, user.pw_uid, user.pw_gid)
        server = self.production.server
        with open(server.pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            # As pg_probackup's archive-push: never over a file that is there.
            conf.write(f"archive_mode = on\narchive_command = 'test ! -f {self.archive}/%f && cp %p {self.archive}/%f'\n")
        server.stop()
        server.start()

    def insert(self, server, text):
        server.sql(f"INSERT INTO history VALUES ('{text}')")

    def archived(self, server):
        """Until everything that was written is in the archive."""
        last = server.sql("SELECT pg_walfile_name(pg_switch_wal())")
        case.wait_until(lambda: server.sql("SELECT last_archived_wal FROM pg_stat_archiver") >= last, WAIT_SECONDS,
                        f"segment {last} being archived")

    def promote_a_copy(self, server, name):
        """A copy of a running server, promoted: on the next timeline, with the same archive."""
        pgdata = postgres.make_socket_dir(self.work / f"parent-{name}") / name
        server.tool("pg_basebackup", "-D", pgdata, "-c", "fast", "-X", "stream")
        sockets = postgres.make_socket_dir(self.work / f"s-{name}")
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"unix_socket_directories = '{sockets}'\nrestore_command = 'cp {self.archive}/%f %p'\n")
        (pgdata / "standby.signal").touch()
        shutil.chown(pgdata / "standby.signal", postgres.ACCOUNT, postgres.ACCOUNT)
        copy = postgres.Server(pgdata, sockets, self.major)
        self.addCleanup(copy.ensure_stopped)
        copy.start()
        copy.sql("SELECT pg_promote()")
        case.wait_until(lambda: copy.sql("SELECT pg_is_in_recovery()") == "f", WAIT_SECONDS, "the promotion")
        return copy

    # Clones.

    def arguments(self, *extra, backup=None):
        self.count += 1
        name = f"c{self.count}"
        return mount_arguments(self.production.store, INSTANCE, backup, self.work / name, diff=self.work / f"d-{name}",
                               owner="postgres:postgres", settings=postgres.settings_for_clone(self.sockets), extra=extra)

    def history(self, *extra, backup=None):
        """(the rows, the timeline) of a clone that was recovered."""
        mount = self.daemon.call(*self.arguments(*extra, backup=backup))
        server = postgres.Server(mount["target"], self.sockets, self.major, mount["startCommand"])
        self.addCleanup(server.ensure_stopped)
        server.start()
        case.wait_until(lambda: server.sql("SELECT pg_is_in_recovery()") == "f", WAIT_SECONDS, "the promotion")
        rows = server.sql("SELECT string_agg(t, ' ' ORDER BY t) FROM history")
        timeline = int(server.sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16)
        server.stop()
        self.daemon.unmount(mount["mountId"], "--delete-diff")
        return rows, timeline

    def refused(self, *extra, backup=None):
        done = self.daemon.cli(*self.arguments(*extra, backup=backup))
        self.assertEqual(USAGE, done.returncode, done.stderr)
        self.assertIn("TARGET_UNREACHABLE", done.stderr)
        return done.stderr

    def test_every_timeline_of_a_production_that_was_promoted_twice(self):
        first = self.production.server
        first.sql("CREATE TABLE history (t text)")
        self.start_archiving()
        self.insert(first, "1a")
        old = self.production.back_up()
        self.insert(first, "1b")
        first.sql("SELECT pg_create_restore_point('one')")
        self.archived(first)

        second = self.promote_a_copy(first, "second")
        # Both go on, and archive what they do.
        self.insert(first, "1c")
        self.archived(first)
        self.insert(second, "2a")
        second.sql("SELECT pg_create_restore_point('two')")
        self.archived(second)
        self.production.server = second
        new = self.production.back_up()
        self.insert(second, "2b")
        self.archived(second)

        third = self.promote_a_copy(second, "third")
        self.insert(third, "3a")
        third.sql("SELECT pg_create_restore_point('three')")
        self.archived(third)
        for server in (first, second, third):
            server.stop()
        self.assertTrue((self.archive / "00000002.history").exists() and (self.archive / "00000003.history").exists())

        # From the backup of the first timeline along each. A clone opens the timeline behind the newest that it finds.
        along = lambda target, timeline: ("--recovery-target", target, "--recovery-timeline", timeline)
        self.assertEqual("1a", self.history(backup=old)[0], "a STREAM backup recovers from its own WAL")
        self.assertEqual("1a 1b", self.history(*along("name=one", "current"), backup=old)[0])
        self.assertEqual("1a 1b 1c", self.history(*along("latest", "current"), backup=old)[0])
        self.assertEqual("1a 1b 2a", self.history(*along("name=two", "2"), backup=old)[0])
        self.assertEqual("1a 1b 2a 2b", self.history(*along("latest", "2"), backup=old)[0])
        self.assertEqual(("1a 1b 2a 2b 3a", 4), self.history("--recovery-target", "latest", backup=old))
        self.assertEqual("1a 1b 2a 2b 3a", self.history(*along("name=three", "latest"), backup=old)[0])

        # The server chooses the newest backup on the way.
        for target, timeline, backup, rows in (("name=one", "current", old, "1a 1b"), ("name=two", "2", old, "1a 1b 2a"),
                                               ("latest", "3", new, "1a 1b 2a 2b 3a")):
            with self.subTest(target=target, timeline=timeline):
                plan = self.daemon.call(*self.arguments(*along(target, timeline), "--dry-run"))
                self.assertEqual(backup, plan["backupId"])
                self.assertEqual(rows, self.history(*along(target, timeline))[0])

        # What a timeline does not lead to.
        self.refused(*along("name=two", "current"), backup=old)
        self.refused(*along("name=three", "2"), backup=old)
        self.refused(*along("latest", "1"), backup=new)
        self.refused(*along("latest", "9"), backup=old)
        missing = self.archive / "00000002.history"
        missing.rename(self.work / missing.name)
        self.refused(*along("latest", "2"), backup=old)


if __name__ == "__main__":
    case.main()

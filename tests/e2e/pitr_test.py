"""Recovery with archived WAL: to every target, from the mount alone, and refused where the target can't be reached."""

import itertools
import os
import pathlib
import re
import subprocess

from pbkfs_e2e import case, catalogs, postgres
from pbkfs_e2e.daemon import mount_arguments

USAGE, PRECONDITION, DATA_LOSS = 2, 5, 7
SEGMENT_BYTES = 16 << 20


def read_points(catalog):
    """The recovery points of a catalog: [{name, xid, lsn, time, …}]."""
    lines = (catalog.golden.parent / "points.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"))) for line in lines[1:]]


def segment_of(lsn):
    high, low = (int(word, 16) for word in lsn.split("/"))
    return (high << 32 | low) // SEGMENT_BYTES


class Pitr(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.need(postgres.account(), "user postgres does not exist; install postgresql")
        found = [catalog for catalog in self.catalogs() if (catalog.golden.parent / "points.tsv").is_file()]
        self.need(found, "no catalog has recovery points (points.tsv)")
        self.catalog = found[0]
        self.points = read_points(self.catalog)
        self.backups = [backup for backup in self.catalog.backups if not backup.stream]
        self.major = self.backups[0].server_version
        self.need(postgres.bindir(self.major), f"PostgreSQL {self.major} is not installed")
        self.sockets = postgres.make_socket_dir(self.work / "s")
        self.count = itertools.count(1)

    # Helpers.

    def targets_of(self, backup):
        """[(golden name, --recovery-target)] that a real restore of this backup was taken to."""
        targets = []
        for path in sorted(self.catalog.golden.glob(f"{backup.id}.*.queries.tsv")):
            name = path.name.split(".")[1]
            kind, _, number = name.partition("-")
            point = self.points[int(number) - 1] if number else {}
            text = {"name": f"name={point.get('name')}", "xid": f"xid={point.get('xid')}",
                    "lsn": f"lsn={point.get('lsn')}", "time": f"time={point.get('time')}"}.get(kind, kind)
            targets.append((name, text))
        return targets

    def arguments(self, backup, target, *extra, store=None, name=None):
        name = name or f"c{next(self.count)}"
        if target is not None:
            extra = ("--recovery-target", target, *extra)
        return mount_arguments(store or self.catalog.store, self.backups[0].instance, backup and backup.id,
                               self.work / name, diff=self.work / f"d-{name}", owner="postgres:postgres",
                               settings=postgres.settings_for_clone(self.sockets), extra=extra)

    def start(self, mount):
        server = postgres.Server(mount["target"], self.sockets, self.major, mount["startCommand"])
        self.addCleanup(server.ensure_stopped)
        server.start()
        return server

    def wait_for_promotion(self, server):
        case.wait_until(lambda: server.sql("SELECT pg_is_in_recovery()") == "f", 300, "the promotion")

    def check_answers(self, server, golden):
        rows = [tuple(line.split("\t")) for line in golden.read_text(encoding="utf-8").split("\n") if line]
        differences = []
        for database, group in itertools.groupby(rows, key=lambda row: row[0]):
            group = list(group)
            answers = server.answers(database, [statement for _, statement, _ in group])
            for (_, statement, want), have in zip(group, answers, strict=True):
                if want != have:
                    differences.append(f"{database}: {statement}: {have!r} instead of {want!r}")
        self.assertEqual([], differences, f"answers differ from {golden.name}")

    def refused(self, code, reason, *arguments):
        done = self.daemon.cli(*arguments)
        self.assertEqual(code, done.returncode, done.stderr + done.stdout)
        self.assertIn(reason, done.stderr)
        dry = self.daemon.cli(*arguments, "--dry-run")
        self.assertEqual((code, done.stderr), (dry.returncode, dry.stderr), "a dry run says something else")
        return done.stderr

    def copy_of_catalog(self):
        """A copy whose archive may be changed; the backups are those of the original."""
        store = self.work / "store"
        # No hard links: they would change what another test watches.
        subprocess.run(["cp", "-a", self.catalog.store, store], check=True)
        return store, store / "wal" / self.backups[0].instance

    # Targets that can be reached.

    def test_every_target_gives_what_a_real_restore_gave(self):
        before = catalogs.snapshot(self.catalog.store)
        for backup in self.backups:
            targets = self.targets_of(backup)
            if not case.FULL_TIER:
                # An early one on the older backup, one of another kind on the newer.
                wanted = "name-1" if backup is self.backups[0] else "time-2"
                targets = [target for target in targets if target[0] == wanted]
            for name, text in targets:
                with self.subTest(backup=backup.id, target=name):
                    watch = case.Stopwatch()
                    mount = self.daemon.call(*self.arguments(backup, text))
                    server = self.start(mount)
                    self.wait_for_promotion(server)
                    self.check_answers(server, backup.golden(f"{name}.queries.tsv"))
                    server.stop()
                    self.daemon.unmount(mount["mountId"], "--delete-diff")
                    self.report(f"{backup} to {name}: {watch}")
        self.assertEqual("", catalogs.describe_change(before, catalogs.snapshot(self.catalog.store)))

    def test_an_archive_backup_starts_without_a_word_about_recovery_and_goes_on(self):
        backup = self.backups[-1]
        arguments = self.arguments(backup, None, name="plain")
        mount = self.daemon.call(*arguments)
        self.assertEqual({"immediate": True, "timeline": "current", "action": "promote"}, mount["recovery"])
        self.assertEqual(backup.control["stop-lsn"], mount["stopLsn"])
        server = self.start(mount)
        self.wait_for_promotion(server)
        self.check_answers(server, backup.golden("immediate.queries.tsv"))
        self.check_base_backup(server)
        server.sql("CREATE TABLE here AS SELECT 42 AS answer")
        server.stop()
        self.daemon.unmount("plain")

        # Promoted: the same request mounts it again, without recovery, on the timeline of its own.
        mount = self.daemon.call(*arguments)
        self.assertIsNone(mount.get("recovery"))
        self.assertNotIn(".pbkfs/wal", mount["startCommand"])
        server = self.start(mount)
        self.assertEqual("f|2|42", server.sql("SELECT pg_is_in_recovery(), timeline_id, answer "
                                              "FROM here, pg_control_checkpoint()"))
        server.stop()
        self.daemon.unmount("plain", "--delete-diff")

    def check_base_backup(self, server):
        self.assertNotIn(".pbkfs", os.listdir(server.pgdata))
        segment = f"00000001{0:08X}{segment_of(self.backups[-1].control['start-lsn']):08X}"
        wal = pathlib.Path(server.pgdata) / ".pbkfs" / "wal"
        self.assertEqual(SEGMENT_BYTES, (wal / segment).stat().st_size, "archived WAL is there by its name")
        self.assertEqual([], os.listdir(wal))
        copy = postgres.make_socket_dir(self.work / "copies") / "copy"
        server.tool("pg_basebackup", "-D", copy, "-c", "fast", "-X", "none")
        self.assertTrue((copy / "backup_label").exists())
        self.assertFalse((copy / ".pbkfs").exists(), "the archive was copied")

    def test_a_pause_is_a_pause_over_a_remount_and_the_diff_keeps_its_target(self):
        backup = self.backups[-1]
        point = self.points[0]
        arguments = self.arguments(backup, f"name={point['name']}", "--recovery-action", "pause", name="paused")
        server = self.start(self.daemon.call(*arguments))
        case.wait_until(lambda: server.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", 300, "the pause")
        server.stop()
        self.daemon.unmount("paused")
        other = self.arguments(backup, "latest", name="paused")
        text = self.refused(PRECONDITION, "DIFF_BOUND_ELSEWHERE", *other)
        self.assertIn(f"name={point['name']}", text)
        mount = self.daemon.call(*arguments)
        self.assertEqual(point["name"], mount["recovery"]["name"])
        server = self.start(mount)
        case.wait_until(lambda: server.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", 300, "the pause")
        self.assertEqual(point["count_t_pitr"], server.sql("SELECT count(*) FROM t_pitr", "bench"))
        server.sql("SELECT pg_wal_replay_resume()")
        self.wait_for_promotion(server)
        server.stop()
        self.daemon.unmount("paused", "--delete-diff")

    # The choice of a backup.

    def test_the_newest_backup_before_the_target_is_chosen(self):
        older, newer = self.backups[0], self.backups[-1]
        point = self.points[0]
        for target in (f"name={point['name']}", f"xid={point['xid']}", f"lsn={point['lsn']}",
                       f"time={point['time']}", "latest", "immediate"):
            mount = self.daemon.call(*self.arguments(None, target, "--dry-run"))
            self.assertEqual(newer.id, mount["backupId"], target)
            self.assertIn(newer.id, " ".join(mount["warnings"]), "the choice is not told")
        between = newer.control["start-lsn"]
        mount = self.daemon.call(*self.arguments(None, f"lsn={between}", "--dry-run"))
        self.assertEqual(older.id, mount["backupId"])

    # Targets that can't be reached.

    def test_targets_out_of_reach_are_refused_with_the_range(self):
        older, newer = self.backups[0], self.backups[-1]
        for backup, target in [(newer, f"lsn={older.control['stop-lsn']}"), (newer, f"time={older.control['recovery-time']}"),
                               (newer, "lsn=7/0"), (newer, "time=2200-01-01T00:00:00Z"), (newer, "xid=4000000"),
                               (newer, "name=nowhere"), (None, "name=nowhere"), (None, "lsn=0/1000028"),
                               (None, "time=2001-01-01T00:00:00Z")]:
            with self.subTest(target=target, backup=backup and backup.id):
                text = self.refused(USAGE, "TARGET_UNREACHABLE", *self.arguments(backup, target))
                oldest = (backup or older)
                self.assertIn(oldest.control["stop-lsn"], text, "the range is not told")
                self.assertRegex(text, "reachable")
        self.refused(USAGE, "TARGET_UNREACHABLE", *self.arguments(newer, "latest", "--recovery-timeline", "7"))
        self.refused(USAGE, "INVALID_FIELD", *self.arguments(newer, "latest", "--recovery-action", "rest"))

    def test_missing_segments_are_named(self):
        store, archive = self.copy_of_catalog()
        newer = self.backups[-1]
        first = segment_of(newer.control["stop-lsn"])
        missing = f"00000001{0:08X}{first + 1:08X}"
        (archive / f"{missing}.gz").unlink()
        last = self.points[-1]
        for target in (f"name={last['name']}", f"time={last['time']}", "latest"):
            text = self.refused(USAGE, "TARGET_UNREACHABLE", *self.arguments(newer, target, store=store))
            self.assertIn(missing, text)
        self.daemon.call(*self.arguments(newer, "immediate", "--dry-run", store=store))
        needed = f"00000001{0:08X}{first:08X}"
        (archive / f"{needed}.gz").unlink()
        text = self.refused(USAGE, "TARGET_UNREACHABLE", *self.arguments(newer, None, store=store))
        self.assertIn(needed, text)
        # To look at it no WAL is needed.
        mount = self.daemon.call(*self.arguments(newer, None, "--read-only", store=store))
        self.assertIn(needed, " ".join(mount["warnings"]))
        self.daemon.unmount(mount["mountId"])

    def test_a_damaged_segment_is_named_and_never_taken_for_the_end(self):
        store, archive = self.copy_of_catalog()
        newer = self.backups[-1]
        damaged = archive / f"00000001{0:08X}{segment_of(newer.control['stop-lsn']) + 1:08X}.gz"
        whole = damaged.read_bytes()
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 0x40
        damaged.unlink()  # It may be a link.
        damaged.write_bytes(broken)
        text = self.refused(DATA_LOSS, "CATALOG_CORRUPT", *self.arguments(newer, "latest", store=store))
        self.assertIn(damaged.name, text)

        # Damage that comes after the mount: the server stops instead of going on with less.
        damaged.write_bytes(whole)
        mount = self.daemon.call(*self.arguments(newer, "latest", store=store))
        damaged.write_bytes(broken)
        with self.assertRaises(postgres.PostgresError) as failure:
            self.start(mount)
        self.assertIn("could not restore file", str(failure.exception))
        damaged.write_bytes(whole)
        server = self.start(mount)
        self.wait_for_promotion(server)
        self.check_answers(server, newer.golden("latest.queries.tsv"))
        server.stop()
        self.daemon.unmount(mount["mountId"], "--delete-diff")


if __name__ == "__main__":
    case.main()

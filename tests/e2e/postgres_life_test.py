"""What PostgreSQL does in its life, on a mount: every kind of change to files, each followed by amcheck.

The steps do not depend on one another and run in a random order.
"""

import os
import shutil

from pbkfs_e2e import case, postgres
from pbkfs_e2e.production import Production

ROWS = 100_000 if case.FULL_TIER else 10_000
ROUNDS = 3 if case.FULL_TIER else 1
# Without autovacuum, whose locks can keep VACUUM from truncating.
TABLE = f"""
    CREATE TABLE t WITH (autovacuum_enabled = off) AS
        SELECT i, repeat(md5(i::text), 6) AS filler FROM generate_series(1, {ROWS}) i;
    ALTER TABLE t ADD PRIMARY KEY (i);
    CREATE INDEX t_filler ON t (filler);"""
SUM = "SELECT count(*), md5(string_agg(filler, ',' ORDER BY i)) FROM {}"


class PostgresLife(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.production.fill("CREATE TABLE journal (line text)")
        self.production.back_up()
        self.production.server.sql("UPDATE pgbench_accounts SET filler = 'changed' WHERE aid <= 1000")
        self.production.back_up("delta")
        self.production.server.stop()
        self.journal = []

    def test_every_step_of_a_servers_life(self):
        rng = case.seeded_random(self, "order of the steps")
        self.mount()
        for _ in range(ROUNDS):
            steps = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("step_")]
            rng.shuffle(steps)
            for step in steps:
                self.run_step(step)
        self.step_unmount_and_mount_again()
        self.check("--all")
        self.server.stop()
        self.server.tool("pg_checksums", "--check", "-D", self.server.pgdata, connect=False)
        self.daemon.unmount("m")

    def mount(self):
        self.server = self.production.mount(self.daemon, self.work / "m", self.work / "d", {"fsync": "on"})
        self.server.start()

    def run_step(self, step):
        watch = case.Stopwatch()
        name = step.__name__.removeprefix("step_")
        self.server.sql("DROP DATABASE IF EXISTS life; CREATE DATABASE life")
        step()
        self.server.sql(f"INSERT INTO journal VALUES ('{name}')")
        self.journal.append(name)
        self.check("-d", "postgres", "-d", "life")
        self.report(f"{name}: {watch}")

    def check(self, *which):
        self.server.tool("pg_amcheck", *which, "--install-missing", "--heapallindexed")
        self.assertEqual(self.journal, self.server.sql("SELECT line FROM journal ORDER BY ctid").split())

    def life(self, text):
        return self.server.sql(text, "life")

    def assert_sum_is_kept(self, statements, table="t"):
        before = self.life(SUM.format(table))
        self.life(statements)
        self.assertEqual(before, self.life(SUM.format(table)))

    def step_databases(self):
        self.life(TABLE)
        self.server.sql("""
            CREATE DATABASE copied TEMPLATE life STRATEGY file_copy;
            CREATE DATABASE logged TEMPLATE life STRATEGY wal_log;""")
        want = self.life(SUM.format("t"))
        self.assertEqual(want, self.server.sql(SUM.format("t"), "copied"))
        self.server.sql("DROP DATABASE logged; ALTER DATABASE copied RENAME TO moved; CHECKPOINT")
        self.assertEqual(want, self.server.sql(SUM.format("t"), "moved"))
        oid = self.server.sql("SELECT oid FROM pg_database WHERE datname = 'moved'")
        self.server.sql("DROP DATABASE moved")
        self.assertFalse((self.server.pgdata / "base" / oid).exists())

    def step_tablespaces(self):
        self.life(TABLE)
        self.life("SET allow_in_place_tablespaces = on; CREATE TABLESPACE place LOCATION ''")
        self.assert_sum_is_kept("ALTER TABLE t SET TABLESPACE place; ALTER INDEX t_filler SET TABLESPACE place")
        self.assert_sum_is_kept("CREATE TABLE u TABLESPACE place AS TABLE t; DROP TABLE u; CHECKPOINT")
        self.server.crash()
        self.server.start()
        self.assert_sum_is_kept("ALTER TABLE t SET TABLESPACE pg_default;"
                                "ALTER INDEX t_filler SET TABLESPACE pg_default")
        self.life("DROP TABLESPACE place")

    def step_vacuum_full(self):
        self.life(TABLE + "DELETE FROM t WHERE i % 2 = 0;")
        self.assert_sum_is_kept("VACUUM FULL t")
        self.assert_sum_is_kept("VACUUM FULL")

    def step_vacuum_truncates(self):
        self.life(TABLE + f"DELETE FROM t WHERE i > {ROWS // 10};")
        before = int(self.life("SELECT pg_relation_size('t')"))
        self.assert_sum_is_kept("VACUUM (TRUNCATE) t; CHECKPOINT")
        path = self.server.pgdata / self.life("SELECT pg_relation_filepath('t')")
        self.assertLess(path.stat().st_size, before // 2)
        self.assertEqual(path.stat().st_size, int(self.life("SELECT pg_relation_size('t')")))
        # A crash now replays the truncation; growing again must not show old rows.
        self.server.crash()
        self.server.start()
        self.life(f"INSERT INTO t SELECT i, '' FROM generate_series({ROWS} + 1, {2 * ROWS}) i")
        self.assertEqual(str(ROWS), self.life("SELECT count(*) FROM t WHERE filler = ''"))

    def step_truncation_of_a_backups_table(self):
        """Of one whose pages are in the backup; the table is filled again for the other steps."""
        self.server.sql("TRUNCATE pgbench_accounts; CHECKPOINT")
        self.assertEqual("0", self.server.sql("SELECT count(*) FROM pgbench_accounts"))
        self.server.crash()
        self.server.start()
        self.assertEqual("0", self.server.sql("SELECT count(*) FROM pgbench_accounts"))
        self.server.sql("INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, 10000) i")
        self.server.sql("DELETE FROM pgbench_accounts WHERE aid > 1000; VACUUM pgbench_accounts")
        self.assertEqual("1000|500500", self.server.sql("SELECT count(*), sum(aid) FROM pgbench_accounts"))
        self.server.sql("INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1001, 10000) i")

    def step_cluster_and_reindex(self):
        self.life(TABLE)
        self.assert_sum_is_kept("CLUSTER t USING t_filler")
        self.assert_sum_is_kept("REINDEX TABLE t; REINDEX TABLE CONCURRENTLY t")
        self.life("REINDEX (VERBOSE) SYSTEM life")

    def step_unlogged_tables(self):
        self.life(TABLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE"))
        self.life("CREATE UNLOGGED TABLE kept AS TABLE t; CHECKPOINT; ALTER TABLE kept SET LOGGED")
        want = self.life(SUM.format("kept"))
        self.server.crash()
        self.server.start()
        self.assertEqual("0", self.life("SELECT count(*) FROM t"))
        self.assertEqual(want, self.life(SUM.format("kept")))
        self.life("INSERT INTO t TABLE kept")
        self.server.stop()
        self.server.start()
        self.assertEqual(want, self.life(SUM.format("t")))

    def step_two_phase_commits(self):
        self.life(TABLE)
        self.life(f"BEGIN; DELETE FROM t WHERE i <= {ROWS // 2}; PREPARE TRANSACTION 'done';")
        self.life(f"BEGIN; UPDATE t SET filler = '' WHERE i = {ROWS}; PREPARE TRANSACTION 'undone'; CHECKPOINT")
        self.server.stop()
        self.daemon.unmount("m")
        self.mount()
        self.assertEqual("2", self.life("SELECT count(*) FROM pg_prepared_xacts"))
        self.life("COMMIT PREPARED 'done'")
        self.server.crash()
        self.server.start()
        self.life("ROLLBACK PREPARED 'undone'")
        self.assertEqual(str(ROWS // 2), self.life("SELECT count(*) FROM t WHERE filler <> ''"))

    def step_large_objects(self):
        self.life(f"""
            CREATE TABLE objects AS SELECT lo_from_bytea(0, decode(repeat(md5(i::text), {ROWS // 20}), 'hex')) AS id, i
            FROM generate_series(1, 10) i;
            SELECT lo_put(id, 1000, '\\x0102') FROM objects;
            SELECT lo_unlink(id) FROM objects WHERE i > 5;
            DELETE FROM objects WHERE i > 5;
            VACUUM FULL pg_largeobject;""")
        question = ("SELECT string_agg(md5(lo_get(id)), ',' ORDER BY i),"
                    " (SELECT count(*) FROM pg_largeobject_metadata) FROM objects")
        before = self.life(question)
        self.assertTrue(before.endswith("|5"), before)
        self.server.crash()
        self.server.start()
        self.assertEqual(before, self.life(question))

    def step_temporary_files(self):
        answers = self.server.answers("life", [
            "SET work_mem = '64kB'",
            f"SELECT count(*) FROM (SELECT random() r FROM generate_series(1, {5 * ROWS}) ORDER BY r) x",
            f"CREATE TEMP TABLE scratch AS SELECT generate_series(1, {ROWS}) i",
            "SELECT sum(i) FROM scratch", "SELECT pg_stat_force_next_flush()",
            "SELECT temp_bytes > 0 FROM pg_stat_database WHERE datname = 'life'"])
        self.assertEqual([str(5 * ROWS), "t"], [answers[1], answers[5]])
        temporary = self.server.pgdata / "base" / "pgsql_tmp"
        self.assertEqual([], os.listdir(temporary) if temporary.exists() else [])

    def step_wal_recycling(self):
        # Without the index: random pages, written far more often than small buffers can hold, are no matter of WAL.
        self.life(TABLE + "DROP INDEX t_filler;")
        for _ in range(8 if case.FULL_TIER else 3):
            self.life("UPDATE t SET filler = reverse(filler); SELECT pg_switch_wal(); CHECKPOINT")
        segments = [name for name in os.listdir(self.server.pgdata / "pg_wal") if len(name) == 24]
        self.assertLess(len(segments), 16, "old WAL segments are not removed or recycled")
        self.server.crash()
        self.server.start()
        self.assertEqual(str(ROWS), self.life("SELECT count(*) FROM t"))

    def step_base_backup(self):
        """Of the mount, and the copy starts."""
        self.life(TABLE)
        want = self.life(SUM.format("t"))
        copy = self.work / "copy"
        copy.mkdir(mode=0o700)
        os.chown(copy, postgres.account().pw_uid, postgres.account().pw_gid)
        self.server.tool("pg_basebackup", "-D", copy, "-X", "stream", "-c", "fast")
        self.server.tool("pg_verifybackup", copy, connect=False)
        sockets = self.work / "sc"
        if not sockets.exists():
            postgres.make_socket_dir(sockets)
        with open(copy / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            conf.write(f"\nunix_socket_directories = '{sockets}'\n")
        other = postgres.Server(copy, sockets, self.production.major)
        self.addCleanup(other.ensure_stopped)
        other.start()
        self.assertEqual(want, other.sql(SUM.format("t"), "life"))
        other.stop()
        shutil.rmtree(copy)

    def step_benchmark_and_crash(self):
        self.server.tool("pgbench", "-n", "-c", "4", "-t", ROWS // 100, "postgres")
        self.server.crash()
        self.server.start()
        self.assertEqual("t", self.server.sql("SELECT sum(delta) = (SELECT sum(bbalance) FROM pgbench_branches)"
                                              " FROM pgbench_history"))

    def step_unmount_and_mount_again(self):
        self.server.stop()
        self.daemon.unmount("m")
        self.mount()


class BetweenBackups(case.E2ECase):
    """What happened to a table between the backups of one chain."""

    def test_truncation_between_two_backups_brings_no_old_rows_back(self):
        production = Production(self)
        server = production.server
        server.sql("""
            CREATE EXTENSION amcheck;
            CREATE TABLE shrunk WITH (autovacuum_enabled = off) AS
                SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 20000) i;
            CREATE TABLE emptied AS TABLE shrunk;
            CREATE TABLE regrown WITH (autovacuum_enabled = off) AS TABLE shrunk;""")
        production.back_up()
        server.sql("DELETE FROM shrunk WHERE i > 1000; VACUUM (TRUNCATE) shrunk; TRUNCATE emptied;"
                   "DELETE FROM regrown WHERE i > 1000; VACUUM (TRUNCATE) regrown;")
        production.back_up("delta")
        server.sql("INSERT INTO regrown SELECT i, repeat('y', 100) FROM generate_series(100001, 119000) i;")
        production.back_up("delta")
        question = """SELECT (SELECT (count(*), sum(i), pg_relation_size('shrunk')) FROM shrunk),
            (SELECT (count(*), pg_relation_size('emptied')) FROM emptied),
            (SELECT (count(*), sum(i), count(*) FILTER (WHERE filler ~ '^y'), pg_relation_size('regrown'))
             FROM regrown)"""
        want = server.sql(question)
        self.assertIn("(1000,500500,", want)
        server.stop()
        clone = production.mount(self.daemon, self.work / "m", self.work / "d")
        clone.start()
        self.assertEqual(want, clone.sql(question))
        clone.tool("pg_amcheck", "--all", "--install-missing", "--heapallindexed")
        clone.stop()
        self.daemon.unmount("m")


if __name__ == "__main__":
    case.main()

"""PostgreSQL runs on a mount: it answers as on a real restore, its checks are clean, and what it writes stays."""

import itertools

from pbkfs_e2e import catalogs, case, postgres


class GoldenQueries(case.E2ECase):
    def test_server_on_the_mount_answers_like_one_on_a_restore(self):
        for backup in self._backups():
            with self.subTest(backup=str(backup)):
                self._check_backup(backup)

    def _backups(self):
        """The newest of each chain; in the full tier the oldest too."""
        chains = [chain for catalog in self.catalogs() for chain in catalog.startable_chains()]
        self.need(chains, "no catalog has a STREAM backup with golden/<backup>.queries.tsv")
        wanted = [(chain[-1], chain[0]) if case.FULL_TIER else (chain[-1],) for chain in chains]
        return list(dict.fromkeys(itertools.chain.from_iterable(wanted)))

    def _check_backup(self, backup):
        self.need(postgres.account(), "user postgres does not exist; install postgresql")
        self.need(postgres.bindir(backup.server_version), f"PostgreSQL {backup.server_version} is not installed")
        watch = case.Stopwatch()
        before = catalogs.snapshot(backup.store)
        name = backup.id.lower()
        self.place = {"target": self.work / name, "diff": self.work / f"d-{name}"}
        self.sockets = postgres.make_socket_dir(self.work / f"s-{name}")

        server = self._mount_and_start(backup)
        self._compare_answers(server, backup)
        self.report(f"{backup}: answers compared, {watch}")
        self._check_integrity_and_stop(server, backup, watch)

        server.start()
        sums = self._write(server)
        server.stop()
        self.daemon.unmount(name)
        server = self._mount_and_start(backup)
        self.assertEqual(sums, self._sums(server), "the written data changed over unmount and mount")
        self.assertEqual("f", server.sql("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'e2e_dropped')"))
        self._check_integrity_and_stop(server, backup, watch)
        self.daemon.unmount(name, "--delete-diff")
        self.assertFalse(self.place["diff"].exists(), "--delete-diff left the diff")

        after = catalogs.snapshot(backup.store)
        self.assertEqual("", catalogs.describe_change(before, after), f"catalog {backup.catalog.name} was changed")

    def _mount_and_start(self, backup):
        # The catalogs' own configuration has fsync off; a clone with it on exercises the whole write path.
        settings = {**postgres.settings_for_clone(self.sockets), "fsync": "on"}
        mount = self.daemon.mount(backup.store, backup.instance, backup.id, self.place["target"],
                                  diff=self.place["diff"], owner="postgres:postgres", settings=settings)
        self.assertEqual(backup.server_version, mount["serverVersion"])
        server = postgres.Server(self.place["target"], self.sockets, backup.server_version, mount["startCommand"])
        self.addCleanup(server.ensure_stopped)
        server.start()
        return server

    def _compare_answers(self, server, backup):
        differences = []
        for database, rows in itertools.groupby(backup.queries(), key=lambda row: row[0]):
            rows = list(rows)
            answers = server.answers(database, [statement for _, statement, _ in rows])
            for (_, statement, want), have in zip(rows, answers, strict=True):
                if want != have:
                    differences.append(f"{database}: {statement}: {have!r} instead of {want!r}")
        self.assertEqual([], differences, f"answers differ from those on a restore of {backup}")

    def _check_integrity_and_stop(self, server, backup, watch):
        server.tool("pg_amcheck", "--all", "--install-missing", "--no-strict-names")
        server.stop()
        if backup.control.get("checksum-version", "0") != "0":
            server.tool("pg_checksums", "--check", "-D", server.pgdata, connect=False)
        self.report(f"{backup}: amcheck and checksums clean, {watch}")

    def _write(self, server):
        """Every kind of write that PostgreSQL has for files; returns what must be found again."""
        server.sql("CREATE DATABASE e2e_bench;\nCREATE DATABASE e2e_dropped STRATEGY file_copy;")
        server.tool("pgbench", "-i", "-q", "-s", "2", "e2e_bench")
        server.tool("pgbench", "-n", "-c", "4", "-j", "2", "-t", "100", "e2e_bench")
        server.sql("""
            CREATE TABLE written AS SELECT i, repeat(md5(i::text), 20) AS filler FROM generate_series(1, 20000) i;
            CREATE INDEX ON written (filler);
            DELETE FROM written WHERE i > 15000;
            VACUUM written;
            CREATE TABLE emptied AS TABLE written;
            TRUNCATE emptied;
            CREATE TABLE dropped AS TABLE written;
            DROP TABLE dropped;
            CLUSTER written USING written_filler_idx;
            CHECKPOINT;""", "e2e_bench")
        server.sql("DROP DATABASE e2e_dropped")
        sums = self._sums(server)
        self.assertEqual("200000", sums[0].split("|")[0])
        return sums

    def _sums(self, server):
        return server.answers("e2e_bench", [
            "SELECT count(*), sum(abalance) FROM pgbench_accounts",
            "SELECT count(*), sum(delta) FROM pgbench_history",
            "SELECT count(*), md5(string_agg(filler, ',' ORDER BY i)) FROM written",
            "SELECT count(*) FROM emptied",
            "SELECT sum(bbalance) = (SELECT sum(tbalance) FROM pgbench_tellers) FROM pgbench_branches"])


if __name__ == "__main__":
    case.main()

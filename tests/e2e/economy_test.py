"""What a diff costs: reading copies no block, and writing the blocks that changed and little more."""

import errno
import os

from pbkfs_e2e import case
from pbkfs_e2e.production import INSTANCE, Production

BLOCK = 8192
SCALE = 10 if case.FULL_TIER else 2
TRANSACTIONS = 5000 if case.FULL_TIER else 500
# Beyond the blocks that changed, in a relation's data file: pages that were written back as they were.
SLACK_BYTES = 64 << 10
READ_ONLY_TABLES = ("pgbench_accounts", "pgbench_accounts_pkey", "hinted")


def data_bytes(path):
    """What a sparse file holds. Not st_blocks: some file systems allocate ahead of the writer."""
    total, at = 0, 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while True:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, begin, os.SEEK_HOLE)
            total += at - begin
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return total
    finally:
        os.close(fd)


class Economy(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        server = self.production.server
        server.tool("pgbench", "-i", "-q", "-s", str(SCALE), "postgres")
        server.sql("""
            CREATE EXTENSION amcheck;
            CREATE TABLE hinted WITH (autovacuum_enabled = off) AS SELECT i FROM generate_series(1, 100000) i;
            CREATE TABLE unhinted WITH (autovacuum_enabled = off) AS TABLE hinted;
            VACUUM (FREEZE, ANALYZE) hinted;
            VACUUM (FREEZE, ANALYZE) pgbench_accounts;""")
        self.production.back_up()
        server.tool("pgbench", "-n", "-t", "20", "postgres")
        # With few dead entries VACUUM leaves the index alone, and then a scan writes which of them are dead.
        server.sql("""
            VACUUM (FREEZE, INDEX_CLEANUP on) pgbench_accounts;
            UPDATE hinted SET i = i WHERE i <= 100;
            VACUUM (FREEZE) hinted;""")
        self.production.back_up("delta")
        server.stop()
        self.diff = self.work / "d"
        # Background work would be counted with what is measured.
        self.server = self.production.mount(self.daemon, self.work / "m", self.diff, {"autovacuum": "off"})
        self.server.start()

    def test_reading_copies_nothing_and_writing_what_changed(self):
        # Recovery, and the catalog pages that the first connection touches.
        self.server.sql("SELECT count(*) FROM pg_class; CHECKPOINT")
        self.report(f"diff after recovery: {self.diff_bytes() / 1e6:.2f} MB")
        self.read_only("scan of tables with hint bits", lambda: [
            self.server.sql(f"SELECT count(*) FROM {table}") for table in ("pgbench_accounts", "hinted")])
        self.read_only("pg_dump", lambda: self.server.tool("pg_dump", "-T", "unhinted", "postgres"))
        self.read_only("pg_amcheck", lambda: self.server.tool(
            "pg_amcheck", "--heapallindexed", "-t", "pgbench_accounts", "-t", "hinted", "-d", "postgres"))
        self.measure("first scan of a table without hint bits",
                     lambda: self.server.sql("SELECT count(*) FROM unhinted; CHECKPOINT"))
        self.write()

    def diff_bytes(self):
        return int(self.daemon.stats("m")["diff"]["diffBytes"])

    def measure(self, what, action):
        before, copied_before = self.diff_bytes(), self.blocks_copied()
        action()
        self.report(f"{what}: diff grew by {(self.diff_bytes() - before) / 1e3:.0f} kB, "
                    f"{self.blocks_copied() - copied_before} blocks completed from the backup")

    def blocks_copied(self):
        return int(self.daemon.stats("m")["io"].get("blocksCopied", 0))

    def read_only(self, what, action):
        self.measure(what, action)
        for table in READ_ONLY_TABLES:
            path = self.path(table)
            self.assertGreater(path.stat().st_size, 20 * BLOCK)
            self.assertFalse(self.data_file(path).exists(), f"{what} gave {table} a data file in the diff")

    def path(self, relation):
        return self.server.pgdata / self.server.sql(f"SELECT pg_relation_filepath('{relation}')")

    def data_file(self, path):
        """Where the diff keeps what was written to a file (FORMAT.md)."""
        return self.diff / "data" / f"{path.stat().st_ino:x}"

    def write(self):
        stats = self.daemon.stats("m")
        self.server.tool("pgbench", "-n", "-c", "2", "-t", TRANSACTIONS // 2, "postgres")
        self.server.sql("CHECKPOINT")
        self.server.stop()
        # The same backup untouched, to compare with.
        self.daemon.mount(self.production.store, INSTANCE, None, self.work / "before", diff=self.work / "db")
        changed = relations = log = 0
        for path in sorted((self.work / "m").rglob("*")):
            if not path.is_file() or not self.data_file(path).exists():
                continue
            allocated = data_bytes(self.data_file(path))
            relative = path.relative_to(self.work / "m")
            if relative.parts[0] != "base":
                log += allocated
                continue
            blocks = self.changed_blocks(path, self.work / "before" / relative)
            self.assertLessEqual(allocated, blocks * BLOCK + SLACK_BYTES,
                                 f"{relative}: {blocks} blocks changed, and its data file holds {allocated} bytes")
            changed += blocks
            relations += allocated
        metalog = int(self.daemon.stats("m")["diff"]["metalogBytes"])
        self.assertGreater(changed, 50)
        self.report(f"TPC-B, {TRANSACTIONS} transactions: {changed} blocks of relations differ from the backup "
                    f"({changed * BLOCK / 1e6:.2f} MB); their data files hold {relations / 1e6:.2f} MB "
                    f"({(relations / (changed * BLOCK) - 1) * 100:+.1f}%), WAL and the rest {log / 1e6:.2f} MB, "
                    f"the log {metalog / 1e3:.0f} kB; the diff grew by "
                    f"{(self.diff_bytes() - int(stats['diff']['diffBytes'])) / 1e6:.2f} MB")
        self.assertLess(metalog, relations // 4 + (1 << 20), "the log takes more than a part of the data")
        self.daemon.unmount("before")
        self.daemon.unmount("m")

    def changed_blocks(self, path, before):
        have = path.read_bytes()
        want = before.read_bytes() if before.exists() else b""
        return sum(have[at:at + BLOCK] != want[at:at + BLOCK] for at in range(0, len(have), BLOCK))


if __name__ == "__main__":
    case.main()

"""materialize_on_read: what was read once no longer needs the backup, shown by taking the catalog away."""

import errno
import mmap
import os
import time

from pbkfs_e2e import case, postgres
from pbkfs_e2e.daemon import series
from pbkfs_e2e.synthetic import SyntheticCatalog

BLOCK = 8192
OWNER = "postgres:postgres"
WAIT_SECONDS = 60


def read_past_the_cache(path):
    """The file's bytes, each asked of the daemon."""
    size = path.stat().st_size
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        content = b""
        while len(content) < size:
            page = mmap.mmap(-1, BLOCK)
            count = os.preadv(fd, [page], len(content))
            content += page[:count]
        return content
    finally:
        os.close(fd)


class Materialize(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.need(postgres.account(), "user postgres does not exist; install postgresql")
        self.catalog = SyntheticCatalog(self, relations=3, blocks=40)
        self.root = self.work / "m"

    def mount(self, *extra):
        self.daemon.mount(self.catalog.store, "node", None, self.root, diff=self.work / "d", owner=OWNER, extra=extra)
        return [path for path in sorted((self.root / "base").rglob("*"))
                if path.is_file() and path.stat().st_size >= 4 * BLOCK]

    def filled(self):
        return int(self.daemon.stats("m")["io"].get("fills", {}).get("filled", 0))

    def wait_for_fills(self, path):
        """Reads `path` until the diff has all of it."""
        content = read_past_the_cache(path)
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            before = int(self.daemon.stats("m")["io"].get("readBytesBackup", 0))
            self.assertEqual(content, read_past_the_cache(path))
            if int(self.daemon.stats("m")["io"].get("readBytesBackup", 0)) == before:
                return content
            time.sleep(0.05)
        self.fail("the blocks of a small file are not copied")

    def test_a_file_that_was_read_does_not_need_the_catalog(self):
        wanted, other = self.mount("--materialize-on-read")[:2]
        times = wanted.stat()
        content = self.wait_for_fills(wanted)
        self.assertEqual((times.st_mtime_ns, times.st_ctime_ns), (wanted.stat().st_mtime_ns, wanted.stat().st_ctime_ns))
        self.assertGreaterEqual(self.filled(), len(content) // BLOCK)
        metrics = self.daemon.metrics()
        self.assertEqual(self.filled(),
                         sum(series(metrics, "pbkfs_fills_total", mount="m", result="filled").values()))
        away = self.catalog.store.with_name("away")
        os.rename(self.catalog.store, away)
        try:
            self.assertEqual(content, read_past_the_cache(wanted))
            # What was not read is behind the catalog still: an error, never other bytes.
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    read_past_the_cache(other)
                except OSError as error:
                    self.assertEqual(errno.EIO, error.errno)
                    break
                self.assertLess(time.monotonic(), deadline, "the catalog is not missed")
            self.assertEqual(content, read_past_the_cache(wanted))
        finally:
            os.rename(away, self.catalog.store)

    def test_without_the_option_reads_leave_the_diff_alone(self):
        path = self.mount()[0]
        size = int(self.daemon.stats("m")["diff"].get("diffBytes", 0))
        read_past_the_cache(path)
        self.assertEqual(0, self.filled())
        self.assertEqual(size, int(self.daemon.stats("m")["diff"].get("diffBytes", 0)))


if __name__ == "__main__":
    case.main()

"""materialize_on_read: what was read once no longer needs the backup, shown by taking the catalog away."""

import errno
import mmap
import os
import shutil
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
        shutil.rmtree(self.catalog.store)
        self.assertEqual(content, read_past_the_cache(wanted))
        # What was not read is behind the catalog still: an error soon, never other bytes. Each block is asked for
        # once, since one that was read needs the catalog no more.
        errors = 0
        fd = os.open(other, os.O_RDONLY | os.O_DIRECT)
        for block in range(other.stat().st_size // BLOCK):
            try:
                os.preadv(fd, [mmap.mmap(-1, BLOCK)], block * BLOCK)
            except OSError as error:
                self.assertEqual(errno.EIO, error.errno)
                errors += 1
            time.sleep(0.1)
        os.close(fd)
        self.assertGreater(errors, 0, "the catalog is not missed")
        self.assertEqual(content, read_past_the_cache(wanted))

    def test_without_the_option_reads_leave_the_diff_alone(self):
        path = self.mount()[0]
        size = int(self.daemon.stats("m")["diff"].get("diffBytes", 0))
        read_past_the_cache(path)
        self.assertEqual(0, self.filled())
        self.assertEqual(size, int(self.daemon.stats("m")["diff"].get("diffBytes", 0)))


if __name__ == "__main__":
    case.main()

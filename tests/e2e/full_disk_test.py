"""The disk of the diff is full, or the diff is as large as it may be: errors are clean, nothing that was there is lost,
work goes on when space returns."""

import errno
import os
import pathlib
import signal
import subprocess

try:
    import grpc
except ImportError:
    grpc = None

from pbkfs_e2e import case, daemon, loop_images, postgres, workers
from pbkfs_e2e.production import Production
from pbkfs_e2e.synthetic import SyntheticCatalog, largest_file

MIB = 1 << 20
NO_SPACE = "No space left on device"
# What PostgreSQL itself needs, and some more: the disk must not be full before the test fills it.
SERVER_DISK_BYTES = 144 * MIB
FILES_DISK_BYTES = 24 * MIB
# Given back when the server can't even recover.
BALLAST_BYTES = 40 * MIB
BATCH_ROWS = 2000
LIMIT_BYTES = 8 * MIB
PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def free_bytes(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class FullDisk(case.E2ECase):
    def setUp(self):
        super().setUp()
        loop_images.require_tools(self)
        self.disk = self.work / "disk"

    def make_disk(self, kind, size):
        if kind == "tmpfs":
            loop_images.mount_tmpfs(self, self.disk, size)
        else:
            loop_images.LoopImage.make(kind, self.work / "disk.img", self.disk, size).mount(self)

    def free_bytes(self):
        return free_bytes(self.disk)


class FileByFile:
    """What tests without a server do with the files of a mount."""

    def write_until_full(self, root):
        """{path: content} of the files that could be written, whole or in part."""
        written = {}
        for number in range(10_000):
            path, content = root / f"file{number}", os.urandom(256 << 10)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                self.assertEqual(errno.ENOSPC, error.errno)
                return written
            done = 0
            try:
                while done < len(content):
                    done += os.write(fd, content[done:])
                os.fsync(fd)
            except OSError as error:
                self.assertEqual(errno.ENOSPC, error.errno)
                # What a write that failed left behind is a part of what was to be written.
                self.assertEqual(content[:os.fstat(fd).st_size], path.read_bytes())
                written[path] = content[:os.fstat(fd).st_size]
                return written
            finally:
                os.close(fd)
            written[path] = content
        self.fail("the disk is never full")

    def overwrite(self, path, content):
        fd = os.open(path, os.O_WRONLY)
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(fd, content[done:], done)
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync(self, *paths):
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

class Files(FileByFile, FullDisk):
    """A small disk, without a server."""

    def test_files_on_ext4(self):
        self.fill_with_files("ext4")

    def test_files_on_tmpfs(self):
        self.fill_with_files("tmpfs")

    def fill_with_files(self, kind):
        self.make_disk(kind, FILES_DISK_BYTES)
        catalog = SyntheticCatalog(self, relations=3, blocks=64)
        root = self.work / "m"

        def mount():
            self.daemon.mount(catalog.store, catalog.instance, None, root, diff=self.disk / "d")

        mount()
        relation = largest_file(root / "base")
        original = relation.read_bytes()
        written = self.write_until_full(root)
        self.assertGreater(len(written), 10, "the disk was full at once")

        def check():
            for path, content in written.items():
                self.assertEqual(content, path.read_bytes(), path)
            self.assertEqual(bytes(original), relation.read_bytes())

        check()
        self.sync(root, *written)
        with self.assertRaises(OSError) as raised:
            self.overwrite(relation, os.urandom(len(original)))
        self.assertEqual(errno.ENOSPC, raised.exception.errno)
        self.assertEqual(len(original), relation.stat().st_size)

        free = self.free_bytes()
        gone = sorted(written)[len(written) // 2:]
        for path in gone:
            path.unlink()
        self.sync(root)
        freed = sum(len(written.pop(path)) for path in gone)
        case.wait_until(lambda: self.free_bytes() - free > freed * 3 // 4, 60, "the return of the space")
        original = os.urandom(len(original))
        self.overwrite(relation, original)
        self.sync(relation)
        check()
        self.daemon.unmount("m")
        mount()
        check()
        self.daemon.unmount("m")


class EarlierErrors(case.E2ECase):
    """Another program's write-out failed before the mount, and nobody has asked the kernel about it since."""

    def setUp(self):
        super().setUp()
        loop_images.require_tools(self)
        below = self.work / "below"
        loop_images.mount_tmpfs(self, below, 48 * MIB)
        disk = loop_images.LoopImage.make("ext4", below / "disk.img", self.work / "disk", 300 * MIB).mount(self).target
        with open(disk / "junk", "wb") as junk:
            for _ in range(100):
                junk.write(os.urandom(MIB))
            junk.flush()
            with self.assertRaises(OSError):
                os.fsync(junk.fileno())
        (disk / "junk").unlink()
        subprocess.run(["mount", "-o", "remount,size=600m", below], check=True)
        catalog = SyntheticCatalog(self)
        self.root = self.work / "m"
        self.daemon.mount(catalog.store, catalog.instance, None, self.root, diff=disk / "d")

    def test_syncs_go_on_after_the_death_of_the_worker(self):
        killed = workers.kill_worker(self.daemon.pid)
        workers.wait_for_worker(self.daemon.pid, other_than=killed)
        with open(self.root / "new", "wb") as new:
            new.write(b"new")
            new.flush()
            os.fsync(new.fileno())

    def test_what_was_written_is_there_after_the_death_of_all_processes(self):
        relation = largest_file(self.root / "base")
        with open(relation, "r+b") as file:
            file.write(b"acknowledged")
        for pid in daemon.descendants(self.daemon.pid):
            os.kill(pid, signal.SIGKILL)
        self.daemon.stop()
        self.daemon.start()
        case.wait_until(lambda: os.path.ismount(self.root), 30, "the mount being made again")
        self.assertTrue(relation.read_bytes().startswith(b"acknowledged"))


class Limit(FileByFile, case.E2ECase):
    """diff_limit_bytes: the disk has space, the diff must not take it."""

    def setUp(self):
        super().setUp()
        self.need(grpc, "python3-grpcio is not installed")
        self.catalog = SyntheticCatalog(self, relations=3, blocks=64)
        self.root, self.diff = self.work / "m", self.work / "d"

    def mount(self):
        fields = {"mount_id": "m", "store": self.catalog.store, "instance": self.catalog.instance, "target": self.root,
                  "diff_dir": self.diff}
        text = "".join(f'{name}: "{value}"\n' for name, value in fields.items())
        encoded = subprocess.run(["protoc", f"--proto_path={PROTO}", "--encode=pbkfs.v1.MountRequest",
                                  "pbkfs/v1/mount.proto"], input=f"{text}diff_limit_bytes: {LIMIT_BYTES}".encode(),
                                 capture_output=True, check=True)
        with grpc.insecure_channel(self.daemon.address) as channel:
            channel.unary_unary("/pbkfs.v1.MountService/Mount")(encoded.stdout, timeout=120)

    def remount(self):
        self.daemon.unmount("m")
        self.daemon.check_diff(self.diff)
        self.mount()

    def assert_within_the_limit(self):
        """What the diff takes of its disk, but for what is put aside for its log, and what the mount shows of it."""
        taken = (self.diff / "log").stat().st_size
        taken += sum(path.stat().st_blocks * 512 for path in (self.diff / "data").iterdir())
        self.assertLessEqual(taken, LIMIT_BYTES)
        found = os.statvfs(self.root)
        self.assertEqual(LIMIT_BYTES, found.f_blocks * found.f_frsize)
        self.assertLessEqual(free_bytes(self.root), LIMIT_BYTES - taken + MIB // 4)

    def assert_no_space(self, path, content):
        with self.assertRaises(OSError) as raised:
            self.overwrite(path, content)
        self.assertEqual(errno.ENOSPC, raised.exception.errno)

    def test_growth_ends_at_the_limit_and_all_else_goes_on(self):
        self.mount()
        self.assert_within_the_limit()
        relation = largest_file(self.root / "base")
        expected = {relation: relation.read_bytes(), **self.write_until_full(self.root)}
        self.assertGreater(sum(map(len, expected.values())), LIMIT_BYTES // 2)
        self.assertLess(free_bytes(self.root), MIB // 2)

        def check():
            self.assert_within_the_limit()
            for path, content in expected.items():
                self.assertEqual(content, path.read_bytes(), path)

        check()
        self.assert_no_space(relation, os.urandom(len(expected[relation])))
        self.assertEqual(len(expected[relation]), relation.stat().st_size)
        expected[relation] = relation.read_bytes()  # What fitted of it is there.
        changed, cut, *gone = [path for path in expected if path != relation and len(expected[path]) == 256 << 10]
        expected[changed] = os.urandom(len(expected[changed]))
        self.overwrite(changed, expected[changed])
        check()
        self.remount()
        check()
        self.assert_no_space(relation, os.urandom(len(expected[relation])))
        expected[relation] = relation.read_bytes()

        free = free_bytes(self.root)
        os.truncate(cut, 1000)
        expected[cut] = expected[cut][:1000]
        for path in gone:
            path.unlink()
        freed = sum(len(expected.pop(path)) for path in gone)
        self.sync(self.root)
        case.wait_until(lambda: free_bytes(self.root) - free > freed * 3 // 4, 60, "the return of the space")
        expected[relation] = os.urandom(len(expected[relation]))
        self.overwrite(relation, expected[relation])
        check()
        self.remount()
        check()
        self.assertGreater(len(self.write_until_full(self.root / "base")), 10, "the space is there again")
        check()
        self.remount()
        check()
        self.daemon.unmount("m")


class Server(FullDisk):
    """PostgreSQL fills the disk."""

    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.production.fill("CREATE TABLE filled (batch int, filler text)")
        self.production.back_up()
        self.production.server.stop()
        self.batches = 0

    def test_server_on_ext4(self):
        self.live_on_a_small_disk("ext4")

    def test_server_on_tmpfs(self):
        self.live_on_a_small_disk("tmpfs")

    def mount(self):
        self.server = self.production.mount(self.daemon, self.work / "m", self.disk / "d", {"fsync": "on"})
        self.server.start()

    def live_on_a_small_disk(self, kind):
        self.make_disk(kind, SERVER_DISK_BYTES)
        ballast = self.disk / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        self.mount()
        self.fill_without_wal(ballast)
        self.fill_with_wal(ballast)
        self.check_and_remount()

    def fill_without_wal(self, ballast):
        """Data alone needs space: the statement fails, and the server lives."""
        self.server.sql("CREATE UNLOGGED TABLE bulk (filler text)")
        pid = (self.server.pgdata / "postmaster.pid").read_text().split("\n")[0]
        message = self.insert_until_it_fails(
            f"INSERT INTO bulk SELECT repeat('x', 900) FROM generate_series(1, {4 * BATCH_ROWS})")
        self.assertIn("ERROR", message)
        self.assertIn(NO_SPACE, message)
        self.assertEqual(pid, (self.server.pgdata / "postmaster.pid").read_text().split("\n")[0])

        size = int(self.on_a_full_disk("SELECT pg_relation_size('bulk')", ballast))
        free = self.free_bytes()
        self.on_a_full_disk("DROP TABLE bulk; CHECKPOINT", ballast)
        self.assertEqual(pid, (self.server.pgdata / "postmaster.pid").read_text().split("\n")[0])
        case.wait_until(lambda: self.free_bytes() - free > size * 3 // 4, 60, "the return of the space")
        self.report(f"DROP gave back {(self.free_bytes() - free) / 1e6:.1f} MB of {size / 1e6:.1f} MB")
        self.insert_batch()
        self.assert_complete()

    def on_a_full_disk(self, statements, ballast):
        """Even a query may need space: room in the buffers is made by writing dirty ones, and the first write of a
        block of the backup takes a new block. It fails cleanly then, and a little space is enough."""
        while True:
            done = self.server.tool("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres",
                                    "-f", "-", input=statements, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
            self.assertIn(NO_SPACE, done.stderr)
            os.truncate(ballast, ballast.stat().st_size - MIB)

    def fill_with_wal(self, ballast):
        """Where WAL has no space the server stops at once (PANIC): it starts again when there is space."""
        message = ""
        for _ in range(10_000):
            try:
                self.insert_batch()
            except postgres.PostgresError as error:
                message = str(error)
                break
        self.assertIn(NO_SPACE, message + self.server.log_tail(200))
        ballast.unlink()
        # After a PANIC the server starts again by itself, or gives up where recovery finds no space either.
        self.server.crash()
        self.server.start()
        self.assert_complete()
        self.server.sql("TRUNCATE filled; CHECKPOINT")
        self.batches = 0
        self.insert_batch()
        self.assert_complete()

    def insert_until_it_fails(self, statement):
        for _ in range(10_000):
            done = self.server.tool("psql", "-X", "-q", "-d", "postgres", "-c", statement, check=False)
            if done.returncode != 0:
                return done.stderr
        self.fail("the disk is never full")

    def insert_batch(self):
        self.server.sql(f"INSERT INTO filled SELECT {self.batches}, repeat('x', 500)"
                        f" FROM generate_series(1, {BATCH_ROWS})")
        self.batches += 1

    def assert_complete(self):
        """Every batch whose commit was answered; the one that failed may or may not be there, but whole."""
        rows = self.server.sql("SELECT batch, count(*), count(*) FILTER (WHERE length(filler) = 500)"
                               " FROM filled GROUP BY 1 ORDER BY 1").split("\n")
        whole = [f"{batch}|{BATCH_ROWS}|{BATCH_ROWS}" for batch in range(self.batches + 1)]
        self.assertIn(rows, (whole, whole[:-1]))

    def check_and_remount(self):
        for _ in range(2):
            self.server.tool("pg_amcheck", "--all", "--install-missing", "--heapallindexed")
            self.assert_complete()
            self.assertEqual("100000", self.server.sql("SELECT count(*) FROM pgbench_accounts"))
            self.server.stop()
            self.server.tool("pg_checksums", "--check", "-D", self.server.pgdata, connect=False)
            self.daemon.unmount("m")
            self.daemon.check_diff(self.disk / "d")
            self.mount()
        self.server.stop()
        self.daemon.unmount("m")


if __name__ == "__main__":
    case.main()

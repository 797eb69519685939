"""Files of a mount behave as files do, also after the mount is made again: the traps, one by one."""

import ctypes
import errno
import mmap
import os
import random
import stat
import traceback
from concurrent import futures

from pbkfs_e2e import case, postgres, tree_model
from pbkfs_e2e.synthetic import SyntheticCatalog

BLOCK = 8192
OWNER = "postgres:postgres"


def as_user(user, action):
    """Runs `action()` in a child process as `user` (a passwd entry); what it raises there is raised here as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            if user.pw_uid != 0:
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            action()
        except BaseException:  # pylint: disable=broad-except — everything goes to the parent.
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read().decode()
    os.waitpid(child, 0)
    if report:
        raise AssertionError(f"as user {user.pw_name}:\n{report}")


class Scenarios:
    """Each `do_…` runs in a child as the user under test; it returns nothing and asserts."""

    def setUp(self):
        super().setUp()
        self.need(postgres.account(), "user postgres does not exist; install postgresql")
        self.catalog = SyntheticCatalog(self, relations=3, blocks=12)
        self.root, self.diff = self.work / "m", self.work / "d"
        self.mount()
        self.relation = self._find_relation()
        self.original = self.relation.read_bytes()

    def mount(self):
        self.daemon.mount(self.catalog.store, "node", None, self.root, diff=self.diff, owner=OWNER)

    def remount(self):
        self.daemon.unmount("m")
        self.mount()

    def _find_relation(self):
        """A relation of several blocks with something in each."""
        files = [path for path in sorted((self.root / "base").rglob("*"))
                 if path.is_file() and path.stat().st_size >= 4 * BLOCK]
        self.assertTrue(files, "the catalog has no relation of four blocks")
        return files[0]

    def do(self, action):
        as_user(self.user(), action)

    def assert_now_and_after_remount(self, check):
        self.do(check)
        self.remount()
        self.do(check)

    def test_page_rewritten_with_identical_bytes_stays_readable(self):
        def write():
            with open(self.relation, "r+b") as file:
                file.seek(BLOCK)
                file.write(self.original[BLOCK:2 * BLOCK])
                file.flush()
                os.fsync(file.fileno())
        self.do(write)
        self.assert_now_and_after_remount(lambda: self.assertEqual(self.original, self.relation.read_bytes()))

    def test_part_of_a_page_written_keeps_the_rest(self):
        def write():
            with open(self.relation, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), b"x" * 100, BLOCK - 50)
        self.do(write)
        expected = self.original[:BLOCK - 50] + b"x" * 100 + self.original[BLOCK + 50:]
        self.assert_now_and_after_remount(lambda: self.assertEqual(expected, self.relation.read_bytes()))

    def test_truncated_file_does_not_bring_back_old_bytes(self):
        size = len(self.original)
        cut = BLOCK + 10
        def write():
            os.truncate(self.relation, cut)
            os.truncate(self.relation, size)
        self.do(write)
        expected = self.original[:cut] + bytes(size - cut)
        self.assert_now_and_after_remount(lambda: self.assertEqual(expected, self.relation.read_bytes()))

    def test_write_past_a_truncation_leaves_zeros_between(self):
        def write():
            os.truncate(self.relation, 5)
            with open(self.relation, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), b"end", 3 * BLOCK)
        self.do(write)
        expected = self.original[:5] + bytes(3 * BLOCK - 5) + b"end"
        self.assert_now_and_after_remount(lambda: self.assertEqual(expected, self.relation.read_bytes()))

    def test_file_rewritten_shorter_keeps_its_length(self):
        self.do(lambda: self.relation.write_bytes(b"short"))
        self.assert_now_and_after_remount(lambda: self.assertEqual(b"short", self.relation.read_bytes()))

    def test_new_file_and_directory_survive(self):
        directory = self.root / "new directory"
        def write():
            directory.mkdir(mode=0o700)
            (directory / "file").write_bytes(b"new" * 10000)
            (directory / "empty").touch()
        def check():
            self.assertEqual(b"new" * 10000, (directory / "file").read_bytes())
            self.assertEqual(0, (directory / "empty").stat().st_size)
            self.assertEqual(["empty", "file"], sorted(os.listdir(directory)))
            self.assertEqual(self.user().pw_uid, (directory / "file").stat().st_uid)
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_renamed_directory_keeps_its_children(self):
        old = self.relation.parent
        new = self.root / "renamed"
        names = sorted(os.listdir(old))
        def check():
            self.assertFalse(old.exists())
            self.assertEqual(names, sorted(os.listdir(new)))
            self.assertEqual(self.original, (new / self.relation.name).read_bytes())
        self.do(lambda: old.rename(new))
        self.assert_now_and_after_remount(check)
        self.do(lambda: new.rename(old))
        self.assert_now_and_after_remount(lambda: self.assertEqual(self.original, self.relation.read_bytes()))

    def test_rename_over_a_file_replaces_it(self):
        def write():
            new = self.relation.with_name("new")
            new.write_bytes(b"replacement")
            new.rename(self.relation)
        def check():
            self.assertEqual(b"replacement", self.relation.read_bytes())
            self.assertNotIn("new", os.listdir(self.relation.parent))
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_file_created_after_unlink_shows_only_new_content(self):
        def write():
            self.relation.unlink()
            with self.assertRaises(FileNotFoundError):
                self.relation.stat()
            with open(self.relation, "xb") as file:
                file.truncate(2 * BLOCK)
                file.seek(10)
                file.write(b"new")
        expected = bytes(10) + b"new" + bytes(2 * BLOCK - 13)
        self.do(write)
        self.assert_now_and_after_remount(lambda: self.assertEqual(expected, self.relation.read_bytes()))

    def test_removed_file_stays_away(self):
        self.do(self.relation.unlink)
        def check():
            self.assertFalse(self.relation.exists())
            self.assertNotIn(self.relation.name, os.listdir(self.relation.parent))
        self.assert_now_and_after_remount(check)

    def test_removed_directory_stays_away_and_can_be_made_again(self):
        directory = self.root / "pg_notify"
        def remove():
            directory.mkdir(exist_ok=True)
            directory.rmdir()
        self.do(remove)
        self.assert_now_and_after_remount(lambda: self.assertFalse(directory.exists()))
        self.do(directory.mkdir)
        self.assert_now_and_after_remount(lambda: self.assertEqual([], os.listdir(directory)))

    def test_directory_with_children_is_not_removed(self):
        def check():
            with self.assertRaises(OSError) as raised:
                self.relation.parent.rmdir()
            self.assertEqual(errno.ENOTEMPTY, raised.exception.errno)
        self.do(check)

    def test_unlinked_file_that_is_open_can_be_read_and_written(self):
        def check():
            fd = os.open(self.relation, os.O_RDWR)
            os.unlink(self.relation)
            self.assertEqual(self.original[:BLOCK], os.pread(fd, BLOCK, 0))
            os.pwrite(fd, b"still here", BLOCK)
            self.assertEqual(b"still here", os.pread(fd, 10, BLOCK))
            os.fsync(fd)
            os.ftruncate(fd, 5)
            self.assertEqual(5, os.fstat(fd).st_size)
            os.close(fd)
        self.do(check)

    def test_fallocate_extends(self):
        size = len(self.original)
        def write():
            with open(self.relation, "r+b") as file:
                os.posix_fallocate(file.fileno(), size, 3 * BLOCK)
        def check():
            self.assertEqual(size + 3 * BLOCK, self.relation.stat().st_size)
            self.assertEqual(self.original + bytes(3 * BLOCK), self.relation.read_bytes())
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_chmod_of_a_relation_stays(self):
        def check():
            self.assertEqual(0o640, stat.S_IMODE(self.relation.stat().st_mode))
            self.assertEqual(self.original, self.relation.read_bytes())
        self.do(lambda: self.relation.chmod(0o640))
        self.assert_now_and_after_remount(check)

    def test_times_that_were_set_stay(self):
        when = 1_000_000_000_123_456_789
        self.do(lambda: os.utime(self.relation, ns=(when, when)))
        self.assert_now_and_after_remount(lambda: self.assertEqual(when, self.relation.stat().st_mtime_ns))

    def test_reads_at_the_end_are_short(self):
        size = len(self.original)
        def check():
            with open(self.relation, "rb", buffering=0) as file:
                self.assertEqual(self.original[-10:], os.pread(file.fileno(), BLOCK, size - 10))
                self.assertEqual(b"", os.pread(file.fileno(), BLOCK, size))
                self.assertEqual(b"", os.pread(file.fileno(), BLOCK, size + 100 * BLOCK))
        self.do(check)

    def test_handle_opened_before_the_first_write_sees_the_new_bytes(self):
        def check():
            reader = os.open(self.relation, os.O_RDONLY)
            self.assertEqual(self.original[:100], os.pread(reader, 100, 0))
            writer = os.open(self.relation, os.O_WRONLY)
            os.pwrite(writer, b"n" * 100, 0)
            self.assertEqual(b"n" * 100, os.pread(reader, 100, 0))
            self.assertEqual(self.original[100:BLOCK], os.pread(reader, BLOCK - 100, 100))
            os.ftruncate(writer, 50)
            self.assertEqual(b"n" * 50, os.pread(reader, BLOCK, 0))
            os.close(reader)
            os.close(writer)
        self.do(check)

    def test_append_goes_to_the_end(self):
        def write():
            for _ in range(2):
                with open(self.relation, "ab") as file:
                    file.write(b"tail")
        self.do(write)
        self.assert_now_and_after_remount(
            lambda: self.assertEqual(self.original + b"tailtail", self.relation.read_bytes()))

    def test_fsync_of_new_descriptors_and_of_directories(self):
        def check():
            with open(self.relation, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), b"durable", 0)
            for path in (self.relation, self.relation.parent, self.root):
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.fdatasync(fd)
                os.close(fd)
        self.do(check)

    def test_symlink_shows_its_target(self):
        def write():
            os.symlink("PG_VERSION", self.root / "soft")
        def check():
            self.assertEqual("PG_VERSION", os.readlink(self.root / "soft"))
            self.assertEqual((self.root / "PG_VERSION").read_bytes(), (self.root / "soft").read_bytes())
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_file_linked_and_unlinked_has_moved(self):
        old, new = self.root / "segment.tmp", self.root / "segment"
        def write():
            old.write_bytes(self.original)
            os.link(old, new)
            self.assertEqual(2, new.stat().st_nlink)
            self.assertEqual(old.stat().st_ino, new.stat().st_ino)
            with self.assertRaises(FileExistsError):
                os.link(old, self.relation)
            old.unlink()
        def check():
            self.assertFalse(old.exists())
            self.assertEqual(1, new.stat().st_nlink)
            self.assertEqual(self.original, new.read_bytes())
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_names_that_exist_are_not_made_again(self):
        def check():
            with self.assertRaises(FileExistsError):
                open(self.relation, "xb")
            with self.assertRaises(FileExistsError):
                self.relation.parent.mkdir()
            with self.assertRaises(FileNotFoundError):
                (self.root / "nowhere" / "file").touch()
        self.do(check)

    def test_several_writers_in_one_file_keep_their_own_parts(self):
        seed = case.seeded_random(self, "writers").randrange(1 << 32)
        parts, part_bytes = 4, len(self.original) // 4
        def work(number, results):
            rng, begin = random.Random(f"{seed}/{number}"), number * part_bytes
            mine = bytearray(self.original[begin:begin + part_bytes])
            fd = os.open(self.relation, os.O_RDWR)
            for _ in range(300):
                offset = rng.randrange(part_bytes)
                data = rng.randbytes(rng.randrange(1, 3 * BLOCK))[:part_bytes - offset]
                os.pwrite(fd, data, begin + offset)
                mine[offset:offset + len(data)] = data
                offset = rng.randrange(part_bytes)
                want = mine[offset:offset + BLOCK]
                if os.pread(fd, len(want), begin + offset) != want:
                    raise AssertionError(f"writer {number} does not see its own bytes at {begin + offset}")
            os.close(fd)
            results[number] = bytes(mine)
        def write():
            with futures.ThreadPoolExecutor(parts) as pool:
                results = {}
                for done in [pool.submit(work, number, results) for number in range(parts)]:
                    done.result()
            expected.write_bytes(b"".join(results[number] for number in range(parts))
                                 + self.original[parts * part_bytes:])
        expected = self.work / "expected"
        expected.touch()
        os.chown(expected, self.user().pw_uid, self.user().pw_gid)
        self.do(write)
        self.assert_now_and_after_remount(
            lambda: self.assertEqual(expected.read_bytes(), self.relation.read_bytes()))

    def test_random_operations_equal_those_of_a_model(self):
        rng = case.seeded_random(self, "random operations")
        operations = 6000 if case.FULL_TIER else 2000
        rounds = 5
        model = tree_model.TreeModel.read(self.root)
        for _ in range(rounds):
            state = self.work / "model"
            state.touch()
            os.chown(state, self.user().pw_uid, self.user().pw_gid)
            def run():
                tree_model.run(model, self.root, rng, operations // rounds)
                state.write_bytes(model.dump())
            self.do(run)
            model = tree_model.TreeModel.load(state.read_bytes())
            rng = model.rng
            self.assertEqual([], model.differences(self.root)[:10], "before the unmount")
            self.remount()
            self.assertEqual([], model.differences(self.root)[:10], "after mounting again")


    def test_data_and_holes_are_told_apart(self):
        path = self.root / "sparse"
        def check():
            fd = os.open(self.relation, os.O_RDONLY)
            self.assertEqual(BLOCK, os.lseek(fd, BLOCK, os.SEEK_DATA))
            self.assertEqual(len(self.original), os.lseek(fd, 0, os.SEEK_HOLE))
            with self.assertRaises(OSError) as raised:
                os.lseek(fd, len(self.original), os.SEEK_DATA)
            self.assertEqual(errno.ENXIO, raised.exception.errno)
            os.close(fd)
            fd = os.open(path, os.O_RDONLY)
            self.assertEqual(64 * BLOCK, os.lseek(fd, 0, os.SEEK_DATA))
            self.assertEqual(0, os.lseek(fd, 0, os.SEEK_HOLE))
            self.assertEqual(bytes(64 * BLOCK), os.pread(fd, 64 * BLOCK, 0))
            os.close(fd)
        def write():
            with open(path, "xb") as file:
                file.seek(64 * BLOCK)
                file.write(b"x" * BLOCK)
        self.do(write)
        self.assert_now_and_after_remount(check)

    def test_synchronous_descriptors_write_durably(self):
        def fsyncs():
            return int(self.daemon.stats("m")["fuse"]["requests"].get("fsync", 0))
        for flag in (os.O_SYNC, os.O_DSYNC):
            before = fsyncs()
            def write():
                fd = os.open(self.relation, os.O_RDWR | flag)
                for block in range(3):
                    os.pwrite(fd, b"s" * 100, block * BLOCK)
                os.close(fd)
            self.do(write)
            # The kernel asks for a sync after each of them, before write(2) returns.
            self.assertGreaterEqual(fsyncs() - before, 3)

    def test_direct_io_and_appends_through_two_descriptors(self):
        path = self.root / "direct"
        def check():
            page = mmap.mmap(-1, BLOCK)
            page.write(b"d" * BLOCK)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
            os.pwrite(fd, page, 0)
            os.pwrite(fd, page, 2 * BLOCK)
            appenders = [os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2)]
            for number, appender in enumerate(appenders):
                os.write(appender, bytes([number]) * 10)
            back = mmap.mmap(-1, BLOCK)
            self.assertEqual(BLOCK, os.preadv(fd, [back], 2 * BLOCK))
            self.assertEqual(b"d" * BLOCK, back[:])
            for descriptor in (fd, *appenders):
                os.close(descriptor)
            self.assertEqual(b"d" * BLOCK + bytes(BLOCK) + b"d" * BLOCK + bytes(10) + bytes([1]) * 10,
                             path.read_bytes())
            attributes = path.stat()
            self.assertEqual(BLOCK, attributes.st_blksize)
            self.assertEqual((attributes.st_size + 511) // 512, attributes.st_blocks)
            path.unlink()
        self.do(check)

    def test_what_is_not_supported_fails_cleanly(self):
        other = self.root / "other"
        def check():
            def expect(numbers, call, *arguments):
                with self.assertRaises(OSError) as raised:
                    call(*arguments)
                self.assertIn(raised.exception.errno, numbers)
            expect([errno.EOPNOTSUPP], os.setxattr, self.relation, "user.name", b"value")
            expect([errno.EOPNOTSUPP], os.getxattr, self.relation, "user.name")
            expect([errno.EOPNOTSUPP], os.listxattr, self.relation)
            expect([errno.EOPNOTSUPP, errno.EISDIR], os.open, self.root, os.O_TMPFILE | os.O_RDWR, 0o600)
            other.touch()
            libc = ctypes.CDLL(None, use_errno=True)
            for flag in (2, 4):  # RENAME_EXCHANGE, RENAME_WHITEOUT
                result = libc.renameat2(-100, os.fsencode(self.relation), -100, os.fsencode(other), flag)
                self.assertEqual((-1, errno.EINVAL), (result, ctypes.get_errno()))
            self.assertEqual(self.original, self.relation.read_bytes())
        self.do(check)

    def test_free_space_is_that_of_the_diffs_file_system(self):
        def check():
            mine, below = os.statvfs(self.root), os.statvfs(self.diff)
            self.assertEqual(below.f_blocks * below.f_frsize, mine.f_blocks * mine.f_frsize)
            self.assertEqual(255, mine.f_namemax)
        check()


class AsPostgres(Scenarios, case.E2ECase):
    def user(self):
        return postgres.account()


class AsRoot(Scenarios, case.E2ECase):
    def user(self):
        return postgres.pwd.getpwuid(0)

    def test_read_only_mount_refuses_every_change(self):
        self.daemon.unmount("m")
        self.daemon.mount(self.catalog.store, "node", None, self.root, diff=self.diff, owner=OWNER,
                          extra=["--read-only"])
        for change in (lambda: self.relation.write_bytes(b""), self.relation.unlink, (self.root / "new").touch,
                       (self.root / "new").mkdir, lambda: self.relation.chmod(0o777),
                       lambda: os.truncate(self.relation, 0)):
            with self.assertRaises(OSError) as raised:
                change()
            self.assertEqual(errno.EROFS, raised.exception.errno)
        self.assertEqual(self.original, self.relation.read_bytes())


if __name__ == "__main__":
    case.main()

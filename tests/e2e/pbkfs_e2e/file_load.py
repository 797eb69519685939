"""A worker that changes files at random, mostly without syncing, and logs what was promised to it (see promises)."""

import ctypes
import json
import mmap
import os
import random
import signal
import traceback

from pbkfs_e2e.promises import CELL, Names, encode

BLOCK_CELLS = 8192 // CELL
MAX_CELLS = 48 * BLOCK_CELLS
MAX_FILES = 24
PR_SET_PDEATHSIG = 1
KEEP_SIZE_AND_PUNCH_HOLE = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


class FileLoad:
    """A process that works in `home`, a directory below `root`, and on the files of `entries` that lie elsewhere."""

    def __init__(self, root, home, entries, sizes, seed, log_path):
        self.root, self.home = str(root), home
        self.names = Names(entries)
        self.sizes = dict(sizes)
        self.rng = random.Random(seed)
        self.log_path = log_path
        self.trace_path = f"{log_path}.trace"
        # Never a stamp that another worker, or another round of this one, has used.
        self.next_stamp = self.rng.randrange(1 << 40, 1 << 62) & ~0xFFFFF
        self.next_file = 1 + max([0, *(file for file in entries.values() if file is not None)])
        self._pid = None

    def start(self):
        self._pid = os.fork()
        if self._pid == 0:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                self._log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                while True:
                    self._step()
            except BaseException:  # pylint: disable=broad-except — everything goes to the parent.
                with open(self.trace_path, "w", encoding="utf-8") as trace:
                    traceback.print_exc(file=trace)
            finally:
                os._exit(1)

    def kill(self):
        """Ends the process, which must have found nothing to complain of."""
        if self._pid is None:
            return
        pid, self._pid = self._pid, None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if os.path.exists(self.trace_path):
            with open(self.trace_path, encoding="utf-8") as trace:
                raise AssertionError(f"a worker failed:\n{trace.read()}")

    def _note(self, *event):
        line = json.dumps(event).encode() + b"\n"
        if os.write(self._log, line) != len(line):
            raise AssertionError(f"short write to {self.log_path}")
        if event[0] in Names.KINDS:
            self.names.apply(event)

    def _step(self):
        operation = self.rng.choices(OPERATIONS, WEIGHTS)[0]
        if self._file_count() == 0:
            operation = FileLoad._create
        operation(self)

    def _path(self, path):
        return f"{self.root}/{path}"

    def _pick(self):
        path = self.rng.choice([path for path, file in self.names.entries.items() if file is not None])
        return path, self.names.entries[path]

    def _directories(self):
        return [self.home, *(path for path, file in self.names.entries.items() if file is None and path != self.home)]

    def _file_count(self):
        return sum(file is not None for file in self.names.entries.values())

    def _free_path(self):
        while True:
            path = f"{self.rng.choice(self._directories())}/{self.rng.choice('abcdefghijklmnop')}"
            if path not in self.names.entries:
                return path

    def _range(self, size):
        """(first, count): often whole blocks, often parts of them, sometimes past the end."""
        first = self.rng.randrange(0, min(size + 2 * BLOCK_CELLS, MAX_CELLS - 1) + 1)
        count = self.rng.choice((1, 3, BLOCK_CELLS, BLOCK_CELLS, 4 * BLOCK_CELLS, self.rng.randrange(1, 100)))
        if self.rng.random() < 0.5:
            first -= first % BLOCK_CELLS
        return first, min(count, MAX_CELLS - first)

    def _write_cells(self, flags):
        path, file = self._pick()
        first, count = self._range(self.sizes[file])
        if count == 0:
            return
        self.next_stamp += 1
        self._note("write", file, first, count, self.next_stamp)
        fd = os.open(self._path(path), os.O_WRONLY | flags)
        data = encode(self.next_stamp) * count
        if os.pwrite(fd, data, first * CELL) != len(data):
            raise AssertionError(f"short write to {path}")
        os.close(fd)
        self.sizes[file] = max(self.sizes[file], first + count)
        if flags & os.O_DSYNC:
            self._note("write-synced", file, first, count)

    def _write(self):
        self._write_cells(self.rng.choice((0, 0, 0, os.O_DIRECT)))

    def _write_synced(self):
        self._write_cells(os.O_DSYNC)

    def _write_mapped(self):
        """Through a shared mapping, and msync."""
        path, file = self._pick()
        if self.sizes[file] == 0:
            return
        first = self.rng.randrange(self.sizes[file])
        count = self.rng.randrange(1, min(self.sizes[file] - first, 3 * BLOCK_CELLS) + 1)
        self.next_stamp += 1
        self._note("write", file, first, count, self.next_stamp)
        fd = os.open(self._path(path), os.O_RDWR)
        with mmap.mmap(fd, self.sizes[file] * CELL) as mapping:
            mapping[first * CELL:(first + count) * CELL] = encode(self.next_stamp) * count
            mapping.flush()
        os.close(fd)
        self._note("write-synced", file, first, count)

    def _resize(self):
        path, file = self._pick()
        size = self.rng.choice((0, self.rng.randrange(self.sizes[file] + 1), self.rng.randrange(MAX_CELLS)))
        self._note("resize", file, size)
        os.truncate(self._path(path), size * CELL)
        self.sizes[file] = size

    def _punch(self):
        path, file = self._pick()
        first, count = self._range(self.sizes[file])
        if count == 0:
            return
        self._note("punch", file, first, count)
        fd = os.open(self._path(path), os.O_WRONLY)
        if _libc.fallocate(fd, KEEP_SIZE_AND_PUNCH_HOLE, first * CELL, count * CELL) != 0:
            raise OSError(ctypes.get_errno(), "punch", path)
        os.close(fd)

    def _allocate(self):
        path, file = self._pick()
        size = min(self.sizes[file] + self.rng.randrange(1, 4 * BLOCK_CELLS), MAX_CELLS)
        if size == self.sizes[file]:
            return
        self._note("allocate", file, size)
        fd = os.open(self._path(path), os.O_WRONLY)
        os.posix_fallocate(fd, self.sizes[file] * CELL, (size - self.sizes[file]) * CELL)
        os.close(fd)
        self.sizes[file] = size

    def _fsync(self):
        path, file = self._pick()
        fd = os.open(self._path(path), os.O_RDWR)
        self.rng.choice((os.fsync, os.fdatasync))(fd)
        os.close(fd)
        self._note("synced", file)

    def _fsync_directory(self):
        fd = os.open(self._path(self.rng.choice(self._directories())), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self._note("names-synced")

    def _create(self):
        if self._file_count() >= MAX_FILES:
            return
        path = self._free_path()
        self._note("create", path, self.next_file)
        os.close(os.open(self._path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self.sizes[self.next_file] = 0
        self.next_file += 1

    def _mkdir(self):
        if len(self._directories()) >= 4:
            return
        path = self._free_path()
        self._note("mkdir", path)
        os.mkdir(self._path(path), 0o700)

    def _rename(self):
        source, _ = self._pick()
        self._move(source, self._free_path())

    def _rename_over(self):
        (source, file), (target, other) = self._pick(), self._pick()
        if file != other:
            self._move(source, target)

    def _rename_directory(self):
        source = self.rng.choice(self._directories())
        target = self._free_path()
        if source != self.home and not target.startswith(source + "/"):
            self._move(source, target)

    def _move(self, source, target):
        self._note("rename", source, target)
        os.rename(self._path(source), self._path(target))

    def _unlink(self):
        if self._file_count() > 6:
            path, _ = self._pick()
            self._note("unlink", path)
            os.unlink(self._path(path))


_TABLE = {
    FileLoad._write: 40, FileLoad._write_synced: 4, FileLoad._write_mapped: 3,
    FileLoad._resize: 6, FileLoad._punch: 6, FileLoad._allocate: 3,
    FileLoad._fsync: 12, FileLoad._fsync_directory: 5, FileLoad._create: 6, FileLoad._mkdir: 1, FileLoad._rename: 4,
    FileLoad._rename_over: 3, FileLoad._rename_directory: 2, FileLoad._unlink: 3,
}
OPERATIONS, WEIGHTS = list(_TABLE), list(_TABLE.values())

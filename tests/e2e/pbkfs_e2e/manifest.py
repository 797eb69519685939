"""Compares the tree that a mount shows with the manifest of a real restore.

A mount differs from a restore on purpose only here: postgresql.auto.conf and postgresql.conf end with the settings
that keep a clone harmless; signal files are hidden; pg_tblspc/<oid> is a directory instead of a link; pg_control
has its listed mode; directories keep the mode bits that the restoring umask took away.
"""

import collections
import hashlib
import os
import re
import stat
from concurrent import futures

READERS = 4
RESTORE_UMASK = 0o022
WINDOW_BYTES = 32 << 20
SIGNAL_FILES = {"recovery.signal", "standby.signal"}
APPENDED_FILES = {"postgresql.conf", "postgresql.auto.conf"}
RECOVERY_HEADER = "# recovery settings added by pg_probackup"

Entry = collections.namedtuple("Entry", "type mode size sha256")


def read_manifest(path):
    entries = {}
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            name, kind, mode, size, sha256, _ = line.rstrip("\n").split("\t")
            entries[name] = Entry(kind, int(mode, 8), int(size) if size != "-" else None, sha256)
    return entries


def walk(root):
    """{relative path: Entry without a hash} of everything below `root`, with "." for itself."""
    entries = {}
    pending = ["."]
    while pending:
        name = pending.pop()
        full = os.path.join(root, name)
        found = os.lstat(full)
        kind = "d" if stat.S_ISDIR(found.st_mode) else "l" if stat.S_ISLNK(found.st_mode) else "f"
        entries[name] = Entry(kind, stat.S_IMODE(found.st_mode), found.st_size if kind == "f" else None, None)
        if kind == "d":
            prefix = "" if name == "." else name + "/"
            pending += [prefix + child for child in os.listdir(full)]
    return entries


def expected_entries(backup):
    """The manifest with the documented differences applied."""
    expected = read_manifest(backup.golden("manifest.tsv"))
    listed = backup.listed_modes()
    for name in SIGNAL_FILES:
        expected.pop(name, None)
    for name, entry in expected.items():
        if name == "global/pg_control":
            expected[name] = entry._replace(mode=listed.get(name, entry.mode))
        elif entry.type == "l" and re.fullmatch(r"pg_tblspc/\d+", name):
            expected[name] = Entry("d", listed.get(name, 0o700) & ~RESTORE_UMASK, None, None)
    return expected


def compare_shape(root, expected):
    """Differences in names, types, modes and sizes."""
    found = walk(root)
    problems = [f"{name}: missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name}: not in the restored tree" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        want, have = expected[name], found[name]
        have_mode = have.mode & ~RESTORE_UMASK if have.type == "d" else have.mode
        if have.type != want.type:
            problems.append(f"{name}: type {have.type} instead of {want.type}")
        elif have_mode != want.mode:
            problems.append(f"{name}: mode {have_mode:04o} instead of {want.mode:04o}")
        elif want.type == "f" and name not in APPENDED_FILES and have.size != want.size:
            problems.append(f"{name}: {have.size} bytes instead of {want.size}")
    return problems


def compare_configuration(root, backup, expected):
    """What restore wrote must stand unchanged in front of what the mount appended."""
    problems = []
    if "postgresql.conf" in expected:
        want = expected["postgresql.conf"]
        with open(os.path.join(root, "postgresql.conf"), "rb") as file:
            content = file.read()
        if hashlib.sha256(content[:want.size]).hexdigest() != want.sha256:
            problems.append("postgresql.conf: does not begin with the restored file")
    golden = backup.golden("auto.conf.txt")
    if golden.is_file():
        restored = golden.read_text(errors="surrogateescape").split(RECOVERY_HEADER)[0].rstrip("\n")
        with open(os.path.join(root, "postgresql.auto.conf"), errors="surrogateescape") as file:
            if not file.read().startswith(restored):
                problems.append("postgresql.auto.conf: does not begin with production's own lines")
    return problems


def plain_files(expected):
    """(name, Entry) of the files whose bytes must be equal to those of the restore."""
    return [(name, entry) for name, entry in sorted(expected.items())
            if entry.type == "f" and name not in APPENDED_FILES]


def compare_content(root, files, read):
    """Hashes `files` with `read(path)` by several threads at once."""
    def check(item):
        name, entry = item
        try:
            have = read(os.path.join(root, name))
        except OSError as error:
            return f"{name}: {error}"
        return None if have == entry.sha256 else f"{name}: content differs (sha256 {have})"

    with futures.ThreadPoolExecutor(READERS) as pool:
        return [problem for problem in pool.map(check, files) if problem]


def sequential_sha256(path):
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_sha256(rng):
    """A reader that takes pieces of odd sizes in random order, and not from the kernel's page cache."""
    def read(path):
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            fd = file.fileno()
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            size = os.fstat(fd).st_size
            for begin in range(0, size, WINDOW_BYTES):
                window = bytearray(min(WINDOW_BYTES, size - begin))
                _read_shuffled(fd, begin, memoryview(window), rng)
                digest.update(window)
        return digest.hexdigest()
    return read


def _read_shuffled(fd, begin, window, rng):
    pieces = []
    position = 0
    while position < len(window):
        length = min(rng.choice((1, 100, 8192, 8193, 20000, 70000, 300000)), len(window) - position)
        pieces.append((position, length))
        position += length
    rng.shuffle(pieces)
    for position, length in pieces:
        got = os.preadv(fd, [window[position:position + length]], begin + position)
        if got != length:
            raise OSError(f"read {got} of {length} bytes at {begin + position}")

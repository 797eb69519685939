"""Real pg_probackup catalogs, found through PBKFS_TEST_CATALOGS.

The variable names a directory that holds archives (*.tar.zst), which are unpacked once into the build directory,
or catalogs that are unpacked already: <name>/catalog is what `pg_probackup -B` was given, <name>/golden what a
real restore of each backup gave. Which catalogs, chains and backups there are is never assumed.
"""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

from pbkfs_e2e.daemon import build_dir


def configured():
    return bool(os.environ.get("PBKFS_TEST_CATALOGS"))


def _given():
    return pathlib.Path(os.environ["PBKFS_TEST_CATALOGS"]).resolve()


def _archives():
    return sorted(_given().glob("*.tar.zst"))


def unpacked_root():
    """A directory above every catalog."""
    return _cache_root() if _archives() else _given()


def _cache_root():
    return build_dir() / "e2e-catalogs"


def _unpack(archive):
    """Unpacks once, however many tests start at the same time."""
    stat = archive.stat()
    key = f"{archive.name.removesuffix('.tar.zst')}-{stat.st_size}-{stat.st_mtime_ns}"
    _cache_root().mkdir(parents=True, exist_ok=True)
    target = _cache_root() / key
    with open(_cache_root() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = _cache_root() / (key + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            subprocess.run(["tar", "--zstd", "--no-same-owner", "-xf", archive, "-C", partial], check=True)
            partial.rename(target)
    return target


def find():
    """All catalogs, sorted by name."""
    parents = [_unpack(archive) for archive in _archives()] or [_given()]
    # A golden directory is not needed to be a catalog, only to compare with.
    homes = [home for parent in parents for home in sorted(parent.iterdir()) if (home / "catalog" / "backups").is_dir()]
    return [Catalog(home) for home in homes]


def read_control(path):
    """The key = value lines of a backup.control."""
    values = {}
    for line in path.read_text(errors="replace").splitlines():
        match = re.match(r"\s*([A-Za-z_-]+)\s*=\s*(?:'(.*)'|([^#]*))", line)
        if match:
            value = match.group(2) if match.group(2) is not None else match.group(3)
            values[match.group(1).lower().replace("_", "-")] = value.strip()
    return values


class Backup:
    def __init__(self, catalog, instance, directory):
        self.catalog = catalog
        self.instance = instance
        self.directory = directory
        self.id = directory.name
        self.control = read_control(directory / "backup.control")

    def __str__(self):
        return f"{self.catalog.name}/{self.id}"

    @property
    def store(self):
        return self.catalog.store

    @property
    def stream(self):
        return self.control.get("stream", "").lower() in ("true", "yes", "on", "1")

    @property
    def server_version(self):
        return self.control.get("server-version", "")

    def golden(self, suffix):
        return self.catalog.golden / f"{self.id}.{suffix}"

    def listed_modes(self):
        """{path: permission bits} of the backup's file list."""
        text = (self.directory / "backup_content.control").read_bytes()
        entries = re.finditer(rb'^{"path":"(.*?)", ?"size":"-?\d+", ?"mode":"(\d+)"', text, re.MULTILINE)
        return {os.fsdecode(entry.group(1)): int(entry.group(2)) & 0o7777 for entry in entries}

    def queries(self):
        """[(database, SQL, result)] of the golden server."""
        lines = self.golden("queries.tsv").read_text(encoding="utf-8").split("\n")
        return [tuple(line.split("\t")) for line in lines if line]


class Catalog:
    def __init__(self, home):
        self.name = home.name
        self.store = home / "catalog"
        self.golden = home / "golden"
        self.backups = [Backup(self, instance.name, directory)
                        for instance in sorted((self.store / "backups").iterdir()) if instance.is_dir()
                        for directory in sorted(instance.iterdir(), key=lambda path: (len(path.name), path.name))
                        if (directory / "backup.control").is_file()]

    def with_manifest(self):
        """The backups, oldest first, whose restored tree is known."""
        return [backup for backup in self.backups if backup.golden("manifest.tsv").is_file()]

    def startable_chains(self):
        """The backups, oldest first, that start from their own WAL and whose contents are known: a list for each
        FULL backup and what was built on it."""
        chains = {}
        for backup in self.backups:
            if backup.stream and backup.golden("queries.tsv").is_file():
                chains.setdefault(self._first_of_chain(backup), []).append(backup)
        return list(chains.values())

    def _first_of_chain(self, backup):
        known = {(other.instance, other.id): other for other in self.backups}
        while True:
            parent = known.get((backup.instance, backup.control.get("parent-backup-id")))
            if parent is None or backup.control.get("backup-mode") == "FULL":
                return backup
            backup = parent


def snapshot(store, with_content=False):
    """What must not change when a catalog is only read: names, identity, sizes and times of every file.

    ctime is included: no write, chmod or rename can hide from it. Times of directories are left out,
    because pg_probackup's lock files come and go there.
    """
    result = {}
    for directory, _, names in os.walk(store):
        stat = os.lstat(directory)
        result[directory] = (stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid)
        for name in names:
            path = os.path.join(directory, name)
            stat = os.lstat(path)
            entry = (stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_mtime_ns,
                     stat.st_ctime_ns)
            if with_content:
                with open(path, "rb") as file:
                    entry += (hashlib.file_digest(file, "sha256").hexdigest(),)
            result[path] = entry
    return result


def describe_change(before, after):
    """The first few differences of two snapshots, for a failure's message."""
    changed = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    return "\n".join(f"{path}: {before.get(path)} -> {after.get(path)}" for path in changed[:10])

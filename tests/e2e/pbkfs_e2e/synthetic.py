"""Small catalogs made by mkcatalog, for tests that need to break one, or need no real data."""

import pathlib
import re
import shutil
import subprocess

from pbkfs_e2e.catalogs import read_control


def largest_file(directory):
    """A relation, where `directory` holds a database."""
    return max((path for path in pathlib.Path(directory).rglob("*") if path.is_file()),
               key=lambda path: path.stat().st_size)


def crc32c(content):
    """What a file list says of a file's content."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class SyntheticCatalog:
    """A chain of FULL and DELTA backups below the test's directory; `ids` are oldest first."""

    instance = "node"

    def __init__(self, test, name="catalog", relations=2, blocks=16, backups=3, codec="zlib"):
        self.store = pathlib.Path(test.work) / name
        subprocess.run([test.mkcatalog(), "synthetic", "--catalog", self.store, "--instance", self.instance,
                        "--relations", str(relations), "--blocks", str(blocks), "--backups", str(backups),
                        "--codec", codec], check=True, capture_output=True, text=True)

    @classmethod
    def copy_of(cls, other, store):
        """A copy that a test may damage."""
        copy = cls.__new__(cls)
        copy.store = pathlib.Path(store)
        # cp keeps the holes of WAL segments, which are nearly all there is of them.
        subprocess.run(["cp", "-a", other.store, copy.store], check=True)
        return copy

    @property
    def directory(self):
        return self.store / "backups" / self.instance

    @property
    def ids(self):
        found = [path.parent.name for path in self.directory.glob("*/backup.control")]
        return sorted(found, key=lambda name: (len(name), name))

    def control(self, backup_id):
        return read_control(self.directory / backup_id / "backup.control")

    def set_control(self, backup_id, key, value):
        """Changes one key of backup.control, as pg_probackup does: through a new file."""
        path = self.directory / backup_id / "backup.control"
        text, count = re.subn(rf"^{re.escape(key)} *=.*$", f"{key} = {value}", path.read_text(), flags=re.MULTILINE)
        if count != 1:
            raise AssertionError(f"{path} has {count} lines with the key {key}")
        self._replace(path, text.encode())

    def set_control_if_there(self, backup_id, key, value):
        """For files that a test may have made unreadable."""
        if re.search(rf"^{re.escape(key)} *=", self._control_text(backup_id), flags=re.MULTILINE):
            self.set_control(backup_id, key, value)

    def _control_text(self, backup_id):
        return (self.directory / backup_id / "backup.control").read_text(errors="replace")

    def edit_list(self, backup_id, pattern, replacement):
        """Changes the file list and marks it as unchecked."""
        path = self.directory / backup_id / "backup_content.control"
        content, count = re.subn(pattern, replacement, path.read_bytes())
        if not count:
            raise AssertionError(f"{path} has nothing like {pattern}")
        self._replace(path, content)
        self.set_control(backup_id, "content-crc", "0")

    def damage_list(self, backup_id):
        """Changes one digit of the list but not its CRC."""
        path = self.directory / backup_id / "backup_content.control"
        content = path.read_bytes()
        changed = re.sub(rb'"crc":"(\d)', lambda match: b'"crc":"' + (b"1" if match.group(1) != b"1" else b"2"),
                         content, count=1)
        if changed == content:
            raise AssertionError(f"{path} has no crc")
        self._replace(path, changed)

    def remove(self, backup_id):
        shutil.rmtree(self.directory / backup_id)

    def _replace(self, path, content):
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(content)
        temporary.chmod(0o600)
        temporary.rename(path)

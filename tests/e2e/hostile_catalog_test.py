"""A catalog made by somebody who means harm: every mount of it is refused or harmless, nothing outside of the catalog
can be read through it, and the daemon lives on."""

import os
import pathlib
import random
import re
import shutil
import stat
import time

from pbkfs_e2e import case
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.variants import VariantCatalog

SECRET = b"SECRET that lies outside of the catalog. " * 500
RELATION = "base/5/16390"
PLAIN = "base/5/16390_vm"
# More than a mount of this catalog ever needs; an allocation that trusts a number goes far beyond.
RESIDENT_BYTES = 512 << 20
MOUNT_SECONDS = 30
READ_SECONDS = 30

NUMBERS = ["0", "1", "-1", "-2", "7", "8191", "131072", "131073", "2147483647", "2147483648", "4294967295",
           "4294967296", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
           "18446744073709551615", "9" * 40, "", "x", "0x10", "1e9", " 1", "1 ", "+1", "1,000", "%n", "\x00"]
LIST_KEYS = ["size", "mode", "is_datafile", "is_cfs", "crc", "compress_alg", "external_dir_num", "dbOid", "full_size",
             "segno", "n_blocks", "n_headers", "hdr_crc", "hdr_off", "hdr_size"]
CONTROL_KEYS = ["backup-mode", "stream", "compress-alg", "compress-level", "from-replica", "block-size",
                "xlog-block-size", "checksum-version", "program-version", "server-version", "timelineid", "start-lsn",
                "stop-lsn", "start-time", "end-time", "recovery-xid", "recovery-time", "data-bytes", "wal-bytes",
                "uncompressed-bytes", "pgdata-bytes", "status", "parent-backup-id", "content-crc"]
PATHS = ["../outside/secret", "/etc/passwd", "base/../../outside/secret", "base/5/../../../../outside/secret", "", ".",
         "..", "./PG_VERSION", "base//5/x", "base/5/", "base/5/x/.", "a/..", "x" * 300, "d/" * 500 + "x",
         ".pbkfs", ".pbkfs/external/1/x", "PG_VERSION/below-a-file", "base", "new\tline", "\x01\x7f", "\udcff\udcfe",
         "PG_VERSION"]
# In the quick tier of each kind of harm so many cases are tried, and others in every run.
SAMPLE = 3


class HostileCatalog(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.pristine = VariantCatalog(self)
        self.newest = self.pristine.ids[-1]
        self.expected = self.pristine.content(self.newest)
        outside = self.work / "outside"
        outside.mkdir()
        self.secret = outside / "secret"
        self.secret.write_bytes(SECRET)

    def copy(self):
        shutil.rmtree(self.work / "bad", ignore_errors=True)
        return VariantCatalog.copy_of(self.pristine, self.work / "bad")

    def put_back(self, catalog):
        """Undoes what a case did to control files and lists: much cheaper than another copy, and there are thousands
        of cases."""
        for backup_id in self.pristine.ids:
            for name in ("backup.control", "backup_content.control"):
                good, damaged = (each.directory / backup_id / name for each in (self.pristine, catalog))
                if good.read_bytes() != damaged.read_bytes():
                    temporary = damaged.with_name(name + ".tmp")
                    shutil.copy2(good, temporary)
                    temporary.rename(damaged)

    def try_mount(self, catalog, touched):
        """Mounts, looks at everything, unmounts. Files of `touched` may show anything but secrets, or nothing; all
        others must be right. Returns whether the mount worked."""
        begin = time.monotonic()
        arguments = mount_arguments(catalog.store, catalog.instance, self.newest, self.work / "b")
        done = self.daemon.cli(*arguments)
        self.assertLess(time.monotonic() - begin, MOUNT_SECONDS, "the mount took too long")
        self.assertIsNone(self.daemon.exit_code(), f"the daemon died:\n{self.daemon.log_tail(20)}")
        if done.returncode != 0:
            self.assertTrue(done.stderr.strip(), "refused without a message")
            self.assertNotEqual(6, done.returncode, done.stderr)
        else:
            try:
                self.look_at(self.work / "b", touched)
            finally:
                self.daemon.unmount("b", "--delete-diff")
        self.assertIsNone(self.daemon.exit_code(), f"the daemon died:\n{self.daemon.log_tail(20)}")
        self.assertLess(self.daemon.resident_bytes(), RESIDENT_BYTES, "a number of the catalog became memory")
        return done.returncode == 0

    def look_at(self, root, touched):
        begin = time.monotonic()
        found = {}
        for directory, names, files in os.walk(root):
            for name in [*names, *files]:
                path = pathlib.Path(directory) / name
                kind = os.lstat(path).st_mode
                self.assertTrue(stat.S_ISREG(kind) or stat.S_ISDIR(kind), f"{path} has the mode {kind:o}")
                if stat.S_ISREG(kind):
                    found[str(path.relative_to(root))] = self.read_ends(path)
        self.assertLess(time.monotonic() - begin, READ_SECONDS, "reading took too long")
        for path, content in found.items():
            self.assertNotIn(SECRET[:100], content or b"", f"{path} shows what lies outside of the catalog")
        for path, want in self.expected.items():
            if path not in touched:
                self.assertEqual(want, found.get(path), f"{path} is not what it was")

    def read_ends(self, path):
        """All of a small file, both ends of a large one; None where the answer was an error."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            size = os.fstat(fd).st_size
            if size <= 1 << 20:
                return os.pread(fd, size, 0)
            return os.pread(fd, 65536, 0) + os.pread(fd, 65536, size - 65536)
        except OSError:
            return None
        finally:
            os.close(fd)

    def sampled(self, cases, name):
        return cases if case.FULL_TIER else case.seeded_random(self, name).sample(cases, min(SAMPLE, len(cases)))

    # Numbers.

    def test_numbers_of_the_file_list(self):
        cases = [(path, key, value) for path in (RELATION, PLAIN) for key in LIST_KEYS for value in NUMBERS]
        mounted = 0
        cases, catalog = self.sampled(cases, "list"), self.copy()
        for path, key, value in cases:
            with self.subTest(path=path, key=key, value=value):
                self.put_back(catalog)
                member = self.newest if key != "size" else catalog.ids[0]
                self.set_list_key(catalog, member, path, key, value)
                mounted += self.try_mount(catalog, {path, RELATION + ".1"})
        self.report(f"{mounted} of {len(cases)} could be mounted")

    def set_list_key(self, catalog, backup_id, path, key, value):
        """Changes the key of one entry, or adds it."""
        line = re.search(rb'^{"path":"' + re.escape(path.encode()) + rb'".*$',
                         (catalog.directory / backup_id / "backup_content.control").read_bytes(), re.MULTILINE)[0]
        pair = f'"{key}":"{value}"'.encode()
        changed, count = re.subn(rb'"' + key.encode() + rb'":"[^"]*"', lambda _: pair, line)
        if not count:
            changed = line[:-1] + b"," + pair + b"}"
        catalog.edit_list(backup_id, re.escape(line), lambda _: changed)

    def test_numbers_of_the_control_file(self):
        cases = [(key, value, position) for key in CONTROL_KEYS for value in NUMBERS for position in (0, -1)]
        mounted, cases, catalog = 0, self.sampled(cases, "control"), self.copy()
        for key, value, position in cases:
            with self.subTest(key=key, value=value, position=position):
                self.put_back(catalog)
                self.set_control_raw(catalog, catalog.ids[position], key, value)
                mounted += self.try_mount(catalog, set())
        self.report(f"{mounted} of {len(cases)} could be mounted")

    def set_control_raw(self, catalog, backup_id, key, value):
        path = catalog.directory / backup_id / "backup.control"
        text = re.sub(rf"^{re.escape(key)} *=.*\n", "", path.read_text(), flags=re.MULTILINE)
        path.write_text(f"{text}{key} = {value}\n")

    def test_endless_lines_and_lists(self):
        for name, content in (("backup.control", b"note = " + b"x" * (1 << 20)),
                              ("backup.control", b"\0" * (1 << 20)),
                              ("backup.control", b"status = OK\n" * 100000),
                              ("backup_content.control", b'{"path":"' + b"x" * (4 << 20)),
                              ("backup_content.control", b"{" * (4 << 20)),
                              ("backup_content.control", b""),
                              ("page_header_map", b"\x78\x01" + b"\0" * (1 << 20))):
            with self.subTest(name=name, content=content[:20]):
                catalog = self.copy()
                (catalog.directory / self.newest / name).write_bytes(content)
                catalog.set_control_if_there(self.newest, "content-crc", "0")
                self.try_mount(catalog, set(self.expected))

    # Paths.

    def test_paths_that_lead_elsewhere(self):
        catalog = self.copy()
        for path, datafile in self.sampled([(path, datafile) for path in PATHS for datafile in "01"], "paths"):
            with self.subTest(path=path[:40], datafile=datafile):
                self.put_back(catalog)
                line = (f'{{"path":"{path}", "size":"{len(SECRET)}", "mode":"33152", "is_datafile":"{datafile}", '
                        '"is_cfs":"0", "crc":"0", "compress_alg":"none", "external_dir_num":"0", "dbOid":"0"}\n')
                catalog.edit_list(self.newest, rb"\A", lambda _: os.fsencode(line))
                self.try_mount(catalog, set())

    def test_instances_and_backups_that_are_paths(self):
        for instance, backup in (("..", None), ("../backups/node", None), ("node/.", None), (".", None), ("", None),
                                 ("node", "../node/" + self.newest), ("node", "."), ("node", "/"), ("node\n", None)):
            with self.subTest(instance=instance, backup=backup):
                arguments = mount_arguments(self.pristine.store, instance, backup, self.work / "b")
                done = self.daemon.cli(*arguments)
                self.assertNotIn(done.returncode, (0, 6), done.stderr)

    # What is planted in the place of files and directories.

    def plants(self):
        """(name, function that puts something at a path)."""
        def device(path):
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))

        def block_device(path):
            os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 0))

        def socket(path):
            os.mknod(path, stat.S_IFSOCK | 0o666)
        return [("fifo", os.mkfifo), ("device", device), ("block-device", block_device), ("socket", socket),
                ("directory", os.mkdir), ("symlink", lambda path: os.symlink(self.secret, path)),
                ("relative-symlink", lambda path: os.symlink("../" * 12 + str(self.secret)[1:], path)),
                ("loop", lambda path: os.symlink(path, path)),
                ("proc", lambda path: os.symlink("/proc/self/mem", path))]

    def test_stored_files_replaced_by_other_things(self):
        cases = [(name, plant, path) for name, plant in self.plants() for path in (RELATION, PLAIN)]
        for name, plant, path in self.sampled(cases, "stored files"):
            with self.subTest(plant=name, path=path):
                catalog = self.copy()
                for backup_id in catalog.ids:
                    stored = catalog.directory / backup_id / "database" / path
                    if stored.exists():
                        stored.unlink()
                        plant(stored)
                self.try_mount(catalog, {path})

    def test_control_files_replaced_by_other_things(self):
        files = ("backup.control", "backup_content.control", "page_header_map", "../pg_probackup.conf", "backup.pid",
                 "backup_ro.pid")
        cases = [(name, plant, file) for name, plant in self.plants() for file in files]
        for name, plant, file in self.sampled(cases, "control files"):
            with self.subTest(plant=name, file=file):
                catalog = self.copy()
                path = catalog.directory / self.newest / file
                path.unlink(missing_ok=True)
                plant(path)
                self.try_mount(catalog, set(self.expected) if file == "page_header_map" else set())
                self.daemon.cli("backups", "--store", catalog.store)
                self.assertIsNone(self.daemon.exit_code())
        self.assertEqual(SECRET, self.secret.read_bytes())

    def test_directories_replaced_by_symlinks(self):
        for path in ("database", "database/base", "database/base/5", ".", ".."):
            with self.subTest(path=path):
                catalog = self.copy()
                directory = pathlib.Path(os.path.normpath(catalog.directory / self.newest / path))
                real = self.work / "outside" / "real"
                shutil.rmtree(real, ignore_errors=True)
                directory.rename(real)
                directory.symlink_to(real)
                # The bytes would be right; but who may write them is not who owns the catalog.
                self.assertFalse(self.try_mount(catalog, set(self.expected)) and path in (".", ".."),
                                 "a directory outside of the catalog was mounted")

    def test_hard_links_to_what_lies_outside(self):
        catalog = self.copy()
        stored = catalog.directory / catalog.ids[0] / "database" / "global" / "1"
        os.link(self.secret, stored)
        relation = catalog.directory / catalog.ids[0] / "database" / RELATION
        relation.unlink()
        os.link(self.secret, relation)
        self.try_mount(catalog, {RELATION})
        self.assertEqual(SECRET, self.secret.read_bytes())

    def test_stored_files_of_other_lengths(self):
        changes = {"shorter": lambda size: size - 1, "longer": lambda size: size + 8192, "empty": lambda size: 0,
                   "huge": lambda size: 1 << 40}
        for path in (RELATION, PLAIN):
            for change, length in changes.items():
                with self.subTest(path=path, change=change):
                    catalog = self.copy()
                    stored = catalog.directory / catalog.ids[0] / "database" / path
                    os.truncate(stored, length(stored.stat().st_size))
                    self.try_mount(catalog, {path})

    def test_parents_in_a_circle(self):
        catalog = self.copy()
        first, second = catalog.ids[1], catalog.ids[2]
        catalog.set_control(first, "parent-backup-id", f"'{second}'")
        self.assertFalse(self.try_mount(catalog, set()))
        catalog = self.copy()
        catalog.set_control(first, "parent-backup-id", f"'{first}'")
        self.assertFalse(self.try_mount(catalog, set()))

    def test_directory_names_that_are_not_ids(self):
        catalog = self.copy()
        for name in ("..x", "-rf", "A" * 200, "ZZZZZZZZZZZZZ", "0", "tow28w", "new\nline", "\udcff", ".hidden"):
            os.mkdir(os.path.join(catalog.directory, name))
        (catalog.directory / "plain-file").write_text("x")
        self.assertTrue(self.try_mount(catalog, set()))
        self.daemon.cli("backups", "--store", catalog.store)
        self.assertIsNone(self.daemon.exit_code())


if __name__ == "__main__":
    case.main()

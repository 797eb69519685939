"""External directories of a backup are readable in the mount, as restore would make them, and nothing can change them."""

import errno
import os
import stat

from pbkfs_e2e import case
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog, crc32c

# As written by the user; numbered in the order of their names.
PRODUCTION = ["/srv/uploads", "/etc/app", "/srv/empty"]
NUMBERS = {path: number + 1 for number, path in enumerate(sorted(PRODUCTION))}


class Chain:
    """Adds external directories to a synthetic chain, whose backups see one state of them after the other."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.parent = {}
        for backup in catalog.ids:
            catalog.set_control(backup, "content-crc", "0")
            with open(catalog.directory / backup / "backup.control", "a", encoding="utf-8") as control:
                control.write(f"external-dirs = '{':'.join(PRODUCTION)}'\n")

    def add(self, backup, state):
        """`state` maps (directory, path) to bytes, or to None for a directory."""
        root = self.catalog.directory / backup
        lines = []
        for (directory, path), content in state.items():
            number = NUMBERS[directory]
            stored = root / "external_directories" / f"externaldir{number}" / path
            if content is None:
                size, mode = 0, stat.S_IFDIR | 0o750
                stored.mkdir(parents=True, exist_ok=True)
            elif self.parent.get((directory, path)) == content:
                size, mode = -1, stat.S_IFREG | 0o640
            else:
                size, mode = len(content), stat.S_IFREG | 0o640
                if content:
                    stored.parent.mkdir(parents=True, exist_ok=True)
                    stored.write_bytes(content)
            lines.append(f'{{"path":"{path}", "size":"{size}", "mode":"{mode}", "is_datafile":"0", "is_cfs":"0", '
                         f'"crc":"{crc32c(content or b"")}", "compress_alg":"none", '
                         f'"external_dir_num":"{number}", "dbOid":"0"}}\n')
        with open(root / "backup_content.control", "a", encoding="utf-8") as file:
            file.writelines(lines)
        self.parent = state


def tree_of(root):
    found = {}
    for directory, names, files in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = (stat.S_IMODE(os.stat(path).st_mode), None)
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = (stat.S_IMODE(os.stat(path).st_mode), file.read())
    return found


class ExternalDirs(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        chain = Chain(self.catalog)
        big = bytes(range(256)) * 4096
        first = {("/etc/app", "app.conf"): b"one\n", ("/etc/app", "conf.d"): None,
                 ("/etc/app", "conf.d/10.conf"): b"ten\n", ("/srv/uploads", "big"): big,
                 ("/srv/uploads", "app.conf"): b"of the same name\n"}
        second = {**first, ("/etc/app", "app.conf"): b"two, longer\n", ("/etc/app", "nothing"): b""}
        second.pop(("/etc/app", "conf.d/10.conf"))
        last = {**second, ("/srv/uploads", "deep/er/file"): b"listed without its directories\n"}
        for backup, state in zip(self.catalog.ids, [first, second, last]):
            chain.add(backup, state)
        self.expected = {}
        for number in NUMBERS.values():
            self.expected[str(number)] = (0o700, None)
        for (directory, path), content in last.items():
            mode = 0o750 if content is None else 0o640
            self.expected[f"{NUMBERS[directory]}/{path}"] = (mode, content)
        for path in ("deep", "deep/er"):
            self.expected[f"{NUMBERS['/srv/uploads']}/{path}"] = (0o700, None)
        self.target = self.work / "m"
        self.external = self.target / ".pbkfs" / "external"

    def mount(self, *extra):
        return self.daemon.call(*mount_arguments(self.catalog.store, self.catalog.instance, None, self.target,
                                                 diff=self.work / "d", extra=extra))

    def test_content_names_and_modes_are_those_of_a_restore(self):
        mount = self.mount()
        self.assertEqual(sorted(PRODUCTION), mount["externalDirectories"])
        self.assertIn("/srv/uploads", " ".join(mount["warnings"]))
        self.assertEqual(self.expected, tree_of(self.external))
        self.assertNotIn(".pbkfs", os.listdir(self.target))
        self.assertEqual(["external", "wal"], sorted(os.listdir(self.target / ".pbkfs")))
        self.daemon.unmount("m")
        # The diff that exists now changes nothing.
        self.mount()
        self.assertEqual(self.expected, tree_of(self.external))
        self.daemon.unmount("m")

    def test_a_dry_run_lists_them(self):
        self.assertEqual(sorted(PRODUCTION), self.mount("--dry-run")["externalDirectories"])

    def test_nothing_can_be_changed(self):
        self.mount()
        number = NUMBERS["/etc/app"]
        file, folder = self.external / f"{number}/app.conf", self.external / f"{number}/conf.d"
        inside = self.target / "mine"
        inside.write_bytes(b"x")
        attempts = {
            "create": lambda: (folder / "new").write_bytes(b"x"),
            "mkdir": lambda: (folder / "new").mkdir(),
            "symlink": lambda: (folder / "new").symlink_to("x"),
            "truncate": lambda: os.truncate(file, 0),
            "open to truncate": lambda: file.write_bytes(b"x"),
            "chmod": lambda: file.chmod(0o777),
            "utime": lambda: os.utime(file),
            "unlink": file.unlink,
            "rmdir": folder.rmdir,
            "rename within": lambda: file.rename(folder / "a"),
            "rename out": lambda: file.rename(self.target / "a"),
            "rename in": lambda: inside.rename(folder / "a"),
            "rename over the name": lambda: inside.rename(self.target / ".pbkfs"),
            "rmdir of the name": lambda: (self.target / ".pbkfs").rmdir(),
            "link out": lambda: os.link(file, self.target / "a"),
        }
        for name, attempt in attempts.items():
            with self.subTest(name):
                with self.assertRaises(OSError) as raised:
                    attempt()
                self.assertIn(raised.exception.errno, (errno.EROFS, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST), name)
        with self.subTest("write"), open(file, "r+b", buffering=0) as opened:
            with self.assertRaises(OSError) as raised:
                opened.write(b"x")
            self.assertEqual(errno.EROFS, raised.exception.errno)
        self.assertEqual(self.expected, tree_of(self.external))
        self.daemon.unmount("m")

    def test_a_backup_without_them_has_no_such_name(self):
        plain = SyntheticCatalog(self, name="plain")
        self.daemon.mount(plain.store, plain.instance, None, self.target, diff=self.work / "d")
        self.assertFalse((self.target / ".pbkfs" / "external").exists())
        # Without an archive of WAL either, there is nothing to show.
        self.daemon.unmount("m")
        (plain.store / "wal" / plain.instance).rmdir()
        self.daemon.mount(plain.store, plain.instance, None, self.target, diff=self.work / "d")
        self.assertFalse((self.target / ".pbkfs").exists())
        self.daemon.unmount("m")

    def test_a_file_that_its_parent_lacks_is_damage(self):
        self.catalog.edit_list(self.catalog.ids[0], rb'\{"path":"big"[^\n]*\n', b"")
        done = self.daemon.cli(*mount_arguments(self.catalog.store, self.catalog.instance, None, self.target,
                                                diff=self.work / "d"))
        self.assertEqual(7, done.returncode, done.stderr)
        self.assertIn("CATALOG_CORRUPT", done.stderr)


if __name__ == "__main__":
    case.main()

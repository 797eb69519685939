"""Every backup of every catalog, seen through a mount, is what a real restore of it gave."""

import random

from pbkfs_e2e import catalogs, case, manifest, mounts

# In the quick tier one file of so many is read a second time, in random order.
SAMPLE = 8
SMALL_CATALOG_BYTES = 128 << 20


class GoldenTree(case.E2ECase):
    def test_mount_shows_the_restored_tree(self):
        count = 0
        for catalog in self.catalogs():
            backups = catalog.with_manifest()
            with_content = case.FULL_TIER or self._size(catalog) <= SMALL_CATALOG_BYTES
            before = catalogs.snapshot(catalog.store, with_content)
            for backup in backups:
                with self.subTest(backup=str(backup)):
                    self._check_backup(backup)
                count += 1
            after = catalogs.snapshot(catalog.store, with_content)
            self.assertEqual("", catalogs.describe_change(before, after), f"catalog {catalog.name} was changed")
        self.need(count, "no catalog has a golden/<backup>.manifest.tsv")

    def _size(self, catalog):
        return sum(file.stat().st_size for file in catalog.store.rglob("*") if file.is_file())

    def _check_backup(self, backup):
        watch = case.Stopwatch()
        target = self.work / f"m-{backup.id.lower()}"
        mount = self.daemon.mount(backup.store, backup.instance, backup.id, target, owner="postgres")
        try:
            self.assertEqual(backup.id, mount["backupId"])
            expected = manifest.expected_entries(backup)
            problems = manifest.compare_shape(target, expected)
            if "recovery" in mount:  # An ARCHIVE backup: its server starts with recovery from the archive.
                self.assertEqual(0, (target / "recovery.signal").stat().st_size)
                problems.remove("recovery.signal: not in the restored tree")
            problems += manifest.compare_configuration(target, backup, expected)
            files = manifest.plain_files(expected)
            problems += manifest.compare_content(target, files, manifest.sequential_sha256)
            problems += self._read_again(target, files, backup)
        finally:
            self.daemon.unmount(mount["mountId"], "--delete-diff")
        self.assertFalse(mounts.is_mounted(target), "still mounted after unmount")
        self.assertFalse(target.exists(), "the target that the daemon made is still there after unmount")
        self.assertEqual([], problems[:20], f"{len(problems)} differences from the restore of {backup}")
        size = sum(entry.size for _, entry in files)
        self.report(f"{backup}: {len(expected)} entries, {size / 1e6:.0f} MB, {watch}")

    def _read_again(self, target, files, backup):
        """Random pieces by several threads, each file by two of them."""
        rng = random.Random(str(backup))
        if not case.FULL_TIER:
            files = rng.sample(files, len(files) // SAMPLE)
        twice = files + files
        rng.shuffle(twice)
        return manifest.compare_content(target, twice, manifest.random_sha256(rng))


if __name__ == "__main__":
    case.main()

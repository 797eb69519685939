"""Reading costs nothing on disk: a scan of a whole mount copies no block into the diff."""

import os

from pbkfs_e2e import case, manifest
from pbkfs_e2e.synthetic import SyntheticCatalog


def allocated_bytes(directory):
    total = 0
    for parent, _, names in os.walk(directory):
        total += sum(os.lstat(os.path.join(parent, name)).st_blocks * 512 for name in names)
    return total


class Scan(case.E2ECase):
    def test_scan_does_not_materialise(self):
        self._scan(SyntheticCatalog(self, relations=8, blocks=300, backups=3))

    def test_scan_of_a_real_backup_does_not_materialise(self):
        backups = [backup for catalog in self.catalogs() for backup in catalog.with_manifest()]
        self.need(backups, "no catalog has a golden/<backup>.manifest.tsv")
        smallest = min(backups, key=lambda backup: int(backup.control.get("pgdata-bytes", "0")))
        self._scan(smallest.catalog, smallest)

    def _scan(self, catalog, backup=None):
        target, diff = self.work / "scanned", self.work / "diff"
        instance = backup.instance if backup else catalog.instance
        self.daemon.mount(catalog.store, instance, backup.id if backup else None, target, diff=diff)
        bytes_before, stats_before = allocated_bytes(diff), self.daemon.stats("scanned")
        read = 0
        for name, entry in manifest.walk(target).items():
            if entry.type == "f":
                manifest.sequential_sha256(target / name)
                read += entry.size
        bytes_after, stats_after = allocated_bytes(diff), self.daemon.stats("scanned")
        self.report(f"{read / 1e6:.1f} MB read, diff {bytes_before} -> {bytes_after} bytes")
        self.assertGreater(read, 1 << 20, "the mount shows too little to prove anything")
        self.assertEqual(bytes_before, bytes_after, "reading made the diff grow on disk")
        for counter in ("blocksCopied", "bytesCopied", "writtenBytes"):
            self.assertEqual(stats_before["io"][counter], stats_after["io"][counter], counter)
        self.assertEqual(stats_before["diff"]["diffBytes"], stats_after["diff"]["diffBytes"])
        grown = int(stats_after["io"]["readBytesBackup"]) - int(stats_before["io"]["readBytesBackup"])
        self.assertGreater(grown, read // 2, "the bytes that were read are not counted as read from the backup")


if __name__ == "__main__":
    case.main()

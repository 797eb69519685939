"""Damage in a backup is an error for the blocks that it touches: never zeros, never raw bytes, never a wrong page."""

import errno
import os

from pbkfs_e2e import case
from pbkfs_e2e.synthetic import SyntheticCatalog, largest_file

BLOCK = 8192


class DamagedBackup(case.E2ECase):
    def test_flipped_bytes_are_errors_of_their_blocks_alone(self):
        rng = case.seeded_random(self, "where the bytes are flipped")
        for codec in ("zlib", "pglz", "none"):
            with self.subTest(codec=codec):
                self.check(SyntheticCatalog(self, name=codec, relations=1, blocks=40, backups=1, codec=codec), rng)

    def check(self, catalog, rng):
        root, diff = self.work / "m", self.work / f"d-{catalog.store.name}"
        self.daemon.mount(catalog.store, catalog.instance, None, root, diff=diff)
        path = largest_file(root / "base")
        good = path.read_bytes()
        self.daemon.unmount("m")

        stored = catalog.directory / catalog.ids[-1] / "database" / path.relative_to(root)
        content = bytearray(stored.read_bytes())
        for _ in range(3):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        stored.write_bytes(content)

        self.daemon.mount(catalog.store, catalog.instance, None, root, diff=diff)
        damaged = self.damaged_blocks(path, good)
        self.report(f"{catalog.store.name}: {len(damaged)} of {len(good) // BLOCK} blocks are errors")
        self.assertTrue(damaged, "no damage was found")
        self.assertLess(len(damaged), len(good) // BLOCK, "blocks that were not damaged are errors")
        # A block that is written whole does not need the one below it.
        with open(path, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"n" * BLOCK, damaged[0] * BLOCK)
            self.assertEqual(b"n" * BLOCK, os.pread(file.fileno(), BLOCK, damaged[0] * BLOCK))
        self.assertEqual(damaged[1:], self.damaged_blocks(path, good, ignored=damaged[0]))
        self.daemon.unmount("m")

    def damaged_blocks(self, path, good, ignored=None):
        """Numbers of the blocks that can't be read. What can be read must be right."""
        damaged = []
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for block in range(len(good) // BLOCK):
                try:
                    have = os.pread(fd, BLOCK, block * BLOCK)
                except OSError as error:
                    self.assertEqual(errno.EIO, error.errno)
                    damaged.append(block)
                    continue
                if block != ignored:
                    self.assertEqual(good[block * BLOCK:(block + 1) * BLOCK], have, f"block {block}")
        finally:
            os.close(fd)
        return damaged


if __name__ == "__main__":
    case.main()

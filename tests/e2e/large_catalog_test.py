"""What a mount costs when the backup is large: a terabyte in a hundred thousand files and a chain of thirty, beside a
gigabyte. Figures are printed; only the bytes are asserted, because times belong to the machine."""

import os
import pathlib
import subprocess
import time

from pbkfs_e2e import case

BLOCK = 8192
SEGMENT_BLOCKS = 131072
STORED_BLOCKS = 64
# (entries, segments of 1 GiB, members of the chain)
SMALL = ("1 GB", 100, 1, 3)
LARGE = ("1 TB", 100_000, 1024, 30)


class LargeCatalog(case.E2ECase):
    def test_figures_of_a_terabyte_beside_those_of_a_gigabyte(self):
        rows = [self.measure(*shape) for shape in (SMALL, LARGE)]
        width = max(len(name) for name, _ in rows[0])
        for index, (name, _) in enumerate(rows[0]):
            self.report(f"{name:{width}}" + "".join(f"{row[index][1]:>14}" for row in rows))

    def measure(self, name, entries, segments, members):
        store = self.work / f"store-{segments}"
        subprocess.run([self.mkcatalog(), "synthetic", "--catalog", store, "--instance", "i", "--entries", str(entries),
                        "--segments", str(segments), "--backups", str(members), "--stored-blocks", str(STORED_BLOCKS)],
                       check=True, capture_output=True, text=True)
        # Every catalog meets a daemon that has seen nothing before.
        self._stop_daemon()
        self.start_daemon()
        before = self.daemon.resident_bytes()
        mount_seconds, target = self.timed_mount(store)
        mounted = self.daemon.resident_bytes()
        begin = time.monotonic()
        count, claimed = self.walk(target)
        walk_seconds = time.monotonic() - begin
        walked = self.daemon.resident_bytes()
        begin = time.monotonic()
        blocks = self.read_some(target, segments)
        read_seconds = time.monotonic() - begin
        resident = self.daemon.resident_bytes()
        begin = time.monotonic()
        self.daemon.unmount("m", "--delete-diff")
        unmount_seconds = time.monotonic() - begin
        self.assertGreater(claimed, segments << 30)
        return [("catalog", name), ("files", count), ("logical GiB", f"{claimed / 2**30:.1f}"), ("chain", members),
                ("mount, s", f"{mount_seconds:.2f}"), ("walk, s", f"{walk_seconds:.2f}"),
                (f"read {blocks} blocks, s", f"{read_seconds:.2f}"), ("unmount, s", f"{unmount_seconds:.2f}"),
                ("VmRSS of the daemon, MiB", mib(before)), ("  after the mount", mib(mounted)),
                ("  after the walk", mib(walked)), ("  after the reads", mib(resident)),
                ("  at its peak", mib(self.peak_bytes()))]

    def timed_mount(self, store):
        begin = time.monotonic()
        self.daemon.mount(store, "i", None, self.work / "m")
        return time.monotonic() - begin, self.work / "m"

    def peak_bytes(self):
        lines = pathlib.Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def walk(self, target):
        count = claimed = 0
        for directory, _, names in os.walk(target):
            for name in names:
                count += 1
                claimed += os.lstat(os.path.join(directory, name)).st_size
        return count, claimed

    def read_some(self, target, segments):
        """Blocks that are stored, whose page header says so, and holes, which are zero."""
        stride = SEGMENT_BLOCKS // STORED_BLOCKS
        blocks = 0
        for segment in range(0, segments, max(segments // 64, 1)):
            path = target / "base" / "5" / ("16384" if segment == 0 else f"16384.{segment}")
            fd = os.open(path, os.O_RDONLY)
            try:
                for index in (0, 1, STORED_BLOCKS - 1):
                    stored = os.pread(fd, BLOCK, index * stride * BLOCK)
                    hole = os.pread(fd, BLOCK, (index * stride + 1) * BLOCK)
                    self.assertEqual(bytes(BLOCK), hole, f"{path}: a block that nobody wrote")
                    self.assertEqual((BLOCK, 4), (len(stored), int.from_bytes(stored[18:20], "little") & 0xFF))
                    blocks += 2
            finally:
                os.close(fd)
        return blocks


def mib(count):
    return f"{count / 2**20:.1f}"


if __name__ == "__main__":
    case.main()

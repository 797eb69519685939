"""Catalogs of every kind, made by mkcatalog together with the bytes that a mount of them must show."""

import os
import pathlib
import subprocess

from pbkfs_e2e.synthetic import SyntheticCatalog


class VariantCatalog(SyntheticCatalog):
    """`readable` tells for each backup id whether a mount must work: "yes", "no" or "may"."""

    def __init__(self, test, variant="history", name="catalog"):
        self.store = pathlib.Path(test.work) / name
        self.expected = pathlib.Path(test.work) / f"{name}.expected"
        self._mkcatalog = test.mkcatalog()
        self._run("synthetic", "--variant", variant, "--expected", self.expected)
        rows = (self.expected / "backups.tsv").read_text().splitlines()
        self.readable = dict(row.split("\t") for row in rows)

    def _run(self, command, *arguments):
        subprocess.run([self._mkcatalog, command, "--catalog", self.store, "--instance", self.instance,
                        *map(str, arguments)], check=True, capture_output=True, text=True)

    @classmethod
    def merge_stages(cls, test):
        done = subprocess.run([test.mkcatalog(), "list", "stages"], check=True, capture_output=True, text=True)
        return done.stdout.split()

    def merge_to(self, stage):
        """Goes on with the merge of the whole chain. Only for the variant "history"."""
        self._run("merge", "--stage", stage)

    def content(self, backup_id):
        """{path: bytes} of the regular files that are known."""
        root = self.expected / backup_id
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_past_the_page_cache(path):
    """The whole file, as the daemon answers now: what the kernel keeps of it is dropped before."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)

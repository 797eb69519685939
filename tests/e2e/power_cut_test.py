"""The power goes, with a real kernel below the diff: what was committed and what was fsynced is there.

The diff lies on a file system in an image file ("inner"), the image on an XFS of its own ("outer"). A cut is a clone of
the image, made with FICLONE while everything runs. Why a clone is what a disk holds when the power goes:

* A write request to the loop device is a write to the image, and is answered when its bytes are in the outer file's
  page cache; a flush or a FUA write is answered after an fsync of the image. So whatever the inner file system was told
  to be stable is in the outer file.
* FICLONE takes the outer inode's lock exclusively, as each of those writes does, waits for direct I/O, and writes the
  page cache back before it shares the extents: the clone holds each request that was answered before, none that begins
  after, and of those that were under way each one completely or not at all. It is one moment for the whole image.
* What the inner file system had not yet sent to the device is not in the clone: dirty pages, and metadata whose journal
  transaction was not written. Mounting the clone replays the journal, as after a cut.

What no clone shows is a device that forgets requests which it answered but was not told to flush; the crash model of
tests/fs/overlay covers that.

A promise counts if it was logged before the clone began; an intention may show if it was logged before the clone ended.
"""

import collections
import json
import os
import subprocess
import time
import unittest

from pbkfs_e2e import case, committers, file_load, loop_images, promises, tree_model
from pbkfs_e2e.daemon import Daemon
from pbkfs_e2e.production import Production
from pbkfs_e2e.synthetic import SyntheticCatalog

QUICK_CUTS = 5
FULL_CUTS = 100
CUTS_A_ROUND = 8
IMAGE_BYTES = 1 << 30
WORKERS = 2
COMMITTERS = 2
LOAD_SECONDS = 600

# A cut may leave the table of the round before.
CHURN = """
DROP TABLE IF EXISTS churned;
CREATE TABLE churned AS SELECT i, repeat(md5(i::text), 8) AS filler FROM generate_series(1, 1000) i;
CREATE INDEX ON churned (filler);
DELETE FROM churned WHERE i > 100;
VACUUM churned;
TRUNCATE churned;
CHECKPOINT;
"""

Cut = collections.namedtuple("Cut", "image promised logged committed")


def complete_lines(path, length=None):
    """The lines that were whole when the file had `length` bytes."""
    with open(path, "rb") as file:
        return file.read(-1 if length is None else length).split(b"\n")[:-1]


class PowerCut(case.E2ECase):
    def setUp(self):
        super().setUp()
        loop_images.require_tools(self)
        self.files_catalog = SyntheticCatalog(self, name="files", relations=6, blocks=24)
        self.production = Production(self)
        self.production.fill(committers.TABLE)
        self.production.back_up()
        self.production.server.stop()
        self.outer = loop_images.LoopImage.make("xfs", self.work / "outer.img", self.work / "outer", 8 * IMAGE_BYTES)
        self.outer.mount(self)
        self.cut_number = 0

    def test_cuts_on_ext4(self):
        self.cut_power("ext4", (self.cuts() + 1) // 2)

    def test_cuts_on_xfs(self):
        self.cut_power("xfs", self.cuts() // 2)

    def cuts(self):
        return int(os.environ.get("PBKFS_CUTS") or (FULL_CUTS if case.FULL_TIER else QUICK_CUTS))

    def cut_power(self, kind, count):
        rng = case.seeded_random(self, f"{count} cuts on {kind}")
        inner = loop_images.LoopImage.make(kind, self.outer.target / "0.img", self.work / "inner", IMAGE_BYTES)
        known = set()
        number = 0
        while count:
            cuts = min(count, CUTS_A_ROUND)
            count -= cuts
            inner.mount(self)
            # What recovery after the last cut left is what the next round begins with.
            known = self.run_round(inner, rng, number, cuts, known)
            number += 1
            inner = loop_images.LoopImage(kind, self.outer.target / f"cut{self.cut_number}.img", inner.target)

    def run_round(self, inner, rng, number, count, known):
        """Load, `count` cuts under it, and their checks. Returns the ids that the last cut still has."""
        watch = case.Stopwatch()
        home = self.work / f"l{number}"
        home.mkdir()
        daemon = Daemon(home, allow_roots=[self.work])
        daemon.start()
        self.addCleanup(daemon.stop)
        files = home / "files"
        daemon.mount(self.files_catalog.store, self.files_catalog.instance, None, files, diff=inner.target / "files")
        server = self.production.mount(daemon, home / f"pg{number}", inner.target / "pg", {"fsync": "on"})
        workers, others = self.make_workers(files, number, rng)
        server.start()
        cuts = self.load_and_cut(inner, server, files, workers, rng, number, count)
        # After a real cut nobody has the process id that postmaster.pid names.
        server.crash()
        # The originals are still mounted and their evidence of an intact page cache stands: it must not be believed
        # of a copy.
        for cut in cuts:
            known = self.check(inner.kind, cut, workers, others, known)
        daemon.unmount("files")
        daemon.unmount(server.pgdata.name)
        self.assertEqual(0, daemon.stop(), daemon.log_tail())
        inner.unmount()
        # The last one is the next round's.
        for image in (inner.image, *(cut.image for cut in cuts[:-1])):
            image.unlink()
        operations = sum(len(worker.events(cuts[-1].logged[worker])) for worker in workers)
        self.report(f"{inner.kind}: round {number}, {count} cuts, {len(known)} commits, "
                    f"{operations} file operations, {watch}")
        return known

    def make_workers(self, root, number, rng):
        """Divides the files of the backup among the workers. Returns them and what nobody may change."""
        tree = tree_model.TreeModel.read(root).entries
        lower = sorted(path for path, data in tree.items()
                       if path.startswith("base/") and data and len(data) % promises.CELL == 0)
        workers = []
        for index in range(WORKERS):
            home = f"round{number}-{index}"
            (root / home).mkdir()
            mine = {path: file for file, path in enumerate(lower[index::WORKERS])}
            workers.append(LoggedWorker(root, home, mine, tree, rng.randrange(1 << 62), self.work / f"{home}.log"))
        fd = os.open(root, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        others = {path: data for path, data in tree.items() if path not in lower}
        return workers, others

    def load_and_cut(self, inner, server, files, workers, rng, number, count):
        clients = [committers.Committer(self, server, COMMITTERS * number + index) for index in range(COMMITTERS)]
        script = self.work / "churn.sql"
        script.write_text(CHURN)
        script.chmod(0o644)
        bench = self.start_bench(server, "-c", "3", "-b", "tpcb-like")
        churn = self.start_bench(server, "-c", "1", "-f", str(script))
        for worker in workers:
            worker.start()
        cuts = []
        try:
            for _ in range(count):
                marks = [client.answered() for client in clients]
                case.wait_until(lambda: all(client.answered() > mark for client, mark in zip(clients, marks)),
                                300, "a commit")
                # The moment of the cut is a part of the load, not a wait for anything.
                time.sleep(rng.uniform(0.2, 1.5))
                for process in (bench, churn, *(client.process for client in clients)):
                    self.assertIsNone(process.poll(), f"a client of the load has ended: {self.bench_log()}")
                cuts.append(self.cut(inner, workers, clients))
        finally:
            for worker in workers:
                worker.kill()
            for process in (bench, churn, *(client.process for client in clients)):
                process.kill()
                process.wait()
        return cuts

    def bench_log(self):
        return (self.work / "bench.log").read_text()[-2000:]

    def start_bench(self, server, *arguments):
        with open(self.work / "bench.log", "ab") as log:
            process = server.start_tool("pgbench", "-n", "-T", LOAD_SECONDS, *arguments, "postgres",
                                        stdout=subprocess.DEVNULL, stderr=log)
        self.addCleanup(process.kill)
        return process

    def cut(self, inner, workers, clients):
        committed = set().union(*(client.answered() for client in clients))
        promised = {worker: os.path.getsize(worker.log_path) for worker in workers}
        self.cut_number += 1
        image = self.outer.target / f"cut{self.cut_number}.img"
        inner.clone(image)
        logged = {worker: os.path.getsize(worker.log_path) for worker in workers}
        return Cut(image, promised, logged, committed)

    def check(self, kind, cut, workers, others, known):
        image = loop_images.LoopImage(kind, cut.image, self.work / "after").mount(self)
        name = cut.image.stem
        self.check_files(image, cut, workers, others)
        server = self.production.mount(self.daemon, self.work / name, image.target / "pg")
        server.start()
        ids = committers.check(self, server, cut.committed | known, name)
        server.stop()
        server.tool("pg_checksums", "--check", "-D", server.pgdata, connect=False)
        self.daemon.unmount(name)
        self.daemon.check_diff(image.target / "pg")
        image.unmount()
        return ids

    def check_files(self, image, cut, workers, others):
        root = self.work / "files-after"
        self.daemon.mount(self.files_catalog.store, self.files_catalog.instance, None, root,
                          diff=image.target / "files")
        found = tree_model.TreeModel.read(root).entries
        problems = []
        for worker in workers:
            mine = {path: found.pop(path) for path in list(found) if worker.owns(path)}
            promised = len(worker.events(cut.promised[worker]))
            problems += worker.problems(worker.events(cut.logged[worker]), promised, mine)
        problems += [f"{path}: changed, though nobody wrote to it" for path in sorted(others.keys() | found.keys())
                     if path not in found or others.get(path, b"") != found[path]]
        self.assertEqual([], problems[:10], f"{cut.image.name}: {len(problems)} problems")
        self.daemon.unmount("files-after")
        self.daemon.check_diff(image.target / "files")


class LoggedWorker(promises.Worker):
    """A worker, its process, and its log."""

    def __init__(self, root, home, mine, tree, seed, log_path):
        entries = {home: None, **mine}
        super().__init__(entries, {file: tree[path] for path, file in mine.items()})
        self.home, self.mine, self.log_path = home, mine, log_path
        sizes = {file: len(tree[path]) // promises.CELL for path, file in mine.items()}
        self._load = file_load.FileLoad(root, home, entries, sizes, seed, log_path)

    def owns(self, path):
        return path == self.home or path.startswith(self.home + "/") or path in self.mine

    def start(self):
        self._load.start()
        case.wait_until(lambda: os.path.exists(self.log_path), 60, f"{self.log_path}")

    def kill(self):
        self._load.kill()

    def events(self, length):
        """What was logged when the log had `length` bytes."""
        return [json.loads(line) for line in complete_lines(self.log_path, length)]


class CheckOfPromises(unittest.TestCase):
    """The check itself: what is allowed passes, what is not is found."""

    EVENTS = [["create", "d/a", 1], ["write", 1, 0, 2, 7], ["synced", 1], ["names-synced"],
              ["write", 1, 1, 2, 8], ["resize", 1, 1], ["rename", "d/a", "d/b"]]

    def problems(self, content, *, path="d/a", promised=4):
        found = {"d": None, path: b"".join(promises.encode(cell) for cell in content)}
        return promises.Worker({"d": None}, {}).problems(self.EVENTS, promised, found)

    def test_what_was_synced_and_what_came_later_is_allowed(self):
        for content in ([7, 7], [7, 8, 8], [7, 8], [7, 0], [7], [7, 7, 0]):
            self.assertEqual([], self.problems(content), content)
        self.assertEqual([], self.problems([7], path="d/b"))

    def test_what_was_synced_may_not_be_lost(self):
        for content in ([], [0, 7], [8, 7], [7, 9], [7, 7, 7], [7, 8, 8, 0]):
            self.assertNotEqual([], self.problems(content), content)

    def test_without_a_promise_less_is_allowed(self):
        self.assertEqual([], self.problems([], promised=2))
        self.assertNotEqual([], self.problems([9], promised=2))

    def test_names_that_were_synced_may_not_be_lost(self):
        worker = promises.Worker({"d": None}, {})
        self.assertNotEqual([], worker.problems(self.EVENTS, 4, {"d": None}))
        self.assertEqual([], worker.problems(self.EVENTS, 3, {"d": None}))
        self.assertNotEqual([], self.problems([7], path="d/c"))


if __name__ == "__main__":
    case.main()

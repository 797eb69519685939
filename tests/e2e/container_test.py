"""What a container does to pbkfsd: it is lost, and keeper and worker die at one moment with the process namespace that
they live in; or it is out of memory, and the kernel kills the worker."""

import os
import pathlib
import signal
import subprocess
import unittest

from pbkfs_e2e import case, committers, memory_group, mounts, workers
from pbkfs_e2e.daemon import descendants, is_sanitized
from pbkfs_e2e.production import Production

ANSWER_SECONDS = 60
LOAD_SECONDS = 600
COMMITTERS = 2
LOSSES = 20 if case.FULL_TIER else 3
# Of keeper, worker and the holder of catalog locks together.
MEMORY_BYTES = 192 << 20
MEMORY_KILLS = 20 if case.FULL_TIER else 3

# As in a container: pbkfsd is process 1, and the evidence of an intact page cache in /run goes with it.
PREPARE = 'mount --make-private "$(findmnt -no TARGET -T /run)" && mount -t tmpfs tmpfs /run && exec "$@"'
CONTAINER = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation",
             "unchanged", "--mount-proc", "sh", "-c", PREPARE, "sh"]


class ContainerCase(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.production.fill(committers.TABLE)
        self.production.back_up()
        self.production.server.stop()
        self.daemon.stop()

    def start_load(self, server, number):
        """pgbench and clients whose first commits were answered."""
        bench = server.start_tool("pgbench", "-n", "-c", "4", "-T", LOAD_SECONDS, "postgres",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(bench.kill)
        clients = [committers.Committer(self, server, COMMITTERS * number + index) for index in range(COMMITTERS)]
        self.wait_for_commits(clients)
        return bench, clients

    def wait_for_commits(self, clients):
        before = [len(client.answered()) for client in clients]
        case.wait_until(lambda: all(len(client.answered()) > number + 20 for client, number in zip(clients, before)),
                        ANSWER_SECONDS, "commits")


class LostContainer(ContainerCase):
    def setUp(self):
        super().setUp()
        # The node: what is mounted in the container is seen outside, where PostgreSQL is.
        self.volume = self.work / "volume"
        self.volume.mkdir()
        subprocess.run(["mount", "--bind", self.volume, self.volume], check=True)
        self.addCleanup(mounts.detach, self.volume)
        self.addCleanup(mounts.detach_below, self.volume)
        subprocess.run(["mount", "--make-shared", self.volume], check=True)
        self.daemon.wrapper = CONTAINER
        self.addCleanup(self.end_container)

    def end_container(self):
        """Of a test that failed: unshare(1) passes no signal on."""
        if self.daemon.process is not None:
            self.daemon.process.kill()
            self.daemon.wait()

    def init(self):
        """Process 1 of the container: the keeper."""
        return descendants(self.daemon.pid)[1]

    def lose_container(self, target, server, bench, clients):
        """Kills process 1 under load. Returns the numbers whose commit was answered."""
        for process in (bench, *(client.process for client in clients)):
            self.assertIsNone(process.poll(), "the load ended before the loss")
        os.kill(self.init(), signal.SIGKILL)
        self.daemon.wait()
        with self.assertRaises(OSError):
            os.listdir(target)
        for process in (bench, *(client.process for client in clients)):
            self.assertNotEqual(0, process.wait(ANSWER_SECONDS), "a client saw no error")
        server.crash()
        return set().union(*(client.answered() for client in clients))

    def start_container(self, target):
        """Starts it, and waits for the mount that the last one had."""
        self.daemon.start()
        case.wait_until(lambda: mounts.is_mounted(target) and self.daemon.is_ready(), ANSWER_SECONDS,
                        "the mount being made again")

    def test_every_answered_commit_is_there_after_the_loss(self):
        target = self.volume / "data"
        self.daemon.start()
        server = self.production.mount(self.daemon, target, self.work / "diff", {"fsync": "on"})
        server.start()
        answered = set()
        for loss in range(LOSSES):
            answered |= self.lose_container(target, server, *self.start_load(server, loss))
            self.start_container(target)
            self.assertEqual([target], [pathlib.Path(found) for found in mounts.below(self.volume)],
                             "the dead mount is still there")
            server.start()
            answered |= committers.check(self, server, answered, f"loss {loss}")
        self.report(f"{LOSSES} losses, {len(answered)} commits, all there")
        server.stop()
        self.daemon.unmount("data")
        self.daemon.check_diff(self.work / "diff")
        os.kill(self.init(), signal.SIGTERM)
        self.assertEqual(0, self.daemon.wait())
        self.assertEqual([], mounts.below(self.volume))


@unittest.skipIf(is_sanitized(), "the keeper alone is as large as the limit")
class OutOfMemory(ContainerCase):
    def test_the_kernel_kills_the_worker_and_nobody_notices(self):
        group = memory_group.MemoryGroup(self, MEMORY_BYTES)
        self.daemon.wrapper = group.entering()
        self.daemon.start()
        server = self.production.mount(self.daemon, self.work / "clone", self.work / "diff", {"fsync": "on"})
        server.start()
        bench, clients = self.start_load(server, 0)
        load = [bench, *(client.process for client in clients)]
        for _ in range(MEMORY_KILLS):
            worker = workers.wait_for_worker(self.daemon.pid)
            group.exhaust()
            workers.wait_for_worker(self.daemon.pid, other_than=worker)
            self.wait_for_commits(clients)
            self.assertEqual([None] * len(load), [process.poll() for process in load], "a client saw an error")
        for word in ("ERROR", "PANIC", "FATAL"):
            self.assertNotIn(f"{word}:", server.log_tail(100000))
        for process in load:
            process.kill()
            process.wait()
        answered = set().union(*(client.answered() for client in clients))
        committers.check(self, server, answered, "at the end")
        kills = self.daemon.metrics()["pbkfs_worker_restarts_total"]
        self.assertGreaterEqual(kills, MEMORY_KILLS, self.daemon.log_tail())
        self.report(f"{kills:.0f} workers were killed for want of memory, {len(answered)} commits, none failed")
        server.stop()
        self.daemon.unmount("clone")
        self.daemon.check_diff(self.work / "diff")
        self.assertEqual(0, self.daemon.stop())


if __name__ == "__main__":
    case.main()

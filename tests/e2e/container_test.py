"""The container of pbkfsd is lost: keeper and worker die at one moment, with the process namespace that they live in."""

import os
import pathlib
import signal
import subprocess

from pbkfs_e2e import case, committers, mounts
from pbkfs_e2e.daemon import descendants
from pbkfs_e2e.production import Production

ANSWER_SECONDS = 60
LOAD_SECONDS = 600
COMMITTERS = 2
LOSSES = 20 if case.FULL_TIER else 3

# As in a container: pbkfsd is process 1, and the evidence of an intact page cache in /run goes with it.
PREPARE = 'mount --make-private "$(findmnt -no TARGET -T /run)" && mount -t tmpfs tmpfs /run && exec "$@"'
CONTAINER = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation",
             "unchanged", "--mount-proc", "sh", "-c", PREPARE, "sh"]


class Container(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.production.fill(committers.TABLE)
        self.production.back_up()
        self.production.server.stop()
        # The node: what is mounted in the container is seen outside, where PostgreSQL is.
        self.volume = self.work / "volume"
        self.volume.mkdir()
        subprocess.run(["mount", "--bind", self.volume, self.volume], check=True)
        self.addCleanup(mounts.detach, self.volume)
        self.addCleanup(mounts.detach_below, self.volume)
        subprocess.run(["mount", "--make-shared", self.volume], check=True)
        self.daemon.stop()
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

    def start_load(self, server, loss):
        bench = server.start_tool("pgbench", "-n", "-c", "4", "-T", LOAD_SECONDS, "postgres",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(bench.kill)
        clients = [committers.Committer(self, server, COMMITTERS * loss + index) for index in range(COMMITTERS)]
        case.wait_until(lambda: all(len(client.answered()) > 20 for client in clients), ANSWER_SECONDS, "commits")
        return bench, clients

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


if __name__ == "__main__":
    case.main()

"""pbkfsd beside PostgreSQL, each in a mount namespace of its own, as the containers of a pod: what starts when, what is
seen where, and what stops first. The volume between them propagates as deploy/kubernetes/pod.yaml says."""

import os
import pathlib
import re
import shutil
import signal
import subprocess

from pbkfs_e2e import api, case, mounts, postgres, workers
from pbkfs_e2e.daemon import free_port
from pbkfs_e2e.production import INSTANCE, Production

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
ANSWER_SECONDS = 60


class Sidecar(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.production = Production(self)
        self.production.fill("CREATE TABLE t AS SELECT 1 AS i")
        self.production.back_up()
        self.production.server.stop()
        # The node: a volume that is shared with the containers.
        self.volume = self.work / "volume"
        self.volume.mkdir()
        subprocess.run(["mount", "--bind", self.volume, self.volume], check=True)
        self.addCleanup(self.clean_volume)
        subprocess.run(["mount", "--make-shared", self.volume], check=True)
        self.pgdata = self.volume / "data"
        self.config = self.work / "pbkfsd.conf"
        settings = postgres.settings_for_clone(postgres.make_socket_dir(self.work / "sockets"))
        self.config.write_text(
            f'mounts {{ mount_id: "main" store: "{self.production.store}" instance: "{INSTANCE}" '
            f'target: "{self.pgdata}" diff_dir: "{self.work}/d" default_config: true '
            f"owner {{ uid: {postgres.account().pw_uid} gid: {postgres.account().pw_gid} }} "
            + "".join(f'settings {{ key: "{name}" value: "{value}" }} ' for name, value in settings.items())
            + "}\n", encoding="utf-8")
        self.health_port = free_port()

    def clean_volume(self):
        for path in [*mounts.below(self.volume), self.volume]:
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)

    def start_sidecar(self, *arguments):
        self.daemon.wrapper = ["unshare", "--mount", "--propagation", "unchanged"]
        self.daemon.start("--config", self.config, "--health", f"127.0.0.1:{self.health_port}", *arguments)

    def probe(self, service):
        """As the kubelet does it: TCP, no certificate."""
        with api.Api(f"127.0.0.1:{self.health_port}") as daemon:
            return daemon.health_of(service)

    def start_postgres(self):
        case.wait_until(lambda: self.probe("mount/main") == "SERVING", ANSWER_SECONDS, "the startup probe")
        server = postgres.Server(self.pgdata, self.work / "sockets", self.production.major)
        server.namespace = ["unshare", "--mount", "--propagation", "slave"]
        self.addCleanup(server.ensure_stopped)
        server.start()
        return server

    def test_a_pod(self):
        self.daemon.stop()
        self.start_sidecar("--stop-timeout", "600")
        server = self.start_postgres()
        self.assertTrue(mounts.is_mounted(self.pgdata), "the mount has not propagated")
        load = server.start_tool("pgbench", "-n", "-c", "2", "-T", "5", "postgres", stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        workers.kill_worker(self.daemon.pid)
        output, _ = load.communicate(timeout=300)
        self.assertEqual(0, load.returncode, output)
        self.assertRegex(output, r"number of failed transactions: 0 ")

        # The pod ends: the sidecar waits for PostgreSQL.
        os.kill(self.daemon.pid, signal.SIGTERM)
        case.wait_until(lambda: "waiting to stop" in self.daemon.log_tail(), ANSWER_SECONDS, "the sidecar waiting")
        self.assertIn("postgres", self.daemon.log_tail())
        self.assertEqual("1", server.sql("SELECT i FROM t"))
        self.assertIsNone(self.daemon.exit_code())
        # As the kubelet does it. pg_ctl would look for files in a directory that may be gone by then.
        server.signal_to_stop()
        self.assertEqual(0, self.daemon.wait())
        self.assertEqual([], mounts.below(self.volume), "something is still mounted on the node")

    def test_the_sidecar_is_killed_and_started_again(self):
        self.daemon.stop()
        self.start_sidecar("--stop-timeout", "2")
        server = self.start_postgres()
        server.sql("CREATE TABLE kept AS SELECT 2 AS i")
        self.daemon.process.kill()
        self.daemon.wait()
        server.crash()
        self.start_sidecar("--stop-timeout", "2")
        server = self.start_postgres()
        self.assertEqual("2", server.sql("SELECT i FROM kept"))
        # A PostgreSQL that does not end is left to its errors when the time is over.
        os.kill(self.daemon.pid, signal.SIGTERM)
        self.assertEqual(0, self.daemon.wait())
        server.ensure_stopped()

    def test_manifests(self):
        self.daemon.stop()
        self.need(shutil.which("kubectl"), "kubectl is not installed")
        done = subprocess.run(["kubectl", "kustomize", MANIFESTS], capture_output=True, text=True, timeout=60)
        self.assertEqual(0, done.returncode, done.stderr)
        grace = int(re.search(r"terminationGracePeriodSeconds: (\d+)", done.stdout)[1])
        self.assertIn(f"{grace - 5}s", done.stdout)
        # The daemon takes the configuration that the manifests carry: only the pod's volumes are missing here.
        text = (MANIFESTS / "configuration.yaml").read_text(encoding="utf-8").split("pbkfsd.conf: |\n")[1]
        text = text.replace("/run/pbkfs/pbkfsd.sock", f"{self.work}/manifest.sock")
        config = self.work / "manifest.conf"
        config.write_text(re.sub(r"^    ", "", text, flags=re.MULTILINE), encoding="utf-8")
        self.daemon.start("--config", config)
        case.wait_until(lambda: "configured_mount_failed mount=main" in self.daemon.log_tail(), ANSWER_SECONDS,
                        "the mount being tried")
        self.assertIn("the directory that should hold /pgdata/data does not exist", self.daemon.log_tail())


if __name__ == "__main__":
    case.main()

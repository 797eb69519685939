"""The systemd unit: systemd takes it, the daemon works with what it allows, and READY comes when the mounts are there."""

import os
import pathlib
import re
import shutil
import socket
import subprocess

from pbkfs_e2e import case, workers
from pbkfs_e2e.synthetic import SyntheticCatalog

UNIT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "pbkfsd.service"
ANSWER_SECONDS = 60
# These give a unit a mount namespace of its own, which would hide its mounts.
HIDING = ("PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelTunables",
          "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ReadOnlyPaths", "ReadWritePaths",
          "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths", "RootDirectory", "TemporaryFileSystem", "DynamicUser",
          "ProtectProc", "MountFlags")


def values_of(key):
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


class Notified:
    """What a service manager hears. Use as a context manager."""

    def __init__(self, path):
        self.path = path
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def lines(self):
        """Everything so far."""
        try:
            while True:
                self.heard += self._socket.recv(65536).decode().splitlines()
        except BlockingIOError:
            return self.heard

    def wait_for(self, line):
        case.wait_until(lambda: any(heard.startswith(line) for heard in self.lines()), ANSWER_SECONDS, line)


class ServiceUnit(case.E2ECase):
    def test_systemd_takes_it(self):
        self.need(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
        unit = self.work / UNIT.name
        unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/bin/pbkfsd", str(self.daemon.program)),
                        encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual((0, ""), (done.returncode, done.stderr + done.stdout))
        for key in HIDING:
            self.assertEqual([], values_of(key), f"{key} would hide the mounts")

    def test_ready_comes_when_the_mounts_are_there(self):
        catalog = SyntheticCatalog(self)
        later = self.work / "later"
        config = self.work / "pbkfsd.conf"
        mounts = "".join(
            f'mounts {{ mount_id: "{name}" store: "{store}" instance: "node" target: "{self.work / name}" }}\n'
            for name, store in (("a", catalog.store), ("b", later)))
        config.write_text(mounts, encoding="utf-8")
        self.daemon.stop()
        capabilities = ",".join("+" + name.lower().removeprefix("cap_")
                                for name in values_of("CapabilityBoundingSet")[0].split())
        with Notified(self.work / "notify") as notified:
            self.daemon.environment = {"NOTIFY_SOCKET": str(notified.path)}
            self.daemon.wrapper = ["setpriv", "--bounding-set", f"-all,{capabilities}"]
            self.daemon.start("--config", config)
            notified.wait_for("STATUS=mounts of the configuration that can't be made: b: ")
            self.assertNotIn("READY=1", notified.lines())
            self.assertEqual("a", self.daemon.call("list")["mounts"][0]["mountId"])

            shutil.copytree(catalog.store, later)
            self.assertEqual(0, self.daemon.cli("daemon", "reload").returncode)
            notified.wait_for("READY=1")

            workers.kill_worker(self.daemon.pid)
            case.wait_until(lambda: self.daemon.cli("list").returncode == 0, ANSWER_SECONDS, "the next worker")
            self.assertTrue((self.work / "b" / "PG_VERSION").exists())
            self.assertEqual(0, self.daemon.stop())
            notified.wait_for("STOPPING=1")

    def test_install(self):
        """`cmake --install` puts everything in its place."""
        root = self.work / "root"
        subprocess.run(["cmake", "--install", case.build_dir(), "--prefix", "/usr"], check=True, capture_output=True,
                       timeout=120, env={**os.environ, "DESTDIR": str(root)})
        for path in ("usr/bin/pbkfsd", "usr/bin/pbkfs", "usr/lib/systemd/system/pbkfsd.service",
                     "usr/share/doc/pbkfs/README.md"):
            self.assertTrue((root / path).is_file(), path)


if __name__ == "__main__":
    case.main()

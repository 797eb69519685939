"""The container image: the last stage of deploy/Dockerfile, made by its own lines, runs as a container would."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import unittest

from pbkfs_e2e import case, processes, release
from pbkfs_e2e.variants import VariantCatalog

DOCKERFILE = release.REPOSITORY / "deploy" / "Dockerfile"
ANSWER_SECONDS = 60
KNOWN = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}


def stages():
    """A list of stages, each a list of (instruction, arguments)."""
    found = [[]]
    for line in DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, arguments = line.split(" ", 1)
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, arguments))
    return found[1:]


class Dockerfile(unittest.TestCase):
    def test_its_instructions_are_those_that_the_other_test_executes(self):
        build, final = stages()
        self.assertEqual(set(), {instruction for instruction, _ in build + final} - KNOWN)
        self.assertEqual(["${BASE} AS build", "${BASE}"], [build[0][1], final[0][1]])
        for instruction, arguments in build:
            if instruction == "RUN":
                self.assertTrue(os.access(release.REPOSITORY / arguments.split()[0], os.X_OK), arguments)


@unittest.skipUnless(case.FULL_TIER, "the full tier makes the image's root file system")
class Image(case.E2ECase):
    def start_daemon(self):
        """None: the image brings its own."""

    def setUp(self):
        super().setUp()
        dist, self.root = release.of_this_run(self)
        self.catalog = VariantCatalog(self, "v2.5.16-zlib")
        self.command = self.make_image(dist)
        shutil.copytree(self.catalog.store, self.root / "srv" / "catalog")

    def make_image(self, dist):
        """Executes the last stage on a minimal Debian, the base; returns what the container is started with."""
        entry = {}
        for instruction, arguments in stages()[-1]:
            if instruction == "COPY":
                source, target = re.fullmatch(r"--from=build /dist/(\S+) /(\S+)", arguments).groups()
                for path in dist.glob(source):
                    shutil.copy(path, self.root / target)
            elif instruction == "RUN":
                done = release.in_root(self.root, arguments, network=True)
                self.assertEqual(0, done.returncode, done.stdout + done.stderr)
            elif instruction in ("ENTRYPOINT", "CMD"):
                entry[instruction] = json.loads(arguments)
        return entry["ENTRYPOINT"] + entry["CMD"]

    def test_pid_1_mounts_serves_reaps_and_ends(self):
        backup = self.catalog.ids[-1]
        done = release.in_root(self.root, "dpkg-query --show --showformat='${Package}\\n'")
        self.assertEqual([], [name for name in done.stdout.split() if name.endswith("-dev")])
        (self.root / "etc" / "pbkfs" / "pbkfsd.conf").write_text(
            'allow_root: "/srv"\nmounts { mount_id: "main" store: "/srv/catalog" instance: "node" '
            f'backup_id: "{backup}" target: "/srv/clone" }}\n', encoding="utf-8")
        container = self.start_container()
        init = case.wait_until(lambda: processes.children(container.pid), ANSWER_SECONDS, "PID 1")[0]
        case.wait_until(lambda: b"pbkfsd" in pathlib.Path(f"/proc/{init}/cmdline").read_bytes().split(b"\0")[0],
                        ANSWER_SECONDS, "pbkfsd as PID 1")
        self.inside = ["nsenter", "--target", str(init), "--mount", "--pid", "--net", "--root", "--wd=/"]
        case.wait_until(lambda: self.run_inside("pbkfs list").stdout.count(" active ") == 1, ANSWER_SECONDS, "the mount")
        self.assertEqual("1", self.run_inside("readlink /proc/1/exe | grep -c '^/usr/bin/pbkfsd$'").stdout.strip())
        for path, content in self.catalog.content(backup).items():
            if path.startswith("base/"):
                shown = subprocess.run([*self.inside, "cat", f"/srv/clone/{path}"], capture_output=True, check=True,
                                       timeout=60).stdout
                self.assertEqual(content, shown, path)

        # An orphan becomes a child of PID 1, which must take its exit status.
        orphan = self.run_inside("sleep 0.2 >/dev/null 2>&1 & echo $!").stdout.strip()
        case.wait_until(lambda: self.run_inside(f"test -e /proc/{orphan}").returncode == 1, ANSWER_SECONDS,
                        "the orphan being reaped")
        os.kill(init, signal.SIGTERM)
        self.assertEqual(0, container.wait(ANSWER_SECONDS), (self.work / "log").read_text())
        self.assertFalse((self.root / "srv" / "clone").exists())

    def start_container(self):
        prepare = (f"mount -t proc proc {self.root}/proc && mount -t tmpfs tmpfs {self.root}/run && "
                   f"exec chroot {self.root} {shlex.join(self.command)}")
        with open(self.work / "log", "wb") as log:
            container = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net",
                                          "--fork", "--kill-child", "sh", "-c", prepare], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log)
        self.addCleanup(container.wait)
        self.addCleanup(container.kill)
        return container

    def run_inside(self, script):
        return subprocess.run([*self.inside, "sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)


if __name__ == "__main__":
    case.main()

"""The release: its scripts and workflow are sound; in the full tier it is made, installed, used and removed."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from pbkfs_e2e import case, release
from pbkfs_e2e.variants import VariantCatalog

DEPLOY = release.REPOSITORY / "deploy"
WORKFLOW = release.REPOSITORY / ".github" / "workflows" / "release.yml"

# Mounts the catalog in /srv, compares every byte that is known, and stops. $1 and $2: pbkfsd, and the id of a backup.
USE_IT = r"""
use_it() {
  "$1" --allow-root /srv 2>/tmp/log & daemon=$!
  until pbkfs list >/dev/null 2>&1; do kill -0 "$daemon" || { cat /tmp/log; return 1; }; sleep 0.1; done
  pbkfs mount --store /srv/catalog --instance node --backup "$2" --target /srv/clone --id clone >/dev/null
  compared=0
  cd /srv/expected/"$2"
  for file in $(find base -type f); do cmp "$file" /srv/clone/"$file"; compared=$((compared + 1)); done
  cd /
  echo "compared $compared"
  echo written >/srv/clone/written
}
end_it() {
  pbkfs unmount clone >/dev/null
  test ! -e /srv/clone
  kill "$daemon"
  wait "$daemon"
}
"""


class Texts(unittest.TestCase):
    """What can be looked at without building anything."""

    def check_syntax(self, shell, *arguments):
        done = subprocess.run([shell, "-n", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual((0, ""), (done.returncode, done.stderr), arguments)

    def test_scripts(self):
        self.check_syntax("bash", DEPLOY / "release.sh")
        for script in sorted((DEPLOY / "debian").iterdir()):
            self.check_syntax("sh", script)
            self.assertTrue(os.access(script, os.X_OK), script)

    def test_a_tag_of_another_version_is_refused(self):
        with tempfile.TemporaryDirectory() as work:
            subprocess.run(["git", "clone", "-q", "--shared", release.REPOSITORY, work], check=True, timeout=60)
            subprocess.run(["git", "-C", work, "tag", "v99.1"], check=True, timeout=60)
            done = subprocess.run([f"{work}/deploy/release.sh"], capture_output=True, text=True, timeout=60)
        self.assertEqual(1, done.returncode)
        self.assertIn("the commit has the tag v99.1, and CMakeLists.txt the version ", done.stderr)

    def test_workflow(self):
        text = WORKFLOW.read_text(encoding="utf-8")
        commands = re.findall(r"^\s*- run: (.+)$", text, re.MULTILINE)
        self.assertNotIn("run: |", text, "this test reads one line a step")
        for command in commands:
            self.check_syntax("bash", "-c", command)
        called = [command.split()[0] for command in commands if "/" in command.split()[0]]
        self.assertEqual(["deploy/install-deps.sh", ".ci/run", "deploy/release.sh"], called)
        for program in called:
            self.assertTrue(os.access(release.REPOSITORY / program, os.X_OK), program)


@unittest.skipUnless(case.FULL_TIER, "the full tier makes and installs a release")
class Release(case.E2ECase):
    def start_daemon(self):
        """None: the release brings its own."""

    def setUp(self):
        super().setUp()
        self.dist, self.debian = release.of_this_run(self)
        self.catalog = VariantCatalog(self, "v2.5.16-zlib")
        self.backup = self.catalog.ids[-1]

    def fresh_debian(self):
        root = self.work / "debian"
        subprocess.run(["cp", "-a", self.debian, root], check=True, timeout=600)
        shutil.copytree(self.catalog.store, root / "srv" / "catalog")
        shutil.copytree(self.catalog.expected, root / "srv" / "expected")
        shutil.copytree(self.dist, root / "dist")
        return root

    def run_in(self, root, script):
        done = release.in_root(root, USE_IT + script)
        self.assertEqual(0, done.returncode, done.stdout[-3000:] + done.stderr[-3000:])
        self.assertRegex(done.stdout, r"compared [1-9]")
        return done.stdout + done.stderr

    def test_everything_is_there_and_only_libc_is_missing(self):
        names = sorted(path.name for path in self.dist.iterdir())
        self.assertRegex(" ".join(names), r"^SHA256SUMS pbkfs-[\d.]+-linux-\w+\.tar\.gz pbkfs_[\d.]+_\w+\.deb$")
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=self.dist, check=True, capture_output=True, timeout=60)
        again = self.work / "again"
        release.make(again)
        self.assertEqual((self.dist / "SHA256SUMS").read_text(), (again / "SHA256SUMS").read_text())

        subprocess.run(["tar", "-xzf", next(self.dist.glob("*.tar.gz")), "-C", self.work, "--strip-components=1"],
                       check=True, timeout=60)
        bundled = {path.name for path in (self.work / "lib" / "pbkfs").iterdir()}
        for program in (self.work / "bin").iterdir():
            dynamic = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
            needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
            self.assertLessEqual({name for name in needed - bundled}, {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"})

    def test_the_package_installs_serves_and_purges(self):
        root = self.fresh_debian()
        before = self.files_of(root)
        output = self.run_in(root, f"""
          dpkg -i /dist/*.deb
          use_it pbkfsd {self.backup}
          if dpkg --purge pbkfs; then echo "removed under a mount"; exit 1; fi
          test "$(cat /srv/clone/written)" = written
          end_it
          test -d /var/lib/pbkfs/diffs/clone
          dpkg --purge pbkfs
        """)
        self.assertIn("these are mounted: /srv/clone", output)
        self.assertEqual(set(), self.files_of(root) - before)

    def test_the_tarball_runs_in_usr_local(self):
        root = self.fresh_debian()
        self.run_in(root, f"""
          tar -xzf /dist/*.tar.gz -C /usr/local --strip-components=1
          if dpkg-query --show --showformat='${{db:Status-Status}} ${{Package}}\n' | grep -e '^installed .*-dev$'; then exit 1; fi
          grep -q '^ExecStart=/usr/local/bin/pbkfsd --config /usr/local/etc/pbkfs/pbkfsd.conf$' \\
            /usr/local/lib/systemd/system/pbkfsd.service
          test -e /usr/local/etc/pbkfs/pbkfsd.conf
          use_it /usr/local/bin/pbkfsd {self.backup}
          end_it
        """)

    @staticmethod
    def files_of(root):
        """Paths, without what the test and dpkg's own books change."""
        top = pathlib.Path(root)
        skipped = ("srv", "dist", "proc", "run", "tmp", "var/lib/dpkg", "var/log", "var/cache")
        return {path for path in map(lambda found: str(found.relative_to(top)), top.rglob("*"))
                if not path.startswith(skipped)}


if __name__ == "__main__":
    case.main()

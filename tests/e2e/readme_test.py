"""The shell examples of README.md and deploy/OPERATIONS.md are right: they run as they are printed and in their order, in a copy
of this machine's root where /backup/pg is a real catalog. What can't be run is named below, and nothing else is left out."""

import pathlib
import re
import shutil
import subprocess

from pbkfs_e2e import case, postgres, processes
from pbkfs_e2e.certificates import Authority
from pbkfs_e2e.daemon import build_dir

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 250
# Other tests run them, or they install and start things on the machine.
NOT_HERE = {
    "deploy/quickstart.sh": "installs packages; the same steps follow in the text",
    "tests/run.sh": "this test is a part of it",
    "sha256sum -c SHA256SUMS": "release_test",
    "apt-get install ./pbkfs_0.1.0_amd64.deb": "release_test",
    "tar -xzf pbkfs-0.1.0-linux-x86_64.tar.gz -C /usr/local --strip-components=1": "release_test",
    "deploy/install-deps.sh": "installs packages; CI runs it",
    "cmake -S . -B build -G Ninja && cmake --build build": "this test runs what it made",
    "deploy/release.sh": "release_test",
    "systemctl status pbkfsd": "no systemd",
    "systemctl start pbkfsd": "no systemd",
}
# Until somebody interrupts them; a reader that has seen enough does.
ENDLESS = {"pbkfs stats rescue --watch": " | head -3"}
# The line that the mount's answer ends with, which the text shortens.
START = "/usr/lib/postgresql/15/bin/pg_ctl -D /mnt/rescue …"
# Beside what begins the daemon, so that it can be ended.
PID = "echo $! > /run/pid"


def blocks(path):
    """[(heading, code)] of the indented blocks."""
    found, heading = [], ""
    for part in re.split(r"^(##? .*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.lstrip("# ")
            continue
        for block in re.findall(r"(?:^    .*\n)+", part, flags=re.MULTILINE):
            found.append((heading, re.sub(r"^    ", "", block, flags=re.MULTILINE)))
    return found


def is_configuration(code):
    return re.match(r"\w+(:| \{)", code) is not None


def commands(code):
    """The commands of a block, without comments; a command may have several lines."""
    found = []
    for line in re.sub(r"\s+# .*$", "", code, flags=re.MULTILINE).split("\n"):
        if found and found[-1].endswith("\\"):
            found[-1] += "\n" + line
        elif line:
            found.append(line)
    return found


class Machine:
    """A copy of this machine's root in memory, in namespaces of its own. Everything in it ends with it."""

    def __init__(self, test, work, catalog):
        self._root = work / "root"
        self._root.mkdir()
        prepare = f"""
            mount -t tmpfs tmpfs {self._root}
            cd {self._root} && mkdir upper work root
            mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work root
            cd root
            mount --rbind /dev dev && mount --rbind /sys sys && mount -t proc proc proc
            mount -t tmpfs tmpfs run && mkdir -m 1777 run/postgresql
            mkdir -p backup/pg var/lib/pbkfs srv/clones .{ROOT}/build && mount -t tmpfs tmpfs var/lib/pbkfs
            mount --bind {catalog} backup/pg && mount --bind {build_dir()} .{ROOT}/build && mount --bind {work} .{work}
            ip link set lo up
            echo 127.0.0.1 db1 >> etc/hosts
            echo there
            exec chroot . bash -c 'sleep infinity; true'"""
        # The shell, its process 1, reaps orphans.
        self._init = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork",
                                       "--kill-child", "sh", "-euc", prepare], stdout=subprocess.PIPE, text=True)
        for cleanup in (self._init.stdout.close, self._init.wait, self._init.kill):
            test.addCleanup(cleanup)
        test.assertEqual("there\n", self._init.stdout.readline())
        self._pid = processes.children(self._init.pid)[0]

    def run(self, script):
        """(exit code, what was printed) of a script that is typed into a shell, as a terminal would have it."""
        # A file, because a daemon that goes on keeps it open.
        with open(self._root.parent / "output", "w+", encoding="utf-8") as output:
            done = subprocess.run(["nsenter", "--target", str(self._pid), "--mount", "--net", "--pid", "--root", "--wd",
                                   "bash", "-e"], input=f"cd {ROOT}\n{script}", stdout=output, stderr=output,
                                  text=True, timeout=SECONDS,
                                  env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"})
            output.seek(0)
            return done.returncode, output.read()


class Examples(case.E2ECase):
    def start_daemon(self):
        """The text starts its own."""

    def setUp(self):
        super().setUp()
        self.need(postgres.account(), "user postgres does not exist; install postgresql")
        self.need(shutil.which("curl"), "curl is not installed")
        self.left_out = set()
        self.commands = 0
        self.start_line = START
        self.mount = []
        # A copy: locks that were taken in it end with the machine, without being given back.
        store = self.work / "catalog"
        shutil.copytree(self.catalog(), store, symlinks=True)
        self.machine = Machine(self, self.work, store)

    def catalog(self):
        """The directory of one whose newest backup starts by itself."""
        for catalog in self.catalogs():
            newest = catalog.backups[-1]
            if (newest.instance, newest.server_version, newest.stream) == ("main", "15", True):
                return catalog.store
        return self.need(False, "no catalog has an instance main whose newest backup is a STREAM one of PostgreSQL 15")

    def type_in(self, lines):
        """Runs those that can be; returns what they print."""
        typed = [line.replace(START, self.start_line) + ENDLESS.get(line, "") for line in lines if line not in NOT_HERE]
        self.left_out.update(line for line in lines if line in NOT_HERE)
        if not typed:
            return ""
        code, printed = self.machine.run("\n".join(typed) + "\n")
        self.assertEqual(0, code, "\n".join([*typed, "--- printed ---", printed]))
        self.commands += len(typed)
        found = re.search(r"^ *(/usr/lib/postgresql/15/bin/pg_ctl .*)$", printed, flags=re.MULTILINE)
        self.start_line = found[1] if found else self.start_line
        return printed

    def wait_for_daemon(self):
        self.type_in(["for i in $(seq 300); do curl -sf 127.0.0.1:9467/readyz && break; sleep 0.1; done",
                      "curl -sSf 127.0.0.1:9467/readyz"])

    def make_certificates(self):
        """Where the configuration of the text and its client look for them."""
        authority = Authority(self.work, "clients")
        authority.issue("tls", alternative="DNS:db1")
        authority.issue("me", common_name="ci.example.com", alternative="DNS:ci.example.com")
        self.type_in(["mkdir -p /etc/pbkfs", f"cp {self.work}/tls.pem /etc/pbkfs/tls.crt",
                      f"cp {self.work}/tls.key /etc/pbkfs/tls.key", f"cp {authority.ca} /etc/pbkfs/clients.crt",
                      f"cp {authority.ca} ca.crt", f"cp {self.work}/me.pem me.crt", f"cp {self.work}/me.key me.key"])

    def test_the_text_as_it_is_printed(self):
        readme = blocks(ROOT / "README.md")
        configuration = "".join(code for _, code in readme if is_configuration(code))
        for heading, code in readme:
            if heading == "Watching it":
                self.type_in(self.mount)
            if is_configuration(code):
                continue
            lines = commands(code)
            if "--tls-ca" in code:
                self.restart_with(configuration)
            self.mount = [line for line in lines if line.startswith("pbkfs mount")] or self.mount
            begins = lines[-1].endswith("&")
            self.type_in(lines + [PID] * begins)
            if begins:
                self.wait_for_daemon()
        for _, code in blocks(ROOT / "deploy" / "OPERATIONS.md"):
            self.type_in(commands(code))
        self.assertEqual(set(NOT_HERE), self.left_out, "NOT_HERE names what is not in the text")
        self.report(f"{self.commands} commands")

    def restart_with(self, configuration):
        self.make_certificates()
        (self.work / "conf").write_text(configuration)
        self.type_in(["pbkfs unmount rescue", "kill $(cat /run/pid)", "while kill -0 $(cat /run/pid); do sleep 0.1; done",
                      f"cp {self.work}/conf /etc/pbkfs/pbkfsd.conf",
                      "pbkfsd --state-dir /var/lib/pbkfs --allow-root /mnt --config /etc/pbkfs/pbkfsd.conf &", PID])
        self.wait_for_daemon()
        self.assertIn("nightly", self.type_in(["pbkfs list"]))
        self.type_in(self.mount)


if __name__ == "__main__":
    case.main()

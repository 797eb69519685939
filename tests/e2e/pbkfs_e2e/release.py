"""A release as its users get it: made once for a test, and installed in a fresh Debian without anything to build with."""

import atexit
import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from pbkfs_e2e.daemon import build_dir

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
SECONDS = 1800


@functools.cache
def _directory_of_this_run():
    path = pathlib.Path(tempfile.mkdtemp(prefix="pe2e-", dir=os.environ.get("PBKFS_E2E_TMP", "/tmp")))
    atexit.register(shutil.rmtree, path)
    path.chmod(0o755)
    return path


def of_this_run(test):
    """The release, and the root of a minimal Debian to copy: made by the first test that asks."""
    test.need(shutil.which("debootstrap"), "debootstrap is not installed")
    top = _directory_of_this_run()
    dist, debian = top / "dist", top / "debian"
    if not dist.exists():
        make(dist)
        debootstrap(debian, "fuse3")
    return dist, debian


def make(output):
    """deploy/release.sh, with a build directory beside that of the tests."""
    beside = build_dir().with_name(build_dir().name + "-release")
    done = subprocess.run([REPOSITORY / "deploy" / "release.sh", "--build-dir", beside, "--output", output],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise AssertionError(f"release.sh ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def mirror():
    """The archive that this machine's apt uses."""
    sources = [pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.is_file())
    found = re.search(r"^(?:deb|URIs:).*?(https?://\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    return found[1] if found else "http://deb.debian.org/debian"


def debootstrap(root, packages):
    """A minimal Debian 12 with /dev/fuse."""
    done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root, mirror()],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise AssertionError(f"debootstrap ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    device = pathlib.Path(root) / "dev" / "fuse"
    if not device.exists():
        info = os.stat("/dev/fuse")
        os.mknod(device, info.st_mode, info.st_rdev)
    shutil.copy("/etc/resolv.conf", pathlib.Path(root) / "etc" / "resolv.conf")


def in_root(root, script, *, network=False):
    """Runs a script in its own mount and pid namespaces with `root` as /; whatever it leaves behind ends with it."""
    prepare = f'mount -t proc proc "{root}/proc" && mount -t tmpfs tmpfs "{root}/run" && exec chroot "{root}" "$@"'
    namespaces = ["--mount", "--pid", "--fork", "--kill-child"] + ([] if network else ["--net"])
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    environment.update({name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")})
    return subprocess.run(["unshare", *namespaces, "sh", "-c", prepare, "sh", "sh", "-euc", script],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, env=environment)

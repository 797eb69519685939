"""File systems in image files: small ones that fill up, and ones whose power can be cut.

Each is unmounted at the end of its test, however that ends. `mount -o loop` frees the loop device with the mount, also
with one that is detached while it is busy, so that no device is left behind.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess

from pbkfs_e2e import mounts

FICLONE = 0x40049409

MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
}


def require_tools(test):
    for kind, command in MKFS.items():
        test.need(shutil.which(command[0]), f"{command[0]} is not installed")
        test.need(_kernel_knows(kind), f"this kernel has no {kind}")
    test.need(os.path.exists("/dev/loop-control"), "/dev/loop-control is missing; load the loop module")


def _kernel_knows(kind):
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", kind], check=False, stderr=subprocess.DEVNULL)
    return any(line.split()[-1] == kind for line in pathlib.Path("/proc/filesystems").read_text().splitlines())


def _run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}")


class LoopImage:
    """A sparse image file with a file system, and the directory where it is mounted."""

    def __init__(self, kind, image, target):
        self.kind = kind
        self.image = pathlib.Path(image)
        self.target = pathlib.Path(target)

    @classmethod
    def make(cls, kind, image, target, size):
        made = cls(kind, image, target)
        with open(made.image, "xb") as file:
            file.truncate(size)
        _run(*MKFS[kind], made.image)
        return made

    def mount(self, test):
        self.target.mkdir(exist_ok=True)
        test.addCleanup(mounts.detach, self.target)
        # A clone has the same UUID as its origin, which may be mounted.
        options = "loop,nouuid" if self.kind == "xfs" else "loop"
        _run("mount", "-t", self.kind, "-o", options, self.image, self.target)
        self.target.chmod(0o755)
        return self

    def unmount(self):
        _run("umount", self.target)

    def clone(self, image):
        """The image as it is at one moment, in a new file that shares its blocks."""
        with open(self.image, "rb") as source, open(image, "xb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())


def mount_tmpfs(test, target, size):
    target = pathlib.Path(target)
    target.mkdir(exist_ok=True)
    test.addCleanup(mounts.detach, target)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", target)

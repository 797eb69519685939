"""What is mounted where, as the kernel tells it. Never touches a mount, so that a dead one can't hang the test."""

import ctypes
import os

MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _unescape(field):
    # mountinfo writes space, tab, newline and backslash as three octal digits.
    return field.encode().decode("unicode_escape")


def all_targets():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [_unescape(line.split(" ")[4]) for line in lines]


def below(directory):
    prefix = os.path.realpath(directory) + "/"
    return [target for target in all_targets() if target.startswith(prefix)]


def is_mounted(target):
    parent, name = os.path.split(os.path.abspath(target))
    return os.path.join(os.path.realpath(parent), name) in all_targets()


def detach(target):
    """umount -l of what is mounted there, if anything is."""
    if is_mounted(target) and _libc.umount2(os.fsencode(target), MNT_DETACH) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def detach_below(directory):
    """umount -l of everything below `directory`, the last mounted first."""
    for target in reversed(below(directory)):
        detach(target)

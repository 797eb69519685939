"""What /proc tells of other processes. OSError where there is no such process or thread."""

import pathlib


def stat(pid, thread=None):
    """The fields of its `stat`, or of that of a thread, that follow the name: the state is the first."""
    place = f"/proc/{pid}" if thread is None else f"/proc/{pid}/task/{thread}"
    return pathlib.Path(f"{place}/stat").read_text().rpartition(")")[2].split()


def state(pid):
    """The letter that ps shows."""
    return stat(pid)[0]


def children(pid, thread=None):
    """The process ids of those that its first thread, or the one that is named, has started."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{thread or pid}/children").read_text().split()]

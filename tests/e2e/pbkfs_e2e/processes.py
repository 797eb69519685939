"""What /proc tells of other processes."""

import pathlib


def state(pid):
    """The letter that ps shows. OSError where there is no such process."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children(pid):
    """Their process ids. OSError where there is no such process."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

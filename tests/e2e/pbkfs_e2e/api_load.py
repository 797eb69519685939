"""A client of the API that makes random calls, as a process that may be killed at any moment.

    python3 -m pbkfs_e2e.api_load ADDRESS STORE WORK SEED JOURNAL

One line of the journal for each call: what was asked, and what came back. Calls are drawn until the process is killed or
its standard input ends.
"""

import contextlib
import pathlib
import random
import select
import sys

from pbkfs_e2e import api

INSTANCE = "node"
MOUNTS = 6
DIFFS = 4
# What a caller must be ready for at any time: another caller is at it, and the worker dies.
ALWAYS = {"OK", "UNAVAILABLE", "ABORTED"}
# What else is a fair answer, as things are when the call arrives. Anything beyond is a mistake of the daemon.
FAIR = {
    "mount": {"ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT"},
    "unmount": {"FAILED_PRECONDITION"},
    "get": {"NOT_FOUND"},
    "stats": {"NOT_FOUND"},
    "watch": {"NOT_FOUND"},
    "check_diff": {"NOT_FOUND", "FAILED_PRECONDITION"},
    "delete_diff": {"NOT_FOUND", "FAILED_PRECONDITION"},
    "get_backup": {"NOT_FOUND"},
    "health": {"NOT_FOUND"},
}


class Caller:
    """Draws calls from `randomness`."""

    def __init__(self, daemon, store, work, randomness):
        self._api = daemon
        self._store = str(store)
        self._work = pathlib.Path(work)
        self._random = randomness
        self._held = []  # Files that are open in mounts, so that these are in use.

    def call(self):
        """One call: (its name, the code that it gave, what it was about)."""
        name = self._random.choices(
            ("mount", "unmount", "get", "list", "stats", "watch", "plan", "reload", "list_diffs", "check_diff",
             "delete_diff", "list_backups", "get_backup", "status", "dump", "log_level", "health"),
            (20, 18, 6, 6, 6, 5, 6, 3, 4, 6, 4, 3, 3, 3, 1, 2, 4))[0]
        if self._held and self._random.random() < 0.5:
            self._held.pop().close()
        about = f"m{self._random.randrange(MOUNTS)}"
        try:
            getattr(self, name)(about)
        except api.grpc.RpcError as error:
            return name, error.code().name, f"{about}: {error.details()}"
        if name == "mount" and self._random.random() < 0.4:
            self._use(about)
        return name, "OK", about

    def _use(self, mount_id):
        # Somebody may have unmounted it meanwhile, by force. Nothing is made, which could be made below the mount point.
        with contextlib.suppress(OSError):
            file = open(self._work / mount_id / "PG_VERSION", "r+b", buffering=0)
            self._held.append(file)
            content = file.read()
            file.seek(0)
            file.write(content)

    def _request(self, mount_id):
        draw = self._random
        number = int(mount_id[1:])
        # The target nearly always belongs to the id, and the rest follows from it, so that calls often are retries.
        target = number if draw.random() < 0.9 else draw.randrange(MOUNTS)
        request = api.MESSAGES.MountRequest(mount_id=mount_id, store=self._store, instance=INSTANCE,
                                            target=str(self._work / f"m{target}"), ephemeral=number == 2,
                                            read_only=number == 3, restore=number == 4, backup_id="latest")
        if number >= MOUNTS - 2 or draw.random() < 0.1:
            request.diff_dir = str(self._work / f"diff{draw.randrange(DIFFS) if draw.random() < 0.2 else number % DIFFS}")
        return request

    def mount(self, mount_id):
        self._api.mount.Mount(self._request(mount_id), timeout=api.CALL_SECONDS)

    def plan(self, mount_id):
        request = self._request(mount_id)
        request.validate_only = True
        self._api.mount.Mount(request, timeout=api.CALL_SECONDS)

    def unmount(self, mount_id):
        draw = self._random
        request = api.MESSAGES.UnmountRequest(force=draw.random() < 0.4, delete_diff=draw.random() < 0.5)
        if draw.random() < 0.3:
            request.wait.seconds = 1
        if draw.random() < 0.8:
            request.mount_id = mount_id
        else:
            request.target = str(self._work / mount_id)
        self._api.mount.Unmount(request, timeout=api.CALL_SECONDS)

    def get(self, mount_id):
        self._api.mount.GetMount(api.MESSAGES.GetMountRequest(mount_id=mount_id), timeout=api.CALL_SECONDS)

    def list(self, _):
        self._api.mount.ListMounts(api.MESSAGES.ListMountsRequest(), timeout=api.CALL_SECONDS)

    def stats(self, mount_id):
        wanted = mount_id if self._random.random() < 0.5 else ""
        self._api.mount.Stats(api.MESSAGES.StatsRequest(mount_id=wanted), timeout=api.CALL_SECONDS)

    def watch(self, mount_id):
        request = api.MESSAGES.WatchStatsRequest(mount_id=mount_id if self._random.random() < 0.5 else "")
        request.interval.nanos = 100_000_000
        stream = self._api.mount.WatchStats(request, timeout=api.CALL_SECONDS)
        for _ in range(self._random.randrange(1, 4)):
            next(stream)
        stream.cancel()

    def reload(self, _):
        self._api.daemon.Reload(api.MESSAGES.ReloadRequest(), timeout=api.CALL_SECONDS)

    def list_diffs(self, _):
        self._api.diff.ListDiffs(api.MESSAGES.ListDiffsRequest(), timeout=api.CALL_SECONDS)

    def check_diff(self, mount_id):
        request = api.MESSAGES.CheckDiffRequest(mount_id=mount_id, repair=self._random.random() < 0.3)
        self._api.diff.CheckDiff(request, timeout=api.CALL_SECONDS)

    def delete_diff(self, mount_id):
        request = api.MESSAGES.DeleteDiffRequest(mount_id=mount_id, allow_missing=self._random.random() < 0.5)
        self._api.diff.DeleteDiff(request, timeout=api.CALL_SECONDS)

    def list_backups(self, _):
        self._api.catalog.ListBackups(api.MESSAGES.ListBackupsRequest(store=self._store), timeout=api.CALL_SECONDS)

    def get_backup(self, _):
        self._api.catalog.GetBackup(api.MESSAGES.GetBackupRequest(store=self._store, instance=INSTANCE),
                                    timeout=api.CALL_SECONDS)

    def status(self, _):
        self._api.daemon.GetStatus(api.MESSAGES.GetStatusRequest(), timeout=api.CALL_SECONDS)

    def dump(self, _):
        self._api.daemon.DebugDump(api.MESSAGES.DebugDumpRequest(), timeout=api.CALL_SECONDS)

    def log_level(self, _):
        self._api.daemon.SetLogLevel(api.MESSAGES.SetLogLevelRequest(level=self._random.choice(("info", "debug"))),
                                     timeout=api.CALL_SECONDS)

    def health(self, mount_id):
        health = api.module("grpc.health.v1.health_pb2")
        self._api.health.Check(health.HealthCheckRequest(service=f"mount/{mount_id}"), timeout=api.CALL_SECONDS)


FAIR["plan"] = FAIR["mount"]


def unfair(name, code):
    return code not in ALWAYS and code not in FAIR.get(name, ())


def main():
    address, store, work, seed, journal = sys.argv[1:]
    with api.Api(address) as daemon, open(journal, "a", encoding="utf-8", buffering=1) as lines:
        caller = Caller(daemon, store, work, random.Random(int(seed)))
        while not select.select([sys.stdin], [], [], 0)[0]:
            name, code, about = caller.call()
            lines.write(f"{'UNFAIR ' if unfair(name, code) else ''}{name} {code} {about!r}\n")


if __name__ == "__main__":
    main()

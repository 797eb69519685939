"""The error table of the API: each reason of service/ERRORS.md is caused, and what a client gets is looked at: code,
reason, details, and a message that says what failed, why, and what next. A dry run tells the same as the mount.

A reason of the document without a case fails the test.
"""

import fcntl
import os
import pathlib
import re
import signal
import unittest

from pbkfs_e2e import api, case, loop_images, mounts
from pbkfs_e2e.api import MESSAGES
from pbkfs_e2e.synthetic import SyntheticCatalog, crc32c

# Reasons that need more than a daemon and a written catalog, and the test that causes them.
ELSEWHERE = {
    "CALLER_NOT_ALLOWED": "access_test.py",
    "CALL_LIMIT": "../service/api_server_test.cc",
    "NO_CONFIG_FILE": "api_client_test.py",
    "NO_KEEPER": "restart_test.py",
    "STREAM_LIMIT": "../service/stats_streams_test.cc",
    "TABLESPACE_IN_WAL": "tablespace_wal_test.py",
    "UPGRADE_REFUSED": "restart_test.py",
}
MIB = 1 << 20
BUSY_SECONDS = 60

CASES = {}


def causes(*reasons):
    """Marks a method that causes these reasons."""
    def mark(method):
        for reason in reasons:
            CASES.setdefault(reason, []).append(method.__name__)
        return method
    return mark


def documented():
    """{reason: code} of service/ERRORS.md."""
    table = {}
    for line in (api.ROOT / "service" / "ERRORS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and re.fullmatch(r"[A-Z_]+(, [A-Z_]+)*", cells[1]):
            table.update(dict.fromkeys(cells[1].split(", "), cells[2]))
    return table


class ErrorTable(case.E2ECase):
    def setUp(self):
        api.need(self)
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        self.codes = documented()
        self.api = api.Api(self.daemon.address)
        self.addCleanup(self.api.channel.close)
        self.target, self.diff = self.work / "t", self.work / "d"

    # Requests and what is expected of their refusal.

    def request(self, **fields):
        catalog = fields.pop("catalog", self.catalog)
        values = {"mount_id": "m", "store": catalog.store, "instance": catalog.instance, "target": self.target,
                  "diff_dir": self.diff, **fields}
        return MESSAGES.MountRequest(**{name: str(value) if isinstance(value, pathlib.Path) else value
                                        for name, value in values.items()})

    def copy(self, name):
        return SyntheticCatalog.copy_of(self.catalog, self.work / name)

    def mount(self, **fields):
        return self.api.mount.Mount(self.request(**fields), timeout=api.CALL_SECONDS)

    def unmount(self, mount_id="m", **fields):
        return self.api.mount.Unmount(MESSAGES.UnmountRequest(mount_id=mount_id, **fields), timeout=api.CALL_SECONDS)

    def clear(self, **fields):
        """Unmounts and takes the diff away."""
        self.assertTrue(self.unmount(delete_diff=True, **fields).diff_deleted)

    def refused(self, call, request, reason, *, subject=None, says=()):
        """The call fails with the reason, and with everything that belongs to it."""
        refusal = api.refusal_of(call, request)
        self.assertIsNotNone(refusal, f"not refused: {request}")
        self.assertEqual(reason, refusal.reason, refusal)
        self.assertEqual(self.codes[reason], refusal.code, refusal)
        self.assertEqual((refusal.message, refusal.code),
                         (refusal.status.message, self.code_name(refusal.status.code)))
        self.assertEqual("pbkfs", refusal.details["ErrorInfo"].domain)
        for text in says:
            self.assertIn(str(text), refusal.message)
        self.assertNotIn("\n", refusal.message)
        details = {"INVALID_ARGUMENT": "BadRequest", "FAILED_PRECONDITION": "PreconditionFailure",
                   "UNAVAILABLE": "RetryInfo"}
        wanted = details.get(refusal.code)
        self.assertEqual({"ErrorInfo", *([wanted] if wanted else [])}, set(refusal.details))
        if wanted == "BadRequest":
            violation, = refusal.details[wanted].field_violations
            self.assertEqual(refusal.message, violation.description)
            self.assertTrue(violation.field, "the field is not named")
            self.assertEqual(subject or violation.field, violation.field)
        elif wanted == "PreconditionFailure":
            violation, = refusal.details[wanted].violations
            self.assertEqual((reason, refusal.message), (violation.type, violation.description))
            self.assertTrue(violation.subject, f"what it is about is not named: {refusal}")
            self.assertEqual(subject or violation.subject, violation.subject)
        elif wanted == "RetryInfo":
            self.assertGreater(refusal.details[wanted].retry_delay.ToMilliseconds(), 0)
        return refusal

    def code_name(self, number):
        return next(code.name for code in api.grpc.StatusCode if code.value[0] == number)

    def mount_refused(self, reason, *, same_words=True, **fields):
        """A Mount with these fields is refused, a dry run too, in the same words, and nothing is left behind."""
        expected = {name: fields.pop(name) for name in ("subject", "says") if name in fields}
        before = self.left_behind()
        planned = self.refused(self.api.mount.Mount, self.request(validate_only=True, **fields), reason, **expected)
        self.assertEqual(before, self.left_behind(), "a dry run changed something")
        refusal = self.refused(self.api.mount.Mount, self.request(**fields), reason, **expected)
        if same_words:
            self.assertEqual(str(refusal), str(planned), "the dry run says something else than the mount")
        self.assertEqual(before, self.left_behind(), "a refused mount left something behind")

    def left_behind(self):
        """What a refused mount must not change."""
        return (self.target.exists(), sorted(os.listdir(self.diff)) if self.diff.is_dir() else self.diff.exists(),
                sorted(mounts.below(self.work)), sorted((self.daemon.state_dir / "mounts").iterdir()),
                sorted((self.daemon.state_dir / "diffs").iterdir()))

    # The test.

    def test_each_reason(self):
        for name in dict.fromkeys(name for names in CASES.values() for name in names):
            with self.subTest(case=name):
                getattr(self, name)()
                self.assertEqual([], mounts.below(self.work), "a case left a mount behind")

    # INVALID_ARGUMENT, ALREADY_EXISTS, ABORTED.

    @causes("INVALID_FIELD")
    def fields_that_are_missing_or_wrong(self):
        for subject, fields in (
                ("target", {"target": ""}), ("target", {"target": "relative"}), ("target", {"target": "/"}),
                ("target", {"target": f"{self.work}/../x"}), ("target", {"target": f"{self.work}/a$b"}),
                ("target", {"target": f"{self.work}/none/t"}), ("target", {"target": "/" + "x" * 5000}),
                ("store", {"store": ""}), ("instance", {"instance": ""}), ("instance", {"instance": "a/b"}),
                ("backup_id", {"backup_id": "../x"}), ("mount_id", {"mount_id": "Not_An_Id"}),
                ("mount_id", {"mount_id": "a" * 64}), ("diff_dir", {"diff_dir": "x"}),
                ("threads", {"threads": 100000}), ("diff_limit_bytes", {"diff_limit_bytes": -1}),
                ("catalog_lock", {"catalog_lock": 99}), ("tablespaces", {"tablespaces": 99}),
                ("settings", {"settings": {"bad name": "1"}}), ("settings", {"settings": {"work_mem": "1\n2"}}),
                ("owner", {"owner": MESSAGES.Owner(uid=(1 << 32) - 1, gid=0)}),
                ("recovery", {"recovery": MESSAGES.Recovery(lsn="nowhere")}),
                ("recovery", {"recovery": MESSAGES.Recovery()})):
            with self.subTest(fields=fields):
                self.mount_refused("INVALID_FIELD", subject=subject, says=[subject], **fields)

    @causes("INVALID_FIELD")
    def fields_of_other_calls(self):
        for call, request, subject in (
                (self.api.mount.Unmount, MESSAGES.UnmountRequest(), "mount_id"),
                (self.api.mount.Unmount, MESSAGES.UnmountRequest(mount_id="m", target="/t"), "mount_id"),
                (self.api.catalog.ListInstances, MESSAGES.ListInstancesRequest(store="x"), "store"),
                (self.api.catalog.GetBackup, MESSAGES.GetBackupRequest(store=str(self.catalog.store)), "instance"),
                (self.api.diff.CheckDiff, MESSAGES.CheckDiffRequest(), "path"),
                (self.api.diff.CheckDiff, MESSAGES.CheckDiffRequest(mount_id="m", store="/x"), "instance"),
                (self.api.diff.DeleteDiff, MESSAGES.DeleteDiffRequest(path="/x", mount_id="m"), "path"),
                (self.api.diff.ListDiffs, MESSAGES.ListDiffsRequest(directory="x"), "directory")):
            with self.subTest(request=str(request)):
                self.refused(call, request, "INVALID_FIELD", subject=subject)

    @causes("INVALID_FIELD")
    def paths_that_contain_one_another(self):
        for fields in ({"diff_dir": self.target / "d"}, {"target": self.diff / "t"},
                       {"target": self.catalog.store / "t"}, {"diff_dir": self.catalog.store / "d"},
                       {"diff_dir": self.target}):
            with self.subTest(fields=fields):
                self.mount_refused("INVALID_FIELD", says=["use separate directories"], **fields)
        self.mount()
        self.mount_refused("INVALID_FIELD", mount_id="n", target=self.target / "base" / "t2",
                           diff_dir=self.work / "d2", subject="target", says=[self.target])
        self.mount_refused("INVALID_FIELD", mount_id="n", target=self.work / "t2", diff_dir=self.diff / "d2",
                           subject="diff_dir", says=["mount 'm'", "use separate directories"])
        self.clear()

    @causes("MOUNT_INCOMPATIBLE")
    def the_same_request_again_is_the_existing_mount(self):
        made = self.mount(backup_id="latest")
        self.assertEqual(made, self.mount(backup_id=""))
        self.assertEqual(made, self.mount(backup_id=self.catalog.ids[-1]))
        self.assertEqual(made, self.mount(validate_only=True))
        for fields in ({"backup_id": self.catalog.ids[0]}, {"read_only": True}, {"settings": {"work_mem": "1MB"}},
                       {"target": self.work / "t2"}, {"diff_dir": self.work / "d2"}, {"ephemeral": True},
                       {"mount_id": "other", "diff_dir": self.work / "d2"}):
            with self.subTest(fields=fields):
                named = [] if "mount_id" in fields else list(fields)
                self.mount_refused("MOUNT_INCOMPATIBLE", says=["unmount it first", *named], **fields)
        self.clear()

    @causes("OPERATION_PENDING", "TARGET_BUSY")
    def a_mount_that_is_being_unmounted_while_it_is_in_use(self):
        self.mount()
        with open(self.target / "PG_VERSION", "rb"):
            self.refused(self.api.mount.Unmount, MESSAGES.UnmountRequest(mount_id="m"), "TARGET_BUSY",
                         subject="target", says=[self.target, f"pid {os.getpid()}", "--wait", "--force"])
            waiting = MESSAGES.UnmountRequest(mount_id="m", delete_diff=True)
            waiting.wait.FromSeconds(BUSY_SECONDS)
            pending = self.api.mount.Unmount.future(waiting, timeout=2 * BUSY_SECONDS)
            state = MESSAGES.GetMountRequest(mount_id="m")
            case.wait_until(lambda: self.api.mount.GetMount(state).state == MESSAGES.MOUNT_STATE_DRAINING,
                            BUSY_SECONDS, "the unmount beginning")
            says = ["mount 'm'", "try again"]
            self.mount_refused("OPERATION_PENDING", says=says)
            self.mount_refused("OPERATION_PENDING", mount_id="n", diff_dir=self.work / "d2", says=says)
            self.refused(self.api.mount.Unmount, MESSAGES.UnmountRequest(target=str(self.target)),
                         "OPERATION_PENDING", says=says)
        self.assertTrue(pending.result().diff_deleted)

    # NOT_FOUND.

    @causes("STORE_NOT_FOUND", "INSTANCE_NOT_FOUND", "BACKUP_NOT_FOUND")
    def what_the_catalog_does_not_have(self):
        nowhere = self.work / "nowhere"
        self.mount_refused("STORE_NOT_FOUND", store=nowhere, says=[nowhere])
        self.mount_refused("INSTANCE_NOT_FOUND", instance="nobody", says=["nobody", self.catalog.instance])
        self.mount_refused("BACKUP_NOT_FOUND", backup_id="TZZZZZ", says=["TZZZZZ", self.catalog.ids[-1]])
        store = str(self.catalog.store)
        listing = self.api.catalog.ListBackups
        for call, request, reason in (
                (self.api.catalog.ListInstances, MESSAGES.ListInstancesRequest(store=str(nowhere)), "STORE_NOT_FOUND"),
                (listing, MESSAGES.ListBackupsRequest(store=str(nowhere)), "STORE_NOT_FOUND"),
                (listing, MESSAGES.ListBackupsRequest(store=store, instance="nobody"), "INSTANCE_NOT_FOUND"),
                (self.api.catalog.GetBackup,
                 MESSAGES.GetBackupRequest(store=store, instance="node", backup_id="TZZZZZ"), "BACKUP_NOT_FOUND")):
            with self.subTest(request=str(request)):
                self.refused(call, request, reason)

    @causes("MOUNT_NOT_FOUND", "DIFF_NOT_FOUND")
    def a_mount_and_a_diff_that_are_not_there(self):
        says = ["nobody", "pbkfs list"]
        self.refused(self.api.mount.GetMount, MESSAGES.GetMountRequest(mount_id="nobody"), "MOUNT_NOT_FOUND", says=says)
        self.refused(self.api.mount.Stats, MESSAGES.StatsRequest(mount_id="nobody"), "MOUNT_NOT_FOUND", says=says)
        answer = self.unmount("nobody", delete_diff=True)
        self.assertEqual((False, False), (answer.was_mounted, answer.diff_deleted))
        self.assertFalse(self.api.mount.Unmount(MESSAGES.UnmountRequest(target=str(self.target))).was_mounted)
        says = [self.diff, "pbkfs diff list"]
        self.refused(self.api.diff.CheckDiff, MESSAGES.CheckDiffRequest(path=str(self.diff)), "DIFF_NOT_FOUND",
                     says=says)
        missing = MESSAGES.DeleteDiffRequest(path=str(self.diff))
        self.refused(self.api.diff.DeleteDiff, missing, "DIFF_NOT_FOUND", says=says)
        missing.allow_missing = True
        self.assertFalse(self.api.diff.DeleteDiff(missing).deleted)

    # FAILED_PRECONDITION.

    @causes("CHAIN_INCOMPLETE", "BACKUP_NOT_USABLE")
    def a_chain_that_can_not_be_used(self):
        broken = self.copy("incomplete")
        full, middle, newest = broken.ids
        for status in ("CORRUPT", "RUNNING", "ERROR"):
            broken.set_control(full, "status", status)
            self.mount_refused("BACKUP_NOT_USABLE", catalog=broken, backup_id=newest, subject="backup_id",
                               says=[full, status])
        self.mount_refused("BACKUP_NOT_USABLE", catalog=broken, backup_id=full, force=True, says=[full])
        broken.set_control(full, "status", "CORRUPT")
        for force in (False, True):
            backup = self.api.catalog.GetBackup(MESSAGES.GetBackupRequest(
                store=str(broken.store), instance=broken.instance, backup_id=newest, force=force))
            self.assertEqual(force, backup.mountable)
        broken.set_control(full, "status", "OK")
        broken.remove(middle)
        self.mount_refused("CHAIN_INCOMPLETE", catalog=broken, backup_id=newest, subject="backup_id", says=[middle])
        backup = self.api.catalog.GetBackup(MESSAGES.GetBackupRequest(
            store=str(broken.store), instance=broken.instance, backup_id=newest))
        self.assertEqual((False, "CHAIN_INCOMPLETE"), (backup.mountable, backup.unmountable_reason))

    @causes("DIFF_BOUND_ELSEWHERE")
    def a_diff_of_something_else(self):
        self.mount()
        self.unmount()
        says = [self.diff, "another"]
        self.mount_refused("DIFF_BOUND_ELSEWHERE", backup_id=self.catalog.ids[0], subject="diff_dir", says=says)
        self.mount_refused("DIFF_BOUND_ELSEWHERE", owner=MESSAGES.Owner(uid=12345, gid=1), subject="diff_dir", says=says)
        recovery = MESSAGES.Recovery(immediate=True)
        self.mount_refused("DIFF_BOUND_ELSEWHERE", recovery=recovery, subject="diff_dir", says=says)
        foreign = self.work / "foreign"
        foreign.mkdir()
        (foreign / "precious").touch()
        self.mount_refused("DIFF_BOUND_ELSEWHERE", diff_dir=foreign, subject="diff_dir", says=[foreign])
        for call, request in ((self.api.diff.CheckDiff, MESSAGES.CheckDiffRequest),
                              (self.api.diff.DeleteDiff, MESSAGES.DeleteDiffRequest)):
            self.refused(call, request(path=str(foreign)), "DIFF_BOUND_ELSEWHERE", subject="path", says=[foreign])
        (foreign / "precious").unlink()
        self.api.diff.DeleteDiff(MESSAGES.DeleteDiffRequest(path=str(self.diff)))

    @causes("DIFF_IN_USE")
    def a_diff_that_somebody_uses(self):
        self.mount()
        other = {"mount_id": "n", "target": self.work / "t2"}
        self.mount_refused("DIFF_IN_USE", subject="diff_dir", says=["mount 'm'", "another"], **other)
        for call, request in ((self.api.diff.CheckDiff, MESSAGES.CheckDiffRequest),
                              (self.api.diff.DeleteDiff, MESSAGES.DeleteDiffRequest)):
            self.refused(call, request(path=str(self.diff)), "DIFF_IN_USE", subject="path", says=["mount 'm'"])
        self.unmount()
        # Another daemon, on this host or on another one.
        with open(self.diff / "lock", "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.mount_refused("DIFF_IN_USE", subject="diff_dir", says=[self.diff, "another"])
            self.refused(self.api.diff.DeleteDiff, MESSAGES.DeleteDiffRequest(path=str(self.diff)), "DIFF_IN_USE")
        self.api.diff.DeleteDiff(MESSAGES.DeleteDiffRequest(path=str(self.diff)))

    @causes("TARGET_NOT_EMPTY")
    def a_target_that_is_not_an_empty_directory(self):
        self.target.mkdir()
        (self.target / "file").touch()
        says = [self.target, "empty it"]
        self.mount_refused("TARGET_NOT_EMPTY", subject="target", says=says)
        (self.target / "file").unlink()
        self.target.rmdir()
        self.target.touch()
        self.mount_refused("TARGET_NOT_EMPTY", subject="target", says=says)
        self.target.unlink()

    @causes("CATALOG_LOCK_FAILED")
    def a_lock_that_is_required_and_not_possible(self):
        locked = self.copy("locked")
        # As pg_probackup says that it works on a backup: its process id, which is ours here.
        exclusive = locked.directory / locked.ids[0] / "backup.pid"
        exclusive.write_text(f"{os.getpid()}\n")
        self.mount_refused("CATALOG_LOCK_FAILED", catalog=locked, catalog_lock=MESSAGES.CATALOG_LOCK_REQUIRED,
                           subject="catalog_lock", says=[f"process {os.getpid()}", "AUTO"])
        exclusive.unlink()

    @causes("CATALOG_LOCK_FAILED")
    def a_catalog_that_its_owner_may_not_write(self):
        owned = self.copy("owned")
        for path in (owned.store, *owned.store.rglob("*")):
            os.chown(path, 54321, 54321)
        for backup in owned.ids:
            (owned.directory / backup).chmod(0o500)
        self.mount_refused("CATALOG_LOCK_FAILED", catalog=owned, catalog_lock=MESSAGES.CATALOG_LOCK_REQUIRED,
                           subject="catalog_lock", says=["AUTO"])

    @causes("CLONE_UNSAFE")
    def a_configuration_that_would_reach_production(self):
        for line, says in (("data_directory = '/srv/production'", "data_directory"),
                           ("shared_preload_libraries = 'pglogical'", "pglogical")):
            unsafe = self.copy(f"unsafe-{says}")
            newest = unsafe.ids[-1]
            path = unsafe.directory / newest / "database" / "postgresql.conf"
            old = path.read_bytes()
            new = old + line.encode() + b"\n"
            path.write_bytes(new)
            unsafe.edit_list(newest, rb'("path":"postgresql.conf", "size":")%d(".*"crc":")%d"' % (len(old), crc32c(old)),
                             rb'\g<1>%d\g<2>%d"' % (len(new), crc32c(new)))
            self.mount_refused("CLONE_UNSAFE", catalog=unsafe, says=[says, "--set"])

    # OUT_OF_RANGE, DATA_LOSS, UNIMPLEMENTED.

    @causes("TARGET_UNREACHABLE")
    def a_recovery_target_out_of_reach(self):
        stop = self.catalog.control(self.catalog.ids[0])["stop-lsn"]
        for recovery in (MESSAGES.Recovery(lsn="0/1000028"), MESSAGES.Recovery(name="nowhere"),
                         MESSAGES.Recovery(lsn="7/0")):
            self.mount_refused("TARGET_UNREACHABLE", recovery=recovery, backup_id=self.catalog.ids[0],
                               says=["reachable", stop])
        self.mount_refused("TARGET_UNREACHABLE", recovery=MESSAGES.Recovery(name="nowhere"), says=["reachable", stop])

    @causes("CATALOG_CORRUPT")
    def a_list_and_a_configuration_that_are_damaged(self):
        damaged = self.copy("damaged")
        damaged.damage_list(damaged.ids[0])
        self.mount_refused("CATALOG_CORRUPT", catalog=damaged, says=[damaged.ids[0]])
        conf = self.copy("damaged-conf")
        path = conf.directory / conf.ids[-1] / "database" / "postgresql.conf"
        path.write_bytes(b"x" * path.stat().st_size)
        self.mount_refused("CATALOG_CORRUPT", catalog=conf, says=["postgresql.conf"])

    @causes("DIFF_CORRUPT")
    def a_diff_that_is_damaged(self):
        for name, offset in (("binding.json", 60), ("log", 120), ("data", None)):
            with self.subTest(damaged=name):
                self.mount()
                (self.target / "file").write_bytes(b"x" * 50000)
                self.unmount()
                path = self.diff / name
                if path.is_dir():
                    path = max(path.iterdir(), key=lambda file: file.stat().st_size)
                    os.truncate(path, 1)
                else:
                    content = bytearray(path.read_bytes())
                    content[offset] ^= 1
                    path.write_bytes(content)
                self.mount_refused("DIFF_CORRUPT", subject="diff_dir", says=[self.diff], same_words=name != "data")
                self.assertTrue(self.api.diff.DeleteDiff(MESSAGES.DeleteDiffRequest(path=str(self.diff))).deleted)

    @causes("UNSUPPORTED_FORMAT")
    def formats_that_this_version_does_not_know(self):
        codec = self.copy("codec")
        codec.edit_list(codec.ids[0], rb'"compress_alg":"zlib"', b'"compress_alg":"brotli"')
        self.mount_refused("UNSUPPORTED_FORMAT", catalog=codec, says=["brotli"])
        block = self.copy("block")
        for member in block.ids:
            block.set_control(member, "block-size", "16384")
        self.mount_refused("UNSUPPORTED_FORMAT", catalog=block, backup_id=block.ids[0], says=["16384"])
        self.mount()
        self.unmount()
        binding = self.diff / "binding.json"
        text, count = re.subn(r'("formatVersion": *)\d+', r"\g<1>4000", binding.read_text())
        self.assertEqual(1, count)
        binding.write_text(text)
        self.mount_refused("UNSUPPORTED_FORMAT", says=["4000"])
        for path in sorted(self.diff.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.diff.rmdir()

    # RESOURCE_EXHAUSTED, PERMISSION_DENIED, UNAVAILABLE.

    @causes("DIFF_SPACE")
    def a_diff_whose_disk_is_full(self):
        disk = self.work / "disk"
        loop_images.mount_tmpfs(self, disk, 16 * MIB)
        try:
            with open(disk / "ballast", "wb", buffering=0) as ballast:
                with self.assertRaises(OSError):
                    while True:
                        ballast.write(b"x" * (64 << 10))
            self.mount_refused("DIFF_SPACE", diff_dir=disk / "d", says=[disk, "make room"])
            self.assertEqual(["ballast"], os.listdir(disk))
            (disk / "ballast").unlink()
            self.mount(diff_dir=disk / "d")
            self.clear()
        finally:
            mounts.detach(disk)

    @causes("PATH_NOT_ALLOWED")
    def paths_outside_of_the_allowed_roots(self):
        link = self.work / "link"
        link.symlink_to("/")
        for subject, path in (("store", "/pe2e-not-allowed"), ("target", "/pe2e-not-allowed"),
                              ("diff_dir", "/pe2e-not-allowed"), ("target", f"{link}/pe2e-not-allowed")):
            with self.subTest(subject=subject):
                self.mount_refused("PATH_NOT_ALLOWED", says=[subject, "/pe2e-not-allowed", "--allow-root"],
                                   **{subject: path})
        link.unlink()
        for call, request in (
                (self.api.catalog.ListBackups, MESSAGES.ListBackupsRequest(store="/pe2e-not-allowed")),
                (self.api.diff.ListDiffs, MESSAGES.ListDiffsRequest(directory="/pe2e-not-allowed")),
                (self.api.diff.DeleteDiff, MESSAGES.DeleteDiffRequest(path="/pe2e-not-allowed"))):
            self.refused(call, request, "PATH_NOT_ALLOWED", says=["--allow-root"])

    def test_draining(self):
        """A daemon that waits for the users of a mount answers, and takes no new mounts."""
        self.mount()
        with open(self.target / "PG_VERSION", "rb"):
            self.daemon.process.send_signal(signal.SIGTERM)
            case.wait_until(lambda: "waiting to stop" in self.daemon.log_tail(), BUSY_SECONDS, "the stop beginning")
            self.mount_refused("DRAINING", mount_id="n", target=self.work / "t2", diff_dir=self.work / "d2",
                               says=["try again"])
            with api.Api(self.daemon.address) as late:
                self.assertEqual("m", late.mount.ListMounts(MESSAGES.ListMountsRequest()).mounts[0].mount_id)
                self.assertEqual("NOT_SERVING", late.health_of(""))
                self.refused(late.mount.Mount, self.request(mount_id="n"), "DRAINING")
        self.api.channel.close()  # One that nobody reads from is given five seconds.
        self.assertEqual(0, self.daemon.stop())
        self.assertEqual([], mounts.below(self.work))


class Document(unittest.TestCase):
    def test_every_reason_of_the_document_has_a_case(self):
        reasons = set(documented())
        self.assertGreater(len(reasons), 20, "service/ERRORS.md has no table any more?")
        self.assertEqual(set(), reasons - set(CASES) - set(ELSEWHERE) - {"DRAINING", "MOUNT_LIMIT"}, "reasons without a case")
        self.assertEqual(set(), set(CASES) - reasons, "reasons that service/ERRORS.md does not have")
        for reason in reasons & set(ELSEWHERE):
            text = (pathlib.Path(__file__).parent / ELSEWHERE[reason]).read_text()
            self.assertIn(reason, text, f"{ELSEWHERE[reason]} does not know the reason")

    def test_every_reason_of_the_code_is_documented(self):
        header = (api.ROOT / "fs" / "base" / "status.h").read_text()
        reasons = set(re.findall(r'inline constexpr absl::string_view k\w+ = "([A-Z_]+)";', header))
        self.assertGreater(len(reasons), 20)
        self.assertEqual(set(), reasons - set(documented()) - set(ELSEWHERE))


if __name__ == "__main__":
    case.main()

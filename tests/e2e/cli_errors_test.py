"""Every command and exit code; every refusal has its reason, says what to do next, and leaves nothing behind."""

import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import time

from pbkfs_e2e import case, mounts, workers
from pbkfs_e2e.daemon import build_dir, mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

FAILED, USAGE, NOT_FOUND, EXISTS, PRECONDITION, UNREACHABLE, DATA_LOSS = range(1, 8)
# Generous: the machine may be busy.
WAIT_SECONDS = 60


class CliErrors(case.E2ECase):
    """One daemon and one catalog for all methods, which must not change it, and a directory for each of them."""

    @classmethod
    def setUpClass(cls):
        cls.host = case.E2ECase()
        cls.host.setUp()
        cls.catalog = SyntheticCatalog(cls.host)

    @classmethod
    def tearDownClass(cls):
        if not cls.host.doCleanups():
            raise AssertionError("the daemon did not end as it should; its log is above")

    def setUp(self):
        self.daemon = self.host.daemon
        self.work = self.host.work / self.id().rpartition(".")[2]
        self.work.mkdir()
        self.addCleanup(self.clean)
        self.target, self.diff = self.work / "t", self.work / "d"

    def clean(self):
        for mount in self.daemon.call("list").get("mounts", []):
            self.daemon.unmount(mount["mountId"], "--force")
        for diff in self.daemon.call("diff", "list").get("diffs", []):
            self.daemon.call("diff", "delete", diff["path"])

    def mount(self, *extra, catalog=None, instance=None, backup=None, target=None, diff=None):
        catalog = catalog or self.catalog
        arguments = mount_arguments(catalog.store, instance or catalog.instance, backup, target or self.target,
                                    diff=diff or self.diff, extra=extra)
        return self.daemon.cli(*arguments)

    def assert_refused(self, done, code, reason=None, mentions=()):
        self.assertEqual(code, done.returncode, done.stderr)
        self.assertEqual("", done.stdout, "stdout is for answers only")
        self.assertTrue(done.stderr.strip(), "an error without a message")
        if reason:
            self.assertIn(reason, done.stderr)
        for text in mentions:
            self.assertIn(str(text), done.stderr)

    def assert_mount_refused(self, done, code, reason, mentions=()):
        self.assert_refused(done, code, reason, mentions)
        self.assertFalse(mounts.is_mounted(self.target))
        self.assertFalse(self.target.exists(), "a refused mount left its target behind")
        self.assertFalse(self.diff.exists(), "a refused mount left its diff behind")

    def broken(self):
        return SyntheticCatalog.copy_of(self.catalog, self.work / "broken")

    # What is not there.

    def test_unknown_store(self):
        missing = self.work / "nowhere"
        done = self.daemon.cli(*mount_arguments(missing, "node", None, self.target, diff=self.diff))
        self.assert_mount_refused(done, NOT_FOUND, "STORE_NOT_FOUND", [missing])
        self.assert_refused(self.daemon.cli("backups", "--store", missing), NOT_FOUND, "STORE_NOT_FOUND")

    def test_unknown_instance(self):
        done = self.mount(instance="nobody")
        self.assert_mount_refused(done, NOT_FOUND, "INSTANCE_NOT_FOUND", ["nobody"])
        done = self.daemon.cli("backups", "--store", self.catalog.store, "--instance", "nobody")
        self.assert_refused(done, NOT_FOUND, "INSTANCE_NOT_FOUND")

    def test_unknown_backup(self):
        self.assert_mount_refused(self.mount(backup="TZZZZZ"), NOT_FOUND, "BACKUP_NOT_FOUND", ["TZZZZZ"])

    def test_unknown_mount(self):
        self.assert_refused(self.daemon.cli("stats", "nobody"), NOT_FOUND, "MOUNT_NOT_FOUND", ["nobody"])
        # So that a retry after a lost answer succeeds.
        answer = self.daemon.call("unmount", "nobody")
        self.assertFalse(answer["wasMounted"])

    # Chains and members that can't be used.

    def test_chain_without_its_parent(self):
        broken = self.broken()
        full, middle, newest = broken.ids
        broken.remove(middle)
        self.assert_mount_refused(self.mount(catalog=broken, backup=newest), PRECONDITION, "CHAIN_INCOMPLETE",
                                  [middle])
        self.daemon.unmount(self.daemon.mount(broken.store, broken.instance, full, self.target)["mountId"])

    def test_unusable_status_anywhere_in_the_chain(self):
        for position in range(3):
            for status in ("CORRUPT", "ORPHAN", "RUNNING", "ERROR", "MERGING", "DELETING", "HIDDEN"):
                with self.subTest(status=status, position=position):
                    broken = SyntheticCatalog.copy_of(self.catalog, self.work / f"{status}-{position}")
                    member = broken.ids[position]
                    broken.set_control(member, "status", status)
                    done = self.mount(catalog=broken, backup=broken.ids[-1])
                    self.assert_mount_refused(done, PRECONDITION, None, [member, status])
                    self.assertRegex(done.stderr, "BACKUP_NOT_USABLE|CHAIN_INCOMPLETE")

    def test_latest_is_the_newest_that_can_be_mounted(self):
        broken = self.broken()
        broken.set_control(broken.ids[-1], "status", "ERROR")
        mount = self.daemon.mount(broken.store, broken.instance, "latest", self.target)
        self.assertEqual(broken.ids[-2], mount["backupId"])
        self.assertEqual(broken.ids[:2], [member["backupId"] for member in mount["chain"]])
        warning = next(text for text in mount["warnings"] if "is newer" in text)
        for part in (broken.ids[-2], broken.ids[-1], "ERROR"):
            self.assertIn(part, warning)

    def test_the_newest_backup_is_mounted_without_a_word(self):
        mount = self.daemon.mount(self.catalog.store, self.catalog.instance, "latest", self.target)
        self.assertEqual(self.catalog.ids[-1], mount["backupId"])
        self.assertNotIn("newer", " ".join(mount.get("warnings", [])))

    def test_a_newer_program_is_warned_of(self):
        broken = self.broken()
        broken.set_control(broken.ids[1], "program-version", "2.99.0")
        mount = self.daemon.mount(broken.store, broken.instance, broken.ids[-1], self.target)
        warning = next(text for text in mount["warnings"] if "2.99.0" in text)
        self.assertIn(broken.ids[1], warning)

    def test_unknown_server_version(self):
        broken = self.broken()
        for member in broken.ids:
            broken.set_control(member, "server-version", "99")
        self.assert_mount_refused(self.mount(catalog=broken, backup=broken.ids[-1]), FAILED, "UNSUPPORTED_FORMAT",
                                  ["99"])

    def test_unknown_backup_mode(self):
        broken = self.broken()
        broken.set_control(broken.ids[-1], "backup-mode", "SOMETHING")
        self.assert_mount_refused(self.mount(catalog=broken, backup=broken.ids[-1]), FAILED, "UNSUPPORTED_FORMAT",
                                  ["backup-mode", broken.ids[-1]])

    def test_force_mounts_a_corrupt_backup(self):
        broken = self.broken()
        broken.set_control(broken.ids[1], "status", "CORRUPT")
        mount = self.daemon.mount(broken.store, broken.instance, broken.ids[-1], self.target, extra=["--force"])
        self.assertTrue(mount["force"])

    def test_force_does_not_mount_a_running_backup(self):
        broken = self.broken()
        broken.set_control(broken.ids[-1], "status", "RUNNING")
        self.assert_mount_refused(self.mount("--force", catalog=broken, backup=broken.ids[-1]), PRECONDITION,
                                  "BACKUP_NOT_USABLE")

    def test_unknown_codec(self):
        broken = self.broken()
        broken.edit_list(broken.ids[0], rb'"compress_alg":"zlib"', b'"compress_alg":"brotli"')
        self.assert_mount_refused(self.mount(catalog=broken), FAILED, "UNSUPPORTED_FORMAT", ["brotli"])

    def test_other_block_size(self):
        broken = self.broken()
        for member in broken.ids:
            broken.set_control(member, "block-size", "16384")
        done = self.mount(catalog=broken, backup=broken.ids[-1])
        self.assert_mount_refused(done, FAILED, "UNSUPPORTED_FORMAT", ["16384"])

    def test_damaged_file_list(self):
        broken = self.broken()
        broken.damage_list(broken.ids[-1])
        done = self.mount(catalog=broken, backup=broken.ids[-1])
        self.assert_mount_refused(done, DATA_LOSS, "CATALOG_CORRUPT", [broken.ids[-1]])

    def test_backups_tells_what_can_be_mounted_and_why_not(self):
        broken = self.broken()
        broken.set_control(broken.ids[1], "status", "ERROR")
        listed = self.daemon.call("backups", "--store", broken.store)["backups"]
        self.assertEqual(broken.ids, [backup["backupId"] for backup in listed])
        self.assertEqual([True, False, False], [backup["mountable"] for backup in listed])
        for backup in listed[1:]:
            self.assertTrue(backup["unmountableReason"] and backup["unmountableMessage"], backup)

    # Targets and diffs.

    def test_target_that_is_not_empty(self):
        self.target.mkdir()
        (self.target / "file").touch()
        self.assert_refused(self.mount(), PRECONDITION, "TARGET_NOT_EMPTY", [self.target])
        self.assertTrue((self.target / "file").exists())
        self.assertFalse(self.diff.exists())

    def test_target_that_is_not_a_directory(self):
        self.target.touch()
        self.assert_refused(self.mount(), PRECONDITION, "TARGET_NOT_EMPTY", [self.target])

    def test_own_empty_target_survives_the_unmount(self):
        self.target.mkdir(mode=0o750)
        self.assertEqual(0, self.mount().returncode)
        self.daemon.unmount("t")
        self.assertEqual(0o750, self.target.stat().st_mode & 0o777)

    def test_same_request_again_is_the_existing_mount(self):
        arguments = mount_arguments(self.catalog.store, "node", None, self.target, diff=self.diff)
        self.assertEqual(self.daemon.call(*arguments), self.daemon.call(*arguments))
        self.assertEqual(1, len(self.daemon.call("list")["mounts"]))

    def test_target_in_use(self):
        self.assertEqual(0, self.mount().returncode)
        self.assert_refused(self.mount(backup=self.catalog.ids[0]), EXISTS, "MOUNT_INCOMPATIBLE")
        self.assert_refused(self.mount("--id", "other", diff=self.work / "d2"), EXISTS, "MOUNT_INCOMPATIBLE")
        self.assert_refused(self.mount("--id", "t", target=self.work / "t2"), EXISTS, "MOUNT_INCOMPATIBLE")

    def test_diff_in_use(self):
        self.assertEqual(0, self.mount().returncode)
        self.assert_refused(self.mount(target=self.work / "t2"), PRECONDITION, "DIFF_IN_USE", [self.diff])
        self.assertFalse((self.work / "t2").exists())

    def test_diff_of_another_backup(self):
        self.assertEqual(0, self.mount().returncode)
        self.daemon.unmount("t")
        done = self.mount(backup=self.catalog.ids[0])
        self.assert_refused(done, PRECONDITION, "DIFF_BOUND_ELSEWHERE", [self.catalog.ids[-1]])
        self.assertTrue(self.diff.exists(), "a refused mount removed a diff that was not its own")

    def test_directory_that_is_not_a_diff(self):
        self.diff.mkdir()
        (self.diff / "precious").write_text("data")
        self.assert_refused(self.mount(), PRECONDITION, "DIFF_BOUND_ELSEWHERE", [self.diff])
        self.assertEqual("data", (self.diff / "precious").read_text())

    def test_paths_that_contain_one_another(self):
        for target, diff in ((self.target, self.target / "d"), (self.diff / "t", self.diff),
                             (self.catalog.store / "t", self.diff), (self.target, self.catalog.store / "d"),
                             (self.target, self.target)):
            with self.subTest(target=target, diff=diff):
                self.assert_refused(self.mount(target=target, diff=diff), USAGE, "INVALID_FIELD")
        self.assertEqual(0, self.mount().returncode)
        self.assert_refused(self.mount(target=self.target / "base" / "t2", diff=self.work / "d2"), USAGE,
                            "INVALID_FIELD")

    def test_path_that_is_not_allowed(self):
        for target, diff in (("/pe2e-not-allowed", self.diff), (self.target, "/pe2e-not-allowed"),
                             (self.work / ".." / ".." / "pe2e-not-allowed", self.diff)):
            with self.subTest(target=target, diff=diff):
                done = self.mount(target=target, diff=diff)
                self.assert_refused(done, FAILED, "PATH_NOT_ALLOWED", ["--allow-root"])
        link = self.work / "link"
        link.symlink_to("/")
        self.assert_refused(self.mount(target=link / "pe2e-not-allowed"), FAILED, "PATH_NOT_ALLOWED")

    def test_unmount_of_a_mount_in_use(self):
        self.assertEqual(0, self.mount().returncode)
        with open(self.target / "PG_VERSION", "rb") as file:
            self.assert_refused(self.daemon.cli("unmount", "t"), PRECONDITION, "TARGET_BUSY", [self.target])
            self.assertTrue(file.read())
        self.assertTrue(self.daemon.call("unmount", str(self.target))["wasMounted"])

    # Usage, and the daemon.

    def test_bad_usage(self):
        for arguments in ([], ["explode"], ["mount"], ["mount", "--explode"], ["unmount"],
                          ["-o", "yaml", "list"], ["mount", "--store", self.catalog.store, "--target", self.target],
                          ["backups"]):
            with self.subTest(arguments=arguments):
                self.assert_refused(self.daemon.cli(*arguments), USAGE)
        self.assertIn("see pbkfs diff --help", self.daemon.cli("diff").stderr)
        # Which the error about an option of every command points to, too.
        self.assertIn("--address", self.daemon.cli("list", "--help").stdout)

    def test_invalid_fields(self):
        for extra in (["--id", "Not_An_Id"], ["--id", "a" * 64], ["--set", "no-equals-sign"],
                      ["--set", "bad name=1"], ["--catalog-lock", "perhaps"], ["--tablespaces", "perhaps"]):
            with self.subTest(extra=extra):
                self.assert_mount_refused(self.mount(*extra), USAGE, None)

    def test_dry_run_checks_everything_and_changes_nothing(self):
        arguments = mount_arguments(self.catalog.store, "node", None, self.target, diff=self.diff, extra=["--dry-run"])
        plan = self.daemon.call(*arguments)
        self.assertEqual(self.catalog.ids[-1], plan["backupId"])
        self.assertTrue(plan["startCommand"])
        self.assertFalse(self.target.exists() or self.diff.exists())
        self.assertEqual([], self.daemon.call("list").get("mounts", []))
        self.target.touch()
        self.assert_refused(self.mount("--dry-run"), PRECONDITION, "TARGET_NOT_EMPTY")

    def test_daemon_that_does_not_run(self):
        nowhere = f"unix:{self.work}/nobody.sock"
        for arguments in (["list"], ["stats"], ["stats", "--watch"], ["unmount", "t"], ["diff", "list"],
                          ["diff", "check", "t"], ["diff", "delete", "t"], ["daemon", "status"], ["daemon", "upgrade"],
                          ["backups", "--store", self.catalog.store],
                          mount_arguments(self.catalog.store, "node", None, self.target)):
            with self.subTest(arguments=arguments[0]):
                self.assert_refused(self.daemon.cli(*arguments, address=nowhere), UNREACHABLE, None,
                                    ["nobody.sock", "next step: start the daemon"])

    def test_daemon_that_hangs_is_given_up(self):
        with socket.socket(socket.AF_UNIX) as hung:
            hung.bind(f"{self.work}/hung.sock")
            hung.listen(8)
            done = self.daemon.cli("list", address=f"unix:{self.work}/hung.sock")
            self.assert_refused(done, UNREACHABLE, None, ["hung.sock", "hangs", "next step"])
            # Who completes a word does not want to know.
            done = self.run_client("__complete", "--address", f"{self.work}/hung.sock", "unmount", "")
            self.assertEqual((0, ":words\n", ""), (done.returncode, done.stdout, done.stderr))

    def test_call_that_takes_too_long_is_given_up(self):
        worker = workers.wait_for_worker(self.daemon.pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            # What is connected already waits for its answer, what is not for the connection.
            done = self.daemon.cli("list", "--timeout", "0.2")
        finally:
            os.kill(worker, signal.SIGCONT)
        self.assertIn(done.returncode, (FAILED, UNREACHABLE), done.stderr)
        self.assertIn("next step", done.stderr)

    # Every command and its exit codes; one daemon for all.

    def test_every_command_and_exit_code(self):
        store, mount = self.catalog.store, mount_arguments(self.catalog.store, "node", None, self.target, diff=self.diff)
        corrupt = SyntheticCatalog.copy_of(self.catalog, self.work / "corrupt")
        corrupt.damage_list(corrupt.ids[-1])
        held = None
        for code, arguments in (
                (0, ["--version"]), (0, ["--help"]), (0, ["help", "mount"]), (0, ["help", "daemon", "status"]),
                (USAGE, ["help", "nothing"]), (0, ["completion", "bash"]), (0, ["completion", "zsh"]),
                (USAGE, ["completion", "fish"]), (USAGE, ["completion"]),
                (0, ["list"]), (USAGE, ["list", "a"]), (USAGE, ["list", "--timeout", "soon"]),
                (0, ["backups", "--store", store]), (NOT_FOUND, ["backups", "--store", store, "--instance", "nobody"]),
                (FAILED, ["backups", "--store", "/pe2e-not-allowed"]), (USAGE, ["backups", "--store", ""]),
                (0, [*mount, "--dry-run"]),
                (DATA_LOSS, mount_arguments(corrupt.store, "node", corrupt.ids[-1], self.target, diff=self.diff)),
                (USAGE, [*mount, "--diff-limit", "much"]), (USAGE, [*mount, "--threads", "0"]),
                (USAGE, [*mount, "--recovery-exclusive"]),
                # No archive leads there.
                (USAGE, [*mount, "--recovery-target", "lsn=FFFFFFFF/0"]),
                (0, mount), (0, mount), (EXISTS, [*mount, "--read-only"]),
                (0, ["list"]), (0, ["stats"]), (0, ["stats", "t"]), (NOT_FOUND, ["stats", "nobody"]),
                (PRECONDITION, ["diff", "check", self.diff]), (PRECONDITION, ["diff", "delete", self.diff]),
                ("hold", None), (PRECONDITION, ["unmount", "t"]), (0, ["unmount", "t", "--force"]), ("let go", None),
                (0, ["unmount", "t"]), (0, ["unmount", self.target]), (0, ["unmount", "nobody", "--delete-diff"]),
                (USAGE, ["unmount"]), (USAGE, ["unmount", "t", "--wait", "soon"]),
                (0, ["diff", "list", "--dir", self.diff]), (0, ["diff", "check", self.diff]),
                (0, ["diff", "check", self.diff, "--store", store, "--instance", "node", "--repair"]),
                (NOT_FOUND, ["diff", "check", "nobody"]), (USAGE, ["diff", "check"]), (USAGE, ["diff", "chek", "t"]),
                ("damage", None), (DATA_LOSS, ["diff", "check", self.diff]), (DATA_LOSS, mount),
                (0, ["diff", "delete", self.diff]), (NOT_FOUND, ["diff", "delete", self.diff]),
                (0, ["diff", "delete", self.diff, "--missing-ok"]),
                (0, [*mount_arguments(store, "node", None, self.target), "--diff-limit", "1GiB",
                     "--threads", "2"]),
                (0, ["unmount", "t", "--delete-diff", "--wait", "1"]), (NOT_FOUND, ["diff", "check", "t"])):
            if code == "hold":
                held = open(self.target / "PG_VERSION", "rb")
            elif code == "let go":
                held.close()
            elif code == "damage":
                self.damage_log()
            else:
                with self.subTest(arguments=arguments):
                    done = self.daemon.cli(*arguments)
                    self.assertEqual(code, done.returncode, done.stderr)
                    if code == 0:
                        self.assertTrue(done.stdout, "an answer without a text")
                    else:
                        self.assertIn("pbkfs: ", done.stderr)

    def damage_log(self):
        log = self.diff / "log"
        damaged = bytearray(log.read_bytes())
        damaged[120] ^= 1
        log.write_bytes(damaged)

    def test_next_steps_are_for_people_and_not_in_json(self):
        done = self.mount()
        self.assertIn("next step: start PostgreSQL as shown", done.stderr)
        self.assertIn("pbkfs unmount t", done.stderr)
        self.assertIn("without --dry-run", self.mount("--dry-run").stderr)
        done = self.daemon.cli("-o", "json", "list")
        self.assertEqual("", done.stderr)
        done = self.daemon.cli("unmount", "t")
        self.assertIn(f"--diff {self.diff}", done.stderr)
        self.assertIn(f"pbkfs diff delete {self.diff}", self.daemon.cli("diff", "check", self.diff).stderr)

    # Unmounting what is in use.

    def test_wait_tells_who_has_files_open(self):
        self.assertEqual(0, self.mount().returncode)
        with open(self.target / "PG_VERSION", "rb"):
            waiting = self.start_client("unmount", "t", "--wait", WAIT_SECONDS)
            told = ""
            while f"(pid {os.getpid()})" not in told:
                line = waiting.stderr.readline()
                self.assertTrue(line, f"it ended and told nobody's name: {told}")
                told += line
            self.assertIn("waiting: ", told)
        out, err = waiting.communicate(timeout=WAIT_SECONDS)
        self.assertEqual(0, waiting.returncode, err)
        self.assertIn("t unmounted", out)

    def test_force_detaches_at_the_end_of_the_wait(self):
        self.assertEqual(0, self.mount().returncode)
        with open(self.target / "PG_VERSION", "rb"):
            start = time.monotonic()
            done = self.daemon.cli("unmount", "t", "--wait", "1.2", "--force")
            self.assertEqual(0, done.returncode, done.stderr)
            self.assertGreaterEqual(time.monotonic() - start, 1.2)
        self.assertFalse(mounts.is_mounted(self.target))

    # The example of proto/README.md.

    def test_python_example_of_the_reference(self):
        for program in ("protoc", "grpc_python_plugin"):
            self.need(shutil.which(program), f"{program} is not installed; install protobuf-compiler-grpc")
        root = pathlib.Path(__file__).resolve().parents[2]
        readme = (root / "proto" / "README.md").read_text()
        example = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL).group(1)
        command = re.search(r"    protoc .*?[^\\]\n", readme, flags=re.DOTALL).group(0)
        stubs = self.work / "stubs"
        stubs.mkdir()
        subprocess.run(["bash", "-ec", command.replace("stubs", str(stubs))], cwd=root, check=True)
        done = subprocess.run(["/usr/bin/python3", "-B", "-c", example], capture_output=True, text=True,
                              timeout=WAIT_SECONDS,
                              env={**os.environ, "STUBS": str(stubs), "STORE": str(self.catalog.store),
                                   "TARGET": str(self.target), "PBKFS_ADDRESS": self.daemon.address})
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertIn(f"mounted {self.catalog.ids[-1]} at {self.target}", done.stdout)
        self.assertFalse(mounts.is_mounted(self.target))

    # Terminals and pipes.

    def start_client(self, *arguments, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([build_dir() / "client" / "pbkfs", *map(str, arguments)],
                                env={**os.environ, "PBKFS_ADDRESS": self.daemon.address, **options.pop("env", {})}, **options)

    def run_client(self, *arguments, **options):
        process = self.start_client(*arguments, **options)
        out, err = process.communicate(timeout=WAIT_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def test_a_reader_that_has_seen_enough_is_no_failure(self):
        for ignored in (False, True):
            with self.subTest(sigpipe_ignored=ignored):
                reading, writing = os.pipe()
                os.close(reading)
                ignore = (lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN)) if ignored else None
                done = self.run_client("backups", "--store", self.catalog.store, stdout=writing, preexec_fn=ignore,
                                       restore_signals=not ignored)
                os.close(writing)
                self.assertIn(done.returncode, (0, -signal.SIGPIPE), done.stderr)
                self.assertEqual("", done.stderr)

    def test_an_answer_that_can_not_be_written_is_a_failure(self):
        with open("/dev/full", "w") as full:
            done = self.run_client("list", "-o", "json", stdout=full)
        self.assertEqual(FAILED, done.returncode)
        self.assertIn("No space left", done.stderr)

    def on_a_terminal(self, *arguments, **variables):
        """What the client writes to a terminal."""
        master, slave = pty.openpty()
        with os.fdopen(master, "rb", buffering=0) as screen:
            variables = {"TERM": "xterm", "NO_COLOR": "", **variables}
            process = self.start_client(*arguments, stdout=slave, stderr=slave, env=variables)
            os.close(slave)
            text = b""
            try:
                while part := screen.read(4096):
                    text += part
            except OSError:
                pass  # The end of a terminal, in Linux's words.
            self.assertEqual(0, process.wait(WAIT_SECONDS))
        return text.decode()

    def test_colours_are_for_terminals_that_want_them(self):
        arguments = ["backups", "--store", self.catalog.store]
        self.assertIn("\033[1m", self.on_a_terminal(*arguments))
        for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}):
            with self.subTest(**variables):
                self.assertNotIn("\033", self.on_a_terminal(*arguments, **variables))
        self.assertNotIn("\033", self.daemon.cli(*arguments).stdout)

    def test_json_and_tables_of_every_command(self):
        mount = self.daemon.mount(self.catalog.store, "node", None, self.target, diff=self.diff)
        for key in ("mountId", "backupId", "target", "diffDir", "owner", "chain", "startCommand", "createTime"):
            self.assertIn(key, mount)
        self.assertEqual("MOUNT_STATE_ACTIVE", mount["state"])
        self.assertEqual([mount], self.daemon.call("list")["mounts"])
        self.assertEqual("t", self.daemon.call("stats")["mounts"][0]["mountId"])
        self.assertEqual(3, len(self.daemon.call("backups", "--store", self.catalog.store)["backups"]))
        for arguments in (["list"], ["stats"], ["stats", "t"], ["backups", "--store", self.catalog.store],
                          ["unmount", "t"]):
            done = self.daemon.cli(*arguments)
            self.assertEqual(0, done.returncode, done.stderr)
        self.assertFalse(mounts.is_mounted(self.target))


if __name__ == "__main__":
    case.main()

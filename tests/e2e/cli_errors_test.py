"""Every refusal has its exit code and its reason, says what to do next, and leaves nothing behind."""

from pbkfs_e2e import case, mounts
from pbkfs_e2e.daemon import mount_arguments
from pbkfs_e2e.synthetic import SyntheticCatalog

FAILED, USAGE, NOT_FOUND, EXISTS, PRECONDITION, UNREACHABLE, DATA_LOSS = range(1, 8)


class CliErrors(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        self.target, self.diff = self.work / "t", self.work / "d"

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
                             (self.work / ".." / "pe2e-not-allowed", self.diff)):
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
        for arguments in (["list"], ["stats"], ["unmount", "t"],
                          mount_arguments(self.catalog.store, "node", None, self.target)):
            with self.subTest(arguments=arguments[0]):
                self.assert_refused(self.daemon.cli(*arguments, address=nowhere), UNREACHABLE, None, ["nobody.sock"])

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

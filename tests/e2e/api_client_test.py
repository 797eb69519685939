"""The API from a client that the build did not generate: every RPC, health, and server reflection."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import unittest

from pbkfs_e2e import api, case, mounts
from pbkfs_e2e.api import MESSAGES
from pbkfs_e2e.synthetic import SyntheticCatalog

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
except ImportError:
    grpc = None

# The contract: a mount that can't serve any more is NOT_SERVING after this long.
HEALTH_SECONDS = 5
# Generous: a loaded machine may be slow.
WAIT_SECONDS = 60


class ApiClient(case.E2ECase):
    def setUp(self):
        api.need(self)
        super().setUp()
        self.catalog = SyntheticCatalog(self)
        self.api = api.Api(self.daemon.address)
        self.addCleanup(self.api.channel.close)
        self.called, self.missing = set(), set()

    def request(self, name, **fields):
        return MESSAGES.MountRequest(mount_id=name, store=str(self.catalog.store), instance=self.catalog.instance,
                                     target=str(self.work / name), **fields)

    def mount(self, name, **fields):
        return self.api.mount.Mount(self.request(name, **fields), timeout=WAIT_SECONDS)

    def unmount(self, name, **fields):
        return self.api.mount.Unmount(MESSAGES.UnmountRequest(mount_id=name, **fields), timeout=WAIT_SECONDS)


class EveryRpc(ApiClient):
    def call(self, service, method, request, **fields):
        """Calls a method, and remembers that it was called."""
        self.called.add(f"pbkfs.v1.{service}.{method}")
        stub = getattr(self.api, service.removesuffix("Service").lower())
        return getattr(stub, method)(request(**fields), timeout=WAIT_SECONDS)

    def _stats_with_a_write(self):
        stats = self.call("MountService", "Stats", MESSAGES.StatsRequest, mount_id="a")
        return stats if stats.mounts[0].fuse.requests["write"] > 0 else None

    def test_every_rpc(self):
        steps = (self.look_into_the_catalog, self.make_a_mount, self.watch_figures, self.ask_the_daemon, self.end_the_mount,
                 self.look_after_diffs, self.upgrade_the_daemon)
        for step in steps:
            try:
                step()
            except grpc.RpcError as error:
                # Of a service or a method that is not there; ours always have a reason.
                if error.code() != grpc.StatusCode.UNIMPLEMENTED or api.Refusal(error).reason:
                    raise
                self.missing.add(step.__name__)
        declared = {f"{name}.{method.name}" for name, service in api.declared_services().items()
                    for method in service.methods}
        if not self.missing:
            self.assertEqual(declared, self.called, "methods of proto/ that no step calls")

    def look_into_the_catalog(self):
        store = str(self.catalog.store)
        instance, = self.call("CatalogService", "ListInstances", MESSAGES.ListInstancesRequest, store=store).instances
        self.assertEqual(self.catalog.instance, instance.name)
        self.assertGreater(instance.system_identifier, 0)
        backups = self.call("CatalogService", "ListBackups", MESSAGES.ListBackupsRequest, store=store).backups
        self.assertEqual(self.catalog.ids, [backup.backup_id for backup in backups])
        self.assertEqual(["FULL", "DELTA", "DELTA"], [backup.mode for backup in backups])
        newest = self.call("CatalogService", "GetBackup", MESSAGES.GetBackupRequest, store=store,
                           instance=instance.name, backup_id="latest")
        self.assertTrue(newest.mountable and newest.stream)
        self.assertEqual(self.catalog.ids, [member.backup_id for member in newest.chain])
        self.assertGreater(newest.logical_bytes, 0)
        self.assertEqual(self.catalog.control(self.catalog.ids[-1])["stop-lsn"], newest.stop_lsn)

    def make_a_mount(self):
        planned = self.mount("a", validate_only=True)
        self.assertFalse(mounts.is_mounted(self.work / "a"))
        made = self.call("MountService", "Mount", MESSAGES.MountRequest, mount_id="a", store=str(self.catalog.store),
                         instance=self.catalog.instance, target=str(self.work / "a"))
        self.assertEqual(MESSAGES.MOUNT_STATE_ACTIVE, made.state)
        self.assertGreater(made.create_time.seconds, 0)
        self.assertGreater(made.diff_free_bytes, 0)
        for mount in (planned, made):
            for field in ("create_time", "state", "restart_protection", "diff_free_bytes"):
                mount.ClearField(field)
        self.assertEqual(planned, made, "the dry run promised another mount")
        self.assertEqual(self.catalog.ids[-1], made.backup_id)
        self.assertEqual(str(self.daemon.state_dir / "diffs" / "a"), made.diff_dir)
        self.assertIn(str(self.work / "a"), made.start_command)
        found = self.call("MountService", "GetMount", MESSAGES.GetMountRequest, mount_id="a")
        listed, = self.call("MountService", "ListMounts", MESSAGES.ListMountsRequest).mounts
        self.assertEqual(found, listed)
        self.assertEqual(8192, len((self.work / "a" / "global" / "pg_control").read_bytes()))
        (self.work / "a" / "written").write_bytes(b"x" * 100)
        # A request is counted once it is answered, which its caller may know before.
        stats = case.wait_until(self._stats_with_a_write, WAIT_SECONDS, "the write being counted")
        self.assertGreater(stats.sampled_at.seconds, 0)
        figures, = stats.mounts
        self.assertGreaterEqual(figures.io.written_bytes, 100)
        self.assertEqual(1, self.api.mount.Stats(MESSAGES.StatsRequest()).daemon.mounts)

    def watch_figures(self):
        stream = self.call("MountService", "WatchStats", MESSAGES.WatchStatsRequest, mount_id="a")
        samples = [next(stream), next(stream)]
        stream.cancel()
        self.assertEqual(["a", "a"], [sample.mounts[0].mount_id for sample in samples])
        self.assertLess(samples[0].sampled_at.ToNanoseconds(), samples[1].sampled_at.ToNanoseconds())

    def ask_the_daemon(self):
        status = self.call("DaemonService", "GetStatus", MESSAGES.GetStatusRequest)
        self.assertEqual((self.daemon.pid, str(self.daemon.state_dir), {"active": 1}),
                         (status.keeper_pid, status.state_directory,
                          {state: count for state, count in status.mounts.items() if count}))
        previous = self.call("DaemonService", "SetLogLevel", MESSAGES.SetLogLevelRequest, level="debug").previous
        self.assertEqual("info", previous)
        self.assertEqual("debug", self.api.daemon.GetStatus(MESSAGES.GetStatusRequest()).log_level)
        self.assertIn(status.version, self.call("DaemonService", "DebugDump", MESSAGES.DebugDumpRequest).text)
        # This daemon has no configuration file.
        with self.assertRaises(grpc.RpcError) as raised:
            self.call("DaemonService", "Reload", MESSAGES.ReloadRequest)
        self.assertEqual("NO_CONFIG_FILE", api.Refusal(raised.exception).reason)

    def end_the_mount(self):
        done = self.call("MountService", "Unmount", MESSAGES.UnmountRequest, mount_id="a")
        self.assertEqual(("a", True, False), (done.mount_id, done.was_mounted, done.diff_deleted))
        self.assertFalse((self.work / "a").exists())

    def look_after_diffs(self):
        diff, = self.call("DiffService", "ListDiffs", MESSAGES.ListDiffsRequest).diffs
        self.assertEqual((MESSAGES.DIFF_STATE_CLEAN, False, self.catalog.ids[-1]),
                         (diff.state, diff.in_use, diff.backup_id))
        checked = self.call("DiffService", "CheckDiff", MESSAGES.CheckDiffRequest, mount_id="a",
                            store=str(self.catalog.store), instance=self.catalog.instance)
        self.assertEqual((MESSAGES.DIFF_VERDICT_OK, True), (checked.verdict, checked.image_checked), checked)
        deleted = self.call("DiffService", "DeleteDiff", MESSAGES.DeleteDiffRequest, mount_id="a")
        self.assertTrue(deleted.deleted)
        self.assertFalse(pathlib.Path(diff.path).exists())

    def upgrade_the_daemon(self):
        before = self.call("DaemonService", "Upgrade", MESSAGES.UpgradeRequest).old_worker_pid

        def after():
            try:
                pid = self.api.daemon.GetStatus(MESSAGES.GetStatusRequest(), timeout=WAIT_SECONDS).worker_pid
            except grpc.RpcError:
                return None
            return pid != before and pid
        self.assertTrue(case.wait_until(after, WAIT_SECONDS, "an answer of the next worker"))


class Health(ApiClient):
    def assert_stops_serving(self, service, end, repair=lambda: None):
        """`end` takes away what `service` needs. It is tried again, since a machine that is busy with something else may
        be late, but a daemon that looks too seldom is late each time."""
        times = []
        for _ in range(3):
            self.assertEqual("SERVING", self.api.health_of(service))
            end()
            start = time.monotonic()
            case.wait_until(lambda: self.api.health_of(service) == "NOT_SERVING", WAIT_SECONDS,
                            f"{service} being NOT_SERVING")
            times.append(time.monotonic() - start)
            if times[-1] <= HEALTH_SECONDS:
                break
            repair()
            self.unmount("a")
            self.mount("a")
        self.report(f"{service} is NOT_SERVING after {times[-1]:.1f} s")
        self.assertLessEqual(times[-1], HEALTH_SECONDS, times)

    def test_watch_follows_a_mount_from_before_to_after(self):
        # The names of the published protocol.
        unknown, serving = 3, 1
        watch = self.api.watch_health("mount/a")
        self.addCleanup(watch.cancel)
        self.assertEqual(unknown, next(watch).status)
        self.assertEqual("NOT_FOUND", self.api.health_of("mount/a"))
        self.mount("a")
        self.assertEqual("SERVING", self.api.health_of("mount/a"), "it is healthy when it is answered")
        self.assertEqual(serving, next(watch).status)
        self.unmount("a")
        self.assertEqual("NOT_FOUND", self.api.health_of("mount/a"))
        self.assertEqual(unknown, next(watch).status)
        self.assertEqual("NOT_FOUND", self.api.health_of("nobody"))
        self.assertEqual("SERVING", self.api.health_of(""))

    def test_a_mount_that_waits_for_its_users_still_serves(self):
        self.mount("a")
        with open(self.work / "a" / "PG_VERSION", "rb") as used:
            request = MESSAGES.UnmountRequest(mount_id="a")
            request.wait.FromSeconds(WAIT_SECONDS)
            pending = self.api.mount.Unmount.future(request, timeout=2 * WAIT_SECONDS)
            state = MESSAGES.GetMountRequest(mount_id="a")
            case.wait_until(lambda: self.api.mount.GetMount(state).state == MESSAGES.MOUNT_STATE_DRAINING,
                            WAIT_SECONDS, "the unmount beginning")
            self.assertEqual("SERVING", self.api.health_of("mount/a"))
            self.assertTrue(used.read())
        self.assertTrue(pending.result().was_mounted)

    def test_a_backup_that_vanishes(self):
        original = self.catalog
        for copy_of_control in (False, True):
            with self.subTest(copy_of_control=copy_of_control):
                self.catalog = SyntheticCatalog.copy_of(original, self.work / f"catalog-{copy_of_control}")
                self.mount("a")
                if copy_of_control:
                    # As for a server that is running: its pg_control is in the diff, and says nothing of the backup.
                    control = self.work / "a" / "global" / "pg_control"
                    control.write_bytes(control.read_bytes())
                full = self.catalog.ids[0]
                self.assert_stops_serving("mount/a", lambda: self.catalog.remove(full),
                                          lambda: self.put_back(original))
                self.assertEqual("SERVING", self.api.health_of(""))
                # It comes back with what was there before.
                self.put_back(original)
                case.wait_until(lambda: self.api.health_of("mount/a") == "SERVING", WAIT_SECONDS, "health coming back")
                self.unmount("a", delete_diff=True)

    def put_back(self, original):
        subprocess.run(["cp", "-a", "-T", original.store, self.catalog.store], check=True)

    def test_a_session_that_is_dead(self):
        self.mount("a")
        self.assert_stops_serving("mount/a", lambda: mounts.detach(self.work / "a"))
        found = self.api.mount.GetMount(MESSAGES.GetMountRequest(mount_id="a"))
        self.assertEqual(MESSAGES.MOUNT_STATE_FAILED, found.state)
        self.assertIn("unmount it", found.state_reason)
        self.assertTrue(self.unmount("a").was_mounted)

    def test_a_connection_that_an_administrator_ends(self):
        control = self.work / "fusectl"
        control.mkdir()
        subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
        self.addCleanup(mounts.detach, control)
        self.mount("a")
        abort = control / str(os.minor(os.stat(self.work / "a").st_dev)) / "abort"
        self.assert_stops_serving("mount/a", lambda: abort.write_text("1"))
        found = self.api.mount.GetMount(MESSAGES.GetMountRequest(mount_id="a"))
        self.assertEqual(MESSAGES.MOUNT_STATE_FAILED, found.state)
        self.assertTrue(self.unmount("a").was_mounted)
        mounts.detach(control)


class Reflection(ApiClient):
    def file_of(self, symbol):
        answer = self.api.reflect(file_containing_symbol=symbol)
        return [descriptor_pb2.FileDescriptorProto.FromString(data)
                for data in answer.file_descriptor_response.file_descriptor_proto]

    def test_services_and_their_descriptors(self):
        listed = {service.name for service in self.api.reflect(list_services="*").list_services_response.service}
        self.assertIn("grpc.health.v1.Health", listed)
        for name in sorted(set(api.declared_services()) & listed):
            with self.subTest(service=name):
                service, = [service for file in self.file_of(name) for service in file.service
                            if f"{file.package}.{service.name}" == name]
                wanted = descriptor_pb2.ServiceDescriptorProto()
                api.declared_services()[name].CopyToProto(wanted)
                self.assertEqual(wanted, service, "the server has another API than proto/")
        self.assertEqual(5, self.api.reflect(file_containing_symbol="pbkfs.v1.Nothing").error_response.error_code)

    def test_a_client_that_knows_nothing_but_what_reflection_tells(self):
        """As grpcurl does it."""
        self.mount("a")
        pool = descriptor_pool.DescriptorPool()
        files = {file.name: file for file in self.file_of("pbkfs.v1.MountService")}

        def add(name):
            for dependency in files[name].dependency:
                if dependency not in files:
                    answer = self.api.reflect(file_by_filename=dependency)
                    for data in answer.file_descriptor_response.file_descriptor_proto:
                        file = descriptor_pb2.FileDescriptorProto.FromString(data)
                        files[file.name] = file
                add(dependency)
            pool.Add(files[name])
        add(next(name for name, file in files.items() if any(s.name == "MountService" for s in file.service)))
        method = pool.FindServiceByName("pbkfs.v1.MountService").methods_by_name["ListMounts"]
        factory = message_factory.MessageFactory(pool)
        answer_type = factory.GetPrototype(method.output_type)
        call = self.api.channel.unary_unary("/pbkfs.v1.MountService/ListMounts",
                                            request_serializer=lambda message: message.SerializeToString(),
                                            response_deserializer=answer_type.FromString)
        mount, = call(factory.GetPrototype(method.input_type)(), timeout=WAIT_SECONDS).mounts
        self.assertEqual(("a", self.catalog.ids[-1]), (mount.mount_id, mount.backup_id))


class ReferenceExamples(ApiClient):
    def test_the_requests_that_are_shown_for_grpcurl(self):
        """grpcurl is not in Debian; what it is shown to send is sent here, as it is printed but for the two paths."""
        text = (api.PROTO / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
        text = text.replace("/backup/pg", str(self.catalog.store)).replace("/mnt/rescue", str(self.work / "rescue"))
        text = text.replace('"main"', f'"{self.catalog.instance}"')
        examples = re.findall(r"^    api -d '(.*)' +(\S+)/(\S+)$", text, flags=re.MULTILINE)
        self.assertEqual(text.count("api -d"), len(examples))
        services = {**api.declared_services(),
                    "grpc.health.v1.Health": api.module("grpc.health.v1.health_pb2").DESCRIPTOR.services_by_name["Health"]}
        answers = {}
        for request, service, method in examples:
            described = services[service].methods_by_name[method]
            classes = message_factory.MessageFactory()
            message = json_format.Parse(request, classes.GetPrototype(described.input_type)())
            kind = self.api.channel.unary_stream if described.server_streaming else self.api.channel.unary_unary
            call = kind(f"/{service}/{method}", type(message).SerializeToString,
                        classes.GetPrototype(described.output_type).FromString)
            answer = call(message, timeout=WAIT_SECONDS)
            answers[method] = next(answer) if described.server_streaming else answer
            if described.server_streaming:
                answer.cancel()
        self.assertEqual(self.catalog.ids, [backup.backup_id for backup in answers["ListBackups"].backups])
        self.assertEqual(("rescue", 104), (answers["Mount"].mount_id, answers["Mount"].owner.uid))
        self.assertEqual(1, answers["Check"].status)
        self.assertEqual("rescue", answers["WatchStats"].mounts[0].mount_id)
        self.assertTrue(answers["Unmount"].was_mounted)


class GrpcJs(ApiClient):
    @unittest.skipUnless(case.FULL_TIER, "installs packages of npm: only in the full tier")
    def test_grpc_js(self):
        self.need(shutil.which("npm") and shutil.which("node"), "npm and node are not installed")
        home = self.work / "js"
        shutil.copytree(pathlib.Path(__file__).parent / "grpc_js", home)
        installed = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=home,
                                   capture_output=True, text=True, timeout=300)
        self.need(installed.returncode == 0, f"npm can't install the packages: {installed.stderr}")
        request = {"mount_id": "a", "store": str(self.catalog.store), "instance": self.catalog.instance,
                   "target": str(self.work / "a")}
        done = subprocess.run(["node", home / "smoke.js", api.PROTO, self.daemon.address, json.dumps(request)],
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(0, done.returncode, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual([self.catalog.ids, self.catalog.ids, ["a"]], [found["backups"], found["chain"], found["listed"]])
        self.assertEqual(("MOUNT_STATE_ACTIVE", "SERVING", True), (found["state"], found["serving"], found["unmounted"]))
        self.assertEqual(["SERVICE_UNKNOWN", "SERVING", "SERVICE_UNKNOWN"], found["health"])
        self.assertGreater(int(found["written"]), 0)
        self.assertEqual("ALREADY_EXISTS", found["refusal"]["code"])
        self.assertIn("unmount it first", found["refusal"]["message"])
        self.assertEqual({"reason": "MOUNT_INCOMPATIBLE", "domain": "pbkfs"},
                         found["refusal"]["details"]["google.rpc.ErrorInfo"])
        violation, = found["invalid"]["google.rpc.BadRequest"]["field_violations"]
        self.assertEqual("mount_id", violation["field"])


if __name__ == "__main__":
    case.main()

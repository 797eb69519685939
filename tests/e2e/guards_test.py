"""A clone is harmless to the production that it came from: nothing that production was told to do to others acts."""

import os
import socket
import subprocess
import threading

from pbkfs_e2e import case, postgres

SUBSCRIPTION_SECONDS = 60
COMMIT_SECONDS = 120


class Listener:
    """A TCP port that plays another server: counts who connects, and hangs up."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._accepted = threading.Semaphore(0)
        self._connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections += 1
            connection.close()
            self._accepted.release()

    def wait_for_connection(self, timeout):
        return self._accepted.acquire(timeout=timeout)

    def take_connections(self):
        """How many came since the last call. Connects itself: all who came before are counted by its turn."""
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            own.recv(1)
        count, self._connections = self._connections - 1, 0
        return count

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


class Guards(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.major = postgres.installed_major()
        self.need(self.major and postgres.account(), "PostgreSQL is not installed")
        self.outside = self.work / "outside"  # What production does to others shows here.
        self.outside.mkdir()
        os.chown(self.outside, postgres.account().pw_uid, postgres.account().pw_gid)
        self.external_pid_file = self.outside / "production.pid"
        self.publisher, self.primary = Listener(), Listener()
        self.addCleanup(self.publisher.close)
        self.addCleanup(self.primary.close)

    def test_nothing_of_production_acts_on_a_clone(self):
        self._make_production()
        store = self._back_up_production()
        traces = self._stop_production()

        clone = self._mount_and_start(store)
        self._check_clone(clone, traces)
        # ALTER SYSTEM RESET ALL empties postgresql.auto.conf: what postgresql.conf says then counts.
        clone.sql("ALTER SYSTEM RESET ALL")
        clone.stop()
        clone.start(clone.plain_start_command())
        self._check_clone(clone, traces)
        clone.stop()
        self.daemon.unmount("clone")

        clone = self._mount_and_start(store)
        self._check_clone(clone, traces)
        clone.stop()
        self.assertEqual(traces, self._traces())

    def _make_production(self):
        """A cluster with every setting that reaches outside of its own directory, in both places."""
        pgdata = postgres.make_cluster(self.work / "production", self.major)
        sockets = postgres.make_socket_dir(self.work / "sp")
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"""
listen_addresses = ''
unix_socket_directories = '{sockets}'
wal_level = logical
shared_buffers = 32MB
archive_mode = on
archive_command = 'echo archived %f >> {self.outside}/archived'
archive_cleanup_command = 'echo cleaned >> {self.outside}/cleaned'
recovery_end_command = 'echo ended >> {self.outside}/ended'
restore_command = 'echo restored >> {self.outside}/restored; false'
primary_conninfo = 'host=127.0.0.1 port={self.primary.port} user=postgres'
primary_slot_name = 'production_slot'
external_pid_file = '{self.external_pid_file}'
logging_collector = on
log_directory = '{self.outside}/log'
""")
        self.production = postgres.Server(pgdata, sockets, self.major)
        self.addCleanup(self.production.ensure_stopped)
        self.production.start()
        self.production.sql(f"""
            CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
            CREATE SUBSCRIPTION other CONNECTION 'host=127.0.0.1 port={self.publisher.port} dbname=postgres'
                PUBLICATION p WITH (connect = false, slot_name = 'other');
            ALTER SUBSCRIPTION other ENABLE;""")
        for name, value in {"archive_cleanup_command": f"echo cleaned >> {self.outside}/cleaned",
                            "recovery_end_command": f"echo ended >> {self.outside}/ended",
                            "archive_command": f"echo archived %f >> {self.outside}/archived",
                            "primary_conninfo": f"host=127.0.0.1 port={self.primary.port}",
                            "external_pid_file": str(self.external_pid_file),
                            "archive_mode": "on"}.items():
            self.production.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        # Last, because from here on no commit of production returns.
        self.production.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")

    def _back_up_production(self):
        store = self.work / "store"
        psql = " ".join(map(str, self.production.psql_command()))
        subprocess.run([self.mkcatalog(), "backup", "--catalog", store, "--instance", "production", "--pgdata",
                        self.production.pgdata, "--psql", psql, "--mode", "full", "--codec", "zlib"],
                       check=True, capture_output=True, text=True, timeout=300)
        return store

    def _stop_production(self):
        """Proves that production's settings do act there, so that their silence on the clone means something."""
        self.assertTrue(self.publisher.wait_for_connection(SUBSCRIPTION_SECONDS), "the subscription never connected")
        self.assertIn("archived", (self.outside / "archived").read_text())
        self.assertTrue(self.external_pid_file.exists())
        self._wait_for_a_commit_that_hangs()
        self.production.stop()
        self.assertFalse(self.external_pid_file.exists())
        self.external_pid_file.write_text("a running production wrote this\n")
        self.publisher.take_connections()
        return self._traces()

    def _wait_for_a_commit_that_hangs(self):
        hanging = threading.Thread(target=self.production.sql, args=["INSERT INTO t VALUES (0)"])
        hanging.start()
        case.wait_until(lambda: self.production.sql("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
                                                    "WHERE wait_event = 'SyncRep'") != "0",
                        30, "a commit of production waiting for a standby")
        hanging.join()

    def _traces(self):
        """Everything that production left outside, with its content."""
        return {str(path): path.read_bytes() for path in sorted(self.outside.rglob("*")) if path.is_file()}

    def _mount_and_start(self, store):
        sockets = self.work / "sc"
        if not sockets.exists():
            postgres.make_socket_dir(sockets)
        mount = self.daemon.mount(store, "production", None, self.work / "clone", diff=self.work / "diff",
                                  owner="postgres:postgres", settings=postgres.settings_for_clone(sockets))
        warnings = " ".join(mount["warnings"])
        for name in ("archive_command", "primary_conninfo"):
            self.assertIn(name, warnings, "a production endpoint in the configuration deserves a warning")
        clone = postgres.Server(self.work / "clone", sockets, self.major, mount["startCommand"])
        self.addCleanup(clone.ensure_stopped)
        clone.start()
        return clone

    def _check_clone(self, clone, traces):
        self.assertEqual("f", clone.sql("SELECT pg_is_in_recovery()"))
        silenced = {"archive_mode": "off", "archive_cleanup_command": "", "recovery_end_command": "",
                    "restore_command": "", "primary_conninfo": "", "primary_slot_name": "", "external_pid_file": "",
                    "synchronous_standby_names": "", "max_logical_replication_workers": "0", "log_directory": "log"}
        shown = {name: clone.show(name) for name in silenced}
        self.assertEqual(silenced, shown)
        self.assertEqual("0", clone.sql("SELECT count(*) FROM pg_settings WHERE name = 'archive_command' "
                                        "AND setting NOT IN ('', '(disabled)')"))
        # A commit that waited for a standby would not return; a switched segment would go to the archiver.
        clone.sql("CREATE TABLE IF NOT EXISTS on_clone (i int); INSERT INTO on_clone VALUES (1);"
                  "SELECT pg_switch_wal(); CHECKPOINT;", timeout=COMMIT_SECONDS)
        # None of the processes exists that would connect or archive, so there is nothing to wait for.
        self.assertEqual("", clone.sql("SELECT string_agg(backend_type, ',') FROM pg_stat_activity WHERE backend_type "
                                       "IN ('archiver', 'walreceiver', 'logical replication launcher', "
                                       "'logical replication worker')"))
        self.assertEqual("0", clone.sql("SELECT count(*) FROM pg_stat_archiver WHERE archived_count > 0"))
        self.assertEqual(0, self.publisher.take_connections(), "a clone connected to production's publisher")
        self.assertEqual(0, self.primary.take_connections(), "a clone connected to production's primary")
        self.assertEqual(traces, self._traces())


if __name__ == "__main__":
    case.main()

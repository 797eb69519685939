"""A cluster whose configuration is in /etc, as Debian makes them, starts from its backup with default_config."""

import os
import shutil
import subprocess

from pbkfs_e2e import case, postgres

FILES = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
# None is PostgreSQL's default, and recovery refuses less of each.
SETTINGS = {"max_connections": "150", "max_worker_processes": "11", "max_wal_senders": "13",
            "max_prepared_transactions": "7", "max_locks_per_transaction": "80", "wal_level": "logical"}


class DefaultConfig(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.major = postgres.installed_major()
        self.need(self.major and postgres.account(), "PostgreSQL is not installed")
        self.need(shutil.which("pg_createcluster"), "pg_createcluster (postgresql-common) is not installed")

    def make_debian_cluster(self):
        """pg_createcluster with everything below the test's directory."""
        user = postgres.account()
        outer = self.work / "debian"
        outer.mkdir()
        os.chown(outer, user.pw_uid, user.pw_gid)
        sockets = postgres.make_socket_dir(self.work / "sp")
        subprocess.run(["pg_createcluster", "-u", "postgres", "-d", outer / "data", "-s", sockets,
                        "-l", outer / "log", "--start-conf", "manual", self.major, "main", "--", "-N"],
                       env={**os.environ, "PG_CLUSTER_CONF_ROOT": str(outer / "etc")}, check=True,
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        config = outer / "etc" / self.major / "main"
        with open(config / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write("".join(f"{name} = {value}\n" for name, value in SETTINGS.items()))
            file.write("listen_addresses = ''\nport = 5432\nssl = off\n")
        self.assertEqual([], [name for name in FILES if (outer / "data" / name).exists()])
        start = (f"{postgres.bindir(self.major)}/pg_ctl -D {outer}/data -l {outer}/data/startup.log -w -t 300 "
                 f"-o '-c config_file={config}/postgresql.conf' start")
        server = postgres.Server(outer / "data", sockets, self.major, start)
        self.addCleanup(server.ensure_stopped)
        server.start()
        return server

    def back_up(self, server):
        store = self.work / "store"
        # Peer authentication: as the account of the server.
        psql = "setpriv --reuid postgres --regid postgres --clear-groups " + " ".join(map(str, server.psql_command()))
        subprocess.run([self.mkcatalog(), "backup", "--catalog", store, "--instance", "main", "--pgdata",
                        server.pgdata, "--psql", psql, "--mode", "full", "--codec", "zlib"],
                       check=True, capture_output=True, text=True, timeout=300, cwd="/")
        return store

    def test_a_debian_cluster_starts(self):
        production = self.make_debian_cluster()
        production.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
        store = self.back_up(production)
        production.sql("INSERT INTO t VALUES (0)")
        production.stop()

        bare = self.daemon.mount(store, "main", None, self.work / "bare", owner="postgres:postgres")
        warnings = " ".join(bare["warnings"])
        for name in FILES:
            self.assertIn(name, warnings)
            self.assertFalse((self.work / "bare" / name).exists())
        self.assertIn("default_config", warnings)
        self.daemon.unmount("bare")

        sockets = postgres.make_socket_dir(self.work / "sc")
        mount = self.daemon.mount(store, "main", None, self.work / "clone", owner="postgres:postgres",
                                  settings={"unix_socket_directories": sockets, "port": postgres.PORT},
                                  extra=["--default-config"])
        clone = postgres.Server(self.work / "clone", sockets, self.major, mount["startCommand"])
        self.addCleanup(clone.ensure_stopped)
        clone.start()
        self.assertEqual("1000", clone.sql("SELECT count(*) FROM t"))
        self.assertEqual(SETTINGS, {name: clone.show(name) for name in SETTINGS})
        self.assertEqual("", clone.show("listen_addresses"))
        self.assertEqual("off", clone.show("archive_mode"))
        self._check_that_strangers_stay_outside(clone)
        clone.stop()
        self.daemon.unmount("clone")

    def _check_that_strangers_stay_outside(self, clone):
        done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                               *map(str, clone.psql_command()), "-c", "SELECT 1"], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, cwd="/", timeout=60)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("Peer authentication failed", done.stderr)


if __name__ == "__main__":
    case.main()

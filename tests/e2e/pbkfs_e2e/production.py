"""A PostgreSQL that is backed up, for tests that need a server on a mount but no particular catalog."""

import pathlib
import shlex
import subprocess

from pbkfs_e2e import postgres

INSTANCE = "main"

# Small, and busy with what a small server seldom does: checkpoints, recycling of WAL, eviction of dirty buffers.
CONFIGURATION = """
listen_addresses = ''
shared_buffers = 16MB
max_wal_size = 64MB
min_wal_size = 32MB
checkpoint_timeout = 30s
max_prepared_transactions = 10
autovacuum_naptime = 1s
allow_in_place_tablespaces = on
"""


class Production:
    """A running server below the test's directory, and the catalog of its backups. Stopped when the test ends."""

    def __init__(self, test):
        postgres.adopt_orphans()
        self._test = test
        self.major = postgres.installed_major()
        test.need(self.major and postgres.account(), "PostgreSQL is not installed")
        self.store = pathlib.Path(test.work) / "store"
        pgdata = postgres.make_cluster(test.work / "production", self.major)
        sockets = postgres.make_socket_dir(test.work / "sp")
        with open(pgdata / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"{CONFIGURATION}unix_socket_directories = '{sockets}'\n")
        self.server = postgres.Server(pgdata, sockets, self.major)
        test.addCleanup(self.server.ensure_stopped)
        self.server.start()

    def fill(self, sql):
        """The tables of pgbench, what amcheck needs, and `sql`."""
        self.server.tool("pgbench", "-i", "-q", "-s", "1", "postgres")
        self.server.sql(f"CREATE EXTENSION amcheck; {sql}")

    def back_up(self, mode="full", psql=None, server=None, store=None):
        """Returns the new backup's id. `psql`: a command in place of psql of the server. `server`: another one to back up,
        into a `store` of its own."""
        server = server or self.server
        psql = psql or server.psql_command()
        done = subprocess.run([self._test.mkcatalog(), "backup", "--catalog", store or self.store, "--instance", INSTANCE,
                               "--pgdata", server.pgdata, "--psql", shlex.join(map(str, psql)), "--mode", mode],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"mkcatalog backup ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()

    def mount(self, daemon, target, diff, settings=None, extra=()):
        """Mounts the newest backup and returns a server on it that is not started yet."""
        target = pathlib.Path(target)
        sockets = self._test.work / f"s-{target.name}"
        if not sockets.exists():
            postgres.make_socket_dir(sockets)
        mount = daemon.mount(self.store, INSTANCE, None, target, diff=diff, owner="postgres:postgres",
                             extra=extra, settings={**postgres.settings_for_clone(sockets), **(settings or {})})
        server = postgres.Server(target, sockets, self.major, mount["startCommand"])
        self._test.addCleanup(server.ensure_stopped)
        return server

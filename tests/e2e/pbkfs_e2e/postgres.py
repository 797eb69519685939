"""PostgreSQL as a fixture: always as user postgres, only on Unix sockets, stopped by process id."""

import ctypes
import os
import pathlib
import pwd
import select
import shlex
import signal
import subprocess
import time

from pbkfs_e2e import processes

ACCOUNT = "postgres"
# The number in the socket's file name. Nothing listens on TCP and each server has its own socket directory,
# so it can't collide.
PORT = 5432
COMMAND_SECONDS = 600
GONE_SECONDS = 120

PR_SET_CHILD_SUBREAPER = 36


def account():
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def bindir(major):
    """The directory of the server programs of this major version, or None."""
    candidates = [pathlib.Path(f"/usr/lib/postgresql/{major}/bin")]
    try:
        configured = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(pathlib.Path(configured.stdout.strip()))
    except (OSError, subprocess.CalledProcessError):
        pass
    for candidate in candidates:
        if (candidate / "postgres").exists():
            version = subprocess.run([candidate / "postgres", "--version"], capture_output=True, text=True).stdout
            if version.split()[2].split(".")[0] == str(major):
                return candidate
    return None


def installed_major():
    """The newest major version that is installed, as text, or None."""
    majors = [path.name for path in pathlib.Path("/usr/lib/postgresql").glob("*") if path.name.isdigit()]
    return max(majors, key=int, default=None)


def _as_postgres():
    """Options of subprocess: user postgres, and a directory that it can enter."""
    user = account()
    environment = {"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C.UTF-8", "PGCLIENTENCODING": "UTF8"}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/", "env": environment}


def run_as_postgres(command, **options):
    """subprocess.run as user postgres."""
    options.setdefault("capture_output", True)
    options.setdefault("text", True)
    options.setdefault("timeout", COMMAND_SECONDS)
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    return subprocess.run([str(word) for word in command], **_as_postgres(), **options)


def adopt_orphans():
    """Makes this process the parent of every server that is started from here. PostgreSQL takes a process that ended
    and that nobody waited for, as in a container without an init, for a server that runs."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _wait_until_gone(pids):
    """Until no process has these ids."""
    deadline = time.monotonic() + GONE_SECONDS
    for pid in pids:
        while os.path.exists(f"/proc/{pid}"):
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass  # Somebody else's, who will do it.
            if time.monotonic() > deadline:
                raise AssertionError(f"process {pid} did not end within {GONE_SECONDS} s")
            time.sleep(0.02)


class PostgresError(AssertionError):
    """A program of PostgreSQL failed where the test needs it to succeed."""


class Server:
    """A server on a data directory that exists already: a mount, or a cluster made by initdb."""

    def __init__(self, pgdata, socket_dir, major, start_command=None):
        self.pgdata = pathlib.Path(pgdata)
        self.socket_dir = pathlib.Path(socket_dir)
        self.bindir = bindir(major)
        self.start_command = start_command or self.plain_start_command()
        self.namespace = []  # A command of root, such as unshare, in whose mount namespace the server runs.
        self._pid = None

    def plain_start_command(self):
        """Starts with what the configuration files say and nothing more."""
        return shlex.join([str(self.bindir / "pg_ctl"), "-D", str(self.pgdata), "-l", str(self.pgdata / "startup.log"),
                           "-w", "-t", "300", "start"])

    def start(self, command=None):
        shell = ["/bin/sh", "-c", command or self.start_command]
        if self.namespace:
            become = ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--reset-env"]
            done = subprocess.run([*self.namespace, *become, *shell], capture_output=True, text=True, cwd="/",
                                  timeout=COMMAND_SECONDS)
        else:
            done = run_as_postgres(shell)
        if done.returncode != 0:
            raise PostgresError(f"PostgreSQL does not start on {self.pgdata} ({done.returncode}):\n"
                                f"{command or self.start_command}\n{done.stdout}{done.stderr}{self.log_tail()}")
        self._pid = int((self.pgdata / "postmaster.pid").read_text().split("\n")[0])

    def log_tail(self, lines=40):
        try:
            text = (self.pgdata / "startup.log").read_text(errors="replace")
        except OSError as error:
            return f"(no startup.log: {error})"
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, mode="fast"):
        process = os.pidfd_open(self._pid)
        try:
            self.tool("pg_ctl", "-D", self.pgdata, "-m", mode, "-w", "-t", "300", "stop", connect=False)
            # pg_ctl returns when postmaster.pid is gone; the server still has its data directory for a moment.
            if not select.select([process], [], [], GONE_SECONDS)[0]:
                raise PostgresError(f"process {self._pid} does not end, though {self.pgdata} has no postmaster.pid")
        finally:
            os.close(process)
        self._pid = None

    def signal_to_stop(self):
        """SIGINT, a fast shutdown, and returns when the postmaster is gone. Touches no file. Needs adopt_orphans()."""
        pid, self._pid = self._pid, None
        os.kill(pid, signal.SIGINT)
        _wait_until_gone([pid])

    def crash(self):
        """SIGKILL of the postmaster and all its children. Returns when they are gone, so that it can be started again.
        Needs adopt_orphans()."""
        pid, self._pid = self._pid, None
        _wait_until_gone([pid, *self._kill_all(pid)])

    def ensure_stopped(self):
        """For cleanup: ends the server however the test ended."""
        pid, self._pid = self._pid, None
        if pid is None or not self._is_server(pid):
            return
        run_as_postgres([self.bindir / "pg_ctl", "-D", self.pgdata, "-m", "immediate", "-w", "-t", "20", "stop"])
        self._kill_all(pid)

    def _kill_all(self, pid):
        """Returns the ids of the children. They don't all end by themselves: one that waits for a lock of a process
        that died in a PANIC is ended by the postmaster alone."""
        if not self._is_server(pid):
            return []
        # Stopped, it makes no child that is not known here, and no id of a child that ended is given away.
        os.kill(pid, signal.SIGSTOP)
        while processes.state(pid) not in "TZ":
            time.sleep(0.001)
        children = processes.children(pid)
        for process in [*children, pid]:
            os.kill(process, signal.SIGKILL)
        return children

    def _is_server(self, pid):
        try:
            return os.readlink(f"/proc/{pid}/exe").split(" ")[0] == str((self.bindir / "postgres").resolve())
        except OSError:
            return False

    def _tool_command(self, name, connect):
        return [self.bindir / name, *(["-h", self.socket_dir, "-p", PORT, "-U", ACCOUNT] if connect else [])]

    def start_tool(self, name, *arguments, wrapper=(), **options):
        """Starts a program of PostgreSQL against this server; it ends with the test at the latest."""
        command = ["setpriv", "--pdeathsig", "KILL", *wrapper, *self._tool_command(name, connect=True), *arguments]
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, **_as_postgres(), **options)

    def tool(self, name, *arguments, connect=True, check=True, **options):
        """Runs a program of PostgreSQL against this server."""
        done = run_as_postgres([*self._tool_command(name, connect), *arguments], **options)
        if check and done.returncode != 0:
            raise PostgresError(f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}:\n"
                                f"{done.stdout}{done.stderr}{self.log_tail(15)}")
        return done

    def psql_command(self, database="postgres"):
        return [self.bindir / "psql", "-h", self.socket_dir, "-p", PORT, "-U", ACCOUNT, "-d", database]

    def sql(self, text, database="postgres", timeout=COMMAND_SECONDS):
        """Runs statements and returns what they print, unaligned."""
        done = self.tool("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-",
                         input=text, timeout=timeout)
        return done.stdout.rstrip("\n")

    def answers(self, database, statements):
        """The answer to each statement, all in one session."""
        marker = "--- end of an answer ---"
        script = "".join(f"{statement};\n\\echo '{marker}'\n" for statement in statements)
        parts = self.sql(script, database).split(marker)
        return [part.strip("\n") for part in parts[:len(statements)]]

    def show(self, name):
        return self.sql(f"SHOW {name}")


def settings_for_clone(socket_dir):
    """What `pbkfs mount --set` needs so that the server is reachable here and nowhere else."""
    return {"port": PORT, "unix_socket_directories": socket_dir, "listen_addresses": ""}


def make_socket_dir(path):
    user = account()
    path = pathlib.Path(path)
    path.mkdir(mode=0o755)
    os.chown(path, user.pw_uid, user.pw_gid)
    return path


def make_cluster(pgdata, major):
    """initdb with data checksums; returns the directory."""
    pgdata = pathlib.Path(pgdata)
    user = account()
    pgdata.mkdir(mode=0o700)
    os.chown(pgdata, user.pw_uid, user.pw_gid)
    done = run_as_postgres([bindir(major) / "initdb", "-D", pgdata, "-k", "-N", "-A", "trust", "-U", ACCOUNT,
                            "--locale=C.UTF-8", "-E", "UTF8"])
    if done.returncode != 0:
        raise PostgresError(f"initdb failed:\n{done.stdout}{done.stderr}")
    return pgdata

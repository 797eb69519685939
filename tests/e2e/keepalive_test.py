"""Connections whose other end is gone without a word, and clients that ask too often whether we are there."""

import os
import signal
import socket
import struct
import subprocess
import unittest

from pbkfs_e2e import api, case
from pbkfs_e2e.certificates import Authority
from pbkfs_e2e.daemon import free_port
from pbkfs_e2e.workers import wait_for_worker

# kKeepalivePeriod and kKeepaliveTimeout of service/limits.h, and as much again for a loaded machine.
VANISHED_SECONDS = 80
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ENHANCE_YOUR_CALM = 11

# Watches until the stream ends. With certificates also where the address is not there yet.
WATCHER = """
import grpc, sys
address, *files = sys.argv[1:]
ca, certificate, key = ([open(name, "rb").read() for name in files] + 3 * [None])[:3]
channel = (grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate)) if files
           else grpc.insecure_channel(address))
print("begun", flush=True)
stream = channel.unary_stream("/pbkfs.v1.MountService/WatchStats")(b"", wait_for_ready=True)
next(stream)
print("there", flush=True)
for _ in stream:
    pass
"""


def frame(kind, payload, flags=0):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, 0) + payload


def frames(stream):
    """(type, payload) of what the server sends, until it closes the connection."""
    while len(head := stream.read(9)) == 9:
        yield head[3], stream.read(int.from_bytes(head[:3], "big"))


class Keepalive(case.E2ECase):
    def test_a_client_that_pings_too_often_is_told_to_calm_down(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self.daemon.address.removeprefix("unix:"))
            # Without a call the daemon wants no more than one ping in minutes.
            connection.sendall(PREFACE + frame(SETTINGS, b"") + 10 * frame(PING, bytes(8)))
            last = [payload for kind, payload in frames(connection.makefile("rb")) if kind == GOAWAY][-1]
        self.assertEqual(ENHANCE_YOUR_CALM, int.from_bytes(last[4:8], "big"))
        self.assertIn(b"too_many_pings", last[8:])
        self.assertEqual(0, self.daemon.cli("list").returncode, "others go on")

    @unittest.skipUnless(case.FULL_TIER, "takes a minute; full tier")
    def test_the_streams_of_clients_that_vanish_end(self):
        api.need(self)
        self.daemon.stop()
        authority = Authority(self.work, "authority")
        port = self.start_in_a_network_of_its_own(authority)
        client = authority.issue("app")
        before = self.sockets()
        stopped = self.start_watcher([], self.daemon.address)
        cut_off = self.start_watcher(["unshare", "--net"], f"10.0.0.1:{port}", authority.ca, *client)
        self.connect(cut_off.pid)
        for watcher in (stopped, cut_off):
            self.assertEqual("there\n", watcher.stdout.readline())
        self.assertGreater(self.sockets(), before + 1)
        self.assertEqual(0, self.ended_streams())
        # Both are there, and neither says good-bye: one does not run, the network of the other is gone.
        os.kill(stopped.pid, signal.SIGSTOP)
        self.in_network_of(cut_off.pid, "ip", "link", "set", "client", "down")
        begin = case.Stopwatch()
        case.wait_until(lambda: self.ended_streams() == 2, VANISHED_SECONDS, "the end of both streams")
        case.wait_until(lambda: self.sockets() == before, VANISHED_SECONDS, "the end of both connections")
        self.report(f"gone after {begin}")

    def start_in_a_network_of_its_own(self, authority):
        """Returns the port of TLS."""
        certificate, key = authority.issue("server", alternative="IP:10.0.0.1")
        port = free_port()
        config = self.work / "pbkfsd.conf"
        config.write_text(f'listeners {{ address: "0.0.0.0:{port}" tls {{ certificate_file: "{certificate}" '
                          f'key_file: "{key}" client_ca_file: "{authority.ca}" }} }}\n'
                          'callers { certificate: "app" }\ncallers { uid: 0 administrator: true }\n')
        self.daemon.wrapper = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        self.daemon.start("--config", config)
        return port

    def start_watcher(self, wrapper, *arguments):
        watcher = subprocess.Popen([*wrapper, "/usr/bin/python3", "-c", WATCHER, *map(str, arguments)],
                                   stdout=subprocess.PIPE, text=True)
        for cleanup in (watcher.stdout.close, watcher.wait, watcher.kill):
            self.addCleanup(cleanup)
        self.assertEqual("begun\n", watcher.stdout.readline())
        return watcher

    def in_network_of(self, pid, *command):
        return subprocess.run(["nsenter", "--target", str(pid), "--net", *command], check=True, capture_output=True,
                              text=True).stdout

    def connect(self, client):
        """A wire from the daemon's network to that of process `client`."""
        subprocess.run(["ip", "link", "add", "server", "netns", str(self.daemon.pid), "type", "veth",
                        "peer", "name", "client", "netns", str(client)], check=True)
        for pid, name, address in ((self.daemon.pid, "server", "10.0.0.1/24"), (client, "client", "10.0.0.2/24")):
            self.in_network_of(pid, "ip", "address", "add", address, "dev", name)
            self.in_network_of(pid, "ip", "link", "set", name, "up")

    def sockets(self):
        """Of the worker; each connection of a client takes some."""
        worker = wait_for_worker(self.daemon.pid)
        found = 0
        for descriptor in os.listdir(f"/proc/{worker}/fd"):
            try:
                found += os.readlink(f"/proc/{worker}/fd/{descriptor}").startswith("socket:")
            except FileNotFoundError:
                pass  # That of the listing.
        return found

    def ended_streams(self):
        text = self.in_network_of(self.daemon.pid, "curl", "-sS", f"http://127.0.0.1:{self.daemon.metrics_port}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith("pbkfs_rpc_requests_total") and "WatchStats" in line)


if __name__ == "__main__":
    case.main()

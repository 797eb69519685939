"""What the daemon tells of itself: /metrics and Stats say the same, counters are what an application did, probes, the
status page, WatchStats, and the log."""

import html.parser
import http.client
import json
import mmap
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from pbkfs_e2e import case, daemon
from pbkfs_e2e.browser import Browser
from pbkfs_e2e.synthetic import SyntheticCatalog, largest_file

try:
    import grpc
except ImportError:
    grpc = None

BLOCK = 8192
METRICS_MD = pathlib.Path(__file__).resolve().parents[2] / "service" / "metrics" / "METRICS.md"
# What others do on the same file system, while two samples are taken.
FREE_SPACE_SLACK = 4 << 30


def documented():
    """{name: (type, labels, [field of Stats])} of METRICS.md."""
    rows = {}
    for line in METRICS_MD.read_text(encoding="utf-8").splitlines():
        if line.startswith("| pbkfs_"):
            name, kind, labels, _, _, fields = [cell.strip() for cell in line.strip("|").split("|")]
            rows[name] = (kind, labels, fields.split(", "))
    return rows


def field(message, path):
    """The number that JSON has at "io.fills": sums maps, counts histograms, seconds of durations."""
    for name in path.split("."):
        name = re.sub(r"_(\w)", lambda match: match.group(1).upper(), name)
        message = message[name]
    return number(message)


def number(value):
    if isinstance(value, dict):
        return sum(map(int, value["buckets"])) if "buckets" in value else sum(map(number, value.values()))
    if isinstance(value, str) and re.fullmatch(r"-?[\d.]+s?", value):
        return float(value.rstrip("s"))
    return float(value) if isinstance(value, (int, float)) else 1.0


class Page(html.parser.HTMLParser):
    """Fails on what does not nest, and remembers tags and text."""

    VOID = {"meta"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        if self.open:
            raise AssertionError(f"left open: {self.open}")

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


class MetricsCase(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self, relations=1, blocks=40)
        self.root = self.work / "m"

    def mount(self, *extra, target=None):
        self.daemon.mount(self.catalog.store, "node", None, target or self.root, extra=("--id", "m", *extra))

    def relation(self):
        return largest_file(self.root / "base")

    def ask(self, path, method="GET", timeout=30):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.metrics_port, timeout=timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()


class Figures(MetricsCase):
    def some_load(self):
        path = self.relation()
        with open(path, "r+b") as file:
            file.write(b"x" * 100)
            os.fsync(file.fileno())
        path.read_bytes()
        (self.root / "missing").exists()

    def test_metrics_and_stats_say_the_same(self):
        self.mount()
        self.some_load()
        before = self.daemon.call("stats")
        samples = self.daemon.metrics()
        after = self.daemon.call("stats")
        seen = set()
        for name, (kind, labels, fields) in documented().items():
            with self.subTest(name=name):
                bounds = []
                for stats in (before, after):
                    message = stats["mounts"][0] if labels.startswith("mount") else stats["daemon"]
                    bounds.append(1 if name.endswith("_info") else sum(field(message, path) for path in fields))
                suffix = "_count" if kind == "histogram" else ""
                found = daemon.series(samples, name + suffix)
                self.assertTrue(found, "/metrics has no such series")
                seen |= {re.sub(r"_(count|sum|bucket)$", "", series.split("{")[0]) if suffix else name
                         for series in found}
                slack = FREE_SPACE_SLACK if name == "pbkfs_diff_fs_free_bytes" else 0
                self.assertLessEqual(min(bounds) - slack, sum(found.values()))
                self.assertGreaterEqual(max(bounds) + slack, sum(found.values()))
        histograms = {name for name, row in documented().items() if row[0] == "histogram"}
        names = {re.sub(r"_(count|sum|bucket)$", "", series.split("{")[0]) for series in samples}
        plain = {series.split("{")[0] for series in samples}
        self.assertEqual(seen, {name for name in names | plain if name in seen or name not in histograms and
                                not re.sub(r"_(count|sum|bucket)$", "", name) in histograms and name in plain},
                         "METRICS.md does not have all that /metrics has")

    def test_promtool_is_content(self):
        self.need(shutil.which("promtool"), "promtool is missing; install the package prometheus")
        self.mount()
        self.some_load()
        checked = subprocess.run(["promtool", "check", "metrics"], input=self.ask("/metrics")[2], text=True,
                                 capture_output=True, timeout=60)
        self.assertEqual((0, ""), (checked.returncode, checked.stdout + checked.stderr))

    def test_counters_are_what_the_application_did(self):
        self.mount()
        path = self.relation()
        size = path.stat().st_size
        with open(path, "r+b") as file:
            file.write(b"w" * 3 * BLOCK)
            os.ftruncate(file.fileno(), size + 5 * BLOCK)
        self.settle()
        before = self.daemon.stats("m")
        page = mmap.mmap(-1, BLOCK)
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        reads = [os.preadv(fd, [page], block * BLOCK) for block in list(range(size // BLOCK + 5)) * 2]
        writes = [os.pwritev(fd, [page], block * BLOCK) for block in range(7)]
        os.fsync(fd)
        os.close(fd)
        self.settle()

        def answered():
            """A request is counted right after its answer."""
            stats = self.daemon.stats("m")
            return stats if field(stats, "fuse.requests") - field(before, "fuse.requests") >= \
                len(reads) + len(writes) + 3 else None

        after = case.wait_until(answered, 30, "the count of the last request")

        def grown(*paths):
            return sum(field(after, path) - field(before, path) for path in paths)

        self.assertEqual(sum(reads), grown("io.read_bytes_diff", "io.read_bytes_backup", "io.read_bytes_zero"))
        self.assertEqual(2 * 3 * BLOCK, grown("io.read_bytes_diff"))
        self.assertEqual(2 * 5 * BLOCK, grown("io.read_bytes_zero"))
        self.assertEqual(sum(writes), grown("io.written_bytes"))
        self.assertEqual(0, grown("io.blocks_copied"), "whole blocks need nothing of the backup")
        requests = {op: int(count) - int(before["fuse"]["requests"].get(op, 0))
                    for op, count in after["fuse"]["requests"].items()}
        self.assertEqual((len(reads), len(writes), 1, 1, 1),
                         tuple(requests.get(op, 0) for op in ("read", "write", "fsync", "open", "release")))
        timed = {op: number(durations) - number(before["fuse"]["requestDurations"].get(op, 0))
                 for op, durations in after["fuse"]["requestDurations"].items()}
        self.assertEqual(requests, timed, "every request is timed")

    def settle(self):
        """Until the kernel has told of every close: it does not wait for the answer."""
        def closed():
            requests = self.daemon.stats("m")["fuse"]["requests"]
            opened = sum(int(requests.get(op, 0)) for op in ("open", "create"))
            return opened == int(requests.get("release", 0))
        case.wait_until(closed, 30, "the release of every file")


class Web(MetricsCase):
    def test_paths_and_methods(self):
        self.mount()
        self.assertEqual((200, "ok\n"), self.ask("/healthz")[::2])
        self.assertEqual((200, "ready\n"), self.ask("/readyz")[::2])
        for path in ("/metrics", "/", "/healthz", "/readyz"):
            status, headers, body = self.ask(path, "HEAD")
            self.assertEqual((200, ""), (status, body), path)
            self.assertGreater(int(headers["Content-Length"]), 2, path)
            self.assertEqual("no-store", headers["Cache-Control"])
        self.assertTrue(self.ask("/metrics?x=y")[1]["Content-Type"].startswith("text/plain; version=0.0.4"))
        for path in ("/other", "/metrics/x", "/index.html", "/../etc/passwd"):
            self.assertEqual(404, self.ask(path)[0], path)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            status, headers, _ = self.ask("/metrics", method)
            self.assertEqual((405, "GET, HEAD"), (status, headers["Allow"]), method)

    def test_a_daemon_that_stops_is_alive_and_not_ready(self):
        self.mount()
        with open(self.root / "PG_VERSION", "rb"):
            self.daemon.process.send_signal(signal.SIGTERM)
            body = case.wait_until(lambda: [body for status, _, body in [self.ask("/readyz")] if status == 503], 30,
                                   "a daemon that is not ready")[0]
            self.assertIn("the daemon is stopping", body)
            self.assertEqual(200, self.ask("/healthz")[0])
            self.assertIn("not ready", Page(self.ask("/")[2]).text)
        self.assertEqual(0, self.daemon.stop())
        self.daemon = None

    def test_slow_clients_hold_nobody_up(self):
        self.mount()
        clients = [socket.create_connection(("127.0.0.1", self.daemon.metrics_port)) for _ in range(40)]
        stop = threading.Event()
        try:
            for index, client in enumerate(clients):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                if index % 3:
                    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + (b"\r\n" if index % 3 == 2 else b""))

            def drip():
                while not stop.wait(0.2):
                    for client in clients:
                        try:
                            client.send(b"x")
                        except OSError:
                            pass  # It was cut off.

            dripping = threading.Thread(target=drip)
            dripping.start()
            watch = case.Stopwatch()
            status, _, body = self.ask("/metrics", timeout=60)
            self.report(f"a scrape beside 40 slow clients took {watch}")
            self.assertEqual(200, status)
            self.assertIn("pbkfs_build_info", body)
        finally:
            stop.set()
            dripping.join()
            for client in clients:
                client.close()

    def test_the_status_page_is_sound_whatever_the_names_are(self):
        target = self.work / "m <b>&'amp;"
        self.mount(target=target)
        largest_file(target / "base").read_bytes()
        page = Page(self.ask("/")[2])
        self.assertIn(str(target), page.text)
        self.assertIn("active", page.text)
        tags = [tag for tag, _ in page.tags]
        self.assertEqual([], [tag for tag in tags if tag in ("script", "img", "link", "iframe", "object", "b'")])
        metas = [attributes for tag, attributes in page.tags if tag == "meta"]
        self.assertTrue(any(meta.get("http-equiv") == "refresh" for meta in metas))
        self.assertTrue(any("width=device-width" in meta.get("content", "") for meta in metas))
        for _, attributes in page.tags:
            for name in ("src", "href"):
                self.assertNotIn(":", attributes.get(name, ""), "an external asset")
        self.daemon.unmount("m")
        self.assertIn("Nothing is mounted", Page(self.ask("/")[2]).text)


@unittest.skipUnless(case.FULL_TIER, "Chromium: in the full tier")
class InABrowser(MetricsCase):
    def test_the_status_page_fits_a_phone_and_a_desktop(self):
        browser = Browser(self)
        self.mount()
        broken = SyntheticCatalog(self, name="broken", relations=1, blocks=40, backups=1)
        stored = largest_file(broken.directory / broken.ids[-1] / "database" / "base")
        content = bytearray(stored.read_bytes())
        content[len(content) // 2] ^= 0x55
        self.daemon.mount(broken.store, "node", None, self.work / "nightly", extra=("--id", "nightly-amcheck"))
        stored.write_bytes(content)
        for index in range(4):
            self.daemon.mount(self.catalog.store, "node", None, self.work / ("a-rather-long-name-of-a-target" * 3 +
                              str(index)), extra=("--id", f"clone-of-production-{index}"))
        for path in (self.work / "nightly" / "base").rglob("*"):
            try:
                path.is_file() and path.read_bytes()
            except OSError:
                pass
        with open(self.relation(), "r+b") as file:
            file.write(b"w" * 20 * BLOCK)
        self.relation().read_bytes()
        url = f"http://127.0.0.1:{self.daemon.metrics_port}/"
        for name, width, height, dark in (("phone", 390, 844, False), ("phone-dark", 390, 844, True),
                                          ("desktop", 1280, 900, False), ("desktop-dark", 1280, 900, True)):
            with self.subTest(name=name):
                image = browser.screenshot(url, self.work / f"{name}.png", width, height, dark)
                self.assertEqual((width, height), image.size)
                self.assertGreater(image.colours, 20, "nothing but a background was drawn")
                background = image.pixel(2, height - 2)
                self.assertEqual(dark, sum(background) < 3 * 128, f"{background} is not the colour of that scheme")
        # Nothing is wider than a phone.
        self.assertLessEqual(browser.scroll_width(url, 390, 844), 390)


class Watch(MetricsCase):
    def watch(self, *arguments):
        command = [str(daemon.build_dir() / "client" / "pbkfs"), "--address", self.daemon.address, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_watching_shows_what_happens_and_ends_with_the_mount(self):
        self.mount()
        watching = self.watch("stats", "m", "--watch")
        header = watching.stdout.readline()
        for word in ("OPS/S", "P50 / P99", "GROWTH/S", "OLDEST", "CACHE HITS"):
            self.assertIn(word, header)
        self.assertIn(" m ", watching.stdout.readline())
        self.assertIn(" m ", watching.stdout.readline())
        self.daemon.unmount("m")
        _, errors = watching.communicate(timeout=60)
        self.assertEqual(3, watching.returncode)
        self.assertIn("MOUNT_NOT_FOUND", errors)

    def test_reset_counts_from_the_start_of_the_command(self):
        self.mount()
        self.relation().read_bytes()
        read = int(self.daemon.stats("m")["io"]["readBytesBackup"])
        self.assertGreater(read, 0)
        one = self.daemon.call("stats", "m", "--reset")["mounts"][0]
        self.assertEqual(0, int(one["io"]["readBytesBackup"]))
        self.assertEqual(read, int(self.daemon.stats("m")["io"]["readBytesBackup"]), "the counters go on")
        self.assertIn("OPS/S", self.daemon.cli("stats", "--reset").stdout)

    def test_many_streams_cost_no_threads(self):
        self.need(grpc, "python3-grpcio is not installed")
        self.mount()
        threads = self.threads()
        with grpc.insecure_channel(self.daemon.address) as channel:
            ask = channel.unary_stream("/pbkfs.v1.MountService/WatchStats")
            streams = [ask(b"\x0a\x01m") for _ in range(40)]
            for stream in streams:
                next(stream)
            self.assertLess(self.threads() - threads, 20)
            for stream in streams:
                stream.cancel()
        calls = daemon.series(self.daemon.metrics(), "pbkfs_rpc_requests_total", method="MountService.WatchStats",
                              code="CANCELLED")
        case.wait_until(lambda: sum(daemon.series(self.daemon.metrics(), "pbkfs_rpc_requests_total",
                                                  method="MountService.WatchStats").values()) == 40, 30,
                        f"the end of every stream (first seen: {calls})")

    def threads(self):
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in daemon.descendants(self.daemon.pid))


class Log(MetricsCase):
    def start_daemon(self):
        super().start_daemon()
        self.assertEqual(0, self.daemon.stop())
        self.daemon.log_path = self.work / "log.json"
        self.daemon.start("--log-format", "json", "--stats-interval", "200ms")

    def records(self):
        text = self.daemon.log_path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].split("\n") if line]

    def events(self, name):
        return [record for record in self.records() if record.get("event") == name]

    def test_deltas_add_up_and_the_chain_is_told(self):
        self.mount()
        path = self.relation()
        with open(path, "r+b") as file:
            file.write(b"x" * 1000)
        path.read_bytes()
        wanted = self.daemon.stats("m")["io"]
        for key, json_key in (("written_bytes", "writtenBytes"), ("read_bytes_backup", "readBytesBackup"),
                              ("blocks_copied", "blocksCopied")):
            case.wait_until(lambda key=key, total=int(wanted[json_key]):
                            sum(event[key] for event in self.events("overlay_io")) == total, 30, f"all {key} in the log")
        chain = " <- ".join(f"{self.catalog.control(name)['backup-mode']} {name}" for name in self.catalog.ids)
        self.assertEqual([chain], [event["chain"] for event in self.events("mounted")])
        self.daemon.unmount("m")
        time.sleep(0.3)
        count = len(self.events("overlay_io"))
        time.sleep(0.5)
        self.assertEqual(count, len(self.events("overlay_io")), "a mount that is gone is in the log")

    def test_a_data_error_names_its_place_and_is_not_repeated_without_end(self):
        stored = largest_file(self.catalog.directory / self.catalog.ids[0] / "database" / "base")
        self.mount()
        path = self.relation()
        content = bytearray(stored.read_bytes())
        for position in range(50, len(content), 97):
            content[position] ^= 0x55
        with open(stored, "r+b") as file:
            file.write(content)
        errors = 0
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for _ in range(50):
            for block in range(3):
                try:
                    os.preadv(fd, [mmap.mmap(-1, BLOCK)], block * BLOCK)
                except OSError:
                    errors += 1
        os.close(fd)
        self.assertGreaterEqual(errors, 50, "the damage is not found")
        lines = [record["message"] for record in self.records() if record["level"] == "error"]
        self.assertTrue(lines)
        self.assertLessEqual(len(lines), 3 * 5, "repeated lines")
        name = str(path.relative_to(self.root))
        self.assertTrue(any(name in line and "block 0" in line and self.catalog.ids[0] in line and "position" in line
                            for line in lines), lines)


if __name__ == "__main__":
    case.main()

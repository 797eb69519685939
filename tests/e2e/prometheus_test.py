"""deploy/prometheus and deploy/grafana with a real Prometheus: rules, alerts and every expression of the dashboard."""

import json
import mmap
import os
import re
import subprocess
import threading
import unittest

from pbkfs_e2e import case, postgres
from pbkfs_e2e.prometheus import DEPLOY, Prometheus, promtool
from pbkfs_e2e.synthetic import SyntheticCatalog, largest_file

WAIT_SECONDS = 180
BLOCK = 8192
DASHBOARD = DEPLOY / "grafana" / "pbkfs.json"
# What Grafana would put in.
VARIABLES = {"$job": "pbkfs", "$instance": ".*", "$mount": ".*", "$op": "read", "$__rate_interval": "15s"}
NAME = r"(?:pbkfs_|mount:pbkfs_|instance:pbkfs_|up\b)[a-z0-9_:]*"


def dashboard_expressions():
    """[(title, expression)] with Grafana's variables put in."""
    found = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def rules(prometheus):
    return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]


class Files(case.E2ECase):
    def start_daemon(self):
        pass  # None is needed.

    def setUp(self):
        super().setUp()
        try:
            promtool("--version")
        except FileNotFoundError:
            self.need(False, "promtool is missing; install the package prometheus")

    def test_configuration_and_rules_are_sound(self):
        for arguments in (("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
                          ("test", "rules", DEPLOY / "prometheus" / "rules_test.yml")):
            done = promtool(*arguments)
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_every_rule_has_a_test_and_every_alert_one_that_does_not_fire(self):
        tests = (DEPLOY / "prometheus" / "rules_test.yml").read_text()
        for alert in re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text()):
            self.assertIn(f"{{alertname: {alert}, eval_time: ", tests, "no test that it does not fire")
            self.assertIn(f"- alertname: {alert}\n", tests, "no test that it fires")
        for record in re.findall(r"- record: (\S+)", (DEPLOY / "prometheus" / "rules.yml").read_text()):
            self.assertRegex(tests, rf"- expr: .*{re.escape(record)}", "no test of a recording rule")

    def test_the_dashboard_is_sound(self):
        dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            self.assertFalse(cells & taken, f"{panel['title']} lies over another panel")
            taken |= cells
        for title, expression in dashboard_expressions():
            self.assertNotIn("$", expression, title)


class Scrape(case.E2ECase):
    def start_prometheus(self):
        self.target = f"127.0.0.1:{self.daemon.metrics_port}"
        return Prometheus(self, [self.target])

    def wait_for(self, prometheus, expression, what=None):
        return case.wait_until(lambda: prometheus.query(expression), WAIT_SECONDS, what or f"a series of {expression}")

    def test_series_begin_and_end_with_the_mount(self):
        catalog = SyntheticCatalog(self, relations=1)
        self.daemon.mount(catalog.store, "node", None, self.work / "one")
        self.daemon.mount(catalog.store, "node", None, self.work / "two")
        largest_file(self.work / "one" / "base").read_bytes()
        read = int(self.daemon.stats("one")["io"]["readBytesBackup"])
        prometheus = self.start_prometheus()
        self.wait_for(prometheus, f'pbkfs_overlay_read_bytes_total{{mount="one",source="backup"}} == {read}')
        self.assertEqual([1.0], [value for _, value in self.wait_for(prometheus, 'up{job="pbkfs"}')])
        labels = self.wait_for(prometheus, 'pbkfs_mount_info{mount="two"}')[0][0]
        self.assertEqual(("node", self.target), (labels["exported_instance"], labels["instance"]))
        # Gone means gone: not a flat line for five more minutes, as the rates that rules record of it are.
        self.daemon.unmount("one")
        case.wait_until(lambda: not prometheus.query('{mount="one",job="pbkfs",__name__=~"pbkfs_.*"}'), WAIT_SECONDS,
                        "the end of the mount's series")
        self.assertTrue(prometheus.query('pbkfs_overlay_read_bytes_total{mount="two"}'))


@unittest.skipUnless(case.FULL_TIER, "pgbench under Prometheus: in the full tier")
class UnderLoad(Scrape):
    test_series_begin_and_end_with_the_mount = None

    def setUp(self):
        super().setUp()
        self.need(postgres.account(), "user postgres does not exist; install postgresql")

    def start_postgres(self):
        """A server on a mount of a real backup, and pgbench's tables in it."""
        backup = next((chain[-1] for catalog in self.catalogs() for chain in catalog.startable_chains()
                       if postgres.bindir(chain[-1].server_version)), None)
        self.need(backup, "no backup of a server that is installed here")
        sockets = postgres.make_socket_dir(self.work / "s")
        mount = self.daemon.mount(backup.store, backup.instance, backup.id, self.work / "pg", owner="postgres:postgres",
                                  settings=postgres.settings_for_clone(sockets),
                                  extra=("--default-config", "--materialize-on-read"))
        server = postgres.Server(self.work / "pg", sockets, backup.server_version, mount["startCommand"])
        self.addCleanup(server.ensure_stopped)
        server.start()
        server.tool("pgbench", "-i", "-q", "-s", "2", "postgres")
        return server

    def damage(self):
        """A mount whose backup is damaged, and requests on it that fail with other errors than EIO."""
        catalog = SyntheticCatalog(self, relations=1, blocks=40, backups=1)
        self.daemon.mount(catalog.store, "node", None, self.work / "bad")
        path = largest_file(self.work / "bad" / "base")
        stored = catalog.directory / catalog.ids[0] / "database" / path.relative_to(self.work / "bad")
        content = bytearray(stored.read_bytes())
        content[len(content) // 2] ^= 0x55
        stored.write_bytes(content)
        with self.assertRaises(OSError):
            path.read_bytes()
        with self.assertRaises(OSError):
            (self.work / "bad" / "base").rmdir()

    def keep_reading(self, directory):
        """Reads relations past the kernel's cache, in the background until the test ends."""
        stop = threading.Event()

        def work():
            page = mmap.mmap(-1, BLOCK)
            paths = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size >= 4 * BLOCK][:40]
            while not stop.wait(0.1):
                for path in paths:
                    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
                    for block in range(4):
                        try:
                            os.preadv(fd, [page], block * BLOCK)
                        except OSError:
                            pass  # It may be the damaged one.
                    os.close(fd)

        thread = threading.Thread(target=work)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)

    def test_every_expression_returns_what_is_due(self):
        server = self.start_postgres()
        self.damage()
        prometheus = self.start_prometheus()
        load = server.start_tool("pgbench", "-T", "3600", "-c", "2", "postgres", stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        # One whose reads come from its diff by and by, and one whose reads come from its backup.
        self.keep_reading(self.work / "pg" / "base")
        self.keep_reading(self.work / "bad" / "base")
        wanted = [(record["name"], record["name"]) for record in rules(prometheus) if record["type"] == "recording"]
        wanted += dashboard_expressions()

        def empty():
            return [(title, expression) for title, expression in wanted if not prometheus.query(expression)]

        try:
            case.wait_until(lambda: not empty(), WAIT_SECONDS, "a series for every expression")
        except AssertionError:
            self.assertEqual([], empty(), "expressions without a series")
        # Alerts are mostly silent; what they look at must be there.
        for rule in [rule for rule in rules(prometheus) if rule["type"] == "alerting"]:
            prometheus.query(rule["query"])
            for selector in re.findall(rf"{NAME}(?:\{{[^}}]*\}})?", rule["query"]):
                if selector not in ("mount", "instance"):
                    self.wait_for(prometheus, selector, f"{rule['name']}: {selector}")
        # Two that are due, from end to end, and none of those that would wake somebody for nothing.
        fired = case.wait_until(lambda: [labels for labels in prometheus.alerts()
                                         if labels["alertname"] in ("PbkfsDataErrors", "PbkfsIoErrors")][1:],
                                WAIT_SECONDS, "the alerts about damage")
        self.assertEqual({"bad"}, {labels["mount"] for labels in fired})
        names = {labels["alertname"] for labels in prometheus.alerts()}
        self.assertFalse(names & {"PbkfsDown", "PbkfsMountFailed", "PbkfsRequestHung", "PbkfsCacheThrash"}, names)
        self.assertIsNone(load.poll(), "pgbench ended before the end of the test")
        load.kill()
        load.wait()
        server.stop()


if __name__ == "__main__":
    case.main()

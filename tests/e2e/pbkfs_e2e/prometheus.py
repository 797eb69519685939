"""A real Prometheus as a fixture: Debian's program with the configuration of deploy/prometheus, faster."""

import json
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from pbkfs_e2e.daemon import free_port

DEPLOY = pathlib.Path(__file__).resolve().parents[3] / "deploy"
START_SECONDS = 60
STOP_SECONDS = 60


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)


class Prometheus:
    """Scrapes `targets` ("HOST:PORT") every `interval`, and evaluates the rules as often."""

    def __init__(self, test, targets, interval="1s"):
        test.need(shutil.which("prometheus"), "prometheus is missing; install the package prometheus")
        self._directory = test.work / "prometheus"
        self._directory.mkdir()
        for name in ("rules.yml", "alerts.yml"):
            shutil.copy(DEPLOY / "prometheus" / name, self._directory)
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        text, count = re.subn(r"_interval: \w+", f"_interval: {interval}", text)
        text, targets_found = re.subn(r"targets: \[.*\]", f"targets: {json.dumps(targets)}", text)
        if (count, targets_found) != (2, 1):
            raise AssertionError("deploy/prometheus/prometheus.yml is not as this test expects it")
        (self._directory / "prometheus.yml").write_text(text)
        self._process = None
        test.addCleanup(self.stop)
        self._start()

    def _start(self):
        # The free port can be taken by someone else before Prometheus binds it: try again.
        for _ in range(3):
            self._port = free_port()
            with open(self._directory / "log", "ab") as log:
                self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "prometheus", f"--config.file={self._directory}/prometheus.yml",
                     f"--storage.tsdb.path={self._directory}/data", f"--web.listen-address=127.0.0.1:{self._port}"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5).close()
                    return
                except OSError:
                    time.sleep(0.05)
            self.stop()
        raise AssertionError(f"Prometheus does not start:\n{(self._directory / 'log').read_text()[-3000:]}")

    def stop(self):
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """[(labels, value)] as of now."""
        return [(series["metric"], float(series["value"][1])) for series in self.get("query", query=expression)["result"]]

    def alerts(self):
        """Names and labels of what fires."""
        return [alert["labels"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]

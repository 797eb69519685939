"""Headless Chromium, for pages that people look at; nothing but the full tier needs it."""

import html
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import urllib.request
import zlib

SECONDS = 120


class Image:
    """An 8-bit RGB or RGBA image of a PNG file."""

    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        if data[:8] != b"\x89PNG\r\n\x1a\n":
            raise AssertionError(f"{path} is no PNG")
        packed, at = b"", 8
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at:at + 8])
            body = data[at + 8:at + 8 + length]
            if kind == b"IHDR":
                width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            elif kind == b"IDAT":
                packed += body
            at += length + 12
        self.size = (width, height)
        self._channels = {2: 3, 6: 4}[colour]
        if depth != 8:
            raise AssertionError(f"{path} has {depth} bits")
        self._rows = self._unfilter(zlib.decompress(packed), width * self._channels)

    def _unfilter(self, raw, stride):
        rows, above, step = [], bytearray(stride), self._channels
        for start in range(0, len(raw), stride + 1):
            kind, row = raw[start], bytearray(raw[start + 1:start + 1 + stride])
            for i in range(stride if kind else 0):
                left = row[i - step] if i >= step else 0
                up, corner = above[i], above[i - step] if i >= step else 0
                if kind == 4:
                    estimate = left + up - corner
                    distances = (abs(estimate - left), abs(estimate - up), abs(estimate - corner))
                    guess = (left, up, corner)[distances.index(min(distances))]
                else:
                    guess = (left, up, (left + up) // 2)[kind - 1]
                row[i] = (row[i] + guess) & 0xFF
            rows.append(row)
            above = row
        return rows

    def pixel(self, x, y):
        return tuple(self._rows[y][x * self._channels:x * self._channels + 3])

    @property
    def colours(self):
        return len({self.pixel(x, y) for y in range(0, self.size[1], 3) for x in range(0, self.size[0], 3)})


class Browser:
    """`test` skips where there is no Chromium. Screenshots are kept in PBKFS_SCREENSHOTS, if that is set."""

    def __init__(self, test):
        self._program = shutil.which("chromium") or shutil.which("chromium-browser")
        test.need(self._program, "Chromium is missing; install the package chromium")
        self._profile = tempfile.mkdtemp(prefix="profile-", dir=test.work)

    def _run(self, *arguments):
        done = subprocess.run(
            [self._program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
             f"--user-data-dir={self._profile}", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        if done.returncode != 0:
            raise AssertionError(f"chromium ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def screenshot(self, url, path, width, height, dark=False):
        self._run(f"--screenshot={path}", f"--window-size={width},{height}",
                  f"--blink-settings=preferredColorScheme={0 if dark else 1}", url)
        if os.environ.get("PBKFS_SCREENSHOTS"):
            shutil.copy(path, os.environ["PBKFS_SCREENSHOTS"])
        return Image(path)

    def scroll_width(self, url, width, height):
        """How wide the page is in a frame of this size; a window has a least width of its own."""
        page = urllib.request.urlopen(url, timeout=30).read().decode()
        copy = pathlib.Path(self._profile) / "frame.html"
        copy.write_text(
            f'<!doctype html><body><iframe style="width:{width}px;height:{height}px;border:0" srcdoc="{html.escape(page)}">'
            "</iframe><script>onload = () => { document.body.dataset.width = "
            "document.querySelector('iframe').contentDocument.documentElement.scrollWidth }</script>", encoding="utf-8")
        return int(re.search(r'data-width="(\d+)"', self._run("--dump-dom", copy.as_uri())).group(1))

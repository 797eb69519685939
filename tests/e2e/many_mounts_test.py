"""Many mounts in one daemon: apart from one another, and each with its own figures and health."""

import os

from pbkfs_e2e import api, case, daemon
from pbkfs_e2e.synthetic import SyntheticCatalog


class ManyMounts(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.catalog = SyntheticCatalog(self)

    def mount(self, name, backup):
        return self.daemon.mount(self.catalog.store, "node", backup, self.work / name)

    def relation(self, name):
        base = self.work / name / "base"
        files = [path for path in sorted(base.rglob("*")) if path.is_file() and path.stat().st_size >= 2 * 8192]
        self.assertTrue(files, f"no relation of two blocks below {base}")
        return files[0]

    def written_bytes(self, name):
        return int(self.daemon.stats(name)["io"]["writtenBytes"])

    def test_writes_in_one_mount_do_not_show_in_the_others(self):
        newest, oldest = self.catalog.ids[-1], self.catalog.ids[0]
        names = {"one": newest, "two": newest, "three": newest, "old": oldest}
        for name, backup in names.items():
            self.assertEqual(backup, self.mount(name, backup)["backupId"])
        original = {name: self.relation(name).read_bytes() for name in names}
        written = {name: self.written_bytes(name) for name in names}
        for index, name in enumerate(("one", "two")):
            with open(self.relation(name), "r+b") as file:
                file.seek(8192)
                file.write(bytes([0xA0 + index]) * 8192)
                os.fsync(file.fileno())
            (self.work / name / f"only-in-{name}").write_text(name)
        (self.work / "one" / "PG_VERSION").unlink()

        for name, content in original.items():
            expected = content
            if name in ("one", "two"):
                fill = bytes([0xA0 + ("one", "two").index(name)]) * 8192
                expected = content[:8192] + fill + content[16384:]
            self.assertEqual(expected, self.relation(name).read_bytes(), f"content of mount {name}")
            listed = os.listdir(self.work / name)
            self.assertEqual([f"only-in-{name}"] if name in ("one", "two") else [],
                             [entry for entry in listed if entry.startswith("only-in-")])
            self.assertEqual(name != "one", "PG_VERSION" in listed)

        self.assertEqual(sorted(names), sorted(m["mountId"] for m in self.daemon.call("list")["mounts"]))
        self.assertEqual(sorted(names), sorted(m["mountId"] for m in self.daemon.call("stats")["mounts"]))
        grown = {name: self.written_bytes(name) - written[name] for name in names}
        self.assertEqual({"one": 8195, "two": 8195, "three": 0, "old": 0}, grown)
        self.daemon.unmount("two")
        self.assertEqual(original["three"], self.relation("three").read_bytes())
        self.assertTrue((self.work / "one" / "only-in-one").exists())

    def test_metrics_and_stats_agree_and_go_with_the_mount(self):
        self.mount("a", self.catalog.ids[-1])
        self.mount("b", self.catalog.ids[-1])
        relation = self.relation("a")
        content = relation.read_bytes()
        written = self.written_bytes("a")
        with open(relation, "r+b") as file:
            file.write(content[:100])
        # The health check reads too: what /metrics says lies between two answers of stats.
        first = self.daemon.stats("a")["io"]
        samples = self.daemon.metrics()
        second = self.daemon.stats("a")["io"]
        self.assertEqual(100, int(first["writtenBytes"]) - written)
        self.assertGreater(int(first["readBytesBackup"]), 0)
        for key, name, labels in (("readBytesBackup", "pbkfs_overlay_read_bytes_total", {"source": "backup"}),
                                  ("readBytesDiff", "pbkfs_overlay_read_bytes_total", {"source": "diff"}),
                                  ("readBytesZero", "pbkfs_overlay_read_bytes_total", {"source": "zero"}),
                                  ("writtenBytes", "pbkfs_overlay_written_bytes_total", {}),
                                  ("blocksCopied", "pbkfs_overlay_blocks_copied_total", {}),
                                  ("handleHits", "pbkfs_handle_hits_total", {}),
                                  ("handleMisses", "pbkfs_handle_misses_total", {}),
                                  ("cacheHits", "pbkfs_page_cache_hits_total", {}),
                                  ("cacheMisses", "pbkfs_page_cache_misses_total", {})):
            found = daemon.series(samples, name, mount="a", **labels)
            self.assertTrue(found, f"/metrics has no {name}{labels} of the mount")
            self.assertLessEqual(int(first[key]), sum(found.values()), name)
            self.assertGreaterEqual(int(second[key]), sum(found.values()), name)
        self.assertEqual(2, sum(daemon.series(samples, "pbkfs_mounts", state="active").values()))

        self.daemon.unmount("a")
        samples = self.daemon.metrics()
        self.assertEqual([], [name for name in samples if 'mount="a"' in name], "series of a mount that is gone")
        self.assertTrue(daemon.series(samples, "pbkfs_overlay_read_bytes_total", mount="b"))

    def test_health_follows_the_mounts(self):
        api.need(self)
        copy = SyntheticCatalog.copy_of(self.catalog, self.work / "doomed")
        with api.Api(self.daemon.address) as service:
            self.assertEqual("SERVING", service.health_of(""))
            self.mount("a", self.catalog.ids[-1])
            self.daemon.mount(copy.store, "node", None, self.work / "b")
            for name in ("a", "b"):
                self.assertEqual("SERVING", service.health_of(f"mount/{name}"))
            copy.remove(copy.ids[-1])
            case.wait_until(lambda: service.health_of("mount/b") == "NOT_SERVING", 15, "bad health")
            self.assertEqual("SERVING", service.health_of("mount/a"))
            self.daemon.unmount("a")
            self.assertEqual("NOT_FOUND", service.health_of("mount/a"))


if __name__ == "__main__":
    case.main()

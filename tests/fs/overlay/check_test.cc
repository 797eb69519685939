// Checks of diffs that an overlay wrote: a good one has no findings, and whatever is damaged in a
// diff directory is either found or changes nothing that a mount shows. PBKFS_CHECK_SEEDS=N runs N
// seeds, PBKFS_CHECK_SEED=S only the seed S: a failure prints the latter.
#include "fs/diff/check.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

namespace stdfs = std::filesystem;
using testsupport::MemoryTree;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;
using testsupport::TemporaryDirectory;

constexpr int64_t kB = kBlockSize;

std::map<std::string, MemoryTree::Entry> Lower() {
  std::map<std::string, MemoryTree::Entry> lower;
  int seed = 0;
  for (const char* directory : {"a", "b", "b/c"}) {
    for (const char* name : {"p", "q", "r"}) {
      lower[std::string(directory) + "/" + name] = {
          S_IFREG | 0600, Page(++seed, static_cast<size_t>(3 * kB + 100))};
    }
  }
  return lower;
}

// Random operations on few names, so that they meet. What can't be done is no matter here.
void Workload(OverlayFixture& fs, std::mt19937_64& random, int steps) {
  const char* directories[] = {"a/", "b/", "b/c/", "d/", "a/e/"};
  const auto path = [&] {
    return directories[random() % 5] + std::string(1, "pqrstuv"[random() % 7]);
  };
  const auto offset = [&] { return static_cast<int64_t>(random() % (5 * kB)); };
  for (int step = 0; step < steps; ++step) {
    const std::string at = path();
    switch (random() % 12) {
      case 0:
        fs.Mkdir(random() % 2 == 0 ? "d" : "a/e").IgnoreError();
        break;
      case 1:
        fs.Create(at).IgnoreError();
        break;
      case 2:
      case 3:
      case 4:
        fs.Write(at, offset(), Page(step, 1 + random() % (2 * kB))).IgnoreError();
        break;
      case 5:
        fs.Truncate(at, offset()).IgnoreError();
        break;
      case 6:
        fs.Rename(at, path()).IgnoreError();
        break;
      case 7:
        if (random() % 8 == 0) fs.Rename("b/c", "d/c").IgnoreError();
        if (random() % 8 == 0) fs.Rmdir("d").IgnoreError();
        if (random() % 8 == 0) fs.Rmdir("b/c").IgnoreError();
        break;
      case 8:
        fs.Link(at, path()).IgnoreError();
        break;
      case 9:
        fs.Unlink(at).IgnoreError();
        break;
      case 10:
        if (const uint64_t ino = fs.Ino(at); ino != 0) fs.overlay().Fsync(ino).IgnoreError();
        break;
      default:
        if (const uint64_t ino = fs.Ino(at); ino != 0) {
          const int mode = random() % 3 == 0 ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
          fs.overlay()
              .Allocate(ino, mode, offset(), static_cast<int64_t>(1 + random() % (3 * kB)))
              .IgnoreError();
        }
    }
  }
}

std::string Describe(const DiffCheckReport& report) {
  std::string text;
  for (const DiffFinding& finding : report.findings.list()) {
    text += finding.code + " " + finding.subject + ": " + finding.message + "\n";
  }
  return text;
}

// Everything that a mount shows, by path.
std::map<std::string, std::string> Contents(OverlayFixture& fs, uint64_t directory = kRootIno,
                                            const std::string& prefix = "") {
  std::map<std::string, std::string> contents;
  std::vector<std::pair<std::string, uint64_t>> entries;
  const absl::Status listed =
      fs.overlay().ReadDirectory(directory, 2, [&](const DirectoryEntry& entry) {
        entries.emplace_back(entry.name, entry.ino);
        return true;
      });
  EXPECT_TRUE(listed.ok()) << listed;
  for (const auto& [name, ino] : entries) {
    const auto attributes = fs.overlay().GetAttributes(ino);
    EXPECT_TRUE(attributes.ok()) << attributes.status();
    if (!attributes.ok()) continue;
    std::string& content = contents[prefix + name];
    content = std::to_string(attributes->mode) + " " + std::to_string(attributes->nlink) + " " +
              std::to_string(attributes->size) + " ";
    if (S_ISDIR(attributes->mode)) {
      contents.merge(Contents(fs, ino, prefix + name + "/"));
    } else {
      const auto bytes = fs.ReadIno(ino);
      EXPECT_TRUE(bytes.ok()) << bytes.status();
      if (bytes.ok()) content += *bytes;
    }
  }
  return contents;
}

absl::StatusOr<DiffCheckReport> Check(const std::string& path, const LowerTree* lower = nullptr,
                                      bool repair = false) {
  DiffCheckOptions options;
  options.lower = lower;
  options.repair = repair;
  return CheckDiff(PosixIo(), path, options);
}

// Runs `body` for each seed that the environment asks for.
template <typename Body>
void ForSeeds(uint64_t count, Body body) {
  const uint64_t only = Setting("PBKFS_CHECK_SEED", 0);
  const uint64_t last = only != 0 ? only : Setting("PBKFS_CHECK_SEEDS", count);
  for (uint64_t seed = only != 0 ? only : 1; seed <= last; ++seed) {
    SCOPED_TRACE("replay: PBKFS_CHECK_SEED=" + std::to_string(seed) +
                 " fs_overlay_test --gtest_filter=" +
                 testing::UnitTest::GetInstance()->current_test_info()->test_suite_name() + "." +
                 testing::UnitTest::GetInstance()->current_test_info()->name());
    body(seed);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(CheckTest, WhatACleanUnmountLeavesHasNoFindings) {
  ForSeeds(10, [](uint64_t seed) {
    std::mt19937_64 random(seed);
    OverlayFixture fs(Lower());
    for (int round = 0; round < 3; ++round) {
      Workload(fs, random, 120);
      fs.Unmount();
      for (const LowerTree* lower :
           {static_cast<const LowerTree*>(nullptr), static_cast<const LowerTree*>(&fs.lower())}) {
        const auto report = Check(fs.diff_path(), lower);
        ASSERT_TRUE(report.ok()) << report.status();
        EXPECT_TRUE(report->findings.list().empty()) << Describe(*report);
        EXPECT_EQ(report->shutdown, ShutdownKind::kClean);
      }
      fs.Mount();
    }
  });
}

TEST(CheckTest, WhatADeadProcessLeavesIsNoDamage) {
  ForSeeds(10, [](uint64_t seed) {
    std::mt19937_64 random(seed);
    OverlayFixture fs(Lower());
    for (int round = 0; round < 3; ++round) {
      Workload(fs, random, 120);
      fs.Die();
      for (const LowerTree* lower :
           {static_cast<const LowerTree*>(nullptr), static_cast<const LowerTree*>(&fs.lower())}) {
        const auto report = Check(fs.diff_path(), lower);
        ASSERT_TRUE(report.ok()) << report.status();
        EXPECT_EQ(report->findings.errors(), 0u) << Describe(*report);
        EXPECT_NE(report->shutdown, ShutdownKind::kClean);
      }
      fs.Mount();
    }
  });
}

// ---- damage ----

std::string ReadAll(const stdfs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteAll(const stdfs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Damages one thing in the diff directory; the answer says what. The bytes of data files are left
// alone: nothing but PostgreSQL's page checksums can tell those.
std::string Damage(const stdfs::path& diff, std::mt19937_64& random) {
  std::vector<stdfs::path> files = {diff / "log", diff / "binding.json"};
  std::vector<stdfs::path> data;
  for (const auto& entry : stdfs::directory_iterator(diff / "data")) data.push_back(entry.path());
  std::sort(data.begin(), data.end());
  const stdfs::path file = files[random() % 2];
  std::string bytes = ReadAll(file);
  switch (random() % 11) {
    case 0:
    case 1: {
      const size_t at = random() % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      WriteAll(file, bytes);
      return "a bit of " + file.string() + " at " + std::to_string(at);
    }
    case 2: {
      const size_t size = random() % bytes.size();
      stdfs::resize_file(file, size);
      return file.string() + " is cut to " + std::to_string(size);
    }
    case 3: {
      const size_t at = random() % bytes.size();
      const size_t length = std::min<size_t>(1 + random() % 512, bytes.size() - at);
      bytes.replace(at, length, length, '\0');
      WriteAll(file, bytes);
      return file.string() + " has zeros at " + std::to_string(at);
    }
    case 4:
      bytes.append(1 + random() % 100, static_cast<char>(random() % 256));
      WriteAll(file, bytes);
      return file.string() + " has more at its end";
    case 5: {
      const char* names[] = {"log", "binding.json", "lock", "data", "trash"};
      const std::string name = names[random() % 5];
      stdfs::remove_all(diff / name);
      return name + " is removed";
    }
    case 6: {
      WriteAll(diff / (random() % 2 == 0 ? "data/ffffffffff" : "log.new"), "x");
      return "a file more";
    }
    case 7: {
      if (data.empty()) return "nothing";
      const stdfs::path victim = data[random() % data.size()];
      stdfs::remove(victim);
      return victim.string() + " is removed";
    }
    case 8: {
      if (data.empty()) return "nothing";
      const stdfs::path victim = data[random() % data.size()];
      stdfs::resize_file(victim, stdfs::file_size(victim) + 1 + random() % 20000);
      return victim.string() + " has grown";
    }
    default: {
      if (data.empty()) return "nothing";
      const stdfs::path victim = data[random() % data.size()];
      const uintmax_t size = stdfs::file_size(victim);
      if (size == 0) return "nothing";
      const uintmax_t left = random() % size;
      stdfs::resize_file(victim, left);
      return victim.string() + " of " + std::to_string(size) + " is cut to " + std::to_string(left);
    }
  }
}

TEST(CheckTest, DamageIsFoundOrChangesNothing) {
  ForSeeds(30, [](uint64_t seed) {
    std::mt19937_64 random(seed);
    OverlayFixture fs(Lower());
    Workload(fs, random, 150);
    fs.Remount();
    Workload(fs, random, 50);
    const auto before = Contents(fs);
    fs.Unmount();
    const stdfs::path diff = fs.diff_path();
    const stdfs::path good = diff.string() + ".good";
    stdfs::copy(diff, good, stdfs::copy_options::recursive);
    for (int damage = 0; damage < 20; ++damage) {
      stdfs::remove_all(diff);
      stdfs::copy(good, diff, stdfs::copy_options::recursive);
      const std::string what = Damage(diff, random);
      SCOPED_TRACE(what);
      const bool with_image = random() % 2 == 0;
      const auto report = Check(diff, with_image ? &fs.lower() : nullptr);
      const bool found =
          !report.ok() || report->findings.errors() > 0 || report->findings.warnings() > 0;
      if (found && report.ok() && report->findings.errors() > 0) continue;
      // Not refused: it can be mounted, or the mount says why not.
      const absl::Status mounted = fs.TryMount();
      if (found && !mounted.ok()) continue;
      ASSERT_TRUE(mounted.ok()) << mounted;
      if (!found) {
        ASSERT_TRUE(Contents(fs) == before) << "a silent change";
      }
      fs.Die();
    }
  });
}

}  // namespace
}  // namespace pbkfs

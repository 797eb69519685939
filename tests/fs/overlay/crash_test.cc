// Random operations, each sequence cut at a random point by the death of the process or of the
// machine, also during recovery and more than once; crash_model.h says what may be there then.
// PBKFS_CRASH_SEEDS=N runs N sequences (from PBKFS_CRASH_FIRST on), PBKFS_CRASH_SEED=S only
// sequence S: a failure prints the latter.
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <random>
#include <string>
#include <vector>

#include "spdlog/spdlog.h"
#include "tests/fs/overlay/crash_driver.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::CrashDriver;
using testsupport::CrashModel;
using testsupport::MemoryTree;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

std::shared_ptr<const MemoryTree> Lower() {
  static const auto tree =
      std::make_shared<const MemoryTree>(std::map<std::string, MemoryTree::Entry>{
          {"a", {S_IFREG | 0600, Page(1, 2 * kB)}},
          {"b", {S_IFREG | 0600, Page(2, kB + 700)}},
          {"c", {S_IFREG | 0600, ""}},
          {"d/a", {S_IFREG | 0600, Page(3, kB)}},
          {"e", {S_IFLNK | 0777, "d/a"}},
      });
  return tree;
}

class CrashRun {
 public:
  // Half of the sequences copy what they read into the diff.
  explicit CrashRun(uint64_t seed)
      : random_(seed), driver_(Lower(), seed, /*materialize=*/seed % 2 == 0) {}

  void Run() {
    driver_.Begin();
    const int rounds = 1 + Random(3);
    for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
      driver_.io().DieAfter(1 + random_() % 120);
      while (!driver_.over() && Random(60) != 0) {
        Step();
        if (testing::Test::HasFailure()) return;
      }
      Recover();
    }
  }
  const std::string& log() const { return driver_.log(); }

 private:
  int Random(int below) { return static_cast<int>(random_() % static_cast<uint64_t>(below)); }
  std::string RandomPath() {
    const std::vector<std::string> directories = driver_.model().Directories();
    const std::string directory = directories[random_() % directories.size()];
    const std::string name(1, "abcdef"[Random(6)]);
    return directory.empty() ? name : directory + "/" + name;
  }
  int64_t RandomOffset() {
    const int64_t block = Random(4) * kB;
    return Random(2) == 0 ? block : block + Random(kB);
  }

  void Step() {
    if (Random(20) == 0) return StepMount();
    if (!driver_.handles().empty() && Random(6) == 0) return StepHandle();
    const std::string path = RandomPath();
    const CrashModel::Name* name = driver_.Find(path);
    if (name == nullptr) return StepCreate(path);
    if (Random(12) == 0) return StepAttributes(path);
    if (Random(8) == 0) return Ignore(driver_.Rename(path, RandomPath()));
    if (name->IsDirectory()) {
      const bool remove = Random(3) == 0;
      return Ignore(remove ? driver_.RemoveDirectory(path) : driver_.FsyncDirectory());
    }
    if (!name->IsFile()) return Ignore(driver_.Unlink(path));
    switch (Random(10)) {
      case 0:
        return Ignore(driver_.Link(path, RandomPath()));
      case 1:
        return Ignore(Random(2) == 0 ? driver_.Unlink(path) : driver_.Open(path));
      default:
        return StepFile(driver_.ByName(path));
    }
  }

  static void Ignore(bool) {}

  void StepMount() {
    switch (Random(6)) {
      case 0:
        return driver_.CleanRemount();
      case 1:
      case 2:
        return Ignore(driver_.Checkpoint());
      default:
        return driver_.Maintain();
    }
  }
  void StepCreate(const std::string& path) {
    const int kind = Random(6);
    if (kind == 0) return Ignore(driver_.Create(path, S_IFDIR | 0700));
    if (kind == 1) return Ignore(driver_.Create(path, S_IFLNK | 0777, path + "-target"));
    Ignore(driver_.Create(path, S_IFREG | 0600));
  }
  void StepAttributes(const std::string& path) {
    AttributeChange change;
    change.mode = 0600 + static_cast<uint32_t>(Random(8)) * 8;
    if (Random(2) == 0) change.uid = static_cast<uint32_t>(Random(5));
    if (Random(3) == 0) change.mtime = 1000000;
    Ignore(driver_.SetAttributes(path, change));
  }
  void StepHandle() {
    const size_t at = random_() % driver_.handles().size();
    if (Random(3) == 0) return driver_.Close(at);
    StepFile(driver_.handles()[at]);
  }
  void StepFile(const CrashDriver::Handle& file) {
    constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const int64_t offset = RandomOffset();
    switch (Random(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return Ignore(driver_.Truncate(file, Random(4) == 0 ? 0 : offset));
      case 4:
      case 5:
        return Ignore(driver_.Allocate(file, kModes[Random(5)], offset, 1 + Random(2 * kB)));
      case 6:
      case 7:
        return Ignore(driver_.Fsync(file));
      case 8:
        return driver_.Compare(file);
      case 9:
        if (Random(4) == 0) return driver_.FailNextSync(file);
        [[fallthrough]];
      default:
        const int size = Random(2) == 0 ? static_cast<int>(kB) : 1 + Random(2 * kB);
        return Ignore(driver_.Write(file, offset, Page(Random(1000), static_cast<size_t>(size))));
    }
  }

  // Brings the diff back, through further deaths on the way, and checks what is there.
  void Recover() {
    for (int attempt = 0; attempt < 10; ++attempt) {
      driver_.Die(/*machine=*/Random(2) == 0);
      if (attempt < 3 && Random(3) == 0) driver_.io().DieAfter(1 + random_() % 25);
      const absl::Status mounted = driver_.Mount();
      if (driver_.dead()) continue;
      ASSERT_TRUE(mounted.ok()) << mounted;
      break;
    }
    driver_.io().Revive();
    driver_.CheckRecovered();
  }

  std::mt19937_64 random_;
  CrashDriver driver_;
};

TEST(CrashTest, WhatIsThereAfterACrashIsWhatTheRulesAllow) {
  const auto level = spdlog::get_level();
  spdlog::set_level(spdlog::level::off);  // Deaths are no news here.
  const uint64_t only = Setting("PBKFS_CRASH_SEED", 0);
  const uint64_t first = only != 0 ? only : Setting("PBKFS_CRASH_FIRST", 1);
  const uint64_t last = only != 0 ? only : first + Setting("PBKFS_CRASH_SEEDS", 10000) - 1;
  for (uint64_t seed = first; seed <= last; ++seed) {
    CrashRun run(seed);
    run.Run();
    ASSERT_FALSE(HasFailure()) << run.log() << "replay: PBKFS_CRASH_SEED=" << seed
                               << " fs_overlay_test --gtest_filter=CrashTest.*";
  }
  spdlog::set_level(level);
}

}  // namespace
}  // namespace pbkfs

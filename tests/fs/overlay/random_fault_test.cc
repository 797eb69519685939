// A random sequence of operations in which one system call of some of them fails: the disk is full,
// broken for a moment, or takes half of a write. After the failure everything but the bytes that
// were being written is as before; once the fault has passed the same operation succeeds, and the
// overlay agrees with the model. PBKFS_FAULT_SEEDS=N runs N seeds, PBKFS_FAULT_SEED=S one.
//
// Syncs don't fail here: a failed sync is remembered until the next mount (fault_test.cc).
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <map>
#include <random>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

class RandomFaults {
 public:
  explicit RandomFaults(uint64_t seed)
      : random_(seed),
        fs_({{"a", {S_IFREG | 0600, Page(1, 3 * kB + 100)}},
             {"b", {S_IFREG | 0600, Page(2, 5 * kB)}}}) {
    files_["a"] = Page(1, 3 * kB + 100);
    files_["b"] = Page(2, 5 * kB);
  }

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      Step();
      if (!testing::Test::HasFailure()) CompareAll();
      if (testing::Test::HasFailure()) FAIL() << "at step " << step << ": " << last_;
    }
    fs_.Remount();
    CompareAll();
  }

 private:
  struct Change {
    std::string what;
    std::function<absl::Status()> run;
    std::function<void(std::map<std::string, std::string>*)> apply;  // To the model.
    std::string path;         // Whose bytes may be old or new where it failed …
    int64_t begin = 0;        // … from here …
    int64_t end = 0;          // … to here.
    bool may_resize = false;  // A truncation that the log has may stand though it failed.
  };

  std::string Name() { return std::string(1, "abcde"[random_() % 5]); }
  int64_t Offset() { return static_cast<int64_t>(random_() % 6) * kB + Jitter(); }
  int64_t Jitter() { return random_() % 2 == 0 ? 0 : static_cast<int64_t>(random_() % kB); }

  Change Pick() {
    const std::string path = Name();
    if (!files_.contains(path)) {
      return {"create " + path,
              [this, path] { return fs_.Create(path); },
              [path](auto* files) { (*files)[path] = ""; },
              "",
              0,
              0,
              false};
    }
    switch (random_() % 9) {
      case 0: {
        const int64_t size = Offset();
        return {
            "truncate " + path + " to " + std::to_string(size),
            [this, path, size] { return fs_.Truncate(path, size); },
            [path, size](auto* files) { (*files)[path].resize(static_cast<size_t>(size), '\0'); },
            path,
            0,
            0,
            true};
      }
      case 1:
        return {"unlink " + path,
                [this, path] { return fs_.Unlink(path); },
                [path](auto* files) { files->erase(path); },
                "",
                0,
                0,
                false};
      case 2: {
        const std::string target = Name();
        return {"rename " + path + " to " + target,
                [this, path, target] { return fs_.Rename(path, target); },
                [path, target](auto* files) {
                  if (path == target) return;
                  (*files)[target] = (*files)[path];
                  files->erase(path);
                },
                "",
                0,
                0,
                false};
      }
      case 3:
        return {"fsync " + path,
                [this, path] { return fs_.overlay().Fsync(fs_.Ino(path)); },
                [](auto*) {},
                "",
                0,
                0,
                false};
      case 4:
      case 5:
        return PickAllocate(path);
      default: {
        const int64_t offset = Offset();
        const std::string bytes =
            Page(static_cast<int>(random_() % 1000), 1 + random_() % (2 * kB));
        const auto end = offset + static_cast<int64_t>(bytes.size());
        return {"write " + path + " at " + std::to_string(offset),
                [this, path, offset, bytes] { return fs_.Write(path, offset, bytes); },
                [path, offset, bytes, end](auto* files) {
                  std::string& content = (*files)[path];
                  if (content.size() < static_cast<size_t>(end)) {
                    content.resize(static_cast<size_t>(end), '\0');
                  }
                  content.replace(static_cast<size_t>(offset), bytes.size(), bytes);
                },
                path,
                offset,
                end,
                false};
      }
    }
  }

  Change PickAllocate(const std::string& path) {
    const int modes[] = {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};
    const int mode = modes[random_() % 3];
    const int64_t offset = Offset();
    const auto length = static_cast<int64_t>(1 + random_() % (3 * kB));
    return {"fallocate " + path + " mode " + std::to_string(mode) + " at " + std::to_string(offset),
            [this, path, mode, offset, length] {
              return fs_.overlay().Allocate(fs_.Ino(path), mode, offset, length);
            },
            [path, mode, offset, length](auto* files) {
              std::string& content = (*files)[path];
              const auto end = static_cast<size_t>(offset + length);
              if (mode != 0) {
                for (auto i = static_cast<size_t>(offset); i < std::min(end, content.size()); ++i) {
                  content[i] = '\0';
                }
              }
              if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && content.size() < end) {
                content.resize(end, '\0');
              }
            },
            path,
            offset,
            offset + length,
            false};
  }

  void Step() {
    const Change change = Pick();
    last_ = change.what;
    std::map<std::string, std::string> after = files_;
    change.apply(&after);
    if (random_() % 2 == 0) {
      Arm();
      const absl::Status status = change.run();
      Disarm();
      if (!status.ok()) {
        last_ += ", which failed (" + status.ToString() + ")";
        CheckNothingElseChanged(change, after);
        if (testing::Test::HasFailure()) return;
        if (random_() % 4 == 0) {
          fs_.Die();
          fs_.Mount();
          CheckNothingElseChanged(change, after);
          if (testing::Test::HasFailure()) return;
        }
        // The fault has passed.
        const absl::Status again = change.run();
        ASSERT_TRUE(again.ok()) << again;
      }
    } else {
      const absl::Status status = change.run();
      ASSERT_TRUE(status.ok()) << status;
    }
    files_ = std::move(after);
  }

  void Arm() {
    const int errors[] = {ENOSPC, EIO, EDQUOT};
    fs_.io().set_short_writes(random_() % 2 == 0);
    const auto left = std::make_shared<std::atomic<int>>(static_cast<int>(random_() % 5));
    fs_.io().set_hook(
        [error = errors[random_() % 3], left](const std::string& operation, const std::string&) {
          if (operation == "sync" || operation == "rename") return absl::OkStatus();
          return (*left)-- == 0 ? ErrnoError(error, "injected") : absl::OkStatus();
        });
  }
  void Disarm() { fs_.io().set_hook(nullptr); }

  void CheckNothingElseChanged(const Change& change,
                               const std::map<std::string, std::string>& after) {
    CheckNames();
    for (const auto& [path, before] : files_) {
      const absl::StatusOr<std::string> read = fs_.Read(path);
      ASSERT_TRUE(read.ok()) << path << ": " << read.status();
      if (path != change.path) {
        ASSERT_TRUE(*read == before) << path;
        continue;
      }
      const std::string& wanted = after.at(path);
      if (change.may_resize && *read == wanted) continue;
      ASSERT_EQ(read->size(), before.size()) << path;
      ASSERT_EQ(fs_.Size(path), static_cast<int64_t>(before.size())) << path;
      for (size_t i = 0; i < before.size(); ++i) {
        const bool touched =
            static_cast<int64_t>(i) >= change.begin && static_cast<int64_t>(i) < change.end;
        ASSERT_TRUE((*read)[i] == before[i] || (touched && (*read)[i] == wanted[i]))
            << path << " at byte " << i;
      }
    }
  }
  void CheckNames() {
    std::map<std::string, bool> listed;
    ASSERT_TRUE(fs_.overlay()
                    .ReadDirectory(kRootIno, kCookieDotDot,
                                   [&](const DirectoryEntry& entry) {
                                     listed[std::string(entry.name)] = true;
                                     return true;
                                   })
                    .ok());
    EXPECT_EQ(listed.size(), files_.size());
    for (const auto& [path, content] : files_) EXPECT_TRUE(listed.contains(path)) << path;
  }
  void CompareAll() {
    CheckNames();
    for (const auto& [path, content] : files_) {
      const absl::StatusOr<std::string> read = fs_.Read(path);
      ASSERT_TRUE(read.ok()) << path << ": " << read.status();
      ASSERT_TRUE(*read == content) << path;
    }
  }

  std::mt19937_64 random_;
  OverlayFixture fs_;
  std::map<std::string, std::string> files_;
  std::string last_;
};

TEST(RandomFaultTest, WhateverFailsTheMountGoesOnWhenTheFaultHasPassed) {
  const uint64_t only = Setting("PBKFS_FAULT_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_FAULT_SEEDS", 25);
  for (uint64_t seed = first; seed <= last; ++seed) {
    RandomFaults(seed).Run(60);
    ASSERT_FALSE(testing::Test::HasFailure())
        << "replay: PBKFS_FAULT_SEED=" << seed
        << " fs_overlay_test --gtest_filter=RandomFaultTest.*";
  }
}

}  // namespace
}  // namespace pbkfs

// A log that was written anew says what the old one said, for both kinds of crash; and what happens
// when that fails, at every step.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/diff/limits.h"
#include "fs/diff/log_reader.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

std::map<std::string, testsupport::MemoryTree::Entry> Lower() {
  return {{"a", {S_IFREG | 0600, Page(1, 4 * kB)}},
          {"b", {S_IFREG | 0600, Page(2, kB + 700)}},
          {"d", {S_IFDIR | 0700, ""}},
          {"d/e", {S_IFREG | 0600, Page(3, 2 * kB)}}};
}

std::string ReadFileOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What recovery would make of a log, in words.
std::string Describe(OverlayFixture& fs, const std::string& log_bytes, ShutdownKind shutdown) {
  const auto log = ParseLog(Bytes(log_bytes));
  if (!log.ok()) return log.status().ToString();
  const absl::Status checked = CheckCheckpoint(*log);
  if (!checked.ok()) return checked.ToString();
  if (log->end != static_cast<int64_t>(log_bytes.size())) return "a tail that is no record";
  if (log->durable_to > log->end) return "durable past its end";
  const LogProof proof = CollectProof(log->records);
  Replayer replayer({fs.lower(), 0, 0}, proof, shutdown);
  const absl::Status replayed = replayer.Run(log->records);
  if (!replayed.ok()) return replayed.ToString();
  const DiffState& state = replayer.state();
  std::vector<std::string> lines;
  for (const auto& [ino, inode] : state.inodes) {
    const FileLayout& layout = inode->layout;
    std::string line = absl::StrCat(
        "inode ", ino, " mode ", inode->mode, " nlink ", inode->nlink, " size ", layout.size,
        " limit ", layout.lower_limit, " data ", layout.has_data, " uncut ", layout.uncut,
        " failed ", layout.failed, " believed ", layout.last_size <= layout.synced_through,
        " times ", inode->mtime, " ", inode->ctime, " present");
    for (auto run = layout.present.NextRun(0, 1 << 20); run.second > 0;
         run = layout.present.NextRun(run.first + run.second, 1 << 20)) {
      absl::StrAppend(&line, " ", run.first, "+", run.second);
    }
    lines.push_back(line);
  }
  state.names.VisitAdded([&](uint64_t parent, absl::string_view name, const auto& entry) {
    lines.push_back(absl::StrCat("name ", parent, "/", name, " ", entry.ino, " ", entry.cookie));
  });
  state.names.VisitHidden([&](uint64_t parent, absl::string_view name) {
    lines.push_back(absl::StrCat("hidden ", parent, "/", name));
  });
  for (const auto& [ino, inode] : state.inodes) {
    for (const DestroyedRange& range : replayer.Destroyed(ino)) {
      // With the page cache intact only the destruction that has no Cut is done again.
      if (shutdown == ShutdownKind::kProcessDied && inode->layout.uncut != range.sequence) continue;
      lines.push_back(absl::StrCat("destroyed ", ino, " ", range.begin, "-", range.end));
    }
  }
  std::sort(lines.begin(), lines.end());
  std::string text =
      absl::StrCat("next ino ", state.next_ino, ", next sequence ", state.next_sequence, "\n");
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\n");
  return text;
}

class CheckpointRun {
 public:
  explicit CheckpointRun(uint64_t seed) : random_(seed), fs_(Lower()) {}

  void Run() {
    const int steps = 5 + static_cast<int>(random_() % 60);
    for (int i = 0; i < steps; ++i) Step();
    for (int i = 0; i < 3; ++i) {
      const std::string before = ReadFileOf(fs_.diff_path() + "/log");
      const std::string intact = Describe(fs_, before, ShutdownKind::kProcessDied);
      const std::string lost = Describe(fs_, before, ShutdownKind::kCacheLost);
      const absl::Status written = fs_.overlay().Checkpoint();
      ASSERT_TRUE(written.ok()) << written;
      const std::string after = ReadFileOf(fs_.diff_path() + "/log");
      ASSERT_EQ(intact, Describe(fs_, after, ShutdownKind::kProcessDied));
      ASSERT_EQ(lost, Describe(fs_, after, ShutdownKind::kCacheLost));
      for (int j = 0; j < 10; ++j) Step();
    }
    fs_.Die();
    const absl::Status mounted = fs_.TryMount();
    ASSERT_TRUE(mounted.ok()) << mounted;
  }

 private:
  std::string Name() {
    static const char* const kNames[] = {"a", "b", "c", "x", "d/e", "d/f", "y"};
    return kNames[random_() % 7];
  }
  int64_t Offset() {
    const int64_t block = static_cast<int64_t>(random_() % 5) * kB;
    return random_() % 2 == 0 ? block : block + static_cast<int64_t>(random_() % kB);
  }

  void Step() {
    const std::string name = Name();
    const uint64_t ino = fs_.Ino(name);
    if (ino == 0) {
      if (fs_.Create(name).ok() && random_() % 2 == 0) Open(fs_.Ino(name));
      return;
    }
    AttributeChange change;
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        return fs_
            .Write(name, Offset(), Page(static_cast<int>(random_() % 90), 1 + random_() % 9000))
            .IgnoreError();
      case 3:
        return fs_.Truncate(name, random_() % 3 == 0 ? 0 : Offset()).IgnoreError();
      case 4:
        return fs_.overlay()
            .Allocate(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, Offset(), 2 * kB)
            .IgnoreError();
      case 5:
        return fs_.Rename(name, Name()).IgnoreError();
      case 6:
        if (random_() % 2 == 0) Open(ino);
        fs_.Unlink(name).IgnoreError();
        return fs_.overlay().Forget(ino);
      case 7:
        return fs_.Link(name, Name()).IgnoreError();
      case 8:
        change.mode = random_() % 01000;
        change.mtime = static_cast<int64_t>(random_() % 1000000000);
        return fs_.overlay().SetAttributes(ino, change).status().IgnoreError();
      case 9:
        if (!open_.empty()) Close();
        return;
      case 10:
        if (random_() % 4 == 0) return fs_.overlay().Maintain();
        if (random_() % 4 == 0) return FailSync(ino);
        [[fallthrough]];
      default:
        return fs_.overlay().Fsync(ino).IgnoreError();
    }
  }
  void Open(uint64_t ino) {
    if (fs_.overlay().Open(ino).ok()) open_.push_back(ino);
  }
  void Close() {
    fs_.overlay().Release(open_.back());
    fs_.overlay().Forget(open_.back());
    open_.pop_back();
  }
  void FailSync(uint64_t ino) {
    fs_.io().set_hook(
        [name = DataFileName(ino)](const std::string& operation, const std::string& file) {
          return operation == "sync" && file == name ? ErrnoError(EIO, "disk") : absl::OkStatus();
        });
    fs_.overlay().Fsync(ino).IgnoreError();
    fs_.io().set_hook(nullptr);
  }

  std::mt19937_64 random_;
  OverlayFixture fs_;
  std::vector<uint64_t> open_;
};

TEST(CheckpointTest, SaysWhatTheOldLogSaidForBothKindsOfCrash) {
  const uint64_t only = Setting("PBKFS_CHECKPOINT_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_CHECKPOINT_SEEDS", 100);
  for (uint64_t seed = first; seed <= last; ++seed) {
    CheckpointRun(seed).Run();
    ASSERT_FALSE(testing::Test::HasFatalFailure())
        << "replay: PBKFS_CHECKPOINT_SEED=" << seed
        << " fs_overlay_test --gtest_filter=CheckpointTest.Says*";
  }
}

class CheckpointFaultTest : public testing::Test {
 protected:
  // The `count`th operation on the new log, or on the directory with it, fails.
  void FailStep(int count) {
    fs_.io().set_hook([this, count](const std::string&, const std::string& file) {
      if (file != "log.new" && file != ".") return absl::OkStatus();
      return ++steps_ == count ? ErrnoError(ENOSPC, "disk") : absl::OkStatus();
    });
    steps_ = 0;
  }
  void Fill() {
    for (int i = 0; i < 50; ++i) {
      const std::string name = absl::StrCat("f", i);
      ASSERT_TRUE(fs_.Create(name).ok());
      ASSERT_TRUE(fs_.Write(name, 0, Page(i, 100)).ok());
    }
    for (int i = 0; i < 49; ++i) ASSERT_TRUE(fs_.Unlink(absl::StrCat("f", i)).ok());
    ASSERT_TRUE(fs_.Write("a", 0, Page(7)).ok());
  }
  void ExpectAllThere() {
    EXPECT_EQ(*fs_.Read("f49"), Page(49, 100));
    EXPECT_EQ(fs_.Read("a", 0, kB)->substr(0, kB), Page(7));
    EXPECT_EQ(fs_.Ino("f0"), 0u);
  }

  int steps_ = 0;
  OverlayFixture fs_{Lower()};
};

TEST_F(CheckpointFaultTest, AFailureAtAnyStepLeavesADiffThatOpensWithEverything) {
  Fill();
  for (int step = 1;; ++step) {
    FailStep(step);
    const absl::Status written = fs_.overlay().Checkpoint();
    fs_.io().set_hook(nullptr);
    if (written.ok()) break;
    ASSERT_LT(step, 20) << "a checkpoint has fewer steps: " << written;
    ExpectAllThere();
    EXPECT_FALSE(std::filesystem::exists(fs_.diff_path() + "/log.new"));
    if (!fs_.overlay().health().ok()) {
      // After the name was given nothing may go on in a log that a crash may take away.
      EXPECT_FALSE(fs_.Create("more").ok());
      EXPECT_FALSE(fs_.overlay().FsyncDirectory().ok());
    } else {
      EXPECT_TRUE(fs_.overlay().FsyncDirectory().ok());
      EXPECT_TRUE(fs_.Create(absl::StrCat("more", step)).ok());
    }
    fs_.Die();
    fs_.Mount();
    ExpectAllThere();
  }
  EXPECT_GE(steps_, 3);
  ExpectAllThere();
}

TEST_F(CheckpointFaultTest, ALogThatCouldNotBeSyncedIsReplacedAndFsyncWorksAgain) {
  // The log was made under its first name.
  fs_.io().set_hook([](const std::string& operation, const std::string& file) {
    return operation == "sync" && file == "log.new" ? ErrnoError(EIO, "disk") : absl::OkStatus();
  });
  Fill();
  ASSERT_FALSE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  ASSERT_FALSE(fs_.overlay().FsyncDirectory().ok());
  fs_.io().set_hook(nullptr);
  // The kernel tells a failure once; a second sync of the same file proves nothing.
  ASSERT_FALSE(fs_.overlay().FsyncDirectory().ok());
  ASSERT_FALSE(fs_.overlay().health().ok());
  fs_.overlay().Maintain();
  EXPECT_TRUE(fs_.overlay().health().ok()) << fs_.overlay().health();
  EXPECT_TRUE(fs_.overlay().FsyncDirectory().ok());
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  ExpectAllThere();
  fs_.Die();
  fs_.Mount();
  ExpectAllThere();
}

TEST_F(CheckpointFaultTest, AnOrphanInUseAndItsBytesSurviveACheckpoint) {
  Fill();
  const uint64_t ino = fs_.Ino("f49");
  ASSERT_TRUE(fs_.overlay().Open(ino).ok());
  ASSERT_TRUE(fs_.Unlink("f49").ok());
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  EXPECT_EQ(*fs_.ReadIno(ino), Page(49, 100));
  ASSERT_TRUE(fs_.overlay().Write(ino, 100, Bytes(Page(50, 100))).ok());
  fs_.overlay().Release(ino);
  fs_.overlay().Forget(ino);
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(fs_.Ino("f49"), 0u);
}

TEST_F(CheckpointFaultTest, TheLogStaysShortHoweverLongADiffIsInUse) {
  OverlayOptions options;
  options.checkpoint_growth_bytes = 16 << 10;
  fs_.Unmount();
  fs_.Mount(options);
  int64_t longest = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 20; ++i) {
      const std::string name = absl::StrCat("t", round, "-", i);
      ASSERT_TRUE(fs_.Create(name).ok());
      ASSERT_TRUE(fs_.Write(name, 0, Page(i, 100)).ok());
      const uint64_t ino = fs_.Ino(name);
      ASSERT_TRUE(fs_.Unlink(name).ok());
      fs_.overlay().Forget(ino);
    }
    fs_.overlay().Maintain();
    longest = std::max(longest, fs_.overlay().diff()->metalog_bytes);
  }
  EXPECT_LT(longest, 64 << 10);
}

TEST_F(CheckpointFaultTest, ACheckpointEndsHoweverMuchIsAppendedBesideIt) {
  OverlayOptions options;
  options.checkpoint_growth_bytes = kMaxCheckpointRemainder;
  fs_.Unmount();
  fs_.Mount(options);
  Fill();
  std::string name = "f49";
  const auto append = [&] {
    const int64_t begin = fs_.overlay().diff()->metalog_bytes;
    while (fs_.overlay().diff()->metalog_bytes - begin < 2 * kMaxCheckpointRemainder) {
      const std::string other(255, name[0] == 'x' ? 'y' : 'x');
      ASSERT_TRUE(fs_.Rename(name, other).ok());
      name = other;
    }
  };
  const std::thread::id checkpoint = std::this_thread::get_id();
  bool last_step = false;
  bool appending = false;
  // More than what may be left for the last step, each time that the checkpoint caught up.
  fs_.io().set_hook([&](const std::string& operation, const std::string& file) {
    if (file != "log.new" || appending || std::this_thread::get_id() != checkpoint) {
      return absl::OkStatus();
    }
    last_step |= operation == "allocate";  // Nothing can be appended from here on.
    if (operation != "sync" || last_step) return absl::OkStatus();
    appending = true;
    append();
    appending = false;
    return absl::OkStatus();
  });
  const absl::Status written = fs_.overlay().Checkpoint();
  fs_.io().set_hook(nullptr);
  EXPECT_TRUE(written.ok()) << written;
  EXPECT_TRUE(last_step);
  EXPECT_EQ(*fs_.Read(name), Page(49, 100));
  // What was carried over is growth like any other.
  ASSERT_GT(fs_.overlay().diff()->metalog_bytes, 2 * kMaxCheckpointRemainder);
  fs_.overlay().Maintain();
  EXPECT_LT(fs_.overlay().diff()->metalog_bytes, kMaxCheckpointRemainder);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read(name), Page(49, 100));
}

TEST_F(CheckpointFaultTest, MutationsAndSyncsGoOnWhileTheLogIsWrittenAnew) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        const std::string name = absl::StrCat("w", t, "-", i);
        ASSERT_TRUE(fs_.Create(name).ok());
        ASSERT_TRUE(fs_.Write(name, 0, Page(i, 100)).ok());
        ASSERT_TRUE(i % 3 != 0 || fs_.overlay().Fsync(fs_.Ino(name)).ok());
        ASSERT_TRUE(i % 2 != 0 || fs_.Unlink(name).ok());
      }
    });
  }
  for (int i = 0; i < 30; ++i) {
    const absl::Status status = fs_.overlay().Checkpoint();
    ASSERT_TRUE(status.ok()) << status;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, std::string> before;
  const auto collect = [&](std::map<std::string, std::string>* contents) {
    std::vector<std::string> names;
    ASSERT_TRUE(fs_.overlay()
                    .ReadDirectory(kRootIno, kCookieDotDot,
                                   [&](const DirectoryEntry& entry) {
                                     names.emplace_back(entry.name);
                                     return true;
                                   })
                    .ok());
    for (const std::string& name : names) {
      if (name != "d") (*contents)[name] = *fs_.Read(name);
    }
  };
  collect(&before);
  fs_.Die();
  fs_.Mount();
  std::map<std::string, std::string> after;
  collect(&after);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace pbkfs

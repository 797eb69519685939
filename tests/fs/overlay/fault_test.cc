// What happens when a system call fails, is slow, or races with another: one test for each failure
// that was found.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;

size_t FilesIn(const std::string& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

class FaultTest : public testing::Test {
 protected:
  std::string DataName(const char* path) { return DataFileName(fs_.Ino(path)); }
  // Every sync of the data file of `path` fails from now on.
  void FailSyncsOf(const char* path) {
    fs_.io().set_hook(
        [name = DataName(path)](const std::string& operation, const std::string& file) {
          return operation == "sync" && file == name ? ErrnoError(EIO, "disk") : absl::OkStatus();
        });
  }
  // As many data files may be open; nothing closes them but a write that waits.
  void RemountWithDataFiles(int64_t most) {
    fs_.Unmount();
    OverlayOptions options;
    options.max_data_files = most;
    options.background_interval = std::chrono::hours(1);
    fs_.Mount(options);
  }
  size_t OpenDataFiles() {
    size_t open = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (target.starts_with(fs_.diff_path() + "/data/")) ++open;
    }
    return open;
  }
  std::string LogPath() const { return fs_.diff_path() + "/log"; }

  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}}}};
};

TEST_F(FaultTest, AnFsyncWaitsForTheSyncThatIsUnderWayAndSharesItsFailure) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  ASSERT_TRUE(fs_.Write("rel", 0, Page(3)).ok());
  std::promise<void> entered;
  std::promise<void> go_on;
  std::atomic<int> syncs = 0;
  fs_.io().set_hook(
      [&, name = DataName("rel")](const std::string& operation, const std::string& file) {
        if (operation != "sync" || file != name) return absl::OkStatus();
        if (syncs++ > 0) return absl::OkStatus();  // The kernel tells a failure once.
        entered.set_value();
        go_on.get_future().wait();
        return ErrnoError(EIO, "disk");
      });
  const uint64_t ino = fs_.Ino("rel");
  auto first = std::async(std::launch::async, [&] { return fs_.overlay().Fsync(ino); });
  entered.get_future().wait();
  auto second = std::async(std::launch::async, [&] { return fs_.overlay().Fsync(ino); });
  go_on.set_value();
  EXPECT_EQ(ErrnoOf(first.get()), EIO);
  EXPECT_EQ(ErrnoOf(second.get()), EIO);
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(ino)), EIO) << "the inode is failed for good";
}

TEST_F(FaultTest, AnFsyncOfANewDescriptorTellsWhatFailedInTheBackground) {
  fs_.Unmount();
  OverlayOptions options;
  options.background_interval = std::chrono::milliseconds(5);
  fs_.Mount(options);
  std::promise<void> failed;
  std::atomic<int> syncs = 0;
  const uint64_t ino = fs_.Ino("rel");
  fs_.io().set_hook(
      [&, name = DataFileName(ino)](const std::string& operation, const std::string& file) {
        if (operation != "sync" || file != name) return absl::OkStatus();
        if (syncs++ > 0) return absl::OkStatus();  // The kernel tells a failure once.
        failed.set_value();
        return ErrnoError(EIO, "disk");
      });
  ASSERT_TRUE(fs_.overlay().Open(ino).ok());
  ASSERT_TRUE(fs_.overlay().Write(ino, 0, Bytes(Page(2))).ok());
  fs_.overlay().Release(ino);
  fs_.overlay().Forget(ino);
  failed.get_future().wait();
  const uint64_t again = fs_.Ino("rel");
  ASSERT_TRUE(fs_.overlay().Open(again).ok());
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(again)), EIO);
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(again)), EIO);
  fs_.overlay().Release(again);
}

TEST_F(FaultTest, WhatCouldNotBeSyncedIsNotBelievedAtTheNextMount) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  ASSERT_TRUE(fs_.Write("rel", kB, Page(3)).ok());
  FailSyncsOf("rel");
  ASSERT_FALSE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  fs_.io().set_hook(nullptr);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(2));
  EXPECT_EQ(*fs_.Read("rel", kB, kB), Page(1, 8 * kB).substr(kB, kB));
  ASSERT_TRUE(fs_.Write("rel", kB, Page(4)).ok());
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
}

TEST_F(FaultTest, ReleaseAndForgetAtTheSameTimeLeaveNoOrphan) {
  fs_.Unmount();
  OverlayOptions options;
  options.background_interval = std::chrono::milliseconds(5);
  fs_.Mount(options);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(fs_.Create("t").ok());
    const uint64_t ino = fs_.Ino("t");
    ASSERT_TRUE(fs_.overlay().Open(ino).ok());
    ASSERT_TRUE(fs_.overlay().Write(ino, 0, Bytes("x")).ok());
    ASSERT_TRUE(fs_.Unlink("t").ok());
    std::atomic<int> ready = 0;
    const auto together = [&ready](auto call) {
      ++ready;
      while (ready < 2) std::this_thread::yield();
      call();
    };
    std::thread release(together, [&] { fs_.overlay().Release(ino); });
    std::thread forget(together, [&] { fs_.overlay().Forget(ino); });
    release.join();
    forget.join();
  }
  // The background pass takes what the race left; the test's own timeout is the limit.
  while (FilesIn(fs_.diff_path() + "/data") > 0) std::this_thread::yield();
}

TEST_F(FaultTest, TheLogIsSyncedBeforeConfirmedBytesOfACheckpointedFileAreDestroyed) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1, 8 * kB)).ok());
  fs_.Die();
  fs_.Mount();
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("new")).ok());
  fs_.io().TakeEvents();
  ASSERT_TRUE(fs_.Truncate("new", kB).ok());
  std::vector<std::string> events = fs_.io().TakeEvents();
  const auto sync = std::find(events.begin(), events.end(), "sync log.new");
  const auto cut = std::find(events.begin(), events.end(), "truncate " + DataName("new"));
  ASSERT_NE(cut, events.end());
  EXPECT_LT(sync, cut);
}

// The checkpoint at the open says that they are durable, though nobody called fsync.
TEST_F(FaultTest, TheLogIsSyncedBeforeBytesThatOnlyTheCheckpointConfirmedAreDestroyed) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1, 8 * kB)).ok());
  fs_.Die();
  fs_.Mount();
  fs_.io().TakeEvents();
  ASSERT_TRUE(fs_.Truncate("new", kB).ok());
  std::vector<std::string> events = fs_.io().TakeEvents();
  const auto sync = std::find(events.begin(), events.end(), "sync log.new");
  const auto cut = std::find(events.begin(), events.end(), "truncate " + DataName("new"));
  ASSERT_NE(cut, events.end());
  EXPECT_LT(sync, cut);
}

// The background pass says in the log how long the data file is. A truncation that comes before
// that is durable must not reach the disk without its own record.
TEST_F(FaultTest, ATruncationDuringASyncInTheBackgroundIsInTheLogFirst) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1, 8 * kB)).ok());
  std::promise<void> entered;
  std::promise<void> go_on;
  std::atomic<int> log_syncs = 0;
  std::atomic<int> before_truncation = -1;
  fs_.io().set_hook(
      [&, name = DataName("new")](const std::string& operation, const std::string& file) {
        if (operation == "truncate" && file == name) before_truncation = log_syncs.load();
        if (operation == "sync" && file == "log.new" && log_syncs++ == 0) {
          entered.set_value();
          go_on.get_future().wait();
        }
        return absl::OkStatus();
      });
  auto background = std::async(std::launch::async, [&] { fs_.overlay().Maintain(); });
  entered.get_future().wait();
  auto truncated = std::async(std::launch::async, [&] { return fs_.Truncate("new", kB); });
  truncated.wait_for(std::chrono::milliseconds(200));  // Long enough to go wrong.
  go_on.set_value();
  background.wait();
  EXPECT_TRUE(truncated.get().ok());
  EXPECT_GE(before_truncation, 2);
  fs_.io().set_hook(nullptr);
}

// As above: the Synced is in the log, and a checkpoint makes it durable later.
TEST_F(FaultTest, ATruncationAfterASyncOfTheLogThatFailedIsInTheLogFirst) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1, 8 * kB)).ok());
  std::atomic<bool> failed = false;
  fs_.io().set_hook([&](const std::string& operation, const std::string& file) {
    const bool fails = operation == "sync" && file == "log.new" && !failed.exchange(true);
    return fails ? ErrnoError(EIO, "disk") : absl::OkStatus();
  });
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(fs_.Ino("new"))), EIO);
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  fs_.io().set_hook(nullptr);
  fs_.io().TakeEvents();
  ASSERT_TRUE(fs_.Truncate("new", kB).ok());
  const std::vector<std::string> events = fs_.io().TakeEvents();
  const auto cut = std::find(events.begin(), events.end(), "truncate " + DataName("new"));
  ASSERT_NE(cut, events.end());
  EXPECT_LT(std::find(events.begin(), events.end(), "sync log.new"), cut);
}

// The second fsync finds nothing to say in the log.
TEST_F(FaultTest, TheLogIsSyncedBeforeConfirmedBytesAreDestroyedAlsoWhereTheOldLogGoesOn) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("new")).ok());
  ASSERT_TRUE(fs_.Write("new", kB, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("new")).ok());
  fs_.Die();
  fs_.io().set_hook([](const std::string& operation, const std::string& file) {
    const bool grows = operation == "write" && file == "log.new";
    return grows ? ErrnoError(ENOSPC, "disk") : absl::OkStatus();
  });
  ASSERT_TRUE(fs_.TryMount().ok());
  fs_.io().TakeEvents();
  ASSERT_TRUE(fs_.Truncate("new", kB + 100).ok());
  const std::vector<std::string> events = fs_.io().TakeEvents();
  const auto cut = std::find(events.begin(), events.end(), "truncate " + DataName("new"));
  ASSERT_NE(cut, events.end());
  EXPECT_LT(std::find(events.begin(), events.end(), "sync log"), cut);
}

TEST_F(FaultTest, ADataFileThatWasSyncedAndIsMissingIsReported) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  const std::string name = DataName("rel");
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  ASSERT_TRUE(fs_.Truncate("rel", 9 * kB).ok());
  fs_.overlay().diff_store().DistrustPageCache();
  fs_.Die();
  ASSERT_TRUE(std::filesystem::remove(fs_.diff_path() + "/data/" + name));
  EXPECT_EQ(ReasonOf(fs_.TryMount()), reason::kDiffCorrupt);
}

TEST_F(FaultTest, AnUnmountHasNoMoreFilesOpenThanItWorksOn) {
  for (int i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    ASSERT_TRUE(fs_.Create(name).ok());
    ASSERT_TRUE(fs_.Write(name, 0, "x").ok());
  }
  ASSERT_TRUE(fs_.overlay().Close().ok());
  EXPECT_EQ(OpenDataFiles(), 0u);
}

TEST_F(FaultTest, FilesThatNobodySyncsTakeNoMoreDescriptorsThanTheyMay) {
  RemountWithDataFiles(16);
  size_t most = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "f" + std::to_string(i);
    ASSERT_TRUE(fs_.Create(name).ok());
    ASSERT_TRUE(fs_.Write(name, 0, "x").ok());
    most = std::max(most, OpenDataFiles());
  }
  EXPECT_LE(most, 16u);
  EXPECT_EQ(*fs_.Read("f0"), "x");
}

TEST_F(FaultTest, AWriteWaitsForOnePassThoughMoreFilesAreWritten) {
  RemountWithDataFiles(1);
  for (const char* name : {"held", "next"}) {
    ASSERT_TRUE(fs_.Create(name).ok());
    ASSERT_TRUE(fs_.overlay().Open(fs_.Ino(name)).ok());
  }
  ASSERT_TRUE(fs_.Write("held", 0, "x").ok());
  // Somebody else always has something to sync, and nothing can be closed.
  std::atomic<bool> stop = false;
  auto writer = std::async(std::launch::async, [&] {
    while (!stop) fs_.Write("held", 0, "y").IgnoreError();
  });
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(fs_.Write("next", 0, "x").ok());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(25)) << "it gave up waiting";
  stop = true;
  writer.get();
}

TEST_F(FaultTest, AFileIsNotWaitedForWhereNoneCanBeClosed) {
  RemountWithDataFiles(1);
  ASSERT_TRUE(fs_.Create("held").ok());
  ASSERT_TRUE(fs_.overlay().Open(fs_.Ino("held")).ok());
  ASSERT_TRUE(fs_.Write("held", 0, "x").ok());
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(fs_.Create("next").ok());
  ASSERT_TRUE(fs_.Write("next", 0, "x").ok());
  fs_.io().set_hook([](const std::string& operation, const std::string& name) {
    const bool log = name.rfind("log", 0) == 0;
    return operation == "sync" && log ? ErrnoError(EIO, "disk") : absl::OkStatus();
  });
  EXPECT_FALSE(fs_.overlay().Fsync(fs_.Ino("next")).ok());
  ASSERT_TRUE(fs_.Create("last").ok());
  ASSERT_TRUE(fs_.Write("last", 0, "x").ok());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(25)) << "it gave up waiting";
  fs_.io().set_hook(nullptr);
}

TEST_F(FaultTest, SettingTimesLeavesNoFileOpen) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  ASSERT_TRUE(fs_.overlay().Open(fs_.Ino("rel")).ok());
  fs_.overlay().Release(fs_.Ino("rel"));
  AttributeChange change;
  change.mtime = 1;
  ASSERT_TRUE(fs_.overlay().SetAttributes(fs_.Ino("rel"), change).ok());
  const IoSnapshot io = fs_.overlay().io();
  EXPECT_EQ(io[IoCounter::kHandlesOpened], io[IoCounter::kHandlesClosed]);
  fs_.Remount();
  EXPECT_EQ(fs_.overlay().GetAttributes(fs_.Ino("rel"))->mtime, 1);
}

TEST_F(FaultTest, ADiffCanBeMountedUnmountedAndCleanedUpOnAFullDisk) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  ASSERT_TRUE(fs_.Create("orphan").ok());
  ASSERT_TRUE(fs_.Write("orphan", 0, "x").ok());
  ASSERT_TRUE(fs_.Unlink("orphan").ok());
  fs_.Die();
  fs_.io().set_hook([](const std::string& operation, const std::string& file) {
    const bool grows = operation == "allocate" || (operation == "write" && file == "log.new");
    return grows ? ErrnoError(ENOSPC, "disk") : absl::OkStatus();
  });
  ASSERT_TRUE(fs_.TryMount().ok());
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(2));
  EXPECT_EQ(ErrnoOf(fs_.Create("more")), ENOSPC);
  EXPECT_TRUE(fs_.Unlink("rel").ok());
  EXPECT_TRUE(fs_.overlay().FsyncDirectory().ok());
  fs_.Unmount();
  fs_.io().set_hook(nullptr);
  fs_.Mount();
  EXPECT_EQ(fs_.Ino("rel"), 0u);
  EXPECT_TRUE(fs_.Create("more").ok());
}

TEST_F(FaultTest, AFileSystemThatCanNotPunchGetsZeros) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2, 4 * kB)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  fs_.io().set_hook(
      [name = DataName("rel")](const std::string& operation, const std::string& file) {
        return operation == "allocate" && file == name ? ErrnoError(EOPNOTSUPP, "punch")
                                                       : absl::OkStatus();
      });
  ASSERT_TRUE(fs_.overlay()
                  .Allocate(fs_.Ino("rel"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * kB)
                  .ok());
  EXPECT_EQ(*fs_.Read("rel", 0, 2 * kB), std::string(2 * kB, '\0'));
  EXPECT_TRUE(fs_.Write("rel", 0, "x").ok());
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  fs_.Remount();
}

TEST_F(FaultTest, AFailedTruncationDoesNotBringBytesBack) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2, 4 * kB)).ok());
  fs_.io().set_hook(
      [name = DataName("rel")](const std::string& operation, const std::string& file) {
        return operation == "truncate" && file == name ? ErrnoError(EIO, "disk") : absl::OkStatus();
      });
  EXPECT_EQ(ErrnoOf(fs_.Truncate("rel", kB)), EIO);
  EXPECT_EQ(ErrnoOf(fs_.Write("rel", 6 * kB, "x")), EIO) << "a write would make the old bytes show";
  EXPECT_EQ(fs_.Size("rel"), kB);
  fs_.io().set_hook(nullptr);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("rel"), Page(2, 4 * kB).substr(0, kB));
  ASSERT_TRUE(fs_.Write("rel", 2 * kB, "x").ok());
  EXPECT_EQ(*fs_.Read("rel", kB, kB), std::string(kB, '\0'));
}

TEST_F(FaultTest, ATruncationThatFailedIsDoneBeforeTheNextWrite) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2, 4 * kB)).ok());
  fs_.io().set_hook(
      [name = DataName("rel")](const std::string& operation, const std::string& file) {
        return operation == "truncate" && file == name ? ErrnoError(EIO, "disk") : absl::OkStatus();
      });
  EXPECT_EQ(ErrnoOf(fs_.Truncate("rel", kB)), EIO);
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(fs_.Ino("rel"))), EIO);
  fs_.io().set_hook(nullptr);
  ASSERT_TRUE(fs_.Write("rel", 2 * kB, "x").ok());
  EXPECT_EQ(*fs_.Read("rel"), Page(2, kB) + std::string(kB, '\0') + "x");
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("rel"), Page(2, kB) + std::string(kB, '\0') + "x");
}

TEST_F(FaultTest, AnExtensionThatCouldNotBeUndoneIsUndoneBeforeTheNextWrite) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  fs_.io().set_short_writes(true);
  fs_.io().set_hook(
      [name = DataName("rel")](const std::string& operation, const std::string& file) {
        return file == name ? ErrnoError(ENOSPC, operation) : absl::OkStatus();
      });
  EXPECT_EQ(ErrnoOf(fs_.Write("rel", 9 * kB, Page(3))), ENOSPC);
  EXPECT_EQ(fs_.Size("rel"), 8 * kB);
  EXPECT_EQ(ErrnoOf(fs_.Write("rel", 0, Page(3))), ENOSPC);
  fs_.io().set_hook(nullptr);
  ASSERT_TRUE(fs_.Truncate("rel", 12 * kB).ok());
  EXPECT_EQ(*fs_.Read("rel", 8 * kB), std::string(static_cast<size_t>(4 * kB), '\0'));
}

TEST_F(FaultTest, WriteOutIsStartedAfterEachMiB) {
  ASSERT_TRUE(fs_.Create("new").ok());
  const std::string event = "writeback " + DataName("new");
  const auto started = [&] {
    fs_.overlay().DrainIdleWork();
    const std::vector<std::string> events = fs_.io().TakeEvents();
    return std::count(events.begin(), events.end(), event);
  };
  for (int64_t block = 0; block < 127; ++block) {
    ASSERT_TRUE(fs_.Write("new", block * kB, Page(1)).ok());
  }
  EXPECT_EQ(started(), 0);
  ASSERT_TRUE(fs_.Write("new", 127 * kB, Page(1)).ok());
  EXPECT_EQ(started(), 1);
  ASSERT_TRUE(fs_.Write("new", 0, Page(1, 256 * kB)).ok());
  EXPECT_EQ(started(), 1);
}

TEST_F(FaultTest, DamageInAnEarlierSessionOfTheLogIsReportedNotSkipped) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  fs_.Remount();
  const auto begin_of_session = std::filesystem::file_size(LogPath());
  ASSERT_TRUE(fs_.Create("created").ok());
  fs_.Unmount();
  const auto size = std::filesystem::file_size(LogPath());
  // The last record before this session is its Open.
  std::fstream log(LogPath(), std::ios::in | std::ios::out | std::ios::binary);
  log.seekp(static_cast<std::streamoff>(begin_of_session) - 16);
  log.put('\x55');
  log.close();
  EXPECT_EQ(ReasonOf(fs_.TryMount()), "DIFF_CORRUPT");
  EXPECT_EQ(std::filesystem::file_size(LogPath()), size) << "the evidence is kept";
}

TEST_F(FaultTest, TwoPunchesOfOneFileDoNotRunAtOnce) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2, 8 * kB)).ok());
  std::promise<void> entered;
  std::promise<void> go_on;
  std::atomic<int> punches = 0;
  fs_.io().set_hook(
      [&, name = DataName("rel")](const std::string& operation, const std::string& file) {
        if (operation != "allocate" || file != name || punches++ > 0) return absl::OkStatus();
        entered.set_value();
        go_on.get_future().wait();
        return absl::OkStatus();
      });
  const uint64_t ino = fs_.Ino("rel");
  const auto punch = [&](int64_t offset) {
    return fs_.overlay().Allocate(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, kB);
  };
  auto first = std::async(std::launch::async, [&] { return punch(0); });
  entered.get_future().wait();
  auto second = std::async(std::launch::async, [&] { return punch(4 * kB); });
  // The log would take the Cut of the second for the end of both.
  EXPECT_EQ(second.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  go_on.set_value();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  fs_.io().set_hook(nullptr);
  EXPECT_EQ(*fs_.Read("rel", 4 * kB, kB), std::string(kB, '\0'));
}

TEST_F(FaultTest, BytesThatATruncationTookAwayStayGoneThoughItDidNotReachTheDisk) {
  ASSERT_TRUE(fs_.Write("rel", kB, Page(2)).ok());
  ASSERT_TRUE(fs_.Truncate("rel", 0).ok());
  ASSERT_TRUE(fs_.Truncate("rel", 5 * kB).ok());
  ASSERT_TRUE(fs_.overlay().FsyncDirectory().ok());
  const std::string data = fs_.diff_path() + "/data/" + DataName("rel");
  fs_.Die();
  // A copied diff is judged like one after a power cut. The log reached the disk, the truncation of
  // the data file did not.
  const std::string copy = fs_.diff_path() + "-copy";
  std::filesystem::copy(fs_.diff_path(), copy, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(fs_.diff_path());
  std::filesystem::rename(copy, fs_.diff_path());
  std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(kB);
  file << Page(2);
  file.close();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("rel"), std::string(5 * kB, '\0')) << "old rows came back";
}

TEST_F(FaultTest, AConfigurationFileIsReplacedAsAWhole) {
  fs_.io().TakeEvents();
  fs_.io().set_hook([](const std::string& operation, const std::string& file) {
    return operation == "write" && file.rfind("log", 0) != 0 ? ErrnoError(EIO, "disk")
                                                             : absl::OkStatus();
  });
  EXPECT_FALSE(fs_.overlay().WriteFile("rel", "new", 0600).ok());
  fs_.io().set_hook(nullptr);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 8 * kB));
}

}  // namespace
}  // namespace pbkfs

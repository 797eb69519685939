// Appends and syncs of the log that fail, and a full disk, on real files.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::OverlayFixture;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;

class LogFaults : public testing::Test {
 protected:
  // Every operation of this kind on the log fails.
  void FailLog(const std::string& operation, int error) {
    fs_.io().set_hook([=](const std::string& what, const std::string& name) {
      const bool log = name == "log" || name == "log.new";
      return what == operation && log ? ErrnoError(error, "log") : absl::OkStatus();
    });
  }

  OverlayFixture fs_{{{"a", {S_IFREG | 0600, Page(1, 4 * kB)}}}};
};

TEST_F(LogFaults, AFailedAppendLeavesNothingAndTheNextOneWorks) {
  ASSERT_TRUE(fs_.Write("a", 0, Page(2)).ok());
  FailLog("write", EIO);
  EXPECT_EQ(ErrnoOf(fs_.Write("a", kB, Page(3))), EIO);
  EXPECT_EQ(ErrnoOf(fs_.Write("a", 5 * kB, Page(4))), 0) << "past the image no record is needed";
  EXPECT_EQ(ErrnoOf(fs_.Create("new")), EIO);
  EXPECT_EQ(ErrnoOf(fs_.Truncate("a", kB)), EIO);
  EXPECT_EQ(ErrnoOf(fs_.Unlink("a")), EIO);
  fs_.io().set_hook(nullptr);
  const std::string expected =
      Page(2) + Page(1, 4 * kB).substr(kB) + std::string(kB, '\0') + Page(4);
  EXPECT_EQ(*fs_.Read("a"), expected);
  EXPECT_EQ(fs_.Ino("new"), 0u);
  EXPECT_TRUE(fs_.Create("new").ok());
  EXPECT_TRUE(fs_.Write("new", 0, "x").ok());
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("a"), expected);
  EXPECT_EQ(*fs_.Read("new"), "x");
}

TEST_F(LogFaults, AShortAppendIsCutOff) {
  ASSERT_TRUE(fs_.Write("a", 0, Page(2)).ok());
  const std::string log = fs_.diff_path() + "/log";
  // More than any record has, so that what is left of it can't be taken for the last one.
  fs_.io().set_hook([&log](const std::string& operation, const std::string& name) {
    if (operation != "write" || name.rfind("log", 0) != 0) return absl::OkStatus();
    std::ofstream(log, std::ios::binary | std::ios::app) << std::string(40000, 'x');
    return ErrnoError(ENOSPC, "log");
  });
  EXPECT_EQ(ErrnoOf(fs_.Create("new")), ENOSPC);
  fs_.io().set_hook(nullptr);
  EXPECT_TRUE(fs_.Create("next").ok());
  fs_.Die();
  const absl::Status mounted = fs_.TryMount();
  ASSERT_TRUE(mounted.ok()) << mounted;
  EXPECT_EQ(*fs_.Read("a", 0, kB), Page(2));
  EXPECT_EQ(fs_.Ino("new"), 0u);
  EXPECT_NE(fs_.Ino("next"), 0u);
}

TEST_F(LogFaults, NoDataFileIsRemovedBeforeTheLogSaysSoDurably) {
  ASSERT_TRUE(fs_.Write("a", 0, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  FailLog("sync", EIO);
  const uint64_t ino = fs_.Ino("a");
  ASSERT_TRUE(fs_.Unlink("a").ok());
  fs_.overlay().Forget(ino);
  fs_.overlay().Maintain();
  const std::string data = fs_.diff_path() + "/data/" + DataFileName(ino);
  EXPECT_TRUE(std::filesystem::exists(data));
  fs_.io().set_hook(nullptr);
  fs_.overlay().Maintain();  // The log gets another file.
  fs_.overlay().Maintain();
  EXPECT_FALSE(std::filesystem::exists(data)) << "its space comes back";
}

TEST_F(LogFaults, AnExtensionWhoseRecordFailedDoesNotShow) {
  ASSERT_TRUE(
      fs_.Write("a", 0, Page(2)).ok());  // So that only the record of the blocks is missing.
  const std::string expected = Page(2) + Page(1, 4 * kB).substr(kB);
  FailLog("write", ENOSPC);
  EXPECT_EQ(ErrnoOf(fs_.Write("a", 3 * kB, Page(5, 2 * kB))), ENOSPC);
  EXPECT_EQ(fs_.Size("a"), 4 * kB);
  fs_.io().set_hook(nullptr);
  EXPECT_EQ(*fs_.Read("a"), expected);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("a"), expected);
  ASSERT_TRUE(fs_.Truncate("a", 6 * kB).ok());
  EXPECT_EQ(*fs_.Read("a", 4 * kB), std::string(2 * kB, '\0'));
}

TEST_F(LogFaults, AnAppendThatCannotBeTakenBackClosesTheLog) {
  ASSERT_TRUE(fs_.Write("a", 0, Page(2)).ok());
  fs_.io().set_hook([](const std::string& operation, const std::string& name) {
    const bool log = name == "log" || name == "log.new";
    return log && (operation == "write" || operation == "truncate") ? ErrnoError(EIO, "log")
                                                                    : absl::OkStatus();
  });
  EXPECT_EQ(ErrnoOf(fs_.Create("new")), EIO);
  fs_.io().set_hook(nullptr);
  EXPECT_EQ(ErrnoOf(fs_.Create("new")), EIO) << "what stands behind the log's end is not known";
  EXPECT_FALSE(fs_.overlay().health().ok());
  EXPECT_EQ(*fs_.Read("a", 0, kB), Page(2)) << "reads go on";
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.Read("a", 0, kB), Page(2));
  EXPECT_TRUE(fs_.Create("new").ok());
}

TEST_F(LogFaults, AFailedSyncOfTheLogStopsFsyncAndDestructionUntilItIsReplaced) {
  ASSERT_TRUE(fs_.Write("a", 0, Page(2, 3 * kB)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  ASSERT_TRUE(fs_.Create("new").ok());
  FailLog("sync", EIO);
  EXPECT_EQ(ErrnoOf(fs_.overlay().FsyncDirectory()), EIO);
  fs_.io().set_hook(nullptr);
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(fs_.Ino("new"))), EIO) << "a later sync is no proof";
  fs_.io().TakeEvents();
  EXPECT_EQ(ErrnoOf(fs_.Truncate("a", kB)), EIO);
  for (const std::string& event : fs_.io().TakeEvents()) {
    EXPECT_NE(event, "truncate " + DataFileName(fs_.Ino("a"))) << "its record is not durable";
  }
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  EXPECT_TRUE(fs_.overlay().FsyncDirectory().ok());
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("new")).ok());
}

// ---- full disk ----

TEST_F(LogFaults, OnAFullDiskUnlinkAndFsyncWorkAndSpaceComesBack) {
  ASSERT_TRUE(fs_.Create("big").ok());
  ASSERT_TRUE(fs_.Write("big", 0, Page(6, 16 * kB)).ok());
  ASSERT_TRUE(fs_.Write("a", 0, Page(7)).ok());
  // Nothing that takes space succeeds but what the log's reserve holds.
  bool full = true;
  fs_.io().set_hook([&full](const std::string& operation, const std::string& name) {
    const bool log = name == "log" || name == "log.new";
    const bool takes = operation == "allocate" || (operation == "write" && !log);
    return full && takes ? ErrnoError(ENOSPC, name) : absl::OkStatus();
  });
  EXPECT_EQ(ErrnoOf(fs_.Write("a", kB, Page(8))), ENOSPC);
  EXPECT_EQ(ErrnoOf(fs_.Write("a", 8 * kB, Page(8))), ENOSPC);
  EXPECT_EQ(fs_.Size("a"), 4 * kB);
  EXPECT_EQ(*fs_.Read("a"), Page(7) + Page(1, 4 * kB).substr(kB));
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  const uint64_t big = fs_.Ino("big");
  EXPECT_TRUE(fs_.Unlink("big").ok());
  fs_.overlay().Forget(big);
  fs_.overlay().Maintain();
  EXPECT_FALSE(std::filesystem::exists(fs_.diff_path() + "/data/" + DataFileName(big)))
      << "the space is given back";
  EXPECT_TRUE(fs_.overlay().FsyncDirectory().ok());
  full = false;
  EXPECT_TRUE(fs_.Write("a", kB, Page(8)).ok());
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("a"), Page(7) + Page(8) + Page(1, 4 * kB).substr(2 * kB));
}

}  // namespace
}  // namespace pbkfs

// What is forgotten leaves nothing behind: no open files, no inodes, no memory. PBKFS_FORGET_FILES
// sets the number of files; a million is the full tier's.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t OpenFiles() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class ForgetTest : public testing::Test {
 protected:
  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}}}};
};

TEST_F(ForgetTest, TemporaryFilesLeaveHandlesInodesAndMemoryFlat) {
  fs_.Unmount();
  OverlayOptions options;
  options.background_interval = std::chrono::milliseconds(20);
  // So that the memory of a checkpoint is counted in both looks.
  options.checkpoint_growth_bytes = int64_t{1} << 20;
  fs_.Mount(options);
  const uint64_t files = Setting("PBKFS_FORGET_FILES", 30000);
  const std::string page = Page(3);
  int64_t resident = 0;
  int64_t most_open = 0;
  for (uint64_t i = 0; i < files; ++i) {
    NewNode node;
    node.mode = S_IFREG | 0600;
    const std::string name = "pgsql_tmp." + std::to_string(i % 10);
    const auto created = fs_.overlay().Create(kRootIno, name, node, RequestId{});
    ASSERT_TRUE(created.ok()) << created.status();
    ASSERT_TRUE(fs_.overlay().Open(created->ino).ok());
    ASSERT_TRUE(fs_.overlay().Write(created->ino, 0, Bytes(page)).ok());
    ASSERT_TRUE(fs_.overlay().Unlink(kRootIno, name, RequestId{}).ok());
    fs_.overlay().Release(created->ino);
    fs_.overlay().Forget(created->ino);
    fs_.io().TakeEvents();  // The list of calls is the fixture's own memory.
    if (i == files / 5) resident = ResidentBytes();
    if (i % 1000 == 0) most_open = std::max(most_open, OpenFiles());
  }
  EXPECT_LT(most_open, 200) << "an orphan keeps no file open";
  fs_.overlay().Maintain();
  // Whatever the allocator keeps; it does not depend on the number of files.
  EXPECT_LT(ResidentBytes() - resident, int64_t{8} << 20);
  const IoSnapshot io = fs_.overlay().io();
  EXPECT_EQ(io[IoCounter::kHandlesOpened], io[IoCounter::kHandlesClosed]);
  EXPECT_EQ(fs_.overlay().pending().operations, 0u);
  EXPECT_EQ(fs_.overlay().pending().inodes, 0u);
  EXPECT_LE(fs_.overlay().tracked_inodes(), 2u);
  // The background pass may be at work on what is left.
  fs_.Unmount();
  EXPECT_TRUE(std::filesystem::is_empty(fs_.diff_path() + "/data"));
}

TEST_F(ForgetTest, AForgetWithWorkInFlightWaitsForItsEnd) {
  ASSERT_TRUE(fs_.Create("t").ok());
  const uint64_t ino = fs_.Ino("t");
  ASSERT_TRUE(fs_.overlay().Open(ino).ok());
  std::promise<void> entered;
  std::promise<void> go_on;
  std::atomic<bool> once = false;
  fs_.io().set_hook(
      [&, name = DataFileName(ino)](const std::string& operation, const std::string& file) {
        if (operation == "write" && file == name && !once.exchange(true)) {
          entered.set_value();
          go_on.get_future().wait();
        }
        return absl::OkStatus();
      });
  auto write =
      std::async(std::launch::async, [&] { return fs_.overlay().Write(ino, 0, Bytes(Page(2))); });
  entered.get_future().wait();
  ASSERT_TRUE(fs_.Unlink("t").ok());
  fs_.overlay().Release(ino);
  fs_.overlay().Forget(ino);
  EXPECT_EQ(fs_.overlay().pending().operations, 1u);
  go_on.set_value();
  EXPECT_TRUE(write.get().ok());
  fs_.overlay().Maintain();
  EXPECT_EQ(fs_.overlay().pending().operations, 0u);
  EXPECT_TRUE(std::filesystem::is_empty(fs_.diff_path() + "/data"));
  fs_.Remount();
}

TEST_F(ForgetTest, WhatTheDiffKnowsStaysWhenTheKernelForgets) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(4)).ok());
  fs_.overlay().Forget(fs_.Ino("rel"));
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(4));
  ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino("rel")).ok());
  fs_.overlay().Forget(fs_.Ino("rel"));
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(4));
}

TEST_F(ForgetTest, ManyDirtyFilesDoNotStayOpen) {
  constexpr int kFiles = 3000;
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = "f" + std::to_string(i);
    ASSERT_TRUE(fs_.Create(path).ok());
    ASSERT_TRUE(fs_.Write(path, 0, "x").ok());
  }
  // The background pass comes before its time when many are listed; the test's own timeout is the
  // limit.
  while (OpenFiles() > kFiles / 2) std::this_thread::yield();
}

}  // namespace
}  // namespace pbkfs

// diff_limit_bytes: growth ends at the limit, everything else goes on, space comes back.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <thread>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;
constexpr int64_t kLimit = int64_t{1} << 20;

class SpaceTest : public testing::Test {
 protected:
  SpaceTest() { Remount(); }
  void Remount() {
    fs_.Unmount();
    OverlayOptions options;
    options.diff_limit_bytes = kLimit;
    fs_.Mount(options);
  }
  // Writes to `path` block by block until it fails with ENOSPC, and returns how many went in.
  int64_t WriteUntilFull(const std::string& path) {
    for (int64_t block = 0;; ++block) {
      const absl::Status status = fs_.Write(path, block * kB, Page(static_cast<int>(block)));
      if (!status.ok()) {
        EXPECT_EQ(ErrnoOf(status), ENOSPC);
        return block;
      }
      if (block > 2 * kLimit / kB) {
        ADD_FAILURE() << "no limit";
        return block;
      }
    }
  }
  int64_t Taken() { return fs_.overlay().diff()->diff_bytes; }

  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}}}};
};

TEST_F(SpaceTest, GrowthEndsAtTheLimitAndWhatIsThereCanBeChanged) {
  ASSERT_TRUE(fs_.Create("a").ok());
  const int64_t blocks = WriteUntilFull("a");
  // Never far off: no more than the limit, and no less than it less one write and the log.
  EXPECT_LE(Taken(), kLimit);
  EXPECT_GE(Taken(), kLimit - 4 * kB);
  EXPECT_EQ(fs_.Size("a"), blocks * kB);
  EXPECT_TRUE(fs_.Write("a", 0, Page(7, 3 * kB)).ok()) << "nothing grows";
  EXPECT_EQ(ErrnoOf(fs_.Write("rel", 0, "x")), ENOSPC) << "a first write copies a block";
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 8 * kB));
  EXPECT_EQ(ErrnoOf(fs_.overlay().Allocate(fs_.Ino("rel"), 0, 0, 4 * kB)), ENOSPC);
  EXPECT_TRUE(fs_.overlay().Fsync(fs_.Ino("a")).ok());
  EXPECT_TRUE(fs_.Truncate("a", (blocks - 4) * kB).ok());
  EXPECT_TRUE(fs_.Write("rel", 0, Page(3)).ok()) << "space came back";
  Remount();
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(3));
  EXPECT_LT(WriteUntilFull("rel"), 16) << "the next mount counts what is there";
}

TEST_F(SpaceTest, TheSpaceOfRemovedFilesComesBackAtOnce) {
  ASSERT_TRUE(fs_.Create("a").ok());
  ASSERT_TRUE(fs_.Create("b").ok());
  for (int round = 0; round < 3; ++round) {
    const int64_t blocks = WriteUntilFull("a");
    EXPECT_GT(blocks, 100);
    const uint64_t ino = fs_.Ino("a");
    ASSERT_TRUE(fs_.Unlink("a").ok());
    fs_.overlay().Forget(ino);
    ASSERT_TRUE(fs_.Write("b", 0, Page(round)).ok());
    ASSERT_TRUE(fs_.Create("a").ok());
  }
}

TEST_F(SpaceTest, FreeSpaceIsWhatIsLeftOfTheLimit) {
  const auto free_bytes = [&] {
    const struct statvfs fs = *fs_.overlay().FileSystem();
    EXPECT_EQ(static_cast<int64_t>(fs.f_blocks * fs.f_frsize), kLimit);
    return static_cast<int64_t>(fs.f_bavail * fs.f_frsize);
  };
  const int64_t before = free_bytes();
  EXPECT_LE(before, kLimit);
  ASSERT_TRUE(fs_.Write("rel", 0, Page(3, 4 * kB)).ok());
  EXPECT_LE(free_bytes(), before - 4 * kB);
  EXPECT_GE(free_bytes(), before - 6 * kB);
  ASSERT_TRUE(fs_.Create("a").ok());
  WriteUntilFull("a");
  EXPECT_LE(free_bytes(), 2 * kB);
}

TEST_F(SpaceTest, ThreadsTogetherDoNotPassTheLimit) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::string path = "f" + std::to_string(i);
      if (fs_.Create(path).ok()) WriteUntilFull(path);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(Taken(), kLimit);
  EXPECT_GE(Taken(), kLimit - 8 * kB);
}

TEST_F(SpaceTest, APunchGivesSpaceBackThoughTheDiffIsFull) {
  ASSERT_TRUE(fs_.Create("a").ok());
  WriteUntilFull("a");
  ASSERT_TRUE(fs_.overlay()
                  .Allocate(fs_.Ino("a"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5, 20 * kB)
                  .ok());
  EXPECT_TRUE(fs_.Write("rel", 0, Page(3, 8 * kB)).ok());
}

}  // namespace
}  // namespace pbkfs

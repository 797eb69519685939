// SEEK_DATA and SEEK_HOLE: whatever is called a hole must read as zeros, by name and by seed.
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <random>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

class SeekTest : public testing::Test {
 protected:
  // The answer, or -errno.
  int64_t Seek(const char* path, int64_t offset, int whence) {
    const auto found = fs_.overlay().Seek(fs_.Ino(path), offset, whence);
    return found.ok() ? *found : -ErrnoOf(found.status());
  }
  int64_t Data(const char* path, int64_t offset) { return Seek(path, offset, SEEK_DATA); }
  int64_t Hole(const char* path, int64_t offset) { return Seek(path, offset, SEEK_HOLE); }

  // Walks the file from data to hole to data: everything between is zeros.
  void CheckHoles(const char* path) {
    const std::string content = *fs_.Read(path);
    const auto size = static_cast<int64_t>(content.size());
    int64_t at = 0;
    while (at < size) {
      const int64_t data = Data(path, at);
      const int64_t end = data == -ENXIO ? size : data;
      ASSERT_GE(end, at);
      ASSERT_LE(end, size);
      for (int64_t i = at; i < end; ++i) ASSERT_EQ(content[static_cast<size_t>(i)], 0) << i;
      if (data == -ENXIO) return;
      const int64_t hole = Hole(path, data);
      ASSERT_GT(hole, data);
      ASSERT_LE(hole, size);
      at = hole;
    }
    EXPECT_EQ(Data(path, size), -ENXIO);
    EXPECT_EQ(Hole(path, size), -ENXIO);
  }

  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}},
                      {"odd", {S_IFREG | 0600, Page(2, 3 * kB + 100)}},
                      {"zero", {S_IFREG | 0600, std::string(4 * kB, '\0')}}}};
};

TEST_F(SeekTest, WhatTheImageShowsIsData) {
  EXPECT_EQ(Data("rel", 5), 5);
  EXPECT_EQ(Hole("rel", 5), 8 * kB);
  EXPECT_EQ(Data("zero", kB), kB);
  EXPECT_EQ(Data("rel", 8 * kB), -ENXIO);
  EXPECT_EQ(Hole("rel", 8 * kB), -ENXIO);
  EXPECT_EQ(Data("rel", -1), -ENXIO);
  EXPECT_EQ(Seek("rel", 0, SEEK_SET), -EINVAL);
}

TEST_F(SeekTest, HolesOfTheDataFileAreHolesOnlyWhereItIsAsked) {
  ASSERT_TRUE(fs_.Write("rel", 6 * kB, Page(3)).ok());
  // Blocks 0-5 are holes of the data file and bytes of the image.
  EXPECT_EQ(Hole("rel", 0), 8 * kB);
  ASSERT_TRUE(
      fs_.overlay()
          .Allocate(fs_.Ino("rel"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * kB, 2 * kB)
          .ok());
  EXPECT_EQ(Hole("rel", 0), 2 * kB);
  EXPECT_EQ(Data("rel", 2 * kB), 4 * kB);
  CheckHoles("rel");
}

TEST_F(SeekTest, SpaceAfterTheImageIsAHole) {
  ASSERT_TRUE(fs_.Truncate("odd", 20 * kB).ok());
  EXPECT_EQ(Data("odd", 4 * kB), -ENXIO) << "there is no data file";
  EXPECT_EQ(Hole("odd", 4 * kB), 4 * kB);
  ASSERT_TRUE(fs_.Write("odd", 16 * kB, "x").ok());
  EXPECT_EQ(Data("odd", 4 * kB), 16 * kB);
  EXPECT_GT(Hole("odd", 16 * kB), 16 * kB);
  EXPECT_LE(Hole("odd", 16 * kB), 17 * kB);
  CheckHoles("odd");
}

TEST_F(SeekTest, AnEmptyFileHasNeither) {
  ASSERT_TRUE(fs_.Create("new").ok());
  EXPECT_EQ(Data("new", 0), -ENXIO);
  EXPECT_EQ(Hole("new", 0), -ENXIO);
}

TEST_F(SeekTest, HolesOfRandomFilesAreZeros) {
  const uint64_t only = Setting("PBKFS_SEEK_SEED", 0);
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : 40); ++seed) {
    std::mt19937_64 random(seed);
    const std::string path = "f" + std::to_string(seed);
    ASSERT_TRUE(fs_.Create(path).ok());
    for (int step = 0; step < 12; ++step) {
      const char* const file = random() % 2 == 0 ? "rel" : path.c_str();
      const auto offset = static_cast<int64_t>(random() % (12 * kB));
      const auto length = static_cast<int64_t>(1 + random() % (3 * kB));
      const uint64_t ino = fs_.Ino(file);
      switch (random() % 4) {
        case 0:
          ASSERT_TRUE(fs_.Write(file, offset, Page(step, static_cast<size_t>(length))).ok());
          break;
        case 1:
          ASSERT_TRUE(fs_.Truncate(file, offset).ok());
          break;
        case 2:
          ASSERT_TRUE(fs_.overlay()
                          .Allocate(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
                          .ok());
          break;
        default:
          ASSERT_TRUE(fs_.overlay().Allocate(ino, 0, offset, length).ok());
      }
      CheckHoles(file);
      ASSERT_FALSE(HasFailure()) << "replay: PBKFS_SEEK_SEED=" << seed
                                 << " fs_overlay_test --gtest_filter=SeekTest.HolesOfRandom*";
    }
  }
}

}  // namespace
}  // namespace pbkfs

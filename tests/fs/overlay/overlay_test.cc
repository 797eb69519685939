#include "fs/overlay/overlay.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <filesystem>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::MemoryTree;
using testsupport::OverlayFixture;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;

std::string Pages(int first_seed, int count) {
  std::string pages;
  for (int i = 0; i < count; ++i) pages += Page(first_seed + i);
  return pages;
}

class OverlayTest : public testing::Test {
 protected:
  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Pages(1, 10)}},
                      {"odd", {S_IFREG | 0600, Page(50, 10000)}},
                      {"dir/one", {S_IFREG | 0600, "one"}},
                      {"dir/two", {S_IFREG | 0600, "two"}}}};
};

TEST_F(OverlayTest, APageEqualToTheBackupsStaysReadable) {
  ASSERT_TRUE(fs_.Write("rel", 3 * kB, Page(4)).ok());
  EXPECT_EQ(*fs_.Read("rel"), Pages(1, 10));
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), Pages(1, 10));
}

TEST_F(OverlayTest, APartialWriteCompletesItsBlockFromTheBackup) {
  std::string expected = Pages(1, 10);
  expected.replace(3 * kB + 100, 5, "hello");
  ASSERT_TRUE(fs_.Write("rel", 3 * kB + 100, "hello").ok());
  EXPECT_EQ(*fs_.Read("rel"), expected);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), expected);
}

TEST_F(OverlayTest, AWriteOverSeveralBlocksKeepsBothEdges) {
  std::string expected = Pages(1, 10);
  const std::string patch = Page(99, 20000);
  expected.replace(kB + 500, patch.size(), patch);
  ASSERT_TRUE(fs_.Write("rel", kB + 500, patch).ok());
  EXPECT_EQ(*fs_.Read("rel"), expected);
  EXPECT_EQ(fs_.overlay().io()[IoCounter::kBlocksCopied], 2u);
}

TEST_F(OverlayTest, TruncatedBytesDoNotComeBackWhenTheFileGrowsAgain) {
  ASSERT_TRUE(fs_.Truncate("rel", 2 * kB + 10).ok());
  ASSERT_TRUE(fs_.Truncate("rel", 5 * kB).ok());
  std::string expected = Pages(1, 10).substr(0, 2 * kB + 10);
  expected.resize(5 * kB, '\0');
  EXPECT_EQ(*fs_.Read("rel"), expected);
  ASSERT_TRUE(fs_.Write("rel", 4 * kB, Page(70)).ok());
  expected.replace(4 * kB, kB, Page(70));
  EXPECT_EQ(*fs_.Read("rel"), expected);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), expected);
}

TEST_F(OverlayTest, WrittenBytesThatWereTruncatedDoNotComeBackEither) {
  ASSERT_TRUE(fs_.Write("rel", 2 * kB, Page(70)).ok());
  ASSERT_TRUE(fs_.Write("rel", 12 * kB, Page(71)).ok());
  ASSERT_TRUE(fs_.Truncate("rel", kB).ok());
  ASSERT_TRUE(fs_.Write("rel", 14 * kB, "end").ok());
  std::string expected = Page(1);
  expected.resize(14 * kB, '\0');
  expected += "end";
  EXPECT_EQ(*fs_.Read("rel"), expected);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), expected);
}

TEST_F(OverlayTest, AFileRewrittenShorterHasItsNewLength) {
  ASSERT_TRUE(fs_.Truncate("odd", 0).ok());
  ASSERT_TRUE(fs_.Write("odd", 0, "short").ok());
  EXPECT_EQ(*fs_.Read("odd"), "short");
  EXPECT_EQ(fs_.Size("odd"), 5);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("odd"), "short");
}

TEST_F(OverlayTest, ABlockThatStraddlesTheEndOfTheBackupsFileIsCompleted) {
  ASSERT_TRUE(fs_.Write("odd", 12000, "tail").ok());
  std::string expected = Page(50, 10000);
  expected.resize(12000, '\0');
  expected += "tail";
  EXPECT_EQ(*fs_.Read("odd"), expected);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("odd"), expected);
}

TEST_F(OverlayTest, ANewFileKeepsItsPages) {
  ASSERT_TRUE(fs_.Create("dir/new").ok());
  ASSERT_TRUE(fs_.Write("dir/new", 0, Pages(20, 3)).ok());
  EXPECT_EQ(*fs_.Read("dir/new"), Pages(20, 3));
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("dir/new"), Pages(20, 3));
}

TEST_F(OverlayTest, ARenamedDirectoryKeepsItsChildren) {
  ASSERT_TRUE(fs_.Create("dir/new").ok());
  ASSERT_TRUE(fs_.Rename("dir", "moved").ok());
  for (int pass = 0; pass < 2; ++pass) {
    EXPECT_EQ(*fs_.Read("moved/one"), "one");
    EXPECT_NE(fs_.Ino("moved/new"), 0u);
    EXPECT_EQ(fs_.Ino("dir"), 0u);
    fs_.Remount();
  }
}

TEST_F(OverlayTest, AFileCreatedUnderARemovedNameIsEmpty) {
  ASSERT_TRUE(fs_.Unlink("rel").ok());
  ASSERT_TRUE(fs_.Create("rel").ok());
  EXPECT_EQ(*fs_.Read("rel"), "");
  ASSERT_TRUE(fs_.Write("rel", 0, "fresh").ok());
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), "fresh");
}

TEST_F(OverlayTest, AnUnlinkedFileStaysReadableAndWritableWhileItIsOpen) {
  const uint64_t ino = fs_.Ino("rel");
  ASSERT_TRUE(fs_.overlay().Open(ino).ok());
  ASSERT_TRUE(fs_.overlay().Write(ino, 0, testsupport::Bytes("changed")).ok());
  ASSERT_TRUE(fs_.Unlink("rel").ok());
  EXPECT_EQ(fs_.ReadIno(ino, 0, 7).value(), "changed");
  EXPECT_EQ(fs_.ReadIno(ino, kB, kB).value(), Page(2));
  ASSERT_TRUE(fs_.overlay().Write(ino, kB, testsupport::Bytes("more")).ok());
  EXPECT_EQ(fs_.ReadIno(ino, kB, 4).value(), "more");
  fs_.overlay().Release(ino);
  fs_.overlay().Forget(ino);
  fs_.Remount();
  EXPECT_EQ(fs_.Ino("rel"), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(fs_.diff_path() + "/data"));
}

TEST_F(OverlayTest, FallocateExtendsAndKeepsWhatIsThere) {
  ASSERT_TRUE(fs_.overlay().Allocate(fs_.Ino("rel"), 0, 9 * kB, 3 * kB).ok());
  std::string expected = Pages(1, 10);
  expected.resize(12 * kB, '\0');
  EXPECT_EQ(*fs_.Read("rel"), expected);
  ASSERT_TRUE(fs_.overlay().Allocate(fs_.Ino("rel"), FALLOC_FL_KEEP_SIZE, 20 * kB, kB).ok());
  EXPECT_EQ(fs_.Size("rel"), 12 * kB);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), expected);
}

TEST_F(OverlayTest, APunchedRangeIsZerosAndStaysSo) {
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  ASSERT_TRUE(fs_.Write("rel", 4 * kB, Page(60)).ok());
  ASSERT_TRUE(fs_.overlay().Allocate(fs_.Ino("rel"), punch, 2 * kB + 100, 4 * kB).ok());
  std::string expected = Pages(1, 10);
  expected.replace(2 * kB + 100, 4 * kB, std::string(4 * kB, '\0'));
  EXPECT_EQ(*fs_.Read("rel"), expected);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), expected);
  ASSERT_TRUE(fs_.overlay().Allocate(fs_.Ino("rel"), FALLOC_FL_ZERO_RANGE, 0, 12 * kB).ok());
  EXPECT_EQ(*fs_.Read("rel"), std::string(12 * kB, '\0'));
}

TEST_F(OverlayTest, ChmodOnARelationLasts) {
  AttributeChange change;
  change.mode = 0640;
  change.uid = 12;
  ASSERT_TRUE(fs_.overlay().SetAttributes(fs_.Ino("rel"), change).ok());
  fs_.Remount();
  const auto attributes = fs_.overlay().GetAttributes(fs_.Ino("rel"));
  EXPECT_EQ(attributes->mode, S_IFREG | 0640u);
  EXPECT_EQ(attributes->uid, 12u);
  EXPECT_EQ(*fs_.Read("rel"), Pages(1, 10));
}

TEST_F(OverlayTest, AReadPastTheEndReturnsNothing) {
  EXPECT_EQ(*fs_.Read("rel", 10 * kB), "");
  EXPECT_EQ(*fs_.Read("rel", 100 * kB), "");
  EXPECT_EQ(fs_.Read("odd", 9000, 5000)->size(), 1000u);
}

TEST_F(OverlayTest, ReadsLeaveTheDiffEmpty) {
  ASSERT_TRUE(fs_.Read("rel").ok());
  ASSERT_TRUE(fs_.Read("odd").ok());
  EXPECT_TRUE(std::filesystem::is_empty(fs_.diff_path() + "/data"));
  EXPECT_EQ(fs_.overlay().io()[IoCounter::kReadBytesBackup], 10u * kB + 10000u);
  EXPECT_EQ(fs_.overlay().io()[IoCounter::kReadBytesDiff], 0u);
}

TEST_F(OverlayTest, EveryByteOfAnAnswerIsCountedOnceAndTheDaemonsOwnReadsNever) {
  ASSERT_TRUE(fs_.Write("rel", 0, std::string(kB, 'w')).ok());
  ASSERT_TRUE(fs_.Truncate("odd", 20000).ok());
  ASSERT_TRUE(fs_.overlay().ReadFile("rel", 1 << 20).ok());
  const IoSnapshot before = fs_.overlay().io();
  EXPECT_EQ(before[IoCounter::kReadBytesDiff] + before[IoCounter::kReadBytesBackup], 0u);
  ASSERT_EQ(fs_.Read("rel")->size() + fs_.Read("odd")->size(), 10u * kB + 20000u);
  const IoSnapshot after = fs_.overlay().io();
  const uint64_t diff = after[IoCounter::kReadBytesDiff];
  const uint64_t backup = after[IoCounter::kReadBytesBackup];
  EXPECT_GE(diff, kB);
  EXPECT_GE(backup, 9 * kB);
  EXPECT_EQ(diff + backup + after[IoCounter::kReadBytesZero], 10u * kB + 20000u);
}

TEST_F(OverlayTest, RenameOverAnExistingFileReplacesIt) {
  ASSERT_TRUE(fs_.Create("tmp").ok());
  ASSERT_TRUE(fs_.Write("tmp", 0, "new content").ok());
  EXPECT_EQ(ErrnoOf(fs_.Rename("tmp", "rel", RENAME_NOREPLACE)), EEXIST);
  ASSERT_TRUE(fs_.Rename("tmp", "rel").ok());
  EXPECT_EQ(fs_.Ino("tmp"), 0u);
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel"), "new content");
}

TEST_F(OverlayTest, HardLinksShareTheirContent) {
  ASSERT_TRUE(fs_.Link("dir/one", "alias").ok());
  ASSERT_TRUE(fs_.Write("alias", 0, "ONE").ok());
  EXPECT_EQ(*fs_.Read("dir/one"), "ONE");
  ASSERT_TRUE(fs_.Unlink("dir/one").ok());
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("alias"), "ONE");
  EXPECT_EQ(fs_.overlay().GetAttributes(fs_.Ino("alias"))->nlink, 1u);
}

TEST_F(OverlayTest, DirectoriesAreRemovedOnlyWhenEmpty) {
  EXPECT_EQ(ErrnoOf(fs_.Rmdir("dir")), ENOTEMPTY);
  ASSERT_TRUE(fs_.Unlink("dir/one").ok());
  ASSERT_TRUE(fs_.Unlink("dir/two").ok());
  ASSERT_TRUE(fs_.Rmdir("dir").ok());
  ASSERT_TRUE(fs_.Mkdir("dir").ok());
  fs_.Remount();
  EXPECT_NE(fs_.Ino("dir"), 0u);
  EXPECT_EQ(fs_.Ino("dir/one"), 0u);
}

TEST_F(OverlayTest, AReadOnlyMountRefusesChanges) {
  fs_.Unmount();
  OverlayOptions options;
  options.read_only = true;
  fs_.Mount(options);
  EXPECT_EQ(ErrnoOf(fs_.Write("rel", 0, "x")), EROFS);
  EXPECT_EQ(ErrnoOf(fs_.Create("x")), EROFS);
  EXPECT_EQ(ErrnoOf(fs_.Unlink("rel")), EROFS);
  EXPECT_EQ(ErrnoOf(fs_.Rename("rel", "x")), EROFS);
  EXPECT_EQ(ErrnoOf(fs_.Truncate("rel", 0)), EROFS);
  EXPECT_EQ(*fs_.Read("rel"), Pages(1, 10));
}

TEST_F(OverlayTest, WhatWasSyncedSurvivesWithoutACleanUnmount) {
  ASSERT_TRUE(fs_.Write("rel", 2 * kB, Page(80)).ok());
  ASSERT_TRUE(fs_.Create("dir/new").ok());
  ASSERT_TRUE(fs_.Write("dir/new", 0, Pages(30, 2)).ok());
  ASSERT_TRUE(fs_.Truncate("odd", 100).ok());
  for (const char* path : {"rel", "dir/new", "odd"}) {
    ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino(path)).ok());
  }
  fs_.Die();
  fs_.Mount();
  std::string expected = Pages(1, 10);
  expected.replace(2 * kB, kB, Page(80));
  EXPECT_EQ(*fs_.Read("rel"), expected);
  EXPECT_EQ(*fs_.Read("dir/new"), Pages(30, 2));
  EXPECT_EQ(*fs_.Read("odd"), Page(50, 100));
}

TEST_F(OverlayTest, FilesByPathAreReplacedDurably) {
  ASSERT_TRUE(fs_.overlay().WriteFile("odd", "a=1\n", 0600).ok());
  ASSERT_TRUE(fs_.overlay().WriteFile("dir/fresh.conf", "b=2\n", 0640).ok());
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(*fs_.overlay().ReadFile("odd", 100), "a=1\n");
  EXPECT_EQ(*fs_.overlay().ReadFile("dir/fresh.conf", 100), "b=2\n");
  EXPECT_EQ(ErrnoOf(fs_.overlay().ReadFile("nothing", 100).status()), ENOENT);
  EXPECT_FALSE(fs_.overlay().ReadFile("rel", 100).ok());
}

TEST_F(OverlayTest, ForgottenInodesLeaveNothingBehind) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(fs_.Create("t").ok());
    const uint64_t ino = fs_.Ino("t");
    ASSERT_TRUE(fs_.overlay().Open(ino).ok());
    ASSERT_TRUE(fs_.overlay().Write(ino, 0, testsupport::Bytes("temporary")).ok());
    ASSERT_TRUE(fs_.Unlink("t").ok());
    fs_.overlay().Release(ino);
    fs_.overlay().Forget(ino);
  }
  fs_.Remount();
  EXPECT_TRUE(std::filesystem::is_empty(fs_.diff_path() + "/data"));
  const IoSnapshot io = fs_.overlay().io();
  EXPECT_EQ(io[IoCounter::kHandlesOpened], io[IoCounter::kHandlesClosed]);
}

}  // namespace
}  // namespace pbkfs

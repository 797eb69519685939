// A session that goes on in another process: nothing that was answered is lost, nothing is done
// twice. The process "dies" by destroying the overlay, which syncs and marks nothing.
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/status.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::MemoryTree;
using testsupport::OverlayFixture;
using testsupport::Page;

constexpr uint64_t kNonce = 77;

class TakeoverTest : public ::testing::Test {
 protected:
  TakeoverTest()
      : fs_(std::map<std::string, MemoryTree::Entry>{{"base", {S_IFREG | 0600, Page(1)}}}) {
    fs_.Unmount();
    OverlayOptions options;
    options.session_nonce = kNonce;
    fs_.Mount(options);
  }

  // Another process goes on, with handles of `open`.
  void TakeOver(std::vector<uint64_t> open = {}) {
    fs_.Die();
    OverlayOptions options;
    Takeover& takeover = options.takeover.emplace();
    takeover.session_nonce = kNonce;
    takeover.open_inodes = std::move(open);
    takeover.witness = *fs_.io().OpenDir(fs_.diff_path());
    const absl::Status taken = fs_.TryTakeOver(options);
    ASSERT_TRUE(taken.ok()) << taken;
  }

  absl::StatusOr<Attributes> Create(const std::string& name, uint64_t unique,
                                    uint64_t nonce = kNonce) {
    NewNode node;
    node.mode = S_IFREG | 0600;
    return fs_.overlay().Create(kRootIno, name, node, {nonce, unique, FUSE_CREATE});
  }
  absl::Status Unlink(const std::string& name, uint64_t unique) {
    return fs_.overlay().Unlink(kRootIno, name, {kNonce, unique, FUSE_UNLINK});
  }

  OverlayFixture fs_;
};

TEST_F(TakeoverTest, ARequestThatIsSentAgainGetsItsFirstAnswer) {
  const auto first = Create("a", 10);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(Unlink("base", 12).ok());
  TakeOver();
  const auto again = Create("a", 10);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ino, first->ino);
  EXPECT_TRUE(Unlink("base", 12).ok());
  // Once all are answered, the numbers mean nothing any more.
  fs_.overlay().answers().EndOfResends();
  EXPECT_EQ(ErrnoOf(Create("a", 10).status()), EEXIST);
  EXPECT_EQ(ErrnoOf(Unlink("base", 12)), ENOENT);
}

TEST_F(TakeoverTest, ARequestWithTheNumberOfAnotherIsExecuted) {
  ASSERT_TRUE(Create("a", 10).ok());
  TakeOver();
  const auto other = Create("b", 10);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(fs_.Ino("b"), other->ino);
}

TEST_F(TakeoverTest, ARequestOfAnEarlierConnectionWithTheSameNumberIsNotMistaken) {
  ASSERT_TRUE(Create("a", 10, /*nonce=*/kNonce + 1).ok());
  TakeOver();
  EXPECT_EQ(ErrnoOf(Create("a", 10).status()), EEXIST);
}

TEST_F(TakeoverTest, ACheckpointCarriesAnswersOver) {
  const auto first = Create("a", 10);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(Create("b", 12).ok());
  fs_.overlay().answers().Answered(12);
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  TakeOver();
  // Also through a second checkpoint and takeover.
  ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  TakeOver();
  const auto again = Create("a", 10);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ino, first->ino);
}

TEST_F(TakeoverTest, AFileWithoutANameLivesOnlyWhileItIsOpen) {
  ASSERT_TRUE(fs_.Create("open").ok());
  ASSERT_TRUE(fs_.Write("open", 0, "content").ok());
  ASSERT_TRUE(fs_.Create("closed").ok());
  const uint64_t open = fs_.Ino("open");
  const uint64_t closed = fs_.Ino("closed");
  ASSERT_TRUE(fs_.overlay().Open(open).ok());
  ASSERT_TRUE(fs_.Unlink("open").ok());
  ASSERT_TRUE(fs_.Unlink("closed").ok());
  TakeOver({open});
  EXPECT_EQ(*fs_.ReadIno(open), "content");
  EXPECT_FALSE(fs_.ReadIno(closed).ok());
}

// The kernel may know its number: by a descriptor of O_PATH, or by an open(2) that is under way.
TEST_F(TakeoverTest, AFileOfTheImageThatIsGoneDoesNotComeBack) {
  ASSERT_TRUE(fs_.Write("base", 0, Page(2)).ok());
  const uint64_t ino = fs_.Ino("base");
  ASSERT_TRUE(fs_.Unlink("base").ok());
  for (int i = 0; i < 2; ++i) {
    TakeOver();
    EXPECT_EQ(ErrnoOf(fs_.overlay().Open(ino)), ENOENT);
    EXPECT_EQ(ErrnoOf(fs_.overlay().GetAttributes(ino).status()), ENOENT);
    ASSERT_TRUE(fs_.overlay().Checkpoint().ok());
  }
}

TEST_F(TakeoverTest, WhatWasWrittenAfterAShrinkThatWasFinishedLateStays) {
  ASSERT_TRUE(fs_.Write("base", 0, Page(2)).ok());
  fs_.io().set_hook([](const std::string& operation, const std::string&) {
    return operation == "truncate" ? ErrnoError(EIO, "injected") : absl::OkStatus();
  });
  EXPECT_FALSE(fs_.Truncate("base", 100).ok());
  fs_.io().set_hook({});
  TakeOver();
  EXPECT_EQ(fs_.Size("base"), 100);
  ASSERT_TRUE(fs_.Write("base", 100, std::string(50, 'n')).ok());
  TakeOver();
  EXPECT_EQ(*fs_.Read("base"), Page(2).substr(0, 100) + std::string(50, 'n'));
}

TEST_F(TakeoverTest, TheLogIsSyncedBeforeBytesThatOnlyTheDataFileConfirmedAreDestroyed) {
  ASSERT_TRUE(fs_.Create("new").ok());
  ASSERT_TRUE(fs_.Write("new", 0, Page(1)).ok());
  const uint64_t ino = fs_.Ino("new");
  ASSERT_TRUE(fs_.overlay().Fsync(ino).ok());
  ASSERT_TRUE(fs_.Write("new", kBlockSize, Page(2)).ok());
  ASSERT_TRUE(fs_.overlay().Fsync(ino).ok());
  TakeOver();
  fs_.io().TakeEvents();
  ASSERT_TRUE(fs_.Truncate("new", kBlockSize + 100).ok());
  const std::vector<std::string> events = fs_.io().TakeEvents();
  const auto cut = std::find(events.begin(), events.end(), "truncate " + DataFileName(ino));
  ASSERT_NE(cut, events.end());
  EXPECT_LT(std::find(events.begin(), events.end(), "sync log"), cut);
}

TEST_F(TakeoverTest, AWriteOutThatFailedInBetweenFailsEveryFsync) {
  ASSERT_TRUE(fs_.Write("base", 0, Page(2)).ok());
  fs_.Die();
  OverlayOptions options;
  Takeover& takeover = options.takeover.emplace();
  takeover.session_nonce = kNonce;
  takeover.witness = *fs_.io().OpenDir(fs_.diff_path());
  takeover.sync_failed = true;
  ASSERT_TRUE(fs_.TryTakeOver(options).ok());
  EXPECT_EQ(ErrnoOf(fs_.overlay().Fsync(fs_.Ino("base"))), EIO);
  EXPECT_EQ(*fs_.Read("base"), Page(2));
}

}  // namespace
}  // namespace pbkfs

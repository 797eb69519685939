// materialize_on_read: what is read is copied into the diff, never over anything newer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <future>
#include <random>
#include <thread>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

class FillsTest : public testing::Test {
 protected:
  FillsTest() { Remount(); }
  static OverlayOptions Options() {
    OverlayOptions options;
    options.materialize_on_read = true;
    return options;
  }
  void Remount(const OverlayOptions& options = Options()) {
    fs_.Unmount();
    fs_.Mount(options);
  }
  void ReadAndFill(const char* path) {
    ASSERT_TRUE(fs_.Read(path).ok());
    fs_.overlay().DrainIdleWork();
  }
  uint64_t Count(IoCounter counter) { return fs_.overlay().io()[counter]; }
  // Runs `action` when a fill is about to write into the data file of `ino`, and lets the fill go
  // on when `action` has returned.
  void AtTheWriteOf(uint64_t ino, std::function<void()> action) {
    fs_.io().set_hook([name = DataFileName(ino), action = std::move(action),
                       done = std::make_shared<std::atomic<bool>>(false)](
                          const std::string& operation, const std::string& file) {
      if (operation == "write" && file == name && !done->exchange(true)) action();
      return absl::OkStatus();
    });
  }

  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 40 * kB)}},
                      {"odd", {S_IFREG | 0600, Page(2, 3 * kB + 100)}}}};
};

TEST_F(FillsTest, WhatWasReadNoLongerNeedsTheImage) {
  ReadAndFill("rel");
  ReadAndFill("odd");
  EXPECT_EQ(Count(IoCounter::kFillsDone), 44u);
  fs_.lower().set_unavailable(true);
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 40 * kB));
  EXPECT_EQ(*fs_.Read("odd"), Page(2, 3 * kB + 100));
  Remount();
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 40 * kB));
  fs_.Die();
  fs_.Mount(Options());
  EXPECT_EQ(*fs_.Read("odd"), Page(2, 3 * kB + 100));
}

TEST_F(FillsTest, WithoutTheOptionReadsChangeNothing) {
  Remount({});
  ReadAndFill("rel");
  EXPECT_EQ(Count(IoCounter::kFillsDone), 0u);
  EXPECT_EQ(fs_.overlay().diff_store().OpenData(fs_.Ino("rel")).ok(), false);
}

TEST_F(FillsTest, TimesStayAsTheyAreNowAndAfterACrash) {
  const Attributes before = *fs_.overlay().GetAttributes(fs_.Ino("rel"));
  ReadAndFill("rel");
  for (int i = 0; i < 2; ++i) {
    const Attributes now = *fs_.overlay().GetAttributes(fs_.Ino("rel"));
    EXPECT_EQ(now.mtime, before.mtime);
    EXPECT_EQ(now.ctime, before.ctime);
    fs_.Die();
    fs_.Mount(Options());
  }
}

TEST_F(FillsTest, AFillAfterAWriteKeepsTheTimeOfTheWrite) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(5)).ok());
  const int64_t written = fs_.overlay().GetAttributes(fs_.Ino("rel"))->mtime;
  ReadAndFill("rel");
  fs_.Die();
  fs_.Mount(Options());
  EXPECT_EQ(fs_.overlay().GetAttributes(fs_.Ino("rel"))->mtime, written);
}

TEST_F(FillsTest, AWriteOfTheBlockThatIsBeingFilledComesAfterIt) {
  const uint64_t ino = fs_.Ino("rel");
  std::future<absl::Status> write;
  AtTheWriteOf(ino, [&] {
    // Drawn while the fill runs: it waits, and its bytes win.
    write = std::async(std::launch::async,
                       [&] { return fs_.overlay().Write(ino, kB, Bytes(Page(9))); });
    while (fs_.overlay().pending().operations < 2) std::this_thread::yield();
    // Readers, fsync and stat don't wait for the fill.
    EXPECT_EQ(*fs_.ReadIno(ino, 20 * kB, kB), Page(1, 40 * kB).substr(20 * kB, kB));
  });
  ReadAndFill("rel");
  ASSERT_TRUE(write.get().ok());
  fs_.overlay().DrainIdleWork();
  EXPECT_EQ(*fs_.Read("rel", kB, kB), Page(9));
  fs_.Remount();
  EXPECT_EQ(*fs_.Read("rel", kB, kB), Page(9));
}

TEST_F(FillsTest, ABlockThatIsBeingWrittenIsNotFilled) {
  const uint64_t ino = fs_.Ino("rel");
  std::future<absl::Status> write;
  std::atomic<int> writes = 0;
  fs_.io().set_hook(
      [&, name = DataFileName(ino)](const std::string& operation, const std::string& file) {
        if (operation != "write" || file != name) return absl::OkStatus();
        const int number = writes++;
        if (number == 0) {
          // The fill of block 20. Behind it comes one of block 0, which is being written then.
          EXPECT_TRUE(fs_.ReadIno(ino, 0, kB).ok());
          write = std::async(std::launch::async,
                             [&] { return fs_.overlay().Write(ino, 0, Bytes(Page(8))); });
          while (writes < 2) std::this_thread::yield();
        } else if (number == 1) {
          while (Count(IoCounter::kFillsConflict) == 0) std::this_thread::yield();
        }
        return absl::OkStatus();
      });
  ASSERT_TRUE(fs_.ReadIno(ino, 20 * kB, kB).ok());
  fs_.overlay().DrainIdleWork();
  ASSERT_TRUE(write.get().ok());
  EXPECT_EQ(Count(IoCounter::kFillsDone), 1u);
  EXPECT_EQ(Count(IoCounter::kFillsConflict), 1u);
  EXPECT_EQ(*fs_.Read("rel", 0, kB), Page(8));
}

TEST_F(FillsTest, ATruncationDuringAFillCutsWhatWasFilled) {
  const uint64_t ino = fs_.Ino("rel");
  std::future<absl::Status> cut;
  AtTheWriteOf(ino, [&] {
    cut = std::async(std::launch::async, [&] {
      AttributeChange change;
      change.size = kB + 5;
      return fs_.overlay().SetAttributes(ino, change).status();
    });
    while (fs_.overlay().pending().operations < 2) std::this_thread::yield();
  });
  ReadAndFill("rel");
  ASSERT_TRUE(cut.get().ok());
  fs_.overlay().DrainIdleWork();
  ASSERT_TRUE(fs_.Truncate("rel", 4 * kB).ok());
  const std::string expected =
      Page(1, 40 * kB).substr(0, kB + 5) + std::string(static_cast<size_t>(3 * kB - 5), '\0');
  EXPECT_EQ(*fs_.Read("rel"), expected);
  fs_.Die();
  fs_.Mount(Options());
  EXPECT_EQ(*fs_.Read("rel"), expected);
}

TEST_F(FillsTest, FilesThatAreGoneAreNotFilled) {
  const uint64_t ino = fs_.Ino("rel");
  ASSERT_TRUE(fs_.overlay().Open(ino).ok());
  ASSERT_TRUE(fs_.Unlink("rel").ok());
  ASSERT_TRUE(fs_.ReadIno(ino).ok());
  fs_.overlay().DrainIdleWork();
  EXPECT_EQ(Count(IoCounter::kFillsDone), 0u);
  fs_.overlay().Release(ino);
  fs_.overlay().Forget(ino);
  fs_.Remount();
  EXPECT_EQ(fs_.Ino("rel"), 0u);
}

TEST_F(FillsTest, FailuresAreNobodysProblem) {
  const uint64_t ino = fs_.Ino("rel");
  fs_.io().set_hook(
      [name = DataFileName(ino)](const std::string& operation, const std::string& file) {
        return operation == "write" && file == name ? ErrnoError(ENOSPC, "disk") : absl::OkStatus();
      });
  ReadAndFill("rel");
  EXPECT_EQ(Count(IoCounter::kFillsFailed), 40u);
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 40 * kB));
  fs_.io().set_hook(nullptr);
  fs_.overlay().DrainIdleWork();
  ReadAndFill("rel");
  fs_.lower().set_unavailable(true);
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 40 * kB));
}

TEST_F(FillsTest, FillsLeaveSpaceToWrites) {
  OverlayOptions options = Options();
  options.diff_limit_bytes = 20 * kB;
  Remount(options);
  ReadAndFill("rel");
  EXPECT_GT(Count(IoCounter::kFillsNoSpace), 0u);
  EXPECT_TRUE(fs_.Write("odd", 0, Page(3)).ok());
}

TEST_F(FillsTest, AFullQueueDropsFillsAndReadersGoOn) {
  std::promise<void> go_on;
  AtTheWriteOf(fs_.Ino("rel"), [&] { go_on.get_future().wait(); });
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(fs_.Read("rel", (i % 40) * kB, kB).ok());
  EXPECT_GT(Count(IoCounter::kFillsQueueFull), 0u);
  go_on.set_value();
  fs_.overlay().DrainIdleWork();
  EXPECT_EQ(*fs_.Read("rel"), Page(1, 40 * kB));
}

TEST_F(FillsTest, WritersReadersAndFillsTogetherLoseNothing) {
  const uint64_t seed = Setting("PBKFS_FILL_SEED", 1);
  const uint64_t ino = fs_.Ino("rel");
  constexpr int kThreads = 4;
  std::vector<std::string> expected(kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    // Each has ten blocks of its own.
    threads.emplace_back([&, thread] {
      std::mt19937_64 random(seed * 100 + static_cast<uint64_t>(thread));
      const int64_t begin = thread * 10 * kB;
      std::string mine = Page(1, 40 * kB).substr(static_cast<size_t>(begin), 10 * kB);
      for (int step = 0; step < 300; ++step) {
        const auto offset = static_cast<int64_t>(random() % (9 * kB));
        const auto length = static_cast<int64_t>(1 + random() % kB);
        switch (random() % 8) {
          case 0:
          case 1: {
            const std::string bytes = Page(step, static_cast<size_t>(length));
            ASSERT_TRUE(fs_.overlay().Write(ino, begin + offset, Bytes(bytes)).ok());
            mine.replace(static_cast<size_t>(offset), bytes.size(), bytes);
            break;
          }
          case 2:
            ASSERT_TRUE(fs_.overlay()
                            .Allocate(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      begin + offset, length)
                            .ok());
            mine.replace(static_cast<size_t>(offset), static_cast<size_t>(length),
                         std::string(static_cast<size_t>(length), '\0'));
            break;
          case 3:
            ASSERT_TRUE(fs_.overlay().Fsync(ino).ok());
            break;
          default:
            ASSERT_EQ(*fs_.ReadIno(ino, begin + offset, static_cast<size_t>(length)),
                      mine.substr(static_cast<size_t>(offset), static_cast<size_t>(length)));
        }
      }
      expected[static_cast<size_t>(thread)] = mine;
    });
  }
  for (std::thread& thread : threads) thread.join();
  fs_.overlay().DrainIdleWork();
  const std::string all = expected[0] + expected[1] + expected[2] + expected[3];
  EXPECT_TRUE(*fs_.Read("rel") == all) << "replay: PBKFS_FILL_SEED=" << seed;
  fs_.Die();
  fs_.Mount(Options());
  EXPECT_TRUE(*fs_.Read("rel") == all) << "replay: PBKFS_FILL_SEED=" << seed;
}

}  // namespace
}  // namespace pbkfs

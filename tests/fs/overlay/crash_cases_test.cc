// Crashes that broke simpler rules once, by name. Where a case says "at every step", the process or
// the machine dies at each changing operation of the disk in turn.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <functional>
#include <future>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "tests/fs/overlay/crash_driver.h"
#include "tests/fs/overlay/overlay_fixture.h"
#include "tests/support/gate.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::CrashDriver;
using testsupport::FaultIo;
using testsupport::Gate;
using testsupport::MemoryTree;
using testsupport::Page;
using testsupport::ReadInode;
using testsupport::SimFixture;

constexpr int64_t kB = kBlockSize;
constexpr uint64_t kSeeds = 40;  // What an unsynced change becomes is left to chance.

std::shared_ptr<const MemoryTree> Lower() {
  return std::make_shared<const MemoryTree>(
      std::map<std::string, MemoryTree::Entry>{{"a", {S_IFREG | 0600, Page(1, 4 * kB)}},
                                               {"b", {S_IFREG | 0600, Page(2, kB + 700)}},
                                               {"c", {S_IFREG | 0600, Page(3, 2 * kB)}}});
}

class CrashCases : public testing::Test {
 protected:
  CrashCases() { spdlog::set_level(spdlog::level::off); }
  ~CrashCases() override { spdlog::set_level(spdlog::level::info); }

  static void Recover(CrashDriver& driver, bool machine) {
    driver.Die(machine);
    const absl::Status mounted = driver.Mount();
    ASSERT_TRUE(mounted.ok()) << mounted;
    driver.CheckRecovered();
  }

  // Runs `prepare`, then `work` with a death at each of its steps, of both kinds.
  static void AtEveryStep(const std::function<void(CrashDriver&)>& prepare,
                          const std::function<void(CrashDriver&)>& work) {
    for (const bool machine : {false, true}) {
      bool died = true;
      for (uint64_t step = 1; died; ++step) {
        ASSERT_LT(step, 500u);
        for (uint64_t seed = 0; seed < (machine ? kSeeds : 3); ++seed) {
          CrashDriver driver(Lower(), seed);
          driver.Begin();
          prepare(driver);
          driver.io().DieAfter(step);
          work(driver);
          died = driver.dead();
          Recover(driver, machine);
          if (HasFailure()) {
            FAIL() << driver.log() << (machine ? "machine" : "process") << " at step " << step
                   << ", seed " << seed;
          }
        }
      }
    }
  }
};

TEST_F(CrashCases, ANewDiffOpensAfterACrashAtEveryStepOfItsCreation) {
  for (const bool machine : {false, true}) {
    bool died = true;
    for (uint64_t step = 1; died; ++step) {
      ASSERT_LT(step, 100u);
      for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        SimFixture fs(Lower(), seed);
        fs.io().DieAfter(step);
        fs.Mount().IgnoreError();
        died = fs.io().dead();
        fs.Drop();
        if (machine) {
          fs.io().Crash();
        } else {
          fs.io().Revive();
        }
        const absl::Status mounted = fs.Mount();
        ASSERT_TRUE(mounted.ok()) << mounted << (machine ? ": machine" : ": process") << " at step "
                                  << step << ", seed " << seed;
      }
    }
  }
}

TEST_F(CrashCases, NoUnconfirmedRecordComesBackAfterTwoCutsWithAnFsyncBetween) {
  for (uint64_t seed = 0; seed < kSeeds * 5; ++seed) {
    CrashDriver driver(Lower(), seed);
    driver.Begin();
    // Unconfirmed: names, blocks, sizes.
    driver.Create("new", S_IFREG | 0600);
    driver.Write(driver.ByName("new"), 0, Page(10, 2 * kB));
    driver.Write(driver.ByName("a"), kB, Page(11));
    driver.Truncate(driver.ByName("b"), 100);
    driver.Rename("c", "moved");
    Recover(driver, /*machine=*/true);
    // A confirmation that must say nothing about what the first cut took away.
    driver.Write(driver.ByName("a"), 2 * kB, Page(12));
    driver.Fsync(driver.ByName("a"));
    driver.FsyncDirectory();
    const std::string a = driver.model().content(driver.ByName("a").object);
    Recover(driver, /*machine=*/true);
    EXPECT_TRUE(a == driver.model().content(driver.ByName("a").object));
    ASSERT_FALSE(HasFailure()) << driver.log() << "seed " << seed;
  }
}

void TruncateAndExtend(CrashDriver& driver, bool fsync_other) {
  const auto step = [&driver](auto call) { return !driver.over() && call(); };
  step([&] { return driver.Truncate(driver.ByName("a"), kB + 300); });
  if (fsync_other) {
    step([&] { return driver.Write(driver.ByName("c"), 0, Page(20)); });
    step([&] { return driver.Fsync(driver.ByName("c")); });
  }
  step([&] { return driver.Write(driver.ByName("a"), 3 * kB, Page(21)); });
  step([&] { return driver.Truncate(driver.ByName("a"), kB); });
  step([&] { return driver.Write(driver.ByName("a"), kB + 5000, "tail"); });
  if (fsync_other) step([&] { return driver.Fsync(driver.ByName("c")); });
  step([&] { return driver.Fsync(driver.ByName("a")); });
  step([&] { return driver.Truncate(driver.ByName("a"), 100); });
  step([&] { return driver.Truncate(driver.ByName("a"), 2 * kB); });
}

void WriteAndSync(CrashDriver& driver) {
  driver.Write(driver.ByName("a"), 0, Page(9, 5 * kB));
  driver.Fsync(driver.ByName("a"));
}

TEST_F(CrashCases, TruncationsAndExtensionsCutAtEveryStep) {
  AtEveryStep(WriteAndSync, [](CrashDriver& driver) { TruncateAndExtend(driver, false); });
}

TEST_F(CrashCases, TruncationsAndExtensionsBesideAnFsyncOfAnotherFileCutAtEveryStep) {
  AtEveryStep(WriteAndSync, [](CrashDriver& driver) { TruncateAndExtend(driver, true); });
}

// The second fsync has nothing to say in the log: no record is about the bytes that it confirms.
TEST_F(CrashCases, ATruncationOfBytesThatOnlyTheDataFileConfirmsCutAtEveryStep) {
  AtEveryStep(
      [](CrashDriver& driver) {
        WriteAndSync(driver);
        driver.Write(driver.ByName("a"), 5 * kB, Page(22, 3 * kB));
        driver.Fsync(driver.ByName("a"));
        driver.Write(driver.ByName("a"), 8 * kB - 100, Page(23));
      },
      [](CrashDriver& driver) { driver.Truncate(driver.ByName("a"), 6 * kB); });
}

TEST_F(CrashCases, ARenameOverAFileShowsOneOrTheOtherAtEveryStep) {
  AtEveryStep(
      [](CrashDriver& driver) {
        WriteAndSync(driver);
        driver.Create("new", S_IFREG | 0600);
        driver.Write(driver.ByName("new"), 0, Page(30, kB + 17));
      },
      [](CrashDriver& driver) { driver.Rename("new", "a"); });
}

TEST_F(CrashCases, ARemovedFileIsGoneOrWholeAtEveryStep) {
  AtEveryStep(WriteAndSync, [](CrashDriver& driver) {
    driver.Unlink("a");
    if (!driver.over()) driver.Maintain();
    if (!driver.over()) driver.Create("a", S_IFREG | 0600);
    if (!driver.over()) driver.Write(driver.ByName("a"), 0, Page(31));
    if (!driver.over()) driver.Fsync(driver.ByName("a"));
    if (!driver.over()) driver.Unlink("a");
    if (!driver.over()) driver.Maintain();
  });
}

TEST_F(CrashCases, PunchesCutAtEveryStep) {
  AtEveryStep(WriteAndSync, [](CrashDriver& driver) {
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    driver.Allocate(driver.ByName("a"), kPunch, 100, 3 * kB);
    if (!driver.over()) driver.Write(driver.ByName("a"), kB, Page(32));
    if (!driver.over()) driver.Fsync(driver.ByName("a"));
    if (!driver.over()) driver.Allocate(driver.ByName("c"), kPunch, 0, kB);
  });
}

// A sync whose result is not known to be good changes nothing that was promised before, and the
// next one is no promise about what the first lost.
TEST_F(CrashCases, AFailedSyncOfDataFollowedByMoreWork) {
  for (uint64_t seed = 0; seed < kSeeds * 3; ++seed) {
    CrashDriver driver(Lower(), seed);
    driver.Begin();
    WriteAndSync(driver);
    driver.Write(driver.ByName("a"), 0, Page(33, 3 * kB));
    driver.FailNextSync(driver.ByName("a"));
    EXPECT_FALSE(driver.Fsync(driver.ByName("a")));
    driver.Write(driver.ByName("a"), 4 * kB, Page(34, 3 * kB));
    EXPECT_FALSE(driver.Fsync(driver.ByName("a"))) << "the kernel has forgotten; we have not";
    driver.Write(driver.ByName("c"), 0, Page(35));
    EXPECT_TRUE(driver.Fsync(driver.ByName("c"))) << "other files are not concerned";
    Recover(driver, /*machine=*/seed % 2 == 0);
    EXPECT_TRUE(driver.Write(driver.ByName("a"), kB, Page(36)));
    EXPECT_TRUE(driver.Fsync(driver.ByName("a")));
    Recover(driver, /*machine=*/true);
    ASSERT_FALSE(HasFailure()) << driver.log() << "seed " << seed;
  }
}

// The process dies before it can say that a sync failed, and so does the first recovery: the kernel
// told it of the failure, and tells nobody twice.
TEST_F(CrashCases, AFailedSyncIsNotForgottenByARecoveryThatIsCutShort) {
  for (uint64_t step = 1; step < 20; ++step) {
    for (uint64_t seed = 0; seed < kSeeds / 4; ++seed) {
      CrashDriver driver(Lower(), seed);
      driver.Begin();
      WriteAndSync(driver);
      driver.Write(driver.ByName("a"), 0, Page(33, 3 * kB));
      driver.FailNextSync(driver.ByName("a"));
      driver.io().DieAfter(2);  // The sync, and the record of its failure.
      EXPECT_FALSE(driver.Fsync(driver.ByName("a")));
      driver.Die(/*machine=*/false);
      driver.io().DieAfter(step);
      driver.Mount().IgnoreError();
      Recover(driver, /*machine=*/false);
      driver.Write(driver.ByName("a"), 4 * kB, Page(34));
      driver.Fsync(driver.ByName("a"));
      Recover(driver, /*machine=*/true);
      ASSERT_FALSE(HasFailure()) << driver.log() << "step " << step << ", seed " << seed;
    }
  }
}

// What a first crash took back is still in the data file where the image shows again; a hole that
// is punched there and does not reach the disk must not show it.
TEST_F(CrashCases, APunchThatDidNotReachTheDiskShowsNothingOlderThanTheFile) {
  for (uint64_t seed = 0; seed < kSeeds * 5; ++seed) {
    CrashDriver driver(Lower(), seed);
    driver.Begin();
    driver.Write(driver.ByName("a"), 3 * kB, Page(9));
    driver.Fsync(driver.ByName("a"));
    driver.Write(driver.ByName("a"), 0, Page(33, 2 * kB));
    Recover(driver, /*machine=*/true);
    driver.Allocate(driver.ByName("a"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * kB);
    driver.FsyncDirectory();
    Recover(driver, /*machine=*/true);
    ASSERT_FALSE(HasFailure()) << driver.log() << "seed " << seed;
  }
}

TEST_F(CrashCases, ALinkLeadsWhereItDidOrWhereItIsToAndNothingIsLeftAfterACrashAtEveryStep) {
  const auto lower = std::make_shared<const MemoryTree>(
      std::map<std::string, MemoryTree::Entry>{{"places", {S_IFDIR | 0700, ""}},
                                               {"places/1", {S_IFDIR | 0700, ""}},
                                               {"places/1/file", {S_IFREG | 0600, Page(1)}}});
  for (const bool machine : {false, true}) {
    bool died = true;
    for (uint64_t step = 1; died; ++step) {
      ASSERT_LT(step, 100u);
      for (uint64_t seed = 0; seed < kSeeds / 4; ++seed) {
        SCOPED_TRACE(absl::StrCat(machine ? "machine" : "process", " at step ", step, ", ", seed));
        SimFixture fs(lower, seed);
        ASSERT_TRUE(fs.Mount().ok());
        ASSERT_TRUE(fs.overlay().MoveBehindLink("places/1", "own/1", "/a/own/1").ok());
        fs.io().DieAfter(step);
        fs.overlay().PutLink("places/1", "/b/own/1").IgnoreError();
        died = fs.io().dead();
        fs.Drop();
        machine ? fs.io().Crash() : fs.io().Revive();
        ASSERT_TRUE(fs.Mount().ok());
        const auto links = fs.overlay().LinksIn("places");
        ASSERT_TRUE(links.ok()) << links.status();
        ASSERT_EQ(links->size(), 1u);
        const std::string& target = (*links)[0].target;
        EXPECT_EQ((*links)[0].name, "1");
        EXPECT_TRUE(target == "/a/own/1" || target == "/b/own/1") << target;
        EXPECT_TRUE(*fs.overlay().ReadFile("own/1/file", kB) == Page(1));
        EXPECT_TRUE(fs.overlay().RemoveUnfinishedLink().ok());
        EXPECT_TRUE(fs.overlay().LinksIn("")->empty());
      }
    }
  }
}

// syncfs tells whoever asks first of a failure that came before, whosever it was.
TEST_F(CrashCases, AFailureOfAnotherProgramBeforeTheMountIsNotThatOfTheSession) {
  SimFixture fs(Lower(), 1);
  const auto disk = *fs.io().OpenDir("/");
  const auto junk = *disk->OpenFile("junk", O_RDWR | O_CREAT, 0600);
  fs.io().FailNextSync("junk");
  ASSERT_FALSE(junk->DataSync().ok());
  ASSERT_TRUE(fs.Mount().ok());
  ASSERT_TRUE(fs.overlay().Write(fs.Ino("a"), 0, Bytes(Page(50))).ok());
  fs.Drop();
  fs.io().Revive();
  ASSERT_TRUE(fs.Mount().ok());
  EXPECT_EQ(fs.overlay().diff_store().shutdown_kind(), ShutdownKind::kProcessDied);
  EXPECT_TRUE(ReadInode(fs.overlay(), fs.Ino("a"))->substr(0, kB) == Page(50));
}

// … but it may be that of another diff, whose process died and whose recovery asks for it.
TEST_F(CrashCases, AFailureThatADiffHasToHearIsNotTakenFromItByAnotherMount) {
  SimFixture fs(Lower(), 1);
  ASSERT_TRUE(fs.Mount().ok());
  ASSERT_TRUE(fs.overlay().Write(fs.Ino("a"), 0, Bytes(Page(50))).ok());
  fs.io().FailNextSync(DataFileName(fs.Ino("a")));
  fs.io().DieAfter(2);  // The sync, and the record of its failure.
  ASSERT_FALSE(fs.overlay().Fsync(fs.Ino("a")).ok());
  fs.Drop();
  fs.io().Revive();
  {
    auto other = DiffStore::Open(fs.io(), "/other", DiffIdentity());
    ASSERT_TRUE(other.ok()) << other.status();
    ASSERT_TRUE((*other)->Recover(*Lower(), 1).ok());
  }
  ASSERT_TRUE(fs.Mount().ok());
  EXPECT_EQ(fs.overlay().diff_store().shutdown_kind(), ShutdownKind::kCacheLost);
}

// The page cache is there, but nothing says so: a record that recovery obeys may not be on the
// disk.
TEST_F(CrashCases, ARecoveryThatTakesTheCacheForLostDestroysNothingBeforeItsRecordIsDurable) {
  const std::string content = Page(33, 4 * kB);
  bool died = true;
  for (uint64_t step = 1; died; ++step) {
    ASSERT_LT(step, 50u);
    for (uint64_t again = 1; again < 20; ++again) {
      for (uint64_t seed = 0; seed < kSeeds / 4; ++seed) {
        SimFixture fs(Lower(), seed);
        ASSERT_TRUE(fs.Mount().ok());
        ASSERT_TRUE(fs.overlay().Write(fs.Ino("a"), 0, Bytes(content)).ok());
        ASSERT_TRUE(fs.overlay().Fsync(fs.Ino("a")).ok());
        fs.io().DieAfter(step);
        AttributeChange shorter;
        shorter.size = kB;
        fs.overlay().SetAttributes(fs.Ino("a"), shorter).IgnoreError();
        died = fs.io().dead();
        fs.Drop();
        fs.io().Revive();
        fs.io().LoseEvidence();
        fs.io().DieAfter(again);
        fs.Mount().IgnoreError();
        fs.Drop();
        fs.io().Crash();
        const absl::Status mounted = fs.Mount();
        ASSERT_TRUE(mounted.ok()) << mounted << " step " << step << ", " << again << ", " << seed;
        const std::string found = *ReadInode(fs.overlay(), fs.Ino("a"));
        ASSERT_TRUE(found == content || found == content.substr(0, kB))
            << found.size() << " bytes, step " << step << ", " << again << ", " << seed;
      }
    }
  }
}

// Writers go on while an fsync is in the disk: what they write is not promised by it, and what was
// written before is.
TEST_F(CrashCases, AnFsyncPromisesWhatWasWrittenBeforeItAndNoLaterWriteHarmsThat) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimFixture fs(Lower(), seed);
    FaultIo io(fs.io());
    ASSERT_TRUE(fs.Mount(&io).ok());
    const uint64_t ino = fs.Ino("a");
    ASSERT_TRUE(fs.overlay().Write(ino, 0, Bytes(Page(40))).ok());
    {
      std::future<absl::Status> fsync;
      Gate gate("sync", DataFileName(ino));
      io.set_hook(Gate::HookOf({&gate}));
      fsync = std::async(std::launch::async, [&] { return fs.overlay().Fsync(ino); });
      gate.AwaitCall();
      ASSERT_TRUE(fs.overlay().Write(ino, kB, Bytes(Page(41))).ok());
      ASSERT_TRUE(fs.overlay().Write(ino, 6 * kB, Bytes(Page(42))).ok());
      gate.Open();
      ASSERT_TRUE(fsync.get().ok());
    }
    fs.Drop();
    fs.io().Crash();
    ASSERT_TRUE(fs.Mount().ok());
    const auto content = ReadInode(fs.overlay(), ino);
    ASSERT_TRUE(content.ok()) << content.status();
    EXPECT_TRUE(content->substr(0, kB) == Page(40)) << "seed " << seed;
    const std::string second = content->substr(kB, kB);
    EXPECT_TRUE(second == Page(41) || second == Page(1, 4 * kB).substr(kB, kB)) << "seed " << seed;
    EXPECT_TRUE(content->substr(2 * kB, 2 * kB) == Page(1, 4 * kB).substr(2 * kB)) << seed;
  }
}

// A record that is appended and made durable while a checkpoint is being written is carried over
// into a file that takes the place of the durable one.
TEST_F(CrashCases, WhatIsConfirmedDuringACheckpointSurvivesIt) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimFixture fs(Lower(), seed);
    FaultIo io(fs.io());
    ASSERT_TRUE(fs.Mount(&io).ok());
    bool first = true;
    io.set_hook([&](const std::string& operation, const std::string& name) {
      if (operation != "sync" || name != "log.new" || !std::exchange(first, false)) {
        return absl::OkStatus();
      }
      NewNode node;
      node.mode = S_IFREG | 0600;
      EXPECT_TRUE(fs.overlay().Create(kRootIno, "new", node, RequestId{}).ok());
      EXPECT_TRUE(fs.overlay().FsyncDirectory().ok());
      return absl::OkStatus();
    });
    ASSERT_TRUE(fs.overlay().Checkpoint().ok());
    ASSERT_FALSE(first);
    fs.Drop();
    fs.io().Crash();
    const absl::Status mounted = fs.Mount();
    ASSERT_TRUE(mounted.ok()) << mounted << ", seed " << seed;
    EXPECT_NE(fs.Ino("new"), 0u) << "seed " << seed;
  }
}

TEST_F(CrashCases, AnFsyncWaitsForTheWriteBeforeIt) {
  SimFixture fs(Lower(), 1);
  FaultIo io(fs.io());
  ASSERT_TRUE(fs.Mount(&io).ok());
  const uint64_t ino = fs.Ino("a");
  ASSERT_TRUE(fs.overlay().Write(ino, 0, Bytes(Page(40))).ok());
  {
    std::future<absl::Status> write;
    std::future<absl::Status> fsync;
    Gate gate("write", DataFileName(ino));
    io.set_hook(Gate::HookOf({&gate}));
    write = std::async(std::launch::async,
                       [&] { return fs.overlay().Write(ino, kB, Bytes(Page(41))); });
    gate.AwaitCall();
    io.TakeEvents();
    fsync = std::async(std::launch::async, [&] { return fs.overlay().Fsync(ino); });
    while (fs.overlay().pending().operations < 2) {
      // An fsync that does not wait is done at once.
      if (fsync.wait_for(std::chrono::seconds(0)) == std::future_status::ready) break;
    }
    EXPECT_TRUE(io.TakeEvents().empty()) << "nothing is synced before the write is done";
    gate.Open();
    EXPECT_TRUE(write.get().ok());
    EXPECT_TRUE(fsync.get().ok());
  }
  fs.Drop();
  fs.io().Crash();
  ASSERT_TRUE(fs.Mount().ok());
  EXPECT_TRUE(ReadInode(fs.overlay(), ino)->substr(0, 2 * kB) == Page(40) + Page(41));
}

}  // namespace
}  // namespace pbkfs

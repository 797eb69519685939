#include "fs/diff/diff_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/check.h"
#include "fs/diff/diff_summary.h"
#include "tests/support/memory_tree.h"
#include "tests/support/sim_io.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

using testsupport::SimIo;

DiffIdentity Identity() {
  DiffIdentity identity;
  identity.instance = "main";
  identity.system_identifier = 77;
  identity.backup_id = "ABC123";
  identity.start_lsn = "0/28";
  identity.stop_lsn = "0/100";
  identity.list_hash = "memory";
  return identity;
}

class DiffStoreTest : public testing::Test {
 protected:
  std::string path() const { return directory_.path() + "/diff"; }
  testsupport::TemporaryDirectory directory_;
  testsupport::MemoryTree lower_{{{"a", {S_IFREG | 0600, "1"}}}};
};

TEST_F(DiffStoreTest, ADiffIsMadeOnceAndBelongsToItsImage) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity());
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_FALSE((*store)->prepared());
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    ASSERT_TRUE((*store)->MarkPrepared({"archive_mode=off"}, false, {"/t"}).ok());
    ASSERT_TRUE((*store)->MarkClean().ok());
  }
  auto store = DiffStore::Open(PosixIo(), path(), Identity());
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->prepared());
  EXPECT_EQ((*store)->guards(), std::vector<std::string>{"archive_mode=off"});
}

TEST_F(DiffStoreTest, AnotherImageIsRefusedWithTheDifference) {
  ASSERT_TRUE(DiffStore::Open(PosixIo(), path(), Identity()).ok());
  DiffIdentity other = Identity();
  other.backup_id = "ZZZ";
  for (const absl::Status& status : {DiffStore::Open(PosixIo(), path(), other).status(),
                                     DiffStore::Check(PosixIo(), path(), other).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(ReasonOf(status), "DIFF_BOUND_ELSEWHERE");
    EXPECT_NE(status.message().find("ABC123"), absl::string_view::npos) << status;
  }
}

TEST_F(DiffStoreTest, ADiffInUseIsRefused) {
  auto store = DiffStore::Open(PosixIo(), path(), Identity());
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(ReasonOf(DiffStore::Open(PosixIo(), path(), Identity()).status()), "DIFF_IN_USE");
  EXPECT_EQ(ReasonOf(DiffStore::Check(PosixIo(), path(), Identity()).status()), "DIFF_IN_USE");
  EXPECT_EQ(ReasonOf(DiffStore::Delete(PosixIo(), path())), "DIFF_IN_USE");
}

TEST_F(DiffStoreTest, AForeignDirectoryIsNotTouched) {
  std::filesystem::create_directory(path());
  std::ofstream(path() + "/precious") << "x";
  EXPECT_EQ(ReasonOf(DiffStore::Open(PosixIo(), path(), Identity()).status()),
            "DIFF_BOUND_ELSEWHERE");
  EXPECT_FALSE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path()), {}), 1);
}

TEST_F(DiffStoreTest, DeleteLeavesNothing) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity());
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    ASSERT_TRUE((*store)->CreateData(5).ok());
  }
  ASSERT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
}

// How many descriptors of this process are of the file.
int OpenDescriptors(const std::string& path) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    count += std::filesystem::read_symlink(entry.path(), gone) == path ? 1 : 0;
  }
  return count;
}

// What `work` says that waits for the lock of a diff while its holder deletes it: an Unmount with
// delete_diff, beside a DeleteDiff or the next Mount.
absl::Status WaitingWhileItIsDeleted(const std::string& path,
                                     const std::function<absl::Status()>& work) {
  auto holder = DiffStore::Open(PosixIo(), path, Identity());
  if (!holder.ok()) return holder.status();
  absl::Status status;
  std::thread waiting([&] { status = work(); });
  while (OpenDescriptors(path + "/lock") < 2) std::this_thread::yield();
  std::filesystem::remove_all(path);
  *holder = nullptr;
  waiting.join();
  return status;
}

TEST_F(DiffStoreTest, DeletingWhatSomebodyElseHasJustDeletedSaysSo) {
  const absl::Status status =
      WaitingWhileItIsDeleted(path(), [this] { return DiffStore::Delete(PosixIo(), path()); });
  EXPECT_EQ(ReasonOf(status), "DIFF_NOT_FOUND") << status;
  EXPECT_EQ(ReasonOf(DiffStore::Delete(PosixIo(), path())), "DIFF_NOT_FOUND");
}

TEST_F(DiffStoreTest, OpeningWhatSomebodyElseHasJustDeletedMakesANewOne) {
  const absl::Status status = WaitingWhileItIsDeleted(
      path(), [this] { return DiffStore::Open(PosixIo(), path(), Identity()).status(); });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(std::filesystem::exists(path() + "/binding.json"));
}

TEST_F(DiffStoreTest, OpeningBesideDeletionsOpensOrFindsTheDiffInUse) {
  std::atomic<bool> done{false};
  std::thread deleter([&] {
    while (!done) {
      DiffStore::Delete(PosixIo(), path()).IgnoreError();
      // Who always comes first lets nobody in, however often he tries.
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  int opened = 0;
  for (int i = 0; i < 1000; ++i) {
    for (const absl::Status& status : {DiffStore::Check(PosixIo(), path(), Identity()).status(),
                                       DiffStore::Open(PosixIo(), path(), Identity()).status()}) {
      opened += status.ok() ? 1 : 0;
      EXPECT_TRUE(status.ok() || ReasonOf(status) == "DIFF_IN_USE") << status;
    }
  }
  done = true;
  deleter.join();
  EXPECT_GT(opened, 0);
}

TEST_F(DiffStoreTest, DeleteTakesADamagedDiffButNothingThatIsNotOfADiff) {
  ASSERT_TRUE(DiffStore::Open(PosixIo(), path(), Identity()).ok());
  std::ofstream(path() + "/binding.json") << "{";
  std::ofstream(path() + "/precious") << "x";
  EXPECT_EQ(ReasonOf(DiffStore::Delete(PosixIo(), path())), "DIFF_BOUND_ELSEWHERE");
  EXPECT_TRUE(std::filesystem::exists(path() + "/precious"));
  EXPECT_TRUE(std::filesystem::exists(path() + "/data"));
  std::filesystem::remove(path() + "/precious");
  EXPECT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(DiffStoreTest, ADeletionThatWasInterruptedCanBeDoneAgain) {
  std::filesystem::create_directory(path());
  std::ofstream(path() + "/lock") << "";
  EXPECT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(DiffStoreTest, ADamagedDiffWithoutABindingCanBeDeletedAndADirectoryWithAnotherLogNot) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity());
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
  }
  std::filesystem::remove(path() + "/binding.json");
  std::filesystem::copy(path(), directory_.path() + "/mine");
  std::ofstream(directory_.path() + "/mine/log") << std::string(100, 'x');
  EXPECT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_EQ(ReasonOf(DiffStore::Delete(PosixIo(), directory_.path() + "/mine")),
            "DIFF_BOUND_ELSEWHERE");
  EXPECT_TRUE(std::filesystem::exists(directory_.path() + "/mine/log"));
}

// A diff with data on a simulated machine, whose deletion is cut off.
class CutOffDeletionTest : public DiffStoreTest {
 protected:
  static constexpr char kPath[] = "/diffs/d";

  void MakeDiff(SimIo& io) {
    ASSERT_TRUE(io.MakeDir("/diffs", 0700).ok());
    ASSERT_TRUE((*io.OpenDir("/"))->Sync().ok());
    auto store = DiffStore::Open(io, kPath, Identity());
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    for (const uint64_t ino : {kFirstNewIno, kFirstNewIno + 1}) {
      ASSERT_TRUE((*store)->CreateData(ino).ok());
    }
    ASSERT_TRUE((*store)->MarkPrepared({}, false, {"/t"}).ok());
    ASSERT_TRUE((*store)->SyncDataDirectory().ok());
    ASSERT_TRUE((*store)->MarkClean().ok());
  }

  static bool IsThere(SimIo& io) { return io.OpenDir(kPath).ok(); }

  // Whole, or a new one is made: nothing in between.
  void ExpectItOpens(SimIo& io) {
    const auto binding = DiffStore::Check(io, kPath, Identity());
    ASSERT_TRUE(binding.ok()) << binding.status();
    auto store = DiffStore::Open(io, kPath, Identity());
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->prepared(), binding->has_value());
    const auto state = (*store)->Recover(lower_, 2);
    ASSERT_TRUE(state.ok()) << state.status();
    // The numbers of its data files are never used again.
    EXPECT_EQ(state->next_ino > kFirstNewIno, binding->has_value());
  }

  static void ExpectItSaysWhatItIs(SimIo& io) {
    const auto summary = ReadDiffSummary(io, kPath);
    const absl::Status checked = CheckDiff(io, kPath, {}).status();
    if (!summary.ok() || !summary->has_value()) return;
    EXPECT_TRUE((*summary)->binding.has_value());
    if ((*summary)->condition == DiffCondition::kHalfDeleted) {
      EXPECT_EQ(ReasonOf(checked), "DIFF_NOT_FOUND") << checked;
    } else {
      EXPECT_EQ((*summary)->condition, DiffCondition::kClean);
      EXPECT_TRUE(checked.ok()) << checked;
    }
  }

  static void ExpectItCanBeDeleted(SimIo& io) {
    const absl::Status deleted = DiffStore::Delete(io, kPath);
    EXPECT_TRUE(deleted.ok() || ReasonOf(deleted) == "DIFF_NOT_FOUND") << deleted;
    EXPECT_FALSE(IsThere(io));
  }

  // Deletes a diff, and dies at one operation after the other; `look` sees what is left each time.
  void DieAtEachStep(uint64_t seed, const std::function<void(SimIo&)>& look) {
    for (uint64_t operations = 1;; ++operations) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", dies at operation ", operations));
      SimIo io(seed);
      MakeDiff(io);
      io.DieAfter(operations);
      const absl::Status deleted = DiffStore::Delete(io, kPath);
      if (!io.dead()) {
        EXPECT_TRUE(deleted.ok()) << deleted;
        ASSERT_GT(operations, 8);
        return;
      }
      look(io);
      if (HasFailure()) return;
    }
  }
};

TEST_F(CutOffDeletionTest, ADiffWhoseDeletionDiedIsWholeOrDeleted) {
  DieAtEachStep(1, [&](SimIo& io) {
    io.Revive();
    ExpectItSaysWhatItIs(io);
    ExpectItOpens(io);
  });
  DieAtEachStep(2, [&](SimIo& io) {
    io.Revive();
    ExpectItCanBeDeleted(io);
  });
}

TEST_F(CutOffDeletionTest, ADeletionThatDiedIsEndedByTheNextProcess) {
  DieAtEachStep(3, [&](SimIo& io) {
    io.Revive();
    const auto binding = DiffStore::Check(io, kPath, Identity());
    ASSERT_TRUE(binding.ok()) << binding.status();
    DiffStore::FinishDeletions(io, "/diffs");
    // What was not begun is not ended either.
    EXPECT_EQ(IsThere(io), binding->has_value());
    if (binding->has_value()) ExpectItOpens(io);
  });
}

TEST_F(CutOffDeletionTest, ADiffWhoseMachineLostPowerInADeletionIsWholeOrDeleted) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    DieAtEachStep(seed, [&](SimIo& io) {
      io.Crash();
      // Only this machine loses both names of a rename. Then nothing says whose the diff is.
      if (ReasonOf(DiffStore::Check(io, kPath, Identity()).status()) != "DIFF_BOUND_ELSEWHERE") {
        ExpectItOpens(io);
      }
      ExpectItCanBeDeleted(io);
    });
    if (HasFailure()) return;
  }
}

// What programs do not know that were made before the checksum's other fields.
TEST_F(DiffStoreTest, WhatIsNotInTheChecksumMayBeLost) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity(), 7);
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    ASSERT_TRUE((*store)->MarkPrepared({"a=b"}, true, {"/t", "/u"}).ok());
    ASSERT_TRUE((*store)->MarkEphemeral(true).ok());
  }
  auto binding = DiffStore::Check(PosixIo(), path(), Identity());
  ASSERT_TRUE(binding.ok()) << binding.status();
  EXPECT_TRUE((*binding)->tablespace_links());
  EXPECT_EQ((*binding)->maker(), 7u);
  EXPECT_EQ((*binding)->targets_size(), 2);

  std::ifstream in(path() + "/binding.json");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const size_t begin = text.find("\"tablespaceLinks\"");
  ASSERT_NE(begin, std::string::npos);
  // The comma of the field before goes, too.
  text = text.substr(0, text.rfind(',', begin)) + "\n}\n";
  std::ofstream(path() + "/binding.json") << text;
  binding = DiffStore::Check(PosixIo(), path(), Identity());
  ASSERT_TRUE(binding.ok()) << binding.status();
  EXPECT_FALSE((*binding)->tablespace_links());
  EXPECT_EQ((*binding)->maker(), 0u);
  EXPECT_EQ((*binding)->guards(0), "a=b");
}

TEST_F(DiffStoreTest, AMakerDeletesOnlyWhatNobodyElseUsed) {
  // Absent, and a directory in which nothing was made.
  EXPECT_EQ(ReasonOf(DiffStore::DeleteMade(PosixIo(), path(), 7)), "DIFF_NOT_FOUND");
  std::filesystem::create_directory(path());
  EXPECT_TRUE(DiffStore::DeleteMade(PosixIo(), path(), 7).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));

  const auto open = [this](uint64_t maker) {
    auto store = DiffStore::Open(PosixIo(), path(), Identity(), maker);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  };
  const auto refuses = [this](uint64_t maker) {
    const absl::Status deleted = DiffStore::DeleteMade(PosixIo(), path(), maker);
    return ReasonOf(deleted) == "DIFF_IN_USE" && std::filesystem::exists(path());
  };
  open(7);
  EXPECT_TRUE(refuses(8));
  EXPECT_TRUE(refuses(0));
  // Somebody else begins anew.
  ASSERT_TRUE(open(8)->StartOver().ok());
  EXPECT_TRUE(refuses(7));
  {
    auto store = open(9);
    ASSERT_TRUE(store->StartOver().ok());
    ASSERT_TRUE(store->Recover(lower_, 1).ok());
    ASSERT_TRUE(store->MarkPrepared({}, false, {"/t"}).ok());
    EXPECT_TRUE(refuses(9)) << "it is locked";
  }
  EXPECT_TRUE(refuses(8));
  // Somebody else uses it, and whoever comes after that.
  ASSERT_TRUE(open(10)->MarkUsedAt({"/t"}).ok());
  EXPECT_TRUE(refuses(9));
  EXPECT_TRUE(refuses(10));
  EXPECT_TRUE(refuses(0));

  ASSERT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  open(11);
  std::ofstream(path() + "/binding.json") << "{";
  EXPECT_TRUE(refuses(11)) << "nobody knows whose it is";
  ASSERT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  open(12);
  EXPECT_TRUE(DiffStore::DeleteMade(PosixIo(), path(), 12).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
  // Of a version that knew of no makers.
  open(0);
  EXPECT_TRUE(DiffStore::DeleteMade(PosixIo(), path(), 0).ok());
  EXPECT_FALSE(std::filesystem::exists(path()));
}

// Left by a mount that was interrupted, with what it wrote for its own request.
class InterruptedPreparation : public DiffStoreTest {
 protected:
  static constexpr char kPath[] = "/d";

  void Leave(SimIo& io) {
    CreateRecord create;
    create.ino = kFirstNewIno;
    create.parent = kRootIno;
    create.name = "left";
    create.mode = S_IFREG | 0600;
    auto store = DiffStore::Open(io, kPath, Identity(), 1);
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    ASSERT_TRUE((*store)->CreateData(kFirstNewIno).ok());
    const auto sequence = (*store)->log().Append(create);
    ASSERT_TRUE(sequence.ok()) << sequence.status();
    ASSERT_TRUE((*store)->SyncDataDirectory().ok());
    ASSERT_TRUE((*store)->log().Sync(*sequence).ok());
    ASSERT_TRUE((*io.OpenDir("/"))->Sync().ok());
  }

  // As a mount does it. The state that is served.
  absl::StatusOr<DiffState> Mount(SimIo& io, uint64_t maker) {
    PBKFS_ASSIGN_OR_RETURN(const auto store, DiffStore::Open(io, kPath, Identity(), maker));
    const bool prepared = store->prepared();
    if (!prepared) PBKFS_RETURN_IF_ERROR(store->StartOver());
    PBKFS_ASSIGN_OR_RETURN(DiffState state, store->Recover(lower_, maker));
    if (!prepared) PBKFS_RETURN_IF_ERROR(store->MarkPrepared({}, false, {"/t"}));
    return state;
  }
};

TEST_F(InterruptedPreparation, NothingOfItIsEverServedWhereverTheNextOneDies) {
  for (const bool machine : {false, true}) {
    bool died = true;
    for (uint64_t step = 1; died; ++step) {
      ASSERT_LT(step, 100u);
      for (uint64_t seed = 1; seed <= (machine ? 40u : 2u); ++seed) {
        SCOPED_TRACE(absl::StrCat(machine ? "machine" : "process", " at step ", step, ", ", seed));
        SimIo io(seed);
        Leave(io);
        const std::string first = (*io.OpenDir("/run/pbkfs"))->List()->at(0);
        io.Revive();
        io.DieAfter(step);
        Mount(io, 2).IgnoreError();
        died = io.dead();
        machine ? io.Crash() : io.Revive();
        const auto state = Mount(io, 3);
        ASSERT_TRUE(state.ok()) << state.status();
        EXPECT_FALSE(state->names.Lookup(lower_, kRootIno, "left").has_value());
        EXPECT_TRUE((*io.OpenDir("/d/data"))->List()->empty());
        EXPECT_THAT(*(*io.OpenDir("/run/pbkfs"))->List(), testing::Not(testing::Contains(first)));
      }
    }
  }
}

TEST_F(DiffStoreTest, ABindingThatWasChangedIsDamaged) {
  ASSERT_TRUE(DiffStore::Open(PosixIo(), path(), Identity()).ok());
  std::ifstream in(path() + "/binding.json");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const size_t at = text.find("listHash");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 8, "lostHash");
  std::ofstream(path() + "/binding.json") << text;
  EXPECT_EQ(ReasonOf(DiffStore::Open(PosixIo(), path(), Identity()).status()), "DIFF_CORRUPT");
}

TEST_F(DiffStoreTest, ADamagedBindingIsReported) {
  ASSERT_TRUE(DiffStore::Open(PosixIo(), path(), Identity()).ok());
  std::ofstream(path() + "/binding.json") << "{\"formatVersion\":";
  EXPECT_EQ(ReasonOf(DiffStore::Open(PosixIo(), path(), Identity()).status()), "DIFF_CORRUPT");
  std::ofstream(path() + "/binding.json") << "{\"formatVersion\":9}";
  EXPECT_EQ(ReasonOf(DiffStore::Open(PosixIo(), path(), Identity()).status()),
            "UNSUPPORTED_FORMAT");
}

TEST_F(DiffStoreTest, ADataFileThatTheLogDoesNotKnowGoesToTrashAndItsNumberIsNotUsedAgain) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity());
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
  }
  const uint64_t unknown = kFirstNewIno + 9;
  std::ofstream(path() + "/data/" + DataFileName(unknown)) << "lost";
  auto store = DiffStore::Open(PosixIo(), path(), Identity());
  ASSERT_TRUE(store.ok());
  const auto state = (*store)->Recover(lower_, 2);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_GT(state->next_ino, unknown);
  EXPECT_TRUE(std::filesystem::exists(path() + "/trash/" + DataFileName(unknown)));
  ASSERT_TRUE((*store)->MarkClean().ok());
  EXPECT_TRUE(std::filesystem::is_empty(path() + "/trash"));
}

TEST_F(DiffStoreTest, DamageInTheConfirmedPartOfTheLogIsReported) {
  {
    auto store = DiffStore::Open(PosixIo(), path(), Identity());
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
    ASSERT_TRUE((*store)->MarkClean().ok());
  }
  std::fstream log(path() + "/log", std::ios::in | std::ios::out);
  log.seekp(kLogHeaderBytes + 40);
  log.put('\x7f');
  log.close();
  auto store = DiffStore::Open(PosixIo(), path(), Identity());
  ASSERT_TRUE(store.ok());
  const auto state = (*store)->Recover(lower_, 2);
  EXPECT_EQ(state.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReasonOf(state.status()), "DIFF_CORRUPT");
}

}  // namespace
}  // namespace pbkfs

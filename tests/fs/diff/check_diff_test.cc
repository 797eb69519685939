// Each finding of a check by name, over logs that are written record by record: valid seals around
// contents that an overlay would never write.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "fs/base/status.h"
#include "fs/diff/check.h"
#include "fs/diff/diff_store.h"
#include "fs/diff/diff_summary.h"
#include "fs/diff/recovery.h"
#include "tests/support/memory_tree.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

constexpr uint64_t kSeed = 99;
constexpr uint64_t kNew = kFirstNewIno;

// The image: 2 = a, 3 = d, 4 = d/f.
testsupport::MemoryTree Image() {
  return testsupport::MemoryTree(
      {{"a", {S_IFREG | 0600, std::string(3 * kBlockSize, 'a')}}, {"d/f", {S_IFREG | 0600, "f"}}});
}

CreateRecord Create(uint64_t ino, const std::string& name, uint32_t mode = S_IFREG | 0600,
                    uint64_t parent = kRootIno) {
  CreateRecord record;
  record.ino = ino;
  record.parent = parent;
  record.name = name;
  record.mode = mode;
  return record;
}

InodeRecord Inode(uint64_t ino, uint32_t mode, uint32_t nlink) {
  InodeRecord record;
  record.ino = ino;
  record.mode = mode;
  record.nlink = nlink;
  return record;
}

DirentRecord Dirent(uint64_t parent, const std::string& name, uint64_t ino, uint64_t offset) {
  return DirentRecord{parent, name, ino, kCookieAddedBase + offset};
}

class CheckDiffTest : public testing::Test {
 protected:
  CheckDiffTest() {
    DiffIdentity identity;
    identity.instance = "main";
    identity.backup_id = "ABC123";
    identity.list_hash = "memory";
    auto store = DiffStore::Open(PosixIo(), path(), identity);
    EXPECT_TRUE(store.ok()) << store.status();
    EXPECT_TRUE((*store)->Recover(lower_, 1).ok());
    EXPECT_TRUE((*store)->MarkPrepared({}, false, {"/t"}).ok());
    EXPECT_TRUE((*store)->MarkClean().ok());
  }

  std::string path() const { return directory_.path() + "/diff"; }

  // Replaces the log by a checkpoint with `state`, an Open, `records` with sequences from 101, and,
  // unless told otherwise, a CleanUnmount.
  void WriteLog(const std::vector<Record>& state, const std::vector<Record>& records,
                bool clean = true, uint64_t next_ino = kNew + 50) {
    std::string log = EncodeLogHeader({kSeed, 2});
    CheckpointBeginRecord begin;
    begin.next_ino = next_ino;
    begin.next_sequence = 100;
    log += EncodeRecord(begin, 0, 0, kSeed);
    for (const Record& record : state) log += EncodeRecord(record, 0, 0, kSeed);
    log += EncodeRecord(CheckpointEndRecord{state.size()}, 0, 0, kSeed);
    OpenRecord open;
    open.next_seed = kSeed;
    log += EncodeRecord(open, 100, 0, kSeed);
    uint64_t sequence = 101;
    for (const Record& record : records) log += EncodeRecord(record, sequence++, 0, kSeed);
    if (clean) log += EncodeRecord(CleanUnmountRecord(), sequence, 0, kSeed);
    std::ofstream(path() + "/log", std::ios::trunc) << log;
  }
  void WriteData(uint64_t ino, size_t size) {
    std::ofstream(path() + "/data/" + DataFileName(ino)) << std::string(size, 'x');
  }

  absl::StatusOr<DiffCheckReport> Check(bool with_image = false, bool repair = false) {
    DiffCheckOptions options;
    options.lower = with_image ? &lower_ : nullptr;
    options.repair = repair;
    return CheckDiff(PosixIo(), path(), options);
  }
  // The codes of the findings.
  std::vector<std::string> Codes(bool with_image = false) {
    const auto report = Check(with_image);
    EXPECT_TRUE(report.ok()) << report.status();
    std::vector<std::string> codes;
    if (!report.ok()) return codes;
    for (const DiffFinding& finding : report->findings.list()) codes.push_back(finding.code);
    return codes;
  }

  using List = std::vector<std::string>;
  testsupport::TemporaryDirectory directory_;
  testsupport::MemoryTree lower_ = Image();
};

TEST_F(CheckDiffTest, AGoodLogHasNoFindings) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFDIR | 0700, 1),
            Inode(2, S_IFREG | 0600, 1), WhiteoutRecord{kRootIno, "a"},
            Dirent(kRootIno, "n", kNew, 5), Dirent(kNew, "a", 2, 6)},
           {Create(kNew + 1, "x"), UnlinkRecord{{}, 4, 3, "f", 0}, ReapRecord{4}});
  EXPECT_EQ(Codes(), List());
  EXPECT_EQ(Codes(true), List());
}

TEST_F(CheckDiffTest, ANameWithoutAnInodeIsFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Dirent(kRootIno, "x", kNew, 5)}, {});
  EXPECT_EQ(Codes(), List({"NAME_TARGET"}));
}

TEST_F(CheckDiffTest, AnInodeWithTooFewOrTooManyNamesIsFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFREG | 0600, 2),
            Dirent(kRootIno, "x", kNew, 5)},
           {});
  EXPECT_EQ(Codes(), List({"LINK_COUNT"}));
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFREG | 0600, 0),
            Dirent(kRootIno, "x", kNew, 5)},
           {});
  EXPECT_EQ(Codes(), List({"LINK_COUNT"}));
}

TEST_F(CheckDiffTest, OnlyTheImageTellsThatAFileOfItHasItsNameStill) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(2, S_IFREG | 0600, 1),
            Dirent(kRootIno, "x", 2, 5)},
           {});
  EXPECT_EQ(Codes(false), List());
  EXPECT_EQ(Codes(true), List({"LINK_COUNT"}));
}

TEST_F(CheckDiffTest, TwoNamesWithOneOffsetAreFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFREG | 0600, 2),
            Dirent(kRootIno, "x", kNew, 5), Dirent(kRootIno, "y", kNew, 5)},
           {});
  EXPECT_EQ(Codes(), List({"NAME_OFFSET"}));
}

TEST_F(CheckDiffTest, ANameInWhatIsNoDirectoryIsFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFREG | 0600, 1),
            Inode(kNew + 1, S_IFREG | 0600, 1), Dirent(kRootIno, "x", kNew, 5),
            Dirent(kNew, "y", kNew + 1, 6)},
           {});
  EXPECT_EQ(Codes(), List({"NAME_PARENT"}));
}

TEST_F(CheckDiffTest, ADirectoryWithinItselfIsFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFDIR | 0700, 1),
            Inode(kNew + 1, S_IFDIR | 0700, 1), Dirent(kNew + 1, "x", kNew, 5),
            Dirent(kNew, "y", kNew + 1, 6)},
           {});
  EXPECT_EQ(Codes(), List({"DIRECTORY_CYCLE", "DIRECTORY_CYCLE"}));
}

TEST_F(CheckDiffTest, NamesInADirectoryThatWasRemovedAreFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew, S_IFREG | 0600, 1),
            WhiteoutRecord{kRootIno, "d"}, Dirent(3, "x", kNew, 5)},
           {});
  EXPECT_EQ(Codes(true), List({"DIRECTORY_GONE"}));
}

TEST_F(CheckDiffTest, ImpossibleNamesAreFound) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string("a/b"), std::string(256, 'n')}) {
    WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1)}, {Create(kNew, name)});
    EXPECT_EQ(Codes(), List({"NAME_INVALID"})) << name;
  }
}

TEST_F(CheckDiffTest, AnInodeNumberThatWasNeverGivenAwayIsFound) {
  WriteLog({Inode(kRootIno, S_IFDIR | 0700, 1), Inode(kNew + 7, S_IFREG | 0600, 1),
            Dirent(kRootIno, "x", kNew + 7, 5)},
           {}, true, kNew);
  EXPECT_EQ(Codes(), List({"INODE_NUMBER"}));
}

TEST_F(CheckDiffTest, AFileOfAnImpossibleKindIsFound) {
  WriteLog({}, {Create(kNew, "x", 0600), Create(kNew + 1, "link", S_IFLNK | 0777)});
  EXPECT_EQ(Codes(), List({"INODE_KIND", "INODE_KIND"}));
}

TEST_F(CheckDiffTest, RecordsThatContradictTheImageOrThemselvesAreFound) {
  WriteLog({}, {UnlinkRecord{{}, 2, kRootIno, "b", 0}});
  EXPECT_EQ(Codes(false), List());  // It could be so.
  EXPECT_EQ(Codes(true), List({"LOG_CONTRADICTION"}));
  WriteLog({}, {UnlinkRecord{{}, 2, kRootIno, "a", 0}, UnlinkRecord{{}, 2, kRootIno, "b", 0}});
  EXPECT_EQ(Codes(false), List({"IMAGE_CONTRADICTION"}));
  WriteLog({}, {Create(kNew, "x"), Create(kNew, "y")});
  EXPECT_EQ(Codes(false), List({"LOG_CONTRADICTION"}));
}

TEST_F(CheckDiffTest, DataFilesAreComparedWithTheLog) {
  SyncedRecord synced{kNew, 102, 20, 20};
  WriteLog({}, {Create(kNew, "x"), DataFileRecord{kNew}, synced});
  EXPECT_EQ(Codes(), List({"DATA_MISSING"}));
  WriteData(kNew, 20);
  EXPECT_EQ(Codes(), List());
  WriteData(kNew, 19);
  EXPECT_EQ(Codes(), List({"DATA_SIZE"}));
  WriteData(kNew, 21);
  const auto report = Check();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->findings.errors(), 0u);
  EXPECT_EQ(report->findings.warnings(), 1u);
}

// What stands in a diff directory may be anything, and must neither block the check nor end it.
TEST_F(CheckDiffTest, FilesThatAreNoFilesAreFound) {
  WriteLog({}, {Create(kNew, "x"), DataFileRecord{kNew}});
  ASSERT_EQ(mkfifo((path() + "/data/" + DataFileName(kNew)).c_str(), 0600), 0);
  EXPECT_EQ(Codes(), List({"DATA_KIND"}));
  std::filesystem::remove(path() + "/log");
  ASSERT_EQ(mkfifo((path() + "/log").c_str(), 0600), 0);
  EXPECT_EQ(Codes(), List({"LOG_DAMAGED"}));
  std::filesystem::remove(path() + "/binding.json");
  ASSERT_EQ(mkfifo((path() + "/binding.json").c_str(), 0600), 0);
  EXPECT_EQ(Codes(), List({"BINDING_DAMAGED", "LOG_DAMAGED"}));
}

TEST_F(CheckDiffTest, ALogThatAsksForAllMemoryIsRefused) {
  std::vector<Record> records;
  for (uint64_t ino = 10; ino < 30; ++ino) {
    records.push_back(PresentRecord{ino, 0, kMaxFileBytes / kBlockSize});
  }
  WriteLog({}, records);
  EXPECT_EQ(Codes(), List({"LOG_CONTRADICTION"}));
  InodeRecord huge = Inode(kNew, S_IFREG | 0600, 1);
  huge.size = huge.lower_limit = kMaxFileBytes;
  WriteLog({huge, Dirent(kRootIno, "x", kNew, 5)}, {});
  EXPECT_EQ(Codes(), List({"LOG_CONTRADICTION"}));
}

TEST_F(CheckDiffTest, ANameThatIsListedTwiceIsRefusedAlsoForAFileOfTheImage) {
  WriteLog(
      {Inode(kRootIno, S_IFDIR | 0700, 1), Inode(2, S_IFREG | 0600, 1),
       WhiteoutRecord{kRootIno, "a"}, Dirent(kRootIno, "x", 2, 5), Dirent(kRootIno, "x", 2, 6)},
      {});
  EXPECT_EQ(Codes(true), List({"LOG_CONTRADICTION"}));
}

TEST_F(CheckDiffTest, ADiffInUseIsNotChecked) {
  DiffIdentity identity;
  identity.instance = "main";
  identity.backup_id = "ABC123";
  identity.list_hash = "memory";
  const auto store = DiffStore::Open(PosixIo(), path(), identity);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(ReasonOf(Check().status()), "DIFF_IN_USE");
  const auto summary = ReadDiffSummary(PosixIo(), path());
  ASSERT_TRUE(summary.ok() && summary->has_value());
  EXPECT_TRUE((*summary)->in_use);
}

// ---- repair ----

TEST_F(CheckDiffTest, ACheckChangesNothingAndARepairRemovesWhatNobodyNeeds) {
  WriteLog({}, {});
  WriteData(kNew + 3, 10);
  std::ofstream(path() + "/log.new") << "x";
  std::ofstream(path() + "/trash/4") << "x";
  EXPECT_EQ(Codes(), List({"LEFTOVER", "DATA_UNKNOWN", "TRASH"}));
  EXPECT_EQ(Codes(), List({"LEFTOVER", "DATA_UNKNOWN", "TRASH"}));
  const auto repaired = Check(false, true);
  ASSERT_TRUE(repaired.ok()) << repaired.status();
  for (const DiffFinding& finding : repaired->findings.list()) EXPECT_TRUE(finding.repaired);
  EXPECT_EQ(Codes(), List());
}

TEST_F(CheckDiffTest, AFileThatTellsWhichNumbersWereGivenAwayIsLeftToTheMount) {
  WriteLog({}, {}, true, kNew);
  WriteData(kNew + 3, 10);
  ASSERT_TRUE(Check(false, true).ok());
  EXPECT_EQ(Codes(), List({"DATA_UNKNOWN"}));
}

TEST_F(CheckDiffTest, ARepairTouchesNothingWhereThereIsDamage) {
  WriteLog({}, {Create(kNew, "x"), Create(kNew, "y")});
  std::ofstream(path() + "/log.new") << "x";
  ASSERT_TRUE(Check(false, true).ok());
  EXPECT_EQ(Codes(), List({"LEFTOVER", "LOG_CONTRADICTION"}));
}

TEST_F(CheckDiffTest, WhatACrashLeftIsLeftToTheMount) {
  WriteLog({}, {Create(kNew, "x")}, false);
  WriteData(kNew + 3, 10);
  ASSERT_TRUE(Check(false, true).ok());
  EXPECT_EQ(Codes(), List({"NOT_CLEAN", "DATA_UNKNOWN"}));
}

// ---- the list ----

TEST_F(CheckDiffTest, ASummaryTellsHowTheDiffWasLeft) {
  const auto condition = [this] {
    const auto summary = ReadDiffSummary(PosixIo(), path());
    EXPECT_TRUE(summary.ok() && summary->has_value());
    return (*summary)->condition;
  };
  EXPECT_EQ(condition(), DiffCondition::kClean);
  WriteLog({}, {Create(kNew, "x")}, false);
  EXPECT_EQ(condition(), DiffCondition::kUnclean);
  std::ofstream(path() + "/log", std::ios::trunc) << "no log";
  EXPECT_EQ(condition(), DiffCondition::kDamaged);
  std::ofstream(path() + "/binding.json", std::ios::trunc) << "{\"formatVersion\":9}";
  EXPECT_EQ(condition(), DiffCondition::kUnsupported);
  std::filesystem::remove(path() + "/binding.json");
  EXPECT_FALSE(ReadDiffSummary(PosixIo(), path())->has_value());
}

}  // namespace
}  // namespace pbkfs

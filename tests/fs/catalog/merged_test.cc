// Merges that were interrupted, and the end of one under a mount.
#include <sys/stat.h>

#include <filesystem>

#include "fs/base/status.h"
#include "tests/fs/catalog/chain_fixture.h"

namespace pbkfs {
namespace {

namespace fs = std::filesystem;

// FULL <- DELTA 1 <- DELTA 2; the FULL is merged into DELTA 1.
class MergedTest : public ChainTest {
 protected:
  MergedTest() {
    full_ = AddBackup(ts::BackupMode::kFull);
    delta_ = AddBackup(ts::BackupMode::kDelta);
    newer_ = AddBackup(ts::BackupMode::kDelta);
  }

  void SetStatus(const std::string& id, absl::string_view status) {
    Edit(Control(id), "status = OK", absl::StrCat("status = ", status));
  }
  void MarkMerged(absl::string_view status = "MERGED") {
    Edit(Control(full_), "status = OK",
         absl::StrCat("merge-dest-id = '", delta_, "'\nstatus = ", status));
  }

  std::string full_;
  std::string delta_;
  std::string newer_;
};

TEST_F(MergedTest, AMergedFullIsServedAsItsDestinationOnceThatIsGone) {
  MarkMerged();
  SetStatus(delta_, "MERGING");
  EXPECT_EQ(ReasonOf(Resolve(delta_).status()), "BACKUP_NOT_USABLE");
  EXPECT_EQ(ReasonOf(Resolve(full_).status()), "BACKUP_NOT_USABLE");

  const auto check = [this](absl::string_view why) {
    SCOPED_TRACE(std::string(why));
    const auto chain = Resolve(delta_);
    ASSERT_TRUE(chain.ok()) << chain.status();
    ASSERT_EQ((*chain)->members.size(), 1u);
    EXPECT_EQ((*chain)->tip().id, delta_);
    EXPECT_EQ((*chain)->tip().directory, full_);
    EXPECT_EQ(FormatBackupId((*chain)->tip().control.start_time), delta_);
    EXPECT_TRUE((*chain)->CheckAll().ok()) << (*chain)->CheckAll();
    const auto child = Resolve(newer_);
    ASSERT_TRUE(child.ok()) << child.status();
    EXPECT_EQ((*child)->members.size(), 2u);
    const absl::Status old = Resolve(full_).status();
    EXPECT_EQ(ReasonOf(old), "BACKUP_NOT_FOUND");
    EXPECT_NE(old.message().find(delta_), absl::string_view::npos) << old;
    const auto backups = OpenInstance()->ListBackups();
    ASSERT_EQ(backups->size(), 2u) << "each id once";
    EXPECT_EQ((*backups)[0].id, delta_);
    EXPECT_EQ((*backups)[0].merged_from, full_);
    EXPECT_TRUE(FindChain(*backups, (*backups)[0], false).ok());
  };
  Edit(Control(delta_), "status = MERGING", "status = DELETING");
  check("the destination is being deleted");
  fs::remove(Control(delta_));
  check("its control file is gone already");
  fs::remove_all(writer_.BackupDirectory(delta_));
  check("it is gone");
}

TEST_F(MergedTest, ADirectoryThatHasTheNewNameButTheOldControlFileIsServed) {
  MarkMerged();
  fs::remove_all(writer_.BackupDirectory(delta_));
  fs::rename(writer_.BackupDirectory(full_), writer_.BackupDirectory(delta_));
  const auto chain = Resolve(newer_);
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ((*chain)->members[0]->directory, delta_);
}

TEST_F(MergedTest, AMergeThatRunsIsNeverServed) {
  MarkMerged("MERGING");
  fs::remove_all(writer_.BackupDirectory(delta_));
  for (const std::string& id : {full_, delta_, newer_}) EXPECT_FALSE(Resolve(id).ok()) << id;
  const absl::Status status = Resolve(full_, true).status();
  EXPECT_EQ(ReasonOf(status), "BACKUP_NOT_USABLE");
  EXPECT_NE(status.message().find("wait for the merge"), absl::string_view::npos) << status;
}

TEST_F(MergedTest, AMergedFullWithoutADestinationIsNotServed) {
  for (const char* destination : {"", "!", "0"}) {
    ts::BackupOptions options;
    options.merge_dest_id = destination;
    const std::string id = AddBackup(ts::BackupMode::kFull, options, "MERGED");
    EXPECT_EQ(ReasonOf(Resolve(id).status()), "BACKUP_NOT_USABLE");
  }
}

TEST_F(MergedTest, TheEndOfTheMergeDoesNotConcernAMount) {
  MarkMerged();
  fs::remove_all(writer_.BackupDirectory(delta_));
  const auto chain = Resolve(newer_);
  ASSERT_TRUE(chain.ok()) << chain.status();
  fs::rename(writer_.BackupDirectory(full_), writer_.BackupDirectory(delta_));
  EXPECT_TRUE((*chain)->CheckAll().ok()) << (*chain)->CheckAll();
  // The control file gets the new start-time and status, and loses the destination.
  const std::string text = ts::ReadWholeFile(Control(delta_));
  const std::string old_time = ts::FormatTime(ts::ParseBackupId(full_));
  const std::string new_time = ts::FormatTime(ts::ParseBackupId(delta_));
  const std::string done = absl::StrReplaceAll(
      text, {{absl::StrCat("merge-dest-id = '", delta_, "'\n"), ""},
             {"status = MERGED", "status = OK"},
             {absl::StrCat("start-time = '", old_time), absl::StrCat("start-time = '", new_time)}});
  ASSERT_NE(text, done);
  ts::ReplaceFile(Control(delta_), done, 0600);
  EXPECT_TRUE((*chain)->CheckAll().ok()) << (*chain)->CheckAll();
  EXPECT_TRUE((*chain)->Open(0, "database/PG_VERSION").ok());
  EXPECT_TRUE(Resolve(newer_).ok());
}

TEST_F(MergedTest, AMountOfTheOldFullEndsWithTheMerge) {
  const auto chain = Resolve(full_);
  ASSERT_TRUE(chain.ok()) << chain.status();
  MarkMerged();
  EXPECT_EQ((*chain)->CheckAll().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace pbkfs

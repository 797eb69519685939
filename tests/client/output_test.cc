#include "client/output.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/backups_output.h"
#include "client/daemon_output.h"
#include "client/diff_output.h"
#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(FormatTable({{"ID", "STATE", "X"}, {"a-long-id", "up", "1"}}),
            "ID         STATE  X\n"
            "a-long-id  up     1\n");
}

TEST(Bytes, AreToldInTheUnitThatFits) {
  EXPECT_EQ(FormatBytes(-1), "-");
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{5} << 40), "5.0 TiB");
}

TEST(Json, HasAllFieldsInProto3Names) {
  v1::ListMountsResponse response;
  response.add_mounts()->set_mount_id("a");
  const std::string json = ToJson(response);
  EXPECT_NE(json.find("\"mountId\": \"a\""), std::string::npos) << json;
  EXPECT_NE(json.find("\"startCommand\": \"\""), std::string::npos) << json;
  EXPECT_EQ(json.back(), '\n');
}

TEST(MountText, EndsWithTheNextStep) {
  v1::Mount mount;
  mount.set_mount_id("a");
  mount.set_state(v1::MOUNT_STATE_ACTIVE);
  mount.set_start_command("pg_ctl start");
  mount.add_warnings("beware");
  const std::string text = MountText(mount, false);
  EXPECT_NE(text.find("active"), std::string::npos) << text;
  EXPECT_NE(text.find("warning: beware\n"), std::string::npos) << text;
  EXPECT_EQ(text.substr(text.size() - 14), "\npg_ctl start\n");
}

TEST(ListText, HasOneLineAMount) {
  v1::ListMountsResponse response;
  EXPECT_EQ(ListText(response), "ID  STATE  INSTANCE  BACKUP  SERVER  MADE  TARGET  DIFF\n");
  response.add_mounts()->set_mount_id("a");
  response.add_mounts()->set_mount_id("b");
  const std::string text = ListText(response);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST(Table, NamesOfAnyAlphabetTakeTheirColumns) {
  EXPECT_EQ(FormatTable({{"ID", "X"}, {"日本", "1"}, {"второй", "2"}, {"e\u0301", "3"}}),
            "ID      X\n"
            "日本    1\n"
            "второй  2\n"
            "e\u0301       3\n");
}

TEST(Table, AVeryWideCellMovesItsOwnRowOnly) {
  const std::string wide(500, 'x');
  EXPECT_EQ(FormatTable({{"ID", "X"}, {wide, "1"}, {"a", "2"}}),
            "ID  X\n" + wide + "  1\n" + "a   2\n");
}

TEST(Table, NoControlCharacterReachesATerminal) {
  EXPECT_EQ(FormatTable({{"ID"}, {"a\nb\033[2J\u009b\x7f"}}), "ID\na\\nb\\x1b[2J\\x9b\\x7f\n");
  EXPECT_EQ(Printable("é日"), "é日");
}

TEST(Table, FiguresAreAlignedToTheRightAndColoursTakeNoPlace) {
  const std::vector<std::vector<Cell>> rows = {
      {"ID", Cell("N", Style::kPlain, true), "S"},
      {"a", Cell("10", Style::kPlain, true), Cell("up", Style::kGood)},
      {"b", Cell("9", Style::kPlain, true), Cell("up", Style::kBad)}};
  EXPECT_EQ(FormatTable(rows, Palette()), "ID   N  S\na   10  up\nb    9  up\n");
  EXPECT_EQ(FormatTable(rows, Palette(true)),
            "\033[1mID\033[0m   \033[1mN\033[0m  \033[1mS\033[0m\n"
            "a   10  \033[32mup\033[0m\nb    9  \033[31mup\033[0m\n");
}

v1::Backup* AddBackup(v1::ListBackupsResponse* response, const std::string& id,
                      const std::string& parent) {
  v1::Backup* backup = response->add_backups();
  backup->set_backup_id(id);
  backup->set_parent_id(parent);
  backup->set_mountable(true);
  return backup;
}

// The first words of the lines of the tree, with their indentation.
std::vector<std::string> Tree(const v1::ListBackupsResponse& response) {
  std::vector<std::string> lines = absl::StrSplit(BackupsText(response), '\n', absl::SkipEmpty());
  lines.erase(lines.begin(), lines.begin() + 2);
  for (std::string& line : lines) {
    line.resize(line.find(' ', line.find_first_not_of(' ')));
  }
  return lines;
}

TEST(BackupsText, ChildrenStandBelowTheirParentInOrder) {
  v1::ListBackupsResponse response;
  AddBackup(&response, "A", "");
  AddBackup(&response, "B", "");
  AddBackup(&response, "A1", "A");
  AddBackup(&response, "A2", "A");
  AddBackup(&response, "A11", "A1");
  AddBackup(&response, "Z", "gone");
  EXPECT_EQ(Tree(response), (std::vector<std::string>{"A", "  A1", "    A11", "  A2", "B", "Z"}));
}

TEST(BackupsText, EveryBackupIsThereOnceHoweverItsParentsGo) {
  v1::ListBackupsResponse response;
  AddBackup(&response, "A", "A");
  AddBackup(&response, "R1", "R2");
  AddBackup(&response, "R2", "R1");
  AddBackup(&response, "D", "");
  AddBackup(&response, "D", "");
  EXPECT_EQ(Tree(response), (std::vector<std::string>{"A", "D", "D", "R1", "  R2"}));
  v1::ListBackupsResponse chain;
  for (int i = 0; i < 20000; ++i) {
    AddBackup(&chain, absl::StrCat(i), i == 0 ? "" : absl::StrCat(i - 1));
  }
  EXPECT_EQ(Tree(chain).size(), 20000u);
}

TEST(BackupsText, ReasonsAreBounded) {
  v1::ListBackupsResponse response;
  for (int i = 0; i < 100; ++i) {
    v1::Backup* backup = AddBackup(&response, absl::StrCat("B", i), "");
    backup->set_mountable(false);
    backup->set_unmountable_message("because");
  }
  const std::string text = BackupsText(response);
  EXPECT_NE(text.find("B19: because\nand 80 more"), std::string::npos) << text;
}

v1::DaemonStatus StatusOf(uint32_t pid, const std::string& last_upgrade) {
  v1::DaemonStatus status;
  status.set_worker_pid(pid);
  status.set_last_upgrade(last_upgrade);
  return status;
}

TEST(Upgrade, IsDoneWhenAnotherWorkerAnswersAndNotWhenTheOldProgramIsBack) {
  v1::UpgradeResponse began;
  began.set_old_worker_pid(7);
  const v1::DaemonStatus before = StatusOf(7, "done before");
  EXPECT_EQ(UpgradeStateOf(before, began, before), UpgradeState::kPending);
  EXPECT_EQ(UpgradeStateOf(before, began, StatusOf(8, "done before")), UpgradeState::kDone);
  EXPECT_EQ(UpgradeStateOf(before, began, StatusOf(8, "done: 0.2.0")), UpgradeState::kDone);
  for (const uint32_t pid : {7u, 8u}) {
    EXPECT_EQ(UpgradeStateOf(before, began, StatusOf(pid, "fell back to 0.1.0: it ended")),
              UpgradeState::kFellBack);
  }
}

TEST(DiffText, TellsWhatWasLeftBehindAndWhatARepairWouldDo) {
  v1::ListDiffsResponse list;
  v1::Diff* diff = list.add_diffs();
  diff->set_state(v1::DIFF_STATE_UNCLEAN);
  diff->set_ephemeral(true);
  EXPECT_NE(ListDiffsText(list).find("unclean, left behind"), std::string::npos);
  v1::CheckDiffResponse check;
  check.set_path("/d");
  check.set_verdict(v1::DIFF_VERDICT_CORRUPT);
  v1::Finding* finding = check.add_findings();
  finding->set_severity(v1::FINDING_SEVERITY_ERROR);
  finding->set_code("LEFTOVER");
  finding->set_subject("log.new");
  finding->set_message("it is there");
  finding->set_remedy("removed");
  EXPECT_EQ(CheckDiffText(check),
            "error LEFTOVER log.new: it is there\n  --repair: removed\n"
            "/d: corrupt; 0 inodes, 0 data files, 0 blocks of the backup replaced\n");
}

}  // namespace
}  // namespace pbkfs::client

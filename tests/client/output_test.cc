#include "client/output.h"

#include <string>

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
  EXPECT_EQ(ListText(response), "ID  STATE  INSTANCE  BACKUP  SERVER  TARGET  DIFF\n");
  response.add_mounts()->set_mount_id("a");
  response.add_mounts()->set_mount_id("b");
  const std::string text = ListText(response);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST(BackupsText, SaysWhyABackupCannotBeMounted) {
  v1::ListBackupsResponse response;
  v1::Backup* backup = response.add_backups();
  backup->set_backup_id("TOW2HK");
  backup->set_unmountable_reason("CHAIN_INCOMPLETE");
  EXPECT_NE(BackupsText(response).find("no: CHAIN_INCOMPLETE"), std::string::npos);
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

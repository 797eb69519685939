// What the commands print, as whole texts.
#include "tests/client/snapshot.h"

#include <cstdlib>
#include <string>

#include "client/arguments.h"
#include "client/backups_output.h"
#include "client/completion.h"
#include "client/daemon_output.h"
#include "client/diff_output.h"
#include "client/help.h"
#include "client/output.h"
#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

class Snapshot : public testing::Test {
 protected:
  // Times are printed as the user's clock shows them.
  void SetUp() override { setenv("TZ", "UTC", 1); }
};

v1::Mount SomeMount() {
  v1::Mount mount;
  mount.set_mount_id("rescue");
  mount.set_state(v1::MOUNT_STATE_ACTIVE);
  mount.set_instance("main");
  mount.set_backup_id("TOW2HK");
  mount.set_target("/mnt/rescue");
  mount.set_diff_dir("/var/lib/pbkfs/diffs/rescue");
  mount.mutable_owner()->set_uid(104);
  mount.mutable_owner()->set_gid(112);
  for (const auto& [mode, id] : {std::pair("FULL", "TOW28W"), std::pair("DELTA", "TOW2HK")}) {
    v1::ChainMember* member = mount.add_chain();
    member->set_mode(mode);
    member->set_backup_id(id);
  }
  mount.set_server_version("15");
  mount.set_start_command("/usr/lib/postgresql/15/bin/pg_ctl -D /mnt/rescue start");
  mount.mutable_create_time()->set_seconds(1769860800);
  mount.set_logical_bytes(int64_t{5} << 40);
  mount.set_diff_free_bytes(int64_t{3} << 30);
  mount.set_start_lsn("0/9000028");
  mount.set_stop_lsn("0/9000100");
  mount.add_warnings("the catalog is not locked: it is read-only");
  return mount;
}

v1::Backup* AddBackup(v1::ListBackupsResponse* response, const std::string& instance,
                      const std::string& id, const std::string& parent) {
  v1::Backup* backup = response->add_backups();
  backup->set_instance(instance);
  backup->set_backup_id(id);
  backup->set_parent_id(parent);
  backup->set_mode(parent.empty() ? "FULL" : "DELTA");
  backup->set_status("OK");
  backup->set_stream(true);
  backup->set_server_version("15");
  backup->set_compress_alg("zlib");
  backup->mutable_recovery_time()->set_seconds(1769860800 + response->backups_size() * 3600);
  backup->set_data_bytes(int64_t{1234567} * response->backups_size());
  backup->set_wal_bytes(16 << 20);
  backup->set_pgdata_bytes(int64_t{7} << 30);
  backup->set_mountable(true);
  return backup;
}

void MakeUnmountable(const char* reason, const char* message, v1::Backup* backup) {
  backup->set_mountable(false);
  backup->set_unmountable_reason(reason);
  backup->set_unmountable_message(message);
}

v1::ListBackupsResponse SomeBackups() {
  v1::ListBackupsResponse response;
  AddBackup(&response, "main", "TOW28W", "");
  AddBackup(&response, "main", "TOW2HK", "TOW28W");
  AddBackup(&response, "main", "TOW2HL", "TOW2HK");
  v1::Backup* broken = AddBackup(&response, "main", "TOW2HM", "TOW28W");
  broken->set_status("ERROR");
  broken->set_data_bytes(-1);
  broken->clear_recovery_time();
  MakeUnmountable("BACKUP_NOT_USABLE", "backup TOW2HM has the status ERROR; mount another backup",
                  broken);
  AddBackup(&response, "main", "TOW3AA", "");
  MakeUnmountable("CHAIN_INCOMPLETE",
                  "backup TOW3AB needs its parent TOW000, which is not in the catalog",
                  AddBackup(&response, "main", "TOW3AB", "TOW000"));
  AddBackup(&response, "второй", "TOW4AA", "")->set_stream(false);
  return response;
}

TEST_F(Snapshot, HelpOfEveryCommand) {
  ExpectSnapshot("help.txt", std::string(HelpText("")));
  for (const Command& command : Commands()) {
    const std::string name(command.name.substr(0, command.name.find('-')));
    if (name != "help") ExpectSnapshot("help_" + name + ".txt", std::string(HelpText(name)));
  }
}

TEST_F(Snapshot, Mount) {
  v1::Mount mount = SomeMount();
  ExpectSnapshot("mount.txt",
                 MountText(mount, false) + "next step: " + MountNextStep(mount, false) + "\n");
  mount.mutable_recovery()->mutable_time()->set_seconds(1769860800);
  mount.mutable_recovery()->set_timeline("current");
  mount.mutable_recovery()->set_action("promote");
  ExpectSnapshot("mount_dry_run.txt",
                 MountText(mount, true) + "next step: " + MountNextStep(mount, true) + "\n");
}

TEST_F(Snapshot, Unmount) {
  v1::UnmountResponse response;
  response.set_mount_id("rescue");
  response.set_was_mounted(true);
  response.set_diff_dir("/var/lib/pbkfs/diffs/rescue");
  ExpectSnapshot("unmount.txt",
                 UnmountText(response) + "next step: " + UnmountNextStep(response) + "\n");
  // Of a mount that an earlier daemon had.
  response.set_was_mounted(false);
  const std::string forgotten =
      UnmountText(response) + "next step: " + UnmountNextStep(response) + "\n";
  response.set_diff_deleted(true);
  ExpectSnapshot("unmount_forgotten.txt", forgotten + UnmountText(response));
}

TEST_F(Snapshot, List) {
  v1::ListMountsResponse response;
  *response.add_mounts() = SomeMount();
  v1::Mount* failed = response.add_mounts();
  failed->set_mount_id("c");
  failed->set_state(v1::MOUNT_STATE_FAILED);
  failed->set_state_reason("the worker ended 5 times in a row");
  failed->set_instance("второй");
  failed->set_backup_id("TOW4AA");
  failed->set_server_version("9.6");
  failed->set_target("/mnt/日本語/" + std::string(60, 'x'));
  failed->set_diff_dir("/mnt/d\n\033[31m");
  ExpectSnapshot("list.txt", ListText(response) + "next step: " + ListNextStep(response) + "\n");
  ExpectSnapshot("list_colours.txt", ListText(response, Palette(true)));
}

TEST_F(Snapshot, Backups) { ExpectSnapshot("backups.txt", BackupsText(SomeBackups())); }

TEST_F(Snapshot, Diffs) {
  v1::ListDiffsResponse list;
  v1::Diff* diff = list.add_diffs();
  diff->set_path("/var/lib/pbkfs/diffs/rescue");
  diff->set_state(v1::DIFF_STATE_IN_USE);
  diff->set_mount_id("rescue");
  diff->set_in_use(true);
  diff->set_instance("main");
  diff->set_backup_id("TOW2HK");
  diff->mutable_owner()->set_uid(104);
  diff->mutable_owner()->set_gid(112);
  diff->set_allocated_bytes(123 << 20);
  diff->mutable_last_use_time()->set_seconds(1769860800);
  v1::Diff* damaged = list.add_diffs();
  damaged->set_path("/srv/diffs/old");
  damaged->set_state(v1::DIFF_STATE_DAMAGED);
  damaged->set_allocated_bytes(-1);
  ExpectSnapshot("diff_list.txt", ListDiffsText(list));

  v1::CheckDiffResponse check;
  check.set_path("/srv/diffs/old");
  check.set_verdict(v1::DIFF_VERDICT_WARNINGS);
  v1::Finding* finding = check.add_findings();
  finding->set_severity(v1::FINDING_SEVERITY_WARNING);
  finding->set_code("LEFTOVER");
  finding->set_subject("log.new");
  finding->set_message("a checkpoint was interrupted");
  finding->set_remedy("it is removed");
  check.set_inodes(12);
  check.set_data_files(10);
  check.set_present_blocks(4711);
  ExpectSnapshot("diff_check.txt",
                 CheckDiffText(check) + "next step: " + CheckDiffNextStep(check) + "\n");
}

TEST_F(Snapshot, Daemon) {
  v1::DaemonStatus status;
  status.set_version("0.1.0");
  status.set_build("g++ 12.2.0, RelWithDebInfo, libfuse 3.14.0, gRPC 1.51.1, protobuf 3.21.12");
  status.set_worker_pid(4711);
  status.set_keeper_pid(4700);
  status.mutable_start_time()->set_seconds(1769860800);
  status.set_worker_restarts(1);
  status.add_listen_addresses("unix:/run/pbkfs/pbkfsd.sock");
  status.add_listen_addresses("0.0.0.0:7070");
  status.set_metrics_address("127.0.0.1:9467");
  status.set_state_directory("/var/lib/pbkfs");
  status.set_config_file("/etc/pbkfs/pbkfsd.conf");
  status.add_allowed_roots("/backup");
  status.add_allowed_roots("/mnt");
  status.set_log_level("info");
  status.set_restart_protection(v1::RESTART_PROTECTION_FULL);
  status.set_kernel("6.18.0");
  status.set_fuse_protocol("7.45");
  (*status.mutable_mounts())["failed"] = 1;
  (*status.mutable_mounts())["creating"] = 0;
  (*status.mutable_mounts())["active"] = 2;
  ExpectSnapshot("daemon_status.txt", DaemonStatusText(status));

  v1::ReloadResponse reload;
  reload.add_changed("allow_root: \"/srv\" added");
  reload.add_needs_restart("metrics_address");
  reload.add_failed_mounts("nightly: there is no backup TOW000");
  ExpectSnapshot("daemon_reload.txt",
                 ReloadText(reload) + "next step: " + ReloadNextStep(reload) + "\n");
}

TEST_F(Snapshot, CompletionScripts) {
  ExpectSnapshot("completion_bash.txt", std::string(CompletionScript("bash")));
  ExpectSnapshot("completion_zsh.txt", std::string(CompletionScript("zsh")));
}

}  // namespace
}  // namespace pbkfs::client

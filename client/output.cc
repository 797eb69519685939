#include "client/output.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "google/protobuf/util/json_util.h"

namespace pbkfs::client {
namespace {

using Row = std::vector<std::string>;

std::string StateText(v1::MountState state) {
  std::string name = v1::MountState_Name(state);
  absl::string_view view = name;
  absl::ConsumePrefix(&view, "MOUNT_STATE_");
  return absl::AsciiStrToLower(view);
}

std::string ChainText(const v1::Mount& mount) {
  std::string text;
  for (const v1::ChainMember& member : mount.chain()) {
    absl::StrAppend(&text, text.empty() ? "" : " <- ", member.mode(), " ", member.backup_id());
  }
  return text;
}

std::string RecoveryText(const v1::Recovery& recovery) {
  std::string target = "latest";
  if (recovery.has_immediate()) target = "immediate";
  if (recovery.has_time()) target = absl::StrCat("time ", TimeText(recovery.time()));
  if (recovery.has_xid()) target = absl::StrCat("xid ", recovery.xid());
  if (recovery.has_lsn()) target = absl::StrCat("lsn ", recovery.lsn());
  if (recovery.has_name()) target = absl::StrCat("name ", recovery.name());
  return absl::StrCat("to ", target, ", timeline ", recovery.timeline(), ", then ",
                      recovery.action());
}

// Columns in characters of UTF-8, near enough to what a terminal shows.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string FormatTable(const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - Width(row[i]) + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S%Ez", absl::FromUnixSeconds(time.seconds()),
                          absl::LocalTimeZone());
}

std::string FormatBytes(int64_t bytes) {
  if (bytes < 0) return "-";
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return "";
  if (json.empty() || json.back() != '\n') json += '\n';
  return json;
}

std::string MountText(const v1::Mount& mount, bool dry_run) {
  std::vector<Row> rows = {
      {"id", mount.mount_id()},
      {"state", dry_run ? "would be mounted" : StateText(mount.state())},
      {"backup", absl::StrCat(mount.instance(), " ", mount.backup_id())},
      {"chain", ChainText(mount)},
      {"server", absl::StrCat("PostgreSQL ", mount.server_version())},
      {"target", mount.target()},
      {"diff", mount.diff_dir()},
      {"owner", absl::StrCat(mount.owner().uid(), ":", mount.owner().gid())},
      {"size", absl::StrCat(FormatBytes(mount.logical_bytes()),
                            ", free for changes: ", FormatBytes(mount.diff_free_bytes()))},
      {"WAL", absl::StrCat(mount.start_lsn(), " .. ", mount.stop_lsn())},
  };
  if (mount.has_recovery()) rows.push_back({"recovery", RecoveryText(mount.recovery())});
  std::string text = FormatTable(rows);
  for (const std::string& warning : mount.warnings())
    absl::StrAppend(&text, "warning: ", warning, "\n");
  if (!mount.start_command().empty()) {
    absl::StrAppend(&text, "\n", dry_run ? "it would be started" : "start it",
                    " as the owner of the files with:\n", mount.start_command(), "\n");
  }
  return text;
}

std::string UnmountText(const v1::UnmountResponse& response) {
  if (!response.was_mounted()) return "nothing was mounted\n";
  if (response.diff_deleted()) {
    return absl::StrCat(response.mount_id(), " unmounted; its diff is deleted\n");
  }
  return absl::StrCat(response.mount_id(), " unmounted; its changes are kept in ",
                      response.diff_dir(), "\n");
}

std::string ListText(const v1::ListMountsResponse& response) {
  std::vector<Row> rows = {{"ID", "STATE", "INSTANCE", "BACKUP", "SERVER", "TARGET", "DIFF"}};
  for (const v1::Mount& mount : response.mounts()) {
    rows.push_back({mount.mount_id(), StateText(mount.state()), mount.instance(), mount.backup_id(),
                    mount.server_version(), mount.target(), mount.diff_dir()});
  }
  return FormatTable(rows);
}

std::string BackupsText(const v1::ListBackupsResponse& response) {
  std::vector<Row> rows = {{"INSTANCE", "BACKUP", "MODE", "WAL", "STATUS", "PARENT", "SERVER",
                            "CODEC", "TAKEN", "DATA", "MOUNTABLE"}};
  for (const v1::Backup& backup : response.backups()) {
    rows.push_back(
        {backup.instance(), backup.backup_id(), backup.mode().empty() ? "-" : backup.mode(),
         backup.stream() ? "STREAM" : "ARCHIVE", backup.status(),
         backup.parent_id().empty() ? "-" : backup.parent_id(), backup.server_version(),
         backup.compress_alg(), backup.has_recovery_time() ? TimeText(backup.recovery_time()) : "-",
         FormatBytes(backup.data_bytes()),
         backup.mountable() ? "yes" : absl::StrCat("no: ", backup.unmountable_reason())});
  }
  return FormatTable(rows);
}

}  // namespace pbkfs::client

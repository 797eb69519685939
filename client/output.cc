#include "client/output.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "google/protobuf/util/json_util.h"

namespace pbkfs::client {
namespace {

using Row = std::vector<std::string>;

Cell StateCell(v1::MountState state) {
  std::string text = EnumText(v1::MountState_Name(state), "MOUNT_STATE_");
  switch (state) {
    case v1::MOUNT_STATE_ACTIVE:
      return {std::move(text), Style::kGood};
    case v1::MOUNT_STATE_FAILED:
      return {std::move(text), Style::kBad};
    default:
      return {std::move(text), Style::kWarning};
  }
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

}  // namespace

std::string EnumText(absl::string_view name, absl::string_view prefix) {
  absl::ConsumePrefix(&name, prefix);
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", " "}});
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

std::string MountText(const v1::Mount& mount, bool dry_run, const Palette& palette) {
  std::vector<std::pair<std::string, Cell>> facts = {
      {"id", mount.mount_id()},
      {"state", dry_run ? Cell("would be mounted") : StateCell(mount.state())},
      {"backup", absl::StrCat(mount.instance(), " ", mount.backup_id())},
      {"chain", ChainText(mount)},
      {"target", mount.target()},
      {"diff", mount.diff_dir()},
      {"owner", absl::StrCat(mount.owner().uid(), ":", mount.owner().gid())},
      {"size", absl::StrCat(FormatBytes(mount.logical_bytes()),
                            ", free for changes: ", FormatBytes(mount.diff_free_bytes()))},
      {"WAL", absl::StrCat(mount.start_lsn(), " .. ", mount.stop_lsn())},
  };
  if (!mount.state_reason().empty()) {
    facts.insert(facts.begin() + 2, {"reason", Cell(mount.state_reason(), Style::kBad)});
  }
  if (mount.has_recovery()) facts.emplace_back("recovery", RecoveryText(mount.recovery()));
  std::string text = FormatFacts(facts, palette);
  for (const std::string& warning : mount.warnings()) {
    absl::StrAppend(&text, palette.Paint(Style::kWarning, "warning:"), " ", Printable(warning),
                    "\n");
  }
  if (!mount.start_command().empty()) {
    absl::StrAppend(&text, "\n", dry_run ? "it would be started" : "start it",
                    " as the owner of the files with:\n", mount.start_command(), "\n");
  }
  return text;
}

std::string MountNextStep(const v1::Mount& mount, bool dry_run) {
  if (dry_run) return "the same command without --dry-run";
  return absl::StrCat(mount.start_command().empty() ? "" : "start PostgreSQL as shown; ",
                      "when it is stopped again: pbkfs unmount ", mount.mount_id());
}

std::string UnmountText(const v1::UnmountResponse& response) {
  if (!response.was_mounted() && !response.diff_dir().empty()) {
    return absl::StrCat(response.mount_id(), " was to be mounted again, and is forgotten; its ",
                        response.diff_deleted() ? "diff is deleted" : "changes are kept in ",
                        response.diff_deleted() ? "" : Printable(response.diff_dir()), "\n");
  }
  if (!response.was_mounted()) return "nothing was mounted\n";
  if (response.diff_deleted()) {
    return absl::StrCat(response.mount_id(), " unmounted; its diff is deleted\n");
  }
  return absl::StrCat(response.mount_id(), " unmounted; its changes are kept in ",
                      Printable(response.diff_dir()), "\n");
}

std::string UnmountNextStep(const v1::UnmountResponse& response) {
  if (!response.was_mounted() && response.diff_dir().empty()) return "pbkfs list shows the mounts";
  if (response.diff_deleted()) return "";
  return absl::StrCat("mount the backup with --diff ", Printable(response.diff_dir()),
                      " to go on, or throw the changes away: pbkfs diff delete ",
                      Printable(response.diff_dir()));
}

std::string ListText(const v1::ListMountsResponse& response, const Palette& palette) {
  std::vector<std::vector<Cell>> rows = {
      {"ID", "STATE", "INSTANCE", "BACKUP", "SERVER", "MADE", "TARGET", "DIFF"}};
  for (const v1::Mount& mount : response.mounts()) {
    rows.push_back({mount.mount_id(), StateCell(mount.state()), mount.instance(), mount.backup_id(),
                    mount.server_version(),
                    mount.has_create_time() ? TimeText(mount.create_time()) : "-", mount.target(),
                    mount.diff_dir()});
  }
  std::string text = FormatTable(rows, palette);
  for (const v1::Mount& mount : response.mounts()) {
    if (mount.state_reason().empty()) continue;
    absl::StrAppend(&text, palette.Paint(Style::kBad, mount.mount_id()), ": ",
                    Printable(mount.state_reason()), "\n");
  }
  return text;
}

std::string ListNextStep(const v1::ListMountsResponse& response) {
  for (const v1::Mount& mount : response.mounts()) {
    if (mount.state() != v1::MOUNT_STATE_FAILED) continue;
    return absl::StrCat("pbkfs unmount ", mount.mount_id(), ", and mount again with the same diff");
  }
  return response.mounts().empty() ? "nothing is mounted; see pbkfs help mount" : "";
}

}  // namespace pbkfs::client

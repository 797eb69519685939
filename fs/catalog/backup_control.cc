#include "fs/catalog/backup_control.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "fs/catalog/control_file.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr std::pair<BackupMode, absl::string_view> kModes[] = {
    {BackupMode::kFull, "FULL"},
    {BackupMode::kPage, "PAGE"},
    {BackupMode::kDelta, "DELTA"},
    {BackupMode::kPtrack, "PTRACK"},
};

constexpr std::pair<BackupStatus, absl::string_view> kStatuses[] = {
    {BackupStatus::kOk, "OK"},
    {BackupStatus::kDone, "DONE"},
    {BackupStatus::kRunning, "RUNNING"},
    {BackupStatus::kError, "ERROR"},
    {BackupStatus::kCorrupt, "CORRUPT"},
    {BackupStatus::kOrphan, "ORPHAN"},
    {BackupStatus::kMerging, "MERGING"},
    {BackupStatus::kMerged, "MERGED"},
    {BackupStatus::kDeleting, "DELETING"},
    {BackupStatus::kDeleted, "DELETED"},
};

absl::Status Malformed(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

// Any case and any unambiguous prefix, as pg_probackup itself reads it.
BackupMode ParseMode(absl::string_view text) {
  BackupMode found = BackupMode::kUnknown;
  if (text.empty()) return found;
  for (const auto& [mode, name] : kModes) {
    if (!absl::StartsWithIgnoreCase(name, text)) continue;
    if (found != BackupMode::kUnknown) return BackupMode::kUnknown;
    found = mode;
  }
  return found;
}

BackupStatus ParseStatus(absl::string_view text) {
  for (const auto& [status, name] : kStatuses) {
    if (name == text) return status;
  }
  return BackupStatus::kUnknown;
}

absl::StatusOr<uint32_t> ParseProgramVersion(absl::string_view text) {
  if (text.empty()) return 0;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  uint32_t version = 0;
  for (const absl::string_view part : parts) {
    uint32_t number = 0;
    if (parts.size() != 3 || part.empty() || part.size() > 2 ||
        !absl::ascii_isdigit(static_cast<unsigned char>(part[0])) ||
        !absl::SimpleAtoi(part, &number)) {
      return Malformed(absl::StrCat("program-version '", text, "' is not of the form a.b.c"));
    }
    version = version * 100 + number;
  }
  return version;
}

std::string CanonicalPath(absl::string_view path) {
  std::vector<absl::string_view> names;
  for (const absl::string_view name : absl::StrSplit(path, '/')) {
    if (name.empty() || name == ".") continue;
    if (name == ".." && !names.empty()) {
      names.pop_back();
    } else if (name != "..") {
      names.push_back(name);
    }
  }
  return absl::StrCat("/", absl::StrJoin(names, "/"));
}

std::vector<std::string> ParseExternalDirs(absl::string_view text) {
  std::vector<std::string> dirs;
  for (const absl::string_view dir : absl::StrSplit(text, ':', absl::SkipEmpty())) {
    dirs.push_back(CanonicalPath(dir));
  }
  std::sort(dirs.begin(), dirs.end());
  return dirs;
}

// What a mount depends on: a malformed line fails the backup.
absl::Status ParseNeeded(const ControlFile& file, BackupControl& control) {
  PBKFS_RETURN_IF_ERROR(file.GetText("backup-mode", control.mode_text));
  control.mode = ParseMode(control.mode_text);
  PBKFS_RETURN_IF_ERROR(file.GetText("status", control.status_text));
  control.status = ParseStatus(control.status_text);
  PBKFS_RETURN_IF_ERROR(file.GetBool("stream", control.stream));
  PBKFS_RETURN_IF_ERROR(file.GetBool("from-replica", control.from_replica));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("block-size", control.block_size));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("xlog-block-size", control.wal_block_size));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("checksum-version", control.checksum_version));
  PBKFS_RETURN_IF_ERROR(file.GetText("program-version", control.program_version_text));
  PBKFS_ASSIGN_OR_RETURN(control.program_version,
                         ParseProgramVersion(control.program_version_text));
  PBKFS_RETURN_IF_ERROR(file.GetText("server-version", control.server_version));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("timelineid", control.timeline));
  PBKFS_RETURN_IF_ERROR(file.GetLsn("start-lsn", control.start_lsn));
  PBKFS_RETURN_IF_ERROR(file.GetLsn("stop-lsn", control.stop_lsn));
  PBKFS_RETURN_IF_ERROR(file.GetTime("start-time", control.start_time));
  if (control.start_time < 0) return Malformed("start-time lies before 1970");
  PBKFS_RETURN_IF_ERROR(file.GetText("merge-dest-id", control.merge_dest_id));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("content-crc", control.content_crc));
  if (control.mode == BackupMode::kFull) return absl::OkStatus();  // Its parent means nothing.
  std::string parent;
  PBKFS_RETURN_IF_ERROR(file.GetText("parent-backup-id", parent));
  if (parent.empty()) return absl::OkStatus();
  const absl::StatusOr<int64_t> parent_time = ParseBackupId(parent);
  if (!parent_time.ok()) {
    return Malformed(absl::StrCat("parent-backup-id '", parent, "' is not a backup id"));
  }
  control.parent_id = FormatBackupId(*parent_time);
  return absl::OkStatus();
}

// What is only shown: a malformed line leaves the default.
void ParseInformative(const ControlFile& file, BackupControl& control) {
  file.GetText("compress-alg", control.compress_alg).IgnoreError();
  file.GetTime("merge-time", control.merge_time).IgnoreError();
  file.GetTime("end-time", control.end_time).IgnoreError();
  file.GetUnsigned("recovery-xid", std::numeric_limits<uint64_t>::max(), control.recovery_xid)
      .IgnoreError();
  file.GetTime("recovery-time", control.recovery_time).IgnoreError();
  file.GetTime("expire-time", control.expire_time).IgnoreError();
  file.GetSigned("data-bytes", control.data_bytes).IgnoreError();
  file.GetSigned("wal-bytes", control.wal_bytes).IgnoreError();
  file.GetSigned("uncompressed-bytes", control.uncompressed_bytes).IgnoreError();
  file.GetSigned("pgdata-bytes", control.pgdata_bytes).IgnoreError();
  file.GetText("primary-conninfo", control.primary_conninfo).IgnoreError();
  file.GetText("note", control.note).IgnoreError();
  std::string external_dirs;
  file.GetText("external-dirs", external_dirs).IgnoreError();
  control.external_dirs = ParseExternalDirs(external_dirs);
}

}  // namespace

absl::string_view BackupModeName(BackupMode mode) {
  for (const auto& [known, name] : kModes) {
    if (known == mode) return name;
  }
  return "UNKNOWN";
}

absl::string_view BackupStatusName(BackupStatus status) {
  for (const auto& [known, name] : kStatuses) {
    if (known == status) return name;
  }
  return "UNKNOWN";
}

std::string FormatLsn(Lsn lsn) { return absl::StrFormat("%X/%X", lsn >> 32, lsn & 0xFFFFFFFFu); }

std::string FormatBackupId(int64_t start_time_seconds) {
  std::string id;
  auto rest = static_cast<uint64_t>(start_time_seconds);
  do {
    id.push_back("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[rest % 36]);
    rest /= 36;
  } while (rest > 0);
  std::reverse(id.begin(), id.end());
  return id;
}

absl::StatusOr<int64_t> ParseBackupId(absl::string_view id) {
  const absl::Status invalid =
      absl::InvalidArgumentError(absl::StrCat("'", id.substr(0, 64), "' is not a backup id"));
  if (id.empty() || id.size() > kMaxBackupIdBytes) return invalid;
  int64_t value = 0;
  for (const char raw : id) {
    const auto c = static_cast<unsigned char>(raw);
    int64_t digit;
    if (absl::ascii_isdigit(c)) {
      digit = c - '0';
    } else if (absl::ascii_isalpha(c)) {
      digit = absl::ascii_toupper(c) - 'A' + 10;
    } else {
      return invalid;
    }
    if (__builtin_mul_overflow(value, int64_t{36}, &value) ||
        __builtin_add_overflow(value, digit, &value)) {
      return invalid;
    }
  }
  if (value <= 0) return invalid;
  return value;
}

int64_t BackupControl::MergedInto() const {
  if (status != BackupStatus::kMerged || mode != BackupMode::kFull) return 0;
  const absl::StatusOr<int64_t> destination = ParseBackupId(merge_dest_id);
  return destination.ok() ? *destination : 0;
}

int BackupControl::ServerMajor() const {
  int major = 0;
  const absl::string_view version = server_version;
  return absl::SimpleAtoi(version.substr(0, version.find('.')), &major) ? major : 0;
}

absl::StatusOr<BackupControl> ParseBackupControl(absl::string_view text) {
  PBKFS_ASSIGN_OR_RETURN(const ControlFile file, ControlFile::Parse(text));
  BackupControl control;
  PBKFS_RETURN_IF_ERROR(ParseNeeded(file, control));
  ParseInformative(file, control);
  return control;
}

absl::StatusOr<InstanceConfig> ParseInstanceConfig(absl::string_view text) {
  PBKFS_ASSIGN_OR_RETURN(const ControlFile file, ControlFile::Parse(text));
  InstanceConfig config;
  file.GetText("pgdata", config.pgdata).IgnoreError();
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("system-identifier", std::numeric_limits<uint64_t>::max(),
                                         config.system_identifier));
  PBKFS_RETURN_IF_ERROR(file.GetUnsigned("xlog-seg-size", config.wal_segment_size));
  const uint32_t size = config.wal_segment_size;
  if (size < (1u << 20) || size > (1u << 30) || (size & (size - 1)) != 0) {
    return Malformed(
        absl::StrCat("xlog-seg-size ", size, " is not a power of two from 1 MB to 1 GB"));
  }
  return config;
}

}  // namespace pbkfs

#include "service/wal_check.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/status.h"
#include "fs/catalog/lower_wal.h"
#include "fs/catalog/pg_control.h"
#include "fs/catalog/wal_tablespaces.h"
#include "service/limits.h"
#include "service/lower_files.h"

namespace pbkfs {
namespace {

constexpr int kFirstMajorWithPgWal = 10;

uint32_t SegmentBytes(const Image& image) {
  const absl::StatusOr<std::string> bytes =
      ReadLowerFile(image, "global/pg_control", kMaxConfigFileBytes);
  if (bytes.ok()) {
    if (const auto control = ParsePgControl(*bytes); control.ok()) {
      return control->wal_segment_bytes;
    }
  }
  return image.chain().instance->config().wal_segment_size;
}

absl::Status TablespaceInWal(const std::vector<TablespaceCreation>& creations,
                             absl::string_view where) {
  const std::string paths =
      absl::StrJoin(creations, ", ", [](std::string* out, const TablespaceCreation& creation) {
        absl::StrAppend(out, absl::CHexEscape(creation.path), " (oid ", creation.oid, ", WAL at ",
                        FormatLsn(creation.lsn), ")");
      });
  return WithField(
      ReasonError(
          absl::StatusCode::kFailedPrecondition, reason::kTablespaceInWal,
          absl::StrCat(where, " creates tablespaces at production's paths: ", paths,
                       "; a server that replays it would use those directories. Mount "
                       "another backup, or, where the server runs on a host or in a "
                       "container without those paths, allow it with --allow-tablespace-wal")),
      "allow_tablespace_wal");
}

}  // namespace

WalStart WalStartOf(const Image& image) {
  const BackupControl& control = image.chain().tip().control;
  WalStart start;
  start.begin = control.start_lsn;
  start.timeline = control.timeline;
  start.segment_bytes = SegmentBytes(image);
  start.server_major = control.ServerMajor();
  start.system_identifier = image.info().system_identifier;
  return start;
}

absl::string_view WalDirectoryOf(const Image& image) {
  return image.chain().tip().control.ServerMajor() < kFirstMajorWithPgWal ? "pg_xlog" : "pg_wal";
}

absl::Status CheckTablespaces(const std::vector<TablespaceCreation>& creations,
                              absl::string_view where, bool allow,
                              std::vector<std::string>* warnings) {
  if (creations.empty()) return absl::OkStatus();
  const absl::Status hit = TablespaceInWal(creations, where);
  if (!allow) return hit;
  warnings->push_back(absl::StrCat("allowed: ", hit.message()));
  return absl::OkStatus();
}

absl::Status CheckTablespaceWal(const Image& image, bool allow,
                                std::vector<std::string>* warnings) {
  const BackupControl& control = image.chain().tip().control;
  if (!control.stream) return absl::OkStatus();
  const WalStart start = WalStartOf(image);
  LowerWal wal(image, WalDirectoryOf(image), start.segment_bytes);
  const absl::StatusOr<TablespaceScan> scan = ScanForTablespaces(wal, start, control.stop_lsn);
  if (!scan.ok()) {
    const absl::StatusCode code = scan.status().code();
    if (code != absl::StatusCode::kInvalidArgument && code != absl::StatusCode::kUnimplemented) {
      return Annotate(scan.status(), "reading the WAL of the backup");
    }
    warnings->push_back(absl::StrCat("the WAL of the backup was not searched for tablespaces: ",
                                     scan.status().message()));
    return absl::OkStatus();
  }
  if (!scan->problem.ok()) {
    warnings->push_back(absl::StrCat("the WAL of the backup ends at ", FormatLsn(scan->end),
                                     ", before the backup's end ", FormatLsn(control.stop_lsn),
                                     ": PostgreSQL will not start on it (", scan->problem.message(),
                                     "); validate the backup with pg_probackup"));
  }
  return CheckTablespaces(scan->creations, "the WAL of the backup", allow, warnings);
}

}  // namespace pbkfs

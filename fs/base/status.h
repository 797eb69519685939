// Errors in pbkfs are absl::Status. Two facts travel beside code and message as payloads:
//   * the errno that a failed system call gave, so that ENOSPC reaches the application as ENOSPC;
//   * the reason, one of reason.h, that orchestration tools switch on (ErrorInfo.reason), and the
//   request's field or
//     the subject that it is about.
#ifndef PBKFS_FS_BASE_STATUS_H_
#define PBKFS_FS_BASE_STATUS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

// Reasons of the API's error table (ErrorInfo.reason, domain "pbkfs").
namespace reason {
inline constexpr absl::string_view kInvalidField = "INVALID_FIELD";
inline constexpr absl::string_view kMountIncompatible = "MOUNT_INCOMPATIBLE";
inline constexpr absl::string_view kOperationPending = "OPERATION_PENDING";
inline constexpr absl::string_view kStoreNotFound = "STORE_NOT_FOUND";
inline constexpr absl::string_view kInstanceNotFound = "INSTANCE_NOT_FOUND";
inline constexpr absl::string_view kBackupNotFound = "BACKUP_NOT_FOUND";
inline constexpr absl::string_view kMountNotFound = "MOUNT_NOT_FOUND";
inline constexpr absl::string_view kChainIncomplete = "CHAIN_INCOMPLETE";
inline constexpr absl::string_view kBackupNotUsable = "BACKUP_NOT_USABLE";
inline constexpr absl::string_view kDiffNotFound = "DIFF_NOT_FOUND";
inline constexpr absl::string_view kDiffBoundElsewhere = "DIFF_BOUND_ELSEWHERE";
inline constexpr absl::string_view kDiffInUse = "DIFF_IN_USE";
inline constexpr absl::string_view kTargetNotEmpty = "TARGET_NOT_EMPTY";
inline constexpr absl::string_view kTargetBusy = "TARGET_BUSY";
inline constexpr absl::string_view kCatalogLockFailed = "CATALOG_LOCK_FAILED";
inline constexpr absl::string_view kTablespaceInWal = "TABLESPACE_IN_WAL";
inline constexpr absl::string_view kTargetUnreachable = "TARGET_UNREACHABLE";
inline constexpr absl::string_view kCatalogCorrupt = "CATALOG_CORRUPT";
inline constexpr absl::string_view kDiffCorrupt = "DIFF_CORRUPT";
inline constexpr absl::string_view kUnsupportedFormat = "UNSUPPORTED_FORMAT";
inline constexpr absl::string_view kDiffSpace = "DIFF_SPACE";
inline constexpr absl::string_view kMountLimit = "MOUNT_LIMIT";
inline constexpr absl::string_view kStreamLimit = "STREAM_LIMIT";
inline constexpr absl::string_view kPathNotAllowed = "PATH_NOT_ALLOWED";
inline constexpr absl::string_view kCallerNotAllowed = "CALLER_NOT_ALLOWED";
inline constexpr absl::string_view kDraining = "DRAINING";
// Reload of a daemon that has no file to read.
inline constexpr absl::string_view kNoConfigFile = "NO_CONFIG_FILE";
inline constexpr absl::string_view kNoKeeper = "NO_KEEPER";
inline constexpr absl::string_view kUpgradeRefused = "UPGRADE_REFUSED";
// A clone that would not be harmless unless the request decides (shared_preload_libraries,
// data_directory).
inline constexpr absl::string_view kCloneUnsafe = "CLONE_UNSAFE";
}  // namespace reason

// A status for a failed system call: the code that fits `error`, the message "<what>: <strerror>",
// the errno kept.
absl::Status ErrnoError(int error, absl::string_view what);

// The errno that an application should see for `status`: 0 for OK, the kept errno, else one that
// fits the code (EIO where nothing fits).
int ErrnoOf(const absl::Status& status);
// Whether the disk is full, or a quota or a limit is reached.
bool IsNoSpace(const absl::Status& status);

// An error with a reason of the API's table.
absl::Status ReasonError(absl::StatusCode code, absl::string_view reason,
                         absl::string_view message);
// `status` with `reason` put on it, unless it is OK or already has one.
absl::Status WithReason(absl::Status status, absl::string_view reason);
// The reason, or "" where none was given.
std::string ReasonOf(const absl::Status& status);

// `status` with the request's field, or the subject of a precondition, that it is about.
absl::Status WithField(absl::Status status, absl::string_view field);
std::string FieldOf(const absl::Status& status);

// `status` with "<prefix>: " before its message; payloads stay.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace pbkfs

#define PBKFS_RETURN_IF_ERROR(expr)                               \
  do {                                                            \
    if (absl::Status pbkfs_status = (expr); !pbkfs_status.ok()) { \
      return pbkfs_status;                                        \
    }                                                             \
  } while (false)

#define PBKFS_CONCAT_INNER(a, b) a##b
#define PBKFS_CONCAT(a, b) PBKFS_CONCAT_INNER(a, b)
#define PBKFS_ASSIGN_OR_RETURN(lhs, expr) \
  PBKFS_ASSIGN_OR_RETURN_IMPL(PBKFS_CONCAT(pbkfs_result_, __LINE__), lhs, expr)
#define PBKFS_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).status(); \
  lhs = std::move(result).value()

#endif  // PBKFS_FS_BASE_STATUS_H_

// The names in a diff directory, and what can be done with one without reading its log: take its
// lock, tell it from somebody else's directory.
#ifndef PBKFS_FS_DIFF_DIFF_DIRECTORY_H_
#define PBKFS_FS_DIFF_DIFF_DIRECTORY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/io.h"

namespace pbkfs {

inline constexpr char kBindingName[] = "binding.json";
inline constexpr char kNewBindingName[] = "binding.json.tmp";
inline constexpr char kLockName[] = "lock";
inline constexpr char kLogName[] = "log";
inline constexpr char kNewLogName[] = "log.new";
inline constexpr char kDataName[] = "data";
inline constexpr char kTrashName[] = "trash";
// What binding.json is called once a deletion has begun.
inline constexpr char kDeletedName[] = "deleted";

// Whether `name` is one of the above.
bool IsDiffEntry(absl::string_view name);
// Whether the directory holds nothing but what an interrupted creation or deletion leaves, so that
// a new diff can be made in it.
absl::StatusOr<bool> IsEmptyDiff(IoDir& directory);
// Whether a deletion of the diff has begun. It is to be ended; nobody uses what is left.
absl::StatusOr<bool> IsHalfDeleted(IoDir& directory);
// Ends that deletion, for the holder of the lock: only the lock is left. OK where there is none.
absl::Status FinishDeletion(IoDir& directory);
absl::Status RemoveAllIn(IoDir& directory);

// FAILED_PRECONDITION (DIFF_IN_USE), NOT_FOUND (DIFF_NOT_FOUND) twice, FAILED_PRECONDITION
// (DIFF_BOUND_ELSEWHERE).
absl::Status DiffInUse(const std::string& path);
absl::Status DiffIsGone(const std::string& path);
absl::Status DiffIsHalfDeleted(const std::string& path);
absl::Status NotADiff(const std::string& path);

// Takes the lock of the diff in `directory`, at `path`, and makes the lock's file where it is
// missing. It is free again when the file is closed. DIFF_IN_USE where somebody else has it for
// longer than a moment, DIFF_NOT_FOUND where the diff was deleted meanwhile.
absl::StatusOr<std::unique_ptr<IoFile>> TakeDiffLock(IoDir& directory, const std::string& path);
// Whether somebody has the lock. Takes it for an instant to find out.
absl::StatusOr<bool> IsDiffLocked(IoDir& directory);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_DIFF_DIRECTORY_H_

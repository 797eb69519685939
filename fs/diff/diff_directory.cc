#include "fs/diff/diff_directory.h"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/diff_store.h"
#include "fs/diff/page_cache_evidence.h"

namespace pbkfs {
namespace {

// Whoever only looks (IsDiffLocked) has the lock for microseconds; a mount must not fail for that.
constexpr int kLockAttempts = 20;
constexpr std::chrono::milliseconds kLockRetryPeriod{10};

}  // namespace

bool IsDiffEntry(absl::string_view name) {
  for (const char* known :
       {kBindingName, kNewBindingName, kLockName, kLogName, kNewLogName, kDataName, kTrashName}) {
    if (name == known) return true;
  }
  return false;
}

absl::StatusOr<bool> IsEmptyDiff(IoDir& directory) {
  PBKFS_ASSIGN_OR_RETURN(const auto names, directory.List());
  for (const std::string& name : names) {
    if (name != kLockName && name != kNewBindingName) return false;
  }
  return true;
}

absl::Status RemoveAllIn(IoDir& directory) {
  PBKFS_ASSIGN_OR_RETURN(const auto names, directory.List());
  for (const std::string& name : names) PBKFS_RETURN_IF_ERROR(directory.Remove(name));
  return absl::OkStatus();
}

absl::Status DiffInUse(const std::string& path) {
  return ReasonError(
      absl::StatusCode::kFailedPrecondition, reason::kDiffInUse,
      absl::StrCat(
          "the diff ", path,
          " is in use by another mount, or is being checked; unmount that one first, or choose "
          "another diff directory"));
}

absl::Status DiffIsGone(const std::string& path) {
  return ReasonError(
      absl::StatusCode::kNotFound, reason::kDiffNotFound,
      absl::StrCat("the diff ", path, " has just been deleted; see pbkfs diff list"));
}

absl::Status NotADiff(const std::string& path) {
  return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kDiffBoundElsewhere,
                     absl::StrCat(path,
                                  " is not empty and not a diff (it has no binding.json); "
                                  "choose an empty or missing directory"));
}

absl::StatusOr<std::unique_ptr<IoFile>> TakeDiffLock(IoDir& directory, const std::string& path) {
  auto opened = directory.OpenFile(kLockName, O_RDWR | O_CREAT, 0600);
  if (!opened.ok() && ErrnoOf(opened.status()) == ENOENT) return DiffIsGone(path);
  PBKFS_ASSIGN_OR_RETURN(auto lock, std::move(opened));
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kLockRetryPeriod);
    PBKFS_ASSIGN_OR_RETURN(const bool taken, lock->TryLock());
    if (!taken) continue;
    // Whoever held it may have deleted the diff.
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, lock->Stat());
    if (attributes.st_nlink == 0) return DiffIsGone(path);
    return lock;
  }
  return DiffInUse(path);
}

absl::StatusOr<bool> IsDiffLocked(IoDir& directory) {
  const auto lock = directory.OpenFile(kLockName, O_RDWR, 0);
  if (!lock.ok() && ErrnoOf(lock.status()) == ENOENT) return false;
  if (!lock.ok()) return lock.status();
  PBKFS_ASSIGN_OR_RETURN(const bool taken, (*lock)->TryLock());
  return !taken;
}

namespace {

// A diff that can't be read can be deleted all the same; a directory that holds anything else
// can't.
absl::Status RemoveDiff(Io& io, const std::string& path) {
  auto opened = io.OpenDir(path);
  if (!opened.ok() && ErrnoOf(opened.status()) == ENOENT) return DiffIsGone(path);
  PBKFS_ASSIGN_OR_RETURN(const auto directory, std::move(opened));
  PBKFS_ASSIGN_OR_RETURN(const auto names, directory->List());
  bool ours = false;
  for (const std::string& name : names) {
    if (!IsDiffEntry(name)) {
      return ReasonError(
          absl::StatusCode::kFailedPrecondition, reason::kDiffBoundElsewhere,
          absl::StrCat(path, " holds '", name, "', which is not of a diff; move it away first"));
    }
    ours = ours || name == kBindingName;
  }
  if (!ours) {
    // What an interrupted deletion left.
    PBKFS_ASSIGN_OR_RETURN(const bool leftover, IsEmptyDiff(*directory));
    if (!leftover || names.empty()) return NotADiff(path);
  } else if (const auto binding = ReadBinding(*directory);
             absl::IsUnimplemented(binding.status())) {
    return binding.status();
  }
  PBKFS_ASSIGN_OR_RETURN(const auto lock, TakeDiffLock(*directory, path));
  for (const char* name : {kDataName, kTrashName}) {
    auto subdirectory = directory->OpenDir(name);
    if (!subdirectory.ok() && ErrnoOf(subdirectory.status()) == ENOENT) continue;
    if (!subdirectory.ok()) return subdirectory.status();
    PBKFS_RETURN_IF_ERROR(RemoveAllIn(**subdirectory));
    PBKFS_RETURN_IF_ERROR(directory->Remove(name));
  }
  // The binding goes last but for the lock, so that an interrupted deletion can be done again.
  for (const char* name : {kLogName, kNewLogName, kNewBindingName, kBindingName, kLockName}) {
    const absl::Status removed = directory->Remove(name);
    if (!removed.ok() && ErrnoOf(removed) != ENOENT) return removed;
  }
  const size_t slash = path.rfind('/');
  PBKFS_ASSIGN_OR_RETURN(const auto parent, io.OpenDir(slash == 0 ? "/" : path.substr(0, slash)));
  const absl::Status removed = parent->Remove(path.substr(slash + 1));
  // Without its lock it is an empty directory, which somebody may have made a new diff in.
  const int error = ErrnoOf(removed);
  return error == ENOTEMPTY || error == EEXIST ? absl::OkStatus() : removed;
}

}  // namespace

absl::Status DiffStore::Delete(Io& io, const std::string& path) {
  PBKFS_RETURN_IF_ERROR(RemoveDiff(io, path));
  CollectEvidence(io);  // Nothing keeps the directory open any more.
  return absl::OkStatus();
}

}  // namespace pbkfs

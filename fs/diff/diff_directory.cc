#include "fs/diff/diff_directory.h"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/binding.h"
#include "fs/diff/diff_store.h"
#include "fs/diff/page_cache_evidence.h"
#include "fs/diff/records.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// Whoever only looks (IsDiffLocked) has the lock for microseconds; a mount must not fail for that.
constexpr int kLockAttempts = 20;
constexpr std::chrono::milliseconds kLockRetryPeriod{10};

absl::StatusOr<bool> Has(IoDir& directory, const char* name) {
  const auto file = directory.OpenFile(name, O_RDONLY | O_NONBLOCK, 0);
  if (file.ok()) return true;
  return ErrnoOf(file.status()) == ENOENT ? absl::StatusOr<bool>(false) : file.status();
}

// Whether a log of ours is there: a directory may hold a "log" without being a diff.
bool HasLog(IoDir& directory) {
  const auto log = directory.OpenFile(kLogName, O_RDONLY | O_NONBLOCK, 0);
  std::vector<uint8_t> head(kLogHeaderBytes);
  if (!log.ok() || !(*log)->Read(0, absl::MakeSpan(head)).ok()) return false;
  return DecodeLogHeader(head).ok();
}

absl::Status RemoveIfThere(IoDir& directory, const char* name) {
  const absl::Status removed = directory.Remove(name);
  return ErrnoOf(removed) == ENOENT ? absl::OkStatus() : removed;
}

}  // namespace

bool IsDiffEntry(absl::string_view name) {
  for (const char* known : {kBindingName, kNewBindingName, kLockName, kLogName, kNewLogName,
                            kDataName, kTrashName, kDeletedName}) {
    if (name == known) return true;
  }
  return false;
}

absl::StatusOr<bool> IsEmptyDiff(IoDir& directory) {
  PBKFS_ASSIGN_OR_RETURN(const bool half_deleted, IsHalfDeleted(directory));
  PBKFS_ASSIGN_OR_RETURN(const auto names, directory.List());
  for (const std::string& name : names) {
    const bool leftover = name == kLockName || name == kNewBindingName;
    if (!leftover && !(half_deleted && IsDiffEntry(name))) return false;
  }
  return true;
}

absl::StatusOr<bool> IsHalfDeleted(IoDir& directory) {
  PBKFS_ASSIGN_OR_RETURN(const bool bound, Has(directory, kBindingName));
  return bound ? absl::StatusOr<bool>(false) : Has(directory, kDeletedName);
}

absl::Status FinishDeletion(IoDir& directory) {
  PBKFS_ASSIGN_OR_RETURN(const bool begun, IsHalfDeleted(directory));
  if (!begun) return absl::OkStatus();
  // Before anything is taken away: after a loss of power the diff is whole, or known to be deleted.
  PBKFS_RETURN_IF_ERROR(directory.Sync());
  for (const char* name : {kDataName, kTrashName}) {
    auto subdirectory = directory.OpenDir(name);
    if (!subdirectory.ok() && ErrnoOf(subdirectory.status()) == ENOENT) continue;
    if (!subdirectory.ok()) return subdirectory.status();
    PBKFS_RETURN_IF_ERROR(RemoveAllIn(**subdirectory));
    PBKFS_RETURN_IF_ERROR(directory.Remove(name));
  }
  for (const char* name : {kLogName, kNewLogName, kNewBindingName}) {
    PBKFS_RETURN_IF_ERROR(RemoveIfThere(directory, name));
  }
  // What comes back must not do so without the name that tells what it is.
  PBKFS_RETURN_IF_ERROR(directory.Sync());
  return directory.Remove(kDeletedName);
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

absl::Status DiffIsHalfDeleted(const std::string& path) {
  return ReasonError(absl::StatusCode::kNotFound, reason::kDiffNotFound,
                     absl::StrCat("the diff ", path,
                                  " is deleted, but that was interrupted and parts of it are still "
                                  "there; pbkfs diff delete ",
                                  path, ", or the next mount with it, takes them away"));
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

// What is renamed to begin the deletion of a diff that can't be read, too; null where it has begun
// already. DIFF_BOUND_ELSEWHERE for a directory that is not a diff or holds anything else.
absl::StatusOr<const char*> BeginsDeletion(IoDir& directory, const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(const auto names, directory.List());
  bool bound = false;
  for (const std::string& name : names) {
    if (!IsDiffEntry(name)) {
      return ReasonError(
          absl::StatusCode::kFailedPrecondition, reason::kDiffBoundElsewhere,
          absl::StrCat(path, " holds '", name, "', which is not of a diff; move it away first"));
    }
    bound = bound || name == kBindingName;
  }
  if (bound) {
    const auto binding = ReadBinding(directory);
    if (absl::IsUnimplemented(binding.status())) return binding.status();
    return kBindingName;
  }
  PBKFS_ASSIGN_OR_RETURN(const bool leftover, IsEmptyDiff(directory));
  if (leftover) return nullptr;
  if (HasLog(directory)) return kLogName;
  return NotADiff(path);
}

// Takes away the directory of a diff of which the lock alone is left, with that.
absl::Status RemoveDirectory(Io& io, IoDir& directory, const std::string& path) {
  for (const char* name : {kNewBindingName, kLockName}) {
    PBKFS_RETURN_IF_ERROR(RemoveIfThere(directory, name));
  }
  const size_t slash = path.rfind('/');
  PBKFS_ASSIGN_OR_RETURN(const auto parent, io.OpenDir(slash == 0 ? "/" : path.substr(0, slash)));
  const absl::Status removed = parent->Remove(path.substr(slash + 1));
  // Without its lock it is an empty directory, which somebody may have made a new diff in.
  const int error = ErrnoOf(removed);
  return error == ENOTEMPTY || error == EEXIST ? absl::OkStatus() : removed;
}

// Whether the directory, whose lock the caller has, holds what was made by `maker` and used by
// nobody else, or nothing yet.
bool IsMadeBy(IoDir& directory, uint64_t maker) {
  const auto binding = ReadBinding(directory);
  if (binding.ok() && binding->has_value()) {
    // Without a maker: a version made it that knew of none.
    return (*binding)->maker() == maker && (maker != 0 || !(*binding)->prepared());
  }
  const auto empty = IsEmptyDiff(directory);
  return binding.ok() && empty.ok() && *empty;
}

// With a `maker` only what that one made.
absl::Status RemoveDiff(Io& io, const std::string& path, std::optional<uint64_t> maker) {
  auto opened = io.OpenDir(path);
  if (!opened.ok() && ErrnoOf(opened.status()) == ENOENT) return DiffIsGone(path);
  PBKFS_ASSIGN_OR_RETURN(const auto directory, std::move(opened));
  PBKFS_RETURN_IF_ERROR(BeginsDeletion(*directory, path).status());
  PBKFS_ASSIGN_OR_RETURN(const auto lock, TakeDiffLock(*directory, path));
  // Looked at again: only the holder of the lock sees what nobody is changing.
  PBKFS_ASSIGN_OR_RETURN(const char* name, BeginsDeletion(*directory, path));
  if (maker.has_value() && !IsMadeBy(*directory, *maker)) return DiffInUse(path);
  // A rename needs no space, and is done or not.
  if (name != nullptr) PBKFS_RETURN_IF_ERROR(directory->Rename(name, *directory, kDeletedName));
  PBKFS_RETURN_IF_ERROR(FinishDeletion(*directory));
  return RemoveDirectory(io, *directory, path);
}

absl::Status RemoveLeftover(Io& io, const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(const auto directory, io.OpenDir(path));
  PBKFS_ASSIGN_OR_RETURN(bool leftover, IsEmptyDiff(*directory));
  if (!leftover) return absl::OkStatus();
  PBKFS_ASSIGN_OR_RETURN(const auto lock, TakeDiffLock(*directory, path));
  // A mount may have been faster, and have made a new diff.
  PBKFS_ASSIGN_OR_RETURN(leftover, IsEmptyDiff(*directory));
  if (!leftover) return absl::OkStatus();
  PBKFS_RETURN_IF_ERROR(FinishDeletion(*directory));
  PBKFS_RETURN_IF_ERROR(RemoveDirectory(io, *directory, path));
  spdlog::info("the deletion of the diff {} was interrupted; it is done now", path);
  return absl::OkStatus();
}

}  // namespace

absl::Status DiffStore::Delete(Io& io, const std::string& path) {
  PBKFS_RETURN_IF_ERROR(RemoveDiff(io, path, std::nullopt));
  CollectEvidence(io);  // Nothing keeps the directory open any more.
  return absl::OkStatus();
}

absl::Status DiffStore::DeleteMade(Io& io, const std::string& path, uint64_t maker) {
  PBKFS_RETURN_IF_ERROR(RemoveDiff(io, path, maker));
  CollectEvidence(io);
  return absl::OkStatus();
}

void DiffStore::FinishDeletions(Io& io, const std::string& directory) {
  const auto opened = io.OpenDir(directory);
  if (!opened.ok()) return;  // No diff was ever made there.
  const auto names = (*opened)->List();
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(directory, "/", name);
    const absl::Status status = RemoveLeftover(io, path);
    // What is in use, or is no directory.
    if (!status.ok()) spdlog::debug("looking for a deletion to end: {}", status.ToString());
  }
}

}  // namespace pbkfs

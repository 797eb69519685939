#include "fs/catalog/backup_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr char kExclusiveName[] = "backup.pid";
constexpr char kSharedName[] = "backup_ro.pid";
constexpr char kTemporaryName[] = "backup_ro.pidtmp";
constexpr mode_t kMode = 0600;

absl::Status Failed(absl::string_view what) {
  return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kCatalogLockFailed, what);
}

// FAILED_PRECONDITION, whatever the errno: the errno stays readable.
absl::Status FailedCall(int error, absl::string_view what) {
  absl::Status status = Failed(ErrnoError(error, what).message());
  ErrnoError(error, what)
      .ForEachPayload([&status](absl::string_view url, const absl::Cord& payload) {
        if (!status.GetPayload(url).has_value()) status.SetPayload(url, payload);
      });
  return status;
}

// A process of another user counts as alive.
bool IsAlive(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

// As atoi: 0 for what is no number.
pid_t ParsePid(absl::string_view line) {
  const long value = strtol(std::string(line.substr(0, 32)).c_str(), nullptr, 10);
  return value > 0 && value <= INT32_MAX ? static_cast<pid_t>(value) : 0;
}

struct PidFile {
  bool exists = false;
  struct stat st = {};
  std::string text;
};

absl::StatusOr<PidFile> ReadPidFile(int directory, const char* name) {
  PidFile file;
  const UniqueFd fd(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return file;
  if (!fd.valid()) return FailedCall(errno, name);
  if (fstat(fd.get(), &file.st) != 0) return FailedCall(errno, name);
  if (!S_ISREG(file.st.st_mode)) return Failed(absl::StrCat(name, " is not a regular file"));
  file.exists = true;
  file.text.resize(kMaxLockFileBytes + 1);
  const ssize_t count = pread(fd.get(), file.text.data(), file.text.size(), 0);
  if (count < 0) return FailedCall(errno, name);
  if (static_cast<size_t>(count) > kMaxLockFileBytes) {
    return Failed(absl::StrCat(name, " has more than ", kMaxLockFileBytes, " bytes"));
  }
  file.text.resize(static_cast<size_t>(count));
  return file;
}

absl::Status WriteAll(int fd, absl::string_view text, const char* name) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0) return FailedCall(errno, name);
    text.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

// Makes backup.pid with `self` in it. It never exists without its content where the file system
// can do that: others would wait for half a minute before they believe that its maker died.
// ALREADY_EXISTS where it is there.
absl::Status CreateExclusive(int directory, pid_t self) {
  const std::string text = absl::StrCat(self, "\n");
  const UniqueFd unnamed(openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, kMode));
  if (unnamed.valid()) {
    PBKFS_RETURN_IF_ERROR(WriteAll(unnamed.get(), text, kExclusiveName));
    const std::string link = absl::StrCat("/proc/self/fd/", unnamed.get());
    if (linkat(AT_FDCWD, link.c_str(), directory, kExclusiveName, AT_SYMLINK_FOLLOW) == 0) {
      return absl::OkStatus();
    }
    if (errno == EEXIST) return absl::AlreadyExistsError(kExclusiveName);
  }
  const UniqueFd fd(openat(directory, kExclusiveName,
                           O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kMode));
  if (!fd.valid() && errno == EEXIST) return absl::AlreadyExistsError(kExclusiveName);
  if (!fd.valid()) return FailedCall(errno, absl::StrCat("making ", kExclusiveName));
  absl::Status status = WriteAll(fd.get(), text, kExclusiveName);
  if (!status.ok()) unlinkat(directory, kExclusiveName, 0);
  return status;
}

// Removes backup.pid if it is still the file that was found stale.
void RemoveStale(int directory, const PidFile& stale) {
  struct stat now;
  if (fstatat(directory, kExclusiveName, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
      now.st_ino == stale.st.st_ino && now.st_dev == stale.st.st_dev) {
    unlinkat(directory, kExclusiveName, 0);
  }
}

// backup.pid as it is now.
struct ExclusiveLock {
  PidFile file;
  std::string holder;  // Who is alive; "" = nobody.
};

absl::StatusOr<ExclusiveLock> ReadExclusive(int directory) {
  ExclusiveLock lock;
  absl::StatusOr<PidFile> file = ReadPidFile(directory, kExclusiveName);
  if (!file.ok()) {
    if (ErrnoOf(file.status()) != EACCES) return file.status();
    // A file that this user may not read is another user's, who may be alive.
    lock.file.exists = true;
    lock.holder = "another process";
    return lock;
  }
  lock.file = *std::move(file);
  if (!lock.file.exists) return lock;
  if (lock.file.text.empty()) {
    const absl::Duration age = absl::Now() - absl::TimeFromTimespec(lock.file.st.st_mtim);
    if (age < kEmptyLockAge) lock.holder = "a process that is just starting";
  } else if (const pid_t pid = ParsePid(lock.file.text); pid != 0 && IsAlive(pid)) {
    lock.holder = absl::StrCat("process ", pid);
  }
  return lock;
}

absl::Status LockedBy(absl::string_view holder) {
  return Failed(absl::StrCat("the backup is locked exclusively by ", holder,
                             "; wait until pg_probackup is done with it"));
}

void PauseBeforeRetry() {
  poll(nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(kLockRetryPeriod)));
}

absl::Status TakeExclusive(int directory, pid_t self, absl::Time deadline) {
  while (true) {
    absl::Status status = CreateExclusive(directory, self);
    if (!absl::IsAlreadyExists(status)) return status;
    const absl::StatusOr<ExclusiveLock> lock = ReadExclusive(directory);
    if (!lock.ok()) return lock.status();
    if (!lock->file.exists) continue;
    // Left by somebody who died, and whose number is ours now.
    if (ParsePid(lock->file.text) == self) return absl::OkStatus();
    if (lock->holder.empty()) {
      RemoveStale(directory, lock->file);
      continue;
    }
    if (absl::Now() >= deadline) return LockedBy(lock->holder);
    PauseBeforeRetry();
  }
}

void DropExclusive(int directory) { unlinkat(directory, kExclusiveName, 0); }

absl::StatusOr<std::vector<pid_t>> ReadHolders(int directory) {
  std::vector<pid_t> holders;
  absl::StatusOr<PidFile> file = ReadPidFile(directory, kSharedName);
  if (!file.ok()) return file.status();
  for (const absl::string_view line : absl::StrSplit(file->text, '\n', absl::SkipEmpty())) {
    if (const pid_t pid = ParsePid(line); pid > 0) holders.push_back(pid);
  }
  return holders;
}

absl::Status WriteHolders(int directory, const std::vector<pid_t>& holders) {
  if (holders.empty()) {
    if (unlinkat(directory, kSharedName, 0) == 0 || errno == ENOENT) return absl::OkStatus();
    return FailedCall(errno, absl::StrCat("removing ", kSharedName));
  }
  std::string text;
  for (const pid_t pid : holders) absl::StrAppend(&text, pid, "\n");
  if (text.size() > kMaxLockFileBytes) return Failed("the backup has too many shared holders");
  unlinkat(directory, kTemporaryName, 0);
  const UniqueFd fd(openat(directory, kTemporaryName,
                           O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kMode));
  if (!fd.valid()) return FailedCall(errno, absl::StrCat("making ", kTemporaryName));
  PBKFS_RETURN_IF_ERROR(WriteAll(fd.get(), text, kTemporaryName));
  if (renameat(directory, kTemporaryName, directory, kSharedName) != 0) {
    return FailedCall(errno, absl::StrCat("replacing ", kSharedName));
  }
  return absl::OkStatus();
}

// Rewrites the list of shared holders under the exclusive lock. Dead ones are dropped on the way.
absl::Status ChangeHolders(int directory, pid_t self, absl::Duration wait,
                           const std::function<void(std::vector<pid_t>*)>& change) {
  PBKFS_RETURN_IF_ERROR(TakeExclusive(directory, self, absl::Now() + wait));
  absl::StatusOr<std::vector<pid_t>> holders = ReadHolders(directory);
  absl::Status status = holders.status();
  if (status.ok()) {
    holders->erase(
        std::remove_if(holders->begin(), holders->end(), [](pid_t pid) { return !IsAlive(pid); }),
        holders->end());
    change(&*holders);
    status = WriteHolders(directory, *holders);
  }
  DropExclusive(directory);
  return status;
}

void Remove(std::vector<pid_t>* holders, pid_t pid) {
  holders->erase(std::remove(holders->begin(), holders->end(), pid), holders->end());
}

}  // namespace

absl::Status LockBackupShared(int directory, pid_t self, absl::Duration wait) {
  return ChangeHolders(directory, self, wait, [self](std::vector<pid_t>* holders) {
    Remove(holders, self);
    holders->push_back(self);
  });
}

absl::Status WaitForExclusiveHolder(int directory, absl::Duration wait) {
  const absl::Time deadline = absl::Now() + wait;
  while (true) {
    const absl::StatusOr<ExclusiveLock> lock = ReadExclusive(directory);
    if (!lock.ok()) return lock.status();
    if (lock->holder.empty()) return absl::OkStatus();
    if (absl::Now() >= deadline) return LockedBy(lock->holder);
    PauseBeforeRetry();
  }
}

absl::Status UnlockBackupShared(int directory, pid_t self, absl::Duration wait) {
  return ChangeHolders(directory, self, wait,
                       [self](std::vector<pid_t>* holders) { Remove(holders, self); });
}

absl::Status RemoveDeadHolder(int directory, pid_t self, pid_t dead, absl::Duration wait) {
  const absl::StatusOr<PidFile> exclusive = ReadPidFile(directory, kExclusiveName);
  if (!exclusive.ok()) return exclusive.status();
  const absl::StatusOr<std::vector<pid_t>> holders = ReadHolders(directory);
  if (!holders.ok()) return holders.status();
  if (exclusive->exists && ParsePid(exclusive->text) == dead) RemoveStale(directory, *exclusive);
  // Nothing of it is there, as after most ends: the catalog is not touched.
  if (std::find(holders->begin(), holders->end(), dead) == holders->end()) return absl::OkStatus();
  return ChangeHolders(directory, self, wait,
                       [dead](std::vector<pid_t>* list) { Remove(list, dead); });
}

}  // namespace pbkfs

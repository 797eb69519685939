#include "service/catalog_lock.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/backup_lock.h"
#include "service/lock_holder_process.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr long kCifsMagic = 0xFF534D42;
constexpr long kSmb2Magic = 0xFE534D42;
constexpr long kCephMagic = 0x00C36400;
constexpr long kFuseMagic = 0x65735546;

absl::Status Failed(absl::string_view what) {
  return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kCatalogLockFailed, what);
}

// Where process ids mean something else to the others who use the catalog.
bool IsRemote(long type) {
  return type == NFS_SUPER_MAGIC || type == kCifsMagic || type == kSmb2Magic ||
         type == kCephMagic || type == SMB_SUPER_MAGIC || type == V9FS_MAGIC || type == kFuseMagic;
}

absl::Status CheckDirectory(const LockableDirectory& directory, struct stat* st) {
  struct statfs fs;
  struct statvfs flags;
  if (fstat(directory.fd, st) != 0 || fstatfs(directory.fd, &fs) != 0 ||
      fstatvfs(directory.fd, &flags) != 0) {
    return Failed(ErrnoError(errno, directory.path).message());
  }
  if (IsRemote(fs.f_type)) {
    return Failed(absl::StrCat(directory.path,
                               " is on a network file system: pg_probackup on another host can't "
                               "see the process that holds the lock"));
  }
  if ((flags.f_flag & ST_RDONLY) != 0) {
    return Failed(absl::StrCat(directory.path, " is on a read-only file system"));
  }
  if (geteuid() != 0 && geteuid() != st->st_uid) {
    return Failed(absl::StrCat(directory.path, " belongs to user ", st->st_uid,
                               ", and only root can lock it for that user"));
  }
  if (st->st_uid != 0 && (~st->st_mode & (S_IWUSR | S_IXUSR)) != 0) {
    return Failed(absl::StrCat(directory.path, " may not be written by its owner, user ",
                               st->st_uid, ", who holds the lock"));
  }
  return absl::OkStatus();
}

std::string RecordLine(const LockHolderProcess& holder, uid_t uid, gid_t gid,
                       const std::string& path) {
  return absl::StrCat(holder.pid(), " ", holder.start_time(), " ", uid, " ", gid, " ",
                      absl::CHexEscape(path));
}

// Whether the process might be one of pg_probackup's own, that has the number of a dead holder.
bool IsProbackup(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return absl::StrContains(name, "probackup");
}

}  // namespace

CatalogLock::~CatalogLock() {
  // The tip first: nobody sees a locked increment of an unlocked parent.
  for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) locker_->Unlock(*part);
}

bool CatalogLock::held() const {
  return std::all_of(parts_.begin(), parts_.end(),
                     [](const Part& part) { return part.holder->alive(); });
}

CatalogLocker::CatalogLocker(CatalogLockerOptions options) : options_(std::move(options)) {}

CatalogLocker::~CatalogLocker() {
  if (cleaner_.joinable()) cleaner_.join();
}

absl::Status CatalogLocker::Predict(const std::vector<LockableDirectory>& directories) const {
  const absl::Time deadline = absl::Now() + options_.wait;
  for (const LockableDirectory& directory : directories) {
    struct stat st;
    PBKFS_RETURN_IF_ERROR(CheckDirectory(directory, &st));
    PBKFS_RETURN_IF_ERROR(
        Annotate(WaitForExclusiveHolder(directory.fd, deadline - absl::Now()), directory.path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CatalogLock>> CatalogLocker::Lock(
    const std::vector<LockableDirectory>& directories) {
  WaitUntilClean();
  std::unique_ptr<CatalogLock> lock(new CatalogLock);
  lock->locker_ = this;
  const absl::Time deadline = absl::Now() + options_.wait;
  for (const LockableDirectory& directory : directories) {
    PBKFS_RETURN_IF_ERROR(LockOne(directory, deadline, lock.get()));
  }
  return lock;
}

absl::Status CatalogLocker::LockOne(const LockableDirectory& directory, absl::Time deadline,
                                    CatalogLock* lock) {
  struct stat st;
  PBKFS_RETURN_IF_ERROR(CheckDirectory(directory, &st));
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<LockHolderProcess> holder,
                         HolderFor(st.st_uid, st.st_gid));
  const std::string line = RecordLine(*holder, st.st_uid, st.st_gid, directory.path);
  {
    // Before the catalog is touched.
    MutexLock guard(&mutex_);
    record_.insert(line);
    WriteRecord();
  }
  CatalogLock::Part part{holder, {st.st_dev, st.st_ino}, line};
  const absl::Status status = holder->Lock(part.directory, directory.fd, deadline - absl::Now());
  if (!status.ok()) {
    Forget(line);
    return Annotate(status, directory.path);
  }
  lock->parts_.push_back(std::move(part));
  return absl::OkStatus();
}

void CatalogLocker::Unlock(const CatalogLock::Part& part) {
  part.holder->Unlock(part.directory);
  Forget(part.record);
}

void CatalogLocker::Forget(const std::string& line) {
  MutexLock guard(&mutex_);
  const auto it = record_.find(line);
  if (it != record_.end()) record_.erase(it);
  WriteRecord();
}

absl::StatusOr<std::shared_ptr<LockHolderProcess>> CatalogLocker::HolderFor(uid_t uid, gid_t gid) {
  MutexLock guard(&mutex_);
  std::weak_ptr<LockHolderProcess>& known = holders_[uid];
  std::shared_ptr<LockHolderProcess> holder = known.lock();
  if (holder != nullptr && holder->alive()) return holder;
  PBKFS_ASSIGN_OR_RETURN(holder, LockHolderProcess::Start(options_.program, uid, gid));
  known = holder;
  return holder;
}

void CatalogLocker::WriteRecord() {
  if (options_.record_path.empty()) return;
  if (record_.empty()) {
    unlink(options_.record_path.c_str());
    return;
  }
  const std::string temporary = options_.record_path + ".tmp";
  std::string text;
  for (auto it = record_.begin(); it != record_.end(); it = record_.upper_bound(*it)) {
    absl::StrAppend(&text, *it, "\n");
  }
  const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  const bool written =
      fd.valid() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!written || rename(temporary.c_str(), options_.record_path.c_str()) != 0) {
    spdlog::warn(
        "{} can't be written: after a crash, locks may stay in the catalog until "
        "pg_probackup finds their process dead",
        options_.record_path);
  }
}

void CatalogLocker::StartCleaningUp() {
  {
    MutexLock lock(&mutex_);
    cleaning_ = true;
  }
  cleaner_ = std::thread([this] {
    CleanUpLeftovers();
    MutexLock lock(&mutex_);
    cleaning_ = false;
    cleaned_.SignalAll();
  });
}

void CatalogLocker::WaitUntilClean() {
  MutexLock lock(&mutex_);
  while (cleaning_) cleaned_.Wait(&mutex_);
}

void CatalogLocker::CleanUpLeftovers() {
  std::vector<std::string> lines;
  {
    std::ifstream file(options_.record_path);
    std::string line;
    while (std::getline(file, line) && lines.size() < kMaxLockRecords) lines.push_back(line);
  }
  std::vector<std::string> failed;
  for (const std::string& line : lines) {
    if (!CleanUp(line)) failed.push_back(line);
  }
  MutexLock lock(&mutex_);
  // What could not be removed now is tried again at the next start.
  for (std::string& line : failed) record_.insert(std::move(line));
  if (!lines.empty()) WriteRecord();
}

bool CatalogLocker::CleanUp(const std::string& line) {
  const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(' ', 4));
  int32_t pid = 0;
  std::string path;
  if (fields.size() != 5 || !absl::SimpleAtoi(fields[0], &pid) || pid <= 1 ||
      !absl::CUnescape(fields[4], &path)) {
    return true;
  }
  // A holder whose daemon was killed gives its locks back by itself, right now.
  const absl::Time deadline = absl::Now() + absl::FromChrono(kLockHolderExitWait);
  while (ProcessStartTime(pid) == fields[1] && absl::Now() < deadline) poll(nullptr, 0, 20);
  if (IsProbackup(pid)) return true;
  const LockableDirectory directory{
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), path};
  const UniqueFd fd(directory.fd);
  struct stat st;
  if (!fd.valid() || !CheckDirectory(directory, &st).ok()) return true;
  absl::StatusOr<std::shared_ptr<LockHolderProcess>> holder = HolderFor(st.st_uid, st.st_gid);
  absl::Status status = holder.status();
  if (status.ok()) status = (*holder)->CleanUp(directory.fd, pid, absl::Seconds(5));
  if (status.ok()) return true;
  spdlog::warn("{}: a lock of a former run stays: {}", path, std::string(status.message()));
  return false;
}

}  // namespace pbkfs

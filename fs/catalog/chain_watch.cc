#include "fs/catalog/chain_watch.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/chain.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

int64_t CoarseMilliseconds() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

absl::StatusOr<FileIdentity> IdentityAt(int directory, const char* name) {
  struct stat st;
  if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return ErrnoError(errno, name);
  return IdentityOf(st);
}

// A FULL whose merge is all but finished is its destination already.
int64_t StartTimeOf(const BackupControl& control) {
  const int64_t merged_into = control.MergedInto();
  return merged_into != 0 ? merged_into : control.start_time;
}

}  // namespace

absl::Status CatalogChanged(absl::string_view what) {
  absl::Status status = absl::UnavailableError(what);
  ErrnoError(EIO, what).ForEachPayload([&status](absl::string_view url, const absl::Cord& payload) {
    status.SetPayload(url, payload);
  });
  return status;
}

absl::string_view ControlDifference(const BackupControl& before, const BackupControl& now) {
  const bool usable = now.status == BackupStatus::kOk || now.status == BackupStatus::kDone;
  if (!usable && now.status != before.status) return "its status";
  if (StartTimeOf(now) != StartTimeOf(before)) return "its start-time";
  if (now.mode != before.mode || now.parent_id != before.parent_id) return "its place in the chain";
  const bool same_merge = now.merge_dest_id == before.merge_dest_id ||
                          (before.MergedInto() != 0 && now.merge_dest_id.empty());
  if (!same_merge) return "a merge";
  if (now.start_lsn != before.start_lsn || now.stop_lsn != before.stop_lsn) return "its LSNs";
  if (now.content_crc != before.content_crc) return "its list of files";
  return "";
}

ChainWatch::ChainWatch(const Chain& chain) : chain_(chain) {
  MutexLock lock(&mutex_);
  for (const auto& member : chain.members) {
    members_.push_back({nullptr, member->control_identity, member->list_identity, {}});
  }
}

ChainWatch::Member ChainWatch::Snapshot(size_t index) {
  MutexLock lock(&mutex_);
  return members_[index];
}

int ChainWatch::DirectoryOf(size_t index, const Member& member) const {
  return member.directory != nullptr ? member.directory->get()
                                     : chain_.members[index]->directory_fd.get();
}

absl::Status ChainWatch::Compare(size_t index, int directory, Member& member) const {
  const ChainMember& resolved = *chain_.members[index];
  PBKFS_ASSIGN_OR_RETURN(const OpenedFile control,
                         OpenRegularBeneath(directory, kBackupControlName));
  PBKFS_ASSIGN_OR_RETURN(const std::string text, ReadWhole(control, kMaxControlFileBytes));
  PBKFS_ASSIGN_OR_RETURN(const BackupControl now, ParseBackupControl(text));
  const absl::string_view difference = ControlDifference(resolved.control, now);
  if (!difference.empty()) {
    return absl::UnavailableError(
        absl::StrCat(difference, " (status ", BackupStatusName(now.status), " now)"));
  }
  PBKFS_ASSIGN_OR_RETURN(const OpenedFile list, OpenRegularBeneath(directory, kFileListName));
  if (!(list.identity == member.list)) {
    uint32_t crc = 0;
    PBKFS_RETURN_IF_ERROR(ReadInPieces(list, kMaxFileListBytes, [&crc](absl::string_view piece) {
      crc = Crc32c(crc, piece.data(), piece.size());
    }));
    if (crc != resolved.list_crc) {
      return absl::UnavailableError("its list of files");
    }
  }
  member.control = control.identity;
  member.list = list.identity;
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ChainWatch::FindDirectory(const ChainMember& member) const {
  const Instance& instance = *chain_.instance;
  absl::StatusOr<UniqueFd> found = absl::NotFoundError("");
  for (const std::string& name : {member.directory, member.id}) {
    found = OpenDirectoryBeneath(instance.directory_fd(), name);
    if (found.ok()) return found;
  }
  // The whole catalog may have been put back under its name.
  const UniqueFd above(open(instance.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const std::string& name : {member.directory, member.id}) {
    if (above.valid()) found = OpenDirectoryBeneath(above.get(), name);
    if (found.ok()) return found;
  }
  return found;
}

absl::Status ChainWatch::Examine(size_t index, Member& member) const {
  const int held = DirectoryOf(index, member);
  const absl::StatusOr<FileIdentity> identity = IdentityAt(held, kBackupControlName);
  if (identity.ok()) {
    if (*identity == member.control) return absl::OkStatus();
    return Compare(index, held, member);
  }
  absl::StatusOr<UniqueFd> found = FindDirectory(*chain_.members[index]);
  if (!found.ok()) return identity.status();
  PBKFS_RETURN_IF_ERROR(Compare(index, found->get(), member));
  member.directory = std::make_shared<const UniqueFd>(*std::move(found));
  return absl::OkStatus();
}

absl::Status ChainWatch::Check(size_t index) {
  Member member = Snapshot(index);
  const ChainMember& resolved = *chain_.members[index];
  const absl::Status status = Examine(index, member);
  member.status = status;
  if (!status.ok()) {
    member.status = CatalogChanged(absl::StrCat("backup ", resolved.id, " (", resolved.path,
                                                ") changed under the mount: ", status.message(),
                                                "; unmount, and mount a backup that is there"));
  }
  const absl::Status result = member.status;
  bool was_good;
  {
    MutexLock lock(&mutex_);
    was_good = members_[index].status.ok();
    members_[index] = std::move(member);
    failed_.store(std::any_of(members_.begin(), members_.end(),
                              [](const Member& other) { return !other.status.ok(); }),
                  std::memory_order_release);
  }
  if (was_good && !result.ok()) {
    spdlog::error("{}", std::string(result.message()));
  } else if (!was_good && result.ok()) {
    spdlog::info("backup {} ({}) is there again and unchanged", resolved.id, resolved.path);
  }
  return result;
}

absl::Status ChainWatch::CheckAll() {
  next_check_ms_.store(CoarseMilliseconds() + kCatalogCheckMilliseconds, std::memory_order_relaxed);
  absl::Status first;
  for (size_t i = 0; i < chain_.members.size(); ++i) {
    absl::Status status = Check(i);
    if (first.ok()) first = std::move(status);
  }
  return first;
}

absl::Status ChainWatch::State() {
  int64_t due = next_check_ms_.load(std::memory_order_relaxed);
  const int64_t now = CoarseMilliseconds();
  // One thread looks; the others take the last answer meanwhile.
  if (now >= due && next_check_ms_.compare_exchange_strong(due, now + kCatalogCheckMilliseconds,
                                                           std::memory_order_relaxed)) {
    return CheckAll();
  }
  return failed_.load(std::memory_order_acquire) ? CombinedStatus() : absl::OkStatus();
}

absl::Status ChainWatch::CombinedStatus() {
  MutexLock lock(&mutex_);
  for (const Member& member : members_) {
    if (!member.status.ok()) return member.status;
  }
  return absl::OkStatus();
}

absl::StatusOr<OpenedFile> ChainWatch::Open(size_t index, absl::string_view path) {
  const Member before = Snapshot(index);
  absl::StatusOr<OpenedFile> opened = OpenRegularBeneath(DirectoryOf(index, before), path);
  // The open file can't become another one; so what the control file says now holds for it.
  PBKFS_RETURN_IF_ERROR(Check(index));
  const Member after = Snapshot(index);
  if (opened.ok() || after.directory == before.directory) return opened;
  opened = OpenRegularBeneath(DirectoryOf(index, after), path);
  PBKFS_RETURN_IF_ERROR(Check(index));
  return opened;
}

}  // namespace pbkfs

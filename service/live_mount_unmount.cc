// The end of a mount.
#include <algorithm>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "service/live_mount.h"
#include "service/mount_users.h"
#include "service/path_policy.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// Ends the connection behind a mount, so that whoever uses it gets errors and its session ends.
// Without fusectl this does nothing; the end of the session ends the connection then.
void AbortConnection(const MountInfoEntry& mount) {
  const size_t colon = mount.device.find(':');
  if (colon == std::string::npos) return;
  const std::string path =
      absl::StrCat("/sys/fs/fuse/connections/", mount.device.substr(colon + 1), "/abort");
  std::ofstream file(path);
  file << "1";
}

}  // namespace

bool LiveMount::attached() const { return FindPbkfsAt(paths().target).has_value(); }

absl::Status LiveMount::DetachTarget(const UnmountOptions& options) {
  const std::string& target = paths().target;
  const absl::Time deadline =
      absl::Now() + std::min(options.wait, absl::FromChrono(kMaxUnmountWait));
  if (!FindPbkfsAt(target).has_value()) return WaitForSession(options, deadline);
  const auto unmount = [&](UnmountMode mode) {
    return environment_.keeper.Unmount(id(), target, mode);
  };
  absl::Status status = unmount(UnmountMode::kPlain);
  while (!status.ok() && ErrnoOf(status) == EBUSY && absl::Now() < deadline &&
         !options.cancelled()) {
    std::this_thread::sleep_for(kUnmountRetryPeriod);
    status = unmount(UnmountMode::kPlain);
  }
  if (status.ok()) return WaitForSession(options, deadline);
  if (options.force) return unmount(UnmountMode::kDetached);
  if (ErrnoOf(status) != EBUSY) return status;
  const std::vector<std::string> users = MountUsers(mount_info_);
  return WithField(
      ReasonError(
          absl::StatusCode::kFailedPrecondition, reason::kTargetBusy,
          absl::StrCat(target, " is in use",
                       users.empty() ? "" : absl::StrCat(" by ", absl::StrJoin(users, ", ")),
                       "; stop the server on it, wait for it with --wait, or detach it "
                       "with --force")),
      "target");
}

absl::Status LiveMount::WaitForSession(const UnmountOptions& options, absl::Time deadline) {
  FuseSession* session = nullptr;
  {
    // It stays until Unmount has waited for it.
    ReaderLock lock(&objects_mutex_);
    session = session_.get();
  }
  if (session == nullptr) return absl::OkStatus();  // It could not go on, and has ended.
  deadline = std::max(deadline, absl::Now() + absl::FromChrono(kDetachedGrace));
  while (session->alive() && absl::Now() < deadline && !options.cancelled()) {
    std::this_thread::sleep_for(kUnmountRetryPeriod);
  }
  if (!session->alive()) return absl::OkStatus();
  // The file system lives on: with a process that has files open on it, or only because another
  // mount namespace was made while it was mounted here, and has a copy of the mount.
  const std::vector<std::string> users = MountUsers(mount_info_);
  if (!users.empty() && !options.force) {
    return WithField(
        ReasonError(absl::StatusCode::kFailedPrecondition, reason::kTargetBusy,
                    absl::StrCat(paths().target, " is detached, but ", absl::StrJoin(users, ", "),
                                 " still uses it, perhaps through another mount namespace; stop "
                                 "the server on it, or use --force")),
        "target");
  }
  AbortConnection(mount_info_);
  session->Stop(absl::InfiniteFuture());
  return absl::OkStatus();
}

absl::Status LiveMount::EndSession() {
  // The session ends by itself now; others may look at the figures until it has.
  FuseSession* session = nullptr;
  {
    ReaderLock lock(&objects_mutex_);
    session = session_.get();
  }
  if (session != nullptr) session->Join();
  std::unique_ptr<Overlay> overlay;
  {
    WriterLock lock(&objects_mutex_);
    if (session_ != nullptr) last_latency_ = session_->Figures().latency;
    session_.reset();
    overlay = std::move(overlay_);
  }
  // Without the lock: it waits for the disk.
  return overlay == nullptr ? absl::OkStatus() : overlay->Close();
}

v1::Unmounting LiveMount::Intention(const UnmountOptions& options) const {
  // What a worker that died had begun is done as it was asked to.
  v1::Unmounting intention = unmount_was_begun() ? intention_ : v1::Unmounting();
  if (options.delete_diff) intention.set_delete_diff(true);
  if (options.keep_record && plan_.request.restore()) intention.set_comes_back(true);
  return intention;
}

void LiveMount::SaveIntention(const v1::Unmounting& intention) {
  if (intention.SerializeAsString() == intention_.SerializeAsString()) return;
  v1::Unmounting before = std::exchange(intention_, intention);
  const absl::Status saved = environment_.registry.Save(Record());
  if (saved.ok()) return;
  // A full disk is no reason to stay mounted.
  intention_ = std::move(before);
  spdlog::warn("{}: if pbkfsd is killed now, it may forget what becomes of the diff: {}", id(),
               std::string(saved.message()));
}

absl::Status LiveMount::Settle(const v1::Unmounting& intention, bool delete_diff) {
  absl::Status status;
  if (intention.comes_back() || delete_diff) {
    v1::MountRecord record = Record();
    record.set_stopped(intention.comes_back());
    record.set_delete_diff(delete_diff);
    status = environment_.registry.Save(record);
  } else {
    status = environment_.registry.Remove(id());
  }
  // The keeper's descriptors go last: until then another worker finds what is left to do.
  const absl::Status forgotten = environment_.keeper.Forget(id());
  return status.ok() ? forgotten : status;
}

absl::StatusOr<UnmountResult> LiveMount::Unmount(const UnmountOptions& options) {
  const v1::Unmounting intention = Intention(options);
  SaveIntention(intention);
  SetState(v1::MOUNT_STATE_DRAINING, "");
  absl::Status status = half_unmounted_ ? absl::OkStatus() : DetachTarget(options);
  if (!status.ok()) {
    // Whoever unmounts it later may want to keep the diff. A stop tries again and again.
    if (intention.delete_diff()) SaveIntention(v1::Unmounting());
    SetState(failed_ ? v1::MOUNT_STATE_FAILED : v1::MOUNT_STATE_ACTIVE, failure_);
    return Annotate(status, absl::StrCat("unmounting ", id()));
  }
  mounted_ = false;
  UnmountResult result;
  StopProbe();
  status = EndSession();
  ReleaseCatalog();
  RemoveTarget();
  const bool delete_diff =
      intention.delete_diff() || (plan_.request.ephemeral() && !intention.comes_back());
  // The keeper holds the diff's lock, and gives it up only when nothing is left to do.
  const absl::Status settled = Settle(intention, delete_diff);
  if (status.ok()) status = settled;
  if (delete_diff) {
    // DeleteDiff may have waited for this moment, and have been faster. What a deleted diff could
    // not write no longer matters.
    status = RemoveDiff(environment_.io, paths().diff);
    result.diff_deleted = status.ok();
    if (status.ok()) status = environment_.registry.Remove(id());
  }
  if (!status.ok()) {
    SetState(v1::MOUNT_STATE_FAILED, std::string(status.message()));
    return Annotate(status, absl::StrCat(id(), " is unmounted, but its diff ", paths().diff,
                                         " is not as it should be"));
  }
  return result;
}

void LiveMount::ReleaseCatalog() {
  std::unique_ptr<CatalogLock> lock;
  {
    MutexLock guard(&state_mutex_);
    lock = std::move(catalog_lock_);
  }
}

void LiveMount::RemoveTarget() {
  if (!made_target_) return;
  if (const absl::Status removed = RemovePlainDirectory(paths().target); !removed.ok()) {
    spdlog::warn("{}: the target that was made for the mount stays behind: {}", id(),
                 std::string(removed.message()));
  }
  made_target_ = false;
}

}  // namespace pbkfs

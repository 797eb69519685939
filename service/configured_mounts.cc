#include "service/configured_mounts.h"

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/logging.h"
#include "service/mount_plan.h"

namespace pbkfs {

void ConfiguredMounts::Join() {
  if (thread_.joinable()) thread_.join();
}

void ConfiguredMounts::Start() {
  thread_ = std::thread([this] {
    manager_.WaitForRestoring();
    MakeMissing();
    MutexLock lock(&mutex_);
    settled_ = true;
    changed_.SignalAll();
  });
}

ConfiguredMounts::Result ConfiguredMounts::MakeMissing() {
  MutexLock making(&making_);
  Result result;
  for (const v1::MountRequest& request : config_.Get()->mounts()) {
    const std::string id =
        request.mount_id().empty() ? MountIdFromTarget(request.target()) : request.mount_id();
    const bool was_there = manager_.Find(id) != nullptr;
    manager_.CleanTarget(id, request.target());
    const absl::StatusOr<v1::Mount> mount = manager_.Mount(request, Caller::Daemon());
    if (mount.ok()) {
      if (!was_there) result.made.push_back(id);
      continue;
    }
    result.failed.push_back(absl::StrCat(id, ": ", mount.status().message()));
    LogEvent(spdlog::level::err, "configured_mount_failed")
        .Field("mount", id)
        .Field("reason", ReasonOf(mount.status()))
        .Field("message", mount.status().message());
  }
  {
    MutexLock lock(&mutex_);
    failed_ = result.failed;
  }
  listener_(result.failed);
  return result;
}

void ConfiguredMounts::WaitUntilSettled() {
  MutexLock lock(&mutex_);
  while (!settled_) changed_.Wait(&mutex_);
}

std::vector<std::string> ConfiguredMounts::NotReady() const {
  MutexLock lock(&mutex_);
  if (!settled_) return {"mounts of the configuration are being made"};
  std::vector<std::string> reasons;
  for (const std::string& failed : failed_) {
    reasons.push_back(absl::StrCat("a mount of the configuration can't be made: ", failed));
  }
  return reasons;
}

}  // namespace pbkfs

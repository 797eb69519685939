// The mounts of the configuration file: made at the start, in their order, by the same function as
// the RPC, and again at each reload. What fails is logged and does not stop anything; the next
// reload tries it again.
//
// Start and Join are for the thread that owns the object; everything else may be called from any.
#ifndef PBKFS_SERVICE_CONFIGURED_MOUNTS_H_
#define PBKFS_SERVICE_CONFIGURED_MOUNTS_H_

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "fs/base/mutex.h"
#include "service/config_holder.h"
#include "service/mount_manager.h"

namespace pbkfs {

class ConfiguredMounts {
 public:
  // Hears of each attempt: what failed, "id: message".
  using Listener = std::function<void(const std::vector<std::string>& failed)>;

  // All outlive the object.
  ConfiguredMounts(const ConfigHolder& config, MountManager& manager, Listener listener)
      : config_(config), manager_(manager), listener_(std::move(listener)) {}
  ~ConfiguredMounts() { Join(); }

  // In the background, after what the last daemon had is mounted again. `manager` has begun that.
  void Start();

  // Waits for what Start began: of a manager that drains nothing is mounted any more.
  void Join();

  struct Result {
    std::vector<std::string> made;    // Ids that were not there.
    std::vector<std::string> failed;  // "id: message"
  };
  // Makes what the configuration in force lists and what is not there. One after the other.
  Result MakeMissing() ABSL_LOCKS_EXCLUDED(making_, mutex_);

  // Until each mount was made, or failed, since the start.
  void WaitUntilSettled() ABSL_LOCKS_EXCLUDED(mutex_);
  // Why the daemon is not ready for its users, a line each.
  std::vector<std::string> NotReady() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const ConfigHolder& config_;
  MountManager& manager_;
  const Listener listener_;
  Mutex making_;  // Held by whoever makes mounts.
  mutable Mutex mutex_;
  CondVar changed_;
  bool settled_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> failed_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIGURED_MOUNTS_H_

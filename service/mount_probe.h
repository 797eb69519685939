// Proves every two seconds that a mount can still be read, and names a request that is in flight
// for too long: a thread for each, since a probe may itself wait for what holds the request.
#ifndef PBKFS_SERVICE_MOUNT_PROBE_H_
#define PBKFS_SERVICE_MOUNT_PROBE_H_

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "fs/base/mutex.h"
#include "fs/catalog/chain.h"
#include "fs/overlay/overlay.h"
#include "fs/session/request_stats.h"
#include "service/alarm.h"

namespace pbkfs {

class MountProbe {
 public:
  // Begins with a probe, so that a mount is healthy when it is answered. Overlay and chain stay
  // until Stop has returned; `requests` gives the figures of the session.
  MountProbe(std::string mount_id, Overlay& overlay, const Chain& chain,
             std::function<FuseFigures()> requests);
  ~MountProbe() { Stop(); }

  // For good. From the thread that owns the object.
  void Stop();
  // Whether the mount could be read within the last seconds.
  bool Healthy() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Probe() ABSL_LOCKS_EXCLUDED(mutex_);
  void WatchRequests();

  const std::string id_;
  Overlay& overlay_;
  const Chain& chain_;
  const std::function<FuseFigures()> requests_;

  mutable Mutex mutex_;
  bool ok_ ABSL_GUARDED_BY(mutex_) = true;
  std::chrono::steady_clock::time_point time_ ABSL_GUARDED_BY(mutex_);

  Alarm next_probe_;
  Alarm next_look_;
  // The last: they use the others.
  std::thread probe_;
  std::thread watch_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_PROBE_H_

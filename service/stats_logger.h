// Logs what each active mount read and wrote, as one `overlay_io` event a mount and interval.
#ifndef PBKFS_SERVICE_STATS_LOGGER_H_
#define PBKFS_SERVICE_STATS_LOGGER_H_

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "service/mount_manager.h"

namespace pbkfs {

class StatsLogger {
 public:
  // Starts a thread that ends with the object. It logs nothing where `interval` is 0. The manager
  // outlives it.
  StatsLogger(const MountManager& manager, absl::Duration interval);
  ~StatsLogger();

  // The next events come after this time.
  void SetInterval(absl::Duration interval) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Last {
    std::weak_ptr<const LiveMount> mount;  // A mount made anew under the same id starts from zero.
    IoSnapshot io;
  };

  void Run();
  void LogAll();

  // Until the next events are due; false at the end.
  bool Wait() ABSL_LOCKS_EXCLUDED(mutex_);

  const MountManager& manager_;
  std::map<std::string, Last> last_;  // Only the thread's.
  Mutex mutex_;
  absl::Duration interval_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point next_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar wakeup_;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATS_LOGGER_H_

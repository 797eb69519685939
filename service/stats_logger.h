// Logs what each active mount read and wrote, as one `overlay_io` event a mount and interval.
#ifndef PBKFS_SERVICE_STATS_LOGGER_H_
#define PBKFS_SERVICE_STATS_LOGGER_H_

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
  // Starts a thread that ends with the object; none where `interval` is 0. The manager outlives it.
  StatsLogger(const MountManager& manager, absl::Duration interval);
  ~StatsLogger();

 private:
  struct Last {
    std::weak_ptr<const LiveMount> mount;  // A mount made anew under the same id starts from zero.
    IoSnapshot io;
  };

  void Run();
  void LogAll();

  const MountManager& manager_;
  const absl::Duration interval_;
  std::map<std::string, Last> last_;  // Only the thread's.
  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar wakeup_;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATS_LOGGER_H_

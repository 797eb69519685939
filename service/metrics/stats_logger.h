// Logs what each active mount read and wrote, as one `overlay_io` event a mount and interval.
#ifndef PBKFS_SERVICE_METRICS_STATS_LOGGER_H_
#define PBKFS_SERVICE_METRICS_STATS_LOGGER_H_

#include <functional>
#include <map>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/alarm.h"

namespace pbkfs {

class StatsLogger {
 public:
  using Sample = std::function<v1::StatsResponse()>;

  // Starts a thread that ends with the object. It logs nothing where `interval` is 0. The first
  // deltas of mounts that are there already are those since now; with 0 those since they were made.
  StatsLogger(Sample sample, absl::Duration interval);
  ~StatsLogger();

  // The next events come after this time.
  void SetInterval(absl::Duration interval) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  void LogAll();
  // Until the next events are due; false at the end.
  bool Wait() ABSL_LOCKS_EXCLUDED(mutex_);

  const Sample sample_;
  // By id, as they were logged last. Only the thread's.
  std::map<std::string, v1::MountStats> last_;
  Mutex mutex_;
  absl::Duration interval_ ABSL_GUARDED_BY(mutex_);
  Alarm::Clock::time_point next_ ABSL_GUARDED_BY(mutex_);
  Alarm alarm_;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_STATS_LOGGER_H_

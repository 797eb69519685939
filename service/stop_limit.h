// Ends the process if it is neither destroyed nor restarted in time.
#ifndef PBKFS_SERVICE_STOP_LIMIT_H_
#define PBKFS_SERVICE_STOP_LIMIT_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"

namespace pbkfs {

class StopLimit {
 public:
  explicit StopLimit(absl::Duration limit);
  ~StopLimit();
  void Restart();

 private:
  void Watch();

  const absl::Duration limit_;
  Mutex mutex_;
  CondVar changed_;
  absl::Time deadline_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watch_;  // The last: it uses the others.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STOP_LIMIT_H_

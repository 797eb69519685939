// What a thread of ours sleeps on: until a moment that others may move, or until it is to end.
#ifndef PBKFS_SERVICE_ALARM_H_
#define PBKFS_SERVICE_ALARM_H_

#include <algorithm>
#include <chrono>

#include "absl/base/thread_annotations.h"
#include "fs/base/mutex.h"

namespace pbkfs {

// One thread waits; any thread may do the rest.
class Alarm {
 public:
  using Clock = std::chrono::steady_clock;

  void Set(Clock::time_point when) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    when_ = when;
    changed_.SignalAll();
  }
  void SetIn(Clock::duration time) { Set(Clock::now() + time); }
  // Unless it is set to an earlier moment already.
  void SetNoLaterThan(Clock::time_point when) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    when_ = std::min(when_, when);
    changed_.SignalAll();
  }
  // For good.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.SignalAll();
  }

  // Sleeps until the moment that is set has come, and forgets it; false once it is stopped.
  bool Wait() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    while (!stopped_) {
      if (when_ == Clock::time_point::max()) {
        changed_.Wait(&mutex_);
        continue;
      }
      const Clock::duration rest = when_ - Clock::now();
      if (rest <= rest.zero()) break;
      changed_.WaitFor(&mutex_, std::chrono::ceil<std::chrono::milliseconds>(rest));
    }
    when_ = Clock::time_point::max();
    return !stopped_;
  }
  bool WaitFor(Clock::duration time) {
    SetIn(time);
    return Wait();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  Clock::time_point when_ ABSL_GUARDED_BY(mutex_) = Clock::time_point::max();
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_ALARM_H_

// A histogram of durations for Prometheus, and the figures of the RPC handlers.
#ifndef PBKFS_SERVICE_METRICS_HISTOGRAM_H_
#define PBKFS_SERVICE_METRICS_HISTOGRAM_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"

namespace pbkfs {

// Not synchronized: whoever owns it locks.
struct Histogram {
  // Upper bounds in seconds, for calls that take from a millisecond to minutes.
  static constexpr double kBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                       0.25,  0.5,    1,     2.5,  5,     10,   60};
  static constexpr size_t kBoundCount = sizeof(kBounds) / sizeof(kBounds[0]);

  std::vector<uint64_t> buckets = std::vector<uint64_t>(kBoundCount + 1);  // The last is +Inf.
  double sum_seconds = 0;

  void Add(absl::Duration duration) {
    const double seconds = absl::ToDoubleSeconds(duration);
    size_t bucket = 0;
    while (bucket < kBoundCount && seconds > kBounds[bucket]) ++bucket;
    ++buckets[bucket];
    sum_seconds += seconds;
  }
};

// Calls by method and code, since the start. Safe from any thread.
class RpcFigures {
 public:
  struct Snapshot {
    std::map<std::pair<std::string, std::string>, uint64_t> requests;  // By method and code.
    std::map<std::string, Histogram> durations;                        // By method.
  };

  void Add(const std::string& method, const std::string& code, absl::Duration duration) {
    MutexLock lock(&mutex_);
    ++figures_.requests[{method, code}];
    figures_.durations[method].Add(duration);
  }
  // A call that streams: how long it lasts is its caller's choice.
  void Count(const std::string& method, const std::string& code) {
    MutexLock lock(&mutex_);
    ++figures_.requests[{method, code}];
  }
  Snapshot Get() const {
    MutexLock lock(&mutex_);
    return figures_;
  }

 private:
  mutable Mutex mutex_;
  Snapshot figures_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_HISTOGRAM_H_

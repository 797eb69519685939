#include "service/stop_limit.h"

#include <unistd.h>

#include "absl/time/clock.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

StopLimit::StopLimit(absl::Duration limit) : limit_(limit), deadline_(absl::Now() + limit) {
  watch_ = std::thread([this] { Watch(); });
}

StopLimit::~StopLimit() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.SignalAll();
  }
  watch_.join();
}

void StopLimit::Restart() {
  MutexLock lock(&mutex_);
  deadline_ = absl::Now() + limit_;
}

void StopLimit::Watch() {
  MutexLock lock(&mutex_);
  while (!stopped_) {
    const absl::Duration rest = deadline_ - absl::Now();
    if (rest <= absl::ZeroDuration()) {
      spdlog::error(
          "a mount or a call does not come to its end: the daemon ends without it; diffs are "
          "recovered when they are mounted again");
      _exit(1);
    }
    changed_.WaitFor(&mutex_, absl::ToChronoMilliseconds(rest));
  }
}

}  // namespace pbkfs

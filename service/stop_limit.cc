#include "service/stop_limit.h"

#include <unistd.h>

#include "spdlog/spdlog.h"

namespace pbkfs {

StopLimit::StopLimit(std::chrono::seconds limit) : limit_(limit) {
  Restart();
  watch_ = std::thread([this] { Watch(); });
}

StopLimit::~StopLimit() {
  alarm_.Stop();
  watch_.join();
}

void StopLimit::Restart() { alarm_.SetIn(limit_); }

void StopLimit::Watch() {
  if (!alarm_.Wait()) return;
  spdlog::error(
      "a mount or a call does not come to its end: the daemon ends without it; diffs are "
      "recovered when they are mounted again");
  _exit(1);
}

}  // namespace pbkfs

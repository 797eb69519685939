// Ends the process if it is neither destroyed nor restarted in time.
#ifndef PBKFS_SERVICE_STOP_LIMIT_H_
#define PBKFS_SERVICE_STOP_LIMIT_H_

#include <chrono>
#include <thread>

#include "service/alarm.h"

namespace pbkfs {

class StopLimit {
 public:
  explicit StopLimit(std::chrono::seconds limit);
  ~StopLimit();
  void Restart();

 private:
  void Watch();

  const std::chrono::seconds limit_;
  Alarm alarm_;
  std::thread watch_;  // The last: it uses the others.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STOP_LIMIT_H_

// The last warnings and errors of this process, kept in memory for a bug report (DebugDump).
// Bounded in lines and in the bytes of each. Safe from any thread.
#ifndef PBKFS_SERVICE_RECENT_LOG_H_
#define PBKFS_SERVICE_RECENT_LOG_H_

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"

namespace pbkfs {

class RecentLog {
 public:
  // `level` as it is printed, "warning" or "error".
  void Add(absl::Time time, absl::string_view level, absl::string_view text);
  // The newest `most` lines, oldest first.
  std::vector<std::string> Lines(size_t most) const;

 private:
  mutable Mutex mutex_;
  std::deque<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

// That of the process: what SetUpLogging keeps.
RecentLog& ProcessRecentLog();

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RECENT_LOG_H_

// Damage found while reading: one counter, one log line, one DATA_LOSS with errno EIO.
#ifndef PBKFS_FS_IMAGE_PAGE_ERRORS_H_
#define PBKFS_FS_IMAGE_PAGE_ERRORS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fs/base/io_stats.h"
#include "fs/base/mutex.h"

namespace pbkfs {

// Thread-safe.
class PageErrors {
 public:
  // Counts one error of `kind` in `stats` (may be null) and logs it, at most kErrorLinesPerSecond
  // lines a second for the whole daemon. `where` names file, backup, block and position. The result
  // is DATA_LOSS with EIO, but an error that has its own code (UNAVAILABLE for a changed catalog)
  // keeps it.
  absl::Status Report(IoStats* stats, IoCounter kind, absl::string_view where,
                      const absl::Status& cause);
  absl::Status Report(IoStats* stats, IoCounter kind, absl::string_view where,
                      absl::string_view cause);

 private:
  // Whether a line may be written now; sets how many were suppressed before it.
  bool MayLog(uint64_t& suppressed);

  Mutex mutex_;
  int64_t second_ ABSL_GUARDED_BY(mutex_) = 0;
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t suppressed_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_ERRORS_H_

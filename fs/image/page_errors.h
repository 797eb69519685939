// Damage found while reading: one counter, one log line, one DATA_LOSS with errno EIO.
#ifndef PBKFS_FS_IMAGE_PAGE_ERRORS_H_
#define PBKFS_FS_IMAGE_PAGE_ERRORS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fs/base/io_stats.h"

namespace pbkfs {

// Counts one error of `kind` in `stats` (may be null) and logs it; a damaged file can give
// thousands a second, and whoever sets the log up limits them. `where` names file, backup, block
// and position. The result is DATA_LOSS with EIO, but an error that has its own code (UNAVAILABLE
// for a changed catalog) keeps it. Thread-safe.
absl::Status ReportPageError(IoStats* stats, IoCounter kind, absl::string_view where,
                             const absl::Status& cause);
absl::Status ReportPageError(IoStats* stats, IoCounter kind, absl::string_view where,
                             absl::string_view cause);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_ERRORS_H_

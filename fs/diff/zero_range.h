// Makes a range of a data file read as zeros.
#ifndef PBKFS_FS_DIFF_ZERO_RANGE_H_
#define PBKFS_FS_DIFF_ZERO_RANGE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "fs/base/io.h"

namespace pbkfs {

// Punches a hole; writes zeros where the file system can't punch, or has no space for what a punch
// needs. Bytes past the file's end are left alone.
absl::Status ZeroRange(IoFile& file, int64_t offset, int64_t length);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_ZERO_RANGE_H_

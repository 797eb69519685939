// One daemon has a state directory.
#ifndef PBKFS_SERVICE_STATE_DIRECTORY_H_
#define PBKFS_SERVICE_STATE_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"

namespace pbkfs {

// Makes the directory where it is missing, and claims it for this process as long as it lives, also
// when it executes another program. FAILED_PRECONDITION where another process has it.
absl::Status ClaimStateDirectory(const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATE_DIRECTORY_H_

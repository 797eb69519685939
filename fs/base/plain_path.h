// Directories by absolute paths that were resolved before. Nothing here follows a symbolic link, in
// any component: whoever owns a directory on the way can put a link there after the path was
// checked, and must not lead a process of root elsewhere by it. A link gives ELOOP.
#ifndef PBKFS_FS_BASE_PLAIN_PATH_H_
#define PBKFS_FS_BASE_PLAIN_PATH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// `flags` in addition to O_DIRECTORY and O_CLOEXEC.
absl::StatusOr<UniqueFd> OpenPlainDirectory(const std::string& path, int flags);

// Whether there is a directory `name` in `directory`. Never looks into a file system that is
// mounted at it, which may be ours.
bool HoldsDirectory(int directory, const char* name);

// The directory that holds the last component of `path`, and that component, for the calls with
// "at" in their names.
struct PlainParent {
  UniqueFd directory;  // O_PATH.
  std::string name;
};
absl::StatusOr<PlainParent> OpenPlainParent(const std::string& path);

// rmdir(2).
absl::Status RemovePlainDirectory(const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_PLAIN_PATH_H_

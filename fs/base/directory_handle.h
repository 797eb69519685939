// Recognises a directory for as long as it exists, wherever it is moved to and whatever takes its
// place and its inode number.
#ifndef PBKFS_FS_BASE_DIRECTORY_HANDLE_H_
#define PBKFS_FS_BASE_DIRECTORY_HANDLE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pbkfs {

// The kernel's handle of the open directory; "" where its file system has none.
std::string HandleOfDirectory(int descriptor);

// Whether the directory of `handle` is gone for good. `mount` is any open directory of the same
// mount. False also where the kernel does not tell: it asks for CAP_DAC_READ_SEARCH.
bool DirectoryIsGone(int mount, absl::string_view handle);

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_DIRECTORY_HANDLE_H_

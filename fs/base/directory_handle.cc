#include "fs/base/directory_handle.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "fs/base/unique_fd.h"

namespace pbkfs {
namespace {

// struct file_handle with room for its bytes.
union Handle {
  file_handle head;
  char bytes[sizeof(file_handle) + MAX_HANDLE_SZ];
};

}  // namespace

std::string HandleOfDirectory(int descriptor) {
  Handle handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  if (name_to_handle_at(descriptor, "", &handle.head, &mount_id, AT_EMPTY_PATH) != 0) return "";
  return std::string(handle.bytes, sizeof(file_handle) + handle.head.handle_bytes);
}

bool DirectoryIsGone(int mount, absl::string_view handle) {
  Handle copy{};
  if (handle.size() < sizeof(file_handle) || handle.size() > sizeof(copy.bytes)) return false;
  std::copy(handle.begin(), handle.end(), copy.bytes);
  if (copy.head.handle_bytes != handle.size() - sizeof(file_handle)) return false;
  const UniqueFd found(open_by_handle_at(mount, &copy.head, O_PATH | O_CLOEXEC));
  return found.get() < 0 && errno == ESTALE;
}

}  // namespace pbkfs

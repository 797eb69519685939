#include "fs/base/plain_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {

absl::StatusOr<UniqueFd> OpenPlainDirectory(const std::string& path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  while (true) {
    const long fd = syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how));
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EINTR && errno != EAGAIN) {
      return ErrnoError(errno, absl::StrCat("open directory ", path));
    }
  }
}

bool HoldsDirectory(int directory, const char* name) {
  struct open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  const UniqueFd fd(static_cast<int>(syscall(SYS_openat2, directory, name, &how, sizeof(how))));
  return fd.valid() || errno == EXDEV;
}

absl::StatusOr<PlainParent> OpenPlainParent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash + 1 == path.size()) return ErrnoError(EINVAL, path);
  PlainParent parent;
  parent.name = path.substr(slash + 1);
  PBKFS_ASSIGN_OR_RETURN(parent.directory,
                         OpenPlainDirectory(slash == 0 ? "/" : path.substr(0, slash), O_PATH));
  return parent;
}

absl::Status RemovePlainDirectory(const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(const PlainParent parent, OpenPlainParent(path));
  if (unlinkat(parent.directory.get(), parent.name.c_str(), AT_REMOVEDIR) == 0) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, absl::StrCat("remove directory ", path));
}

}  // namespace pbkfs

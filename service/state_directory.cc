#include "service/state_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {

absl::Status ClaimStateDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(
        errno, absl::StrCat("making ", path, " (choose another place with --state-dir)"));
  }
  const std::string name = absl::StrCat(path, "/lock");
  // A lock of this kind belongs to the process: children have no part in it, and execve(2) keeps
  // it, as long as the descriptor stays open.
  const int fd = open(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("opening ", name));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd, F_SETLK, &lock) == 0) return absl::OkStatus();
  const int error = errno;
  const bool known = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  close(fd);
  if (error != EAGAIN && error != EACCES) return ErrnoError(error, absl::StrCat("locking ", name));
  return absl::FailedPreconditionError(
      absl::StrCat("the state directory ", path, " is in use by another pbkfsd",
                   known ? absl::StrCat(" (pid ", lock.l_pid, ")") : "",
                   "; stop that one, or give this one its own with --state-dir"));
}

}  // namespace pbkfs

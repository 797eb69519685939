#include "service/keeper/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {
namespace {

constexpr mode_t kSocketMode = 0660;
constexpr int kBacklog = 128;

}  // namespace

absl::Status PrepareSocketPath(const std::string& path) {
  const std::string directory = path.substr(0, path.rfind('/'));
  if (!directory.empty() && mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("making ", directory, " for the socket"));
  }
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoError(errno, path);
  }
  if (!S_ISSOCK(st.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a socket; remove it, or choose another path with --listen"));
  }
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return ErrnoError(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ErrnoError(ENAMETOOLONG, path);
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("another daemon answers on ", path,
                     "; stop it, or choose another path with --listen and --state-dir"));
  }
  if (errno != ECONNREFUSED) return ErrnoError(errno, path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("removing the stale socket ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& path) {
  PBKFS_RETURN_IF_ERROR(PrepareSocketPath(path));
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoError(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ErrnoError(ENAMETOOLONG, path);
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  // The socket never exists with wider permissions, not even for a moment.
  const mode_t umask_before = umask(0777 & ~kSocketMode);
  const int bound =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(umask_before);
  if (bound != 0 || listen(listener.get(), kBacklog) != 0) {
    return ErrnoError(
        bound != 0 ? error : errno,
        absl::StrCat("listening on ", path, "; choose another path with --listen unix:PATH"));
  }
  return listener;
}

}  // namespace pbkfs

#include "service/keeper/unix_socket.h"

#include <grp.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {
namespace {

constexpr int kBacklog = 128;

absl::StatusOr<gid_t> FindGroup(const std::string& name) {
  uint32_t number = 0;
  if (absl::SimpleAtoi(name, &number)) return number;
  std::vector<char> buffer(4096);
  group entry;
  group* found = nullptr;
  int error;
  while ((error = getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found)) ==
         ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (found != nullptr) return found->gr_gid;
  return absl::NotFoundError(
      absl::StrCat("there is no group '", name, "' for the socket; make it, or name another"));
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

// The first address that the host's name stands for.
absl::StatusOr<std::unique_ptr<addrinfo, FreeAddresses>> Resolve(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return ErrnoError(EINVAL, address);
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int result = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &list);
  if (result == 0) return std::unique_ptr<addrinfo, FreeAddresses>(list);
  return absl::NotFoundError(absl::StrCat("listening at ", address, ": ", gai_strerror(result)));
}

absl::StatusOr<UniqueFd> ListenAtTcp(const std::string& address) {
  PBKFS_ASSIGN_OR_RETURN(const auto where, Resolve(address));
  UniqueFd listener(socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoError(errno, "socket");
  // Connections of the daemon before this one may still be in TIME_WAIT.
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener.get(), where->ai_addr, where->ai_addrlen) != 0 ||
      listen(listener.get(), kBacklog) != 0) {
    return ErrnoError(
        errno, absl::StrCat("listening at ", address, "; choose another with --listen HOST:PORT"));
  }
  return listener;
}

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

absl::StatusOr<UniqueFd> ListenAt(const ListenAddress& where) {
  if (where.path.empty()) return ListenAtTcp(where.address);
  const std::string& path = where.path;
  gid_t group = static_cast<gid_t>(-1);  // Left as it is.
  if (!where.group.empty()) {
    PBKFS_ASSIGN_OR_RETURN(group, FindGroup(where.group));
  }
  PBKFS_RETURN_IF_ERROR(PrepareSocketPath(path));
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoError(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ErrnoError(ENAMETOOLONG, path);
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto failed = [&path](int error) {
    return ErrnoError(error, absl::StrCat("listening on ", path,
                                          "; choose another path with --listen unix:PATH"));
  };
  // Nobody can open it before it belongs to its group, nor connect before it listens.
  const mode_t umask_before = umask(0777);
  const int bound =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(umask_before);
  if (bound != 0) return failed(error);
  // The directory is the administrator's: nobody puts a link in the place of the socket.
  if (lchown(path.c_str(), static_cast<uid_t>(-1), group) != 0 ||
      chmod(path.c_str(), where.mode) != 0 || listen(listener.get(), kBacklog) != 0) {
    return failed(errno);
  }
  return listener;
}

}  // namespace pbkfs

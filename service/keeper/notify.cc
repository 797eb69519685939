#include "service/keeper/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

absl::Status NotifyServiceManager(absl::string_view state) {
  const char* address = getenv("NOTIFY_SOCKET");
  if (address == nullptr || *address == '\0') return absl::OkStatus();
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  const size_t length = strlen(address);
  if ((address[0] != '/' && address[0] != '@') || length >= sizeof(name.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NOTIFY_SOCKET=", address, " is not the address of a socket"));
  }
  memcpy(name.sun_path, address, length);
  // "@name" is an abstract address, which begins with a NUL.
  if (address[0] == '@') name.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return ErrnoError(errno, "socket");
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
             reinterpret_cast<const sockaddr*>(&name), size) < 0) {
    return ErrnoError(errno, absl::StrCat("telling ", address));
  }
  return absl::OkStatus();
}

std::string ServingState(bool complete, absl::string_view text) {
  // A line break would begin another assignment.
  return absl::StrCat(complete ? "READY=1\n" : "",
                      "STATUS=", absl::StrReplaceAll(text, {{"\n", " "}}));
}

}  // namespace pbkfs

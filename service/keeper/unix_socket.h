// Sockets that listen. They are made by the keeper, so that they outlive a worker.
#ifndef PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_
#define PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

struct ListenAddress {
  std::string path;     // Of a unix socket; "" = TCP.
  mode_t mode = 0660;   // Of a unix socket.
  std::string group;    // Of a unix socket, by name or number; "" = the process's.
  std::string address;  // HOST:PORT, with brackets around an IPv6 address.
};

// Makes the directory of the socket, and removes a socket that nobody answers on. ALREADY_EXISTS
// where somebody does, FAILED_PRECONDITION where something else is in the way.
absl::Status PrepareSocketPath(const std::string& path);

// Does not block. A unix socket never exists with wider permissions than it should have.
absl::StatusOr<UniqueFd> ListenAt(const ListenAddress& where);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_

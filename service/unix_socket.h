// The place of a unix socket before gRPC listens on it.
#ifndef PBKFS_SERVICE_UNIX_SOCKET_H_
#define PBKFS_SERVICE_UNIX_SOCKET_H_

#include <string>

#include "absl/status/status.h"

namespace pbkfs {

// Makes the directory of the socket, and removes a socket that nobody answers on. ALREADY_EXISTS
// where somebody does, FAILED_PRECONDITION where something else is in the way.
absl::Status PrepareSocketPath(const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_UNIX_SOCKET_H_

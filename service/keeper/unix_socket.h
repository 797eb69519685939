// Unix sockets that listen. They are made by the keeper, so that they outlive a worker.
#ifndef PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_
#define PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// Makes the directory of the socket, and removes a socket that nobody answers on. ALREADY_EXISTS
// where somebody does, FAILED_PRECONDITION where something else is in the way.
absl::Status PrepareSocketPath(const std::string& path);

// Listens at `path`, for the owner and the group of the process only. Does not block.
absl::StatusOr<UniqueFd> ListenAt(const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_UNIX_SOCKET_H_

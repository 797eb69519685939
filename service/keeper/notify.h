// Tells the service manager (systemd, or whoever set NOTIFY_SOCKET) how far the daemon is.
#ifndef PBKFS_SERVICE_KEEPER_NOTIFY_H_
#define PBKFS_SERVICE_KEEPER_NOTIFY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

// `state` as in sd_notify(3): lines such as READY=1 or STATUS=text. Does nothing where nobody
// listens, and never blocks. INVALID_ARGUMENT for an address that is no socket.
absl::Status NotifyServiceManager(absl::string_view state);

// The state of a daemon that serves: READY=1 once `complete`, and `text` as its status.
std::string ServingState(bool complete, absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_NOTIFY_H_

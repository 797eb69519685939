// The messages between the daemon and its lock holders: one packet each way over a socket pair of
// SOCK_SEQPACKET, one request at a time. Both ends are the same executable, so there is no version.
#ifndef PBKFS_SERVICE_LOCK_PROTOCOL_H_
#define PBKFS_SERVICE_LOCK_PROTOCOL_H_

#include <cstdint>

namespace pbkfs {

// The holder finds its end of the socket pair here.
inline constexpr int kLockHolderSocket = 3;

enum class LockCommand : uint32_t {
  kLock = 1,     // Carries a descriptor of the backup's directory (SCM_RIGHTS).
  kUnlock = 2,   // The directory is known by device and inode.
  kCleanUp = 3,  // Carries a descriptor; removes what `dead_pid` left there.
};

struct LockRequest {
  LockCommand command = LockCommand::kLock;
  uint32_t wait_milliseconds = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t dead_pid = 0;
};

struct LockReply {
  int32_t code = 0;  // absl::StatusCode.
  char message[1000] = {};
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOCK_PROTOCOL_H_

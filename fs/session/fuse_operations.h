// The FUSE operations of a session, each one a translation to a call of the overlay.
#ifndef PBKFS_FS_SESSION_FUSE_OPERATIONS_H_
#define PBKFS_FS_SESSION_FUSE_OPERATIONS_H_

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "fs/overlay/overlay.h"
#include "fs/session/handle_table.h"
#include "fs/session/request_stats.h"

namespace pbkfs {

class FuseSession;

// What the operations find in the session's user data.
struct SessionContext {
  Overlay* overlay;
  RequestStats* stats;
  HandleTable* handles;
  FuseSession* session;
};

const fuse_lowlevel_ops& FuseOperations();

// Tells the operations which request this thread is about to process: its number among the
// session's threads, and what the kernel's header of the request says.
void SetCurrentRequest(int thread, uint64_t unique, uint32_t opcode, uint64_t node);

// Bit 63 of `unique` marks a request that the kernel sends again.
inline constexpr uint64_t kResendBit = uint64_t{1} << 63;

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_FUSE_OPERATIONS_H_

// The FUSE operations of a session, each one a translation to a call of the overlay.
#ifndef PBKFS_FS_SESSION_FUSE_OPERATIONS_H_
#define PBKFS_FS_SESSION_FUSE_OPERATIONS_H_

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "fs/overlay/overlay.h"
#include "fs/session/request_stats.h"

namespace pbkfs {

// What the operations find in the session's user data.
struct SessionContext {
  Overlay* overlay;
  RequestStats* stats;
};

const fuse_lowlevel_ops& FuseOperations();

// Tells the operations which request this thread is about to process: its number among the
// session's threads, and the kernel's header of the request.
void SetCurrentRequest(int thread, uint64_t unique, uint32_t opcode);

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_FUSE_OPERATIONS_H_

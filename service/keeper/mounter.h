// Mounts and unmounts FUSE file systems. Nothing here speaks the FUSE protocol: the descriptor goes
// to a FuseSession. A target is never looked at again once it is mounted, so that nothing here can
// wait for ourselves.
#ifndef PBKFS_SERVICE_KEEPER_MOUNTER_H_
#define PBKFS_SERVICE_KEEPER_MOUNTER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

struct FuseMountOptions {
  std::string target;    // Absolute path of an existing directory; no component may be a symlink.
  std::string mount_id;  // Shown in the mount table as "pbkfs:<mount_id>".
  bool read_only = false;
  int read_ahead_kib = 1024;  // Of the mount's device; best effort.
};

// A /dev/fuse descriptor that is not mounted yet.
absl::StatusOr<UniqueFd> OpenFuse();

// Mounts it, with nosuid, nodev, default_permissions, allow_other.
absl::Status MountFuse(const FuseMountOptions& options, const UniqueFd& fuse);

// Unmounts. EBUSY, kept as errno in the status, where files are open.
absl::Status UnmountFuse(const std::string& target);

// Detaches the mount from the tree and ends its connection: whoever has files open gets errors.
absl::Status DetachFuse(const std::string& target);

// Ends the connection of the mount, which stays: whoever uses it gets errors, and nobody sees what
// lies below it.
absl::Status AbortFuse(const std::string& target);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_MOUNTER_H_

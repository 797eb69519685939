// What the state of a mount is called in figures and texts.
#ifndef PBKFS_SERVICE_METRICS_MOUNT_STATE_H_
#define PBKFS_SERVICE_METRICS_MOUNT_STATE_H_

#include "absl/strings/string_view.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs {

// "creating", "active", "draining" or "failed": as pbkfs_mounts, GetStatus and the status page name
// it.
absl::string_view StateName(v1::MountState state);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_MOUNT_STATE_H_

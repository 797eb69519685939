// Who keeps a mount busy, for messages.
#ifndef PBKFS_SERVICE_MOUNT_USERS_H_
#define PBKFS_SERVICE_MOUNT_USERS_H_

#include <string>
#include <vector>

#include "service/path_policy.h"

namespace pbkfs {

// The processes that hold a file of the mount open, or work in it, in whatever mount namespace:
// "name (pid 123)" each, a few of them. `mount` is what /proc/self/mountinfo says, or said, of it.
// Looks only at /proc, never at the mount, which may hang.
std::vector<std::string> MountUsers(const MountInfoEntry& mount);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_USERS_H_

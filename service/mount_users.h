// Who keeps a mount busy, for messages.
#ifndef PBKFS_SERVICE_MOUNT_USERS_H_
#define PBKFS_SERVICE_MOUNT_USERS_H_

#include <string>
#include <vector>

namespace pbkfs {

// The processes that hold a file of the mount open, or work in it: "name (pid 123)" each, a few of
// them. `mount_id` as in /proc/self/mountinfo. Looks only at /proc, never at the mount, which may
// hang.
std::vector<std::string> MountUsers(int mount_id, const std::string& mount_point);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_USERS_H_

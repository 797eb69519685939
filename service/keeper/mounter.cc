#include "service/keeper/mounter.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

// The device number of the mount at `target` as mountinfo prints it, "" where it is not there.
std::string DeviceOf(const std::string& target) {
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  std::string device;
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string id, parent, numbers, root, mount_point;
    fields >> id >> parent >> numbers >> root >> mount_point;
    if (mount_point == target) device = numbers;  // The last one is on top.
  }
  return device;
}

void SetReadAhead(const std::string& target, int kib) {
  const std::string device = DeviceOf(target);
  if (device.empty()) return;
  std::ofstream setting(absl::StrCat("/sys/class/bdi/", device, "/read_ahead_kb"));
  setting << kib;
}

// What is mounted at `target`, and nothing else that a link on the way leads to.
absl::Status Unmount(const std::string& target, int flags, absl::string_view what) {
  PBKFS_ASSIGN_OR_RETURN(const PlainParent parent, OpenPlainParent(target));
  const std::string at = absl::StrCat("/proc/self/fd/", parent.directory.get(), "/", parent.name);
  if (umount2(at.c_str(), flags) != 0) return ErrnoError(errno, absl::StrCat(what, target));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> OpenFuse() {
  UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid()) {
    return ErrnoError(
        errno, "open /dev/fuse (load the kernel module fuse, or give the container the device)");
  }
  return fuse;
}

absl::Status MountFuse(const FuseMountOptions& options, const UniqueFd& fuse) {
  PBKFS_ASSIGN_OR_RETURN(const UniqueFd target, OpenPlainDirectory(options.target, O_PATH));
  const std::string data = absl::StrFormat(
      "fd=%d,rootmode=40700,user_id=0,group_id=0,default_permissions,allow_other", fuse.get());
  const std::string source = absl::StrCat("pbkfs:", options.mount_id);
  const std::string at = absl::StrCat("/proc/self/fd/", target.get());
  const unsigned long flags = MS_NOSUID | MS_NODEV | (options.read_only ? MS_RDONLY : 0);
  if (mount(source.c_str(), at.c_str(), "fuse.pbkfs", flags, data.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("mount at ", options.target));
  }
  SetReadAhead(options.target, options.read_ahead_kib);
  return absl::OkStatus();
}

absl::Status UnmountFuse(const std::string& target) {
  return Unmount(target, UMOUNT_NOFOLLOW, "unmount ");
}

absl::Status DetachFuse(const std::string& target) {
  return Unmount(target, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW, "detach ");
}

absl::Status AbortFuse(const std::string& target) {
  PBKFS_ASSIGN_OR_RETURN(const PlainParent parent, OpenPlainParent(target));
  // A mount that nobody uses would be unmounted by this. To be at its root asks nobody for
  // anything.
  const UniqueFd user(
      openat(parent.directory.get(), parent.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!user.valid()) return ErrnoError(errno, absl::StrCat("abort ", target));
  const absl::Status status = Unmount(target, MNT_FORCE | UMOUNT_NOFOLLOW, "abort ");
  return ErrnoOf(status) == EBUSY ? absl::OkStatus() : status;
}

}  // namespace pbkfs

// The mounts of the daemon on disk: one file each in <state-dir>/mounts, so that another worker, or
// the next daemon, makes the same mounts again. A file is replaced atomically and durable when Save
// returns. Operations on different mounts may run at the same time.
#ifndef PBKFS_SERVICE_MOUNT_REGISTRY_H_
#define PBKFS_SERVICE_MOUNT_REGISTRY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/unique_fd.h"
#include "pbkfs/v1/state.pb.h"

namespace pbkfs {

// Of this boot of the machine; "" where the kernel does not tell.
std::string BootId();

class MountRegistry {
 public:
  // Makes the directory where it is missing, and removes what a Save left whose process was killed.
  static absl::StatusOr<MountRegistry> Open(const std::string& state_directory);

  absl::Status Save(const v1::MountRecord& record) const;
  // Nothing where there is none.
  absl::Status Remove(const std::string& mount_id) const;
  absl::StatusOr<v1::MountRecord> Find(const std::string& mount_id) const;
  // Sorted by id. Files that can't be read are named in the log and left as they are.
  absl::StatusOr<std::vector<v1::MountRecord>> Load() const;

 private:
  MountRegistry(UniqueFd directory, std::string path)
      : directory_(std::move(directory)), path_(std::move(path)) {}
  absl::StatusOr<std::vector<std::string>> NamesWith(absl::string_view suffix) const;
  absl::Status RemoveUnfinished() const;
  absl::StatusOr<v1::MountRecord> Read(const std::string& name) const;

  UniqueFd directory_;
  std::string path_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_REGISTRY_H_

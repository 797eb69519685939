// A pg_probackup catalog (the directory given as -B): its instances and their backups, read-only.
//
// A Catalog and an Instance hold directory descriptors, so what they list is what was there when
// they were opened even if a path component is renamed. Everything that is read is untrusted:
// limits.h bounds it, and paths are opened beneath the descriptors with openat2(RESOLVE_BENEATH |
// RESOLVE_NO_SYMLINKS). Immutable after construction; safe from any thread.
#ifndef PBKFS_FS_CATALOG_CATALOG_H_
#define PBKFS_FS_CATALOG_CATALOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/backup_control.h"

namespace pbkfs {

inline constexpr char kBackupControlName[] = "backup.control";
inline constexpr char kFileListName[] = "backup_content.control";

// One backup directory of an instance, as listed.
struct Backup {
  std::string id;         // From start-time where there is one, else the directory's name.
  std::string directory;  // The directory's name, for file access.
  BackupControl
      control;          // Default-constructed (status UNKNOWN) where backup.control can't be read.
  std::string problem;  // Why backup.control could not be read or parsed; "" where it could.
  bool control_missing = false;
  // A FULL whose merge is finished but for its renaming (status MERGED) is listed, and served, as
  // the backup that it was merged into; this is then the id that its control file still has. The
  // directory of that backup must be gone, or be on its way out.
  std::string merged_from;
};

class Instance {
 public:
  const std::string& name() const { return name_; }
  // The absolute path of the instance's directory, for messages and defaults only.
  const std::string& path() const { return path_; }
  const InstanceConfig& config() const { return config_; }
  int directory_fd() const { return directory_.get(); }
  // All backups, oldest first. A damaged backup is listed with its problem; it never fails the
  // list.
  absl::StatusOr<std::vector<Backup>> ListBackups() const;

 private:
  friend class Catalog;
  std::string name_;
  std::string path_;
  UniqueFd directory_;
  InstanceConfig config_;
};

class Catalog {
 public:
  // `store` is an absolute path that holds `backups/`. NOT_FOUND (STORE_NOT_FOUND) where it does
  // not.
  static absl::StatusOr<std::unique_ptr<Catalog>> Open(const std::string& store);

  const std::string& store() const { return store_; }
  // The names of the instances, sorted.
  absl::StatusOr<std::vector<std::string>> ListInstances() const;
  // NOT_FOUND (INSTANCE_NOT_FOUND), with the instances that there are in the message.
  absl::StatusOr<std::shared_ptr<const Instance>> OpenInstance(absl::string_view name) const;

 private:
  std::string store_;
  UniqueFd backups_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_CATALOG_H_

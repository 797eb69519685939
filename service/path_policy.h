// Which paths a request may name. Clients are not trusted: stores, targets and diffs must lie under
// configured roots, apart from each other, and never inside a pbkfs mount, where the daemon would
// wait for itself.
//
// Paths are resolved component by component without touching anything below a pbkfs mount point.
// What a path leads to can change after the check; it protects from mistakes and from callers that
// don't own the directories on the way.
#ifndef PBKFS_SERVICE_PATH_POLICY_H_
#define PBKFS_SERVICE_PATH_POLICY_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/mutex.h"

namespace pbkfs {

// One line of /proc/self/mountinfo.
struct MountInfoEntry {
  int mount_id = 0;
  std::string device;  // "major:minor".
  std::string mount_point;
  std::string type;
  std::string source;
  bool IsPbkfs() const;
};
std::vector<MountInfoEntry> ParseMountInfo(absl::string_view text);
// Of this process, now.
absl::StatusOr<std::vector<MountInfoEntry>> ReadMountInfo();
// The mount of ours that is seen at `target`, if one is.
std::optional<MountInfoEntry> FindPbkfsAt(absl::string_view target);

// An absolute path without ".", "..", "//" and a final slash. INVALID_ARGUMENT (INVALID_FIELD,
// `field`) for an empty, relative or overlong one and for control characters. ".." is refused: what
// it means depends on symbolic links.
absl::StatusOr<std::string> CleanPath(absl::string_view field, absl::string_view path);

// Whether `path` is `directory` or lies below it. Both clean.
bool IsWithin(absl::string_view path, absl::string_view directory);

struct ResolvedPath {
  std::string path;            // Without symbolic links, as far as it exists.
  bool exists = false;         // All of it exists.
  bool parent_exists = false;  // All of it but perhaps the last component.
  std::string pbkfs_mount;     // The pbkfs mount point that it is or lies below; "" = none.
};
// `path` is clean.
absl::StatusOr<ResolvedPath> ResolvePath(const std::string& path,
                                         const std::vector<MountInfoEntry>& mounts);

// The paths of one mount, resolved.
struct MountPaths {
  std::string store;
  std::string target;
  std::string diff;
};

// Safe from any thread.
class PathPolicy {
 public:
  // The directories are resolved now; one that does not exist is kept as it is.
  static absl::StatusOr<std::unique_ptr<PathPolicy>> Create(
      const std::vector<std::string>& allowed_roots, const std::string& state_directory);

  // From now on these roots are allowed. Mounts that are there stay.
  absl::Status SetRoots(const std::vector<std::string>& allowed_roots) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string& state_directory() const { return state_directory_; }

  // Resolves the path of a request. INVALID_FIELD inside a pbkfs mount, PATH_NOT_ALLOWED outside of
  // the roots.
  absl::StatusOr<ResolvedPath> Resolve(absl::string_view field, const std::string& path) const;

 private:
  PathPolicy() = default;

  std::string state_directory_;
  mutable Mutex mutex_;
  std::vector<std::string> roots_ ABSL_GUARDED_BY(mutex_);
};

// INVALID_ARGUMENT (INVALID_FIELD) where `path`, resolved, lies in a pg_probackup catalog: nothing
// is ever written there, also where nobody mounts from it.
absl::Status CheckOutsideCatalogs(absl::string_view field, const std::string& path);

// INVALID_ARGUMENT (INVALID_FIELD) where two of the paths contain one another.
absl::Status CheckApart(const MountPaths& paths);
// The same between a new mount and one that exists. Both may have the same store; equal targets and
// equal diffs are the caller's to judge.
absl::Status CheckApartFrom(const MountPaths& paths, const MountPaths& other,
                            absl::string_view other_id);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_PATH_POLICY_H_

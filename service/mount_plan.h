// The one place that checks a mount request and fills in its defaults. Mount and validate_only both
// go through it, so that a dry run fails with the error with which the mount would fail.
#ifndef PBKFS_SERVICE_MOUNT_PLAN_H_
#define PBKFS_SERVICE_MOUNT_PLAN_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/io.h"
#include "fs/diff/diff_store.h"
#include "fs/image/image.h"
#include "pbkfs/v1/config.pb.h"
#include "pbkfs/v1/mount.pb.h"
#include "pbkfs/v1/state.pb.h"
#include "service/catalog_lock.h"
#include "service/clone_settings.h"
#include "service/default_config.h"
#include "service/image_registry.h"
#include "service/path_policy.h"

namespace pbkfs {

// "[a-z][a-z0-9-]{0,62}" from the last component of a path.
std::string MountIdFromTarget(absl::string_view target);

// INVALID_ARGUMENT (INVALID_FIELD) unless `id` is such a name.
absl::Status CheckMountId(const std::string& id);

// Fills in what needs no look at the disk (mount_id, diff_dir, the enums, and `defaults`, which are
// complete) and checks the fields one by one. INVALID_ARGUMENT (INVALID_FIELD).
absl::StatusOr<v1::MountRequest> NormalizeRequest(const v1::MountRequest& request,
                                                  const std::string& state_directory,
                                                  const v1::MountDefaults& defaults);

// `again`, which is `original` normalized, with what `original` leaves to the defaults as `first`
// has it.
v1::MountRequest WithDefaultsOf(const v1::MountRequest& first, const v1::MountRequest& original,
                                v1::MountRequest again);

// The fields in which `again` asks for another mount than the one that `first` made, both
// normalized, "settings, owner"; "" = it is the same. `backup_id` is what "latest" became.
std::string DifferenceOf(const v1::MountRequest& first, const v1::MountRequest& again,
                         const std::string& backup_id);

// The paths of a normalized request, resolved, allowed, apart from each other.
struct RequestPaths {
  MountPaths paths;
  bool target_exists = false;
};
absl::StatusOr<RequestPaths> ResolvePaths(const v1::MountRequest& request,
                                          const PathPolicy& policy);

// A mount that passed all checks.
struct MountPlan {
  v1::MountRequest request;  // Normalized.
  RequestPaths where;
  bool diff_is_new = false;  // The diff directory is absent, empty, or what a mount left that was
                             // interrupted before it was made.
  bool diff_directory_is_empty = false;  // It is there, and nothing was ever made in it.
  bool made_again = false;  // An earlier daemon had the mount: its record outlives a failure …
  std::optional<v1::MountRecord> replaced;   // … and so does that of one with another diff.
  std::optional<SettingList> diff_settings;  // Those of a diff that is prepared …
  bool diff_has_links = false;               // … and whether its tablespaces are behind links.
  std::shared_ptr<const Image> image;
  DiffIdentity identity;
  ServerConfig config;
  std::optional<v1::Recovery> recovery;        // With archived WAL; normalized.
  SettingList settings;                        // What a new diff gets.
  std::vector<DefaultFile> default_files;      // Likewise.
  std::shared_ptr<const LowerTree> side_tree;  // Shown as .pbkfs; null = none.
  std::unique_ptr<CatalogLock> lock;           // Null where the catalog is not locked.
  v1::Mount mount;                             // As it will be, with warnings; state unset.
};

// What a request is told when its diff can't be opened, in the plan and later.
absl::Status DiffRefused(absl::Status status, const std::string& diff);

// Opens the catalog and looks at target and diff. Changes nothing.
absl::StatusOr<MountPlan> PlanMount(const v1::MountRequest& request, const RequestPaths& where,
                                    ImageRegistry& images, Io& io);

// The plan of a mount that was made before: what `record` says, with its image opened again. Never
// looks at the target, which may be ours.
absl::StatusOr<MountPlan> PlanAgain(const v1::MountRecord& record, ImageRegistry& images);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_PLAN_H_

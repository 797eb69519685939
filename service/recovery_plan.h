// Recovery of a mount with archived WAL: which backup it begins with, whether it gets where it is
// to go, and what the WAL on the way would do.
#ifndef PBKFS_SERVICE_RECOVERY_PLAN_H_
#define PBKFS_SERVICE_RECOVERY_PLAN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/catalog/wal_archive.h"
#include "fs/image/image.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/image_registry.h"
#include "service/mount_plan.h"

namespace pbkfs {

struct ChosenBackup {
  v1::MountRequest request;  // With the backup's id.
  std::string why;           // "" where there was nothing to choose.
};

// Where `request` (normalized) has a recovery target and leaves the backup open: the newest that
// ends before the target; for a diff that exists, its backup. OUT_OF_RANGE (TARGET_UNREACHABLE)
// where none does. Other requests come back as they are.
absl::StatusOr<ChosenBackup> ChooseBackup(const v1::MountRequest& request,
                                          const RequestPaths& where, ImageRegistry& images, Io& io);

// The archive of the image's instance; null where the store has none.
absl::StatusOr<std::shared_ptr<const WalArchive>> OpenWalArchive(const Image& image,
                                                                 const std::string& store,
                                                                 const ImageRegistry& images);

// Decides on the recovery of `plan` (image and diff are known), and reads the WAL that it will
// replay. Sets plan->recovery, and in plan->mount the recovery and where it ends.
//   OUT_OF_RANGE TARGET_UNREACHABLE            the target lies before the backup's end, behind the
//                                              archive's, or WAL is missing on the way
//   FAILED_PRECONDITION TABLESPACE_IN_WAL      unless the request allows it
//   FAILED_PRECONDITION DIFF_BOUND_ELSEWHERE   the diff was made for another recovery
//   DATA_LOSS CATALOG_CORRUPT                  a segment on the way is damaged
absl::Status PlanRecovery(MountPlan* plan, const WalArchive* archive,
                          std::vector<std::string>* warnings);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RECOVERY_PLAN_H_

// A plan whose backups are locked in the catalog, as the request wants it.
#ifndef PBKFS_SERVICE_LOCK_PLAN_H_
#define PBKFS_SERVICE_LOCK_PLAN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/catalog_lock.h"
#include "service/image_registry.h"
#include "service/mount_plan.h"

namespace pbkfs {

// Locks the chain of the request's backup, then plans: what the plan read was read under the
// locks. With AUTO the mount goes on without locks where they can't be had, and says so in a
// warning; with REQUIRED that is FAILED_PRECONDITION (CATALOG_LOCK_FAILED). With validate_only it
// is only looked at whether they could be had.
absl::StatusOr<MountPlan> LockAndPlan(const v1::MountRequest& request, const RequestPaths& where,
                                      ImageRegistry& images, CatalogLocker& locker, Io& io);

// The locks for a mount that went on: its process died, and its locks with it.
absl::StatusOr<std::unique_ptr<CatalogLock>> LockAgain(const MountPlan& plan,
                                                       CatalogLocker& locker);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOCK_PLAN_H_

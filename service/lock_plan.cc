#include "service/lock_plan.h"

#include <sys/stat.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/catalog.h"
#include "fs/catalog/chain.h"
#include "service/limits.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

// Of the first PID namespace (PROC_PID_INIT_INO).
constexpr ino_t kFirstPidNamespace = 0xEFFFFFFC;

// The directories of a chain, oldest first, by its control files alone.
struct ChainDirectories {
  std::vector<UniqueFd> descriptors;
  std::vector<LockableDirectory> directories;
};

absl::StatusOr<ChainDirectories> FindDirectories(const v1::MountRequest& request,
                                                 const RequestPaths& where) {
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, Catalog::Open(where.paths.store));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                         catalog->OpenInstance(request.instance()));
  PBKFS_ASSIGN_OR_RETURN(const std::vector<Backup> backups, instance->ListBackups());
  PBKFS_ASSIGN_OR_RETURN(const Backup* tip,
                         FindBackup(backups, request.backup_id(), request.force()));
  PBKFS_ASSIGN_OR_RETURN(const std::vector<const Backup*> chain,
                         FindChain(backups, *tip, request.force()));
  ChainDirectories found;
  for (const Backup* backup : chain) {
    PBKFS_ASSIGN_OR_RETURN(UniqueFd fd,
                           OpenDirectoryBeneath(instance->directory_fd(), backup->directory));
    found.directories.push_back({fd.get(), absl::StrCat(instance->path(), "/", backup->directory)});
    found.descriptors.push_back(std::move(fd));
  }
  return found;
}

std::vector<LockableDirectory> DirectoriesOf(const Image& image) {
  std::vector<LockableDirectory> directories;
  for (const auto& member : image.chain().members) {
    directories.push_back({member->directory_fd.get(), member->path});
  }
  return directories;
}

bool SameDirectories(const std::vector<LockableDirectory>& a,
                     const std::vector<LockableDirectory>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    struct stat x;
    struct stat y;
    if (fstat(a[i].fd, &x) != 0 || fstat(b[i].fd, &y) != 0 || x.st_dev != y.st_dev ||
        x.st_ino != y.st_ino) {
      return false;
    }
  }
  return true;
}

void WarnUnlocked(const absl::Status& cause, MountPlan* plan) {
  plan->mount.add_warnings(
      ToUtf8(absl::StrCat("the catalog is not locked (", cause.message(),
                          "): do not merge or delete backups of the chain while it is mounted")));
}

void WarnNamespace(MountPlan* plan) {
  struct stat st;
  if (stat("/proc/self/ns/pid", &st) != 0 || st.st_ino == kFirstPidNamespace) return;
  plan->mount.add_warnings(
      "pbkfsd runs in a PID namespace of its own: only a pg_probackup in the same one honours the "
      "lock of the catalog");
}

absl::Status Required(const absl::Status& cause) {
  return WithField(
      WithReason(absl::FailedPreconditionError(absl::StrCat(
                     "catalog_lock: the catalog can't be locked: ", cause.message(),
                     "; use AUTO to mount without the lock, or repair what is in the way")),
                 reason::kCatalogLockFailed),
      "catalog_lock");
}

}  // namespace

absl::StatusOr<MountPlan> LockAndPlan(const v1::MountRequest& request, const RequestPaths& where,
                                      ImageRegistry& images, CatalogLocker& locker, Io& io) {
  if (request.catalog_lock() == v1::CATALOG_LOCK_OFF) return PlanMount(request, where, images, io);
  for (int attempt = 0; attempt < kMaxChainLockAttempts; ++attempt) {
    PBKFS_ASSIGN_OR_RETURN(const ChainDirectories found, FindDirectories(request, where));
    std::unique_ptr<CatalogLock> lock;
    absl::Status locked;
    if (request.validate_only()) {
      locked = locker.Predict(found.directories);
    } else {
      absl::StatusOr<std::unique_ptr<CatalogLock>> taken = locker.Lock(found.directories);
      locked = taken.status();
      if (taken.ok()) lock = *std::move(taken);
    }
    if (!locked.ok() && request.catalog_lock() == v1::CATALOG_LOCK_REQUIRED) {
      return Required(locked);
    }
    PBKFS_ASSIGN_OR_RETURN(MountPlan plan, PlanMount(request, where, images, io));
    if (!locked.ok()) {
      WarnUnlocked(locked, &plan);
      return plan;
    }
    // Between the look at the catalog and the lock, the chain may have been merged, or a newer
    // backup may have become the latest.
    if (!SameDirectories(found.directories, DirectoriesOf(*plan.image))) continue;
    plan.lock = std::move(lock);
    plan.mount.set_catalog_locked(true);
    WarnNamespace(&plan);
    return plan;
  }
  return absl::UnavailableError(
      "the chain of the backup changed each time it was to be locked; try again when pg_probackup "
      "is done with it");
}

absl::StatusOr<std::unique_ptr<CatalogLock>> LockAgain(const MountPlan& plan,
                                                       CatalogLocker& locker) {
  return locker.Lock(DirectoriesOf(*plan.image));
}

}  // namespace pbkfs

// The lock files of pg_probackup in a backup's directory (format document, section 11): how a
// process registers itself in `backup_ro.pid` as a reader whom delete, merge and retention respect.
//
// The holder is known by its process id, so the process that registers must live as long as it
// reads. What changes files of the catalog is called by the lock holder alone
// (service/lock_holder), which runs as the catalog's owner: a file that another user owns would
// make the owner's own commands fail. Not thread-safe: the protocol lets a process enter twice.
#ifndef PBKFS_FS_CATALOG_BACKUP_LOCK_H_
#define PBKFS_FS_CATALOG_BACKUP_LOCK_H_

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace pbkfs {

// Registers `self`, a live process, as a shared holder of the backup behind the descriptor
// `directory`. Waits no longer than `wait` for whoever holds the exclusive lock. Errors are
// FAILED_PRECONDITION (CATALOG_LOCK_FAILED) with the errno where there was one; nothing is left
// behind then.
absl::Status LockBackupShared(int directory, pid_t self, absl::Duration wait);

// Waits as LockBackupShared does until nobody holds the exclusive lock, and changes nothing. May be
// called by anybody who may read the directory.
absl::Status WaitForExclusiveHolder(int directory, absl::Duration wait);

// Takes `self` off the list again.
absl::Status UnlockBackupShared(int directory, pid_t self, absl::Duration wait);

// Removes what process `dead`, which is gone, left behind. `self` is the caller.
absl::Status RemoveDeadHolder(int directory, pid_t self, pid_t dead, absl::Duration wait);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_BACKUP_LOCK_H_

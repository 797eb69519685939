// The process behind pg_probackup's locks. One for each owner of catalogs: pg_probackup checks with
// kill(pid, 0) whether a holder is alive, which only works for processes of the same user.
//
// It is this executable, started anew with kLockHolderFlag; it becomes the owner, takes and gives
// back locks as the daemon tells it, and when the daemon closes the socket or dies it gives back
// all that it has and ends.
#ifndef PBKFS_SERVICE_LOCK_HOLDER_H_
#define PBKFS_SERVICE_LOCK_HOLDER_H_

#include <string>
#include <vector>

namespace pbkfs {

inline constexpr char kLockHolderFlag[] = "--lock-holder";

// `arguments` are uid and gid. Returns the exit code.
int RunLockHolder(const std::vector<std::string>& arguments);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOCK_HOLDER_H_

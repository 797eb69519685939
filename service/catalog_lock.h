// pg_probackup's shared lock on the backups that are mounted, so that delete, merge and retention
// leave them alone. The locks are held by small processes, one for each owner of catalogs
// (lock_holder.h); this is the daemon's side of them.
//
// A backup that several mounts use is locked once. Which locks are held stands in a file of the
// state directory, so that a daemon that was killed together with its holders cleans up at its next
// start. Safe from any thread.
#ifndef PBKFS_SERVICE_CATALOG_LOCK_H_
#define PBKFS_SERVICE_CATALOG_LOCK_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "service/limits.h"

namespace pbkfs {

struct CatalogLockerOptions {
  // What is executed as the lock holder, without uid and gid.
  std::string program = "/proc/self/exe";
  std::string record_path;  // "" = none.
  absl::Duration wait = kCatalogLockWait;
};

// A directory of a backup, with a descriptor that outlives the call it is given to.
struct LockableDirectory {
  int fd = -1;
  std::string path;  // For messages, and to clean up later.
};

class LockHolderProcess;
class CatalogLocker;

// Shared locks on the backups of a chain, given back by the destructor.
class CatalogLock {
 public:
  ~CatalogLock();
  CatalogLock(const CatalogLock&) = delete;
  CatalogLock& operator=(const CatalogLock&) = delete;

  // Whether the processes that hold the locks are alive.
  bool held() const;

 private:
  friend class CatalogLocker;
  CatalogLock() = default;

  struct Part {
    std::shared_ptr<LockHolderProcess> holder;
    std::pair<uint64_t, uint64_t> directory;  // Device and inode.
    std::string record;
  };
  CatalogLocker* locker_ = nullptr;
  std::vector<Part> parts_;
};

class CatalogLocker {
 public:
  // Outlives its locks.
  explicit CatalogLocker(CatalogLockerOptions options);
  ~CatalogLocker();

  // Locks all, in order, or none. FAILED_PRECONDITION (CATALOG_LOCK_FAILED) tells why not; waits
  // for whoever holds a backup exclusively no longer than options.wait in total.
  absl::StatusOr<std::unique_ptr<CatalogLock>> Lock(
      const std::vector<LockableDirectory>& directories);

  // Whether Lock would work, as far as can be told without changing anything. Waits as Lock does.
  absl::Status Predict(const std::vector<LockableDirectory>& directories) const;

  // Removes from catalogs what a former run left there, in the background: holders of that run may
  // still be about to end. Lock waits for it. Call it once, before the first Lock.
  void StartCleaningUp();

 private:
  friend class CatalogLock;

  absl::StatusOr<std::shared_ptr<LockHolderProcess>> HolderFor(uid_t uid, gid_t gid);
  absl::Status LockOne(const LockableDirectory& directory, absl::Time deadline, CatalogLock* lock);
  void Unlock(const CatalogLock::Part& part);
  void Forget(const std::string& line);
  void WriteRecord() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CleanUpLeftovers();
  // False where it is to be tried again.
  bool CleanUp(const std::string& line);
  void WaitUntilClean() ABSL_LOCKS_EXCLUDED(mutex_);

  const CatalogLockerOptions options_;
  Mutex mutex_;
  // By uid. A holder ends with the last reference to it.
  std::map<uid_t, std::weak_ptr<LockHolderProcess>> holders_ ABSL_GUARDED_BY(mutex_);
  // Lines of the record, one for each directory that is locked or about to be.
  std::multiset<std::string> record_ ABSL_GUARDED_BY(mutex_);
  bool cleaning_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar cleaned_;
  std::thread cleaner_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CATALOG_LOCK_H_

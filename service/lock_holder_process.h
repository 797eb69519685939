// A running lock holder, seen from the daemon: started by the constructor's caller, ended by the
// destructor, which waits until it has given back its locks.
//
// Safe from any thread; calls exclude each other, since the holder does one thing at a time.
#ifndef PBKFS_SERVICE_LOCK_HOLDER_PROCESS_H_
#define PBKFS_SERVICE_LOCK_HOLDER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "service/lock_protocol.h"

namespace pbkfs {

class LockHolderProcess {
 public:
  using DirectoryKey = std::pair<uint64_t, uint64_t>;  // Device and inode.

  static absl::StatusOr<std::shared_ptr<LockHolderProcess>> Start(const std::string& program,
                                                                  uid_t uid, gid_t gid);
  ~LockHolderProcess();

  pid_t pid() const { return pid_; }
  // Field 22 of /proc/PID/stat: tells this process from a later one with the same number.
  const std::string& start_time() const { return start_time_; }
  bool alive() const;

  // Locks a directory, or counts one user more of it.
  absl::Status Lock(DirectoryKey key, int directory, absl::Duration wait);
  void Unlock(DirectoryKey key);
  absl::Status CleanUp(int directory, pid_t dead, absl::Duration wait);

 private:
  LockHolderProcess(pid_t pid, UniqueFd socket);
  absl::Status Call(LockRequest request, int directory, absl::Duration wait)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const pid_t pid_;
  const std::string start_time_;
  const UniqueFd socket_;
  Mutex mutex_;
  std::map<DirectoryKey, int> users_ ABSL_GUARDED_BY(mutex_);
};

// "" where there is no such process.
std::string ProcessStartTime(pid_t pid);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOCK_HOLDER_PROCESS_H_

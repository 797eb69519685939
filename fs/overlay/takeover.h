// A session that goes on in another process, and the gate that its fsyncs wait at.
#ifndef PBKFS_FS_OVERLAY_TAKEOVER_H_
#define PBKFS_FS_OVERLAY_TAKEOVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"

namespace pbkfs {

// What a new process needs to go on with the session of one that died.
struct Takeover {
  uint64_t session_nonce = 0;
  // Inodes with open handles, once for each handle.
  std::vector<uint64_t> open_inodes;
  // The diff's directory, opened before the first write of the session and used for nothing else:
  // the kernel tells it about every write-out that failed since.
  std::shared_ptr<IoDir> witness;
  // An earlier process of the session found a failure that its log could not keep.
  bool sync_failed = false;
};

// Write-outs that failed were told to descriptors that died with their process. After a takeover
// the whole file system is synced in the background, through a descriptor that has seen all of it;
// what promises durability waits for that, and fails for good if it fails.
class TakeoverGate {
 public:
  // `failed` runs once if something was lost, in the gate's thread.
  TakeoverGate(std::shared_ptr<IoDir> witness, bool failed_before, std::function<void()> failed);
  ~TakeoverGate();

  absl::Status Wait() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool answered() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  mutable CondVar done_changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_TAKEOVER_H_

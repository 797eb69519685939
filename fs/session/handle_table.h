// The open files and directories of one FUSE connection, kept in its SessionMemory so that they
// outlive the process.
//
// A handle is the number of the request that made it. Opening and releasing are therefore set
// operations: a request that is sent again after a process died changes nothing. An entry is
// marked `replied` before the answer is written. After a takeover an entry that is neither replied
// nor claimed by a request that was sent again belongs to a client that was killed in between: no
// RELEASE will come for it. Thread-safe.
#ifndef PBKFS_FS_SESSION_HANDLE_TABLE_H_
#define PBKFS_FS_SESSION_HANDLE_TABLE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "fs/base/mutex.h"
#include "fs/session/session_memory.h"

namespace pbkfs {

class HandleTable {
 public:
  // Takes what is in `entries`, which outlives the table.
  explicit HandleTable(absl::Span<HandleEntry> entries);

  enum class Added { kNew, kKnown, kFull };
  Added Add(uint64_t handle, uint64_t ino) ABSL_LOCKS_EXCLUDED(mutex_);
  // The answer to the request that made it is about to be written.
  void MarkReplied(uint64_t handle) ABSL_LOCKS_EXCLUDED(mutex_);
  // The inode of the handle; nothing where it is not known.
  std::optional<uint64_t> Remove(uint64_t handle) ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes what was taken over without an answer and nobody asked for since; returns the inodes.
  std::vector<uint64_t> DropUnclaimed() ABSL_LOCKS_EXCLUDED(mutex_);
  // The inodes of all handles, one for each handle.
  std::vector<uint64_t> Inodes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Place {
    uint32_t index = 0;
    bool claimed = false;
  };
  void Clear(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const absl::Span<HandleEntry> entries_;
  mutable Mutex mutex_;
  absl::flat_hash_map<uint64_t, Place> places_ ABSL_GUARDED_BY(mutex_);
  // Free entries below `used_`, the last one first: the table stays dense.
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mutex_);
  uint32_t used_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_HANDLE_TABLE_H_

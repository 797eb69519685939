// The append side of a diff's log: appends records in order, makes them durable in groups, and
// keeps a physical reserve behind the end so that unlink, shrink and fsync work on a full disk.
// Reading a log is recovery.h's work.
//
// Thread-safe. Append and Sync may be called from any thread; no lock is held while the disk works
// but the append lock during one pwrite into the page cache.
#ifndef PBKFS_FS_DIFF_META_LOG_H_
#define PBKFS_FS_DIFF_META_LOG_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"
#include "fs/diff/records.h"

namespace pbkfs {

// Where a log that was recovered or written anew stands.
struct LogPosition {
  int64_t end = 0;    // Bytes; the next record goes here.
  uint64_t seed = 0;  // Of the current epoch.
  uint64_t next_sequence = 1;
  int64_t durable_to = 0;  // Bytes that are known to be durable.
};

// A log file that takes an older one's place.
struct NewLog {
  std::shared_ptr<IoFile> file;
  LogPosition position;
  int64_t reserved_end = 0;  // How far space is allocated.
};

class MetaLog {
 public:
  explicit MetaLog(NewLog log);

  // Appends one record and returns its sequence. Nothing of a record that failed stays in the log;
  // when even that can't be had, the log is closed and every later call is EIO. Records that make
  // the diff grow get ENOSPC when only the emergency part of the reserve is left.
  absl::StatusOr<uint64_t> Append(const Record& record) ABSL_LOCKS_EXCLUDED(append_mutex_);

  // Begins a new epoch with an Open record and makes it durable before anything can follow it.
  absl::Status OpenEpoch(OpenRecord record) ABSL_LOCKS_EXCLUDED(append_mutex_);

  // Returns when every record up to `through` is durable. Callers share an fdatasync only if it
  // began after their record was appended. After one failure every call is EIO, until the log has
  // another file.
  absl::Status Sync(uint64_t through) ABSL_LOCKS_EXCLUDED(append_mutex_, sync_mutex_);

  // The file now, and where it ends.
  std::shared_ptr<IoFile> file() const ABSL_LOCKS_EXCLUDED(append_mutex_);
  // Puts another file in the old one's place. `finish` gets the end of the old file, makes
  // everything up to it durable in the new one, gives it its name, and returns it; nothing is
  // appended meanwhile. Its second argument tells whether the name was given: a failure after that
  // closes the log.
  using Finish = absl::FunctionRef<absl::StatusOr<NewLog>(int64_t end, bool* renamed)>;
  absl::Status Replace(Finish finish) ABSL_LOCKS_EXCLUDED(append_mutex_, sync_mutex_);
  // Whether a sync failed, so that only another file helps.
  bool SyncFailed() const ABSL_LOCKS_EXCLUDED(sync_mutex_);

  uint64_t last_sequence() const { return last_sequence_.load(std::memory_order_acquire); }
  bool IsDurable(uint64_t sequence) const {
    return sequence <= durable_sequence_.load(std::memory_order_acquire);
  }
  int64_t bytes() const { return end_bytes_.load(std::memory_order_relaxed); }
  // Why mutations and FSYNC fail now; OK while the log is in order.
  absl::Status health() const ABSL_LOCKS_EXCLUDED(append_mutex_, sync_mutex_);

 private:
  absl::StatusOr<uint64_t> AppendLocked(const Record& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  absl::Status Reserve(int64_t record_bytes, bool releases_space)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);

  mutable Mutex append_mutex_;
  std::shared_ptr<IoFile> file_ ABSL_GUARDED_BY(append_mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(append_mutex_) = 0;  // Counts the files.
  LogPosition position_ ABSL_GUARDED_BY(append_mutex_);
  int64_t reserved_end_ ABSL_GUARDED_BY(append_mutex_) = 0;
  absl::Status closed_ ABSL_GUARDED_BY(append_mutex_);

  mutable Mutex sync_mutex_ ABSL_ACQUIRED_BEFORE(append_mutex_);
  CondVar sync_done_;
  bool syncing_ ABSL_GUARDED_BY(sync_mutex_) = false;
  absl::Status sync_failed_ ABSL_GUARDED_BY(sync_mutex_);
  uint64_t sync_failed_in_ ABSL_GUARDED_BY(sync_mutex_) = 0;  // Generation of the file.

  std::atomic<uint64_t> last_sequence_;
  std::atomic<uint64_t> durable_sequence_;
  std::atomic<int64_t> end_bytes_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_META_LOG_H_

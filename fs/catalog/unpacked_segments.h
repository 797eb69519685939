// Compressed WAL segments, unpacked: each into a file without a name in a directory of the state,
// so that memory stays small whatever the size of segments. A segment is unpacked and checked to
// its last byte before the first one is given out, once for all who read it at the same time.
//
// Thread-safe. A segment lives as long as somebody holds it; some that nobody holds are kept.
#ifndef PBKFS_FS_CATALOG_UNPACKED_SEGMENTS_H_
#define PBKFS_FS_CATALOG_UNPACKED_SEGMENTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/beneath.h"

namespace pbkfs {

class UnpackedSegment {
 public:
  // Of the whole segment; only for reading. Valid once Get has returned the segment.
  int fd() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return fd_.get(); }

 private:
  friend class UnpackedSegments;
  Mutex mutex_;  // Held by who unpacks; never together with the table's.
  UniqueFd fd_ ABSL_GUARDED_BY(mutex_);
};

class UnpackedSegments {
 public:
  // Files are made in `directory`, which must exist.
  explicit UnpackedSegments(std::string directory) : directory_(std::move(directory)) {}

  // What `file` (gzip, one member) unpacks to. It must be `bytes` long; where it is `partial`, it
  // may be shorter, and zeros follow. `path` is for messages.
  //   DATA_LOSS (CATALOG_CORRUPT)  damage, or another length
  //   RESOURCE_EXHAUSTED           too much is read at the same time
  absl::StatusOr<std::shared_ptr<const UnpackedSegment>> Get(const OpenedFile& file,
                                                             absl::string_view path, int64_t bytes,
                                                             bool partial)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Of all that are kept.
  int64_t Bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::shared_ptr<UnpackedSegment> segment;
    int64_t bytes = 0;
    uint64_t last_use = 0;
  };

  absl::StatusOr<std::shared_ptr<UnpackedSegment>> Reserve(const FileIdentity& identity,
                                                           int64_t bytes);
  void DropIdle(int64_t most_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After a failure: the next one tries anew.
  void Forget(const FileIdentity& identity, const UnpackedSegment* segment);
  absl::StatusOr<UniqueFd> UnpackToFile(const OpenedFile& file, absl::string_view path,
                                        int64_t bytes, bool partial) const;
  absl::StatusOr<UniqueFd> MakeFile() const;

  const std::string directory_;
  mutable Mutex mutex_;
  absl::flat_hash_map<FileIdentity, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t clock_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_UNPACKED_SEGMENTS_H_

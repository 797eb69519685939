// Scans of stored data files, kept on disk: what a scan of one file found, so that the next daemon
// does not have to read the file again (FORMAT.md beside this file describes the bytes).
//
// An entry is valid for exactly one stored file: its key names the cluster, the backup, the path,
// the identity of the stored file and what the list says of it. Whatever does not match its key, or
// fails its CRC, is as good as not there. The directory is a cache: losing it costs time only.
//
// Thread-safe. One process at a time uses a directory.
#ifndef PBKFS_FS_IMAGE_INDEX_STORE_H_
#define PBKFS_FS_IMAGE_INDEX_STORE_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "fs/image/header_map.h"

namespace pbkfs {

struct IndexStoreKey {
  std::string name;      // What the entry is about; one entry is kept for a name.
  std::string validity;  // What must be equal for the entry to be of use.
};

class IndexStore {
 public:
  // `directory` is made where it is missing (its parent must exist); "" makes a store that keeps
  // nothing, and so does a directory that can't be used, which is logged.
  IndexStore(const std::string& directory, int64_t budget_bytes);

  // Nothing where there is no valid entry.
  std::optional<StoredBlocks> Find(const IndexStoreKey& key);
  // Replaces the entry, and drops the oldest entries beyond the budget. Failures are logged once.
  void Put(const IndexStoreKey& key, const StoredBlocks& blocks);

  int64_t Bytes() const;

 private:
  absl::Status Write(const std::string& name, absl::string_view bytes);
  void Shrink() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const int64_t budget_bytes_;
  UniqueFd directory_;
  std::atomic<uint64_t> next_temporary_{0};
  mutable Mutex mutex_;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool warned_ ABSL_GUARDED_BY(mutex_) = false;
};

// The bytes of an entry, for the store and its tests.
std::string EncodeIndexEntry(const IndexStoreKey& key, const StoredBlocks& blocks);
std::optional<StoredBlocks> DecodeIndexEntry(absl::Span<const uint8_t> bytes,
                                             const IndexStoreKey& key);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_INDEX_STORE_H_

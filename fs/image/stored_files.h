// The stored files of chain members that are open for reading: a bounded number for all images, the
// least recently used is closed first (once its last reader is done).
//
// A file is handed out only after its length was compared with the list, and after the member's
// control file was found unchanged with the file already open: bytes that a merge or a deletion put
// in its place are never served.
#ifndef PBKFS_FS_IMAGE_STORED_FILES_H_
#define PBKFS_FS_IMAGE_STORED_FILES_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/chain.h"

namespace pbkfs {

struct StoredFile {
  UniqueFd fd;
  FileIdentity identity;
  // Whether it passed the checks that a file needs once after it was opened.
  mutable std::atomic<bool> verified{false};
};

class StoredFiles {
 public:
  using FilePtr = std::shared_ptr<const StoredFile>;
  explicit StoredFiles(size_t max_open) : max_open_(max_open) {}

  // The file of `entry` in member `member`; null for the member's page_header_map. The entry must
  // have stored bytes.
  absl::StatusOr<FilePtr> Open(uint64_t image_id, const Chain& chain, size_t member,
                               const FileEntry* entry);
  // Closes what belongs to an image.
  void Forget(uint64_t image_id);
  size_t OpenCount() const;

 private:
  // Image, member, entry.
  using Key = std::pair<std::pair<uint64_t, size_t>, const FileEntry*>;
  struct Slot {
    Key key;
    FilePtr file;
  };

  const size_t max_open_;
  mutable Mutex mutex_;
  std::list<Slot> recency_ ABSL_GUARDED_BY(mutex_);  // Most recent first.
  absl::flat_hash_map<Key, std::list<Slot>::iterator> slots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_STORED_FILES_H_

// What the open files of one image hold on to: its chain, the shared caches, and which of its
// whole-file copies passed their check. Thread-safe.
#ifndef PBKFS_FS_IMAGE_IMAGE_CORE_H_
#define PBKFS_FS_IMAGE_IMAGE_CORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"
#include "fs/catalog/chain.h"
#include "fs/image/image_caches.h"
#include "fs/image/page_index.h"

namespace pbkfs {

class ImageCore {
 public:
  ImageCore(std::shared_ptr<const Chain> chain, std::shared_ptr<SharedCaches> caches);
  ~ImageCore();

  const Chain& chain() const { return *chain_; }
  SharedCaches& caches() const { return *caches_; }
  uint64_t id() const { return id_; }

  // The index of a page stream, built at its first use.
  absl::StatusOr<std::shared_ptr<const PageIndex>> IndexOf(LowerIno ino,
                                                           const FileEntry& tip_entry) const;
  // What one member stores of a page stream: from page_header_map or, where that is missing or
  // damaged, from a scan of the stored file or the result of an earlier one.
  absl::StatusOr<StoredBlocks> BlocksOf(size_t member, const FileEntry& entry) const;
  // A stored page stream of a member, open.
  absl::StatusOr<StoredFiles::FilePtr> OpenStream(size_t member, const FileEntry& entry) const;
  // A whole-file copy, open, after its content passed the check of the list.
  absl::StatusOr<StoredFiles::FilePtr> OpenCopy(size_t member, const FileEntry& entry) const;
  // "file 'path' of backup ID", for messages.
  std::string Describe(size_t member, absl::string_view path) const;

 private:
  absl::StatusOr<StoredBlocks> ScanOf(size_t member, const FileEntry& entry) const;
  // Logs that a scan replaces the map, once a file.
  void WarnAboutMap(size_t member, const FileEntry& entry, const absl::Status& cause) const;

  const std::shared_ptr<const Chain> chain_;
  const std::shared_ptr<SharedCaches> caches_;
  const uint64_t id_;
  mutable Mutex mutex_;
  // Survives the closing of the file: the same bytes are not read twice for it.
  mutable absl::flat_hash_map<const FileEntry*, FileIdentity> verified_ ABSL_GUARDED_BY(mutex_);
  // Hashes of the identities of page streams that were opened.
  mutable absl::flat_hash_map<const FileEntry*, uint64_t> streams_ ABSL_GUARDED_BY(mutex_);
  // Files whose map is known to be bad.
  mutable absl::flat_hash_set<const FileEntry*> warned_ ABSL_GUARDED_BY(mutex_);
};

// Whether `bytes`, the begin of a pg_control, holds the control struct whose CRC field is `crc`,
// and that CRC is right.
bool IsControlStructWithCrc(absl::Span<const uint8_t> bytes, uint32_t crc);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_CORE_H_

// Files that are stored as whole copies, and empty files.
#ifndef PBKFS_FS_IMAGE_PLAIN_FILE_H_
#define PBKFS_FS_IMAGE_PLAIN_FILE_H_

#include <cstdint>
#include <memory>

#include "fs/base/lower_tree.h"
#include "fs/image/image_core.h"

namespace pbkfs {

// A copy in one member of the chain. Its content is checked before its first byte is served: unlike
// pages, its parts carry no checks of their own. Thread-safe.
class PlainImageFile final : public LowerFile {
 public:
  // Opens and checks the copy. `entry`, with a size above 0, is that of the member that stores it.
  static absl::StatusOr<std::shared_ptr<const LowerFile>> Open(
      std::shared_ptr<const ImageCore> core, size_t member, const FileEntry& entry);

  PlainImageFile(std::shared_ptr<const ImageCore> core, size_t member, const FileEntry& entry);
  int64_t Size() const override { return entry_.size; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats* stats) const override;

 private:
  absl::Status Failed(IoStats* stats, const absl::Status& cause) const;

  const std::shared_ptr<const ImageCore> core_;
  const size_t member_;
  const FileEntry& entry_;
};

// The file without bytes; nothing in the catalog is opened for it.
std::shared_ptr<const LowerFile> EmptyImageFile();

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PLAIN_FILE_H_

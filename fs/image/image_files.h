// The files of one tree of an image, PGDATA or its external directories: their names, their
// lengths, and the opening of what stores their bytes. Immutable after Resolve; thread-safe.
#ifndef PBKFS_FS_IMAGE_IMAGE_FILES_H_
#define PBKFS_FS_IMAGE_IMAGE_FILES_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"
#include "fs/image/image_core.h"
#include "fs/image/image_tree.h"

namespace pbkfs {

class ImageFiles {
 public:
  explicit ImageFiles(std::shared_ptr<const ImageCore> core) : core_(std::move(core)) {}

  // Finds the length of each node of `tree`, and who stores the whole-file copies. Called once,
  // before the files are shared.
  absl::Status Resolve(ImageTree tree);

  const ImageTree& tree() const { return tree_; }
  // As LowerTree has them.
  std::optional<LowerNode> Node(LowerIno ino) const;
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const;

 private:
  absl::Status ResolveNode(LowerIno ino, ImageNode& node) const;
  absl::StatusOr<std::shared_ptr<const LowerFile>> MakeFile(LowerIno ino,
                                                            const ImageNode& node) const;

  const std::shared_ptr<const ImageCore> core_;
  ImageTree tree_;
  // Files that somebody has open. Bounded by the number of files.
  mutable Mutex mutex_;
  mutable absl::flat_hash_map<LowerIno, std::weak_ptr<const LowerFile>> open_files_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_FILES_H_

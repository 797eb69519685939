// The names of an image, of PGDATA or of its external directories: which paths there are, what they
// are, and who is whose child. Where their bytes come from is image_files.h's affair.
//
// Compact: 64 bytes a node and 8 a child; names of PGDATA point into the file list of the chain's
// tip, which must outlive the tree. Immutable after Build; thread-safe.
#ifndef PBKFS_FS_IMAGE_IMAGE_TREE_H_
#define PBKFS_FS_IMAGE_IMAGE_TREE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/lower_tree.h"
#include "fs/catalog/file_list.h"

namespace pbkfs {

struct ImageNode {
  absl::string_view path;             // "" for the root.
  const FileEntry* entry = nullptr;   // Of the tip; null for the root and for unlisted directories.
  const FileEntry* source = nullptr;  // Of the member that stores a whole-file copy.
  int64_t size = 0;
  uint32_t mode = 0;
  uint32_t parent = 0;       // Index in nodes().
  uint32_t first_child = 0;  // Index in the list of children.
  uint32_t child_count = 0;
  uint32_t source_member = 0;
};

class ImageTree {
 public:
  // From the entries of PGDATA (external_dir 0), without the files that restore does not create or
  // that a clone must not see. Directories that are not listed but used get mode 0700. Sizes and
  // sources are left to the caller.
  static absl::StatusOr<ImageTree> Build(const FileList& list);
  // From the entries of external directories, "external/<N>/…" for N from 1 to `count` (format
  // document, section 8.8). No nodes where there are none.
  static absl::StatusOr<ImageTree> BuildExternal(const FileList& list, size_t count);

  // Node with inode number i + 1 is [i]; sorted by path.
  std::vector<ImageNode>& nodes() { return nodes_; }
  const std::vector<ImageNode>& nodes() const { return nodes_; }
  // Null where the number is not of this tree.
  const ImageNode* Find(LowerIno ino) const;
  // 0 where there is no such path.
  LowerIno FindPath(absl::string_view path) const;

  LowerNode Describe(const ImageNode& node) const;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const;
  absl::Span<const LowerIno> Children(LowerIno directory) const;
  // SHA-256 over "<path> NUL <f|d|l> <length in decimal> LF" for every node in order; directories
  // have length 0.
  std::string ListHash() const;

 private:
  void Add(absl::string_view path, uint32_t mode, const FileEntry* entry);
  // Adds the root and the directories that are not listed, and orders everything.
  absl::Status Finish();
  absl::Status LinkChildren();

  std::vector<ImageNode> nodes_;
  std::vector<LowerIno> children_;
  std::deque<std::string>
      paths_;  // Those that stand in no list; a deque keeps its elements' place.
};

// Files of PGDATA that are never shown: restore does not create the maps, and the signal files
// would start a recovery that the mount did not ask for.
bool IsHiddenFile(absl::string_view path);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_TREE_H_

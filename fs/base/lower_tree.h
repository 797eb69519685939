// The abstract read-only tree below an overlay: what a backup format has to provide. fs/image
// implements it for pg_probackup chains; fs/diff, fs/overlay and fs/session know nothing else of a
// backup.
//
// Everything here is immutable once built, shared by all mounts of the same image, and safe to use
// from any thread. (The tree of archived WAL, fs/catalog/wal_tree.h, alone comes to know more names.)
#ifndef PBKFS_FS_BASE_LOWER_TREE_H_
#define PBKFS_FS_BASE_LOWER_TREE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"

namespace pbkfs {

// The rank of a path in the image's sorted path list, plus 1. The root has inode number 1, as FUSE
// demands.
using LowerIno = uint64_t;
inline constexpr LowerIno kRootIno = 1;

struct LowerNode {
  LowerIno ino = 0;
  LowerIno parent = 0;     // The root is its own parent.
  absl::string_view name;  // The last path component; "" for the root. Lives as long as the tree.
  uint32_t mode = 0;       // st_mode with the file type: S_IFREG, S_IFDIR or S_IFLNK.
  int64_t size = 0;        // Bytes; 0 for directories.
};

// One regular file of the tree, open for reading.
class LowerFile {
 public:
  virtual ~LowerFile() = default;
  virtual int64_t Size() const = 0;
  // Fills `out` with the bytes at `offset`. The range must lie within [0, Size()), or the answer is
  // OUT_OF_RANGE. Damage is DATA_LOSS (errno EIO); nothing in `out` may be used then. Counts
  // page-cache and page-error figures in `stats` (may be null).
  virtual absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats* stats) const = 0;
};

class LowerTree {
 public:
  virtual ~LowerTree() = default;

  // Inode numbers run from 1 to NodeCount().
  virtual uint64_t NodeCount() const = 0;
  // The node, or nothing for a number that is not of this tree.
  virtual std::optional<LowerNode> Node(LowerIno ino) const = 0;
  virtual std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const = 0;
  // The children of a directory in ascending order of inode number.
  virtual absl::Span<const LowerIno> Children(LowerIno directory) const = 0;
  // Opens a regular file. Cheap where the file was opened before by any mount.
  virtual absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const = 0;
  // The target of a symlink.
  virtual absl::StatusOr<std::string> ReadLink(LowerIno ino) const = 0;
  // The time stamp that every node shows: when the backup began.
  virtual absl::Time Time() const = 0;
  // SHA-256 in hex over the sorted list of (path, kind, length): what a diff is bound to.
  virtual std::string ListHash() const = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_LOWER_TREE_H_

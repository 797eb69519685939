// A second read-only tree that a mount shows beside its own: reachable as ".pbkfs" in the root, by
// that name only, since readdir of the root leaves it out. Nothing in it can be changed.
//
// Its inode numbers are those of the tree plus kFirstSideIno, so that they meet no other. The tree
// may find more names as time goes by, but a number stays what it is, and so do the bytes behind
// it. Safe from any thread; the open files have a lock of their own.
#ifndef PBKFS_FS_OVERLAY_SIDE_TREE_H_
#define PBKFS_FS_OVERLAY_SIDE_TREE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"

namespace pbkfs {

struct Attributes;
struct DirectoryEntry;

inline constexpr char kSideName[] = ".pbkfs";
// Far above the numbers of new files (kFirstNewIno), which count up from 2^40.
inline constexpr uint64_t kFirstSideIno = uint64_t{1} << 56;

inline bool IsSideIno(uint64_t ino) { return ino >= kFirstSideIno; }

class SideTree {
 public:
  // Null `tree` = there is none.
  SideTree(std::shared_ptr<const LowerTree> tree, uint32_t owner_uid, uint32_t owner_gid);

  // Whether `name` in directory `parent` is the side tree's, or something in it.
  bool Owns(uint64_t parent, absl::string_view name) const;

  // For (parent, name) that Owns says yes to.
  absl::StatusOr<Attributes> Lookup(uint64_t parent, absl::string_view name) const;
  // For inodes of the side tree.
  absl::StatusOr<Attributes> GetAttributes(uint64_t ino) const;
  absl::StatusOr<std::string> ReadLink(uint64_t ino) const;
  absl::Status ReadDirectory(uint64_t ino, uint64_t after,
                             const std::function<bool(const DirectoryEntry&)>& visit) const;
  absl::Status Open(uint64_t ino);
  void Release(uint64_t ino);
  absl::StatusOr<size_t> Read(uint64_t ino, int64_t offset, absl::Span<uint8_t> out,
                              IoStats* stats);

 private:
  struct OpenFile {
    std::shared_ptr<const LowerFile> file;
    int handles = 0;
  };

  absl::StatusOr<LowerNode> NodeOf(uint64_t ino) const;
  Attributes AttributesOf(const LowerNode& node) const;

  const std::shared_ptr<const LowerTree> tree_;
  const uint32_t owner_uid_;
  const uint32_t owner_gid_;
  Mutex mutex_;
  std::map<uint64_t, OpenFile> open_files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_SIDE_TREE_H_

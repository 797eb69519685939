// What a mount shows as .pbkfs: another read-only tree (the external directories), and beside it
// the directory "wal" with the archived WAL, unpacked.
//
// A segment or history file is found by its name, whenever it came; listing the directory shows
// nothing, so that whatever walks a tree (a copy, a backup) finds no archive to walk. A name that
// can't be looked at for another reason than that it is not there is a file that can't be opened: a
// server that recovers must not take an error for the archive's end.
//
// Unlike other trees it grows: a name gets an inode number when it is first found, and another one
// when another file took its place. Safe from any thread.
#ifndef PBKFS_FS_CATALOG_WAL_TREE_H_
#define PBKFS_FS_CATALOG_WAL_TREE_H_

#include <memory>

#include "absl/time/time.h"
#include "fs/base/lower_tree.h"
#include "fs/catalog/wal_archive.h"

namespace pbkfs {

inline constexpr char kWalDirectory[] = "wal";

// `beside` and `archive` may be null; `beside` has no "wal" in its root.
std::shared_ptr<const LowerTree> MakeWalTree(std::shared_ptr<const LowerTree> beside,
                                             std::shared_ptr<const WalArchive> archive,
                                             absl::Time time);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_WAL_TREE_H_

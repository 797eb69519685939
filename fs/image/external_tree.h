// The external directories of a backup, as a read-only tree: "external/<N>/…", N counted from 1 in
// the order of their original names, as pg_probackup stores them (format document, section 8.8).
//
// Each is what restore would create: the list of the chain's tip says which files there are, the
// newest member that stores a file gives its bytes. Holds the image, and with it the chain.
// Immutable; safe from any thread.
#ifndef PBKFS_FS_IMAGE_EXTERNAL_TREE_H_
#define PBKFS_FS_IMAGE_EXTERNAL_TREE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "fs/base/lower_tree.h"
#include "fs/image/image.h"

namespace pbkfs {

// Null where the backup has no external directories. DATA_LOSS (CATALOG_CORRUPT) where the lists
// contradict each other.
absl::StatusOr<std::shared_ptr<const LowerTree>> MakeExternalTree(
    std::shared_ptr<const Image> image);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_EXTERNAL_TREE_H_

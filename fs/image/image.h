// An image: the PGDATA that `pg_probackup restore` of a chain would produce, as a LowerTree. Images
// are shared by all mounts of the same backup; so are the page indexes and the decoded-page cache,
// whose byte budgets belong to the daemon (ImageCaches).
#ifndef PBKFS_FS_IMAGE_IMAGE_H_
#define PBKFS_FS_IMAGE_IMAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/base/lower_tree.h"
#include "fs/catalog/chain.h"

namespace pbkfs {

struct ImageCacheOptions {
  int64_t page_index_bytes = int64_t{256} << 20;
  int64_t decoded_page_bytes = int64_t{64} << 20;
};

struct ImageCacheFigures {
  int64_t page_index_bytes = 0;
  uint64_t page_index_builds = 0;
  uint64_t page_index_evictions = 0;
  int64_t decoded_page_bytes = 0;
  uint64_t decoded_pages_none = 0;  // Pages decoded, by codec.
  uint64_t decoded_pages_zlib = 0;
  uint64_t decoded_pages_pglz = 0;
};

// The daemon's caches below all images. Thread-safe; outlives every image.
class ImageCaches {
 public:
  virtual ~ImageCaches() = default;
  static std::shared_ptr<ImageCaches> Create(const ImageCacheOptions& options);
  virtual ImageCacheFigures Figures() const = 0;
};

// What the control plane wants to know of an image.
struct ImageInfo {
  uint64_t file_count = 0;
  int64_t logical_bytes = 0;          // Sum of the lengths of all files.
  std::vector<uint32_t> tablespaces;  // OIDs that have a directory in pg_tblspc.
  bool has_standby_signal = false;    // Hidden from the tree.
  bool has_recovery_signal = false;
  uint64_t system_identifier = 0;  // From pg_control.
  uint32_t pg_control_version = 0;
  uint32_t catalog_version = 0;
};

class Image : public LowerTree {
 public:
  // Builds the tree from the lists of `chain`; no data file is opened but global/pg_control.
  static absl::StatusOr<std::shared_ptr<const Image>> Create(std::shared_ptr<const Chain> chain,
                                                             std::shared_ptr<ImageCaches> caches);
  virtual const Chain& chain() const = 0;
  virtual const ImageInfo& info() const = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_H_

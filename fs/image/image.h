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
  // -1 = by the memory that this process may use: a sixteenth, at most 256 MiB.
  int64_t page_index_bytes = -1;
  // -1 = likewise: a thirty-second, at most 64 MiB. 0 switches the cache off.
  int64_t decoded_page_bytes = -1;
  // Where scans of data files without a usable page_header_map are kept between runs of the daemon;
  // "" = nowhere.
  std::string index_cache_directory;
  int64_t index_cache_directory_bytes = int64_t{256} << 20;
};

struct ImageCacheFigures {
  int64_t page_index_bytes = 0;
  int64_t page_index_budget_bytes = 0;
  uint64_t page_index_hits = 0;    // Indexes that were in memory …
  uint64_t page_index_misses = 0;  // … and those that were not; some of these waited for a build.
  uint64_t page_index_builds = 0;
  uint64_t page_index_evictions = 0;
  uint64_t stream_scans = 0;  // Stored files that were read whole for want of a usable map.
  int64_t index_cache_directory_bytes = 0;
  int64_t decoded_page_bytes = 0;
  int64_t decoded_page_budget_bytes = 0;
  uint64_t decoded_page_hits = 0;
  uint64_t decoded_page_misses = 0;
  uint64_t decoded_page_evictions = 0;
  uint64_t decoded_pages_none = 0;  // Pages decoded, by codec.
  uint64_t decoded_pages_zlib = 0;
  uint64_t decoded_pages_pglz = 0;
  uint64_t decoded_pages_lz4 = 0;
  uint64_t decoded_pages_zstd = 0;
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
  // Looks at every member of the chain now. UNAVAILABLE (errno EIO) with the reason where one is
  // gone or another; reads fail with the same until it is back.
  virtual absl::Status Health() const = 0;
  // The external directories of the backup, as a tree of their own: "external/<N>/…", N counted
  // from 1 in the order of their original names, as pg_probackup stores them (format document,
  // section 8.8). Null where it has none. DATA_LOSS (CATALOG_CORRUPT) where the lists contradict
  // each other.
  virtual absl::StatusOr<std::shared_ptr<const LowerTree>> MakeExternalTree() const = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_H_

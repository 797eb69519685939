// Which blocks one backup stores of one file, and where: from page_header_map (format document,
// section 5).
#ifndef PBKFS_FS_IMAGE_HEADER_MAP_H_
#define PBKFS_FS_IMAGE_HEADER_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/catalog/file_list.h"

namespace pbkfs {

// One record of a stored page stream: an 8-byte header at `position`, then `length` bytes.
struct PageRecord {
  uint32_t block = 0;  // In the segment.
  uint32_t position = 0;
  uint16_t length = 0;    // 1 to 8192.
  uint16_t checksum = 0;  // Of the page, as computed by the backup; 0 for a zero page.
};

// What one backup stores of one data file.
struct StoredBlocks {
  std::vector<PageRecord> records;  // Ascending in block and position.
  // Where a truncation marker (before 2.3.0) cuts the restored file; -1 = there is none.
  int64_t cut_at = -1;
};

// Reads the deflated part of page_header_map that belongs to `entry`. Ascending in block and
// position. DATA_LOSS (CATALOG_CORRUPT) where the blob or any record breaks a rule of the format.
absl::StatusOr<StoredBlocks> ParseHeaderBlob(absl::Span<const uint8_t> deflated,
                                             const FileEntry& entry);

// The same, read from `header_map_fd`.
absl::StatusOr<StoredBlocks> ReadHeaderMap(int header_map_fd, const FileEntry& entry);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_HEADER_MAP_H_

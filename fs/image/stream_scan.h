// Finds out which blocks a stored data file holds by reading all of it: for backups that have no
// page_header_map (before 2.4.0), and for those whose map is lost or damaged (format document,
// sections 4.3, 5 and 6.4).
//
// Nothing else protects the positions of a scan, so nothing is taken on trust: the CRC of the whole
// file must be the list's, every record must decode, and every page must look like one.
#ifndef PBKFS_FS_IMAGE_STREAM_SCAN_H_
#define PBKFS_FS_IMAGE_STREAM_SCAN_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/catalog/file_list.h"
#include "fs/catalog/format_rules.h"
#include "fs/image/header_map.h"

namespace pbkfs {

// Fills the span with the bytes at the offset.
using ReadStream = absl::FunctionRef<absl::Status(int64_t offset, absl::Span<uint8_t> out)>;

// The records of a stored file of entry.size bytes, ascending in block and position, with the
// checksum of each page. `has_page_checksums`: the pages carry checksums, which must be right.
// DATA_LOSS (CATALOG_CORRUPT) for everything that the format does not allow.
absl::StatusOr<StoredBlocks> ScanStream(ReadStream read, const FileEntry& entry,
                                        const FormatRules& rules, bool has_page_checksums);

// Decodes the payload of a record with the rules of the version that wrote it. `algorithm` is that
// of the entry, and becomes what the payload really was.
bool DecodeStoredPage(const FormatRules& rules, CompressAlg& algorithm,
                      absl::Span<const uint8_t> payload, uint8_t* page);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_STREAM_SCAN_H_

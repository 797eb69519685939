// backup_content.control: the list of files of one backup (format document, section 3).
#ifndef PBKFS_FS_CATALOG_FILE_LIST_H_
#define PBKFS_FS_CATALOG_FILE_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

enum class CompressAlg : uint8_t { kNone, kZlib, kPglz, kLz4, kZstd };
absl::string_view CompressAlgName(CompressAlg algorithm);

struct FileEntry {
  absl::string_view path;    // Relative, '/' separated, valid as long as the list.
  int32_t external_dir = 0;  // 0 = PGDATA, N >= 1 = external directory N.
  uint32_t mode = 0;         // Full st_mode.
  int64_t size =
      0;  // Stored bytes; -1 = unchanged since the parent, 0 = empty (never open the file).
  int64_t full_size =
      0;  // Logical bytes of what is stored (or inherited); equals size where not written.
  uint32_t crc = 0;
  CompressAlg compress_alg = CompressAlg::kNone;
  bool is_datafile = false;  // A page stream, unless is_cfs.
  bool is_cfs = false;
  uint32_t db_oid = 0;
  int32_t segno = 0;
  int64_t n_blocks = -1;  // Length of the source file in blocks; -1 = unknown.
  int32_t n_headers = 0;  // Blocks stored in this backup; 0 = no header map.
  uint32_t hdr_crc = 0;
  int64_t hdr_off = 0;
  int64_t hdr_size = 0;
  absl::string_view linked;  // Target of a legacy symlink entry.

  bool IsPageStream() const { return is_datafile && !is_cfs; }
};

// The parsed list, sorted by (external_dir, path). Owns the text that the entries point into.
class FileList {
 public:
  // Parses `text`, the whole file. DATA_LOSS (CATALOG_CORRUPT) with the line number for damage,
  // UNIMPLEMENTED (UNSUPPORTED_FORMAT) for an unknown codec.
  static absl::StatusOr<FileList> Parse(std::string text);

  const std::vector<FileEntry>& entries() const { return entries_; }
  // Null where there is none.
  const FileEntry* Find(absl::string_view path, int32_t external_dir = 0) const;

 private:
  absl::Status CheckNames() const;

  std::vector<char> text_;
  std::vector<FileEntry> entries_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_FILE_LIST_H_

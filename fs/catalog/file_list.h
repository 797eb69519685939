// backup_content.control: the list of files of one backup (format document, section 3).
#ifndef PBKFS_FS_CATALOG_FILE_LIST_H_
#define PBKFS_FS_CATALOG_FILE_LIST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

enum class CompressAlg : uint8_t { kNone, kZlib, kPglz, kLz4, kZstd };
inline constexpr size_t kCompressAlgCount = 5;
absl::string_view CompressAlgName(CompressAlg algorithm);

// Packed: a chain of seven members with 100,000 files each has 700,000 of these.
struct FileEntry {
  absl::string_view path;  // Relative, '/' separated, valid as long as the list.
  // Stored bytes; -1 = unchanged since the parent, 0 = empty (never open the file).
  int64_t size = 0;
  int64_t hdr_off = 0;
  int32_t hdr_size = 0;
  uint32_t hdr_crc = 0;
  int32_t n_headers = 0;  // Blocks stored in this backup; 0 = no header map.
  int32_t n_blocks = -1;  // Length of the source file in blocks; -1 = unknown.
  uint32_t crc = 0;
  uint32_t db_oid = 0;
  uint16_t mode = 0;          // Full st_mode.
  uint16_t external_dir = 0;  // 0 = PGDATA, N >= 1 = external directory N.
  uint16_t segno = 0;
  CompressAlg compress_alg = CompressAlg::kNone;
  bool is_datafile : 1 = false;  // A page stream, unless is_cfs.
  bool is_cfs : 1 = false;

  bool IsPageStream() const { return is_datafile && !is_cfs; }
  // A tablespace as versions up to 2.1 may list it; what is in it is listed below the link.
  bool IsTablespaceLink() const;
};
static_assert(sizeof(FileEntry) <= 64);

// The parsed list, sorted by (external_dir, path). Owns the text that the entries point into.
class FileList {
 public:
  // Parses `text`, the whole file. DATA_LOSS (CATALOG_CORRUPT) with the line number for damage,
  // UNIMPLEMENTED (UNSUPPORTED_FORMAT) for an unknown codec.
  // Paths that `sharer` has too are its texts; it must then outlive this list. Lists of a chain are
  // mostly the same paths.
  static absl::StatusOr<FileList> Parse(std::string text, const FileList* sharer = nullptr);

  const std::vector<FileEntry>& entries() const { return entries_; }
  // Null where there is none.
  const FileEntry* Find(absl::string_view path, int32_t external_dir = 0) const;
  // The target of a legacy symlink entry of this list; "" where it has none.
  absl::string_view LinkTarget(const FileEntry& entry) const;

 private:
  absl::Status CheckNames() const;
  // Copies the texts that entries and links point to, but for those that `sharer` has.
  void KeepTexts(const FileList* sharer);

  std::vector<char> text_;
  std::vector<FileEntry> entries_;
  // Entries that are symlinks. Few.
  struct Link {
    absl::string_view path;
    int32_t external_dir;
    absl::string_view target;
  };
  std::vector<Link> links_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_FILE_LIST_H_

// backup_content.control: the list of files of one backup (format document, section 3).
#ifndef PBKFS_FS_CATALOG_FILE_LIST_H_
#define PBKFS_FS_CATALOG_FILE_LIST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/catalog/beneath.h"

namespace pbkfs {

enum class CompressAlg : uint8_t { kNone, kZlib, kPglz, kLz4, kZstd };
inline constexpr size_t kCompressAlgCount = 5;
absl::string_view CompressAlgName(CompressAlg algorithm);

// Packed: there are 100,000 and more of these.
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

// One line of a list.
struct ListedFile {
  FileEntry entry;
  absl::string_view linked;  // The target of a legacy symlink; "" where there is none.
};

// Gets every line of a list, in its order. Views into it are good for the call only.
using ListVisitor = absl::FunctionRef<absl::Status(const ListedFile&)>;

// What is known of a list after it was read.
struct ListDigest {
  size_t bytes = 0;
  uint32_t crc = 0;     // CRC-32C of all bytes.
  absl::Status status;  // The first line that is damaged, or that the visitor did not like.
};

// Reads a list to its end, in pieces: lists of a hundred thousand files have tens of megabytes, and
// a chain has one for each member. Bad lines are told of in the digest: whoever calls knows the
// right CRC, which says more.
absl::StatusOr<ListDigest> ReadFileList(const OpenedFile& file, ListVisitor visit);

// The files of a list, sorted by (external_dir, path). Owns the texts that the entries point to.
class FileList {
 public:
  // Parses `text`, a whole file. DATA_LOSS (CATALOG_CORRUPT) with the line number for damage,
  // UNIMPLEMENTED (UNSUPPORTED_FORMAT) for an unknown codec.
  static absl::StatusOr<FileList> Parse(absl::string_view text);

  // Or line by line: Add each, then Finish.
  void Add(const ListedFile& file);
  absl::Status Finish();

  const std::vector<FileEntry>& entries() const { return entries_; }
  // Null where there is none.
  const FileEntry* Find(absl::string_view path, int32_t external_dir = 0) const;
  // The target of a legacy symlink entry of this list; "" where it has none.
  absl::string_view LinkTarget(const FileEntry& entry) const;

 private:
  absl::string_view Keep(absl::string_view text);
  absl::Status CheckNames() const;

  std::vector<std::unique_ptr<char[]>> texts_;
  size_t text_room_ = 0;  // Free bytes at the end of the last of texts_.
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

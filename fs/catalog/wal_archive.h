// The WAL archive of an instance, "<store>/wal/<instance>" (format document, section 10): segments,
// plain or packed, and history files, by the names that recovery asks for.
//
// The archive grows while it is used, so nothing about it is remembered but the directory, which is
// held open. Everything in it is untrusted: files are opened beneath the directory, without
// symlinks, and damage is an error, never part of a segment. Immutable; safe from any thread.
#ifndef PBKFS_FS_CATALOG_WAL_ARCHIVE_H_
#define PBKFS_FS_CATALOG_WAL_ARCHIVE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/lower_tree.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/unpacked_segments.h"

namespace pbkfs {

struct WalSegmentId {
  uint32_t timeline = 0;
  uint64_t number = 0;  // LSN / segment size.
};
// Nothing for what is no segment's name ("000000010000000A000000FE").
std::optional<WalSegmentId> ParseWalSegmentName(absl::string_view name, uint32_t segment_bytes);

// A file of the archive as it was when it was looked at.
struct ArchivedFile {
  std::string stored_name;
  FileIdentity identity;
  bool segment = false;  // Otherwise a history file.
  bool packed = false;   // gzip.
  bool partial = false;  // Zeros follow up to the size of a segment.
  int64_t size = 0;      // As recovery sees it: unpacked, whole.
};

// Numbers of segments that are there without a gap.
struct SegmentRun {
  uint64_t first = 0;
  uint64_t last = 0;
};

class WalArchive {
 public:
  // NOT_FOUND where the store has no such directory. `unpacked` may be shared with other archives.
  static absl::StatusOr<std::shared_ptr<const WalArchive>> Open(
      const std::string& store, const std::string& instance, uint32_t segment_bytes,
      std::shared_ptr<UnpackedSegments> unpacked);

  // For messages.
  const std::string& path() const { return path_; }
  uint32_t segment_bytes() const { return segment_bytes_; }

  // By the name of a segment or of a history file. Of several forms of a segment the first of
  // packed, plain, packed partial and partial is taken, as pg_probackup does. NOT_FOUND where there
  // is none, and for all other names.
  absl::StatusOr<ArchivedFile> Find(absl::string_view name) const;
  // The content of `file`. A packed segment was checked as a whole when this returns. ESTALE where
  // another file took its place since Find; DATA_LOSS (CATALOG_CORRUPT, errno EIO) for damage.
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(const ArchivedFile& file) const;

  // The text of a history file. NOT_FOUND where there is none.
  absl::StatusOr<std::string> ReadHistory(uint32_t timeline) const;
  // What is there now, by timeline, ascending.
  absl::StatusOr<std::map<uint32_t, std::vector<SegmentRun>>> ListSegments() const;

 private:
  WalArchive() = default;

  std::string path_;
  UniqueFd directory_;
  uint32_t segment_bytes_ = 0;
  std::shared_ptr<UnpackedSegments> unpacked_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_WAL_ARCHIVE_H_

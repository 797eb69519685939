// The WAL that a server reads when it recovers along a path of timelines: from the archive, and
// where that lacks a segment from the backup itself. For each segment the newest timeline of the
// path that has it counts, as for PostgreSQL: a segment in which a timeline begins repeats what was
// before.
#ifndef PBKFS_FS_CATALOG_ARCHIVE_WAL_H_
#define PBKFS_FS_CATALOG_ARCHIVE_WAL_H_

#include <memory>
#include <optional>

#include "fs/base/lower_tree.h"
#include "fs/catalog/timeline_history.h"
#include "fs/catalog/wal_archive.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

// Keeps the last segment open. Not thread-safe.
class ArchiveWal final : public WalSource {
 public:
  // `archive` may be null. It and `backup` outlive the source.
  ArchiveWal(const WalArchive* archive, WalSource* backup, TimelinePath path,
             uint32_t segment_bytes);

  // `timeline` is not looked at: the path says it.
  absl::Status ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                           absl::Span<uint8_t> out) override;
  // The last read segment that was not there, as the newest timeline names it; "" = none.
  const std::string& missing() const { return missing_; }

 private:
  absl::Status ReadOf(const TimelineSpan& span, uint64_t number, uint32_t offset,
                      absl::Span<uint8_t> out);
  absl::Status OpenArchived(uint32_t timeline, uint64_t number);

  const WalArchive* const archive_;
  WalSource* const backup_;
  const TimelinePath path_;
  const uint32_t segment_bytes_;
  std::string open_name_;
  std::shared_ptr<const LowerFile> open_;
  std::string missing_;
};

// The path from a backup, taken on `timeline` and consistent at `stop`, to where recovery goes:
// "current", "latest" or a number. OUT_OF_RANGE (TARGET_UNREACHABLE) where the archive has no such
// timeline, or where it left the backup's before `stop`. `archive` may be null.
absl::StatusOr<TimelinePath> FindTimelinePath(const WalArchive* archive, uint32_t timeline,
                                              Lsn stop, absl::string_view wanted);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_ARCHIVE_WAL_H_

// The WAL segments that a STREAM backup holds, as files of the tree that the backup shows.
#ifndef PBKFS_FS_CATALOG_LOWER_WAL_H_
#define PBKFS_FS_CATALOG_LOWER_WAL_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "fs/base/lower_tree.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

// Keeps the last segment open. Not thread-safe.
class LowerWal final : public WalSource {
 public:
  // `directory` is "pg_wal", or "pg_xlog" before PostgreSQL 10. `tree` outlives the source.
  LowerWal(const LowerTree& tree, absl::string_view directory, uint32_t segment_bytes);

  absl::Status ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                           absl::Span<uint8_t> out) override;

 private:
  const LowerTree& tree_;
  const uint32_t segment_bytes_;
  LowerIno directory_ = 0;  // 0 = there is none.
  std::string open_name_;
  std::shared_ptr<const LowerFile> open_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_LOWER_WAL_H_

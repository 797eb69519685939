// The index of one page stream at the tip of a chain: block -> where it is stored. The newest
// member that stores a block wins (format document, section 7.2).
//
// Costs 10 bytes a block up to the highest block that is stored: 8 for the place (31 bits position,
// 13 bits length, 20 bits member) and 2 for the page's checksum. Immutable; shared.
#ifndef PBKFS_FS_IMAGE_PAGE_INDEX_H_
#define PBKFS_FS_IMAGE_PAGE_INDEX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/catalog/chain_files.h"
#include "fs/image/header_map.h"

namespace pbkfs {

struct PageLocation {
  uint32_t member = 0;    // Index in Chain::members.
  int64_t position = 0;   // Of the record's 8-byte header in the stored file.
  int64_t length = 0;     // Of the payload after it.
  uint16_t checksum = 0;  // 0 = a zero page.
};

class PageIndex {
 public:
  // Nothing where no member stores the block: it reads as zeros.
  std::optional<PageLocation> Find(int64_t block) const;
  // The length of the file where the list does not give it: one past the highest block that is
  // stored, or more where a truncation marker says so.
  int64_t BlockCount() const { return static_cast<int64_t>(places_.size()); }
  int64_t StoredBlocks() const { return stored_blocks_; }
  int64_t MemoryBytes() const;

 private:
  friend class PageIndexBuilder;
  std::vector<uint64_t> places_;
  std::vector<uint16_t> checksums_;
  int64_t stored_blocks_ = 0;
};

// Collects records, newest member first.
class PageIndexBuilder {
 public:
  PageIndexBuilder();
  // Takes the records with a block below `limit` that no newer member has.
  void Add(uint32_t member, absl::Span<const PageRecord> records, int64_t limit);
  // Makes the file at least `blocks` long.
  void Extend(int64_t blocks);
  int64_t StoredBlocks() const { return index_->stored_blocks_; }
  std::shared_ptr<const PageIndex> Finish();

 private:
  std::shared_ptr<PageIndex> index_;
};

// Gives what one member stores of a file: from page_header_map, or from a scan of the stored file.
using PageRecordSource =
    std::function<absl::StatusOr<StoredBlocks>(size_t member, const FileEntry& entry)>;

// Builds the index of a page stream. A block of an older member is visible only below the n_blocks
// of every newer member that has a known one, and below the truncation marker of every member that
// is not older: blocks that were cut off once never come back.
absl::StatusOr<std::shared_ptr<const PageIndex>> BuildPageIndex(const FileHistory& history,
                                                                const PageRecordSource& source);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_INDEX_H_

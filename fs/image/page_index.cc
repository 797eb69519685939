#include "fs/image/page_index.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr int kLengthBits = 13;
constexpr int kPositionBits = 31;
constexpr int kMemberBits = 64 - kLengthBits - kPositionBits;
// The place of a block that nobody stores. No record has it: members are far below 2^20.
constexpr uint64_t kNowhere = std::numeric_limits<uint64_t>::max();
static_assert(kPageBytes == 1 << kLengthBits);
static_assert(kMaxPageStreamBytes < int64_t{1} << kPositionBits);
static_assert(kMaxChainLength < (1u << kMemberBits) - 1);

uint64_t Pack(uint32_t member, const PageRecord& record) {
  return uint64_t{member} << (kLengthBits + kPositionBits) |
         uint64_t{record.length - 1u} << kPositionBits | record.position;
}

absl::Status Contradiction(const FileEntry& tip, absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                     absl::StrCat("'", tip.path, "': ", what));
}

}  // namespace

std::optional<PageLocation> PageIndex::Find(int64_t block) const {
  assert(block >= 0);
  if (block >= BlockCount()) return std::nullopt;
  const uint64_t place = places_[static_cast<size_t>(block)];
  if (place == kNowhere) return std::nullopt;
  PageLocation location;
  location.member = static_cast<uint32_t>(place >> (kLengthBits + kPositionBits));
  location.length = static_cast<int64_t>(place >> kPositionBits & ((1u << kLengthBits) - 1)) + 1;
  location.position = static_cast<int64_t>(place & ((uint64_t{1} << kPositionBits) - 1));
  location.checksum = checksums_[static_cast<size_t>(block)];
  return location;
}

int64_t PageIndex::MemoryBytes() const {
  return static_cast<int64_t>(sizeof(*this) + places_.capacity() * sizeof(places_[0]) +
                              checksums_.capacity() * sizeof(checksums_[0]));
}

PageIndexBuilder::PageIndexBuilder() : index_(std::make_shared<PageIndex>()) {}

void PageIndexBuilder::Add(uint32_t member, absl::Span<const PageRecord> records, int64_t limit) {
  // Records ascend in block: the last visible one tells how far the index has to reach.
  const auto visible_end =
      std::partition_point(records.begin(), records.end(),
                           [limit](const PageRecord& record) { return record.block < limit; });
  if (visible_end == records.begin()) return;
  Extend(int64_t{std::prev(visible_end)->block} + 1);
  for (auto record = records.begin(); record != visible_end; ++record) {
    uint64_t& place = index_->places_[record->block];
    if (place != kNowhere) continue;
    place = Pack(member, *record);
    index_->checksums_[record->block] = record->checksum;
    ++index_->stored_blocks_;
  }
}

void PageIndexBuilder::Extend(int64_t blocks) {
  if (blocks <= index_->BlockCount()) return;
  index_->places_.resize(static_cast<size_t>(blocks), kNowhere);
  index_->checksums_.resize(static_cast<size_t>(blocks), 0);
}

std::shared_ptr<const PageIndex> PageIndexBuilder::Finish() {
  index_->places_.shrink_to_fit();
  index_->checksums_.shrink_to_fit();
  return std::move(index_);
}

absl::StatusOr<std::shared_ptr<const PageIndex>> BuildPageIndex(const FileHistory& history,
                                                                const PageRecordSource& source) {
  const FileEntry& tip = *history.tip;
  if (!history.problem.empty()) return Contradiction(tip, history.problem);
  PageIndexBuilder builder;
  int64_t marked = kSegmentBlocks;
  bool has_marker = false;
  for (const StoredPart* part : history.parts) {
    const absl::StatusOr<StoredBlocks> stored = source(part->member, part->entry);
    if (!stored.ok()) return stored.status();
    const int64_t limit = std::min(marked, int64_t{part->limit});
    builder.Add(part->member, stored->records, limit);
    if (stored->cut_at >= 0) {
      marked = std::min(limit, stored->cut_at);
      // The newest marker gave the file its length; newer members may have made it longer.
      if (!has_marker) builder.Extend(marked);
      has_marker = true;
    }
    // Every block below the file's length has its place; nothing older can show.
    if (builder.StoredBlocks() == tip.n_blocks) break;
  }
  return builder.Finish();
}

}  // namespace pbkfs

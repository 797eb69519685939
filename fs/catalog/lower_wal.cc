#include "fs/catalog/lower_wal.h"

#include <sys/stat.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {

LowerWal::LowerWal(const LowerTree& tree, absl::string_view directory, uint32_t segment_bytes)
    : tree_(tree), segment_bytes_(segment_bytes) {
  const std::optional<LowerNode> node = tree.Lookup(kRootIno, directory);
  if (node.has_value() && S_ISDIR(node->mode)) directory_ = node->ino;
}

absl::Status LowerWal::ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                                   absl::Span<uint8_t> out) {
  const std::string name = WalSegmentName(timeline, number, segment_bytes_);
  if (open_ == nullptr || name != open_name_) {
    open_.reset();
    std::optional<LowerNode> node;
    if (directory_ != 0) node = tree_.Lookup(directory_, name);
    if (!node.has_value() || !S_ISREG(node->mode)) {
      return absl::NotFoundError(absl::StrCat("WAL segment ", name, " is not in the backup"));
    }
    PBKFS_ASSIGN_OR_RETURN(open_, tree_.Open(node->ino));
    open_name_ = name;
  }
  if (open_->Size() < static_cast<int64_t>(offset) + static_cast<int64_t>(out.size())) {
    return absl::DataLossError(absl::StrCat("WAL segment ", name, " has only ", open_->Size(),
                                            " bytes of ", segment_bytes_));
  }
  return open_->ReadAt(offset, out, nullptr);
}

}  // namespace pbkfs

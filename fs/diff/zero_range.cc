#include "fs/diff/zero_range.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "fs/base/status.h"

namespace pbkfs {

absl::Status ZeroRange(IoFile& file, int64_t offset, int64_t length) {
  const absl::Status punched =
      file.Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  if (punched.ok() || (ErrnoOf(punched) != EOPNOTSUPP && ErrnoOf(punched) != ENOSPC)) {
    return punched;
  }
  PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, file.Stat());
  const int64_t end = std::min<int64_t>(offset + length, attributes.st_size);
  constexpr int64_t kPiece = 1 << 20;
  const std::vector<uint8_t> zeros(
      static_cast<size_t>(std::clamp<int64_t>(end - offset, 0, kPiece)));
  for (int64_t at = offset; at < end; at += kPiece) {
    const auto size = static_cast<size_t>(std::min(kPiece, end - at));
    PBKFS_RETURN_IF_ERROR(file.Write(at, absl::MakeConstSpan(zeros).subspan(0, size)));
  }
  return absl::OkStatus();
}

}  // namespace pbkfs

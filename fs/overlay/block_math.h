// Blocks and bytes: the unit of copy-on-write is kBlockSize.
#ifndef PBKFS_FS_OVERLAY_BLOCK_MATH_H_
#define PBKFS_FS_OVERLAY_BLOCK_MATH_H_

#include <cstdint>

#include "fs/diff/limits.h"
#include "fs/overlay/pending_ops.h"

namespace pbkfs {

constexpr int64_t BlockFloor(int64_t offset) { return offset / kBlockSize * kBlockSize; }
constexpr int64_t BlockCeil(int64_t offset) { return BlockFloor(offset + kBlockSize - 1); }
// The whole blocks that hold these bytes.
constexpr ByteRange BlocksOf(int64_t offset, int64_t length) {
  return {BlockFloor(offset), BlockCeil(offset + length)};
}

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_BLOCK_MATH_H_

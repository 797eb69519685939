// A set of block numbers, as a bitmap in chunks that are allocated when their first block is added:
// one bit a block, nothing for files that were not written. Not thread-safe.
#ifndef PBKFS_FS_DIFF_BLOCK_SET_H_
#define PBKFS_FS_DIFF_BLOCK_SET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace pbkfs {

class BlockSet {
 public:
  bool Contains(int64_t block) const;
  // Adds the blocks [first, first + count).
  void AddRange(int64_t first, int64_t count);
  // Removes every block >= first.
  void RemoveFrom(int64_t first);
  int64_t size() const { return size_; }
  // What the set occupies.
  size_t MemoryBytes() const;

  // The first run of blocks that starts at or after `from` and below `limit`: {first, count}, or
  // {limit, 0}.
  std::pair<int64_t, int64_t> NextRun(int64_t from, int64_t limit) const;
  // One more than the largest block, 0 where the set is empty.
  int64_t End() const;
  // How many of the blocks that follow `from` (itself included), at most `limit`, are in the set,
  // or are not in it.
  int64_t CountSame(int64_t from, int64_t limit) const;

 private:
  static constexpr int64_t kChunkBlocks = 16384;  // 128 MiB of file in 2 KiB of bitmap.
  static constexpr int64_t kChunkWords = kChunkBlocks / 64;
  using Chunk = std::array<uint64_t, kChunkWords>;

  // The word that holds `block`, 0 where its chunk does not exist.
  uint64_t WordOf(int64_t block) const;

  std::vector<std::unique_ptr<Chunk>> chunks_;
  int64_t size_ = 0;
  size_t chunk_count_ = 0;  // Of `chunks_`, those that exist.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_BLOCK_SET_H_

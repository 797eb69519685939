// The I/O figures of one mount, counted where the work is done and read as one snapshot. Counters
// are sharded by thread so that the hot path pays one relaxed add on a cache line that no other
// thread writes.
#ifndef PBKFS_FS_BASE_IO_STATS_H_
#define PBKFS_FS_BASE_IO_STATS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace pbkfs {

enum class IoCounter : uint8_t {
  kHandleHits,          // An I/O found its backing file open.
  kHandleMisses,        // An I/O had to open its backing file.
  kHandlesOpened,       // Backing files opened …
  kHandlesClosed,       // … and closed; the difference is the gauge handles_open.
  kCacheHits,           // Decoded pages found in the page cache.
  kCacheMisses,         // Decoded pages that had to be read and decoded.
  kBlocksCopied,        // Blocks completed from the backup by a first write.
  kBytesCopied,         // Bytes of the backup that those blocks held.
  kReadBytesDiff,       // Bytes answered from the diff directory.
  kReadBytesBackup,     // Bytes answered from the backup.
  kReadBytesZero,       // Bytes that are zeros by layout: holes and space past the backup's end.
  kWrittenBytes,        // Bytes that applications wrote.
  kFillsDone,           // Blocks that were copied into the diff because they were read …
  kFillsPresent,        // … and those that were not: they were there already, …
  kFillsConflict,       // … something else happened to them, …
  kFillsQueueFull,      // … too many were waiting, …
  kFillsNoSpace,        // … space is left to writes, …
  kFillsFailed,         // … or the image or the diff gave an error.
  kPageErrorsChecksum,  // Pages that failed their checksum or LSN check.
  kPageErrorsFormat,    // Records that contradict the index, or payloads that do not decode.
  kPageErrorsIo,        // Stored files that could not be read or changed under us.
  kCount,
};
inline constexpr size_t kIoCounterCount = static_cast<size_t>(IoCounter::kCount);

// What can become of a block that materialize_on_read offers.
inline constexpr std::pair<const char*, IoCounter> kFillResults[] = {
    {"filled", IoCounter::kFillsDone},       {"present", IoCounter::kFillsPresent},
    {"conflict", IoCounter::kFillsConflict}, {"queue_full", IoCounter::kFillsQueueFull},
    {"no_space", IoCounter::kFillsNoSpace},  {"failed", IoCounter::kFillsFailed},
};

struct IoSnapshot {
  std::array<uint64_t, kIoCounterCount> values{};
  uint64_t operator[](IoCounter counter) const { return values[static_cast<size_t>(counter)]; }
};

class IoStats {
 public:
  void Add(IoCounter counter, uint64_t delta = 1) {
    shards_[ShardOfThread()].values[static_cast<size_t>(counter)].fetch_add(
        delta, std::memory_order_relaxed);
  }

  IoSnapshot Snapshot() const {
    IoSnapshot snapshot;
    for (const Shard& shard : shards_) {
      for (size_t i = 0; i < kIoCounterCount; ++i) {
        snapshot.values[i] += shard.values[i].load(std::memory_order_relaxed);
      }
    }
    return snapshot;
  }

 private:
  static constexpr size_t kShards = 16;
  struct alignas(64) Shard {
    std::array<std::atomic<uint64_t>, kIoCounterCount> values{};
  };

  static size_t ShardOfThread() {
    static std::atomic<size_t> next{0};
    thread_local const size_t shard = next.fetch_add(1, std::memory_order_relaxed) % kShards;
    return shard;
  }

  std::array<Shard, kShards> shards_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_IO_STATS_H_

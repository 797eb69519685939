// Sizes that the read side chose, each with its reason.
#ifndef PBKFS_FS_IMAGE_LIMITS_H_
#define PBKFS_FS_IMAGE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace pbkfs {

// Stored bytes fetched with one pread: the kernel's largest read-ahead for us is a few of these,
// and each reading thread keeps a buffer of this size.
inline constexpr int64_t kMaxRunBytes = 256 << 10;
// Stored bytes between two wanted records that are cheaper to read than to skip: two raw records.
inline constexpr int64_t kMaxRunGapBytes = 16 << 10;
// Blocks planned at a time: one FUSE request of 1 MiB.
inline constexpr int64_t kPlanBlocks = 128;
// Requests from this size on are sequential scans: the kernel keeps their pages, and they would
// only push the pages of clones out of our cache.
inline constexpr size_t kCacheBypassBytes = 128 << 10;

// Budgets of the daemon's caches where nobody gives them. 256 MiB index 200 GiB of relations that
// are in use; the kernel keeps pages too, so that ours only have to serve clones and short
// re-reads.
inline constexpr int64_t kMaxPageIndexBytes = int64_t{256} << 20;
inline constexpr int64_t kPageIndexMemoryDivisor = 16;
inline constexpr int64_t kMaxDecodedPageBytes = int64_t{64} << 20;
inline constexpr int64_t kDecodedPageMemoryDivisor = 32;

// Stored files kept open for all images; well below the usual soft limit of 1024 descriptors.
inline constexpr size_t kMaxOpenStoredFiles = 512;
// More shards than reading threads of a busy mount.
inline constexpr size_t kPageCacheShards = 16;
// Entries in use that an eviction looks past before it gives up for now.
inline constexpr int kMaxEvictionSteps = 64;
// Buffer of the check of whole-file copies.
inline constexpr size_t kVerifyBufferBytes = 256 << 10;
// Buffer of the scan of a stored data file: many records, of which the longest has 8200 bytes.
inline constexpr size_t kScanBufferBytes = 256 << 10;
// A file of the index cache: the largest segment at 12 bytes a block, and its key.
inline constexpr size_t kMaxIndexFileBytes = (131072 * 12) + (64 << 10);
// PostgreSQL keeps the control struct within one disk sector.
inline constexpr size_t kMaxControlStructBytes = 512;

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_LIMITS_H_

// Decoded pages of all images within one byte budget: least recently used goes first, by shard.
//
// Thread-safe. A shard's lock is held for a look-up and the copy of one page, never for decoding.
#ifndef PBKFS_FS_IMAGE_PAGE_CACHE_H_
#define PBKFS_FS_IMAGE_PAGE_CACHE_H_

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "fs/base/mutex.h"
#include "fs/image/limits.h"

namespace pbkfs {

struct PageKey {
  uint64_t image_id = 0;
  uint64_t ino = 0;
  uint32_t block = 0;

  bool operator==(const PageKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const PageKey& key) {
    return H::combine(std::move(state), key.image_id, key.ino, key.block);
  }
};

class PageCache {
 public:
  // A budget below one page a shard switches the cache off.
  explicit PageCache(int64_t budget_bytes);

  // Copies out.size() bytes from `offset` in the page; false where the page is not here.
  bool Read(const PageKey& key, size_t offset, absl::Span<uint8_t> out);
  // Copies the 8192 bytes at `page` in, unless they are there already.
  void Insert(const PageKey& key, const uint8_t* page);
  struct Figures {
    int64_t bytes = 0;
    uint64_t hits = 0;
    uint64_t misses = 0;
    uint64_t evictions = 0;
  };
  Figures GetFigures() const;

 private:
  struct Page {
    PageKey key;
    std::unique_ptr<uint8_t[]> bytes;
  };
  struct Shard {
    mutable Mutex mutex;
    std::list<Page> recency ABSL_GUARDED_BY(mutex);  // Most recent first.
    absl::flat_hash_map<PageKey, std::list<Page>::iterator> pages ABSL_GUARDED_BY(mutex);
    Figures figures ABSL_GUARDED_BY(mutex);  // But for the bytes.
  };

  Shard& ShardOf(const PageKey& key);

  const size_t pages_per_shard_;
  std::array<Shard, kPageCacheShards> shards_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_CACHE_H_

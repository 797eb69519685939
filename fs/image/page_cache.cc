#include "fs/image/page_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/hash/hash.h"
#include "fs/catalog/limits.h"

namespace pbkfs {

PageCache::PageCache(int64_t budget_bytes)
    : pages_per_shard_(static_cast<size_t>(std::max<int64_t>(budget_bytes, 0)) / kPageBytes /
                       kPageCacheShards) {}

PageCache::Shard& PageCache::ShardOf(const PageKey& key) {
  // The map of a shard uses the low bits of the same hash.
  return shards_[(absl::Hash<PageKey>()(key) >> 32) % kPageCacheShards];
}

bool PageCache::Read(const PageKey& key, size_t offset, absl::Span<uint8_t> out) {
  assert(offset + out.size() <= static_cast<size_t>(kPageBytes));
  Shard& shard = ShardOf(key);
  MutexLock lock(&shard.mutex);
  const auto found = shard.pages.find(key);
  if (found == shard.pages.end()) {
    ++shard.figures.misses;
    return false;
  }
  ++shard.figures.hits;
  shard.recency.splice(shard.recency.begin(), shard.recency, found->second);
  memcpy(out.data(), found->second->bytes.get() + offset, out.size());
  return true;
}

void PageCache::Insert(const PageKey& key, const uint8_t* page) {
  if (pages_per_shard_ == 0) return;
  Shard& shard = ShardOf(key);
  MutexLock lock(&shard.mutex);
  if (shard.pages.contains(key)) return;
  if (shard.recency.size() < pages_per_shard_) {
    shard.recency.push_front({key, std::make_unique<uint8_t[]>(kPageBytes)});
  } else {
    // The oldest page's memory is used again.
    ++shard.figures.evictions;
    shard.pages.erase(shard.recency.back().key);
    shard.recency.splice(shard.recency.begin(), shard.recency, std::prev(shard.recency.end()));
    shard.recency.front().key = key;
  }
  memcpy(shard.recency.front().bytes.get(), page, kPageBytes);
  shard.pages.emplace(key, shard.recency.begin());
}

PageCache::Figures PageCache::GetFigures() const {
  Figures sum;
  for (const Shard& shard : shards_) {
    MutexLock lock(&shard.mutex);
    sum.bytes += static_cast<int64_t>(shard.recency.size()) * kPageBytes;
    sum.hits += shard.figures.hits;
    sum.misses += shard.figures.misses;
    sum.evictions += shard.figures.evictions;
  }
  return sum;
}

}  // namespace pbkfs

#include "fs/image/page_index_cache.h"

#include <cassert>

#include "fs/image/limits.h"

namespace pbkfs {

absl::StatusOr<PageIndexCache::IndexPtr> PageIndexCache::Get(uint64_t image_id, LowerIno ino,
                                                             Builder build) {
  const Key key(image_id, ino);
  auto own_build = std::make_shared<Build>();
  {
    MutexLock lock(&mutex_);
    const auto [place, inserted] = entries_.try_emplace(key);
    Entry& entry = place->second;
    if (entry.index != nullptr) {
      recency_.splice(recency_.begin(), recency_, entry.recency);
      ++figures_.hits;
      return entry.index;
    }
    ++figures_.misses;
    if (!inserted) {
      const std::shared_ptr<Build> other = entry.build;
      while (!other->result.has_value()) built_.Wait(&mutex_);
      return *other->result;
    }
    entry.build = own_build;
  }
  absl::StatusOr<IndexPtr> result = build();
  MutexLock lock(&mutex_);
  Publish(key, *own_build, result);
  return result;
}

void PageIndexCache::Publish(const Key& key, Build& build, absl::StatusOr<IndexPtr> result) {
  ++figures_.builds;
  const auto place = entries_.find(key);
  assert(place != entries_.end());
  if (result.ok()) {
    Entry& entry = place->second;
    entry.index = *result;
    entry.build.reset();
    entry.recency = recency_.insert(recency_.begin(), key);
    figures_.bytes += entry.index->MemoryBytes();
    Evict();
  } else {
    entries_.erase(place);
  }
  build.result = std::move(result);
  built_.SignalAll();
}

void PageIndexCache::Evict() {
  auto oldest = recency_.end();
  for (int step = 0; step < kMaxEvictionSteps && figures_.bytes > budget_bytes_; ++step) {
    if (oldest == recency_.begin()) return;
    --oldest;
    const auto place = entries_.find(*oldest);
    // Whoever reads with an index keeps it alive anyway; dropping it here would free nothing.
    if (place->second.index.use_count() > 1) continue;
    figures_.bytes -= place->second.index->MemoryBytes();
    ++figures_.evictions;
    entries_.erase(place);
    oldest = recency_.erase(oldest);
  }
}

void PageIndexCache::Forget(uint64_t image_id) {
  MutexLock lock(&mutex_);
  for (auto key = recency_.begin(); key != recency_.end();) {
    if (key->first != image_id) {
      ++key;
      continue;
    }
    const auto place = entries_.find(*key);
    figures_.bytes -= place->second.index->MemoryBytes();
    entries_.erase(place);
    key = recency_.erase(key);
  }
}

PageIndexCache::Figures PageIndexCache::GetFigures() const {
  MutexLock lock(&mutex_);
  return figures_;
}

}  // namespace pbkfs

// Page indexes of all images within one byte budget. An index is built by its first user while
// later ones wait for it; the least recently used that nobody holds is dropped first.
//
// Thread-safe. No lock is held while an index is built.
#ifndef PBKFS_FS_IMAGE_PAGE_INDEX_CACHE_H_
#define PBKFS_FS_IMAGE_PAGE_INDEX_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"
#include "fs/image/page_index.h"

namespace pbkfs {

class PageIndexCache {
 public:
  using IndexPtr = std::shared_ptr<const PageIndex>;
  using Builder = absl::FunctionRef<absl::StatusOr<IndexPtr>()>;
  struct Figures {
    int64_t bytes = 0;
    uint64_t hits = 0;
    uint64_t misses = 0;
    uint64_t builds = 0;
    uint64_t evictions = 0;
  };

  explicit PageIndexCache(int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The index of file `ino` of image `image_id`. A failure goes to everybody who waited for that
  // build; the next call tries again.
  absl::StatusOr<IndexPtr> Get(uint64_t image_id, LowerIno ino, Builder build);
  // Drops what belongs to an image. Its files are closed: nobody asks for them again.
  void Forget(uint64_t image_id);
  Figures GetFigures() const;

 private:
  using Key = std::pair<uint64_t, LowerIno>;
  // One build, shared by those who wait for it.
  struct Build {
    std::optional<absl::StatusOr<IndexPtr>> result;
  };
  struct Entry {
    std::shared_ptr<Build> build;  // Null once there is an index.
    IndexPtr index;
    std::list<Key>::iterator recency;  // Valid where there is an index.
  };

  void Publish(const Key& key, Build& build, absl::StatusOr<IndexPtr> result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t budget_bytes_;
  mutable Mutex mutex_;
  CondVar built_;
  absl::flat_hash_map<Key, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::list<Key> recency_ ABSL_GUARDED_BY(mutex_);  // Most recent first.
  Figures figures_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_INDEX_CACHE_H_

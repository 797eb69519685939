// What all images of a daemon share below them. The public face is ImageCaches in image.h.
#ifndef PBKFS_FS_IMAGE_IMAGE_CACHES_H_
#define PBKFS_FS_IMAGE_IMAGE_CACHES_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "fs/catalog/file_list.h"
#include "fs/image/image.h"
#include "fs/image/index_store.h"
#include "fs/image/page_cache.h"
#include "fs/image/page_index_cache.h"
#include "fs/image/stored_files.h"

namespace pbkfs {

class SharedCaches final : public ImageCaches {
 public:
  // The budgets in `options` are given, not -1.
  explicit SharedCaches(const ImageCacheOptions& options);
  ImageCacheFigures Figures() const override;

  // Numbers are never used twice, so that what an old image left behind is never found again.
  uint64_t NextImageId() { return next_image_id_.fetch_add(1, std::memory_order_relaxed); }
  void CountDecoded(CompressAlg algorithm, uint64_t pages);
  void CountScan() { scans_.fetch_add(1, std::memory_order_relaxed); }
  void Forget(uint64_t image_id);

  PageIndexCache indexes;
  PageCache pages;
  StoredFiles stored_files;
  IndexStore index_store;

 private:
  const ImageCacheOptions options_;
  std::atomic<uint64_t> next_image_id_{1};
  std::atomic<uint64_t> scans_{0};
  std::array<std::atomic<uint64_t>, kCompressAlgCount> decoded_{};  // By algorithm.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_IMAGE_CACHES_H_

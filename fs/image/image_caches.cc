#include "fs/image/image_caches.h"

#include "fs/image/limits.h"

namespace pbkfs {

std::shared_ptr<ImageCaches> ImageCaches::Create(const ImageCacheOptions& options) {
  return std::make_shared<SharedCaches>(options);
}

SharedCaches::SharedCaches(const ImageCacheOptions& options)
    : indexes(options.page_index_bytes),
      pages(options.decoded_page_bytes),
      stored_files(kMaxOpenStoredFiles) {}

void SharedCaches::CountDecoded(CompressAlg algorithm, uint64_t count) {
  std::atomic<uint64_t>* counter = &decoded_none_;
  if (algorithm == CompressAlg::kZlib) counter = &decoded_zlib_;
  if (algorithm == CompressAlg::kPglz) counter = &decoded_pglz_;
  counter->fetch_add(count, std::memory_order_relaxed);
}

void SharedCaches::Forget(uint64_t image_id) {
  // Decoded pages age out by themselves.
  indexes.Forget(image_id);
  stored_files.Forget(image_id);
}

ImageCacheFigures SharedCaches::Figures() const {
  ImageCacheFigures figures;
  const PageIndexCache::Figures index_figures = indexes.GetFigures();
  figures.page_index_bytes = index_figures.bytes;
  figures.page_index_builds = index_figures.builds;
  figures.page_index_evictions = index_figures.evictions;
  figures.decoded_page_bytes = pages.Bytes();
  figures.decoded_pages_none = decoded_none_.load(std::memory_order_relaxed);
  figures.decoded_pages_zlib = decoded_zlib_.load(std::memory_order_relaxed);
  figures.decoded_pages_pglz = decoded_pglz_.load(std::memory_order_relaxed);
  return figures;
}

}  // namespace pbkfs

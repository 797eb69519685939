#include "fs/image/image_caches.h"

#include "fs/base/memory_limit.h"
#include "fs/image/limits.h"

namespace pbkfs {

std::shared_ptr<ImageCaches> ImageCaches::Create(const ImageCacheOptions& options) {
  ImageCacheOptions budgets = options;
  const int64_t limit = MemoryLimitBytes();
  if (budgets.page_index_bytes < 0) {
    budgets.page_index_bytes = MemoryShareBytes(limit, kPageIndexMemoryDivisor, kMaxPageIndexBytes);
  }
  if (budgets.decoded_page_bytes < 0) {
    budgets.decoded_page_bytes =
        MemoryShareBytes(limit, kDecodedPageMemoryDivisor, kMaxDecodedPageBytes);
  }
  return std::make_shared<SharedCaches>(budgets);
}

SharedCaches::SharedCaches(const ImageCacheOptions& options)
    : indexes(options.page_index_bytes),
      pages(options.decoded_page_bytes),
      stored_files(kMaxOpenStoredFiles),
      index_store(options.index_cache_directory, options.index_cache_directory_bytes),
      options_(options) {}

void SharedCaches::CountDecoded(CompressAlg algorithm, uint64_t count) {
  decoded_[static_cast<size_t>(algorithm)].fetch_add(count, std::memory_order_relaxed);
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
  figures.page_index_budget_bytes = options_.page_index_bytes;
  figures.page_index_hits = index_figures.hits;
  figures.page_index_misses = index_figures.misses;
  figures.page_index_builds = index_figures.builds;
  figures.page_index_evictions = index_figures.evictions;
  figures.stream_scans = scans_.load(std::memory_order_relaxed);
  figures.index_cache_directory_bytes = index_store.Bytes();
  const PageCache::Figures page_figures = pages.GetFigures();
  figures.decoded_page_bytes = page_figures.bytes;
  figures.decoded_page_budget_bytes = options_.decoded_page_bytes;
  figures.decoded_page_hits = page_figures.hits;
  figures.decoded_page_misses = page_figures.misses;
  figures.decoded_page_evictions = page_figures.evictions;
  const auto decoded = [this](CompressAlg algorithm) {
    return decoded_[static_cast<size_t>(algorithm)].load(std::memory_order_relaxed);
  };
  figures.decoded_pages_none = decoded(CompressAlg::kNone);
  figures.decoded_pages_zlib = decoded(CompressAlg::kZlib);
  figures.decoded_pages_pglz = decoded(CompressAlg::kPglz);
  figures.decoded_pages_lz4 = decoded(CompressAlg::kLz4);
  figures.decoded_pages_zstd = decoded(CompressAlg::kZstd);
  return figures;
}

}  // namespace pbkfs

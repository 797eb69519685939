#include "fs/image/page_codec.h"

#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <memory>

#include "fs/catalog/limits.h"
#include "fs/image/pglz.h"

namespace pbkfs {
namespace {

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* decompressor) const {
    libdeflate_free_decompressor(decompressor);
  }
};

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// One raw block. The decoder fails where input is left over.
bool DecodeLz4(absl::Span<const uint8_t> in, absl::Span<uint8_t> out) {
  const int count = LZ4_decompress_safe(reinterpret_cast<const char*>(in.data()),
                                        reinterpret_cast<char*>(out.data()),
                                        static_cast<int>(in.size()), static_cast<int>(out.size()));
  return count >= 0 && static_cast<size_t>(count) == out.size();
}

// One frame, and nothing after it.
bool DecodeZstd(absl::Span<const uint8_t> in, absl::Span<uint8_t> out) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (context == nullptr) return false;
  if (ZSTD_findFrameCompressedSize(in.data(), in.size()) != in.size()) return false;
  return ZSTD_decompressDCtx(context.get(), out.data(), out.size(), in.data(), in.size()) ==
         out.size();
}

}  // namespace

bool InflateZlib(absl::Span<const uint8_t> in, absl::Span<uint8_t> out) {
  thread_local const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> decompressor(
      libdeflate_alloc_decompressor());
  if (decompressor == nullptr) return false;
  size_t used = 0;
  // Without a place for the actual length, anything but a full output is an error.
  const libdeflate_result result = libdeflate_zlib_decompress_ex(
      decompressor.get(), in.data(), in.size(), out.data(), out.size(), &used, nullptr);
  return result == LIBDEFLATE_SUCCESS && used == in.size();
}

bool DecodePage(CompressAlg algorithm, absl::Span<const uint8_t> payload, uint8_t* page) {
  switch (algorithm) {
    case CompressAlg::kNone:
      if (payload.size() != kPageBytes) return false;
      memcpy(page, payload.data(), kPageBytes);
      return true;
    case CompressAlg::kZlib:
      return InflateZlib(payload, absl::MakeSpan(page, kPageBytes));
    case CompressAlg::kPglz:
      return PglzDecode(payload, absl::MakeSpan(page, kPageBytes));
    case CompressAlg::kLz4:
      return DecodeLz4(payload, absl::MakeSpan(page, kPageBytes));
    case CompressAlg::kZstd:
      return DecodeZstd(payload, absl::MakeSpan(page, kPageBytes));
  }
  return false;
}

}  // namespace pbkfs

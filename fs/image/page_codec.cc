#include "fs/image/page_codec.h"

#include <libdeflate.h>

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

}  // namespace

bool IsDecodable(CompressAlg algorithm) {
  return algorithm == CompressAlg::kNone || algorithm == CompressAlg::kZlib ||
         algorithm == CompressAlg::kPglz;
}

CompressAlg PayloadAlgorithm(CompressAlg file_algorithm, size_t length) {
  return length == kPageBytes ? CompressAlg::kNone : file_algorithm;
}

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
    case CompressAlg::kZstd:
      break;
  }
  return false;
}

}  // namespace pbkfs

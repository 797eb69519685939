// Turns the payload of one stored record into a page.
#ifndef PBKFS_FS_IMAGE_PAGE_CODEC_H_
#define PBKFS_FS_IMAGE_PAGE_CODEC_H_

#include <cstdint>

#include "absl/types/span.h"
#include "fs/catalog/file_list.h"

namespace pbkfs {

// Writes exactly 8192 bytes to `page`, or returns false; all of `payload` must be used. Allocates
// nothing but, once a thread, a decompressor.
bool DecodePage(CompressAlg algorithm, absl::Span<const uint8_t> payload, uint8_t* page);

// Inflates a zlib stream into exactly `out`, using all of `in`.
bool InflateZlib(absl::Span<const uint8_t> in, absl::Span<uint8_t> out);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_CODEC_H_

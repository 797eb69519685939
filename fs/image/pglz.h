// PostgreSQL's own LZ compression, decoding only (format document, section 6.3).
#ifndef PBKFS_FS_IMAGE_PGLZ_H_
#define PBKFS_FS_IMAGE_PGLZ_H_

#include <cstdint>

#include "absl/types/span.h"

namespace pbkfs {

// Decodes `in` into exactly `out`. False where the input is damaged: it ends early, it is not used
// up, or a reference points before the start. Touches nothing outside of the two spans.
bool PglzDecode(absl::Span<const uint8_t> in, absl::Span<uint8_t> out);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PGLZ_H_

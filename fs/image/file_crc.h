// The CRC of a stored file as the list of files gives it: CRC-32C, or the ordinary CRC-32 in the
// versions that used that one.
#ifndef PBKFS_FS_IMAGE_FILE_CRC_H_
#define PBKFS_FS_IMAGE_FILE_CRC_H_

#include <libdeflate.h>

#include <cstdint>

#include "absl/types/span.h"
#include "fs/base/crc32c.h"
#include "fs/catalog/format_rules.h"

namespace pbkfs {

class FileCrc {
 public:
  explicit FileCrc(const FormatRules& rules) : ieee_(rules.ieee_file_crc) {}

  void Update(absl::Span<const uint8_t> bytes) {
    value_ = ieee_ ? libdeflate_crc32(value_, bytes.data(), bytes.size())
                   : Crc32c(value_, bytes.data(), bytes.size());
  }
  uint32_t value() const { return value_; }

 private:
  const bool ieee_;
  uint32_t value_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_FILE_CRC_H_

// SHA-256 (FIPS 180-4), for naming things by their content. Not for secrets: it is written to be
// small, not to resist timing attacks.
#ifndef PBKFS_FS_BASE_SHA256_H_
#define PBKFS_FS_BASE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace pbkfs {

class Sha256 {
 public:
  void Update(const void* data, size_t size);
  void Update(absl::string_view data) { Update(data.data(), data.size()); }
  // The digest of all bytes so far, in lower-case hex. The object can't be used after that.
  std::string FinishHex();

 private:
  void Block(const uint8_t* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  size_t pending_size_ = 0;
  uint64_t total_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_SHA256_H_

// Payloads of one page in every codec, pglz among them. The buffers have exactly one page, so that
// the address sanitizer sees a byte too far.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fs/catalog/limits.h"
#include "fs/image/page_codec.h"
#include "fs/image/pglz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto algorithm = static_cast<pbkfs::CompressAlg>(data[0] % pbkfs::kCompressAlgCount);
  const std::vector<uint8_t> payload(data + 1, data + size);
  std::vector<uint8_t> page(pbkfs::kPageBytes);
  pbkfs::DecodePage(algorithm, payload, page.data());
  std::vector<uint8_t> small(data[0]);
  pbkfs::PglzDecode(payload, absl::MakeSpan(small));
  return 0;
}

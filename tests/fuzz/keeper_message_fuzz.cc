// Any packet between keeper and worker: it is refused, or is the one that its message makes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "service/keeper/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const char> bytes(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<pbkfs::KeeperMessage> message = pbkfs::DecodeMessage(bytes);
  if (!message.ok()) return 0;
  std::string again = pbkfs::EncodeMessage(*message);
  // Four bytes are zeros for whoever reads them, whatever they are.
  for (size_t i = 20; i < 24; ++i) again[i] = bytes[i];
  if (again != std::string(bytes.data(), bytes.size())) abort();
  return 0;
}

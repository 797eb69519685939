// Little-endian integers in byte buffers, on hosts of either byte order.
#ifndef PBKFS_FS_BASE_BYTES_H_
#define PBKFS_FS_BASE_BYTES_H_

#include <cstdint>
#include <type_traits>

namespace pbkfs {

template <typename T>
T LoadLittleEndian(const void* from) {
  static_assert(std::is_integral_v<T>);
  using Unsigned = std::make_unsigned_t<T>;
  const auto* bytes = static_cast<const uint8_t*>(from);
  Unsigned value = 0;
  for (unsigned i = 0; i < sizeof(T); ++i) {
    value = static_cast<Unsigned>(value | (static_cast<Unsigned>(bytes[i]) << (8 * i)));
  }
  return static_cast<T>(value);
}

template <typename T>
void StoreLittleEndian(T value, void* to) {
  static_assert(std::is_integral_v<T>);
  auto* bytes = static_cast<uint8_t*>(to);
  for (unsigned i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<uint8_t>(static_cast<std::make_unsigned_t<T>>(value) >> (8 * i));
  }
}

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_BYTES_H_

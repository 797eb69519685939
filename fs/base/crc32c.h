// CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, initial value and final xor 0xFFFFFFFF.
// The check value of "123456789" is 0xE3069283.
#ifndef PBKFS_FS_BASE_CRC32C_H_
#define PBKFS_FS_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace pbkfs {

// The CRC of `size` bytes that follow bytes whose CRC is `crc` (0 = nothing before).
uint32_t Crc32c(uint32_t crc, const void* data, size_t size);

inline uint32_t Crc32c(const void* data, size_t size) { return Crc32c(0, data, size); }

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_CRC32C_H_

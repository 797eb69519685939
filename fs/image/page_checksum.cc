#include "fs/image/page_checksum.h"

#include <bit>
#include <cstring>

#include "fs/base/bytes.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

// Four vectors of eight sums: one register each with AVX2, two with SSE.
constexpr int kVectors = 4;
typedef uint32_t Lanes __attribute__((vector_size(32)));

constexpr uint32_t kInitial[32] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};
constexpr uint32_t kPrime = 16777619;
constexpr size_t kRowBytes = sizeof(kInitial);

__attribute__((always_inline)) inline void Round(Lanes* sums, const uint8_t* row) {
  for (int i = 0; i < kVectors; ++i) {
    Lanes values;
    memcpy(&values, row + i * sizeof(values), sizeof(values));
    if constexpr (std::endian::native == std::endian::big) {
      for (int k = 0; k < 8; ++k) values[k] = __builtin_bswap32(values[k]);
    }
    const Lanes mixed = sums[i] ^ values;
    sums[i] = mixed * kPrime ^ (mixed >> 17);
  }
}

__attribute__((always_inline)) inline uint32_t Sum(const uint8_t* page) {
  Lanes sums[kVectors];
  memcpy(sums, kInitial, sizeof(sums));
  // The checksum field lies in the first row; it counts as zero.
  uint8_t first[kRowBytes];
  memcpy(first, page, kRowBytes);
  first[8] = 0;
  first[9] = 0;
  Round(sums, first);
  for (const uint8_t* row = page + kRowBytes; row != page + kPageBytes; row += kRowBytes) {
    Round(sums, row);
  }
  static constexpr uint8_t kZeros[kRowBytes] = {};
  Round(sums, kZeros);
  Round(sums, kZeros);
  uint32_t words[32];
  memcpy(words, sums, sizeof(words));
  uint32_t sum = 0;
  for (const uint32_t word : words) sum ^= word;
  return sum;
}

uint32_t SumPortable(const uint8_t* page) { return Sum(page); }
#if defined(__x86_64__)
__attribute__((target("avx2"))) uint32_t SumAvx2(const uint8_t* page) { return Sum(page); }
#endif

}  // namespace

uint16_t PageChecksum(const uint8_t* page, uint32_t block) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  const uint32_t sum = has_avx2 ? SumAvx2(page) : SumPortable(page);
#else
  const uint32_t sum = SumPortable(page);
#endif
  return static_cast<uint16_t>((sum ^ block) % 65535 + 1);
}

bool IsZeroPage(const uint8_t* page) {
  return page[0] == 0 && memcmp(page, page + 1, kPageBytes - 1) == 0;
}

bool HasPlausibleHeader(const uint8_t* page) {
  constexpr unsigned kHeaderBytes = 24;
  const unsigned flags = LoadLittleEndian<uint16_t>(page + 10);
  const unsigned lower = LoadLittleEndian<uint16_t>(page + 12);
  const unsigned upper = LoadLittleEndian<uint16_t>(page + 14);
  const unsigned special = LoadLittleEndian<uint16_t>(page + 16);
  const unsigned page_size = LoadLittleEndian<uint16_t>(page + 18) & 0xFF00u;
  return page_size == kPageBytes && (flags & ~7u) == 0 && lower >= kHeaderBytes && lower <= upper &&
         upper <= special && special <= kPageBytes && special % 8 == 0;
}

}  // namespace pbkfs

#include "tests/support/page_format.h"

#include <algorithm>
#include <cstring>

namespace pbkfs::testsupport {
namespace {

// Offsets in the page header.
constexpr size_t kLsnHighOffset = 0;
constexpr size_t kLsnLowOffset = 4;
constexpr size_t kChecksumOffset = 8;
constexpr size_t kFlagsOffset = 10;
constexpr size_t kLowerOffset = 12;
constexpr size_t kUpperOffset = 14;
constexpr size_t kSpecialOffset = 16;
constexpr size_t kSizeVersionOffset = 18;
constexpr size_t kHeaderBytes = 24;

// Eight tables, so that eight bytes cost eight look-ups and no dependent chain of shifts.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

CrcTables MakeCrcTables() {
  CrcTables tables;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value & 1) != 0 ? (value >> 1) ^ 0x82F63B78u : value >> 1;
    }
    tables[0][byte] = value;
  }
  for (size_t table = 1; table < tables.size(); ++table) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t previous = tables[table - 1][byte];
      tables[table][byte] = (previous >> 8) ^ tables[0][previous & 0xFF];
    }
  }
  return tables;
}

// The start values of the 32 sums of the page checksum.
constexpr std::array<uint32_t, 32> kChecksumStart = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};

uint32_t ChecksumRound(uint32_t sum, uint32_t value) {
  const uint32_t mixed = sum ^ value;
  return (mixed * 16777619u) ^ (mixed >> 17);
}

uint16_t GetU16(const Page& page, size_t offset) {
  return static_cast<uint16_t>(GetLe(page.data() + offset, 2));
}

// SplitMix64: a small generator whose sequence is the same on every machine.
uint64_t NextRandom(uint64_t& state) {
  uint64_t value = (state += 0x9E3779B97F4A7C15u);
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

void FillText(uint64_t random, uint8_t* to, size_t size) {
  static constexpr std::string_view kWords[] = {"account ", "balance ", "branch ", "teller ",
                                                "history ", "filler  ", "delta ",  "epoch "};
  size_t position = 0;
  while (position < size) {
    const uint64_t draw = NextRandom(random);
    std::string row(kWords[draw & 7]);
    row += std::to_string((draw >> 3) % 100000);
    row.append(16, ' ');
    const size_t length = std::min(row.size(), size - position);
    memcpy(to + position, row.data(), length);
    position += length;
  }
}

}  // namespace

void PutLe(uint8_t* to, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t GetLe(const uint8_t* from, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(from[i]) << (8 * i);
  return value;
}

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
  static const CrcTables kTables = MakeCrcTables();
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  uint32_t state = ~crc;
  for (; size >= 8; bytes += 8, size -= 8) {
    const uint64_t word = GetLe(bytes, 8) ^ state;
    state = 0;
    for (size_t i = 0; i < 8; ++i) state ^= kTables[7 - i][(word >> (8 * i)) & 0xFF];
  }
  for (; size > 0; ++bytes, --size) state = (state >> 8) ^ kTables[0][(state ^ *bytes) & 0xFF];
  return ~state;
}

uint32_t Crc32c(std::string_view data) { return Crc32c(data.data(), data.size()); }

uint16_t PageChecksum(const Page& page, uint32_t absolute_block) {
  Page copy = page;
  copy[kChecksumOffset] = copy[kChecksumOffset + 1] = 0;
  std::array<uint32_t, 32> sums = kChecksumStart;
  for (size_t word = 0; word < kBlockSize / 4; word += 32) {
    for (size_t i = 0; i < 32; ++i) {
      sums[i] =
          ChecksumRound(sums[i], static_cast<uint32_t>(GetLe(copy.data() + 4 * (word + i), 4)));
    }
  }
  uint32_t result = absolute_block;
  for (uint32_t sum : sums) result ^= ChecksumRound(ChecksumRound(sum, 0), 0);
  return static_cast<uint16_t>(result % 65535 + 1);
}

bool IsZeroPage(const Page& page) {
  return std::all_of(page.begin(), page.end(), [](uint8_t byte) { return byte == 0; });
}

bool HasPlausibleHeader(const Page& page) {
  const uint32_t lower = GetU16(page, kLowerOffset);
  const uint32_t upper = GetU16(page, kUpperOffset);
  const uint32_t special = GetU16(page, kSpecialOffset);
  return (GetU16(page, kSizeVersionOffset) & 0xFF00u) == kBlockSize &&
         (GetU16(page, kFlagsOffset) & ~7u) == 0 && lower >= kHeaderBytes && lower <= upper &&
         upper <= special && special <= kBlockSize && special % 8 == 0;
}

uint64_t PageLsn(const Page& page) {
  return GetLe(page.data() + kLsnHighOffset, 4) << 32 | GetLe(page.data() + kLsnLowOffset, 4);
}

uint16_t StoredChecksum(const Page& page) { return GetU16(page, kChecksumOffset); }

void StampPage(Page& page, uint64_t lsn, uint32_t absolute_block) {
  PutLe(page.data() + kLsnHighOffset, lsn >> 32, 4);
  PutLe(page.data() + kLsnLowOffset, lsn, 4);
  PutLe(page.data() + kChecksumOffset, PageChecksum(page, absolute_block), 2);
}

Page MakePage(uint64_t seed, uint64_t lsn, uint32_t absolute_block, PageFill fill) {
  Page page{};
  if (fill == PageFill::kZero) return page;
  uint64_t random = seed * 0x100000001B3u + absolute_block;
  constexpr uint32_t kLower = kHeaderBytes + 4 * 16;
  const uint32_t upper = fill == PageFill::kSparse ? kBlockSize - 64 : kLower;
  PutLe(page.data() + kLowerOffset, kLower, 2);
  PutLe(page.data() + kUpperOffset, upper, 2);
  PutLe(page.data() + kSpecialOffset, kBlockSize, 2);
  PutLe(page.data() + kSizeVersionOffset, kBlockSize | 4, 2);
  if (fill == PageFill::kRandom || fill == PageFill::kNearlyRandom) {
    for (size_t i = kHeaderBytes; i < kBlockSize; i += 8) {
      PutLe(page.data() + i, NextRandom(random), 8);
    }
    if (fill == PageFill::kNearlyRandom) {
      // Longer and longer runs of zeros, up to one page in eight: what the codec gains there it
      // loses elsewhere.
      std::fill_n(page.begin() + kBlockSize / 2, seed % (kBlockSize / 8), uint8_t{0});
    }
  } else {
    FillText(random, page.data() + upper, kBlockSize - upper);
  }
  StampPage(page, lsn, absolute_block);
  return page;
}

}  // namespace pbkfs::testsupport

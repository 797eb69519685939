// PostgreSQL pages and checksums as the catalog writer needs them: CRC-32C, the page checksum, the
// page header, and pages made up for tests.
//
// The writer shares no code with fs/: reader and writer are two independent readings of the same
// format, so that an error in one of them shows. Hence the second CRC and the second checksum, and
// the namespace of their own.
//
// Everything here is a pure function and may be called from any thread.
#ifndef PBKFS_TESTS_SUPPORT_PAGE_FORMAT_H_
#define PBKFS_TESTS_SUPPORT_PAGE_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pbkfs::testsupport {

inline constexpr uint32_t kBlockSize = 8192;
// Blocks of a 1 GiB segment file. The page checksum covers the block number counted over all
// segments.
inline constexpr uint32_t kBlocksPerSegment = 131072;

using Page = std::array<uint8_t, kBlockSize>;

// CRC-32C (Castagnoli) of `size` bytes that follow bytes whose CRC is `crc`; 0 = nothing before.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);
uint32_t Crc32c(std::string_view data);

// The checksum of a page that is not all zeros. `absolute_block` = segment * kBlocksPerSegment +
// block.
uint16_t PageChecksum(const Page& page, uint32_t absolute_block);

bool IsZeroPage(const Page& page);
// Whether the header is one that PostgreSQL could have written; does not look at the checksum.
bool HasPlausibleHeader(const Page& page);
uint64_t PageLsn(const Page& page);
uint16_t StoredChecksum(const Page& page);

// Sets LSN and checksum of a page in place.
void StampPage(Page& page, uint64_t lsn, uint32_t absolute_block);

// What fills a page that MakePage makes.
enum class PageFill {
  kText,          // Compresses to about a quarter, like table rows.
  kRandom,        // Does not compress: every codec stores it raw.
  kSparse,        // Nearly empty: compresses to a few dozen bytes.
  kNearlyRandom,  // As much as it takes so that the compressed page is about as long as the page.
  kZero,          // All zeros, without a header: what PostgreSQL calls a new page.
};

// A valid page with header, LSN and checksum. Equal arguments give equal bytes.
Page MakePage(uint64_t seed, uint64_t lsn, uint32_t absolute_block,
              PageFill fill = PageFill::kText);

// Little-endian stores and loads, whatever the host.
void PutLe(uint8_t* to, uint64_t value, size_t bytes);
uint64_t GetLe(const uint8_t* from, size_t bytes);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_PAGE_FORMAT_H_

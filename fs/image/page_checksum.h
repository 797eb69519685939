// PostgreSQL's data page checksum (format document, section 12.2).
#ifndef PBKFS_FS_IMAGE_PAGE_CHECKSUM_H_
#define PBKFS_FS_IMAGE_PAGE_CHECKSUM_H_

#include <cstdint>

namespace pbkfs {

// The checksum of the 8192 bytes at `page`; `block` is absolute in the relation. Never 0. The
// checksum field in the page counts as zero.
uint16_t PageChecksum(const uint8_t* page, uint32_t block);

// Whether all 8192 bytes are zero.
bool IsZeroPage(const uint8_t* page);

// Whether the header is one that PostgreSQL could have written; the checksum is not looked at. Not
// true of a zero page.
bool HasPlausibleHeader(const uint8_t* page);

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGE_CHECKSUM_H_

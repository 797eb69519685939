// Bounds on everything that is read from a catalog, each with its reason. A catalog is untrusted
// input: what is over a bound is refused, never truncated.
#ifndef PBKFS_FS_CATALOG_LIMITS_H_
#define PBKFS_FS_CATALOG_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace pbkfs {

// The only block size that pg_probackup was ever built for in practice.
inline constexpr int64_t kPageBytes = 8192;
// Blocks in one segment file of a relation: 1 GiB.
inline constexpr int64_t kSegmentBlocks = 131072;
// The highest segment number that pg_probackup accepts in a name.
inline constexpr int64_t kMaxSegment = 32767;
// Each record of a page stream is an 8-byte header and at most one page.
inline constexpr int64_t kRecordHeaderBytes = 8;
inline constexpr int64_t kMaxPageStreamBytes = kSegmentBlocks * (kPageBytes + kRecordHeaderBytes);
// The shortest record: a header and one byte.
inline constexpr int64_t kMinRecordBytes = kRecordHeaderBytes + 1;

// One record of an inflated page header blob.
inline constexpr int64_t kHeaderRecordBytes = 24;
// A blob deflated at level 1 never grows by more than a few bytes per 5 KiB block; 4 KiB cover the
// largest.
inline constexpr int64_t kMaxHeaderBlobBytes = (kSegmentBlocks + 1) * kHeaderRecordBytes + 4096;

// A real backup.control has about 1 KiB; the note and the connection string are bounded.
inline constexpr size_t kMaxControlFileBytes = 64 << 10;
// About four million files.
inline constexpr size_t kMaxFileListBytes = size_t{1} << 30;
// Buffer sizes of pg_probackup's own parsers: longer items were never written by it.
inline constexpr size_t kMaxControlLineBytes = 4095;
inline constexpr size_t kMaxControlKeyBytes = 1023;
inline constexpr size_t kMaxControlValueBytes = 2047;
inline constexpr size_t kMaxListLineBytes = 8191;
inline constexpr size_t kMaxPathBytes = 1023;
// NAME_MAX of Linux: a longer component can't be opened and can't be shown.
inline constexpr size_t kMaxComponentBytes = 255;
inline constexpr int64_t kMaxExternalDirs = 65535;

// Thirteen base-36 digits hold any int64.
inline constexpr size_t kMaxBackupIdBytes = 13;
// Longer chains than any retention policy makes; bounds the descriptors and the memory of a mount.
inline constexpr size_t kMaxChainLength = 10000;
// Entries looked at in a directory of the catalog (instances, backups).
inline constexpr size_t kMaxDirectoryEntries = 100000;

// Program versions, as a*10000 + b*100 + c. From 2.4.0 on backups have page_header_map and unpadded
// records; nothing is known about 3.x.
inline constexpr uint32_t kMinProgramVersion = 20400;
inline constexpr uint32_t kEndProgramVersion = 30000;

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_LIMITS_H_

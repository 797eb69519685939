// Bounds on everything that is read from a catalog, each with its reason. A catalog is untrusted
// input: what is over a bound is refused, never truncated.
#ifndef PBKFS_FS_CATALOG_LIMITS_H_
#define PBKFS_FS_CATALOG_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

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

// Write-ahead log. PostgreSQL's only page size for it in practice, and its own bounds on segments.
inline constexpr uint64_t kWalPageBytes = 8192;
inline constexpr uint32_t kMinWalSegmentBytes = 1 << 20;
inline constexpr uint32_t kMaxWalSegmentBytes = 1 << 30;
// PostgreSQL refuses to write longer records (XLogRecordMaxSize), or can't allocate them.
inline constexpr uint32_t kMaxWalRecordBytes = 1 << 30;
// Kept of a record's payload: a tablespace record holds a path, all else only counts for the CRC.
inline constexpr uint64_t kMaxWalPayloadBytes = 16 << 10;
// Read from a segment at once.
inline constexpr uint64_t kWalWindowBytes = 256 << 10;
// An archive of 100 TB has six million segments of 16 MiB.
inline constexpr size_t kMaxArchiveEntries = 10'000'000;
// A server has a new timeline after each promotion; its history file has a line of about 80 bytes
// for each.
inline constexpr size_t kMaxTimelines = 10000;
inline constexpr size_t kMaxHistoryFileBytes = 1 << 20;
// Segments of an archive that a mount remembers inode numbers for.
inline constexpr size_t kMaxWalNodes = 1 << 20;
// Read from a compressed segment, and written of what it unpacks to, at once.
inline constexpr size_t kUnpackChunkBytes = 256 << 10;
// Disk space for unpacked segments: that of 256 servers that recover at the same time, and of four
// with the largest segments. Those that nobody reads may stay up to the second bound, for the other
// clones of the same backup.
inline constexpr int64_t kMaxUnpackedBytes = int64_t{4} << 30;
inline constexpr int64_t kMaxIdleUnpackedBytes = 256 << 20;
// Named to the user; nobody reads more.
inline constexpr size_t kMaxTablespaceCreations = 100;

// pg_probackup reads its lock files into a buffer of this size.
inline constexpr size_t kMaxLockFileBytes = 8 << 10;
// pg_probackup takes an empty backup.pid for one whose maker died after this time.
inline constexpr absl::Duration kEmptyLockAge = absl::Seconds(30);
// Between attempts to take a lock that somebody holds, usually for the blink of an eye.
inline constexpr absl::Duration kLockRetryPeriod = absl::Milliseconds(50);

// The struct in global/pg_control with its CRC ends before this in every version.
inline constexpr size_t kMinPgControlBytes = 512;

// How old the news of a mounted chain may be when a read asks. A deletion is noticed within this,
// and health checks see it well within five seconds.
inline constexpr int64_t kCatalogCheckMilliseconds = 2000;

// Program versions, as a*10000 + b*100 + c. Nothing is known of what is older than 2.0.17, and of
// 3.x; format_rules.h has what changed in between.
inline constexpr uint32_t kMinProgramVersion = 20017;
inline constexpr uint32_t kEndProgramVersion = 30000;
// The newest that real catalogs of were read; newer ones come with a warning.
inline constexpr uint32_t kTestedProgramVersion = 20516;
// The newest server whose backups are described.
inline constexpr int kMaxServerMajor = 18;
// Three versions wrote broken lists from this length on; pg_probackup itself calls them corrupt.
inline constexpr uint32_t kBrokenListVersions[] = {20104, 20105, 20201};
inline constexpr size_t kBrokenListBytes = 4096000;

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_LIMITS_H_

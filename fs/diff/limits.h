// Limits of the writable layer, each with its reason.
#ifndef PBKFS_FS_DIFF_LIMITS_H_
#define PBKFS_FS_DIFF_LIMITS_H_

#include <cstdint>

namespace pbkfs {

// The unit of copy-on-write: PostgreSQL's page, so that a page write never has to read the backup.
inline constexpr int64_t kBlockSize = 8192;

// Inode numbers of files that the diff creates start here: far above the rank of any file of an
// image.
inline constexpr uint64_t kFirstNewIno = uint64_t{1} << 40;

// readdir offsets: "." and "..", then image entries by inode number, then entries that the diff
// added by the sequence of the record that added them.
inline constexpr uint64_t kCookieDot = 1;
inline constexpr uint64_t kCookieDotDot = 2;
inline constexpr uint64_t kCookieLowerBase = 2;
inline constexpr uint64_t kCookieAddedBase = uint64_t{1} << 42;

inline constexpr size_t kMaxNameBytes = 255;      // NAME_MAX: what the kernel accepts.
inline constexpr size_t kMaxSymlinkBytes = 4095;  // PATH_MAX less the terminating zero.
inline constexpr int64_t kMaxFileBytes =
    int64_t{1} << 43;  // 8 TiB: half of what ext4 takes with 4 KiB blocks.

// A record holds at most two names and a symlink target; more is damage.
inline constexpr size_t kMaxRecordBytes = 16 << 10;
// What the sets of blocks of one log may occupy: 16 TiB of blocks. A log that asks for more is no
// log of ours; without a bound a few bytes of it could ask for all memory.
inline constexpr size_t kMaxBlockSetBytes = size_t{256} << 20;
// Inode numbers and sequences count up by one; none that was given away comes near this.
inline constexpr uint64_t kMaxCounter = uint64_t{1} << 62;
// A log that is larger than this is damage or a bug; it is replayed from memory.
inline constexpr int64_t kMaxLogBytes = int64_t{4} << 30;
// A check reads the whole log into memory, as a mount does, but beside databases that are running.
inline constexpr int64_t kMaxCheckedLogBytes = int64_t{1} << 30;
// Findings of a check that are kept: more tell nothing new.
inline constexpr size_t kMaxFindings = 1000;
// Space that is physically allocated behind the log's end, so that unlink, shrink and fsync work on
// a full disk.
inline constexpr int64_t kLogReserveBytes = int64_t{4} << 20;
// Part of the reserve that only records that free space or confirm data may use.
inline constexpr int64_t kLogEmergencyBytes = int64_t{1} << 20;

// A checkpoint is due when the log has grown by this much (and by as much as the state in the
// last one): it replays in a fraction of a second.
inline constexpr int64_t kCheckpointGrowthBytes = int64_t{16} << 20;
// What the end of a checkpoint copies and syncs while nothing can be appended: milliseconds.
inline constexpr int64_t kMaxCheckpointRemainder = int64_t{256} << 10;
// How often a checkpoint tries to catch up with appends before it makes them wait for what is left.
inline constexpr int kMaxCheckpointRounds = 8;
// How much the log grows before a checkpoint that failed is tried again.
inline constexpr int64_t kPostponedCheckpointBytes = int64_t{1} << 20;

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_LIMITS_H_

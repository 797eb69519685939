// backup.control and pg_probackup.conf: the metadata of one backup and of one instance (format
// document, sections 1.2 and 2).
#ifndef PBKFS_FS_CATALOG_BACKUP_CONTROL_H_
#define PBKFS_FS_CATALOG_BACKUP_CONTROL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pbkfs {

enum class BackupMode : uint8_t { kUnknown, kFull, kPage, kDelta, kPtrack };
absl::string_view BackupModeName(BackupMode mode);

enum class BackupStatus : uint8_t {
  kUnknown,  // Absent, or a word that we do not know.
  kOk,
  kDone,
  kRunning,
  kError,
  kCorrupt,
  kOrphan,
  kMerging,
  kMerged,
  kDeleting,
  kDeleted,
};
absl::string_view BackupStatusName(BackupStatus status);

using Lsn = uint64_t;
// A thousand years of a gigabyte of WAL each second; leaves room to add without overflow.
inline constexpr Lsn kMaxLsn = Lsn{1} << 63;
// "X/Y" in upper-case hex.
std::string FormatLsn(Lsn lsn);

// A backup id is the start time in Unix seconds in upper-case base 36.
std::string FormatBackupId(int64_t start_time_seconds);
// The start time, or INVALID_ARGUMENT. Lower case is accepted.
absl::StatusOr<int64_t> ParseBackupId(absl::string_view id);

struct BackupControl {
  BackupMode mode = BackupMode::kUnknown;
  BackupStatus status = BackupStatus::kUnknown;
  std::string mode_text;     // As written, for messages.
  std::string status_text;   // Likewise.
  bool stream = false;       // The WAL that makes the backup consistent is inside it.
  std::string compress_alg;  // Informative; each file has its own.
  bool from_replica = false;
  uint32_t block_size = 0;
  uint32_t wal_block_size = 0;
  uint32_t checksum_version = 0;
  uint32_t program_version = 0;  // a.b.c as a*10000 + b*100 + c; 0 where the key is missing.
  std::string program_version_text;
  std::string server_version;  // "15", "9.6"
  uint32_t timeline = 0;
  Lsn start_lsn = 0;
  Lsn stop_lsn = 0;
  int64_t start_time = 0;  // Unix seconds; 0 = absent. The backup's id.
  int64_t merge_time = 0;
  int64_t end_time = 0;
  uint64_t recovery_xid = 0;
  int64_t recovery_time = 0;
  int64_t expire_time = 0;
  std::string merge_dest_id;
  int64_t data_bytes = -1;  // -1 = not given, here and below.
  int64_t wal_bytes = -1;
  int64_t uncompressed_bytes = -1;
  int64_t pgdata_bytes = -1;
  std::string parent_id;  // "" for a FULL.
  std::string primary_conninfo;
  std::vector<std::string>
      external_dirs;  // Canonical paths, sorted byte-wise: external directory N is [N-1].
  std::string note;
  uint32_t content_crc = 0;  // 0 = not given.

  // The start time (and so the id) of the backup that this one is the complete content of: a FULL
  // that is MERGED, of which only the renaming is left to do. 0 where it is no such backup.
  int64_t MergedInto() const;

  // The major version of the server: 15, or 9 for 9.6.
  int ServerMajor() const;
};

// Parses the text of a backup.control. DATA_LOSS (CATALOG_CORRUPT) where a key that pbkfs needs is
// malformed.
absl::StatusOr<BackupControl> ParseBackupControl(absl::string_view text);

struct InstanceConfig {
  std::string pgdata;
  uint64_t system_identifier = 0;  // 0 = not given.
  uint32_t wal_segment_size = 16u << 20;
};

absl::StatusOr<InstanceConfig> ParseInstanceConfig(absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_BACKUP_CONTROL_H_

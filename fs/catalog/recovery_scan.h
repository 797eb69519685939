// Where a server that recovers would stop: reads the WAL that it would replay, by PostgreSQL's
// rules for recovery targets (access/transam/xlogrecovery.c: recoveryStopsBefore,
// recoveryStopsAfter).
#ifndef PBKFS_FS_CATALOG_RECOVERY_SCAN_H_
#define PBKFS_FS_CATALOG_RECOVERY_SCAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/catalog/wal_payload.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

struct RecoveryTarget {
  enum class Kind : uint8_t {
    kImmediate,  // As soon as the backup is consistent.
    kLatest,     // Where the WAL ends.
    kTime,       // Before the first transaction that ended later.
    kXid,        // With the end of this transaction.
    kLsn,        // With the first record that begins there or later.
    kName,       // With this restore point.
  };
  Kind kind = Kind::kImmediate;
  absl::Time time;
  uint32_t xid = 0;
  Lsn lsn = 0;
  std::string name;
  bool inclusive = true;  // Of time, xid and LSN: whether what is named is replayed.
};

struct RecoveryScan {
  // Whether replay ends at the target, behind the backup's end.
  bool reached = false;
  // Whether replay meets the target before the backup's end.
  bool too_early = false;
  // Where replay ends: at the target, or where there is no more WAL.
  Lsn end = 0;
  // Why there is no WAL behind `end`; OK where the target ended the scan.
  absl::Status problem;
  // When the last transaction before `end` ended.
  std::optional<absl::Time> last_transaction;
  // In the order of replay; at most kMaxTablespaceCreations.
  std::vector<TablespaceCreation> creations;
};

// Reads from start.begin; the backup is consistent at `consistent`. Reads no record that begins at
// `limit` or later. A missing segment and the first bytes that are no WAL end the scan; other
// errors of the source, and DATA_LOSS with a reason (an archived file that is damaged), are
// returned, as are those of WalReader::Create.
absl::StatusOr<RecoveryScan> ScanForRecovery(WalSource& source, const WalStart& start,
                                             Lsn consistent, const RecoveryTarget& target,
                                             Lsn limit = kMaxLsn);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_RECOVERY_SCAN_H_

// global/pg_control, as far as a clone's configuration depends on it: the settings of the primary
// that recovery compares with its own, and the size of WAL segments. The fields that are read have
// the same offsets in PostgreSQL 12 to 18 (catalog/pg_control.h); constants inside the file prove
// that the layout is the expected one.
#ifndef PBKFS_FS_CATALOG_PG_CONTROL_H_
#define PBKFS_FS_CATALOG_PG_CONTROL_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

enum class WalLevel : uint8_t { kMinimal, kReplica, kLogical };
absl::string_view WalLevelName(WalLevel level);

struct PgControl {
  uint64_t system_identifier = 0;
  uint32_t version = 0;
  uint32_t catalog_version = 0;
  uint32_t wal_segment_bytes = 0;
  WalLevel wal_level = WalLevel::kReplica;
  // Recovery refuses to run with less than these.
  int32_t max_connections = 0;
  int32_t max_worker_processes = 0;
  int32_t max_wal_senders = 0;
  int32_t max_prepared_transactions = 0;
  int32_t max_locks_per_transaction = 0;
};

// `bytes` is the file, or its first kMinPgControlBytes or more. UNIMPLEMENTED (UNSUPPORTED_FORMAT)
// for another version or layout, DATA_LOSS (CATALOG_CORRUPT) for damage.
absl::StatusOr<PgControl> ParsePgControl(absl::string_view bytes);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_PG_CONTROL_H_

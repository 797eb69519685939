// What WAL records say that recovery targets and tablespaces depend on (access/xlogrecord.h,
// access/xact.h, access/xlog_internal.h, commands/tablespace.h), PostgreSQL 10 to 18. Untrusted
// input.
#ifndef PBKFS_FS_CATALOG_WAL_PAYLOAD_H_
#define PBKFS_FS_CATALOG_WAL_PAYLOAD_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

struct TablespaceCreation {
  Lsn lsn = 0;  // Of the record.
  uint32_t oid = 0;
  std::string path;
};

// Where `record` creates a tablespace at a path of its own. One that can't be decoded has a path
// that says so: it is no less dangerous.
std::optional<TablespaceCreation> DecodeTablespaceCreation(const WalRecord& record);

// The end of a transaction, committed or not.
struct TransactionEnd {
  uint32_t xid = 0;  // 0 where it can't be told.
  absl::Time time;
};
std::optional<TransactionEnd> DecodeTransactionEnd(const WalRecord& record, int server_major);

// The name, where `record` is a restore point.
std::optional<std::string> DecodeRestorePoint(const WalRecord& record);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_WAL_PAYLOAD_H_

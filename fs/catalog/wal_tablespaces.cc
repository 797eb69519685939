#include "fs/catalog/wal_tablespaces.h"

#include <utility>

#include "fs/base/status.h"
#include "fs/catalog/recovery_scan.h"

namespace pbkfs {

absl::StatusOr<TablespaceScan> ScanForTablespaces(WalSource& source, const WalStart& start,
                                                  Lsn stop) {
  RecoveryTarget target;
  target.kind = RecoveryTarget::Kind::kLatest;
  PBKFS_ASSIGN_OR_RETURN(RecoveryScan found, ScanForRecovery(source, start, stop, target));
  TablespaceScan scan;
  scan.creations = std::move(found.creations);
  scan.end = found.end;
  if (!found.reached) scan.problem = found.problem;
  return scan;
}

}  // namespace pbkfs

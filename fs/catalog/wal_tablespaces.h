// Finds the tablespaces that replaying WAL would create. Replay makes them at the paths that
// production used, outside of any mount, so a clone on the same host would share production's
// files.
#ifndef PBKFS_FS_CATALOG_WAL_TABLESPACES_H_
#define PBKFS_FS_CATALOG_WAL_TABLESPACES_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/catalog/wal_payload.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

struct TablespaceScan {
  // In the order of replay; at most kMaxTablespaceCreations. Tablespaces without a path of their
  // own (allow_in_place_tablespaces) are harmless and left out.
  std::vector<TablespaceCreation> creations;
  Lsn end = 0;  // Where the scan, and any replay, ends.
  // Why `end` is not past `stop`; OK where it is.
  absl::Status problem;
};

// Reads from start.begin past `stop` (where a backup is consistent) to the end of what is there:
// that is what recovery replays. Errors of the source that are neither NOT_FOUND nor DATA_LOSS are
// returned, as are those of WalReader::Create.
absl::StatusOr<TablespaceScan> ScanForTablespaces(WalSource& source, const WalStart& start,
                                                  Lsn stop);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_WAL_TABLESPACES_H_

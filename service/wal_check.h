// What the WAL inside a STREAM backup would do to the machine that the clone runs on: replaying
// the creation of a tablespace makes the server use production's path, outside of the mount.
#ifndef PBKFS_SERVICE_WAL_CHECK_H_
#define PBKFS_SERVICE_WAL_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fs/catalog/wal_payload.h"
#include "fs/catalog/wal_reader.h"
#include "fs/image/image.h"

namespace pbkfs {

// Scans the WAL that recovery of the backup will replay. FAILED_PRECONDITION (TABLESPACE_IN_WAL)
// with the paths where it creates tablespaces, unless `allow`: then a warning. WAL that can't be
// read up to the backup's end is a warning too: recovery will stop at the same place. OK at once
// for ARCHIVE backups.
absl::Status CheckTablespaceWal(const Image& image, bool allow, std::vector<std::string>* warnings);

// The same for the tablespaces that a scan found in `where` ("the WAL of the backup").
absl::Status CheckTablespaces(const std::vector<TablespaceCreation>& creations,
                              absl::string_view where, bool allow,
                              std::vector<std::string>* warnings);

// Where the WAL of the backup begins.
WalStart WalStartOf(const Image& image);
// "pg_wal", or what it was called before 10.
absl::string_view WalDirectoryOf(const Image& image);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_WAL_CHECK_H_

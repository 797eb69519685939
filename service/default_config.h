// Configuration for backups that have none: Debian keeps postgresql.conf, pg_hba.conf and
// pg_ident.conf in /etc, where no backup of the data directory finds them.
//
// What is written lets the server start and lets its owner in, and nobody else: no TCP, and on the
// Unix socket only users that the kernel vouches for (peer). The settings that recovery compares
// with the primary's are taken from pg_control, since it refuses smaller ones.
#ifndef PBKFS_SERVICE_DEFAULT_CONFIG_H_
#define PBKFS_SERVICE_DEFAULT_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/base/lower_tree.h"
#include "fs/catalog/pg_control.h"

namespace pbkfs {

struct DefaultFile {
  std::string path;  // Relative to PGDATA.
  std::string content;
};

// Those of the three files that `tree` does not have.
std::vector<std::string> MissingConfigFiles(const LowerTree& tree);

// The files of `missing`. `owner` is the name of the account that will run the server; "" where it
// has none.
std::vector<DefaultFile> MakeDefaultFiles(const std::vector<std::string>& missing,
                                          const PgControl& control, const std::string& owner);

// As above, for the clone of `tree`: empty where nothing is missing. UNIMPLEMENTED
// (UNSUPPORTED_FORMAT) where pg_control is of a version that is not known.
absl::StatusOr<std::vector<DefaultFile>> DefaultFilesFor(const LowerTree& tree, uint32_t owner_uid);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DEFAULT_CONFIG_H_

// Backs up a running PostgreSQL 15 into a catalog: FULL or DELTA, STREAM, as pg_probackup would.
#ifndef PBKFS_TESTS_SUPPORT_CLUSTER_BACKUP_H_
#define PBKFS_TESTS_SUPPORT_CLUSTER_BACKUP_H_

#include <string>

#include "tests/support/catalog_writer.h"

namespace pbkfs::testsupport {

struct ClusterBackupOptions {
  std::string catalog;
  std::string instance;
  std::string pgdata;
  std::string psql;  // Command that connects to the cluster as a superuser.
  BackupMode mode = BackupMode::kFull;
  std::string parent_id;  // "" = the newest usable backup.
  Codec codec = Codec::kZlib;
  int zlib_level = 1;
};

// Returns the backup's id. Failures end the process; the backup then stays RUNNING, which nothing
// will use.
std::string BackUpCluster(const ClusterBackupOptions& options);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_CLUSTER_BACKUP_H_

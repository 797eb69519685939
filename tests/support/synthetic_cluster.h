// What a synthetic backup needs so that it looks like a PostgreSQL 15 cluster: pg_control,
// PG_VERSION, configuration, directories, backup_label and a segment of WAL that pg_waldump can
// read. PostgreSQL would not start on it (there is no system catalog); everything that reads files
// can use it.
#ifndef PBKFS_TESTS_SUPPORT_SYNTHETIC_CLUSTER_H_
#define PBKFS_TESTS_SUPPORT_SYNTHETIC_CLUSTER_H_

#include <cstdint>
#include <string>

#include "tests/support/catalog_writer.h"

namespace pbkfs::testsupport {

struct ControlFileOptions {
  uint64_t system_identifier = 7000000000000000001u;
  uint64_t checkpoint_lsn = 0x4000060;
  uint64_t redo_lsn = 0x4000028;
  uint32_t timeline = 1;
  uint32_t wal_segment_bytes = 16u << 20;
  uint32_t data_checksum_version = 1;
  int64_t time = 1767225600;
};

// The 8192 bytes of global/pg_control in the layout of PostgreSQL 13 to 16, with a correct CRC
// inside.
std::string MakePgControl(const ControlFileOptions& options = {});
// The CRC inside of a pg_control of any version, found as the place where it matches the bytes
// before it; that is what the list gives for this file. 0 where nothing matches (a torn read).
uint32_t ControlFileCrc(const std::string& pg_control);

// One WAL segment that holds a NOOP record at `start_lsn`, which must lie right behind the
// segment's first page header (offset 0x28), filled up to a backup-end record that ends at
// `stop_lsn`; the rest is zero.
std::string MakeWalSegment(uint64_t start_lsn, uint64_t stop_lsn, uint32_t timeline,
                           uint64_t system_identifier, uint32_t segment_bytes = 16u << 20);

struct ClusterOptions {
  uint64_t system_identifier = 7000000000000000001u;
  bool backup_label = true;
  // Only where the backup is STREAM and its start LSN allows it; else pg_wal stays empty.
  bool wal = true;
};

// Adds all of this to a backup, every file stored anew.
void AddMinimalCluster(Backup& backup, const ClusterOptions& options = {});

struct SyntheticChain {
  int relations = 4;
  uint32_t blocks = 64;  // Of each relation; more than a segment's worth makes several segments.
  int backups = 3;       // One FULL and DELTAs that change every eighth block.
  Codec codec = Codec::kZlib;
  // Of every member; `codec`, ids and parents are filled in.
  BackupOptions options = {};
};

// Makes a whole chain and returns the id of its last backup.
std::string WriteSyntheticChain(CatalogWriter& writer, const SyntheticChain& chain);
// The page that WriteSyntheticChain gave block `absolute_block` of relation `relation` in backup
// `generation` of the chain (0 = the FULL): what a reader must find at the tip of the chain's first
// `generation` + 1 members.
Page SyntheticPage(int relation, uint32_t absolute_block, int generation);
// "base/5/16384" for relation 0; a segment above 0 has its suffix.
std::string SyntheticPath(int relation, uint32_t segment);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_SYNTHETIC_CLUSTER_H_

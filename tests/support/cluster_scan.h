// The list of files of a PGDATA that a backup copies: tablespaces inlined, and without what
// section 8.6 of the format description excludes.
#ifndef PBKFS_TESTS_SUPPORT_CLUSTER_SCAN_H_
#define PBKFS_TESTS_SUPPORT_CLUSTER_SCAN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace pbkfs::testsupport {

struct SourceFile {
  std::string path;  // Relative to PGDATA.
  uint32_t mode = 0;
  bool is_directory = false;
  bool is_datafile = false;
  int segment = 0;
};

// `version_directory` is the cluster's directory inside a tablespace, such as PG_15_202209061.
// Files may come and go while this runs; what vanishes is left out.
std::vector<SourceFile> ScanCluster(const std::string& pgdata,
                                    const std::string& version_directory);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_CLUSTER_SCAN_H_

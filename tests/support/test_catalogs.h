// The real catalogs that golden tests compare with. The environment names them:
//   PBKFS_TEST_CATALOGS  a directory with *.tar.zst of catalogs, or with unpacked ones
//   PBKFS_REQUIRE_ALL=1  a missing catalog is a failure instead of a skip
#ifndef PBKFS_TESTS_SUPPORT_TEST_CATALOGS_H_
#define PBKFS_TESTS_SUPPORT_TEST_CATALOGS_H_

#include <string>
#include <vector>

namespace pbkfs::testsupport {

struct TestCatalog {
  std::string name;     // "zlib"
  std::string catalog;  // The directory to mount from; holds backups/ and wal/.
  std::string golden;   // <id>.manifest.tsv and more; "" where there is none.
};

// All catalogs, sorted by name. Archives are unpacked once a process into a temporary directory
// that is removed at its end. Empty, with the cause in `problem`, where there are none.
const std::vector<TestCatalog>& FindTestCatalogs(std::string& problem);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_TEST_CATALOGS_H_

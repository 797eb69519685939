// Whether a test that lacks something it needs has to fail instead of being skipped.
#ifndef PBKFS_TESTS_SUPPORT_MUST_RUN_H_
#define PBKFS_TESTS_SUPPORT_MUST_RUN_H_

#include <cstdlib>
#include <cstring>

namespace pbkfs::testsupport {

// PBKFS_REQUIRE_ALL=1.
inline bool MustRunAllTests() {
  const char* all = getenv("PBKFS_REQUIRE_ALL");
  return all != nullptr && strcmp(all, "1") == 0;
}

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_MUST_RUN_H_
